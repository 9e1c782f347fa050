"""The conditions under which assets are made by themselves, and the sensor that goes by them.

Not here: starting a run at a time or for a reason of our own (`refresh`, `sensors`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import dagster as dg

from assets import spelling
from assets.running import jobs
from assets.settings import Settings
from pipelines.plan import AssetPath, Plan
from pipelines.stages import DEFAULT


def adding(settings: Settings, plan: Plan) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """Return a function that gives a default asset the condition for the sensor `declarative`.

    Archives are looked at again when the schedule's time comes. Everything else is made when the
    bytes of what it is made from changed, or its code or its declaration; what comes out as it was
    ends the matter.

    Datasets that the settings name are made where they are missing. Where none are named, those of
    which Dagster knows a table are kept up to date: that is asked at each tick, since a dataset may
    be made for the first time at any. Archives and tables ask; everything else waits for tables.
    Of a source that is made on request, what is missing is none of anybody's business then.

    Of a split in parts only those are kept up to date of which Dagster knows a table, whoever is
    named; what is made of all of them is made of those that are there.
    """
    cron, timezone = settings.refresh_cron, settings.refresh_timezone
    condition = dg.AutomationCondition
    due = condition.cron_tick_passed(cron, timezone)
    newer = condition.code_version_changed()
    missing = condition.missing() & ~condition.execution_failed()
    news = condition.any_deps_match(condition.data_version_changed())
    busy = condition.any_deps_in_progress() | condition.in_progress()
    named = jobs.kept(settings, plan) if settings.datasets else ()
    sources = plan.declared.sources.values()
    on_request = {spelling.legal(source.name) for source in sources if source.on_request}
    passed = condition.all_deps_blocking_checks_passed()
    sound = ~condition.any_deps_missing() & passed
    tables_of: dict[tuple[str, str | None], list[AssetPath]] = {}
    for one in plan.artefacts.values():
        if one.stage == "tables":
            source = spelling.legal(one.source.name)
            for dataset in (None, spelling.legal(one.asset[0])):
                tables_of.setdefault((source, dataset), []).append(one.asset)
    some_there = condition.any_deps_match(~condition.missing()) & passed

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.tags["stage"] not in DEFAULT:
            return spec  # made on request, and only then
        if named and not any(is_of(spec, one.source, one.name) for one in named):
            return spec  # not of those that are kept up to date
        cause: dg.AutomationCondition = (news if spec.deps else due) | newer
        wanted: dg.AutomationCondition = cause.since_last_handled() | missing
        if not named and spec.tags["source"] in on_request:
            wanted = cause.since_last_handled() & ~condition.missing()
        if spec.tags["stage"] == "archives" and (spec.tags["source"], None) not in tables_of:
            return spec  # the UI shows no more of what nobody ever asked for
        if spec.tags["stage"] in ("archives", "tables") and (spec.partitions_def or not named):
            wanted &= known(spec.tags["source"], spec.tags.get("dataset"), of_parts(spec))
        enough = some_there if is_of_parts(spec) else sound
        return spec.replace_attributes(automation_condition=wanted & enough & ~busy)

    @functools.cache  # a dataset may have a hundred splits, of which each waits for any of them
    def known(source: str, dataset: str | None, one: AssetPath | None) -> dg.AutomationCondition:
        """Whether Dagster knows a table of a source, or of a dataset of it; or that one."""
        tables = dict.fromkeys([one] if one else tables_of[source, dataset])
        there = (condition.asset_matches(dg.AssetKey(x), ~condition.missing()) for x in tables)
        return functools.reduce(operator.or_, there)

    def of_parts(spec: dg.AssetSpec) -> AssetPath | None:
        """Return the asset of a table in parts: those of other splits differ."""
        is_in_parts = spec.partitions_def and spec.tags["stage"] == "tables"
        return (spec.key.path[0], spec.key.path[1]) if is_in_parts else None

    def is_of_parts(spec: dg.AssetSpec) -> bool:
        """Whether it is made of all parts of a split together."""
        above = ((dep.asset_key.path[0], dep.asset_key.path[1]) for dep in spec.deps)
        return spec.partitions_def is None and any(map(plan.parts, above))

    def is_of(spec: dg.AssetSpec, source: str, dataset: str) -> bool:
        source, dataset = spelling.legal(source), spelling.legal(dataset)
        return spec.tags["source"] == source and spec.tags.get("dataset", dataset) == dataset

    return conditioned


def sensor() -> dg.AutomationConditionSensorDefinition:
    """Return the sensor `declarative`."""
    return dg.AutomationConditionSensorDefinition(
        "declarative",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Makes what the conditions of the assets ask for.",
    )
