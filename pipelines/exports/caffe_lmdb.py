"""LMDB as Caffe reads it: a `Datum` message per record, under its zero-padded number.

    message Datum { channels = 1; height = 2; width = 3; data = 4 (bytes, CHW); label = 5; }

Source: `caffe.proto` and Caffe's own converters, convert_mnist_data.cpp (keys of 8 digits) and
convert_cifar_data.cpp (keys of 5 digits; the training split runs on over all batches). CIFAR-100's
label is the fine one.

The file is compact (keys arrive in order, so pages are filled) and the same from run to run.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declarations import Dataset
from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Product, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _lmdb_pages as pages

if TYPE_CHECKING:
    from ..records import Batch

_MESSAGE_BYTES = 64  # of a key and a Datum, beside the pixels, and more than enough
PAGE_BYTES = mmap.PAGESIZE  # as LMDB chooses it


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as an LMDB data file, the `data.mdb` of the folder that readers open.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    import lmdb

    from .. import tables

    about = tables.info(inputs.table)
    digits = key_digits(inputs.subject.dataset)
    items = messages(about.shape, len(about.classes), about.records, digits)
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
                for batch in tables.batches(inputs.table):
                    with database.begin(write=True) as transaction:
                        transaction.cursor().putmulti(items(batch, first), append=True)
                    first += len(batch)
                    advance(len(batch))
        except lmdb.DiskError as error:
            raise OSError(errno.ENOSPC, str(error), str(goal)) from error
        except lmdb.Error as error:  # a write that is cut short is an input/output error to LMDB
            raise OSError(errno.EIO, str(error), str(goal)) from error
    return {"records": about.records}


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of an LMDB, each with the bytes of its value, and its key.

    Keys are as long as the first one.

    Raises:
        ArtefactError: no LMDB, no such key, or no `Datum` of the image's shape.
        FileNotFoundError: there is no such file.
    """
    shape = subject.dataset.image.shape
    with path.open("rb") as file:
        for index in range(start, stop):
            key, value, first, last = pages.item(file, path, index)
            yield Stored(_record(value, f"{path}, key {key}", shape), first, last, {"key": key})


def key_digits(dataset: Dataset) -> int:
    """Return how many digits the keys have at least: as Caffe's converter of such images does."""
    return 8 if dataset.image.channels == 1 else 5


def messages(
    shape: tuple[int, int, int], classes: int, records: int, key_digits: int
) -> Callable[[Batch, int], Iterator[tuple[bytes, bytes]]]:
    """Return a function (batch, index of its first record) → (key, Datum) of each record.

    Keys have at least `key_digits` digits, more where so many records take more.
    """
    size, head = shape[0] * shape[1] * shape[2], _head(shape)
    tails = [_field(5, label) for label in range(classes)]
    key = f"%0{max(key_digits, len(str(records - 1)))}d"

    import numpy as np

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


def _head(shape: tuple[int, int, int]) -> bytes:
    """Return how the Datum of an image begins: its shape, and how many bytes follow."""
    height, width, channels = shape
    size = _varint(4 << 3 | 2) + _varint(height * width * channels)  # a bytes field
    return _field(1, channels) + _field(2, height) + _field(3, width) + size


def _field(number: int, value: int) -> bytes:
    """Return a protobuf varint field."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: 7 bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _record(value: bytes, where: str, shape: tuple[int, int, int]) -> Batch:
    """Return the record of a Datum as it is written here: its fields in order, none left out."""
    import numpy as np

    from ..records import Batch

    height, width, channels = shape
    head, size = _head(shape), height * width * channels
    label = value[len(head) + size + 1 :]
    is_one = value.startswith(head) and value[len(head) + size :][:1] == _field(5, 0)[:1]
    if not is_one or _varint(number := _number(label)) != label or number > 255:
        raise ArtefactError(
            f"{where}: expected a Datum with (channels, height, width) = "
            f"{(channels, height, width)}, {size:,} bytes and a label 0 to 255; the value, of "
            f"{len(value):,} bytes, is none."
        )
    planes = np.frombuffer(value, np.uint8, size, len(head)).reshape(1, channels, height, width)
    return Batch(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array([number], np.uint8))


def _number(varint: bytes) -> int:
    return sum((byte & 0x7F) << 7 * at for at, byte in enumerate(varint))


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    from .. import tables

    about = tables.description(subject.source, subject.dataset, subject.split)
    return {"key_digits": key_digits(subject.dataset), "about": about}


EXPORT = Product(
    name="lmdb",
    title="as LMDB for Caffe: a Datum message per record, CHW.",
    scope="split",
    files="exports/{dataset}/{split}_lmdb/data.mdb",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column(
            "key",
            "string",
            "The record's position in its split, in decimal digits.",
            of="index",
            how="transformed",
        ),
        Column("channels", "int32", "The Datum's `channels`: of the image."),
        Column("height", "int32", "The Datum's `height`: of the image."),
        Column("width", "int32", "The Datum's `width`: of the image."),
        Column(
            "data",
            "bytes",
            "The Datum's `data`: intensities, channel by channel (CHW).",
            of="pixels",
            how="transformed",
        ),
        Column("label", "int32", "The Datum's `label`: Number of the class, from 0.", of="label"),
    ),
    parameters=_parameters,
    room=lambda image: image,
    reproducible="same libraries",
    repeats_here=lambda path: pages.page_bytes(path) == PAGE_BYTES,
    sidecar=True,
)
