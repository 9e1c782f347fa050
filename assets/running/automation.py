"""What starts runs: jobs for people, a schedule, sensors. What starts by itself is off at first.

Not here: what an asset does, or looking at mirrors (`mirrors`). Whoever installs Imagesets turns on
in the UI, under Automation, what is wanted: the schedule `weekly_refresh`, or the sensor
`mirrors_changed`, or `declarative`; one of them is enough.

`refresh` decides, then does: it looks at the mirrors, hashes what is here, and only where something
is missing, changed or made by older code starts a run of the assets that need it. Where nothing is,
it writes no artefact, materializes nothing, and says so.

Options that change the data (a header in CSV, the level of compression) stand in the launchpad of
the jobs that materialize assets, under `resources: options`. A refresh goes by the settings: what a
single run made otherwise, it makes again.

Annotations are not postponed here: Dagster reads that of an op's context.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
from pipelines.lineage.verification import Verdict

from assets import overview
from assets.archives import key
from assets.command_line.display import Display
from assets.definitions import define
from assets.running import mirrors, notifications, runs
from assets.settings import Settings
from pipelines.archives import probes
from pipelines.declarations import Catalogue, Dataset, Source
from pipelines.store import making

A_DAY_S = 24 * 60 * 60
A_FEW_MINUTES_S = 5 * 60
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
OUTCOME = "imagesets/outcome"  # tag of a refresh: what it came to
FETCH = (
    "Where a mirror has another version of a file (ETag, date), fetch it and hold it against the "
    "catalogue. It is thrown away again; what is in the data folder stays."
)
DEEP = "Decode the archives again, and compare every record of what was made from them."
HASH = "Hash every artefact anew. Otherwise only those whose size or time moved are."
PART_OF = "imagesets/refresh"  # tag of a run that a refresh started: which one


def definitions(settings: Settings, declared: Catalogue) -> dg.Definitions:
    """Return jobs, schedules, sensors and the checks of mirrors, for the assets of a catalogue."""
    refresh = _refresh(settings, declared)
    return dg.Definitions(
        jobs=[*_asset_jobs(settings, declared), refresh, _verify(settings, declared)],
        asset_checks=[_check(settings, declared, source) for source in declared.sources.values()],
        schedules=[
            dg.ScheduleDefinition(
                name="weekly_refresh",
                job=refresh,
                cron_schedule=settings.refresh_cron,
                execution_timezone=settings.refresh_timezone,
                default_status=dg.DefaultScheduleStatus.STOPPED,
                description="Refreshes at the time that IMAGESETS_REFRESH_CRON says.",
            )
        ],
        sensors=[
            _mirrors_changed(settings, declared, refresh),
            _mirror_died(settings, declared),
            _run_failed(settings),
            dg.AutomationConditionSensorDefinition(
                "declarative",
                target=dg.AssetSelection.all(),
                default_status=dg.DefaultSensorStatus.STOPPED,
                description="Makes what the conditions of the assets ask for.",
            ),
        ],
    )


def conditions(settings: Settings) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """Return a function that gives an asset the condition for the sensor `declarative`.

    Archives are looked at again when the schedule's time comes. Everything else is made when the
    bytes of what it is made from changed, or its code or its declaration; what comes out as it was
    ends the matter.
    """
    condition = dg.AutomationCondition
    due = condition.cron_tick_passed(settings.refresh_cron, settings.refresh_timezone)
    newer = condition.code_version_changed()
    missing = condition.missing() & ~condition.execution_failed()
    news = condition.any_deps_match(condition.data_version_changed())
    busy = condition.any_deps_in_progress() | condition.in_progress()
    sound = ~condition.any_deps_missing() & condition.all_deps_blocking_checks_passed()

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        cause: dg.AutomationCondition = (news if spec.deps else due) | newer
        wanted = cause.since_last_handled() | missing
        return spec.replace_attributes(automation_condition=wanted & sound & ~busy)

    return conditioned


def _asset_jobs(settings: Settings, declared: Catalogue) -> Iterator[dg.JobDefinition]:
    """Yield jobs that materialize assets, each with what they need."""
    everything = tuple(declared.datasets.values())

    def job(name: str, keys: Sequence[dg.AssetKey], description: str) -> dg.JobDefinition:
        of_mirrors = [dg.AssetCheckKey(key(name), mirrors.CHECK) for name in declared.sources]
        selection = dg.AssetSelection.assets(*keys) - dg.AssetSelection.checks(*of_mirrors)
        return dg.define_asset_job(name, selection, description=description)  # type: ignore

    yield job("everything", _keys(settings, declared, everything), "All assets.")
    for source in declared.sources.values():
        keys = _keys(settings, declared, tuple(source.datasets.values()))
        yield job(f"everything_of_{source.name}", keys, f"All assets of {source.title}.")
    yield job("archives", runs.keys(everything, ["archives"]), "The publishers' archives.")
    yield job("tables", runs.keys(everything, ["tables"]), "The tables, and the archives.")
    yield job("exports", runs.keys(everything, ["csv", "lmdb"]), "CSV and LMDB, and the tables.")


def _keys(
    settings: Settings, declared: Catalogue, datasets: Sequence[Dataset]
) -> list[dg.AssetKey]:
    """Return every asset of some datasets."""
    assets = {
        asset: None
        for dataset in datasets
        for asset, _ in overview.artefacts(declared, dataset, settings, lambda _table: None)
    }
    return [dg.AssetKey(asset) for asset in assets]


def _check(settings: Settings, declared: Catalogue, source: Source) -> dg.AssetChecksDefinition:
    """Return the check that a source's mirrors serve what the catalogue declares."""

    @dg.asset_check(
        asset=key(source.name),
        name=mirrors.CHECK,
        description="Every mirror that answers serves the bytes that the catalogue declares, as "
        "far as it can be told without fetching what did not change. Nothing depends on it.",
    )
    def mirrors_serve(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before = {source.name: mirrors.known(context.instance, source.name)}
        [found] = mirrors.look(declared, [source], settings, before, fetch=True)
        context.op_execution_context.log_event(found.observation())
        return found.result()

    return mirrors_serve


def _refresh(settings: Settings, declared: Catalogue) -> dg.JobDefinition:
    """Return the job that brings everything up to date, and does nothing where all is."""

    @dg.op(
        config_schema={"fetch_changed": dg.Field(bool, default_value=True, description=FETCH)},
        description="Look at every mirror of every archive; keep what is found.",
    )
    def look_at_mirrors(context: dg.OpExecutionContext) -> None:
        before = {name: mirrors.known(context.instance, name) for name in declared.sources}
        sources, fetch = declared.sources.values(), context.op_config["fetch_changed"]
        for found in mirrors.look(declared, sources, settings, before, fetch=fetch):
            context.log_event(found.observation())
            context.log_event(found.evaluation())  # type: ignore[arg-type] # it may be logged too
            alive = f"{sum(found.alive.values())} of {len(found.alive)} mirrors alive"
            context.log.info(f"{found.source}: {alive}")
            if found.trouble:
                context.log.error(f"{found.source}: {found.trouble}")

    @dg.op(
        ins={"looked": dg.In(dg.Nothing)},
        config_schema={"hash_everything": dg.Field(bool, default_value=True, description=HASH)},
        description="Hash every artefact; what rotted counts as not there.",
    )
    def verify_artefacts(context: dg.OpExecutionContext) -> None:
        if context.op_config["hash_everything"]:
            for verdict in _broken(settings, declared):
                context.log.error(f"{verdict.path}: {verdict.condition}: {verdict.why}")
                if verdict.condition == "changed":
                    making.distrust(settings.data, verdict.path, verdict.sha256)

    @dg.op(
        ins={"verified": dg.In(dg.Nothing)},
        description="Make what is missing, changed or made by older code; nothing else.",
    )
    def rebuild(context: dg.OpExecutionContext) -> None:
        datasets = declared.datasets
        found = {name: overview.reasons(declared, datasets[name], settings) for name in datasets}
        for path, reason in dict(item for of in found.values() for item in of.items()).items():
            context.log.info(f"{path}: {reason}")
        outcomes = []
        if stale := [datasets[name] for name, reasons in found.items() if reasons]:
            tags = {PART_OF: context.run_id}
            keys = _keys(settings, declared, stale)
            outcomes = runs.execute(context.instance, define(settings, retries=RETRIES), keys, tags)
        outcome = _in_words(outcomes)
        context.instance.add_run_tags(context.run_id, {OUTCOME: outcome})
        context.add_output_metadata({"outcome": outcome, "made": _made(outcomes)})
        context.log.info(outcome)
        if bad := [found for found in outcomes if not found.is_good]:
            errors = "\n".join(f"{found.asset}: {found.error}" for found in bad if found.error)
            raise dg.Failure(f"{outcome}.\n{errors}", allow_retries=False)

    @dg.job(description="Look at mirrors, hash what is here, make what is missing or changed.")
    def refresh() -> None:
        rebuild(verify_artefacts(look_at_mirrors()))

    return refresh


def _verify(settings: Settings, declared: Catalogue) -> dg.JobDefinition:
    """Return the job that looks at what is here, and changes nothing."""

    @dg.op(
        config_schema={"deep": dg.Field(bool, default_value=False, description=DEEP)},
        description="Hold every artefact against its record.",
    )
    def verify_everything(context: dg.OpExecutionContext) -> None:
        if broken := _broken(settings, declared, deep=context.op_config["deep"]):
            found = "\n".join(f"{v.path}: {v.condition}: {v.why}" for v in broken)
            text = (
                f"{found}\nThe job refresh, or python -m assets verify --repair, makes them again."
            )
            raise dg.Failure(text, allow_retries=False)

    @dg.job(description="Is every artefact still what it was made as? Changes nothing.")
    def verify() -> None:
        verify_everything()

    return verify


def _broken(settings: Settings, declared: Catalogue, *, deep: bool = False) -> list[Verdict]:
    """Return the artefacts that are not what they were made as, or would not be made so now."""
    datasets = tuple(declared.datasets.values())
    found = overview.verdicts(declared, datasets, settings, Display(), deep=deep)
    return [verdict for them in found.values() for verdict in them if not verdict.is_whole]


def _made(outcomes: Sequence[runs.Outcome]) -> list[str]:
    return [outcome.asset for outcome in outcomes if outcome.state == "made"]


def _in_words(outcomes: Sequence[runs.Outcome]) -> str:
    """Return what a refresh came to, in a few words."""
    states = [outcome.state for outcome in outcomes]
    if not set(states) - {"up to date"}:
        return "nothing to do"
    bad = {state: states.count(state) for state in ("failed", "blocked") if state in states}
    return ", ".join(
        [f"made {states.count('made')}", *(f"{n} {state}" for state, n in bad.items())]
    )


def _mirrors_changed(
    settings: Settings, declared: Catalogue, refresh: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor that looks at mirrors once a day, and refreshes when one has news."""

    @dg.sensor(
        job=refresh,
        minimum_interval_seconds=A_DAY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks at the mirrors once a day; starts a refresh when one serves another "
        "version than before.",
    )
    def mirrors_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
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

    return mirrors_changed


def _mirror_died(settings: Settings, declared: Catalogue) -> dg.SensorDefinition:
    """Return the sensor that tells people of mirrors that died or serve other bytes."""

    @dg.sensor(
        minimum_interval_seconds=A_FEW_MINUTES_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells IMAGESETS_WEBHOOK of mirrors that died or serve other bytes, once they "
        "were looked at: by a refresh, the sensor mirrors_changed, or a check.",
    )
    def mirror_died(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        standings = [
            s for name in declared.sources for s in mirrors.known(context.instance, name).values()
        ]
        trouble = {
            standing.probe.place: standing.wrong if standing.is_wrong else standing.probe.problem
            for standing in standings
            if standing.is_wrong or standing.probe.status == "dead"
        }
        told = json.loads(context.cursor or "{}")
        news = {place: why for place, why in trouble.items() if told.get(place) != why}
        if news:
            text = "\n".join(f"{place}: {why}" for place, why in news.items())
            said = f"Imagesets: {len(news)} file(s) can't be had from their mirrors.\n{text}"
            offline = settings.offline
            if not notifications.post(settings.webhook, said, {"error": text}, offline=offline):
                return dg.SkipReason("The webhook could not be told; it will be tried again.")
        context.update_cursor(json.dumps(trouble))
        return dg.SkipReason(f"Told of {len(news)} file(s)." if news else "No mirror died.")

    return mirror_died


def _run_failed(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that tells people of runs that failed."""

    @dg.run_failure_sensor(
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Tells IMAGESETS_WEBHOOK of runs that failed.",
    )
    def run_failed(context: dg.RunFailureSensorContext) -> None:
        run, failures = context.dagster_run, context.get_step_failure_events()
        errors = [f"{event.step_key}: {runs.reason(event)}" for event in failures]
        error = "\n".join(errors) or context.failure_event.message or "it does not say why"
        text = f"Imagesets: run {run.run_id} of {run.job_name} failed.\n{error}"
        facts = {"run_id": run.run_id, "job": run.job_name, "error": error}
        notifications.post(settings.webhook, text, facts, offline=settings.offline)

    return run_failed
