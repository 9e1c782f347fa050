"""Statistics: how many records each class has, and how bright they are.

Not here: reading archives, or judging the figures (asset checks do). Everything is accumulated in
integers, so the result does not depend on the order or the size of the batches.

A row stands for a class of a split, or for all classes of a split together; `COLUMNS` defines each
figure. An intensity is one channel of one pixel. `channel_…` columns hold the same per channel, as
lists of 1 (grey) or 3 (red, green, blue). A class without records has nulls.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .. import tables
from ..declarations import Dataset, Source
from ..errors import TableError
from ..progress import Advance, silent
from ..records import Batch, Pixels
from ..store import layout, writing
from ..store.provenance import Artefact, Input

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

Counters = npt.NDArray[np.uint64]

_BLOCK_RECORDS = 256  # added up at once: 256 × 255 fits into uint16, and they stay in the cache


@dataclass(frozen=True, slots=True)
class Sums:
    """All that the statistics need to know of some records, in integers; two of them can be added.

    records, nonzero: uint64 of shape (classes,): records, and intensities that are not 0.
    sum, squares: uint64 of shape (classes, height, width, channels): the sums of the intensities
        and of their squares, for each pixel and channel.
    least, most: uint8 of the same shape: the smallest and the largest intensity.
    """

    records: Counters
    sum: Counters
    squares: Counters
    nonzero: Counters
    least: Pixels
    most: Pixels

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of both parts together."""
        return Sums(
            self.records + other.records,
            self.sum + other.sum,
            self.squares + other.squares,
            self.nonzero + other.nonzero,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
        )


def artefact(source: Source, dataset: Dataset, inputs: tuple[Input, ...]) -> Artefact:
    """Return a dataset's statistics as an artefact of its tables."""
    parameters = {
        "dataset": dataset.name,
        "splits": list(dataset.splits),
        "archives": {
            layout.archive(source.name, name): {
                "md5": source.archives[name].md5,
                "sha256": source.archives[name].sha256,
            }
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
        advance: is told how many records were added up.
        known: the sums of some of the tables, which are then not read: whoever writes a table can
            have them for less (`observe` of `tables.write`, `add`).
        made_from: is told in the file's metadata: the dataset, its archives and its tables.

    Raises:
        TableError: a path holds no table of ours.
        StorageError: `goal` can't be written.
    """
    parts = []
    for path in paths:
        about = tables.info(path)
        if path in known:
            advance(about.records)
        parts.append(rows(about, known[path] if path in known else summarise(path, advance)))
    table = pa.concat_tables(parts)
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


def summarise(path: Path, advance: Advance = silent) -> Sums:
    """Return the sums of a whole table; the next row group is read while one is added up."""
    about = tables.info(path)
    total = nothing(len(about.classes), about.shape)
    for batch in tables.batches(path):
        add(total, batch)
        advance(len(batch))
    return total


def nothing(classes: int, shape: tuple[int, int, int]) -> Sums:
    """Return the sums of no records."""
    return Sums(
        records=np.zeros(classes, np.uint64),
        sum=np.zeros((classes, *shape), np.uint64),
        squares=np.zeros((classes, *shape), np.uint64),
        nonzero=np.zeros(classes, np.uint64),
        least=np.full((classes, *shape), 255, np.uint8),
        most=np.zeros((classes, *shape), np.uint8),
    )


def add(total: Sums, batch: Batch) -> None:
    """Add the records of a batch to `total`, in place."""
    order = np.argsort(batch.labels, kind="stable")
    labels = batch.labels[order]
    starts = np.searchsorted(labels, np.arange(len(total.records) + 1))
    for label in np.unique(labels).tolist():  # as uint8, 255 + 1 would be 0
        images = batch.images[order[starts[label] : starts[label + 1]]]
        total.records[label] += np.uint64(len(images))
        total.nonzero[label] += np.uint64(np.count_nonzero(images))
        np.minimum(total.least[label], images.min(axis=0), out=total.least[label])
        np.maximum(total.most[label], images.max(axis=0), out=total.most[label])
        for start in range(0, len(images), _BLOCK_RECORDS):
            block = images[start : start + _BLOCK_RECORDS].astype(np.uint16)
            total.sum[label] += block.sum(axis=0, dtype=np.uint16)
            block *= block  # 255 × 255 fits too
            total.squares[label] += block.sum(axis=0, dtype=np.uint32)


def rows(about: tables.Info, sums: Sums) -> pa.Table:
    """Return the statistics of a split: a row for each class, then one over all classes."""
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
        for label, name in enumerate(about.classes)
    ]
    found.append(split | {"label": None, "class": None} | _row(everything, 0, records))
    return pa.Table.from_pylist(found, schema=arrow_schema(about.shape))


def counts(path: Path) -> pl.DataFrame:
    """Return the classic table of a statistics file: a row per class, a column per split.

    The columns are `class`, then the records in each split; the last row holds the totals.

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


def arrow_schema(shape: tuple[int, int, int]) -> pa.Schema:
    """Return the columns of the statistics of images of some shape."""
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
            ("label", pa.uint8()),
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
    row: dict[str, Any] = {"records": records, "share": records / of_records}
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


def counts_as_text(path: Path, markdown: bool = False) -> str:
    """Return the classic table, category × split with totals, for people to read."""
    found = counts(path)
    header = ["category", *found.columns[1:]]
    lines = [[name, *(f"{number:,}" for number in numbers)] for name, *numbers in found.rows()]
    if markdown:
        rule = ["---", *("---:" for _ in header[1:])]
        return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])
    widths = [max(len(line[at]) for line in [header, *lines]) for at in range(len(header))]
    lines.insert(-1, ["─" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in [header, *lines]
    )
