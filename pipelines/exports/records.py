"""One record read back out of an export: a line of a CSV, a `Datum` of an LMDB.

Not here: writing either (`to_csv`, `to_lmdb`), or judging what was found (`pipelines.trace`). Only
the one record is read: lines before it are counted, not parsed, and LMDB looks its key up.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ArtefactError
from ..records import Batch

_CHUNK_BYTES = 1 << 20


def from_csv(path: Path, index: int, shape: tuple[int, int, int]) -> tuple[Batch, int, int]:
    """Return a record, and the first and the last byte (exclusive) of its line in the file.

    A first line that begins with `label` is a header and counts for nothing.

    Raises:
        ArtefactError: there is no such line, or it holds no label and pixels of this shape.
        FileNotFoundError: there is no such file.
    """
    size = shape[0] * shape[1] * shape[2]
    with path.open("rb") as file:
        has_header = file.read(5) == b"label"
        start = _start_of_line(file, index + has_header)
        file.seek(start)
        line = file.readline(4 * (size + 2))  # no longer than a label and every pixel can be
    if not line:
        raise ArtefactError(f"{path} ends before record {index:,}.")
    fields = line.rstrip(b"\r\n").split(b",")
    if len(fields) != size + 1:
        raise ArtefactError(
            f"{path}: expected a label and {size:,} intensities in record {index:,}, found "
            f"{len(fields):,} field(s)."
        )
    wrong = [field for field in fields if not _is_a_byte(field)]
    if wrong:
        text = wrong[0].decode("utf-8", "replace")
        raise ArtefactError(
            f"{path}: expected integers 0 to 255 in record {index:,}, found {text!r:.40}."
        )
    values = np.array([int(field) for field in fields], np.uint8)
    return Batch(values[1:].reshape(1, *shape), values[:1]), start, start + len(line)


def _is_a_byte(field: bytes) -> bool:
    """Return whether a field is an integer 0 to 255; Python reads no integer of 4,301 digits."""
    return len(field) <= len(b"255") and field.isdigit() and int(field) <= 255


def from_lmdb(path: Path, index: int, shape: tuple[int, int, int]) -> tuple[Batch, str, int, int]:
    """Return a record, its key, and the first and the last byte (exclusive) of its value.

    Keys are as long as the first one.

    Raises:
        ArtefactError: no LMDB, no such key, or no `Datum` of this shape.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        try:
            first, *_ = _look_up(file, b"")
            key = b"%0*d" % (len(first), index)
            found, start, stop = _look_up(file, key)
            value = _read(file, start, stop - start)
        except (LookupError, OverflowError, OSError, ValueError, struct.error) as error:
            raise ArtefactError(f"{path} is no LMDB, or damaged: {error}.") from error
    if found != key:
        raise ArtefactError(f"{path} has no key {key.decode()}.")
    record = _record(value, f"{path}, key {key.decode()}", shape)
    return record, key.decode(), start, stop


def _start_of_line(file: BinaryIO, number: int) -> int:
    """Return where a line begins (counted from 0), or the end of the file."""
    file.seek(0)
    start = 0
    while number and (chunk := file.read(_CHUNK_BYTES)):
        ends = chunk.count(b"\n")
        if ends < number:
            number -= ends
            start += len(chunk)
            continue
        at = -1
        for _ in range(number):
            at = chunk.index(b"\n", at + 1)
        return start + at + 1
    return start


# LMDB's file format, version 1, as its mdb.c writes it on 64 bits, little-endian. Its library maps
# the file and follows every number in it: a damaged one can end the process (SIGBUS).
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<16x I I 16x I 84x Q 8x Q")  # magic, version, page size, root, transaction
_PAGE = struct.Struct("<8x 2x H H 2x")  # flags, and where the offsets of its nodes end
_NODE = struct.Struct("<HHHH")  # size of the value or number of a page, in parts; flags; key size
_BRANCH, _LEAF = 0x01, 0x02  # flags of a page
_BIG = 0x01  # flag of a node whose value has pages of its own
_DEEPEST = 32


def _look_up(file: BinaryIO, key: bytes) -> tuple[bytes, int, int]:
    """Return the last key that is not after `key`, and where its value begins and ends.

    The first key is returned where all are after `key`.

    Raises:
        LookupError, ValueError, struct.error: this is no LMDB, or a damaged one.
    """
    size, number = _root(file)
    for _ in range(_DEEPEST):
        page = _read(file, number * size, size)
        flags, end = _PAGE.unpack_from(page)
        offsets = struct.unpack_from(f"<{(end - _PAGE.size) // 2}H", page, _PAGE.size)
        nodes = [_NODE.unpack_from(page, offset) for offset in offsets]
        starts = [offset + _NODE.size for offset in offsets]
        keys = [page[at : at + node[3]] for at, node in zip(starts, nodes, strict=True)]
        found = max(0, bisect.bisect(keys, key, lo=1) - 1)  # a branch's first key is left out
        low, middle, high, key_size = nodes[found]
        if flags & _BRANCH:
            number = low | middle << 16 | high << 32
        elif flags & _LEAF:
            start = number * size + starts[found] + key_size
            if high & _BIG:
                [first] = struct.unpack("<Q", _read(file, start, 8))
                start = first * size + _PAGE.size
            return keys[found], start, start + (low | middle << 16)
        else:
            break
    raise ValueError(f"page {number:,} is out of place")


def page_bytes(file: BinaryIO) -> int | None:
    """Return the size of an LMDB file's pages; None where it is none that can be read here."""
    try:
        return _root(file)[0]
    except (OSError, ValueError, OverflowError, struct.error):
        return None


def _root(file: BinaryIO) -> tuple[int, int]:
    """Return the size of the pages, and the number of the one where every search begins."""
    magic, version, size, *_ = first = _META.unpack(_read(file, 0, _META.size))
    second = _META.unpack(_read(file, size, _META.size))
    if not first[:3] == second[:3] == (_MAGIC, 1, size):
        raise ValueError(f"it begins with {magic:08x}, version {version}")
    latest = first if first[4] > second[4] else second
    return size, latest[3]


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"expected bytes {start:,} to {start + size:,}, found the end of the file")
    return data


def _record(value: bytes, where: str, shape: tuple[int, int, int]) -> Batch:
    try:
        datum = dict(_fields(value))
        height, width, channels = shape
        found = tuple(datum[number] for number in (1, 2, 3))
        data, label = datum[4], datum[5]
        if found != (channels, height, width) or len(data) != height * width * channels:
            raise ArtefactError(
                f"{where}: expected (channels, height, width) {(channels, height, width)}, found "
                f"{found} and {len(data):,} bytes."
            )
        planes = np.frombuffer(data, np.uint8).reshape(1, channels, height, width)
        images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        return Batch(images, np.array([label], np.uint8))
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtefactError(f"{where}: the value is no Datum ({type(error).__name__}).") from error


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field of a protobuf message: varints and bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 2:
            size = varint()
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError(tag)
