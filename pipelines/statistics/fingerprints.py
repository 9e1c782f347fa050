"""Fingerprints: 8 bytes for each record, equal where the pixels are, and their files.

Not here: which records are really the same (`duplicates`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import tables
from ..errors import ArtefactError
from ..records import Batch

FILE = "fingerprints.arrow"  # of a part of a split
AT_ONCE = 1 << 22  # records of all parts whose fingerprints are compared at once

Fingerprints = npt.NDArray[np.uint64]
"""A number per record of a table, in its order: equal where the pixels are."""


class Taken:
    """The fingerprints of records of so many bytes, batch by batch."""

    def __init__(self, record_bytes: int) -> None:
        """Take none yet."""
        width = -(-record_bytes // 8)
        random = np.random.default_rng(0).integers(0, 1 << 64, width, np.uint64)
        self._factors = random | np.uint64(1)
        self._parts: list[Fingerprints] = [np.empty(0, np.uint64)]

    def add(self, batch: Batch) -> None:
        """Take those of a batch."""
        self._parts.append(_as_words(batch.images) @ self._factors)

    def all(self) -> Fingerprints:
        """Return those taken, in the order of the records."""
        return np.concatenate(self._parts)

    def dump(self, goal: Path, first: int) -> None:
        """Write them as an Arrow file: sorted, each with the index of its record."""
        found = self.all()
        order = np.argsort(found, kind="stable")
        index = (order + first).astype(np.uint32)
        columns = {"fingerprint": pa.array(found[order]), "index": pa.array(index)}
        table = pa.table(columns)
        with pa.OSFile(str(goal), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


def of_table(path: Path) -> Fingerprints:
    """Return the fingerprints of a table's records.

    Raises:
        TableError: no table of ours.
    """
    taken = Taken(tables.info(path).record_bytes)
    for batch in tables.batches(path):
        taken.add(batch)
    return taken.all()


class Sorted(NamedTuple):
    """The fingerprints of a part, sorted, and the index of each one's record."""

    fingerprints: Fingerprints
    indices: npt.NDArray[np.uint32]


def mapped(path: Path) -> Sorted:
    """Return the fingerprints of a part as they lie in its file, mapped into memory.

    Raises:
        ArtefactError: it is damaged.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        prints, indices = _one(table["fingerprint"]), _one(table["index"])
        if prints.dtype != np.uint64 or indices.dtype != np.uint32:
            raise ValueError(f"its columns are of {prints.dtype} and {indices.dtype}")
        return Sorted(prints, indices)
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        text = f"{path} holds no fingerprints of ours: {error}. Build it again."
        raise ArtefactError(text) from error


def _one(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column as it lies in its file; it has to be in one piece."""
    [chunk] = column.chunks
    return np.from_dlpack(chunk)


def repeated(
    parts: Sequence[Sorted], at_once: int = AT_ONCE
) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """Yield (part, indices) of records that share their fingerprints with others of any part.

    Fingerprints are spread evenly over all numbers: so those between two numbers are compared at a
    time, of all parts together, and memory does not grow with the records.
    """
    total = sum(len(part.indices) for part in parts)
    pieces = max(1, -(-total // at_once))
    bounds = [(number << 64) // pieces for number in range(1, pieces)]
    edges = [
        [
            0,
            *np.searchsorted(part.fingerprints, np.array(bounds, np.uint64)).tolist(),
            len(part.indices),
        ]
        for part in parts
    ]
    for piece in range(pieces):
        ranges = [slice(edge[piece], edge[piece + 1]) for edge in edges]
        both = list(zip(parts, ranges, strict=True))
        found = np.concatenate(
            [np.empty(0, np.uint64), *(part.fingerprints[some] for part, some in both)]
        )
        order = np.argsort(found, kind="stable")
        same = np.flatnonzero(found[order[1:]] == found[order[:-1]])
        met = np.sort(order[np.union1d(same, same + 1)]) if len(same) else same
        ends = np.cumsum([0, *(some.stop - some.start for some in ranges)])
        for number, (part, some) in enumerate(both):
            low, high = np.searchsorted(met, (ends[number], ends[number + 1]))
            if low < high:
                yield number, part.indices[some][met[low:high] - ends[number]]


def _as_words(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the bytes of each image as 64-bit words, filled up with zeros."""
    flat = images.reshape(len(images), -1)
    if missing := -flat.shape[1] % 8:
        flat = np.pad(flat, ((0, 0), (0, missing)))
    return np.ascontiguousarray(flat).view(np.uint64)
