"""Sensors that start a refresh, or tell people, when something happened. All are off at first.

Not here: looking at mirrors (`mirrors`), or telling (`notifications`).

Annotations are not postponed here: Dagster reads that of a sensor's context.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from assets.running import mirrors, notifications, runs
from assets.settings import Settings
from pipelines.archives import probes
from pipelines.declarations import Catalogue

A_DAY_S = 24 * 60 * 60
A_FEW_MINUTES_S = 5 * 60


def mirrors_changed(
    settings: Settings, declared: Catalogue, refresh: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor that looks at mirrors once a day, and refreshes when one has news."""

    @dg.sensor(
        name="mirrors_changed",
        job=refresh,
        minimum_interval_seconds=A_DAY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks at the mirrors once a day; starts a refresh when one serves another "
        "version than before.",
    )
    def changed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = {name: mirrors.known(context.instance, name) for name in declared.sources}
        found = mirrors.look(declared, declared.sources.values(), settings, before, fetch=False)
        news = [m.observation() for m in found if m.is_news(before[m.source])]
        version = probes.version(standing for m in found for standing in m.standings)
        seen: Mapping[str, str | int] = json.loads(context.cursor or "{}")
        if version == seen.get("version", probes.version([])):
            return dg.SensorResult(skip_reason="No mirror has news.", asset_events=news)
        # A version that comes back is news again, so the key counts the changes too.
        changes = int(seen.get("changes", 0)) + 1
        return dg.SensorResult(
            [dg.RunRequest(run_key=f"{changes}-{version}")],
            cursor=json.dumps({"version": version, "changes": changes}),
            asset_events=news,
        )

    return changed


def mirror_died(sources: Sequence[str], webhook: str | None, offline: bool) -> dg.SensorDefinition:
    """Return the sensor that tells people of mirrors that died or serve other bytes."""

    @dg.sensor(
        name="mirror_died",
        minimum_interval_seconds=A_FEW_MINUTES_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells IMAGESETS_WEBHOOK of mirrors that died or serve other bytes, once they "
        "were looked at: by a refresh, the sensor mirrors_changed, or a check.",
    )
    def died(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        standings = [
            s for source in sources for s in mirrors.known(context.instance, source).values()
        ]
        trouble = {
            standing.probe.place: standing.wrong if standing.is_wrong else standing.probe.problem
            for standing in standings
            if standing.is_wrong or standing.probe.status == "dead"
        }
        before = json.loads(context.cursor or "{}")
        news = {place: why for place, why in trouble.items() if before.get(place) != why}
        if news:
            text = "\n".join(f"{place}: {why}" for place, why in news.items())
            said = f"Imagesets: {len(news)} file(s) can't be had from their mirrors.\n{text}"
            if not notifications.post(webhook, said, {"error": text}, offline=offline):
                return dg.SkipReason("The webhook could not be told; it will be tried again.")
        context.update_cursor(json.dumps(trouble))
        return dg.SkipReason(f"Told of {len(news)} file(s)." if news else "No mirror died.")

    return died


def run_failed(webhook: str | None, offline: bool) -> dg.SensorDefinition:
    """Return the sensor that tells people of runs that failed."""

    @dg.run_failure_sensor(
        name="run_failed",
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells IMAGESETS_WEBHOOK of runs that failed.",
    )
    def failed(context: dg.RunFailureSensorContext) -> None:
        run, failures = context.dagster_run, context.get_step_failure_events()
        errors = [f"{event.step_key}: {runs.reason(event)}" for event in failures]
        error = "\n".join(errors) or context.failure_event.message or "it does not say why"
        text = f"Imagesets: run {run.run_id} of {run.job_name} failed.\n{error}"
        facts = {"run_id": run.run_id, "job": run.job_name, "error": error}
        notifications.post(webhook, text, facts, offline=offline)

    return failed
