"""Per dataset: counts and intensities of each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import dagster as dg

from assets import checks, metadata, tables
from assets.resources import Known, Options, Plans, Store
from pipelines import statistics
from pipelines.declarations import Dataset, Source
from pipelines.progress import Advance, Display
from pipelines.statistics import expectations
from pipelines.store import Facts, layout

T = TypeVar("T")


def key(dataset: Dataset) -> dg.AssetKey:
    """Return the asset key of a dataset's statistics."""
    return dg.AssetKey([dataset.name, "statistics"])


def asset(source: Source, dataset: Dataset) -> dg.AssetsDefinition:
    """Return the asset of a dataset's statistics."""
    records = sum(split.records for split in dataset.splits.values())
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
    ) -> dg.MaterializeResult:
        plan = plans.by(options)
        planned = plan.artefacts[layout.statistics(dataset.name)]
        inputs = store.inputs(plan, planned)
        paths = {str(table.sha256): store.path(table.path) for table in inputs}
        sums = _taken(known.sums, paths)
        prints = _taken(known.fingerprints, paths)
        artefact = planned.made_from(inputs)

        def build(goal: Path, advance: Advance) -> Facts:
            written = statistics.write(paths.values(), goal, advance, sums, artefact)
            return {"records": written}

        made = store.make(artefact, display, records, "records", build)
        with store.judging(made) as findings:
            findings.extend(expectations.of_statistics(made.path, dataset))
            findings.extend(expectations.leaks(list(paths.values()), prints))
            told = metadata.of_statistics(made.path)
        return metadata.materialized([made], told, checks.results(findings))

    return statistics_table


def _taken(found: dict[str, T], paths: Mapping[str, Path]) -> dict[Path, T]:
    """Take what is known of some tables out of `found`, where nobody else needs it."""
    return {paths[sha256]: found.pop(sha256) for sha256 in paths if sha256 in found}
