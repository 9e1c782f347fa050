"""How runs are executed: tried again, gone on with after a failure, in one process or several."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import (
    consume_new_runs_for_automatic_reexecution,
)

from assets import graph
from assets.definitions import automated
from assets.running import abandoned, runs
from assets.settings import ROOT, Settings
from pipelines.errors import ImagesetsError
from tests import builders
from tests.assets import records
from tests.assets.conftest import Command
from tests.assets.project import DATASETS, Project, Site, environment, executing, of_all
from tests.assets.test_secrets import SECRETS, guarded
from tests.waiting import within

pytestmark = pytest.mark.sources("tiny_letters")

SOON = dg.RetryPolicy(max_retries=3, delay=0.05, backoff=dg.Backoff.EXPONENTIAL)


def everything() -> dg.JobDefinition:
    """The job of all assets, for the environment's settings: what other processes load."""
    return automated(Settings.from_environment()).resolve_job_def("everything")


def everything_reloaded() -> dg.JobDefinition:
    """The same, since a process loads a function's job only once."""
    return everything()


@pytest.fixture
def on_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's records as other processes find them, and the project in the environment."""
    settings = Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(runs.home(settings)))
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def of_type(result: dg.ExecuteInProcessResult | dg.ExecuteJobResult, name: str) -> list[str]:
    """The steps of the events of a type, in their order."""
    return [str(e.step_key) for e in result.all_events if e.event_type_value == name]


# --- tried again ----------------------------------------------------------------------------------


def fetched(
    project: Project, mirror: str | None, instance: dg.DagsterInstance, **settings: object
) -> dg.ExecuteInProcessResult:
    """Run the job `archives` with nothing there yet."""
    for archive in (project.data / "archives").rglob("*.*"):
        archive.unlink()
    job = project.definitions(mirror, **settings).resolve_job_def("archives")
    return job.execute_in_process(instance=instance, raise_on_error=False)


@of_all
def test_archives_that_could_not_be_had_are_tried_again_until_they_can(
    built: Project, site: Site, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "RETRIES", SOON)
    site.fails_first = 6

    result = fetched(built, site.url, instance)

    assert result.success
    assert of_type(result, "STEP_UP_FOR_RETRY")
    assert len(result.get_asset_materialization_events()) == len(DATASETS)


def test_they_are_given_up_after_three_more_tries(
    built: Project, site: Site, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "RETRIES", SOON)
    site.gone = True

    result = fetched(built, site.url, instance)

    assert not result.success
    assert of_type(result, "STEP_UP_FOR_RETRY").count("tiny_letters__archives") == 3
    assert of_type(result, "STEP_FAILURE").count("tiny_letters__archives") == 1
    [failure] = [
        event.step_failure_data
        for event in result.all_events
        if event.event_type_value == "STEP_FAILURE" and event.step_key == "tiny_letters__archives"
    ]
    assert failure.error
    assert "max_retries" not in failure.error.message, "what people read first is in our words"
    assert "letters.zip (" in failure.error.message


def test_tries_are_further_and_further_apart(
    built: Project, site: Site, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "RETRIES", SOON)
    site.gone = True

    result = fetched(built, site.url, instance)

    waits = [
        event.step_retry_data.seconds_to_wait
        for event in result.all_events
        if event.event_type_value == "STEP_UP_FOR_RETRY"
        and event.step_key == "tiny_letters__archives"
    ]
    assert waits == [pytest.approx(SOON.delay * (2**n - 1)) for n in (1, 2, 3)]


def test_the_tries_of_archives_are_spread_over_minutes() -> None:
    policy = graph.RETRIES
    assert (policy.max_retries, policy.backoff) == (3, dg.Backoff.EXPONENTIAL)
    assert policy.jitter is dg.Jitter.PLUS_MINUS
    assert (policy.delay or 0) >= 10


def wrong_everywhere(project: Project, _: pytest.MonkeyPatch) -> dict[str, object]:
    project.publisher.archive("tiny_letters", "letters.zip").write_bytes(b"PK other")
    return {}


def offline(project: Project, _: pytest.MonkeyPatch) -> dict[str, object]:
    return {"offline": True}


def no_such_folder(project: Project, _: pytest.MonkeyPatch) -> dict[str, object]:
    project.publisher.archive("tiny_letters", "letters.zip").unlink()
    return {}


@pytest.mark.parametrize("harm", [wrong_everywhere, offline, no_such_folder])
def test_what_will_not_pass_by_itself_is_not_tried_again(
    built: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, harm: object
) -> None:
    monkeypatch.setattr(graph, "RETRIES", SOON)
    settings = harm(built, monkeypatch)  # type: ignore[operator]
    mirror = None if harm is offline else str(built.publisher.mirror)

    result = fetched(built, mirror, instance, **settings)

    assert not result.success
    assert of_type(result, "STEP_UP_FOR_RETRY") == []
    [failure] = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.event_type_value == "STEP_FAILURE" and event.step_key == "tiny_letters__archives"
    ]
    assert failure is not None
    assert (failure.description or "").startswith("letters.zip (")
    assert failure.metadata["may_pass"].value is False


@pytest.mark.sources("tiny_digits")
def test_a_broken_format_is_told_in_our_words_and_not_tried_again(
    built: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "RETRIES", SOON)
    images = built.publisher.splits["tiny_digits", "train"][0]
    short = builders.gz(builders.idx(images[..., 0])[:-1])
    built.republish("tiny_digits", "train-images.gz", short)
    job = built.definitions(str(built.publisher.mirror)).resolve_job_def("tables")

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert of_type(result, "STEP_FAILURE") == ["tiny_digits__train"]
    assert of_type(result, "STEP_UP_FOR_RETRY") == []
    [failure] = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert runs.reason(failure).startswith("train-images.gz: the IDX header promises")


def test_a_person_who_waits_is_told_at_once(project: Project, command: Command) -> None:
    start = time.perf_counter()
    said = command("fetch", *project.options, "--mirror", "http://127.0.0.1:1/")

    assert said.code == 1
    assert time.perf_counter() - start < graph.RETRIES.delay


# --- gone on with ---------------------------------------------------------------------------------


@pytest.mark.sources("tiny_digits")
def test_a_run_that_failed_goes_on_from_the_failure(
    project: Project, on_disk: dg.DagsterInstance
) -> None:
    labels = project.publisher.archive("tiny_digits", "test-labels.gz")
    good = labels.read_bytes()
    project.republish("tiny_digits", "test-labels.gz", builders.gz(b"no IDX"))
    job = dg.reconstructable(everything)
    failed = dg.execute_job(job, on_disk)
    assert not failed.success
    assert of_type(failed, "STEP_FAILURE") == ["tiny_digits__test"]
    before = project.snapshot()

    project.republish("tiny_digits", "test-labels.gz", good)
    project.build("tiny_digits", stages=["archives"])
    options = dg.ReexecutionOptions.from_failure(failed.run_id, on_disk)
    job = dg.reconstructable(everything_reloaded)
    result = dg.execute_job(job, on_disk, reexecution_options=options)

    assert result.success
    below = ("test", "test_csv", "test_lmdb", "statistics", "croissant")
    again = {f"tiny_digits__{name}" for name in below}
    assert set(of_type(result, "STEP_SUCCESS")) == again
    after = project.snapshot()
    assert {path: after[path] for path in before if "letters" in path or "colours" in path} == {
        path: facts for path, facts in before.items() if "letters" in path or "colours" in path
    }
    run = on_disk.get_run_by_id(result.run_id)
    assert run is not None
    assert run.parent_run_id == failed.run_id


# --- lost -----------------------------------------------------------------------------------------

RETRYING = """
run_retries:
  enabled: true
  max_retries: 5
  retry_on_asset_or_op_failure: false
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""
DEFINITIONS = """
from assets.definitions import automated
from assets.settings import Settings

defs = automated(Settings.from_environment())
"""
KILLED_AT_ITS_END = """
import os, signal, sys
import dagster as dg
from dagster._core.execution.api import execute_run
from tests.assets.test_executions import everything

with dg.DagsterInstance.get() as instance:
    record = instance.handle_new_event

    def recorded(event, **more):
        if event.is_dagster_event and event.dagster_event.event_type_value == "PIPELINE_SUCCESS":
            os.kill(os.getpid(), signal.SIGKILL)
        return record(event, **more)

    instance.handle_new_event = recorded
    run = instance.get_run_by_id(sys.argv[1])
    execute_run(dg.reconstructable(everything), run, instance)
"""


Lost = tuple[dg.DagsterInstance, dg.DagsterRun, WorkspaceProcessContext]


@pytest.fixture
def lost(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lost]:
    """A run that was killed after its last step, noticed, and what may start it again."""
    settings = Settings(project.data, project.publisher.catalogue, str(project.publisher.mirror))
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    configured = runs.home(settings) / "dagster.yaml"
    chosen = yaml.safe_load(configured.read_text()) | yaml.safe_load(RETRYING)
    configured.write_text(yaml.safe_dump(chosen))
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    definitions = tmp_path / "definitions.py"  # of this test: a process loads a file only once
    definitions.write_text(DEFINITIONS)
    with (
        dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance,
        serving_code(instance, definitions) as workspace,
    ):
        [location] = workspace.create_request_context().code_locations
        [repository] = location.get_repositories().values()
        job = repository.get_full_job("everything")
        run = instance.create_run_for_job(
            automated(settings).resolve_job_def("everything"),
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        )
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_AT_ITS_END, run.run_id],
            cwd=ROOT,
            env=environment(DAGSTER_HOME=str(settings.dagster_home), **settings.as_environment()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        [run] = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.STARTED
        instance.report_run_failed(run, "as the monitoring does")  # type: ignore[no-untyped-call]
        yield instance, run, workspace


def serving_code(
    instance: dg.DagsterInstance, definitions: Path
) -> AbstractContextManager[WorkspaceProcessContext]:
    """What Dagster's daemon has of the code server."""
    loaded = LoadableTargetOrigin(python_file=str(definitions))
    target = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(loaded))
    return create_test_daemon_workspace_context(target, instance)


def look(instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
    """Start lost runs again, as Dagster's daemon does with each of its looks."""
    failed = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    logger = logging.getLogger("daemon")
    list(consume_new_runs_for_automatic_reexecution(workspace, failed, logger))


ENDED_WELL = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
quietly = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition:DeprecationWarning")


@quietly
def test_a_run_killed_after_its_last_step_is_done_again_and_ends_well(
    lost: Lost, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    instance, run, workspace = lost
    before = project.snapshot()

    look(instance, workspace)

    assert [one.status for one in instance.get_runs()] == ENDED_WELL, caplog.text
    assert instance.get_runs()[0].parent_run_id == run.run_id
    assert project.snapshot() == before, "all of it was there"


@quietly
@pytest.mark.filterwarnings("ignore:Error loading repository location:UserWarning")
def test_a_run_that_could_not_be_started_again_is_started_when_it_can(
    lost: Lost, tmp_path: Path
) -> None:
    instance, run, workspace = lost
    assert abandoned.ask_again(instance) == [], "its turn has not come yet"
    with serving_code(instance, tmp_path / "gone.py") as away:
        look(instance, away)
    look(instance, workspace)
    assert len(instance.get_runs()) == 1, "Dagster has given it up"

    [said] = abandoned.ask_again(instance)
    look(instance, workspace)

    assert said == f"run {run.run_id[:8]} of everything could not be started again"
    assert [one.status for one in instance.get_runs()] == ENDED_WELL
    assert abandoned.ask_again(instance) == []


# --- in several processes -------------------------------------------------------------------------


def test_a_process_for_each_step_makes_the_same_and_records_nothing_that_opens_an_address(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded(project, monkeypatch) as (server, mirror, endpoint):
        chosen = Settings(
            project.data,
            project.publisher.catalogue,
            mirror,
            openlineage=endpoint,
            executor="multiprocess",
        )
        done = subprocess.run(
            executing("everything_of_tiny_letters"),
            env=environment(DAGSTER_HOME=str(runs.home(chosen)), **chosen.as_environment()),
            capture_output=True,
            text=True,
            timeout=within(90),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (server.opened, server.events) == (1, 2 * 9), "nine artefacts: a start and an end each"
    assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []
    assert records.holding(project.data, *SECRETS) == []
    with dg.DagsterInstance.from_config(str(chosen.dagster_home)) as instance:
        [run] = instance.get_runs()
        ended = [
            entry.dagster_event.pid
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event and entry.dagster_event.event_type_value == "STEP_SUCCESS"
        ]
    assert len(set(ended)) == len(ended) > 1, "each step has its own process"

    in_one = replace(project, data=project.data.with_name("in one process"))
    in_one.build("tiny_letters")
    expected = {path: facts[2] for path, facts in in_one.snapshot(lineage=False).items()}
    assert {path: facts[2] for path, facts in project.snapshot(lineage=False).items()} == expected
    assert expected


def test_an_executor_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ImagesetsError, match="IMAGESETS_EXECUTOR is 'dask': write in_process or"):
        Settings.from_environment({"IMAGESETS_EXECUTOR": "dask"})
