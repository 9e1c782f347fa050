"""A split in parts: Dagster's partitions, ranged runs, and what people are told of them."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import checks, graph, partitions
from assets.command_line import main
from assets.definitions import automated
from assets.running import batches, building, mirrors, runs
from assets.running.outcomes import Outcome
from assets.running.refresh import PART_OF
from assets.settings import Settings
from pipelines import tables
from pipelines.building import Made
from pipelines.plan import Plan, Step
from pipelines.progress import Display
from pipelines.stages import DEFAULT
from pipelines.statistics.expectations import COUNTS, DUPLICATES, PUBLISHED, Finding
from pipelines.store import hashing
from tests import parts
from tests.assets.conftest import Command, Start

ANT, BEE, TOWER, CAT, DOG = parts.CLASSES
START, END = (f"dagster/asset_partition_range_{which}" for which in ("start", "end"))
OF_EACH = ("drawings/archives", *(f"drawings/train{of}" for of in ("", "_csv", "_lmdb", "_sums")))
OF_ALL = ("drawings/statistics", "drawings/train_manifest", "drawings/croissant")


@dataclass(frozen=True)
class Project:
    """A publisher of drawings, and the data folder that they are built in."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return Settings(
            self.folder / "data", self.folder / "catalogue", str(self.folder / "mirror")
        )

    @property
    def plan(self) -> Plan:
        return self.settings.plan()

    @property
    def options(self) -> list[str]:
        return ["--data", str(self.settings.data), "--catalogue", str(self.settings.catalogue)]

    @property
    def mirror(self) -> list[str]:
        return ["--mirror", str(self.settings.mirror)]

    def build(self, *keys: str, stages: Collection[str] = DEFAULT) -> dict[str, Outcome]:
        plan = self.plan
        datasets = [plan.declared.datasets["drawings"]]
        chosen = keys or None
        made = building.build(self.settings, plan, datasets, stages, Display(), chosen)
        return {outcome.asset: outcome for outcome in made}

    def copied_to(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder)
        return Project(folder)

    def runs(self) -> list[tuple[str, str]]:
        """From which part to which each run was, the first run first."""
        with runs.records(self.settings) as instance:
            return [
                (run.tags.get(START, ""), run.tags.get(END, ""))
                for run in reversed(instance.get_runs())
            ]

    def known(self, asset: str) -> set[str]:
        """The parts of an asset that Dagster knows."""
        with runs.records(self.settings) as instance:
            return instance.get_materialized_partitions(dg.AssetKey(asset.split("/")))


@pytest.fixture(scope="module")
def _published(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("drawings") / "published"
    folder.mkdir()
    parts.publish(folder)
    return Project(folder)


@pytest.fixture(scope="module")
def _begun_once(_published: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = _published.copied_to(tmp_path_factory.mktemp("begun") / "project")
    assert all(one.is_good for one in project.build(ANT, BEE).values())
    return project


@pytest.fixture
def project(_published: Project, tmp_path: Path) -> Project:
    """Nothing is built."""
    return _published.copied_to(tmp_path / "project")


@pytest.fixture
def begun(_begun_once: Project, tmp_path: Path) -> Project:
    """Two parts of five are built."""
    return _begun_once.copied_to(tmp_path / "project")


# --- a build --------------------------------------------------------------------------------------


def test_some_parts_are_built_and_then_the_others_and_dagster_knows_exactly_those(
    project: Project,
) -> None:
    found = project.build(ANT, TOWER)

    assert {*found} == {*OF_EACH, *OF_ALL}
    assert {found[one].in_words for one in OF_EACH} == {"made 2 of 5 parts"}
    assert {found[one].state for one in OF_ALL} == {"made"}
    assert found["drawings/train"].records == found["drawings/train_manifest"].records == 7 + 9
    assert project.runs() == [(ANT, ANT), (TOWER, TOWER)], "the part between them is not made"
    assert {frozenset(project.known(one)) for one in OF_EACH} == {frozenset((ANT, TOWER))}

    found = project.build()

    assert {found[one].in_words for one in OF_EACH} == {"made 3, up to date 2 of 5 parts"}
    assert project.runs()[2:] == [(BEE, BEE), (CAT, DOG)]
    assert project.known("drawings/train") == {*parts.CLASSES}
    assert found["drawings/statistics"].warnings, "two parts have the same drawing"
    whole = tables.read(project.settings.store.local("tables/drawings/train.json"))
    labels = np.repeat(np.arange(5), (7, 5, 9, 4, 6))
    assert np.array_equal(whole.labels, labels)


def test_a_part_says_of_itself_what_was_made(begun: Project) -> None:
    with runs.records(begun.settings) as instance:
        told = {
            part: instance.get_latest_data_version_record(
                dg.AssetKey(["drawings", "train"]), partition_key=part
            )
            for part in (ANT, BEE)
        }
    known = {part: one.asset_materialization for part, one in told.items() if one}

    rows = {part: one.metadata["dagster/row_count"].value for part, one in known.items() if one}
    assert rows == {ANT: 7, BEE: 5}
    assert len({str(one.metadata["sha256"].value) for one in known.values() if one}) == 2


def test_where_nothing_is_to_do_no_run_is_started(begun: Project) -> None:
    before = begun.runs()

    found = begun.build(ANT, BEE)

    assert {found[one].in_words for one in OF_EACH} == {"up to date 2 of 5 parts"}
    assert {one.state for one in found.values()} == {"up to date"}
    assert begun.runs() == before == [(ANT, BEE)]


def test_parts_that_dagster_was_never_told_of_are_told_without_a_run(begun: Project) -> None:
    shutil.rmtree(begun.settings.dagster_home)

    begun.build(ANT, BEE)

    assert begun.runs() == []
    assert {frozenset(begun.known(one)) for one in OF_EACH} == {frozenset((ANT, BEE))}
    with runs.records(begun.settings) as instance:
        found = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(["drawings", "train"]), COUNTS), 9
        )
    assert len(found) == 1, "one evaluation, whatever the parts"


def _dying(number: int, arguments: Sequence[str]) -> int:
    """Do what the command line does, but die once so many tables are there, and one is begun."""
    write, begun = tables.write, itertools.count()
    data = Path(arguments[arguments.index("--data") + 1])

    def until(*given: Any, **named: Any) -> int:
        if next(begun) >= number:
            while len([*data.glob("lineage/tables/drawings/train/*.parquet.json")]) < number:
                time.sleep(0.01)
            os._exit(9)
        return write(*given, **named)

    tables.write = until
    return main(arguments)


def test_a_run_that_dies_leaves_its_parts_to_the_next_which_makes_the_others(
    project: Project, forked: Start
) -> None:
    only = ["build", "drawings", "--only", "tables", *project.options, *project.mirror]
    dead = forked(*only, run=functools.partial(_dying, 3)).communicate()
    assert dead.returncode == 9, dead
    assert project.known("drawings/train") == set(), "nothing was told"

    hashing.forget()
    found = project.build(stages=["tables"])

    assert found["drawings/train"].in_words == "made 2, up to date 3 of 5 parts"
    assert project.known("drawings/train") == {*parts.CLASSES}


def test_what_needs_a_part_that_failed_is_blocked_in_the_runs_after_it_too(
    project: Project,
) -> None:
    lost = project.folder / "mirror/drawings/ant.npy"
    there = lost.read_bytes()
    lost.unlink()

    found = building.build(
        project.settings.with_({"offline": True}),
        project.plan,
        [project.plan.declared.datasets["drawings"]],
        DEFAULT,
        Display(),
        (ANT, TOWER),
    )

    state = {outcome.asset: outcome.in_words or outcome.state for outcome in found}
    assert state["drawings/archives"] == "failed 1, made 1 of 5 parts"
    assert state["drawings/train"] == "blocked 1, made 1 of 5 parts"
    assert {state[one] for one in OF_ALL} == {"blocked"}
    assert "ant.npy" in found[0].error

    lost.write_bytes(there)
    assert all(one.is_good for one in project.build(ANT, TOWER).values())


# --- Dagster --------------------------------------------------------------------------------------


def test_a_backfill_is_one_run_of_a_range_with_one_evaluation_of_each_check(
    project: Project, instance: dg.DagsterInstance
) -> None:
    toml = project.folder / "catalogue/drawings.toml"
    known = "[datasets.drawings]\nmean = [0.5]\nstd = [0.3]\n"
    toml.write_text(toml.read_text().replace("[datasets.drawings]\n", known))
    definitions = automated(project.settings)
    graph_ = definitions.resolve_asset_graph()
    keys = [dg.AssetKey(one.split("/")) for one in OF_EACH if not one.endswith("lmdb")]
    assert {graph_.get(key).partitions_def for key in keys} == {
        dg.StaticPartitionsDefinition(parts.CLASSES)
    }
    assert {graph_.get(key).backfill_policy for key in keys} == {dg.BackfillPolicy.single_run()}

    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=keys, tags=partitions.of_range(parts.CLASSES[1:4])
    )

    made = result.get_asset_materialization_events()
    assert {str(event.partition) for event in made} == {BEE, TOWER, CAT}
    assert len(made) == 3 * len(keys)
    names = [found.check_name for found in result.get_asset_check_evaluations()]
    assert names.count(COUNTS) == 1
    assert DUPLICATES not in names, "which is looked for in all parts together"
    whole = dg.AssetKey(["drawings", "statistics"])
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[whole]
    )
    told = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert {COUNTS, DUPLICATES} < told.keys()
    assert told[PUBLISHED].passed
    assert told[PUBLISHED].description == "Not judged while parts are missing."


def test_workers_share_the_parts_in_four_runs_each() -> None:
    assert partitions.parts_a_run(345, 8) == 11
    assert partitions.parts_a_run(3, 8) == 1


def test_the_backfill_policy_goes_by_the_workers(project: Project) -> None:
    [table] = [
        one
        for one in graph.assets_of(project.plan, wanted=[("drawings", "train")], workers=1)
        if one.key.path[-1] == "train"
    ]
    assert table.backfill_policy == dg.BackfillPolicy.single_run()
    found = graph.assets_of(project.plan, wanted=[("drawings", "train")], workers=2)
    assert {one.backfill_policy for one in found} == {dg.BackfillPolicy.multi_run(1)}


def test_a_check_of_parts_says_which_part_failed(begun: Project) -> None:
    def made(finding: Finding) -> Made:
        known = runs.outcomes.status.provenance.latest(
            begun.settings.store, "tables/drawings/train/part-00000.parquet"
        )
        assert known is not None
        return Made(begun.settings.store, known, None, known.run.ended, 0, 0, (finding,))

    good, bad = Finding("c", True, 1, 1), Finding("c", False, 1, 2)
    [found] = checks.of_parts({ANT: [made(good)], TOWER: [made(bad)]})

    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == f"{TOWER}: {bad}"
    assert found.metadata["parts"].value == 2
    assert found.metadata["expected"].value == 1


def test_batches_are_stretches_of_parts_of_which_the_same_is_to_be_made(project: Project) -> None:
    plan = project.plan

    def of(*steps: Step) -> list[tuple[tuple[str, ...], int]]:
        return [(batch.parts, len(batch.steps)) for batch in batches.of(plan, steps)]

    table, csv = ("drawings", "train"), ("drawings", "train_csv")
    whole = (("drawings", "statistics"), "")
    assert of() == []
    assert of(whole) == [((), 1)]
    assert of((table, ANT), (table, BEE), whole) == [((ANT, BEE), 3)]
    assert of((table, ANT), (csv, ANT), (csv, BEE), whole) == [((ANT,), 2), ((BEE,), 2)]
    assert of((table, ANT), (table, TOWER)) == [((ANT,), 1), ((TOWER,), 1)]
    [batch] = batches.of(plan, [(table, ANT), whole])
    assert batch.without({(table, ANT)}) == batches.Batch((whole,)), "a run of no part"
    assert batches.blocked(plan, batch.steps, [(("drawings", "archives"), ANT)]) == [(table, ANT)]


# --- the refresh, and conditions ------------------------------------------------------------------


def test_a_refresh_asks_for_one_range_of_the_parts_that_were_ever_made(begun: Project) -> None:
    def refresh() -> list[tuple[str | None, str | None]]:
        job = automated(begun.settings).resolve_job_def("refresh")
        result = job.execute_in_process(instance=instance, run_config={"ops": {}})
        return [
            (run.tags.get(START), run.tags.get(END))
            for run in instance.get_runs()
            if run.tags.get(PART_OF) == result.run_id
        ]

    with dg.DagsterInstance.ephemeral() as instance:
        assert refresh() == [], "three parts of five were never asked for"
        for number in (0, 1):
            (begun.folder / f"data/exports/drawings/train/part-{number:05}.csv").unlink()
        assert refresh() == [(ANT, BEE)]
        assert refresh() == []


def test_only_mirrors_of_parts_that_were_fetched_are_looked_at(begun: Project) -> None:
    declared = begun.plan.declared
    sources = [declared.sources["drawings"]]

    [found] = mirrors.look(declared, sources, begun.settings, {"drawings": {}}, fetch=False)

    assert {*found.archives} == {"ant.npy", "bee.npy"}


def test_conditions_ask_for_parts_that_were_made_and_for_no_others(begun: Project) -> None:
    settings = begun.settings.with_({"datasets": ("drawings",)})
    definitions, cursor = automated(settings), None
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def tick() -> dict[str, set[str]]:
        nonlocal cursor, now
        result = dg.evaluate_automation_conditions(
            definitions, instance, dg.AssetSelection.all(), cursor=cursor, evaluation_time=now
        )
        cursor, now = result.cursor, now + timedelta(minutes=1)
        keys = [dg.AssetKey(one.split("/")) for one in OF_EACH]
        asked = {key: result.get_requested_partitions(key) for key in keys}
        found = {key.path[1]: {str(part) for part in some} for key, some in asked.items() if some}
        wholes = [dg.AssetKey(one.split("/")) for one in OF_ALL]
        return found | {one.path[1]: set() for one in wholes if result.get_num_requested(one)}

    with runs.records(settings) as instance:
        assert [tick() for _ in range(3)] == [{}, {}, {}]

        begun.build(TOWER, stages=["tables"])

        asked: dict[str, set[str]] = {}
        for _ in range(3):
            asked |= tick()
        for_others = ("train_csv", "train_lmdb", "train_sums")
        assert {key: asked[key] for key in for_others} == {key: {TOWER} for key in for_others}
        assert "train_manifest" in asked, "though two parts were never made"
        assert not {"archives", "train"} & asked.keys()


# --- the command line -----------------------------------------------------------------------------


def test_people_see_a_line_for_each_asset_and_how_many_parts_are_here(
    begun: Project, command: Command
) -> None:
    said = command("build", "drawings", "--parts", ANT, BEE, *begun.options, *begun.mirror)
    assert said.code == 0, said
    assert "up to date 2 of 5 parts" in said.stdout
    assert "Nothing to do: all 8 are up to date" in said.stdout

    said = command("list", *begun.options)
    assert "2 of 5 parts" in said.stdout, said
    assert "up to date (" in said.stdout
    said = command("status", "drawings", *begun.options)
    assert said.code == 0, said
    assert "up to date, 2 of 5 parts" in said.stdout
    said = command("verify", "drawings", "--parts", ANT, *begun.options)
    assert said.code == 0, said
    assert command("verify", *begun.options).code == 0
    assert command("lock", "drawings", *begun.options).stdout.startswith("drawings  sha256:")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--parts", "cet"], "There is no part 'cet' of drawings. Did you mean 'cat'?"),
        (["--parts", "ant", "xyz"], "There are 5: ant, bee, The Eiffel Tower, …"),
    ],
)
def test_parts_that_there_are_not_are_refused_with_the_nearest(
    project: Project, command: Command, arguments: list[str], expected: str
) -> None:
    said = command("build", "drawings", *arguments, *project.options)
    assert said.code == 2
    assert expected in said.stderr


def test_parts_of_a_dataset_that_comes_in_one_are_refused(command: Command, tmp_path: Path) -> None:
    said = command("fetch", "mnist", "--parts", "00000", "--data", str(tmp_path))
    assert said.code == 2
    assert "mnist does not come in parts" in said.stderr


def test_who_verifies_a_part_that_is_not_built_is_told_how_to_build_it_alone(
    project: Project, command: Command
) -> None:
    said = command("verify", "drawings", "--parts", TOWER, *project.options)
    assert said.code == 1
    expected = f"python -m assets build drawings --parts '{TOWER}'"
    assert said.stderr.rstrip().endswith(expected), said


def test_what_is_broken_of_a_part_is_mended_and_nothing_else(
    begun: Project, command: Command
) -> None:
    table = begun.folder / "data/tables/drawings/train/part-00001.parquet"
    before = table.read_bytes()
    table.write_bytes(before[:-1])

    said = command("verify", "drawings", "--repair", *begun.options, *begun.mirror)

    assert said.code == 0, said
    assert table.read_bytes() == before
    assert begun.runs()[1:] == [(BEE, BEE)]
