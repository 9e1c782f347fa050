"""Per dataset and split: the table in other people's formats, CSV and LMDB."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import tables
from assets.display import Display
from assets.resources import Store, materialized
from pipelines import files
from pipelines.catalogue import Dataset, Split
from pipelines.exports import to_csv, to_lmdb
from pipelines.lineage import Facts
from pipelines.work import Advance


def csv(dataset: Dataset, split: Split, header: bool) -> dg.AssetsDefinition:
    """Return the asset of a split's CSV."""
    table = files.table(dataset.name, split.name)

    @dg.asset(
        key=[dataset.name, f"{split.name}_csv"],
        deps=[tables.key(dataset, split)],
        group_name=dataset.source,
        kinds={"csv"},
        code_version=to_csv.CODE_VERSION,
        description=f"{dataset.title}, {split.name}, as CSV: label, then every pixel.",
    )
    def csv_export(store: Store, display: dg.ResourceParam[Display]) -> dg.MaterializeResult:
        def build(goal: Path, advance: Advance) -> Facts:
            return {"records": to_csv.write(store.path(table), goal, header, advance)}

        artefact = to_csv.artefact(dataset, split, store.digests(table), header)
        return materialized([store.make(artefact, display, split.records, "records", build)])

    return csv_export


def lmdb(dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's LMDB."""
    table = files.table(dataset.name, split.name)
    digits = to_lmdb.KEY_DIGITS[dataset.format]

    @dg.asset(
        key=[dataset.name, f"{split.name}_lmdb"],
        deps=[tables.key(dataset, split)],
        group_name=dataset.source,
        kinds={"lmdb"},
        code_version=to_lmdb.CODE_VERSION,
        description=f"{dataset.title}, {split.name}, as LMDB for Caffe: Datum messages, CHW.",
    )
    def lmdb_export(store: Store, display: dg.ResourceParam[Display]) -> dg.MaterializeResult:
        def build(goal: Path, advance: Advance) -> Facts:
            return {"records": to_lmdb.write(store.path(table), goal, digits, advance)}

        artefact = to_lmdb.artefact(dataset, split, store.digests(table))
        return materialized([store.make(artefact, display, split.records, "records", build)])

    return lmdb_export
