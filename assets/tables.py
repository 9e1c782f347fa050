"""Per dataset and split: one Parquet table."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dagster as dg

from assets import archives, checks, metadata
from assets.resources import Known, Options, Plans, Store
from pipelines import statistics, tables
from pipelines.declarations import Dataset, Source, Split
from pipelines.progress import Advance, Display
from pipelines.stages import COMPRESSION
from pipelines.statistics import duplicates, expectations
from pipelines.store import Facts, layout


def key(dataset: Dataset, split: Split) -> dg.AssetKey:
    """Return the asset key of a split's table."""
    return dg.AssetKey([dataset.name, split.name])


def asset(path: str, source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's table, which lies at `path`."""

    @dg.asset(
        key=key(dataset, split),
        deps=[archives.key(source.name)],
        kinds={"parquet"},
        code_version=tables.code_version(dataset),
        check_specs=checks.table_specs(key(dataset, split)),
        description=metadata.about(
            f"{dataset.title}, {split.name}: {split.records:,} images of {dataset.image} pixels "
            f"in {len(dataset.classes)} classes, one row each, as a Parquet table.",
            source,
            dataset,
        ),
        metadata=metadata.table_columns(source, dataset, split, archives.key(source.name)),
        group_name=source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags("tables", source, dataset, split),
    )
    def table(
        store: Store,
        options: Options,
        display: dg.ResourceParam[Display],
        known: dg.ResourceParam[Known],
        plans: dg.ResourceParam[Plans],
    ) -> dg.MaterializeResult:
        plan = plans.by(options)
        planned = plan.artefacts[path]
        found = statistics.nothing(len(dataset.classes), dataset.image.shape)

        def build(goal: Path, advance: Advance) -> Facts:
            store.inputs(plan, planned)
            level = options.chosen[COMPRESSION.name]
            records = tables.write(
                source, dataset, split, folder, goal, advance, add, compression_level=level
            )
            return {"records": records}

        folder = store.path(layout.archives(source.name))
        add = partial(statistics.add, found)
        made = store.make(planned.artefact(), display, split.records, "records", build)
        if made.because:
            known.sums[made.record.sha256] = found
        with store.judging(made) as findings:
            prints = duplicates.fingerprints(made.path)
            known.fingerprints[made.record.sha256] = prints
            findings.extend(expectations.of_table(made.path, dataset, split))
            findings.append(expectations.duplicates_within(made.path, prints))
            told = metadata.of_table(made.path)
        return metadata.materialized([made], told, checks.results(findings))

    return table
