"""TFDS: the folder that `tfds.load` reads, a record per `tf.train.Example` in TFRecord files.

A TFRecord file is records one after the other, each as

    length (8 bytes, little-endian), checksum of the length (4), the record, its checksum (4)

with the checksum `((c >> 15 | c << 17) + 0xa282ead8) mod 2^32` of the CRC-32C `c`.

Source: tensorflow/core/lib/io/record_writer.h and lib/hash/crc32c.h. What the records are, and what
lies beside them, is `_examples`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _examples as examples
from ._examples import Form

_FORMAT = "tfrecord"
_LENGTH = struct.Struct("<Q")
_HEAD = struct.Struct("<QI")  # a record's length, and the checksum of these 8 bytes
_CHECKSUM = struct.Struct("<I")


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a dataset's tables as the data_dir of TFDS.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    return examples.write(inputs, goal, chosen, advance, _FORMAT, _appended)


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[examples.Append]:
    masked = _checksum()

    def framed(data: bytes) -> Iterator[bytes]:
        length = _LENGTH.pack(len(data))
        yield length
        yield _CHECKSUM.pack(masked(length))
        yield data
        yield _CHECKSUM.pack(masked(data))

    with writing.hashed(path) as append:
        yield lambda records: append(b"".join(part for data in records for part in framed(data)))


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of a split, each with the bytes of its frame.

    Raises:
        ArtefactError: a file ends early, a checksum is wrong, or a record is no Example of an image
            of this shape and a label.
        FileNotFoundError: there is no such file.
    """
    dataset, split = subject.dataset, subject.split
    form = Form.of(dataset)
    decode = examples.decoder(split, form, dataset)
    for name, low, high, first in examples.find(path, subject, form, _FORMAT, start, stop):
        for number, data, at in _frames(path / name, low, high, first):
            found = decode(first + number, data, f"{path / name}, record {first + number:,}")
            yield Stored(found, at, at + _HEAD.size + len(data) + _CHECKSUM.size, file=name)


def _frames(path: Path, low: int, high: int, first: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (number, content, start) of some records of a file; those before are passed by.

    `first` is how many records of the split lie in files before this one.
    """
    masked = _checksum()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, at = os.fstat(descriptor).st_size, 0
        for number in range(high):
            where = f"{path}, record {first + number:,} from byte {at:,}"
            head = os.pread(descriptor, _HEAD.size, at)
            if len(head) < _HEAD.size:
                raise ArtefactError(f"{where}: the file ends before it.")
            length, checksum = _HEAD.unpack(head)
            if masked(head[: _LENGTH.size]) != checksum:
                raise ArtefactError(f"{where}: the checksum of its length is wrong.")
            end = at + _HEAD.size + length + _CHECKSUM.size
            if end > size:
                raise ArtefactError(f"{where}: expected {length:,} bytes, but the file ends early.")
            if number >= low:
                data = os.pread(descriptor, length + _CHECKSUM.size, at + _HEAD.size)
                content, found = data[:length], data[length:]
                if _CHECKSUM.pack(masked(content)) != found:
                    raise ArtefactError(f"{where}: its checksum is wrong.")
                yield number, content, at
            at = end
    finally:
        os.close(descriptor)


def _checksum() -> Callable[[bytes], int]:
    """Return TFRecord's checksum of bytes: their CRC-32C, turned, so that none is of its own."""
    import google_crc32c

    crc: Callable[[bytes], int] = google_crc32c.value

    def masked(data: bytes) -> int:
        c = crc(data)
        return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF

    return masked


EXPORT = Product(
    name="tfds",
    title="for TensorFlow Datasets: TFRecord files of Examples, as tfds.load reads them.",
    scope="dataset",
    files="exports/{dataset}/tfds/",
    code_version="1",
    write=write,
    read=read,
    columns=examples.COLUMNS,
    options=(examples.SHARD_RECORDS,),
    parameters=examples.parameters,
    room=lambda image: image + 256,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib",),
    names=examples.NAMES,
    measured=(21.3, 1.43),
    read_by=(
        Reader(
            "tensorflow_datasets 4.9.10",
            ("tensorflow_datasets==4.9.10", "tensorflow"),
            """import tensorflow_datasets as tfds
tfds.load("{dataset}", data_dir="{path}", download=False, split="{split}", as_supervised=True)""",
            "EMNIST's names are `emnist/letters` and so on; its images are on their side, and its "
            "letters count from 1, as everywhere in TFDS.",
        ),
        Reader(
            "tfrecord 1.14.6",
            ("tfrecord==1.14.6",),
            """import glob
from tfrecord import tfrecord_loader
[path] = glob.glob("{path}/**/*-{split}.tfrecord-00000-of-00001", recursive=True)
tfrecord_loader(path, None, {"image": "byte", "label": "int"})""",
            "Without TensorFlow; it does not hold the checksums.",
        ),
    ),
)
