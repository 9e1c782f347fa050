"""Per dataset: counts and intensities of each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import dagster as dg

from assets import checks, metadata, tables
from assets.ahead import Ahead
from assets.resources import Known, Made, Options, Plans, Store
from pipelines import statistics
from pipelines.declarations import Dataset, Source
from pipelines.plan import Plan, Planned
from pipelines.progress import Advance, Display
from pipelines.store import Facts, layout

T = TypeVar("T")


def key(dataset: Dataset) -> dg.AssetKey:
    """Return the asset key of a dataset's statistics."""
    return dg.AssetKey([dataset.name, "statistics"])


def asset(source: Source, dataset: Dataset) -> dg.AssetsDefinition:
    """Return the asset of a dataset's statistics."""
    keys = [tables.key(dataset, split) for split in dataset.splits.values()]

    @dg.asset(
        key=key(dataset),
        deps=keys,
        kinds={"parquet", "numpy"},
        code_version=statistics.CODE_VERSION,
        check_specs=checks.statistics_specs(key(dataset), dataset),
        description=metadata.about(
            f"{dataset.title}: records, share, mean, standard deviation, extremes and mean image "
            "of each class, per split.",
            source,
            dataset,
        ),
        metadata=metadata.statistics_columns(dataset, keys),
        group_name=source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags("statistics", source, dataset),
    )
    def statistics_table(
        store: Store,
        options: Options,
        display: dg.ResourceParam[Display],
        known: dg.ResourceParam[Known],
        plans: dg.ResourceParam[Plans],
        ahead: dg.ResourceParam[Ahead],
    ) -> dg.MaterializeResult:
        plan = plans.by(options)
        planned = plan.artefacts[layout.statistics(dataset.name)]
        made = ahead.take(make, store, plan, planned, display, known)
        with store.judging(made, dataset, known.fingerprints) as findings:
            told = metadata.of_statistics(made.path)
        for table in made.record.inputs:
            known.fingerprints.pop(str(table.sha256), None)  # nobody else needs them
        if not any(finding.blocks for finding in findings):
            ahead.ended_well([planned.path], store, plan, display, known)
        return metadata.materialized([made], told, checks.results(findings))

    return statistics_table


def make(store: Store, plan: Plan, planned: Planned, display: Display, known: Known) -> Made:
    """Bring a dataset's statistics up to date."""
    if planned.subject is None:
        raise TypeError(f"{planned.path} is of no dataset")
    inputs = store.inputs(plan, planned)
    paths = {str(table.sha256): store.path(table.path) for table in inputs}
    sums = _taken(known.sums, paths)
    artefact = planned.made_from(inputs)

    def build(goal: Path, advance: Advance) -> Facts:
        written = statistics.write(paths.values(), goal, advance, sums, artefact)
        return {"records": written}

    return store.make(artefact, display, planned.subject.records, "records", build)


def _taken(found: dict[str, T], paths: Mapping[str, Path]) -> dict[Path, T]:
    """Take what is known of some tables out of `found`, where nobody else needs it."""
    return {paths[sha256]: found.pop(sha256) for sha256 in paths if sha256 in found}
