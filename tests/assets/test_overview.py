"""The overview in the UI: the figures of `status`, told by whoever makes, verifies or looks."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from assets import checks
from assets.running import integrity, mirrors, overview, runs
from tests.assets.conftest import Command
from tests.assets.project import DATASETS, Project, Site, environment, executing
from tests.assets.test_refresh import looked
from tests.assets.test_status import rows
from tests.assets.test_verify import ARCHIVE, TABLE, flip
from tests.waiting import within


@contextmanager
def records(project: Project) -> Iterator[dg.DagsterInstance]:
    with runs.records(project.settings()) as instance:
        yield instance


def told(instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
    """Dataset → what stands in its row, as it was last told."""
    [record] = instance.fetch_materializations(overview.KEY, limit=1).records
    assert record.asset_materialization
    table = record.asset_materialization.metadata["datasets"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [{k: str(v).replace("\u00a0", " ") for k, v in r.data.items()} for r in table.records]
    return {row["dataset"]: row for row in rows}


def verdict(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    check = dg.AssetCheckKey(overview.KEY, overview.CHECK)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert record.event
    assert record.event.dagster_event
    return record.event.dagster_event.asset_check_evaluation_data


def times_told(project: Project, key: dg.AssetKey) -> int:
    with records(project) as instance:
        return len(instance.fetch_materializations(key, limit=99).records)


def test_a_build_tells_the_figures_of_status_and_when_they_were_so(
    project: Project, command: Command
) -> None:
    begun = datetime.now(UTC).timestamp()
    project.build("tiny_digits")

    printed = rows(command("status", *project.options))
    with records(project) as instance:
        found, check = told(instance), verdict(instance)
        [record] = instance.fetch_materializations(overview.KEY, limit=1).records
    assert [*printed] == list(DATASETS)
    [row] = found.values()
    assert sorted(row.values()) == sorted(["tiny_digits", *printed["tiny_digits"]])
    assert row["state"] == "up to date"
    assert (check.passed, check.description) == (True, None), "what nobody asked for is no trouble"
    assert record.asset_materialization
    shown = record.asset_materialization.metadata
    assert shown["not built"].value == "tiny_colours, tiny_letters"
    as_of: Any = shown["as of"].value
    assert begun <= as_of <= record.timestamp


def test_what_is_damaged_turns_the_overview_red_when_somebody_finds_it(
    built: Project, command: Command
) -> None:
    flip(built.data / TABLE)

    assert command("verify", *built.options).code == 1

    with records(built) as instance:
        assert told(instance)["tiny_digits"]["state"] == "damaged"
        check = verdict(instance)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "tiny_digits is damaged: python -m assets verify --repair tiny_digits mends it" in str(
        check.description
    )
    assert f"{TABLE}: changed: " in str(check.description)
    assert command("verify", "--repair", *built.options, *built.mirror).code == 0
    with records(built) as instance:
        assert told(instance)["tiny_digits"]["state"] == "up to date"
        assert verdict(instance).passed


def test_a_look_at_mirrors_is_told_at_once(
    built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    repository = built.definitions(site.url).get_repository_def()
    context = dg.build_sensor_context(
        instance, repository_def=repository, sensor_name="mirrors_changed"
    )
    site.gone = True
    begun = datetime.now(UTC).timestamp()

    found = repository.get_sensor_def("mirrors_changed").evaluate_tick(context)

    for event in found.asset_events:
        instance.report_runless_asset_event(event)
    assert told(instance)["tiny_digits"]["mirrors"] == "0 of 1"
    [record] = instance.fetch_materializations(overview.KEY, limit=1).records
    assert record.asset_materialization
    since: Any = record.asset_materialization.metadata["oldest look"].value
    assert begun <= since <= record.timestamp
    assert "tiny_digits: no mirror gave every archive" in str(verdict(instance).description)
    assert verdict(instance).severity is dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_a_run_of_the_ui_tells_the_overview_once_it_is_over(
    project: Project, executor: str
) -> None:
    chosen = project.settings(mirror=str(project.publisher.mirror), executor=executor)
    done = subprocess.run(
        executing("everything_of_tiny_letters"),
        env=environment(DAGSTER_HOME=str(runs.home(chosen)), **chosen.as_environment()),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with records(project) as instance:
        assert {name: row["state"] for name, row in told(instance).items()} == {
            "tiny_letters": "up to date"
        }
        assert verdict(instance).passed
    assert times_told(project, overview.KEY) == 1


def test_the_check_of_the_overview_tells_what_is_so_now(
    built: Project, instance: dg.DagsterInstance
) -> None:
    check = dg.AssetCheckKey(overview.KEY, overview.CHECK)
    job = dg.define_asset_job("look", dg.AssetSelection.checks(check))
    definitions = dg.Definitions.merge(built.definitions(), dg.Definitions(jobs=[job]))
    (built.data / TABLE).unlink()

    done = definitions.resolve_job_def("look").execute_in_process(instance=instance)

    [found] = done.get_asset_check_evaluations()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert f"{TABLE}: missing" in str(found.description)


def test_where_nothing_was_ever_made_the_overview_does_not_say_that_all_is_well(
    project: Project, instance: dg.DagsterInstance
) -> None:
    overview.tell(instance, project.settings(), project.plan())

    assert not verdict(instance).passed
    assert "Nothing was made here yet" in str(verdict(instance).description)


# --- archives and their mirrors -------------------------------------------------------------------


def test_after_a_build_no_check_of_archives_is_left_unanswered(built: Project) -> None:
    graph = built.definitions().resolve_asset_graph()
    with records(built) as instance:
        for source in DATASETS:
            keys = graph.get(dg.AssetKey([source, "archives"])).check_keys
            found = instance.event_log_storage.get_latest_asset_check_execution_by_key([*keys])
            assert {key.name for key in keys} == {checks.BYTES} == {key.name for key in found}
            assert all(record.status.value == "SUCCEEDED" for record in found.values())


def test_materializing_all_looks_at_no_mirror(
    built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    graph = built.definitions(site.url).resolve_asset_graph()
    everything = built.definitions(site.url).resolve_implicit_global_asset_job_def()

    done = everything.execute_in_process(
        instance=instance, asset_selection=[*graph.materializable_asset_keys]
    )

    assert done.success
    assert site.methods == []
    assert mirrors.known(instance, "tiny_digits") == {}


# --- freshness ------------------------------------------------------------------------------------


def freshness(
    project: Project, instance: dg.DagsterInstance, key: dg.AssetKey, days: float
) -> FreshnessState:
    """What Dagster's daemon says of an asset some days from now."""
    node = project.definitions().resolve_asset_graph().get(key)
    context = LoadingContextForTest(instance)
    with freeze_time(datetime.now(UTC) + timedelta(days=days)):
        evaluator = TimeWindowFreshnessPolicyEvaluator()
        return asyncio.run(evaluator.evaluate_freshness(context, node))


def test_mirrors_that_nobody_looked_at_for_nine_days_are_overdue(
    built: Project, site: Site, instance: dg.DagsterInstance
) -> None:
    key = mirrors.key("tiny_digits")
    assert freshness(built, instance, key, 0) is FreshnessState.UNKNOWN
    job = built.definitions(site.url).resolve_job_def("refresh")
    job.execute_in_process(instance=instance)

    assert looked(instance, "tiny_digits")
    found = [freshness(built, instance, key, days) for days in (7, 8.5, 9.5)]
    assert found == [FreshnessState.PASS, FreshnessState.WARN, FreshnessState.FAIL]


def test_a_verification_of_everything_is_fresh_for_nine_days_and_a_deep_one_for_a_month(
    built: Project, command: Command
) -> None:
    def found(key: dg.AssetKey, *days: float) -> list[str]:
        with records(built) as instance:
            return [freshness(built, instance, key, day).value for day in days]

    assert command("verify", "tiny_digits", *built.options).code == 0
    assert found(integrity.VERIFIED, 0) == ["UNKNOWN"], "two other datasets are here"
    assert command("verify", *built.options).code == 0
    assert found(integrity.VERIFIED, 7, 8.5, 9.5) == ["PASS", "WARN", "FAIL"]
    assert found(integrity.DEEPLY, 0) == ["UNKNOWN"]
    assert command("verify", "--deep", *built.options).code == 0
    assert found(integrity.DEEPLY, 32, 34, 36) == ["PASS", "WARN", "FAIL"]


def test_what_could_not_be_compared_is_not_called_verified_deeply(
    built: Project, command: Command
) -> None:
    (built.data / ARCHIVE).unlink()

    command("verify", "--deep", *built.options)

    assert times_told(built, integrity.VERIFIED) == 1
    assert times_told(built, integrity.DEEPLY) == 0
