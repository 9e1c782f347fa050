"""ArrayRecord: the folder of TFDS with files whose records can be read in any order, as by grain.

The records are those of `tfds`, and so is what lies beside them; but TFDS reads either kind of
file from a folder, never both. A file is made of chunks: 40 bytes, of which 8 to 16 say how many
come after them, then those. With `group_size:1` a chunk holds one record, at its end. At each
multiple of 65,536 bytes, 24 stand that belong to no chunk.

Source: google/array_record (cpp/array_record_writer.h) and google/riegeli's
doc/riegeli_records_file_format.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts
from . import _examples as examples
from ._examples import Form

_FORMAT = "array_record"
_OPTIONS = "group_size:1,uncompressed"  # PNGs don't get smaller; and where a record is can be told
_BLOCK, _BLOCK_HEAD = 1 << 16, 24
_CHUNK_HEAD = 40
_SIZE = struct.Struct("<8xQ")


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a dataset's tables as the data_dir of TFDS.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    return examples.write(inputs, goal, chosen, advance, _FORMAT, _appended)


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[examples.Append]:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), _OPTIONS)

    def append(records: list[bytes]) -> None:
        try:
            for record in records:
                writer.write(record)
        except RuntimeError as error:  # all that it ever raises
            raise OSError(errno.EIO, str(error), str(path)) from error

    try:
        yield append
    finally:
        try:
            writer.close()
        except RuntimeError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of a split, each with the bytes of its chunk.

    Raises:
        ArtefactError: a file is damaged, or a record is no Example of an image of this shape and a
            label.
        FileNotFoundError: there is no such file.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    dataset, split = subject.dataset, subject.split
    form = Form.of(dataset)
    decode = examples.decoder(split, form, dataset)
    for name, low, high, first in examples.find(path, subject, form, _FORMAT, start, stop):
        place = path / name
        with place.open("rb") as file:
            reader = None
            for number, (begin, end) in enumerate(_chunks(file.fileno(), high)):
                if number < low:
                    continue
                where = f"{place}, record {first + number:,} from byte {_place(begin):,}"
                try:
                    if reader is None:
                        reader = ArrayRecordReader(str(place))
                        reader.seek(low)
                    data = reader.read()
                except RuntimeError as error:
                    raise ArtefactError(f"{where}: {error}.") from error
                if not _logical(file.fileno(), begin, end).endswith(data):
                    raise ArtefactError(f"{where}: expected it in this chunk, found another.")
                found = decode(first + number, data, where)
                yield Stored(found, _place(begin), _place(end - 1) + 1, file=name)


def _chunks(descriptor: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield where the first chunks of records begin and end, counted without what belongs to none.

    They end where the file does; then there is nothing to read, either.
    """
    end = _CHUNK_HEAD  # the first chunk only says what kind of file it is
    for _ in range(most):
        begin = end
        head = _logical(descriptor, begin, begin + _CHUNK_HEAD)
        size = _SIZE.unpack_from(head.ljust(_CHUNK_HEAD, b"\0"))[0]
        end = begin + _CHUNK_HEAD + size
        yield begin, end


def _logical(descriptor: int, begin: int, end: int) -> bytes:
    """Return bytes of chunks, left out what belongs to none; fewer where the file ends."""
    first, last = _place(begin), _place(end - 1) + 1
    last = min(last, os.fstat(descriptor).st_size)
    data = os.pread(descriptor, max(last - first, 0), first)
    parts, at = [], first
    while at < last:
        until = min(last, (at // _BLOCK + 1) * _BLOCK)
        parts.append(data[at - first : until - first])
        at = until + _BLOCK_HEAD
    return b"".join(parts)


def _place(at: int) -> int:
    """Return where in the file a byte of the chunks is."""
    block, rest = divmod(at, _BLOCK - _BLOCK_HEAD)
    return block * _BLOCK + _BLOCK_HEAD + rest


EXPORT = Product(
    name="array_record",
    title="for grain: ArrayRecord files of Examples, as tfds.data_source reads them.",
    scope="dataset",
    files="exports/{dataset}/array_record/",
    code_version="1",
    write=write,
    read=read,
    columns=examples.COLUMNS,
    options=(examples.SHARD_RECORDS,),
    parameters=examples.parameters,
    room=lambda image: image + 256,
    reproducible="same libraries",
    sidecar=True,
    libraries=("zlib", "array_record"),
    extra="arrayrecord",
    requires=("array_record",),
    measured=(24.2, 1.26),
    read_by=(
        Reader(
            "tensorflow_datasets 4.9.10",
            ("tensorflow_datasets==4.9.10", "array_record==0.8.6"),
            """import tensorflow_datasets as tfds
tfds.data_source("{dataset}", data_dir="{path}", download=False, split="{split}")""",
            "Without TensorFlow; `tfds.load` reads the export tfds instead. EMNIST's names are "
            "`emnist/letters` and so on.",
        ),
        Reader(
            "grain",
            ("grain", "tensorflow_datasets==4.9.10", "array_record==0.8.6"),
            """import grain
import tensorflow_datasets as tfds
source = tfds.data_source("{dataset}", data_dir="{path}", download=False, split="{split}")
grain.MapDataset.source(source).shuffle(seed=0).batch(64)""",
        ),
    ),
)
