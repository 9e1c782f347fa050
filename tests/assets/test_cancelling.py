"""Runs that somebody cancels in the UI while they fetch, and what they had started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from assets.running import runs
from assets.settings import ROOT
from tests import servers
from tests.assets.project import Project, Server, serving
from tests.assets.ui import (
    LAUNCH,
    REPOSITORY,
    UI,
    free_port,
    materialize,
    served,
)
from tests.waiting import until, within

pytestmark = pytest.mark.slow

CANCEL = """mutation($id: String!) { terminateRun(runId: $id) {
    __typename ... on TerminateRunFailure { message } ... on PythonError { message }
} }"""
RUN = """query($id: ID!) { runOrError(runId: $id) { ... on Run {
    status tags { key value }
    eventConnection { events { ... on MessageEvent { message } } }
} } }"""

RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "imagesets") {
    __typename ... on WorkspaceLocationEntry {
        locationOrLoadError { __typename ... on PythonError { errorChain { error { message } } } }
    }
} }"""
DESCRIPTION = "query($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) { description } }"
CAN_CANCEL = "query($id: ID!) { runOrError(runId: $id) { ... on Run { canTerminate } } }"
GROUP = "query($id: ID!) { runGroupOrError(runId: $id) { ... on RunGroup { runs { id } } } }"


@pytest.fixture(scope="module")
def lacking(_built_of: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which everything is built but its archive, which is gone."""
    project = _built_of("tiny_letters").copied_to(tmp_path_factory.mktemp("lacking") / "project")
    shutil.rmtree(project.data / "archives/tiny_letters")
    return project


@pytest.fixture(scope="module")
def _mirror(lacking: Project) -> Iterator[Server]:
    with serving(lacking.publisher.mirror, stall=True) as server:
        yield server


@pytest.fixture
def stalled(_mirror: Server) -> Server:
    """A mirror that begins to send what is missing, and never ends."""
    _mirror.stalled.clear()
    return _mirror


@pytest.fixture(scope="module")
def ui(lacking: Project, _mirror: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    """One UI for all of these: none of the runs makes anything, and each is cancelled."""
    port = free_port()
    command = ["-m", "assets", "ui", "--port", str(port), "--mirror", _mirror.url, "--no-browser"]
    folder = tmp_path_factory.mktemp("ui")
    with served([*command, *lacking.options], port, folder, PYTHONPATH=str(ROOT)) as found:
        yield found


def test_a_run_that_is_cancelled_while_it_fetches_ends(ui: UI, stalled: Server) -> None:
    run_id = _launched(ui, materialize(["tiny_letters", "archives"]))
    assert stalled.stalled.wait(within(60))

    assert _cancelled(ui, run_id)["status"] == "CANCELED"


def test_a_refresh_that_is_cancelled_while_it_fetches_leaves_a_child_that_says_so(
    ui: UI, stalled: Server, lacking: Project
) -> None:
    selector = {**REPOSITORY, "pipelineName": "refresh"}
    parent_id = _launched(ui, {"selector": selector, "mode": "default"})
    assert stalled.stalled.wait(within(60))
    child_id = _tags(_run(ui, parent_id))["imagesets/started"]

    parent, child = _cancelled(ui, parent_id), _run(ui, child_id)

    assert parent["status"] == child["status"] == "CANCELED"
    by = f"refresh {parent_id[:8]}"
    assert child["eventConnection"]["events"][-1]["message"] == (
        f"Stopped, because {by} was told to stop. What was finished is kept."
    )
    tags = _tags(child)
    assert tags["dagster/parent_run_id"] == tags["imagesets/refresh"] == parent_id
    assert tags["imagesets/launched_by"] == by
    group = ui.ask(GROUP, id=parent_id)["runGroupOrError"]["runs"]
    assert {run["id"] for run in group} == {parent_id, child_id}, "it stands beside its parent"
    _no_alarm_is_given(lacking, child_id)


def test_definitions_are_loaded_anew_while_a_run_goes_on_which_can_still_be_cancelled(
    ui: UI, stalled: Server, lacking: Project
) -> None:
    run_id = _launched(ui, materialize(["tiny_letters", "archives"]))
    assert stalled.stalled.wait(within(60))
    catalogue = lacking.publisher.catalogue / "tiny_letters.toml"
    told = catalogue.read_text("utf-8")
    title = next(line for line in told.splitlines() if line.startswith("title = "))

    catalogue.write_text(told.replace(title, "this is no TOML", 1), "utf-8")
    assert "tiny_letters.toml" in _reloaded(ui), "what is wrong is shown in the UI"
    catalogue.write_text(told.replace(title, 'title = "Other letters"', 1), "utf-8")
    assert _reloaded(ui) == ""

    [node] = ui.ask(DESCRIPTION, keys=[{"path": ["tiny_letters", "archives"]}])["assetNodes"]
    assert "Other letters" in node["description"]
    assert _run(ui, run_id)["status"] == "STARTED", "an earlier server goes on with it"
    assert ui.ask(CAN_CANCEL, id=run_id)["runOrError"] == {"canTerminate": True}
    assert _cancelled(ui, run_id)["status"] == "CANCELED"
    catalogue.write_text(told, "utf-8")


def _reloaded(ui: UI) -> str:
    """Load the definitions anew; return what is wrong with them, at the root."""
    done = ui.ask(RELOAD)["reloadRepositoryLocation"]
    assert done["__typename"] == "WorkspaceLocationEntry", done
    chain = done["locationOrLoadError"].get("errorChain")
    return str(chain[-1]["error"]["message"]) if chain else ""


def _no_alarm_is_given(project: Project, run_id: str) -> None:
    """Evaluate the sensor `run_failed`: Dagster noted a failure before it knew of the end."""
    failure = dg.DagsterEventType.RUN_FAILURE
    with (
        servers.serving(b"", servers.status(200)) as chat,
        runs.records(project.settings()) as instance,
    ):
        run = instance.get_run_by_id(run_id)
        [entry] = instance.all_logs(run_id, of_type=failure)
        assert run
        assert entry.dagster_event
        context = dg.build_run_status_sensor_context(
            "run_failed", entry.dagster_event, instance, run
        ).for_run_failure()
        repository = project.definitions(webhook=chat.url).get_repository_def()
        repository.get_sensor_def("run_failed")(context)
        assert chat.requests == []


def _launched(ui: UI, params: Any) -> str:
    launched = ui.ask(LAUNCH, params=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id: str = launched["run"]["runId"]
    return run_id


def _cancelled(ui: UI, run_id: str) -> Any:
    """Cancel a run, once; return it when it has ended."""
    done = ui.ask(CANCEL, id=run_id)["terminateRun"]
    assert done["__typename"] == "TerminateRunSuccess", done
    until(lambda: _run(ui, run_id)["status"] not in ("STARTED", "CANCELING"))
    return _run(ui, run_id)


def _run(ui: UI, run_id: str) -> Any:
    return ui.ask(RUN, id=run_id)["runOrError"]


def _tags(run: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}
