"""Where LMDB keeps the value of a key: its file format, version 1, as mdb.c writes it on 64 bits.

LMDB's library tells keys and values, but not between which bytes of the file a value stands. And it
maps the file and follows every number in it: a damaged one can end the process (SIGBUS). Here every
number is held against the file.

Not here: what a value means.
"""

from __future__ import annotations

import bisect
import struct
from pathlib import Path
from typing import BinaryIO

from ..errors import ArtefactError

_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<16x I I 16x I 84x Q 8x Q")  # magic, version, page size, root, transaction
_PAGE = struct.Struct("<8x 2x H H 2x")  # flags, and where the offsets of its nodes end
_NODE = struct.Struct("<HHHH")  # size of the value or number of a page, in parts; flags; key size
_BRANCH, _LEAF = 0x01, 0x02  # flags of a page
_BIG = 0x01  # flag of a node whose value has pages of its own
_DEEPEST = 32


def item(file: BinaryIO, path: Path, index: int) -> tuple[str, bytes, int, int]:
    """Return the key of a record, its value, and the value's first and last byte (exclusive).

    Keys are as long as the first one.

    Raises:
        ArtefactError: `path`, which is open as `file`, is no LMDB, or has no such key.
    """
    try:
        first, *_ = _look_up(file, b"")
        key = b"%0*d" % (len(first), index)
        found, start, stop = _look_up(file, key)
        value = _read(file, start, stop - start)
    except (LookupError, OverflowError, OSError, ValueError, struct.error) as error:
        raise ArtefactError(f"{path} is no LMDB, or damaged: {error}.") from error
    if found != key:
        raise ArtefactError(f"{path} has no key {key.decode()}.")
    return key.decode(), value, start, stop


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


def page_bytes(path: Path) -> int | None:
    """Return the size of an LMDB file's pages; None where it is none that can be read here."""
    try:
        with path.open("rb") as file:
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
