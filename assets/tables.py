"""Per dataset and split: one Parquet table."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import archives, checks
from assets.display import Display
from assets.resources import Store, materialized
from pipelines import tables
from pipelines.catalogue import Dataset, Source, Split
from pipelines.lineage import Facts
from pipelines.work import Advance


def key(dataset: Dataset, split: Split) -> dg.AssetKey:
    """Return the asset key of a split's table."""
    return dg.AssetKey([dataset.name, split.name])


def asset(source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's table."""
    artefact = tables.artefact(source, dataset, split)

    @dg.asset(
        key=key(dataset, split),
        deps=[archives.key(source.name)],
        group_name=source.name,
        kinds={"parquet"},
        code_version=artefact.code_version,
        check_specs=checks.table_specs(key(dataset, split)),
        description=f"{dataset.title}, {split.name}: {split.records:,} images of {dataset.image} "
        f"in {len(dataset.classes)} classes, one row each.",
    )
    def table(store: Store, display: dg.ResourceParam[Display]) -> dg.MaterializeResult:
        archives_folder = store.path(f"archives/{source.name}")

        def build(goal: Path, advance: Advance) -> Facts:
            records = tables.write(source, dataset, split, archives_folder, goal, advance)
            return {"records": records}

        made = store.make(artefact, display, split.records, "records", build)
        found = checks.of_table(store.path(artefact.path), dataset, split)
        return materialized([made], checks=found)

    return table
