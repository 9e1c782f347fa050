"""Per dataset and split: one Parquet table."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import archives, checks
from assets.display import Display
from assets.resources import Store, materialized
from pipelines import tables
from pipelines.archives import artefact as archive_artefact
from pipelines.catalogue import Dataset, Source, Split
from pipelines.lineage import Facts
from pipelines.work import Advance


def key(dataset: Dataset, split: Split) -> dg.AssetKey:
    """Return the asset key of a split's table."""
    return dg.AssetKey([dataset.name, split.name])


def asset(source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's table."""
    artefact = tables.artefact(source, dataset, split)
    verified = [archive_artefact(source, source.archives[name]) for name in split.archives]

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
        def build(goal: Path, advance: Advance) -> Facts:
            store.inputs(*verified)
            records = tables.write(source, dataset, split, folder, goal, advance)
            return {"records": records}

        folder = store.path(f"archives/{source.name}")

        made = store.make(artefact, display, split.records, "records", build)
        found = checks.results(checks.of_table(store.path(artefact.path), dataset, split))
        return materialized([made], checks=found)

    return table
