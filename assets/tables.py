"""Per dataset and split: one Parquet table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets import archives, checks, metadata, partitions, spelling
from assets.resources import Options, Store, Work
from pipelines import tables
from pipelines.declarations import Dataset, Source, Split


def key(dataset: Dataset, split: Split) -> dg.AssetKey:
    """Return the asset key of a split's table."""
    return dg.AssetKey([dataset.name, split.name])


def asset(
    source: Source, dataset: Dataset, split: Split, parts: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """Return the asset of a split's table, or of the tables of its `parts`."""

    @spelling.asset(
        key=key(dataset, split),
        deps=[archives.key(source.name)],
        kinds={"parquet"},
        code_version=tables.code_version(dataset),
        check_specs=checks.table_specs(key(dataset, split), in_parts=bool(parts)),
        description=metadata.about(
            f"{dataset.title}, {split.name}: {split.records:,} images of {dataset.image} pixels "
            f"in {len(dataset.classes)} classes, one row each, as {_form(parts)}.",
            source,
            dataset,
        ),
        metadata=metadata.table_columns(source, dataset, split, archives.key(source.name)),
        group_name=metadata.group("tables", source, dataset),
        owners=metadata.OWNERS,
        tags=metadata.tags("tables", source, dataset, split),
        partitions_def=partitions.definition(tuple(parts)),
    )
    def table(store: Store, options: Options, work: dg.ResourceParam[Work]) -> Iterator[Any]:
        yield from work.do(store, options, (dataset.name, split.name))

    return table


def _form(parts: Sequence[str]) -> str:
    return f"{len(parts):,} Parquet tables, one for each part" if parts else "a Parquet table"
