"""The Dagster UI: `workspace.yaml` loads from any folder, and the UI runs what the builds run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assets.settings import ROOT, Settings
from tests.assets.project import Project
from tests.assets.ui import (
    ASSETS,
    AUTOMATION,
    LAUNCH,
    LOCATIONS,
    REPOSITORY,
    SAW,
    TURN_ON,
    command_of,
    descendants,
    free_port,
    materialize,
    outcome,
    runs_of,
    served,
    without_daemon,
)
from tests.waiting import until

pytestmark = pytest.mark.slow

ALL = len((Path(__file__).parent / "graph.txt").read_text().splitlines())


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
    built_in = Settings().plan().declared
    request = {name for name, source in built_in.sources.items() if source.on_request}
    request |= {name for one in request for name in built_in.sources[one].datasets}
    on_request = {key for key in by_key if key.partition("/")[0] in request}
    made = {key for key, node in by_key.items() if node["isMaterializable"]} - on_request
    assert made == {line.partition(" ")[0] for line in golden}
    assert len(made) == ALL
    sources = {key.partition("/")[0] for key in made if key.endswith("/archives")}
    told = {"overview", "verified", "verified_deeply"} | {f"{name}/mirrors" for name in sources}
    assert {*by_key} - made - on_request == told, "no run makes these"
    assert {f"quickdraw/{name}" for name in ("archives", "train", "mirrors")} <= on_request
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
        found.earlier = runs_of(ui)
        launched = ui.ask(LAUNCH, params=materialize(["tiny_digits", "test_csv"]))["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        found.materialized = outcome(ui, launched["run"]["runId"])

        (project.data / "tables/tiny_letters/test.parquet").unlink()
        found.automation = ui.ask(AUTOMATION)
        sensor = {**REPOSITORY, "sensorName": "mirrors_changed"}
        letters = str(project.publisher.archive("tiny_letters", "letters.zip"))
        cursor = json.dumps({"changes": 0, "places": {letters: "another version"}})
        ui.ask(SAW, selector=sensor, cursor=cursor)
        ui.ask(TURN_ON, selector=sensor)
        runs = until(lambda: [run for run in runs_of(ui) if run["jobName"] == "refresh"])
        found.refreshes = [outcome(ui, run["runId"]) for run in runs]
        family = descendants(ui.pid)
        found.family = " ".join(command_of(pid) for pid in family)
    found.left = [pid for pid in family if command_of(pid)]
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
