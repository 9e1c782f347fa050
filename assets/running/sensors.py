"""Sensors that start a refresh, or tell people, when something happened. All are off at first.

Not here: looking at mirrors (`mirrors`), or telling (`notifications`).

Annotations are not postponed here: Dagster reads that of a sensor's context.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from assets.running import jobs, mirrors, notifications, overview, runs
from assets.running.refresh import PART_OF
from assets.settings import Settings
from pipelines.archives import probes
from pipelines.plan import Plan

A_DAY_S = 24 * 60 * 60
A_FEW_MINUTES_S = 5 * 60


def mirrors_changed(
    settings: Settings, plan: Plan, refresh: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor that looks at mirrors once a day, and refreshes when one has news.

    Its cursor holds the version that each place was seen to serve. A place that is seen for the
    first time has no news: it is only noted.
    """
    declared = plan.declared

    @dg.sensor(
        name="mirrors_changed",
        job=refresh,
        minimum_interval_seconds=A_DAY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks at the mirrors of what was made here once a day; starts a refresh when "
        "one serves another version than before.",
    )
    def changed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        sources = jobs.sources_kept(settings, plan)
        if not sources:
            return dg.SensorResult(skip_reason=jobs.NOTHING_KEPT)
        before = {source.name: mirrors.known(context.instance, source.name) for source in sources}
        found = mirrors.look(declared, sources, settings, before, fetch=False)
        events = [event for looked in found for event in looked.events]
        events += overview.events(settings, plan)
        standings = [standing for m in found for standing in m.standings]
        cursor = json.loads(context.cursor or "{}")
        seen: Mapping[str, str] = cursor.get("places", {})
        now = {s.probe.place: s.version for s in standings if s.version}
        changes = int(cursor.get("changes", 0))
        if news := {place for place in now if seen.get(place, now[place]) != now[place]}:
            changes += 1
        # A version that comes back is news again, so the key counts the changes too.
        run = dg.RunRequest(run_key=f"{changes}-{probes.version(standings)}")
        return dg.SensorResult(
            [run] if news else [],
            None if news else dg.SkipReason("No mirror has news."),
            cursor=json.dumps({"changes": changes, "places": {**seen, **now}}),
            asset_events=events,
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
            # What is over is forgotten; what nobody was told of is not.
            still = {place: why for place, why in before.items() if trouble.get(place) == why}
            context.update_cursor(json.dumps(still))
            if problem := notifications.unable(webhook, offline=offline):
                return dg.SkipReason(f"{said}\nNobody was told: {problem}")
            if not notifications.post(webhook, said, {"error": text}):
                return dg.SkipReason("The webhook could not be told; it will be tried again.")
        context.update_cursor(json.dumps(trouble))
        return dg.SkipReason(f"Told of {len(news)} file(s)." if news else "No mirror died.")

    return died


def run_failed(webhook: str | None, offline: bool) -> dg.SensorDefinition:
    """Return the sensor that tells people of runs that failed."""

    @dg.run_failure_sensor(
        name="run_failed",
        monitor_all_code_locations=True,  # runs of the command line are of none
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells IMAGESETS_WEBHOOK of runs that failed, whoever started them.",
    )
    def failed(context: dg.RunFailureSensorContext) -> None:
        run, failures = context.dagster_run, context.get_step_failure_events()
        now = context.instance.get_run_by_id(run.run_id)
        if now and now.status is dg.DagsterRunStatus.CANCELED:
            return  # who stops a refresh stops its run too, which Dagster first calls a failure
        if PART_OF in run.tags:
            return  # the refresh that started it fails too, and says why
        errors = [f"{event.step_key}: {runs.reason(event)}" for event in failures]
        error = "\n".join(errors) or context.failure_event.message or "it does not say why"
        text = f"Imagesets: run {run.run_id} of {run.job_name} failed.\n{error}"
        facts = {"run_id": run.run_id, "job": run.job_name, "error": error}
        notifications.post(webhook, text, facts, offline=offline)

    return failed
