"""Sums: all that the statistics need to know of records, in integers, added up batch by batch.

Integers do not care for the order or the size of the batches. Not here: what the figures are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import tables
from ..errors import ArtefactError
from ..progress import Advance, silent
from ..records import Batch, Pixels, label_type

FILE = "sums.arrow"  # of a part of a split
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


def summarise(path: Path, advance: Advance = silent) -> Sums:
    """Return the sums of a whole table; the next row group is read while one is added up."""
    total = nothing_of(tables.info(path))
    for batch in tables.batches(path):
        add(total, batch)
        advance(len(batch))
    return total


def nothing_of(about: tables.Info) -> Sums:
    """Return the sums of no records of a split: without labels, all are of one class."""
    return nothing(len(about.classes) if about.labelled else 1, about.shape)


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
    labels = np.zeros(len(batch), np.uint8) if batch.known_labels is None else batch.known_labels
    order = np.argsort(labels, kind="stable")
    labels = labels[order]
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


def dump(total: Sums, goal: Path) -> None:
    """Write sums as an Arrow file: a row for each class that has records."""
    classes, shape = len(total.records), total.sum.shape[1:]
    there = np.flatnonzero(total.records)
    columns: dict[str, Any] = {"label": there.astype(label_type(classes))}
    columns |= {name: getattr(total, name)[there] for name in _OF_CLASSES}
    columns |= {name: getattr(total, name)[there] for name in _OF_PIXELS}
    arrays = [_as_arrow(column) for column in columns.values()]
    about = {"shape": ",".join(map(str, shape)), "classes": str(classes)}
    table = pa.Table.from_arrays(arrays, list(columns)).replace_schema_metadata(about)
    with pa.OSFile(str(goal), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def load(paths: Iterable[Path], about: tables.Info) -> Sums:
    """Return what is added up of several files of sums of a split: one at a time is held.

    Raises:
        ArtefactError: one is damaged, or of other classes or images.
    """
    total, shape = nothing_of(about), about.shape
    classes = len(total.records)
    said = {b"shape": ",".join(map(str, shape)).encode(), b"classes": str(classes).encode()}
    for path in paths:
        try:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
                if dict(table.schema.metadata or {}) != said:
                    raise ValueError("they are of other classes or images")
                _add_stored(total, table.combine_chunks(), shape)
        except (OSError, ValueError, LookupError, pa.ArrowException) as error:
            raise ArtefactError(
                f"{path} holds no sums of ours: {error}. Build it again."
            ) from error
    return total


_OF_CLASSES = ("records", "nonzero")
_OF_PIXELS = ("sum", "squares", "least", "most")


def _as_arrow(values: npt.NDArray[Any]) -> pa.Array:
    flat = pa.array(values.ravel())
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values[0].size)


def _add_stored(total: Sums, table: pa.Table, shape: tuple[int, int, int]) -> None:
    labels = table["label"].to_numpy()
    for name in _OF_CLASSES:
        getattr(total, name)[labels] += table[name].to_numpy()
    for name in _OF_PIXELS:
        column = table[name]
        chunks = [chunk.flatten().to_numpy() for chunk in column.chunks]
        values = np.concatenate(chunks).reshape(-1, *shape) if chunks else None
        if values is not None:
            goal = getattr(total, name)
            add = {"least": np.minimum, "most": np.maximum}.get(name, np.add)
            goal[labels] = add(goal[labels], values)
