"""What verification finds, as asset checks: the very asset turns red, and says when it was read.

Verification itself knows nothing of Dagster. Whoever verifies tells what was found: the jobs
`verify` and `refresh` in their runs, the command line without a run.

Not here: verifying (`pipelines.lineage`), or whether anybody is there to be told (`told`).

Annotations are not postponed here: Dagster reads that of a check's context.
"""

import logging
import time
from collections.abc import Iterable, Iterator

import dagster as dg

from assets import checks
from assets.running import runs
from assets.settings import Settings
from pipelines.declarations import Source
from pipelines.errors import StorageError
from pipelines.lineage import verify
from pipelines.lineage.shallow import Verdict
from pipelines.plan import AssetPath, Plan
from pipelines.progress import Display
from pipelines.store import Store

logger = logging.getLogger("pipelines.storage")  # to the person, as the warnings of the store


def tell(settings: Settings, plan: Plan, verdicts: Iterable[Verdict]) -> None:
    """Tell Dagster what was found, without a run; a warning says where that fails."""
    try:
        runs.home(settings)
        with runs.records(settings) as instance:
            for evaluation in evaluations(plan, verdicts):
                instance.report_runless_asset_event(evaluation)
    except (OSError, StorageError) as error:
        logger.warning("Dagster was not told what was found. %s", error)


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


def specs(plan: Plan, source: Source) -> list[dg.AssetCheckSpec]:
    """Return the checks of the integrity of all assets of a source."""
    of_source = [*plan.archives_of(source), *plan.of(source.datasets.values())]
    archives = {one.asset: one.subject is None for one in of_source}
    return [
        spec
        for asset, is_archive in archives.items()
        for spec in checks.integrity_specs(dg.AssetKey(asset), is_archive=is_archive)
    ]


def declared(store: Store, plan: Plan, source: Source) -> dg.AssetChecksDefinition:
    """Return the checks of all assets of a source, to be executed one by one or all at once.

    A run that materializes assets does not verify them: what it makes, it tells of in its steps.
    """

    @dg.multi_asset_check(
        name=f"integrity_of_{source.name}",
        specs=specs(plan, source),
        can_subset=True,
        description="Reads again what is here; in a run that makes something, it does nothing.",
    )
    def verified(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        if context.job_def.asset_layer.selected_asset_keys:
            return
        asked = context.selected_asset_check_keys
        deep = any(key.name == checks.RECORDS for key in asked)
        datasets = tuple(source.datasets.values())
        found = verify.verify(store, plan, datasets, Display(), deep=deep)
        for one in evaluations(plan, found):
            if one.asset_check_key in asked:
                yield dg.AssetCheckResult(
                    passed=one.passed,
                    asset_key=one.asset_key,
                    check_name=one.check_name,
                    severity=one.severity,
                    description=one.description,
                    metadata=one.metadata,
                )

    return verified


def _line(verdict: Verdict) -> str:
    return f"{verdict.path}: {verdict.condition}: {verdict.why}"
