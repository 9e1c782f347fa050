"""Per dataset: counts and intensities of each class."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import checks, tables
from assets.display import Display
from assets.resources import Store, SumsAtHand, materialized
from pipelines import statistics
from pipelines.catalogue import Dataset, Source
from pipelines.lineage import Facts
from pipelines.tables import artefact as table_artefact
from pipelines.work import Advance


def key(dataset: Dataset) -> dg.AssetKey:
    """Return the asset key of a dataset's statistics."""
    return dg.AssetKey([dataset.name, "statistics"])


def asset(source: Source, dataset: Dataset) -> dg.AssetsDefinition:
    """Return the asset of a dataset's statistics."""
    needed = [table_artefact(source, dataset, split) for split in dataset.splits.values()]
    records = sum(split.records for split in dataset.splits.values())

    @dg.asset(
        key=key(dataset),
        deps=[tables.key(dataset, split) for split in dataset.splits.values()],
        group_name=dataset.source,
        kinds={"parquet", "numpy"},
        code_version=statistics.CODE_VERSION,
        check_specs=checks.statistics_specs(key(dataset), dataset),
        description=f"{dataset.title}: records, share, mean, standard deviation, extremes and mean "
        "image of each class, per split.",
    )
    def statistics_table(
        store: Store, display: dg.ResourceParam[Display], sums: dg.ResourceParam[SumsAtHand]
    ) -> dg.MaterializeResult:
        inputs = store.inputs(*needed)
        at_hand = {
            store.path(table.path): sums.pop(table.sha256)
            for table in inputs
            if table.sha256 in sums
        }

        artefact = statistics.artefact(source, dataset, inputs)

        def build(goal: Path, advance: Advance) -> Facts:
            paths = [store.path(table.path) for table in inputs]
            return {"records": statistics.write(paths, goal, advance, at_hand, artefact)}

        made = store.make(artefact, display, records, "records", build)
        path = store.path(made.record.path)
        classes = dg.MetadataValue.md(statistics.counts_as_text(path, markdown=True))
        return materialized(
            [made], {"classes": classes}, checks.results(checks.of_statistics(path, dataset))
        )

    return statistics_table
