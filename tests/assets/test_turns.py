"""Turns: at any time one run works on a source, whoever started it; the others wait and say so."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import dagster as dg
import pytest

from assets.definitions import automated
from assets.running import runs, turns
from assets.settings import Settings
from tests.assets.conftest import Start
from tests.assets.forked import Forked
from tests.assets.project import Project, made, serving, states
from tests.waiting import until, within

pytestmark = pytest.mark.sources("tiny_digits", "tiny_letters")

WAITS = "waiting for tiny_letters: somebody works on it"


def everything_of_letters() -> dg.JobDefinition:
    """A job of assets, for the environment's settings: as it is launched in the UI."""
    return automated(Settings.from_environment()).resolve_job_def("everything_of_tiny_letters")


def refresh() -> dg.JobDefinition:
    return automated(Settings.from_environment()).resolve_job_def("refresh")


def executed(names: Sequence[str]) -> bool:
    """Execute a job of this module as Dagster does; return whether it failed."""
    job = dg.reconstructable(globals()[names[0]])
    with dg.DagsterInstance.get() as instance:
        return not dg.execute_job(job, instance).success


def variables(project: Project, **more: object) -> dict[str, str]:
    settings = project.settings(mirror=str(project.publisher.mirror)).with_(more)
    return settings.as_environment() | {"DAGSTER_HOME": str(runs.home(settings))}


@pytest.fixture
def recorded(project: Project) -> Iterator[dg.DagsterInstance]:
    """Dagster's records of the project, as other processes write them."""
    runs.home(project.settings())
    with runs.records(project.settings()) as instance:
        yield instance


def said(instance: dg.DagsterInstance) -> list[str]:
    """What all runs logged, besides Dagster's own events."""
    return [
        entry.user_message
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id)
        if not entry.is_dagster_event
    ]


def steps_begun(instance: dg.DagsterInstance) -> list[str]:
    return [
        str(entry.step_key)
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    ]


@pytest.mark.parametrize("job", ["everything_of_letters", "refresh"])
def test_a_run_waits_for_its_turn_and_says_for_whom_once(
    project: Project, recorded: dg.DagsterInstance, forked: Start, job: str
) -> None:
    with turns.taken(project.settings(), ["tiny_letters"], "somebody", print):
        run = forked(job, run=executed, **variables(project, datasets=("tiny_letters",)))
        until(lambda: WAITS in said(recorded))
        assert not {step for step in steps_begun(recorded) if step.startswith("tiny_")}
        assert not (project.data / "archives").exists()
    done = run.communicate()

    assert done.returncode == 0, done.stderr
    assert said(recorded).count(WAITS) == 1
    assert made(project.build("tiny_letters")) == set()


def test_a_build_waits_for_its_turn_and_makes_nothing_twice(
    project: Project, forked: Start
) -> None:
    arguments = ["build", "tiny_letters", *project.options, *project.mirror]
    with turns.taken(project.settings(), ["tiny_letters"], "somebody", print):
        build = forked(*arguments)
        until(lambda: WAITS in _stderr(build))
        assert project.build("tiny_digits"), "another source waits for nobody"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(turns, "sources_of", lambda *_: set())
            assert project.build("tiny_letters"), "what the one does that has the turn"
    done = build.communicate()

    assert done.returncode == 0, done.stderr
    assert done.stderr.count(WAITS) == 1
    assert set(states(done.stdout).values()) == {"up to date"}
    with runs.records(project.settings()) as instance:
        assert len(instance.get_runs()) == 2, "there was nothing left to record a run of"


def test_one_who_was_killed_blocks_nobody(project: Project, forked: Start) -> None:
    with serving(project.publisher.mirror, stall=True) as stalled:
        killed = forked("fetch", "tiny_letters", *project.options, "--mirror", stalled.url)
        assert stalled.stalled.wait(within(60))
        waiting = forked("build", "tiny_letters", *project.options, *project.mirror)
        until(lambda: "waiting for tiny_letters: a build, process " in _stderr(waiting))
        killed.send_signal(signal.SIGKILL)
        done = waiting.communicate()
        killed.communicate()

    assert done.returncode == 0, done.stderr
    assert made(project.build("tiny_letters")) == set()


def test_a_run_that_waits_can_be_stopped(
    project: Project, recorded: dg.DagsterInstance, forked: Start
) -> None:
    with turns.taken(project.settings(), ["tiny_letters"], "somebody", print):
        run = forked("everything_of_letters", run=executed, **variables(project))
        until(lambda: WAITS in said(recorded))
        run.send_signal(signal.SIGINT)
        run.communicate()

    [stopped] = recorded.get_runs()
    assert stopped.is_finished
    assert steps_begun(recorded) == []


def test_who_waits_for_one_source_keeps_nobody_from_a_later_one(tmp_path: Path) -> None:
    settings, told = Settings(tmp_path), Queue[str]()

    def wait_for_both() -> None:
        with turns.taken(settings, ["b", "a"], "the one who waits", told.put) as waited:
            assert waited

    with ThreadPoolExecutor(1) as pool:
        with turns.taken(settings, ["a"], "somebody", told.put):
            waiting = pool.submit(wait_for_both)
            assert told.get(timeout=within(30)) == "waiting for a: somebody works on it"
            with turns.taken(settings, ["b"], "somebody", told.put) as waited:
                assert not waited, "each would wait for the other for ever"
        waiting.result(within(30))
    assert told.empty()


def _stderr(process: Forked) -> str:
    return process._err.read_text() if process._err.exists() else ""
