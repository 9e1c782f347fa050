"""What verification finds, as asset checks: the very asset turns red, and says when it was read.

Verification itself knows nothing of Dagster. Whoever verifies tells what was found: the jobs
`verify` and `refresh` in their runs, the command line without a run. Two assets that no run makes
tell when all that is here was last verified: their freshness policies fail where that is long ago.

Not here: verifying (`pipelines.lineage`), or whether anybody is there to be told (`told`).

Annotations are not postponed here: Dagster reads that of a check's context.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

from assets import checks, metadata, spelling
from assets.running import overview, retention, runs
from assets.settings import Settings
from pipelines.declarations import Source
from pipelines.errors import StorageError
from pipelines.lineage import verify
from pipelines.lineage.shallow import Verdict
from pipelines.lineage.status import ever_made
from pipelines.plan import AssetPath, Plan
from pipelines.progress import Display
from pipelines.store import Store, provenance

VERIFIED = dg.AssetKey("verified")
DEEPLY = dg.AssetKey("verified_deeply")
# A week and a month, and some days for whoever begins late.
FRESH_DAYS = {VERIFIED: (8, 9), DEEPLY: (33, 35)}  # it warns after, and fails after

logger = logging.getLogger("pipelines.storage")  # to the person, as the warnings of the store


def tell(settings: Settings, plan: Plan, verdicts: Sequence[Verdict]) -> None:
    """Tell Dagster what was found, without a run; a warning says where that fails."""
    try:
        runs.home(settings)
        with runs.records(settings) as instance:
            for event in events(settings.store, plan, verdicts):
                instance.report_runless_asset_event(event)
            overview.tell(instance, settings, plan)
            retention.once_a_day(instance, settings)
    except (OSError, StorageError) as error:
        logger.warning("Dagster was not told what was found. %s", error)


def events(
    store: Store, plan: Plan, verdicts: Sequence[Verdict]
) -> list[dg.AssetCheckEvaluation | dg.AssetMaterialization]:
    """Return what was found just now: of each asset, and of all where all was verified."""
    found: list[dg.AssetCheckEvaluation | dg.AssetMaterialization] = [*evaluations(plan, verdicts)]
    seen = {verdict.path for verdict in verdicts}
    if all(one.path in seen for one in ever_made(store, plan.artefacts.values())):
        found += [_verified(key, verdicts) for key in _covered(plan, verdicts)]
    return found


def _covered(plan: Plan, verdicts: Sequence[Verdict]) -> list[dg.AssetKey]:
    """Return which kinds of verification all was covered by: what was not compared, was not."""
    compared = [
        one.is_deep and one.condition != "uncompared"
        for one in verdicts
        if one.has_recorded_bytes and plan.artefacts[one.path].can_be_compared
    ]
    is_deep = bool(compared) and all(compared)
    return [VERIFIED, DEEPLY] if is_deep else [VERIFIED] if verdicts else []


def _verified(key: dg.AssetKey, verdicts: Sequence[Verdict]) -> dg.AssetMaterialization:
    """Return what a verification of everything came to; its numbers plot over time."""
    broken = [_line(one) for one in verdicts if not one.is_whole]
    numbers = {"artefacts": len(verdicts), "not whole": len(broken)}
    return dg.AssetMaterialization(key, description="\n".join(broken) or None, metadata=numbers)


def assets() -> list[dg.AssetSpec]:
    """Return the assets that tell when all was last verified."""
    said = {
        VERIFIED: "When everything here was last read again and held against its provenance: by "
        "the job `verify`, the schedule `weekly_verify`, a refresh that hashed everything, or "
        "`python -m assets verify` of all datasets. One of some datasets does not count, and of "
        "each asset the check `bytes_as_recorded` says when it was.",
        DEEPLY: "When everything here was last compared with the publishers' archives, record by "
        "record: by the job `verify` with `deep: true`, the schedule `monthly_deep_verify`, or "
        "`python -m assets verify --deep` of all datasets, where no archive was missing.",
    }
    return [
        dg.AssetSpec(
            key,
            description=f"{words} The freshness policy fails after {FRESH_DAYS[key][1]} days.",
            group_name=overview.GROUP,
            owners=metadata.OWNERS,
            tags={"stage": "overview"},
            freshness_policy=dg.FreshnessPolicy.time_window(
                timedelta(days=FRESH_DAYS[key][1]), timedelta(days=FRESH_DAYS[key][0])
            ),
        )
        for key, words in said.items()
    ]


def evaluations(plan: Plan, verdicts: Iterable[Verdict]) -> list[dg.AssetCheckEvaluation]:
    """Return what was found just now, as evaluations of the checks of each asset."""
    by_asset: dict[AssetPath, list[Verdict]] = {}
    for verdict in verdicts:
        by_asset.setdefault(plan.artefacts[verdict.path].asset, []).append(verdict)
    now = time.time()
    told = []
    for asset, found in by_asset.items():
        changed = [_line(one) for one in found if not one.has_recorded_bytes]
        told.append(checks.integrity(asset, checks.BYTES, changed, len(found), now))
        if compared := [one for one in found if one.is_deep]:
            wrong = [one for one in compared if not one.is_whole]
            warns = all(one.condition == "uncompared" for one in wrong)
            lines, number = [_line(one) for one in wrong], len(compared)
            told.append(
                checks.integrity(
                    asset, checks.RECORDS, lines, number, now, warns=bool(wrong) and warns
                )
            )
    return told


def specs(plan: Plan, source: Source | None) -> list[dg.AssetCheckSpec]:
    """Return the checks of the integrity of all assets of a source, or of the catalogue."""
    wanted = plan.of_catalogue()
    if source:
        of_source = [*plan.archives_of(source), *plan.of(source.datasets.values())]
        wanted = [one for one in of_source if not one.is_of_catalogue]
    compared = {one.asset: one.can_be_compared for one in wanted}
    return [
        spec
        for asset, is_compared in compared.items()
        for spec in checks.integrity_specs(dg.AssetKey(asset), is_compared=is_compared)
    ]


def declared(store: Store, plan: Plan, source: Source | None) -> dg.AssetChecksDefinition:
    """Return the checks of all assets of a source, to be executed one by one or all at once.

    Without a source, of those of the catalogue, for which everything is read.

    A run that materializes assets does not verify them: what it makes, it tells of in its steps,
    and of what it finds as it was, what was last found still stands.
    """

    @spelling.multi_asset_check(
        name=f"integrity_of_{source.name if source else 'all_datasets'}",
        specs=specs(plan, source),
        can_subset=True,
        description="Reads again what is here; in a run that makes something, it reads nothing.",
    )
    def verified(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        asked = context.selected_asset_check_keys
        if context.job_def.asset_layer.selected_asset_keys:
            told = [_still_so(context.instance, store, plan, key) for key in asked]
        else:
            deep = any(key.name == checks.RECORDS for key in asked)
            of = {key.asset_key.path[0] for key in asked}
            known = source.datasets if source else plan.declared.datasets
            of = of & {*known} if source and source.name not in of else {*known}
            datasets = [known[name] for name in sorted(of)]
            verdicts = verify.verify(store, plan, datasets, Display(), deep=deep)
            told = [*evaluations(plan, verdicts), *_uncompared(plan, verdicts)]
        for one in told:
            if one and one.asset_check_key in asked:
                yield dg.AssetCheckResult(
                    passed=one.passed,
                    asset_key=one.asset_key,
                    check_name=one.check_name,
                    severity=one.severity,
                    description=one.description,
                    metadata=one.metadata,
                )

    return verified


def _still_so(
    instance: dg.DagsterInstance, store: Store, plan: Plan, key: dg.AssetCheckKey
) -> dg.AssetCheckEvaluation | None:
    """Return what a check found last; None where that was of bytes that are replaced by now."""
    ended = {Status.SUCCEEDED, Status.FAILED}
    history = instance.event_log_storage.get_asset_check_execution_history(key, 1, status=ended)
    made = [
        known.run.ended_s
        for one in plan.artefacts.values()
        if [*one.asset] == [*key.asset_key.path] and (known := provenance.latest(store, one.path))
    ]
    for record in history:
        entry = record.event
        if entry and entry.dagster_event and entry.timestamp >= max(made, default=0.0):
            return entry.dagster_event.asset_check_evaluation_data
    return None


def _uncompared(plan: Plan, verdicts: Sequence[Verdict]) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield of assets that could not be compared with their archives why they could not."""
    of = {one.path: plan.artefacts[one.path].asset for one in verdicts}
    compared = {of[one.path] for one in verdicts if one.is_deep}
    for asset in {*of.values()} - compared:
        lines = [_line(one) for one in verdicts if of[one.path] == asset]
        yield checks.integrity(asset, checks.RECORDS, lines, len(lines), time.time(), warns=True)


def _line(verdict: Verdict) -> str:
    return f"{verdict.path}: {verdict.condition}: {verdict.why}"
