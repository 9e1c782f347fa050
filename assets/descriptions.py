"""Per dataset: its description for machine-learning catalogues, in Croissant's JSON-LD."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import metadata, tables
from assets.resources import Options, Store
from pipelines.declarations import Dataset, Source
from pipelines.descriptions import croissant
from pipelines.progress import Advance, Display
from pipelines.store.provenance import Facts


def asset(source: Source, dataset: Dataset) -> dg.AssetsDefinition:
    """Return the asset of a dataset's Croissant document."""
    records = sum(split.records for split in dataset.splits.values())

    @dg.asset(
        key=[dataset.name, "croissant"],
        deps=[tables.key(dataset, split) for split in dataset.splits.values()],
        kinds={"json"},
        code_version=croissant.CODE_VERSION,
        description=metadata.about(
            f"{dataset.title} as Croissant 1.0: words, files and record sets, for machine-learning "
            "catalogues.",
            source,
            dataset,
        ),
        group_name=source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags("croissant", source, dataset),
    )
    def document(
        store: Store, options: Options, display: dg.ResourceParam[Display]
    ) -> dg.MaterializeResult:
        needed = (options.table(source, dataset, split) for split in dataset.splits.values())
        inputs = store.inputs(*needed)

        def build(goal: Path, advance: Advance) -> Facts:
            croissant.write(source, dataset, inputs, goal)
            advance(records)
            return {}

        artefact = croissant.artefact(source, dataset, inputs)
        made = store.make(artefact, display, records, "records", build)
        return metadata.materialized([made])

    return document
