"""Per dataset and split: the table in other people's formats, CSV and LMDB."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets import tables
from assets.display import Display
from assets.resources import Store, materialized
from pipelines.catalogue import Dataset, Source, Split
from pipelines.exports import to_csv, to_lmdb
from pipelines.lineage import Facts
from pipelines.tables import artefact as table_artefact
from pipelines.work import Advance


def csv(source: Source, dataset: Dataset, split: Split, header: bool) -> dg.AssetsDefinition:
    """Return the asset of a split's CSV."""
    table = table_artefact(source, dataset, split)

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
            return {"records": to_csv.write(store.path(table.path), goal, header, advance)}

        artefact = to_csv.artefact(dataset, split, store.inputs(table), header)
        return materialized([store.make(artefact, display, split.records, "records", build)])

    return csv_export


def lmdb(source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's LMDB."""
    table = table_artefact(source, dataset, split)
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
            return {"records": to_lmdb.write(store.path(table.path), goal, digits, advance)}

        artefact = to_lmdb.artefact(dataset, split, store.inputs(table))
        return materialized([store.make(artefact, display, split.records, "records", build)])

    return lmdb_export
