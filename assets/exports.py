"""Per dataset and split: the table in other people's formats, CSV and LMDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets import metadata, tables
from assets.resources import Options, Store
from pipelines.declarations import Dataset, Source, Split
from pipelines.exports import to_csv, to_lmdb
from pipelines.progress import Advance, Display
from pipelines.store.provenance import Artefact, Facts, Input


def csv(source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's CSV."""
    return _asset(
        source,
        dataset,
        split,
        "csv",
        f"{dataset.title}, {split.name}, as CSV: a record per line, its label, then every pixel.",
        metadata.csv_columns(dataset, tables.key(dataset, split)),
        to_csv.CODE_VERSION,
        lambda table, options: to_csv.artefact(
            source, dataset, split, table, header=options.csv_header
        ),
        lambda options: partial(to_csv.write, header=options.csv_header),
    )


def lmdb(source: Source, dataset: Dataset, split: Split) -> dg.AssetsDefinition:
    """Return the asset of a split's LMDB."""
    return _asset(
        source,
        dataset,
        split,
        "lmdb",
        f"{dataset.title}, {split.name}, as LMDB for Caffe: a Datum message per record, CHW.",
        metadata.lmdb_columns(dataset, tables.key(dataset, split)),
        to_lmdb.CODE_VERSION,
        lambda table, _options: to_lmdb.artefact(source, dataset, split, table),
        lambda _options: partial(to_lmdb.write, key_digits=to_lmdb.KEY_DIGITS[dataset.format]),
    )


def _asset(
    source: Source,
    dataset: Dataset,
    split: Split,
    kind: str,
    lead: str,
    columns: Mapping[str, Any],
    code_version: str,
    artefact: Callable[[tuple[Input, ...], Options], Artefact],
    writer: Callable[[Options], Callable[..., int]],
) -> dg.AssetsDefinition:
    @dg.asset(
        key=[dataset.name, f"{split.name}_{kind}"],
        deps=[tables.key(dataset, split)],
        kinds={kind},
        code_version=code_version,
        description=metadata.about(lead, source, dataset),
        metadata=columns,
        group_name=source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags(kind, source, dataset, split),
        output_required=False,
    )
    def export(
        store: Store, options: Options, display: dg.ResourceParam[Display]
    ) -> Iterator[dg.MaterializeResult]:
        if kind not in options.exports:
            return

        def build(goal: Path, advance: Advance) -> Facts:
            write = writer(options)
            return {"records": write(store.path(table.path), goal, advance=advance)}

        [table] = made_from = store.inputs(options.table(source, dataset, split))
        wanted = artefact(made_from, options)
        made = store.make(wanted, display, split.records, "records", build)
        yield metadata.materialized([made])

    return export
