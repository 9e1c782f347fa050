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

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset, Member, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Decode, Labels, Place


def decoder(name: str) -> Decode:
    """Return the `decode` of the format called `name`."""
    decode: Decode = _module(name).decode
    return decode


def locate(
    dataset: Dataset, split: Split, index: int, member_bytes: Callable[[Member], int]
) -> list[Place]:
    """Return where a record stands in the members of its split.

    Args:
        dataset: what the members hold.
        split: which part of it.
        index: of the record in its split.
        member_bytes: gives the decompressed size of a member; asked only where members follow one
            another, because how many records each of them holds is not declared.
    """
    places: list[Place] = _module(dataset.format).locate(dataset, split, index, member_bytes)
    return places


def assemble(dataset: Dataset, parts: Sequence[bytes]) -> Batch:
    """Return the one record whose bytes stand at its places, in the order of `locate`.

    Raises:
        FormatError: a label stands for no class.
    """
    record: Batch = _module(dataset.format).assemble(dataset, parts)
    return record


def version(name: str) -> str:
    """Return the code version of the format called `name`."""
    return str(_module(name).CODE_VERSION)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __name__)  # the catalogue checked the name


def fill(stream: ByteStream, array: npt.NDArray[np.uint8], promised: str) -> None:
    """Fill `array` (contiguous) from `stream`.

    Raises:
        FormatError: the stream ends before the array is full; `promised` says why it should not.
    """
    view = array.reshape(-1).data
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])
        if not got:
            raise FormatError(f"{stream.name}: {promised}, but the member ends too early.")
        done += got


def expect_end(stream: ByteStream, promised: str) -> None:
    """Raise `FormatError` unless `stream` is exhausted."""
    if stream.readinto(memoryview(bytearray(1))):
        raise FormatError(f"{stream.name}: {promised}, but the member goes on after that.")


def shifted_labels(raw: Labels, first: int, classes: int, where: str, start: int) -> Labels:
    """Return labels counted from 0.

    Args:
        raw: labels as the publisher counts them, uint8 of shape (records,).
        first: the publisher's label of `classes[0]`.
        classes: how many classes there are.
        where: the member, for the message.
        start: index of the first of these records in the split.

    Raises:
        FormatError: a label stands for no class.
    """
    outside = (raw < first) | (raw > first + classes - 1)
    if outside.any():
        at = int(outside.argmax())
        raise FormatError(
            f"{where}: record {start + at:,} has label {raw[at]}, but the {classes} declared "
            f"classes are labelled {first} to {first + classes - 1}. Check `first_label` and "
            "`classes` in the catalogue, or whether these are another dataset's bytes."
        )
    return raw - np.uint8(first) if first else raw
