"""Table → LMDB as Caffe reads it: a `Datum` message per record, under its zero-padded number.

    message Datum { channels = 1; height = 2; width = 3; data = 4 (bytes, CHW); label = 5; }

Source: `caffe.proto` and Caffe's own converters, convert_mnist_data.cpp (keys of 8 digits) and
convert_cifar_data.cpp (keys of 5 digits; the training split runs on over all batches). CIFAR-100's
label is the fine one. Not here: reading LMDB.

The file is compact (keys arrive in order, so pages are filled) and the same from run to run.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy as np

from .. import formats, tables
from ..declarations import Dataset, Source, Split
from ..progress import Advance, silent
from ..records import Batch
from ..store import layout, writing
from ..store.provenance import Artefact, Input

CODE_VERSION = "1"  # raise when the bytes of a database can change

KEY_DIGITS = {name: form.caffe_key_digits for name, form in formats.known().items()}

_MESSAGE_BYTES = 64  # of a key and a Datum, beside the pixels, and more than enough
PAGE_BYTES = mmap.PAGESIZE  # as LMDB chooses it


def artefact(source: Source, dataset: Dataset, split: Split, inputs: tuple[Input, ...]) -> Artefact:
    """Return the LMDB of a split as an artefact of its table."""
    path = layout.lmdb(dataset.name, split.name)
    parameters = {
        "key_digits": KEY_DIGITS[dataset.format],
        "about": tables.description(source, dataset, split),
    }
    return Artefact(path, "lmdb", CODE_VERSION, parameters, inputs, layout.sidecar(path))


def write(table: Path, goal: Path, key_digits: int = 8, advance: Advance = silent) -> int:
    """Write a table as an LMDB data file; return the records.

    `goal` is the `data.mdb` of the folder that readers open. Keys have at least `key_digits`
    digits, more where the number of records takes more: their order is the order of the records.

    Raises:
        TableError: `table` is no table of ours.
        StorageError: `goal` can't be written.
    """
    about = tables.info(table)
    items = messages(about.shape, len(about.classes), about.records, key_digits)
    with writing.atomic(goal) as partial:
        partial.unlink()  # LMDB wants to make its file itself
        try:
            with lmdb.open(
                str(partial),
                subdir=False,
                lock=False,
                sync=False,  # once, at the end, by the atomic writer
                map_size=_map_bytes(about.records, about.record_bytes),
            ) as database:
                first = 0
                for batch in tables.batches(table):
                    with database.begin(write=True) as transaction:
                        transaction.cursor().putmulti(items(batch, first), append=True)
                    first += len(batch)
                    advance(len(batch))
        except lmdb.DiskError as error:
            raise OSError(errno.ENOSPC, str(error), str(goal)) from error
        except lmdb.Error as error:  # a write that is cut short is an input/output error to LMDB
            raise OSError(errno.EIO, str(error), str(goal)) from error
    return about.records


def messages(
    shape: tuple[int, int, int], classes: int, records: int, key_digits: int
) -> Callable[[Batch, int], Iterator[tuple[bytes, bytes]]]:
    """Return a function (batch, index of its first record) → (key, Datum) of each record.

    Keys have at least `key_digits` digits, more where so many records take more.
    """
    height, width, channels = shape
    size = height * width * channels
    head = _field(1, channels) + _field(2, height) + _field(3, width) + _bytes(4, size)
    tails = [_field(5, label) for label in range(classes)]
    key = f"%0{max(key_digits, len(str(records - 1)))}d"

    def items(batch: Batch, first: int) -> Iterator[tuple[bytes, bytes]]:
        data = np.ascontiguousarray(batch.images.transpose(0, 3, 1, 2)).tobytes()
        for at, label in enumerate(batch.labels.tolist()):
            value = head + data[at * size : (at + 1) * size] + tails[label]
            yield (key % (first + at)).encode(), value

    return items


def _map_bytes(records: int, record_bytes: int) -> int:
    """Return a map size that is surely enough: LMDB only claims the address space."""
    pages = records * (2 + (record_bytes + _MESSAGE_BYTES) // PAGE_BYTES)
    return (pages + 1024) * PAGE_BYTES


def _field(number: int, value: int) -> bytes:
    """Return a protobuf varint field."""
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, size: int) -> bytes:
    """Return the beginning of a protobuf bytes field; `size` bytes must follow."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: 7 bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
