"""LMDB as Caffe reads it: a `Datum` message per record, under its zero-padded number.

    message Datum { channels = 1; height = 2; width = 3; data = 4 (bytes, CHW); label = 5; }

Source: `caffe.proto` and Caffe's own converters, convert_mnist_data.cpp (keys of 8 digits) and
convert_cifar_data.cpp (keys of 5 digits; the training split runs on over all batches). CIFAR-100's
label is the fine one.

With the option `encoded`, `data` is a PNG, and the field `encoded` (7) is true: for readers that
decode, such as DALI.

The file is compact (keys arrive in order, so pages are filled) and the same from run to run.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declarations import Dataset
from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Option, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from ..store.artefacts import LIBRARIES
from . import _lmdb_pages as pages
from ._protobuf import before, number, read_varint

if TYPE_CHECKING:
    from ..records import Batch

_MESSAGE_BYTES = 64  # of a key and a Datum, beside the pixels, and more than enough
PAGE_BYTES = mmap.PAGESIZE  # as LMDB chooses it


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as an LMDB data file, the `data.mdb` of the folder that readers open.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    import lmdb

    from .. import tables
    from . import _png

    about = tables.info(inputs.table)
    digits = key_digits(inputs.subject.dataset)
    encoded, most = bool(chosen["encoded"]), about.record_bytes
    if encoded:
        most = _png.most_bytes(about.shape)
    items = messages(about.shape, len(about.classes), about.records, digits, encoded)
    found = _png.of_table(inputs.table) if encoded else _planes(inputs.table)
    with writing.atomic(goal) as partial, contextlib.closing(found) as runs:
        partial.unlink()  # LMDB wants to make its file itself
        try:
            with lmdb.open(
                str(partial),
                subdir=False,
                lock=False,
                sync=False,  # once, at the end, by the atomic writer
                map_size=_map_bytes(about.records, most),
            ) as database:
                first = 0
                for batch, data in runs:
                    with database.begin(write=True) as transaction:
                        some = items(batch.labels.tolist(), data, first)
                        transaction.cursor().putmulti(some, append=True)
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
    shape, classes = subject.dataset.image.shape, len(subject.dataset.classes)
    with path.open("rb") as file:
        for index in range(start, stop):
            key, value, first, last = pages.item(file, path, index)
            record = _record(value, f"{path}, key {key}", shape, classes)
            yield Stored(record, first, last, {"key": key})


def key_digits(dataset: Dataset) -> int:
    """Return how many digits the keys have at least: as Caffe's converter of such images does."""
    return 8 if dataset.image.channels == 1 else 5


def messages(
    shape: tuple[int, int, int], classes: int, records: int, key_digits: int, encoded: bool
) -> Callable[[list[int], Iterable[bytes], int], Iterator[tuple[bytes, bytes]]]:
    """Return a function (labels, data, index of the first record) → (key, Datum) of each record.

    Keys have at least `key_digits` digits, more where so many records take more.
    """
    head = functools.lru_cache(1 << 14)(functools.partial(_before, shape))
    tails = [_after(label, encoded) for label in range(classes)]
    key = f"%0{max(key_digits, len(str(records - 1)))}d"

    def items(
        labels: list[int], data: Iterable[bytes], first: int
    ) -> Iterator[tuple[bytes, bytes]]:
        for at, (label, image) in enumerate(zip(labels, data, strict=True)):
            yield (key % (first + at)).encode(), head(len(image)) + image + tails[label]

    return items


def _planes(table: Path) -> Generator[tuple[Batch, Iterator[bytes]]]:
    """Yield a table's batches, and of each record the pixels, channel by channel."""
    import numpy as np

    from .. import tables

    for batch in tables.batches(table):
        data = np.ascontiguousarray(batch.images.transpose(0, 3, 1, 2)).tobytes()
        size = len(data) // len(batch)
        yield batch, (data[at : at + size] for at in range(0, len(data), size))


def _map_bytes(records: int, record_bytes: int) -> int:
    """Return a map size that is surely enough: LMDB only claims the address space."""
    pages = records * (2 + (record_bytes + _MESSAGE_BYTES) // PAGE_BYTES)
    return (pages + 1024) * PAGE_BYTES


def _before(shape: tuple[int, int, int], size_bytes: int) -> bytes:
    """Return how the Datum of an image begins: its shape, and how many bytes follow."""
    height, width, channels = shape
    fields = (number(1, channels), number(2, height), number(3, width), before(4, size_bytes))
    return b"".join(fields)


def _after(label: int, encoded: bool) -> bytes:
    """Return how a Datum ends: its label, and whether its data have to be decoded."""
    return number(5, label) + (number(7, 1) if encoded else b"")


def _record(value: bytes, where: str, shape: tuple[int, int, int], classes: int) -> Batch:
    """Return the record of a Datum as it is written here: its fields in order, none left out."""
    import numpy as np

    from ..records import Batch, label_type
    from . import _lines, _png

    height, width, channels = shape
    size_bytes, most = height * width * channels, _lines.most_label(classes)
    try:
        size, at = read_varint(value, len(_before(shape, 0)) - 1)
        data = value[at : at + size]
        label, end = read_varint(value, at + size + 1)
        encoded = end < len(value)
        is_one = value == _before(shape, size) + data + _after(label, encoded)
        is_one = is_one and label <= most and (encoded or size == size_bytes)
    except IndexError:
        is_one = False
    if not is_one:
        raise ArtefactError(
            f"{where}: expected a Datum with (channels, height, width) = "
            f"{(channels, height, width)}, {size_bytes:,} bytes or a PNG, and a label 0 to {most}; "
            f"the value, of {len(value):,} bytes, is none."
        )
    labels = np.array([label], label_type(classes))
    if encoded:
        return Batch(_png.decode(data, shape, where), labels)
    planes = np.frombuffer(data, np.uint8).reshape(1, channels, height, width)
    return Batch(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def _parameters(subject: Subject, chosen: Choices) -> dict[str, Any]:
    from .. import tables

    about = tables.description(subject.source, subject.dataset, subject.split)
    # Those of older databases, of which none is encoded, stay as they are.
    encoded = {"encoded": True} if chosen["encoded"] else {}
    return {"key_digits": key_digits(subject.dataset), "about": about} | encoded


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
            "The Datum's `data`: intensities, channel by channel (CHW); or a PNG, and `encoded`.",
            of="pixels",
            how="transformed",
        ),
        Column("label", "int32", "The Datum's `label`: Number of the class, from 0.", of="label"),
    ),
    options=(
        Option("encoded", False, "keep each image in an LMDB as a PNG, for readers that decode it"),
    ),
    parameters=_parameters,
    room=lambda image: image,
    reproducible="same libraries",
    repeats_here=lambda path: pages.page_bytes(path) == PAGE_BYTES,
    sidecar=True,
    libraries=(*LIBRARIES, "zlib"),
    measured=(49.4, 0.16),
    read_by=(
        Reader(
            "Caffe",
            (),
            'layer { type: "Data" data_param { source: "{folder}" backend: LMDB batch_size: 64 } }',
        ),
        Reader(
            "DALI 2.4.0",
            ("nvidia-dali-cuda120==2.4.0",),
            """import os
from nvidia.dali import fn, pipeline_def

@pipeline_def(batch_size=64, num_threads=2, device_id=None)
def records():
    pixels, labels = fn.readers.caffe(path=os.path.dirname("{path}"))
    return fn.reshape(pixels, shape=[28, 28, 1]), labels""",
            "Pixels come as a row of bytes, channel by channel; with the option `encoded` they go "
            "through `fn.decoders.image` instead of `fn.reshape`.",
        ),
        Reader(
            "lmdb 3.0.0",
            ("lmdb==3.0.0",),
            """import lmdb, os
with lmdb.open(os.path.dirname("{path}"), readonly=True, lock=False) as database:
    with database.begin() as transaction:
        key, datum = next(iter(transaction.cursor()))  # a Datum message of caffe.proto""",
        ),
    ),
)
