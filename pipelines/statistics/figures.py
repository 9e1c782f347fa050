"""Statistics: how many records each class has, and how bright they are.

Not here: adding records up (`sums`), or judging the figures (`expectations`).

A row stands for a class of a split, or for all classes of a split together; `COLUMNS` defines each
figure. An intensity is one channel of one pixel. `channel_…` columns hold the same per channel, as
lists of 1 (grey) or 3 (red, green, blue). A class without records has nulls; a split without
labels has the row over all classes alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import tables
from ..declarations import Dataset, Source
from ..errors import ArtefactError, TableError
from ..progress import Advance, silent
from ..reading import parts
from ..records import Pixels, label_type
from ..store import Artefact, Input, layout, writing
from .sums import Counters, Sums, load, summarise

if TYPE_CHECKING:
    import polars as pl

CODE_VERSION = "2"  # raise when a figure or a column can change

_FIGURES = {
    "mean_intensity": "Sum of all intensities / their number; 0–255.",
    "std_intensity": "Population standard deviation: sqrt(sum of squares / number − mean²); 0–255.",
    "min_intensity": "The smallest intensity; 0–255.",
    "max_intensity": "The largest intensity; 0–255.",
}
COLUMNS = {
    "dataset": "The dataset.",
    "split": "The split.",
    "label": tables.COLUMNS["label"] + " Null in the row over all classes.",
    "class": "What the label means. Null in the row over all classes.",
    "records": "How many records there are.",
    "share": "Records / records of the split.",
    **_FIGURES,
    "nonzero_share": "How many intensities are not 0 / their number; 0–1.",
    **{f"channel_{name}": f"For each channel: {text}" for name, text in _FIGURES.items()},
    "mean_image": "For each pixel and channel, the mean over the records; 0–255.",
}


def made_from(column: str) -> tuple[str, ...]:
    """Return the columns of a table that a figure is computed from."""
    if column in ("label", "class"):
        return (column,)
    of_labels = {"dataset": (), "split": (), "records": ("label",), "share": ("label",)}
    return of_labels.get(column, ("pixels", "label"))


def artefact(source: Source, dataset: Dataset, inputs: tuple[Input, ...]) -> Artefact:
    """Return a dataset's statistics as an artefact of its tables."""
    parameters = {
        "dataset": dataset.name,
        "splits": list(dataset.splits),
        "archives": {
            layout.archive(source.name, name): source.archives[name].hashes
            for split in dataset.splits.values()
            for name in split.archives
        },
    }
    path = layout.statistics(dataset.name)
    return Artefact(path, "statistics", CODE_VERSION, parameters, inputs)


def write(
    paths: Iterable[Path],
    goal: Path,
    advance: Advance = silent,
    known: Mapping[Path, Sums] = MappingProxyType({}),
    made_from: Artefact | None = None,
) -> int:
    """Write the statistics of the splits whose tables are given; return the rows.

    Args:
        paths: the tables.
        goal: where the statistics go.
        advance: called with how many records were added up.
        known: the sums of some of the tables, which are then not read: who writes a table can
            have them for less (`observe` of `tables.write`, `add`).
        made_from: stands in the file's metadata: the dataset, its archives and its tables.

    Raises:
        TableError: a path holds no table of ours.
        StorageError: `goal` can't be written.
    """
    found = []
    for path in paths:
        about = tables.info(path)
        if path in known:
            advance(about.records)
        found.append(rows(about, known[path] if path in known else summarise(path, advance)))
    return _write(pa.concat_tables(found), goal, made_from)


def write_of_parts(
    splits: Iterable[tuple[tables.Info, Iterable[Path]]],
    goal: Path,
    advance: Advance = silent,
    made_from: Artefact | None = None,
) -> int:
    """Write the statistics of splits whose parts have sums already; return the rows.

    Args:
        splits: what there is to know of each split, and the files of sums of those parts of it that
            are here.
        goal: where the statistics go.
        advance: called with how many records were added up.
        made_from: as of `write`.

    Raises:
        ArtefactError: a file holds no sums of ours, or there is none.
        StorageError: `goal` can't be written.
    """
    found = []
    for about, paths in splits:
        total = load(paths, about)
        advance(int(total.records.sum()))
        found.append(rows(about, total))
    if not found:
        raise ArtefactError(parts.none_of("this dataset"))
    return _write(pa.concat_tables(found), goal, made_from)


def _write(table: pa.Table, goal: Path, made_from: Artefact | None) -> int:
    if made_from is not None:
        said = {
            **made_from.parameters,
            "inputs": {i.path: {"sha256": i.sha256} for i in made_from.inputs},
        }
        key = tables.METADATA_KEY.decode()
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), key: json.dumps(said, ensure_ascii=False)}
        )
    with writing.atomic(goal) as partial:
        pq.write_table(table, partial, compression="zstd", compression_level=1)
    return int(table.num_rows)


def rows(about: tables.Info, sums: Sums) -> pa.Table:
    """Return the statistics of a split: a row for each class, then one over all classes.

    A split without labels has the last one alone.
    """
    everything = Sums(
        sums.records.sum(keepdims=True),
        sums.sum.sum(axis=0, keepdims=True),
        sums.squares.sum(axis=0, keepdims=True),
        sums.nonzero.sum(keepdims=True),
        sums.least.min(axis=0, keepdims=True),
        sums.most.max(axis=0, keepdims=True),
    )
    records = int(everything.records[0])
    split = {"dataset": about.dataset, "split": about.split}
    found = [
        split | {"label": label, "class": name} | _row(sums, label, records)
        for label, name in enumerate(about.classes if about.labelled else ())
    ]
    found.append(split | {"label": None, "class": None} | _row(everything, 0, records))
    return pa.Table.from_pylist(found, schema=arrow_schema(about.shape, len(about.classes)))


def counts(path: Path) -> pl.DataFrame:
    """Return the classic table of a statistics file: a row per class, a column per split.

    The columns are `class`, then the records in each split; the last row holds the totals. A split
    without labels has nothing but its total.

    Raises:
        TableError: the file is damaged, or none of ours.
    """
    import polars as pl  # a third of the time of `list`, which needs none of it

    try:
        found = pl.read_parquet(path, columns=["split", "label", "class", "records"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(
            f"{path} holds no statistics of ours: {error}. Build them again."
        ) from error
    return (
        found.pivot("split", index=["label", "class"], values="records")
        .with_columns(pl.col("class").cast(pl.String).fill_null("total"))
        .drop("label")
    )


def arrow_schema(shape: tuple[int, int, int], classes: int) -> pa.Schema:
    """Return the columns of the statistics of images of some shape, in so many classes."""
    channels = shape[2]
    figures = [
        ("mean_intensity", pa.float64()),
        ("std_intensity", pa.float64()),
        ("min_intensity", pa.uint8()),
        ("max_intensity", pa.uint8()),
    ]
    size = math.prod(shape)
    return pa.schema(
        [
            ("dataset", pa.string()),
            ("split", pa.string()),
            ("label", pa.from_numpy_dtype(label_type(classes))),
            ("class", pa.string()),
            ("records", pa.uint64()),
            ("share", pa.float64()),
            *figures,
            ("nonzero_share", pa.float64()),
            *((f"channel_{name}", pa.list_(kind, channels)) for name, kind in figures),
            ("mean_image", pa.list_(pa.float32(), size)),
        ],
        {"shape": ",".join(map(str, shape))},
    )


def _row(sums: Sums, label: int, of_records: int) -> dict[str, Any]:
    records = int(sums.records[label])
    row: dict[str, Any] = {"records": records, "share": records / of_records if of_records else 0.0}
    if not records:
        return row
    least, most = sums.least[label], sums.most[label]
    size = sums.sum[label].size
    channels = sums.sum.shape[-1]
    whole = _figures(sums.sum[label], sums.squares[label], least, most, records)
    each = [
        _figures(
            sums.sum[label, ..., c],
            sums.squares[label, ..., c],
            least[..., c],
            most[..., c],
            records,
        )
        for c in range(channels)
    ]
    return (
        row
        | whole
        | {f"channel_{name}": [figures[name] for figures in each] for name in whole}
        | {
            "nonzero_share": int(sums.nonzero[label]) / (records * size),
            "mean_image": (sums.sum[label] / records).astype(np.float32).ravel(),
        }
    )


def _figures(
    sums: Counters, squares: Counters, least: Pixels, most: Pixels, records: int
) -> dict[str, float | int]:
    number = records * sums.size
    total, total_squares = int(sums.sum()), int(squares.sum())
    # As integers up to the one division: no cancellation, and the same on every machine.
    variance = (number * total_squares - total * total) / (number * number)
    return {
        "mean_intensity": total / number,
        "std_intensity": math.sqrt(variance),
        "min_intensity": int(least.min()),
        "max_intensity": int(most.max()),
    }


def counts_as_rows(path: Path) -> list[list[str]]:
    """Return the classic table, category × split with totals, as text; the first row has names.

    Raises:
        TableError: the file is damaged, or none of ours.
    """
    found = counts(path)
    lines = [
        [name, *("" if number is None else f"{number:,}" for number in numbers)]
        for name, *numbers in found.rows()
    ]
    return [["category", *found.columns[1:]], *lines]


def counts_as_markdown(path: Path) -> str:
    """Return the classic table as markdown."""
    header, *lines = counts_as_rows(path)
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])
