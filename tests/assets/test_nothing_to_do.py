"""Where nothing is to do, nothing is done: no run, no Dagster; but nothing wrong is overlooked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.running import outcomes, overview, runs
from assets.settings import ROOT
from pipelines.lineage import findings, status
from pipelines.plan import DEFAULT
from pipelines.statistics import expectations
from pipelines.store import Folder, bucket, hashing
from pipelines.store.objects import Objects
from tests import object_stores, parts
from tests.assets.conftest import Command
from tests.assets.project import Project, environment, made
from tests.waiting import within

pytestmark = pytest.mark.sources("tiny_digits")

TABLE = "tables/tiny_digits/train.parquet"
NOTE = f"lineage/checks/{TABLE}.json"


def events(project: Project) -> list[dg.EventLogRecord]:
    """What Dagster knows of materializations; the overview of them is told each time."""
    with runs.records(project.settings()) as instance:
        keys = sorted({*instance.get_asset_keys()} - {overview.KEY})
        return [
            record for key in keys for record in instance.fetch_materializations(key, 10).records
        ]


def number_of_runs(project: Project) -> int:
    with runs.records(project.settings()) as instance:
        return instance.get_runs_count()


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


@pytest.mark.parametrize("arguments", [["build", "tiny_digits"], ["fetch", "tiny_digits"]])
def test_where_nothing_is_to_do_neither_dagster_nor_polars_is_loaded(
    built: Project, arguments: list[str]
) -> None:
    built.build("tiny_digits")  # in a folder that was copied, so its databases are other ones
    script = (
        "import sys; from assets.command_line import main; code = main(sys.argv[1:]); "
        "print(sorted({'dagster', 'polars', 'sqlalchemy'} & {*sys.modules})); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, *built.options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing to do: all" in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_where_nothing_is_to_do_no_run_is_recorded_and_nothing_materialized(
    built: Project, command: Command
) -> None:
    before, number = len(events(built)), number_of_runs(built)
    for _ in range(2):
        said = command("build", *built.options)
        assert said.code == 0
        assert "Nothing to do: all 9 are up to date and passed their checks" in said.stdout
        assert "Up to date: bytes last read" in said.stdout
    assert number_of_runs(built) == number
    assert len(events(built)) == before


def test_only_what_must_be_made_is_in_the_run_and_all_of_it_is_told(built: Project) -> None:
    (built.data / "exports/tiny_digits/train.csv").unlink()
    outcomes = built.build("tiny_digits")
    assert made(outcomes) == {"tiny_digits/train_csv"}
    assert len(outcomes) == 9
    with runs.records(built.settings()) as instance:
        run = instance.get_runs(limit=1)[0]
        assert run.asset_selection == {dg.AssetKey(["tiny_digits", "train_csv"])}


class TestFindings:
    """What checks found is kept, and believed only of what was judged."""

    @pytest.fixture
    @staticmethod
    def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The paths that are judged from here on."""
        found: list[str] = []
        real = findings.blocking

        def blocking(store: Folder, dataset: findings.Dataset, path: str) -> list[findings.Finding]:
            found.append(path)
            return real(store, dataset, path)

        monkeypatch.setattr(findings, "blocking", blocking)
        return found

    def test_they_are_the_same_when_they_are_read_back(self, built: Project) -> None:
        plan = built.plan()
        for dataset in plan.declared.datasets.values():
            wanted = plan.of([dataset], DEFAULT)
            for path, state in status.states(Folder(built.data), wanted).items():
                if path in findings.judged(dataset):
                    assert state.provenance
                    kept = findings.of(Folder(built.data), dataset, state.provenance)
                    (built.data / f"lineage/checks/{path}.json").unlink()
                    assert findings.of(Folder(built.data), dataset, state.provenance) == kept

    def test_nothing_is_judged_twice(
        self, built: Project, command: Command, judged: list[str]
    ) -> None:
        assert built.build("tiny_digits")["tiny_digits/train"].state == "up to date"
        assert command("list", *built.options).code == 0
        assert not judged

    def test_deep_verification_always_judges(
        self, built: Project, command: Command, judged: list[str]
    ) -> None:
        assert command("verify", "--deep", "tiny_digits", *built.options).code == 0
        assert TABLE in judged

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            lambda path: edit(path, lambda said: said["findings"].pop()),
            lambda path: edit(path, lambda said: said.update(findings=[])),
            lambda path: edit(path, lambda said: said.update(findings=None)),
            lambda path: path.write_text("[]"),
            lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
        ],
    )
    def test_a_damaged_note_is_judged_anew(
        self, built: Project, judged: list[str], damage: Callable[[Path], object]
    ) -> None:
        before = (built.data / NOTE).read_bytes()
        damage(built.data / NOTE)
        assert not made(built.build("tiny_digits"))
        assert judged == [TABLE]
        assert (built.data / NOTE).read_bytes() == before

    def test_a_new_version_of_the_expectations_judges_anew(
        self, built: Project, judged: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expectations, "VERSION", "a newer one")
        assert not made(built.build("tiny_digits"))
        assert TABLE in judged

    def test_a_declaration_that_contradicts_the_table_fails_each_time(
        self, built: Project, command: Command
    ) -> None:
        split = built.plan().declared.datasets["tiny_digits"].splits["train"]
        old = f"counts = [{', '.join(map(str, split.counts))}]"
        moved = [split.counts[0] + 1, split.counts[1] - 1, *split.counts[2:]]
        built.redeclare("tiny_digits", old, f"counts = [{', '.join(map(str, moved))}]")
        for _ in range(2):
            said = command("build", "tiny_digits", *built.options, *built.mirror)
            assert said.code == 1
            assert "check class_counts_as_declared failed" in said.stderr
            assert "class_counts_as_declared failed" in command("list", *built.options).stdout
        built.redeclare("tiny_digits", f"counts = [{', '.join(map(str, moved))}]", old)
        assert command("build", "tiny_digits", *built.options, *built.mirror).code == 0

    def test_the_note_of_another_table_counts_for_nothing(
        self, built: Project, judged: list[str]
    ) -> None:
        other = built.data / NOTE.replace("train", "test")
        shutil.copyfile(other, built.data / NOTE)
        built.build("tiny_digits")
        assert judged == [TABLE]

    def test_bytes_that_rotted_are_not_judged_in_place_of_those_recorded(
        self, built: Project
    ) -> None:
        (built.data / NOTE).unlink()
        built.rot(TABLE)
        hashing.forget()
        assert "tiny_digits/train" in made(built.build("tiny_digits"))

    def test_another_option_is_noticed(self, built: Project) -> None:
        assert made(built.build("tiny_digits", csv_header=True)) == {
            "tiny_digits/train_csv",
            "tiny_digits/test_csv",
        }


class TestTold:
    """Dagster learns of what is there without a run."""

    @pytest.mark.parametrize("gone", ["dagster", "dagster/told.json", "dagster/history"])
    def test_what_is_there_is_told_to_new_databases_once(
        self, built: Project, command: Command, gone: str
    ) -> None:
        path = built.data / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for _ in range(2):
            assert "Nothing to do: all 9" in command("build", *built.options).stdout
        found = [str(record.asset_key.to_user_string()) for record in events(built)]
        assert len(found) == len(set(found)) == 9
        with runs.records(built.settings()) as instance:
            assert instance.get_runs_count() == (1 if gone == "dagster/told.json" else 0)
            key = dg.AssetKey(["tiny_digits", "train"])
            last = instance.get_latest_materialization_event(key)
            assert last
            assert last.asset_materialization
            told = last.asset_materialization
            known = json.loads((built.data / f"lineage/{TABLE}.json").read_text())
            assert (told.tags or {})["dagster/data_version"] == known["sha256"]
            assert told.metadata["dagster/row_count"].value == known["facts"]["records"]
            assert "examples" in told.metadata
            check = dg.AssetCheckKey(key, "records_as_declared")
            [evaluated] = instance.event_log_storage.get_asset_check_execution_history(check, 1)
            assert evaluated.status.value == "SUCCEEDED"

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"databases": 3, "assets": 4}', "\0"])
    def test_a_damaged_note_costs_telling_once_more(self, built: Project, text: str) -> None:
        (built.data / "dagster/told.json").write_text(text)
        before = len(events(built))
        assert not made(built.build())
        assert len(events(built)) == before  # the databases know it already
        assert len(json.loads((built.data / "dagster/told.json").read_text())["assets"]) == 9


class TestAhead:
    """What is made from a table is made while Dagster records the steps before."""

    def test_nothing_is_made_of_a_table_that_fails_its_checks(self, project: Project) -> None:
        split = project.plan().declared.datasets["tiny_digits"].splits["train"]
        old = f"counts = [{', '.join(map(str, split.counts))}]"
        moved = [split.counts[0] + 1, split.counts[1] - 1, *split.counts[2:]]
        project.redeclare("tiny_digits", old, f"counts = [{', '.join(map(str, moved))}]")
        outcomes = project.build("tiny_digits")
        bad = {name: o.state for name, o in outcomes.items() if not o.is_good}
        assert bad == {
            "tiny_digits/train": "failed",
            "tiny_digits/train_csv": "blocked",
            "tiny_digits/train_lmdb": "blocked",
            "tiny_digits/statistics": "blocked",
            "tiny_digits/croissant": "blocked",
        }
        made_of = [path.name for path in (project.data / "exports/tiny_digits").iterdir()]
        assert not [name for name in made_of if name.startswith("train")]

    def test_an_export_that_fails_fails_its_own_step_only(self, project: Project) -> None:
        place = project.data / "exports/tiny_digits/train.csv"
        place.mkdir(parents=True)
        (place / "in the way").touch()
        outcomes = project.build("tiny_digits")
        bad = {name: o for name, o in outcomes.items() if not o.is_good}
        assert [*bad] == ["tiny_digits/train_csv"]
        assert "train.csv" in bad["tiny_digits/train_csv"].error
        place.rename(project.data / "away")
        assert made(project.build("tiny_digits")) == {"tiny_digits/train_csv"}

    def test_the_run_knows_of_all_that_it_made_ahead(self, project: Project) -> None:
        outcomes = project.build("tiny_digits")
        assert made(outcomes) == {*outcomes}
        run = {
            json.loads(path.read_text())["run"]["id"]
            for path in (project.data / "lineage").rglob("*.json")
            if "run" in json.loads(path.read_text())
        }
        with runs.records(project.settings()) as instance:
            assert run == {one.run_id for one in instance.get_runs()}


def test_of_parts_in_a_bucket_that_is_decided_by_lists_and_reads_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = parts.publish(tmp_path / "published")
    store = object_stores.bucket(object_stores.in_memory(), tmp_path / "scratch")
    published.build(store)
    wanted = published.plan.of([published.dataset], parts.BASIC)
    monkeypatch.setattr(bucket, "MANY", len(parts.CLASSES))
    asked = list[tuple[str, str]]()

    def noting(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: Objects, path: str) -> Any:
            asked.append((name, path))
            return ask(self, path)

        return noted

    for name in ("small", "head", "below", "pieces"):
        monkeypatch.setattr(Objects, name, noting(name, getattr(Objects, name)))
    for anew in (store, replace(store, scratch=Folder(tmp_path / "another machine"))):
        assert len(outcomes.sound(anew, published.plan, wanted)) == 17, "judged, and noted"
        asked.clear()
        assert len(outcomes.sound(anew, published.plan, wanted)) == 17
        assert sorted(asked)[:-1] == [
            ("below", "archives/drawings/"),
            ("below", "lineage/"),
            ("below", "statistics/drawings/"),
            ("below", "tables/drawings/"),
        ]
        assert max(asked)[0] == "head", "of the statistics, of which there is one"
