"""The conditions under which assets are made by themselves, and the sensor that goes by them.

Not here: starting a run at a time or for a reason of our own (`refresh`, `sensors`).
"""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from pipelines.stages import DEFAULT


def adding(cron: str, timezone: str) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """Return a function that gives a default asset the condition for the sensor `declarative`.

    Archives are looked at again when the schedule's time comes. Everything else is made when the
    bytes of what it is made from changed, or its code or its declaration; what comes out as it was
    ends the matter.
    """
    condition = dg.AutomationCondition
    due = condition.cron_tick_passed(cron, timezone)
    newer = condition.code_version_changed()
    missing = condition.missing() & ~condition.execution_failed()
    news = condition.any_deps_match(condition.data_version_changed())
    busy = condition.any_deps_in_progress() | condition.in_progress()
    sound = ~condition.any_deps_missing() & condition.all_deps_blocking_checks_passed()

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.tags["stage"] not in DEFAULT:
            return spec  # made on request, and only then
        cause: dg.AutomationCondition = (news if spec.deps else due) | newer
        wanted = cause.since_last_handled() | missing
        return spec.replace_attributes(automation_condition=wanted & sound & ~busy)

    return conditioned


def sensor() -> dg.AutomationConditionSensorDefinition:
    """Return the sensor `declarative`."""
    return dg.AutomationConditionSensorDefinition(
        "declarative",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Makes what the conditions of the assets ask for.",
    )
