"""Runs whose process was killed: they are closed, and what they were to make is free again."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from assets.running import abandoned, runs
from assets.settings import ROOT, Settings
from tests.assets.project import Project, environment, serving
from tests.assets.ui import (
    LAUNCH,
    LOCATIONS,
    REPOSITORY,
    SAW,
    TURN_ON,
    UI,
    command_of,
    descendants,
    free_port,
    materialize,
    served,
)
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc"),
]

LATEST = """query($keys: [AssetKeyInput!]!) { assetsLatestInfo(assetKeys: $keys) {
    inProgressRunIds unstartedRunIds
} }"""
ARCHIVES = ["tiny_letters", "archives"]


@pytest.fixture
def project(_published_once: Project, tmp_path: Path) -> Project:
    return _published_once.copied_to(tmp_path / "project", "tiny_letters")


@pytest.fixture
def stalled(project: Project) -> Iterator[str]:
    """A mirror that begins to send, and never ends."""
    with serving(project.publisher.mirror, stall=True) as server:
        yield server.url


def _only_run(project: Project) -> dg.DagsterRun:
    with runs.records(project.settings()) as instance:
        [run] = instance.get_runs()
        return run


def _is_started(project: Project) -> bool:
    with runs.records(project.settings()) as instance:
        return [run.status for run in instance.get_runs()] == [DagsterRunStatus.STARTED]


def _last_words(project: Project) -> str:
    with runs.records(project.settings()) as instance:
        [run] = instance.get_runs()
        return instance.all_logs(run.run_id)[-1].dagster_event.message  # type: ignore


@contextlib.contextmanager
def _ui(project: Project, stalled: str, folder: Path, **variables: str) -> Iterator[UI]:
    port = free_port()
    command = ["-m", "assets", "ui", "--port", str(port), "--mirror", stalled, *project.options]
    with served(command, port, folder, PYTHONPATH=str(ROOT), **variables) as ui:
        yield ui


def _in_progress(ui: UI) -> list[str]:
    [found] = ui.ask(LATEST, keys=[{"path": ARCHIVES}])["assetsLatestInfo"]
    return [*found["inProgressRunIds"], *found["unstartedRunIds"]]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one may end by itself meanwhile
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(command_of(pid) for pid in pids))


def test_a_build_that_was_killed_is_closed_and_says_why(project: Project, stalled: str) -> None:
    command = [sys.executable, "-m", "assets", "fetch", "tiny_letters", *project.options]
    with subprocess.Popen(
        [*command, "--mirror", stalled], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        until((project.data / "dagster/history/runs.db").exists)
        until(lambda: _is_started(project))
        with runs.records(project.settings()) as instance:
            assert abandoned.close(instance) == [], "it is alive"
        process.kill()
    run = _only_run(project)
    assert run.job_name == "build"
    assert run.tags["imagesets/launched_by"] == run.tags["user"] == "the command line"

    with runs.records(project.settings()) as instance:
        [said] = abandoned.close(instance)
        assert abandoned.close(instance) == [], "once"

    assert said == f"run {run.run_id[:8]} of build was closed: its process is gone"
    assert _only_run(project).status is DagsterRunStatus.FAILURE
    assert f"The process of this run, {process.pid} on " in _last_words(project)


@pytest.mark.parametrize("gone", ["process", "boot", "number given again"])
def test_a_process_of_this_host_is_gone_when_it_ended_or_the_machine_was_started_anew(
    project: Project, gone: str
) -> None:
    with runs.records(_with_home(project)) as instance:
        run = _run(instance)
        host, boot, space, pid, started, end = abandoned.process(run.run_id).split(":")
        other = {
            "process": [host, boot, space, str(2**22 + 1), started, end],
            "boot": [host, "another", space, pid, started, end],
            "number given again": [host, boot, space, pid, "1", end],
        }[gone]
        instance.add_run_tags(run.run_id, {abandoned.PROCESS: ":".join(other)})

        assert len(abandoned.close(instance)) == 1


@pytest.mark.parametrize(
    "whose", ["alive", "another host", "another container", "run before", "none", "nonsense"]
)
def test_a_run_whose_process_is_not_known_to_be_gone_is_left_alone(
    project: Project, whose: str
) -> None:
    with runs.records(_with_home(project)) as instance:
        run = _run(instance)
        host, boot, _, pid, _, end = abandoned.process(run.run_id).split(":")
        tag = {
            "alive": abandoned.process(run.run_id),
            "another host": f"not-{host}:another:1:1:1:{end}",
            "another container": f"{host}:{boot}:1:{pid}:1:{end}",
            "run before": f"{host}:another:1:1:1:00000000",
            "none": "",
            "nonsense": "what is this?",
        }[whose]
        if tag:
            instance.add_run_tags(run.run_id, {abandoned.PROCESS: tag})

        assert abandoned.close(instance) == []


def test_a_process_that_the_system_hides_counts_as_alive(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user, where /proc is mounted with hidepid=2."""
    with runs.records(_with_home(project)) as instance:
        run = _run(instance)
        instance.add_run_tags(run.run_id, {abandoned.PROCESS: abandoned.process(run.run_id)})
        monkeypatch.setattr(abandoned, "_boot_id", functools.partial(str, abandoned._boot_id()))
        monkeypatch.setattr(abandoned, "Path", lambda _: Path("/nowhere"))

        assert abandoned.close(instance) == []


def test_a_run_that_ends_while_it_is_looked_at_stays_as_it_ended(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.records(_with_home(project)) as instance:
        run = _run(instance)
        instance.add_run_tags(
            run.run_id, {abandoned.PROCESS: f"{socket.gethostname()}:x:1:1:1:{run.run_id[:8]}"}
        )
        before = instance.get_run_records()
        instance.report_run_canceled(run)
        monkeypatch.setattr(instance, "get_run_records", lambda _: before)

        assert abandoned.close(instance) == []
        [now] = instance.get_runs()
        assert now.status is DagsterRunStatus.CANCELED


def test_a_run_that_never_said_which_process_it_has_is_closed_once_it_was_silent_for_long(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.records(_with_home(project)) as instance:
        _run(instance)
        assert abandoned.close(instance) == [], "it may be starting"
        monkeypatch.setattr(abandoned, "SILENCE", -abandoned.SILENCE)

        assert len(abandoned.close(instance)) == 1


def _with_home(project: Project) -> Settings:
    settings = project.settings()
    runs.home(settings)
    return settings


def _run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    @dg.job
    def some() -> None:
        pass

    return instance.create_run_for_job(some, status=DagsterRunStatus.STARTED)


@dataclass
class Revived:
    """A UI that was started after another, with all its processes, was killed during a run."""

    ui: UI
    project: Project
    mirror: str
    log: Path


@pytest.fixture(scope="module")
def revived(
    _published_once: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Revived]:
    folder = tmp_path_factory.mktemp("revived")
    project = _published_once.copied_to(folder / "project", "tiny_letters")
    with serving(project.publisher.mirror, stall=True) as mirror:
        with _ui(project, mirror.url, folder) as ui:
            launched = ui.ask(LAUNCH, params=materialize(ARCHIVES))["launchRun"]
            assert launched["__typename"] == "LaunchRunSuccess", launched
            until(lambda: _is_started(project) and abandoned.PROCESS in _only_run(project).tags)
            assert _in_progress(ui) == [launched["run"]["runId"]]
            _kill([ui.pid, *descendants(ui.pid)])
        with _ui(project, mirror.url, folder) as ui:
            yield Revived(ui, project, mirror.url, folder / "ui.log")


def test_when_all_was_killed_the_next_ui_closes_the_run_and_frees_its_assets(
    revived: Revived,
) -> None:
    until(lambda: _in_progress(revived.ui) == [])
    assert _only_run(revived.project).status is DagsterRunStatus.FAILURE
    assert "is gone without a word" in _last_words(revived.project)
    until(lambda: "was closed: its process is gone" in revived.log.read_text())


def test_a_daemon_that_is_killed_comes_back_and_so_does_a_code_server_whose_runs_are_closed(
    revived: Revived,
) -> None:
    ui, project, log = revived.ui, revived.project, revived.log
    until(lambda: _members(ui, "dagster._daemon run"))
    until(lambda: "was closed: its process is gone" in log.read_text())
    closed_before = log.read_text().count("was closed: its process is gone")
    project.build("tiny_letters")
    shutil.rmtree(project.data / "archives")
    seen = {f"{revived.mirror}/tiny_letters/letters.zip": "another version"}
    sensor = {**REPOSITORY, "sensorName": "mirrors_changed"}
    ui.ask(SAW, selector=sensor, cursor=json.dumps({"changes": 0, "places": seen}))
    ui.ask(TURN_ON, selector=sensor)
    until(lambda: _refreshes(project, DagsterRunStatus.STARTED) == ["refresh", "refresh_makes"])
    [daemon] = _members(ui, "dagster._daemon run")
    _kill([daemon, *descendants(daemon)])
    until(lambda: _members(ui, "dagster._daemon run"))
    assert _refreshes(project, DagsterRunStatus.STARTED) == ["refresh", "refresh_makes"]

    [code] = _members(ui, "assets.serving.code_server")
    _kill([code, *descendants(code)])
    until(lambda: _refreshes(project, DagsterRunStatus.FAILURE) == ["refresh", "refresh_makes"])
    until(lambda: _loaded(ui))
    with runs.records(project.settings()) as instance:
        by_name = {run.job_name: run for run in instance.get_runs()}
        group = instance.get_run_group(by_name["refresh"].run_id)
    parent, child = by_name["refresh"], by_name["refresh_makes"]
    assert group
    assert {run.run_id for run in group[1]} == {parent.run_id, child.run_id}, "the UI links them"
    assert child.tags["imagesets/refresh"] == child.get_parent_run_id() == parent.run_id
    assert parent.tags["imagesets/started"] == child.run_id
    by = f"refresh {parent.run_id[:8]}"
    assert child.tags["imagesets/launched_by"] == child.tags["user"] == by
    until(lambda: log.read_text().count("was closed: its process is gone") > closed_before + 1)
    text = log.read_text()
    assert "warning: the daemon ended by itself" in text
    assert "warning: the code server ended by itself" in text
    assert text.count("was closed: its process is gone") == closed_before + 2


def _refreshes(project: Project, status: DagsterRunStatus) -> list[str]:
    with runs.records(project.settings()) as instance:
        names = [run.job_name for run in instance.get_runs() if run.status is status]
    return sorted(name for name in names if name.startswith("refresh"))


def _members(ui: UI, command: str) -> list[int]:
    return [pid for pid in descendants(ui.pid) if command in command_of(pid)]


def _loaded(ui: UI) -> bool:
    [entry] = ui.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
    return bool(entry["locationOrLoadError"]["__typename"] == "RepositoryLocation")


def test_a_build_that_is_stopped_is_cancelled_and_no_failure(
    project: Project, stalled: str
) -> None:
    command = [sys.executable, "-m", "assets", "fetch", "tiny_letters", *project.options]
    with subprocess.Popen(
        [*command, "--mirror", stalled], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        until((project.data / "dagster/history/runs.db").exists)
        until(lambda: _has_begun(project))
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert _only_run(project).status is DagsterRunStatus.CANCELED
    assert _last_words(project) == (
        "Stopped, because the command line was told to stop. What was finished is kept."
    )


def _has_begun(project: Project) -> bool:
    with runs.records(project.settings()) as instance:
        started = dg.DagsterEventType.STEP_START
        return any(
            log.dagster_event and log.dagster_event.event_type is started
            for run in instance.get_runs()
            for log in instance.all_logs(run.run_id)
        )
