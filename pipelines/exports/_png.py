r"""PNG: the one encoder of all exports that hold pictures, and a decoder of exactly what it writes.

    signature, IHDR, one IDAT, IEND

Eight bits, grey (colour type 0) or RGB (2), nothing else in the file. Lines of grey pictures are
stored as they are, those of colour as differences to the pixel on the left (filter 1, "Sub").
Measured per record (bytes, microseconds of zlib 1.2.13), at level 6:

    filter            none          Sub           Up            Paeth
    MNIST             193, 21       228, 26       236, 27       235, 29 + 30
    Fashion-MNIST     457, 36       498, 37       479, 39       469, 33 + 23
    CIFAR-10          2800, 67      2403, 70      2438, 65      2230, 61 + 180

Paeth saves a fourteenth for CIFAR, but takes longer to undo than all the rest. For MNIST, level 1
takes a third less time and 6 % more room, level 9 nearly twice the time for 1 %. The bytes follow
the zlib that Python is linked with: zlib-ng makes others, of the same pixels.

Not here: which file a picture is put into.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .. import tables, threads
from ..errors import ArtefactError
from ..records import Batch, Pixels

LEVEL = 6
RUN = 512
"""Records that a thread encodes at once, about 10 ms: enough that handing them over costs nothing.

Threads scale though a call of zlib takes 20 µs only: of 0.8 s that two of them ran for MNIST's
60,000 records, each waited less than 0.1 s for the other one to let go of Python's lock.
"""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTERS = {1: 0, 3: 1}  # channels → how lines are filtered
_COLOUR_TYPES = {1: 0, 3: 2}
_UINT32 = struct.Struct(">I")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (_UINT32.pack(len(data)), kind, data, _UINT32.pack(zlib.crc32(data, zlib.crc32(kind))))
    )


_END = _chunk(b"IEND", b"")


def _head(shape: tuple[int, int, int]) -> bytes:
    """Return how the file of a picture of shape (height, width, channels) begins."""
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header)


def encode(images: Pixels) -> list[bytes]:
    """Return each picture of an array of shape (records, height, width, channels) as a PNG."""
    records, height, width, channels = images.shape
    lines = images.reshape(records, height, width * channels)
    filtered = np.empty((records, height, 1 + width * channels), np.uint8)
    filtered[:, :, 0] = _FILTERS[channels]
    filtered[:, :, 1:] = lines
    if channels > 1:
        filtered[:, :, 1 + channels :] -= lines[:, :, :-channels]
    data, size = filtered.reshape(-1).data, height * (1 + width * channels)
    head = _head((height, width, channels))
    found = []
    for at in range(0, len(data), size):
        packed = zlib.compress(data[at : at + size], LEVEL)
        found.append(b"".join((head, _chunk(b"IDAT", packed), _END)))
    return found


def decode(file: bytes, shape: tuple[int, int, int], where: str) -> Pixels:
    """Return the one picture, of shape (1, height, width, channels), of a PNG as written here.

    Its header must be that of the shape, and it may unpack to no more than that holds.

    Args:
        file: the PNG.
        shape: (height, width, channels).
        where: the picture, for messages.

    Raises:
        ArtefactError: it is no such PNG, or damaged.
    """
    height, width, channels = shape
    head, size = _head(shape), height * (1 + width * channels)
    if not file.startswith(head):
        raise ArtefactError(
            f"{where}: expected a PNG of {height}×{width} pixels and {channels} channel(s), 8 bits "
            f"each; found {file[: len(head)].hex()}."
        )
    packed = file[len(head) + 8 : -len(_END) - 4]
    if file != b"".join((head, _chunk(b"IDAT", packed), _END)):
        raise ArtefactError(
            f"{where}: expected one IDAT and IEND, whose CRC-32 are right; the PNG of "
            f"{len(file):,} bytes is damaged, or something else wrote it."
        )
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, size + 1)
    except zlib.error as error:
        raise ArtefactError(f"{where}: what its PNG packs is damaged ({error}).") from error
    if len(data) != size or not unpacking.eof or unpacking.unused_data:
        raise ArtefactError(f"{where}: expected {size:,} bytes in its PNG, found more or fewer.")
    filtered = np.frombuffer(data, np.uint8).reshape(height, 1 + width * channels)
    if (filtered[:, 0] != _FILTERS[channels]).any():
        raise ArtefactError(f"{where}: expected filter {_FILTERS[channels]} in each line.")
    lines = filtered[:, 1:].reshape(1, height, width, channels)
    return np.cumsum(lines, 2, np.uint8) if channels > 1 else lines.copy()


def most_bytes(shape: tuple[int, int, int]) -> int:
    """Return more than a picture of a shape can take as a PNG, whichever zlib packs it."""
    height, width, channels = shape
    size = height * (1 + width * channels)
    return size + size // 8 + 1024


def of_table(table: Path, *, transposed: bool = False) -> Generator[tuple[Batch, list[bytes]]]:
    """Yield a table's records, some hundred at a time and in order, with the PNG of each.

    All cores encode meanwhile; only a few runs are held at once. PNGs that are `transposed` show
    columns as rows; the records stay as they are.

    Raises:
        TableError: no table of ours.
    """
    waiting: deque[tuple[Batch, Future[list[bytes]]]] = deque()
    with ThreadPoolExecutor(threads.WORKERS, thread_name_prefix="png") as pool:
        for batch in tables.batches(table):
            for start in range(0, len(batch), RUN):
                run = batch.between(start, start + RUN)
                shown = run.images.transpose(0, 2, 1, 3) if transposed else run.images
                waiting.append((run, pool.submit(encode, shown)))
                if len(waiting) > 2 * threads.WORKERS:
                    first, encoded = waiting.popleft()
                    yield first, encoded.result()
        while waiting:
            first, encoded = waiting.popleft()
            yield first, encoded.result()
