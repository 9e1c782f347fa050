"""Per dataset: counts and intensities of each class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets import checks, metadata, spelling, tables
from assets.resources import Options, Store, Work
from pipelines import statistics
from pipelines.declarations import Dataset, Source
from pipelines.plan import Plan, Planned


def key(dataset: Dataset) -> dg.AssetKey:
    """Return the asset key of a dataset's statistics."""
    return dg.AssetKey([dataset.name, "statistics"])


def asset(plan: Plan, planned: Planned, source: Source, dataset: Dataset) -> dg.AssetsDefinition:
    """Return the asset of a dataset's statistics."""
    keys = [tables.key(dataset, split) for split in dataset.splits.values()]
    above = (plan.artefacts[path].asset for path in (*planned.needs, *planned.uses))

    @spelling.asset(
        key=key(dataset),
        deps=[dg.AssetKey(asset) for asset in dict.fromkeys(above)],
        kinds={"parquet", "numpy"},
        code_version=statistics.CODE_VERSION,
        check_specs=checks.statistics_specs(key(dataset), dataset),
        description=metadata.about(
            f"{dataset.title}: records, share, mean, standard deviation, extremes and mean image "
            "of each class, per split.",
            source,
            dataset,
        ),
        metadata=metadata.statistics_columns(dataset, [] if dataset.is_in_parts else keys),
        group_name=metadata.group("statistics", source, dataset),
        owners=metadata.OWNERS,
        tags=metadata.tags("statistics", source, dataset),
    )
    def statistics_table(
        store: Store, options: Options, work: dg.ResourceParam[Work]
    ) -> Iterator[Any]:
        yield from work.do(store, options, (dataset.name, "statistics"))

    return statistics_table
