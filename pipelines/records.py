"""Bytes → arrays: one module per format, and the way back. No disk, no network, no Parquet.

`decode(open_member, dataset, split, batch_records)` opens the members that the split declares, in
order, holds what their headers promise against the declaration, and yields `Batch`es of at most
`batch_records` records: upright, channels last, labels counted from 0. Whatever the bytes break,
it raises `FormatError`; a stream that ends early or goes on too long is never cut to fit.

The way back, for one record: `locate(dataset, split, index, member_bytes)` says between which bytes
of which members it stands, and `assemble(dataset, parts)` turns those bytes into the record.

A new format is a module with these three and a `CODE_VERSION`; its name goes into `format` and
`ROLES` of `pipelines.catalogue`, and the length of its keys into `pipelines.exports.to_lmdb`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .declarations import Dataset, Member, Split

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive records of a split.

    images: uint8 array of shape (records, height, width, channels), upright, 0–255.
    labels: uint8 array of shape (records,); 0 is `classes[0]`.
    coarse_labels: the same for `coarse_classes`, or None where a dataset has none.
    """

    images: Pixels
    labels: Labels
    coarse_labels: Labels | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a record stands: bytes `start` to `stop` of a member, decompressed.

    role: what the member is to the format (`catalogue.ROLES`).
    """

    role: str
    member: Member
    start: int
    stop: int


class ByteStream(Protocol):
    """What a format reads from: a member's decompressed bytes, in order."""

    name: str

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end."""
        ...


OpenMember = Callable[[Member], ByteStream]
Decode = Callable[[OpenMember, Dataset, Split, int], Generator[Batch]]
