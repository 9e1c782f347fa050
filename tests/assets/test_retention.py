"""Records of what is long past are forgotten; what Dagster goes by, and every artefact, stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.schedules.schema import AssetDaemonAssetEvaluationsTable
from sqlalchemy import func, select

from assets import checks
from assets.archives import key
from assets.running import mirrors, retention, runs
from assets.settings import ROOT, Settings
from tests.assets.conftest import Command
from tests.assets.project import Project, made, moved

pytestmark = pytest.mark.sources("tiny_digits")

SUCCESS = dg.DagsterRunStatus.SUCCESS
CSV = "tiny_digits/train_csv"
TABLES = AssetDaemonAssetEvaluationsTable


class LongAfter(datetime):
    """The clock when all that is recorded now is long past."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=retention.RUNS_DAYS + 1)


def forget(project: Project, days: int) -> str:
    """Forget as it will be done in some days."""
    with runs.records(project.settings()) as instance:
        return retention.forget(
            instance, project.settings(), datetime.now(UTC) + timedelta(days=days)
        )


def of_runs(project: Project) -> set[str]:
    with runs.records(project.settings()) as instance:
        return {run.run_id for run in instance.get_runs()}


def files(project: Project) -> set[str]:
    """The runs that have a file of events."""
    return {path.stem for path in (project.data / "dagster/history/runs").glob("*-*.db")}


@pytest.fixture
def rebuilt(built: Project) -> Project:
    """A project in which one export was made three times, each in a run of its own."""
    for _ in range(2):
        (built.data / "exports/tiny_digits/train.csv").unlink()
        assert made(built.build("tiny_digits")) == {CSV}
    return built


def test_an_old_run_is_forgotten_with_its_events_and_its_file_where_a_later_one_made_the_same(
    rebuilt: Project,
) -> None:
    before = of_runs(rebuilt)
    assert len(before) == 3
    artefacts = rebuilt.snapshot()

    assert forget(rebuilt, 0).startswith("Forgot 0 runs,")
    assert of_runs(rebuilt) == before
    assert forget(rebuilt, retention.RUNS_DAYS + 1).startswith("Forgot 1 runs,")

    [gone] = before - of_runs(rebuilt)
    assert files(rebuilt) == of_runs(rebuilt)
    with runs.records(rebuilt.settings()) as instance:
        assert not instance.all_logs(gone)
        csv = dg.AssetKey(CSV.split("/"))
        assert gone not in {r.run_id for r in instance.fetch_materializations(csv, 9).records}
    assert moved(artefacts, rebuilt.snapshot()) == set()


def test_what_dagster_goes_by_stays_however_old_it_is(rebuilt: Project) -> None:
    def known() -> dict[str, object]:
        with runs.records(rebuilt.settings()) as instance:
            assets = sorted(instance.get_asset_keys())
            checks = sorted(rebuilt.definitions().resolve_asset_graph().asset_check_keys)
            assert len(checks) > 10
            latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
            return {a.to_string(): instance.get_latest_materialization_event(a) for a in assets} | {
                str(check): (found.status, found.run_id) for check, found in latest.items()
            }

    before = known()
    forget(rebuilt, 10 * 365)
    assert known() == before
    assert made(rebuilt.build()) == set(), "and nothing is made again"


def test_what_was_told_without_a_run_is_forgotten_but_the_last_of_each_asset(
    built: Project,
) -> None:
    looked, archives = mirrors.key("tiny_digits"), key("tiny_digits")

    def numbers(instance: dg.DagsterInstance) -> tuple[list[object], list[object]]:
        told = instance.fetch_materializations(looked, 9).records
        seen = instance.fetch_observations(archives, 9).records
        both = ([r.asset_materialization for r in told], [r.asset_observation for r in seen])
        one, other = ([e.metadata["number"].value for e in found if e] for found in both)
        return one, other

    with runs.records(built.settings()) as instance:
        for number in range(3):
            facts = {"number": number}
            for event in (
                dg.AssetMaterialization(looked, metadata=facts),
                dg.AssetObservation(archives, metadata=facts),
            ):
                instance.report_runless_asset_event(event)
        assert numbers(instance) == ([2, 1, 0], [2, 1, 0])
    forget(built, retention.RUNS_DAYS + 1)
    with runs.records(built.settings()) as instance:
        assert numbers(instance) == ([2], [2])


def test_checks_that_were_told_without_a_run_are_forgotten_but_the_last_of_each(
    built: Project,
) -> None:
    asset = CSV.split("/")
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in (checks.BYTES, checks.RECORDS)]

    def kept(instance: dg.DagsterInstance) -> list[list[object]]:
        storage = instance.event_log_storage
        found = [storage.get_asset_check_execution_history(key, 99) for key in keys]
        return [
            [
                record.event.dagster_event.asset_check_evaluation_data.metadata["files"].value
                for record in records
                if record.event and record.event.dagster_event
            ]
            for records in found
        ]

    with runs.records(built.settings()) as instance:
        for number in (7, 8, 9):
            for key in keys:
                told = checks.integrity(asset, key.name, [], number, 0.0)
                instance.report_runless_asset_event(told)
        assert [found[:3] for found in kept(instance)] == [[9, 8, 7], [9, 8, 7]]
    forget(built, retention.RUNS_DAYS + 1)
    with runs.records(built.settings()) as instance:
        assert [found[0] for found in kept(instance)] == [9, 9]
        assert not {7, 8} & {*kept(instance)[0], *kept(instance)[1]}


def test_forgetting_that_is_interrupted_is_finished_the_next_time(
    rebuilt: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise OSError("the disk is full")

    with runs.records(rebuilt.settings()) as instance, monkeypatch.context() as patch:
        patch.setattr(type(instance.run_storage), "delete_run", interrupted)
        with pytest.raises(OSError, match="full"):
            retention.forget(
                instance,
                rebuilt.settings(),
                datetime.now(UTC) + timedelta(days=retention.RUNS_DAYS + 1),
            )
    assert len(of_runs(rebuilt)) == 3
    assert forget(rebuilt, retention.RUNS_DAYS + 1).startswith("Forgot 1 runs,")
    assert files(rebuilt) == of_runs(rebuilt)


def test_evaluations_that_asked_for_nothing_stay_a_day_and_the_last_of_each_asset_longer(
    built: Project,
) -> None:
    with runs.records(built.settings()) as instance:
        storage = instance.schedule_storage
        assert isinstance(storage, SqlScheduleStorage)

        def kept() -> list[int]:
            with storage.connect() as connection:
                return sorted(row[0] for row in connection.execute(select(TABLES.c.evaluation_id)))

        with storage.connect() as connection:
            for number, (asset, requested) in enumerate(
                [("a", 0), ("a", 1), ("a", 0), ("b", 0), ("a", 0), ("b", None)]
            ):
                row = {"evaluation_id": number, "asset_key": asset, "num_requested": requested}
                connection.execute(TABLES.insert().values(**row, asset_evaluation_body="{}"))
            assert connection.execute(select(func.count()).select_from(TABLES)).scalar() == 6
        now = datetime.now(UTC)
        retention.forget(instance, built.settings(), now + timedelta(hours=1))
        assert kept() == [0, 1, 2, 3, 4, 5]
        retention.forget(instance, built.settings(), now + timedelta(days=2))
        assert kept() == [1, 4, 5]


def test_old_provenance_is_forgotten_but_the_one_before_the_latest(rebuilt: Project) -> None:
    history = rebuilt.data / "lineage/history/exports/tiny_digits/train.csv"
    before = sorted(path.name for path in history.iterdir())
    assert len(before) == 2
    forget(rebuilt, retention.PAST_PROVENANCE_DAYS - 1)
    assert sorted(path.name for path in history.iterdir()) == before
    assert forget(rebuilt, retention.PAST_PROVENANCE_DAYS + 1).endswith(" provenance of 1.")
    assert [path.name for path in history.iterdir()] == before[1:]


def test_it_happens_once_a_day_at_most_and_a_build_does_it(
    built: Project, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    asked: list[datetime] = []

    def forget(*arguments: object) -> str:
        asked.append(arguments[2])  # type: ignore[arg-type]
        return "forgot"

    monkeypatch.setattr(retention, "forget", forget)
    note: Path = built.data / "dagster/retention"
    assert note.exists(), "the build that made it did"

    def build() -> int:
        (built.data / "exports/tiny_digits/train.csv").unlink()
        assert command("build", "tiny_digits", *built.options).code == 0
        return len(asked)

    assert build() == 0
    yesterday = note.stat().st_mtime - retention.A_DAY_S - 1
    os.utime(note, (yesterday, yesterday))
    assert build() == 1
    assert build() == 1


def test_more_than_is_forgotten_at_a_time_goes_on_the_next_time(
    rebuilt: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 1)
    note = rebuilt.data / "dagster/retention"
    with runs.records(rebuilt.settings()) as instance:
        for number in range(2):  # of no asset: nothing goes by them
            instance.add_run(dg.DagsterRun(f"{number}", f"{number}", status=SUCCESS))
    note.unlink()
    left = []
    for _ in range(4):
        with runs.records(rebuilt.settings()) as instance, monkeypatch.context() as patch:
            patch.setattr(retention, "datetime", LongAfter)
            said = retention.once_a_day(instance, rebuilt.settings())
        left.append((len(of_runs(rebuilt)), note.exists(), "There are more" in said))

    assert left == [(4, False, True), (3, False, True), (2, False, True), (2, True, False)]


def test_of_an_asset_with_partitions_the_last_run_of_each_stays(tmp_path: Path) -> None:
    parts = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(partitions_def=parts, check_specs=[dg.AssetCheckSpec("good", asset="many")])
    def many() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    settings = Settings(tmp_path)
    runs.home(settings)
    with runs.records(settings) as instance:
        made = [
            dg.materialize([many], partition_key=part, instance=instance).run_id
            for part in ("a", "b", "a")
        ]
        now = datetime.now(UTC) + timedelta(days=retention.RUNS_DAYS + 1)
        assert retention.forget(instance, settings, now).startswith("Forgot 1 runs,")

        assert {run.run_id for run in instance.get_runs()} == {*made[1:]}
        assert instance.get_materialized_partitions(dg.AssetKey("many")) == {"a", "b"}


def test_how_long_things_are_kept_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, below = text.partition("\n## What is kept how long\n")
    for days in (retention.RUNS_DAYS, retention.PAST_PROVENANCE_DAYS):
        assert f"| {days} days" in below
    assert retention.EVALUATIONS_DAYS == 1
    assert "| evaluations of conditions that asked for nothing | a day |" in below
    ticks = yaml.safe_load((ROOT / "dagster.yaml").read_text())["retention"]
    assert ticks["sensor"] == ticks["auto_materialize"]
    days = ticks["sensor"]["purge_after_days"]
    assert days["skipped"] == 1
    assert "| ticks of sensors that did nothing | a day |" in below
    all_of_schedules = ticks["schedule"]["purge_after_days"]
    kept = f"{days['success']} and {days['failure']} days; of schedules all {all_of_schedules}"
    assert f"| ticks that started something, or failed | {kept} |" in below
