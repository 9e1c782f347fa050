"""The Dagster UI: `workspace.yaml` loads from any folder, and the UI runs what the builds run."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from assets.settings import ROOT
from tests.assets.project import Project, environment
from tests.waiting import within

pytestmark = pytest.mark.slow

T = TypeVar("T")

WORKSPACE = ROOT / "workspace.yaml"
ALL = len((Path(__file__).parent / "graph.txt").read_text().splitlines())

ASSETS = "{ assetNodes { assetKey { path } groupName isMaterializable dependencyKeys { path } } }"
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
    name locationOrLoadError { __typename ... on PythonError { message } }
} } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId jobName status } } } }"
REPOSITORY = {"repositoryLocationName": "imagesets", "repositoryName": "__repository__"}
IN_REPOSITORY = """(repositorySelector: {
    repositoryLocationName: "imagesets", repositoryName: "__repository__"
})"""
AUTOMATION = f"""{{
    schedulesOrError{IN_REPOSITORY} {{
        ... on Schedules {{ results {{ name scheduleState {{ status }} }} }}
    }}
    sensorsOrError{IN_REPOSITORY} {{
        ... on Sensors {{ results {{ name sensorState {{ status }} }} }}
    }}
}}"""
TURN_ON = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on Sensor { sensorState { status } } ... on PythonError { message }
} }"""
SAW = """mutation($selector: SensorSelector!, $cursor: String) {
    setSensorCursor(sensorSelector: $selector, cursor: $cursor) {
        __typename ... on PythonError { message }
    }
}"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }"""


@dataclass(frozen=True)
class UI:
    """A running Dagster UI."""

    url: str
    pid: int

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=within(30)) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]


@contextmanager
def served(command: Sequence[str], port: int, cwd: Path, **variables: str) -> Iterator[UI]:
    """Start a Dagster UI, wait until it answers, and stop it as Ctrl-C does."""
    log = cwd / "ui.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=environment(**variables),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + within(60)
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    urllib.request.urlopen(f"{url}/server_info", timeout=5).close()
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.1)
                else:
                    break
            yield UI(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(within(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def without_daemon(port: int) -> list[str]:
    """The command of Dagster's own that serves the UI, where nobody waits for sensors."""
    where = ["-w", str(WORKSPACE), "--host", "127.0.0.1", "--port", str(port)]
    return ["-m", "dagster_webserver", *where, "--log-level", "warning"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagster home of the test's own, set up as the project's."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder)
    return folder


def test_the_ui_serves_every_asset_from_another_folder(tmp_path: Path, home: Path) -> None:
    port = free_port()
    with served(without_daemon(port), port, tmp_path, DAGSTER_HOME=str(home)) as ui:
        [entry] = ui.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        assert entry["locationOrLoadError"] == {"__typename": "RepositoryLocation"}
        assert entry["name"] == "imagesets"
        nodes = ui.ask(ASSETS)["assetNodes"]
    by_key = {"/".join(node["assetKey"]["path"]): node for node in nodes}
    golden = (Path(__file__).parent / "graph.txt").read_text().splitlines()
    made = {key for key, node in by_key.items() if node["isMaterializable"]}
    assert made == {line.partition(" ")[0] for line in golden}
    assert len(made) == ALL
    sources = {key.partition("/")[0] for key in made if key.endswith("/archives")}
    told = {"overview", "verified", "verified_deeply"} | {f"{name}/mirrors" for name in sources}
    assert {*by_key} - made == told, "no run makes these"
    letters = by_key["emnist_letters/train"]
    assert letters["groupName"] == "emnist/letters"
    assert letters["dependencyKeys"] == [{"path": ["emnist", "archives"]}]


@dataclass
class Day:
    """What a UI of the command `ui` showed and did, from its start to its end."""

    url: str
    project: Project
    assets: int = 0
    earlier: list[dict[str, str]] = field(default_factory=list)
    materialized: str = ""
    automation: Any = None
    refreshes: list[str] = field(default_factory=list)
    family: str = ""
    left: list[int] = field(default_factory=list)
    log: str = ""


@pytest.fixture(scope="module")
def day(_built_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Somebody opens the UI with `--csv-header`, makes a CSV, and turns a sensor on.

    The sensor saw another version at a mirror the day before.
    """
    folder, port = tmp_path_factory.mktemp("day"), free_port()
    project = _built_once.copied_to(folder / "project")
    found = Day(f"http://127.0.0.1:{port}", project)
    (project.data / "exports/tiny_digits/test.csv").unlink()
    command = ["-m", "assets", "ui", "--port", str(port), "--csv-header"]
    command += [*project.options, *project.mirror]
    # Nobody listens there: events of the runs are lost, and the runs go on.
    variables = {"PYTHONPATH": str(ROOT), "IMAGESETS_OPENLINEAGE": "http://me:s3cr3tpw@127.0.0.1:1"}
    with served(command, port, folder, **variables) as ui:
        nodes = ui.ask(ASSETS)["assetNodes"]
        found.assets = sum(node["isMaterializable"] for node in nodes)
        found.earlier = _runs(ui)
        launched = ui.ask(LAUNCH, params=_materialize(["tiny_digits", "test_csv"]))["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        found.materialized = _outcome(ui, launched["run"]["runId"])

        (project.data / "tables/tiny_letters/test.parquet").unlink()
        found.automation = ui.ask(AUTOMATION)
        sensor = {**REPOSITORY, "sensorName": "mirrors_changed"}
        letters = str(project.publisher.archive("tiny_letters", "letters.zip"))
        cursor = json.dumps({"changes": 0, "places": {letters: "another version"}})
        ui.ask(SAW, selector=sensor, cursor=cursor)
        ui.ask(TURN_ON, selector=sensor)
        runs = _wait(lambda: [run for run in _runs(ui) if run["jobName"] == "refresh"])
        found.refreshes = [_outcome(ui, run["runId"]) for run in runs]
        family = _descendants(ui.pid)
        found.family = " ".join(_command_line(pid) for pid in family)
    found.left = [pid for pid in family if _command_line(pid)]
    found.log = (folder / "ui.log").read_text()
    return found


def test_the_command_ui_obeys_the_options_and_shows_and_makes_what_builds_make(day: Day) -> None:
    assert day.assets == len(day.project.plan().assets())
    [earlier] = day.earlier
    assert earlier["status"] == "SUCCESS", "the run of the command line is there"
    assert day.materialized == "SUCCESS"
    csv = day.project.data / "exports/tiny_digits/test.csv"
    assert csv.read_text().startswith("label,pixel1,"), "--csv-header reached the run"
    assert day.url in day.log
    assert "Traceback" not in day.log
    assert "s3cr3tpw" not in day.log


def test_the_command_ui_runs_what_is_turned_on_and_leaves_no_process_behind(day: Day) -> None:
    schedules = {one["name"]: one for one in day.automation["schedulesOrError"]["results"]}
    assert set(schedules) == {"weekly_refresh", "weekly_verify", "monthly_deep_verify"}
    assert {one["scheduleState"]["status"] for one in schedules.values()} == {"STOPPED"}
    sensors = {sensor["name"]: sensor for sensor in day.automation["sensorsOrError"]["results"]}
    assert set(sensors) == {
        "mirrors_changed",
        "mirror_died",
        "run_failed",
        "declarative",
        "retention",
    }
    assert {sensor["sensorState"]["status"] for sensor in sensors.values()} == {"STOPPED"}

    assert day.refreshes == ["SUCCESS"], "the daemon started it, once"
    assert (day.project.data / "tables/tiny_letters/test.parquet").exists()
    assert "dagster_webserver" in day.family
    assert "dagster._daemon" in day.family
    assert day.left == []


def _runs(ui: UI) -> list[dict[str, str]]:
    found: list[dict[str, str]] = ui.ask(RUNS)["runsOrError"]["results"]
    return found


def _wait(condition: Callable[[], T], seconds: float = 90) -> T:
    """Return what a condition gives, once that is something."""
    deadline = time.monotonic() + within(seconds)
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return [*found, *(below for child in found for below in _descendants(child))]


def _command_line(pid: int) -> str:
    """What a process runs; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def _materialize(*keys: list[str]) -> dict[str, Any]:
    """Parameters of a run of some assets."""
    return {
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": []},
        "selector": {
            **REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key} for key in keys],
            "assetCheckSelection": None,
        },
    }


def _outcome(ui: UI, run_id: str) -> str:
    """How a run ended; runs are polled for a few minutes at most."""
    deadline = time.monotonic() + within(60)
    while time.monotonic() < deadline:
        runs = {run["runId"]: run["status"] for run in ui.ask(RUNS)["runsOrError"]["results"]}
        if runs[run_id] in ("SUCCESS", "FAILURE", "CANCELED"):
            return str(runs[run_id])
        time.sleep(0.2)
    return "still running"
