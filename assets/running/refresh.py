"""The refresh: brings everything up to date, and does nothing where all is.

It decides, then does: it looks at the mirrors, hashes what is here, and only where something is
missing, changed or made by older code starts a run of the assets that need it. Where nothing is,
it writes no artefact, materializes nothing, and says so. It goes by the settings: what a single run
made with other options, it makes again. Datasets that nobody ever asked for are none of its
business (`jobs.kept`).

Not here: what an asset does, or looking at mirrors (`mirrors`).

Annotations are not postponed here: Dagster reads that of an op's context.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

from assets import graph
from assets.running import batches, integrity, jobs, mirrors, outcomes, runs, turns
from assets.running.outcomes import Outcome
from assets.settings import Settings
from pipelines import stages
from pipelines.lineage import status
from pipelines.plan import Plan, Step
from pipelines.stages import DEFAULT
from pipelines.store import making

OUTCOME = "imagesets/outcome"  # tag of a refresh: what it came to
PART_OF = "imagesets/refresh"  # tag of a run that a refresh started: which one
STARTED = "imagesets/started"  # tag of a refresh: the run that it started
FETCH = (
    "Where a mirror has another version of a file (ETag, date), fetch it and hold it against the "
    "catalogue. It is thrown away again; what is in the data folder stays."
)
HASH = "Hash every artefact anew. Otherwise only those whose size or time moved are."


def job(settings: Settings, plan: Plan) -> dg.JobDefinition:
    """Return the job `refresh`."""
    declared = plan.declared

    @dg.op(
        config_schema={"fetch_changed": dg.Field(bool, default_value=True, description=FETCH)},
        description="Look at every mirror of every archive; keep what is found.",
    )
    def look_at_mirrors(context: dg.OpExecutionContext) -> None:
        sources, fetch = jobs.sources_kept(settings, plan), context.op_config["fetch_changed"]
        if not sources:
            context.log.info(jobs.NOTHING_KEPT)
        before = {source.name: mirrors.known(context.instance, source.name) for source in sources}
        for found in mirrors.look(declared, sources, settings, before, fetch=fetch):
            for event in found.events:
                context.log_event(event)  # type: ignore[arg-type] # evaluations may be logged too
            alive = f"{sum(found.alive.values())} of {len(found.alive)} mirrors alive"
            context.log.info(f"{found.source}: {alive}")
            if found.events and found.trouble:
                context.log.error(f"{found.source}: {found.trouble}")

    @dg.op(
        ins={"looked": dg.In(dg.Nothing)},
        config_schema={"hash_everything": dg.Field(bool, default_value=True, description=HASH)},
        description="Hash every artefact; what rotted counts as not there.",
    )
    def verify_artefacts(context: dg.OpExecutionContext) -> None:
        if context.op_config["hash_everything"]:
            verdicts = jobs.found(settings.store, plan, jobs.kept(settings, plan))
            for event in integrity.events(settings.store, plan, verdicts):
                context.log_event(event)  # type: ignore[arg-type] # evaluations may be logged too
            broken = [verdict for verdict in verdicts if not verdict.is_whole]
            for verdict in broken:
                context.log.error(f"{verdict.path}: {verdict.condition}: {verdict.why}")
            making.distrust_changed(settings.store, broken)

    @dg.op(
        ins={"verified": dg.In(dg.Nothing)},
        description="Make what is missing, changed or made by older code; nothing else.",
    )
    def rebuild(context: dg.OpExecutionContext) -> None:
        sources = [source.name for source in jobs.sources_kept(settings, plan)]
        who = f"run {context.run_id[:8]} (refresh)"
        with turns.taken(settings, sources, who, context.log.info):
            done = brought_up_to_date(context)
        beyond = _broken_beyond(settings, plan)
        outcome = _in_words(done, len(beyond))
        made = [found.asset for found in done if found.state == "made"]
        context.instance.add_run_tags(context.run_id, {OUTCOME: outcome})
        context.add_output_metadata({"outcome": outcome, "made": made})
        context.log.info(outcome)
        if beyond or not all(found.is_good for found in done):
            told = [f"{found.asset}: {found.error}" for found in done if found.error]
            errors = "\n".join([*told, *beyond])
            raise dg.Failure(f"{outcome}.\n{errors}", allow_retries=False)

    def brought_up_to_date(context: dg.OpExecutionContext) -> list[Outcome]:
        """Start runs of what is out of date, if anything is; return what became of that.

        It is one run, but where parts that do not lie next to each other are out of date.
        """
        steps, found = _out_of_date(context.log, settings, plan), dict[Step, Outcome]()
        if not steps:
            return []
        assets = graph.assets_of(plan, graph.RETRIES, [asset for asset, _ in steps])
        definitions = graph.define(settings, plan, assets, exports=stages.named())
        links = {PART_OF: context.run_id}
        links |= dict.fromkeys((PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG), context.run_id)
        for batch in runs.in_turn(plan, batches.of(plan, steps), found):
            child = str(uuid.uuid4())
            context.instance.add_run_tags(context.run_id, {STARTED: child})
            of = f", {len(batch.parts)} parts" if batch.parts else ""
            context.log.info(f"run {child} makes {len(batch.assets)} assets{of}: /runs/{child}")
            with _its_own_log(context.log):
                found |= runs.execute_batch(
                    context.instance,
                    definitions,
                    batch,
                    "refresh_makes",
                    f"refresh {context.run_id[:8]}",
                    links,
                    child,
                )
        return outcomes.of_assets(plan, found)

    @dg.job(
        name="refresh",
        description="Look at mirrors, hash what is here, make what is missing or changed.",
    )
    def refreshing() -> None:
        rebuild(verify_artefacts(look_at_mirrors()))

    return refreshing


def weekly(refresh: dg.JobDefinition, cron: str, timezone: str) -> dg.ScheduleDefinition:
    """Return the schedule of the refresh, which is off at first."""
    return dg.ScheduleDefinition(
        name="weekly_refresh",
        job=refresh,
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Refreshes at the time that IMAGESETS_REFRESH_CRON says.",
    )


def _out_of_date(log: dg.DagsterLogManager, settings: Settings, plan: Plan) -> list[Step]:
    """Return what is not as it should be, by asset or part, and nothing else; log what is not.

    What is made from something that is out of date is so too, and what was made from bytes that
    changed since is in doubt. Everything else is left alone: Dagster would record it as
    materialized anew, though nothing was done.
    """
    kept, wanted = jobs.kept(settings, plan), jobs.to_keep(settings, plan)
    store = settings.store.at_once([one.path for one in wanted])
    found = status.states(store, wanted)
    reasons = {path: state.reason for path, state in found.items() if state.reason}
    for dataset in kept:
        failing = status.failing(store, dataset, found.keys() - reasons.keys())
        for path, findings in failing.items():
            reasons[path] = f"checks failed: {', '.join(one.check_name for one in findings)}"
    for path, state in found.items():
        if state.condition == "changed" and state.provenance:
            for doubtful in making.made_since(settings.store, state.provenance):
                reasons.setdefault(doubtful.path, f"it was made from {path}, whose bytes changed")
    for path, reason in reasons.items():
        log.info(f"{path}: {reason}")
    return plan.steps(one for one in wanted if one.path in reasons)


def _broken_beyond(settings: Settings, plan: Plan) -> list[str]:
    """Return what a refresh leaves broken: what was made on request, and is not as it was made."""
    kept = jobs.kept(settings, plan)
    default = {one.path for one in plan.of(kept, DEFAULT)}
    states = status.states(settings.store, status.asked_for(settings.store, plan, kept))
    return [
        f"{path}: {state.condition}: {state.reason}; a refresh does not make what was made on "
        "request, python -m assets verify --repair does"
        for path, state in states.items()
        if path not in default and state.provenance and state.condition in ("missing", "changed")
    ]


@contextlib.contextmanager
def _its_own_log(log: dg.DagsterLogManager) -> Iterator[None]:
    """Let a run within this one log for itself: the first to capture a line keeps it."""
    log.end_python_log_capture()
    try:
        yield
    finally:
        log.begin_python_log_capture()


def _in_words(outcomes: Sequence[Outcome], beyond: int) -> str:
    """Return what a refresh came to, in a few words."""
    states = [outcome.state for outcome in outcomes]
    if not beyond and not set(states) - {"up to date"}:
        return "nothing to do"
    bad: dict[str, int] = {
        state: states.count(state) for state in ("failed", "blocked") if state in states
    }
    if beyond:
        bad["broken, made on request"] = beyond
    return ", ".join(
        [f"made {states.count('made')}", *(f"{n} {state}" for state, n in bad.items())]
    )
