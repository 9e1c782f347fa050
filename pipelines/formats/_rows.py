"""Some records of members: those of a split that has not all, of a part of it, or of a list.

A format decodes members as wholes, and holds their headers against how many records they are
declared to have (`Rows.of`). Here is what a split takes of them. Not here: the formats.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset, Rows, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Members, OpenMember

Indices = npt.NDArray[np.int64]
Decode = Callable[[OpenMember, Dataset, Split, int], Generator[Batch]]

_MOST_LIST_BYTES = 64 << 20
_MOST_HELD_BYTES = 1 << 30  # of the pixels of a list that jumps back and forth


def decoded(
    decode: Decode, open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split, or of a part of one, in its order.

    What stands before a range is decoded and passed by; nothing after it is. The records of a list
    that goes back and forth are held in memory.

    Raises:
        FormatError: the members don't hold what is declared, or a list names other records.
    """
    whole, skip = _undivided(dataset, split)
    stored = _stored(whole)
    rows, records = whole.rows, split.records
    if stored is split:
        yield from decode(open_member, dataset, split, batch_records)
        return
    wanted = None
    if rows and rows.member:
        wanted = _listed(open_member(rows.member), rows, whole.records)[skip : skip + records]
    with contextlib.closing(decode(open_member, dataset, stored, batch_records)) as batches:
        if wanted is None:
            start = skip + ((rows and rows.first) or 0)
            yield from _between(batches, start, start + records)
        elif (np.diff(wanted) > 0).all():
            yield from _ascending(batches, wanted)
        else:
            if (size := records * dataset.image.size_bytes) > _MOST_HELD_BYTES:
                raise FormatError(
                    f"{rows and rows.listed}: its rows are in no ascending order, and would take "
                    f"{size:,} bytes of memory. Declare the split in parts."
                )
            ordered = np.sort(wanted)
            held = Batch.joined([*_ascending(batches, ordered)])
            places = np.searchsorted(ordered, wanted)
            for start in range(0, records, batch_records):
                yield held.taken(places[start : start + batch_records])


def stored_at(dataset: Dataset, split: Split, index: int, members: Members) -> tuple[Split, int]:
    """Return a split as its members hold it, and where among their records one of it stands.

    Raises:
        FormatError: a list names other records than its members have.
    """
    whole, skip = _undivided(dataset, split)
    rows, index = whole.rows, skip + index
    if rows and rows.member:
        if (rows.member, rows.line) not in members.noted:
            found = _listed(members.open(rows.member), rows, whole.records)
            members.noted[rows.member, rows.line] = found
        index = int(members.noted[rows.member, rows.line][index])
    elif rows:
        index += rows.first or 0
    return _stored(whole), index


def _undivided(dataset: Dataset, split: Split) -> tuple[Split, int]:
    """Return the split whose members hold a part of so many records, and how many precede it."""
    if split.is_part and dataset.splits[split.whole].parts != "members":
        return dataset.splits[split.whole], split.skip
    return split, 0


def _stored(split: Split) -> Split:
    """Return a split of all records that its members hold."""
    if split.rows is None:
        return split
    return replace(split, records=split.rows.of, counts=(), coarse_counts=(), rows=None)


def _between(batches: Iterable[Batch], start: int, stop: int) -> Iterator[Batch]:
    """Yield those records of batches that stand between two places; decode none after them."""
    at = 0
    for batch in batches:
        low, high = max(start - at, 0), min(stop - at, len(batch))
        if low < high:
            yield batch.between(low, high)
        at += len(batch)
        if at >= stop:
            return


def _ascending(batches: Iterable[Batch], wanted: Indices) -> Iterator[Batch]:
    """Yield records by their places, which ascend; decode none after the last."""
    at = 0
    for batch in batches:
        low, high = np.searchsorted(wanted, [at, at + len(batch)])
        if low < high:
            yield batch.taken(wanted[low:high] - at)
        at += len(batch)
        if high == len(wanted):
            return


def _listed(stream: ByteStream, rows: Rows, records: int) -> Indices:
    """Return the numbers of one line of a list, held against what is declared."""
    data = bytearray()
    chunk = memoryview(bytearray(1 << 16))
    while got := stream.readinto(chunk):
        data += chunk[:got]
        if len(data) > _MOST_LIST_BYTES:
            raise FormatError(
                f"{stream.name}: no list of rows has over {_MOST_LIST_BYTES:,} bytes."
            )
    lines = bytes(data).splitlines()
    where = f"{stream.name}, line {rows.line}"
    if rows.line is None or rows.line > len(lines):
        raise FormatError(f"{where}: the list has {len(lines):,} lines.")
    words = lines[rows.line - 1].split()
    for word in words:
        if not (word.isdigit() and len(word) < 12 and int(word) < rows.of):
            raise FormatError(
                f"{where}: expected numbers from 0 to {rows.of - 1:,}, found {word!r:.40}."
            )
    found = np.array([*map(int, words)], np.int64)
    if len(found) != records or len(np.unique(found)) != records:
        raise FormatError(
            f"{where}: expected {records:,} rows, each once, found {len(found):,}, "
            f"{len(np.unique(found)):,} of them different."
        )
    return found
