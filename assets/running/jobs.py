"""Jobs that people start: they materialize assets, or verify what is here.

Not here: the job that decides what to make (`refresh`).

Options that change the data (a header in CSV, the level of compression) stand in the launchpad of
the jobs that materialize assets, under `resources: options`.

Annotations are not postponed here: Dagster reads that of an op's context.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import dagster as dg

from assets import spelling
from assets.running import integrity
from assets.settings import Settings
from pipelines.declarations import Dataset, Source
from pipelines.errors import UnknownName
from pipelines.lineage import status
from pipelines.lineage import verify as verification
from pipelines.lineage.shallow import Verdict
from pipelines.plan import Plan, Planned
from pipelines.progress import Display
from pipelines.stages import DEFAULT, known, selected
from pipelines.store import Store, layout

NOTHING_KEPT = (
    "No dataset was ever made here, and IMAGESETS_DATASETS names none: there is nothing to keep up "
    "to date."
)
OP = "verify_everything"  # of the job verify
DEEP = "Decode the archives again, and compare every record of what was made from them."


def of_assets(plan: Plan, exports: Collection[str]) -> Iterator[dg.JobDefinition]:
    """Yield jobs that materialize assets, each with what they need; `exports` are those made.

    What is made of a source on request is in the job of that source, and in no other.
    """
    declared, default = plan.declared, selected([], exports)
    apart = [
        spec.key
        for source in (*declared.sources.values(), None)
        for spec in integrity.specs(plan, source)
    ]
    # Dagster has jobs of parts of one split at most, and then of parts that somebody names.
    everything = tuple(one for one in declared.by_default if not one.is_in_parts)

    def job(name: str, keys: Sequence[dg.AssetKey], description: str) -> dg.JobDefinition:
        selection = dg.AssetSelection.assets(*keys) - dg.AssetSelection.checks(*apart)
        return dg.define_asset_job(name, selection, description=description)  # type: ignore

    said = f"All assets, of exports: {', '.join(exports)}."
    if everything:
        yield job("everything", keys_of(plan, everything, default), said)
    for source in declared.sources.values():
        if not plan.of(source.datasets.values(), ("tables",)):
            continue  # nobody ever asked for it
        keys = keys_of(plan, source.datasets.values(), default)
        if len({parts for key in keys if (parts := plan.parts((key.path[0], key.path[1])))}) <= 1:
            yield job(
                f"everything_of_{spelling.legal(source.name)}", keys, f"{source.title}: {said}"
            )
    for name, description in (
        ("archives", "The publishers' archives."),
        ("tables", "The tables, and the archives."),
        ("exports", f"The exports {', '.join(exports)}, and what they are made from."),
    ):
        if everything:
            yield job(name, keys_of(plan, everything, known(exports)[name]), description)


def keys_of(
    plan: Plan, datasets: Iterable[Dataset], stages: Collection[str] = DEFAULT
) -> list[dg.AssetKey]:
    """Return the assets of some stages of some datasets, and what they need, in order."""
    return [dg.AssetKey(asset) for asset in plan.assets(plan.of(datasets, stages))]


def sources_kept(settings: Settings, plan: Plan) -> list[Source]:
    """Return the sources of the datasets that are kept up to date."""
    found = dict.fromkeys(dataset.source for dataset in kept(settings, plan))
    return [plan.declared.sources[name] for name in found]


def kept(settings: Settings, plan: Plan) -> tuple[Dataset, ...]:
    """Return the datasets that are kept up to date where no person asks for any.

    Those that the settings name; or else those of which a table was ever made here, by whatever
    run: nobody wants a gigabyte fetched because a switch was turned on.

    Raises:
        UnknownName: the settings name what the catalogue does not know.
    """
    if settings.datasets:
        try:
            return plan.declared.select(settings.datasets)
        except UnknownName as error:
            raise UnknownName(f"IMAGESETS_DATASETS: {error}") from error
    return tuple(
        dataset
        for dataset in plan.declared.datasets.values()
        if _ever_made(settings.store, plan, dataset)
    )


def to_keep(settings: Settings, plan: Plan) -> list[Planned]:
    """Return what is kept up to date of the datasets that are: what a build makes by default.

    Of splits in parts, it is those that were ever made. Of a source that is made on request, and
    that the settings do not name, it is no more than was ever made: who had a part of it wants no
    other fetched.
    """
    wanted = status.asked_for(settings.store, plan, kept(settings, plan), DEFAULT)
    on_request = [one for one in wanted if not settings.datasets and one.source.on_request]
    asked = status.ever_made(settings.store, on_request) if on_request else []
    paths = {one.path for one in on_request} - {one.path for one in asked}
    return [one for one in wanted if one.path not in paths]


def _ever_made(store: Store, plan: Plan, dataset: Dataset) -> bool:
    """Whether a table has provenance, be it that of the past: rotten bytes leave nothing else."""
    if dataset.is_in_parts:  # one look at all of them
        tables = (one for s in dataset.splits for one in plan.of_asset((dataset.name, s)))
        return bool(status.ever_made(store, tables))
    return any(_was_made(store, layout.table(dataset.name, split)) for split in dataset.splits)


def _was_made(store: Store, table: str) -> bool:
    past = layout.past_lineage(table, "any").rpartition("/")[0]
    return store.stat(layout.lineage(table)) is not None or bool(store.names(past))


def verify(store: Store, plan: Plan) -> dg.JobDefinition:
    """Return the job that looks at what is here, and changes nothing."""

    @dg.op(
        name=OP,
        config_schema={"deep": dg.Field(bool, default_value=False, description=DEEP)},
        description="Hold every artefact against its provenance.",
    )
    def verify_everything(context: dg.OpExecutionContext) -> None:
        verdicts = found(store, plan, deep=context.op_config["deep"])
        for event in integrity.events(store, plan, verdicts):
            context.log_event(event)  # type: ignore[arg-type] # evaluations may be logged too
        if broken := [verdict for verdict in verdicts if not verdict.is_whole]:
            lines = "\n".join(f"{v.path}: {v.condition}: {v.why}" for v in broken)
            text = f"{lines}\npython -m assets verify --repair makes them again."
            raise dg.Failure(text, allow_retries=False)

    @dg.job(
        name="verify", description="Is every artefact still what it was made as? Changes nothing."
    )
    def verifying() -> None:
        verify_everything()

    return verifying


def verifying(
    settings: Settings, plan: Plan, verify: dg.JobDefinition
) -> list[dg.ScheduleDefinition]:
    """Return the schedules of the verification, which are off at first.

    They verify what was ever made here; where nothing was, they start no run.
    """

    def schedule(name: str, cron: str, what: str, *, deep: bool) -> dg.ScheduleDefinition:
        def ticked(_: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            if not kept(settings, plan):
                return dg.SkipReason(NOTHING_KEPT)
            return dg.RunRequest(run_config={"ops": {OP: {"config": {"deep": deep}}}})

        return dg.ScheduleDefinition(
            name=name,
            job=verify,
            cron_schedule=cron,
            execution_timezone=settings.refresh_timezone,
            execution_fn=ticked,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=f"{what}, at the time that IMAGESETS_{name.partition('_')[2].upper()}_CRON "
            "says.",
        )

    weekly, monthly = settings.verify_cron, settings.deep_verify_cron
    return [
        schedule("weekly_verify", weekly, "Hashes everything that is here", deep=False),
        schedule(
            "monthly_deep_verify",
            monthly,
            "Compares everything that is here with the publishers' archives, record by record",
            deep=True,
        ),
    ]


def found(
    store: Store, plan: Plan, datasets: Sequence[Dataset] | None = None, *, deep: bool = False
) -> list[Verdict]:
    """Return what became of every artefact that was ever made, all hashed anew.

    Of all datasets, where none are given.
    """
    datasets = tuple(plan.declared.datasets.values()) if datasets is None else datasets
    return verification.verify(store, plan, datasets, Display(), deep=deep)
