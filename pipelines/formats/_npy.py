r"""The header of an NPY member, read by its grammar and never evaluated.

    93 4E 55 4D 50 59       "\x93NUMPY"
    01 00 or 02 00          the version
    76 00 or 76 00 00 00    bytes of the header, little-endian: two in version 1.0, four in 2.0
    {'descr': '|u1', 'fortran_order': False, 'shape': (1000, 784), }      and blanks
    the array

What would need `pickle` is refused. Not here: what the array is to a dataset (`npy`, `numpy`).

Source of the format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..declarations import Image
from ..errors import FormatError
from ..records import ByteStream
from ._bytes import fill

MAGIC = b"\x93NUMPY"
BYTES = ("|u1", "<u1", ">u1", "=u1")  # a byte has no order
_SIZE_BYTES = {(1, 0): 2, (2, 0): 4}  # version → bytes of the header's length
_MOST_HEADER_BYTES = 10_000  # as NumPy's own reader has it

_TEXT = r"""'[^'\\]*'|"[^"\\]*\""""
_TUPLE = r"\((?:\s*[0-9]{1,19}L?\s*,)+(?:\s*[0-9]{1,19}L?)?\s*\)"  # L: of Python 2
_ENTRY = re.compile(rf"\s*(?P<key>{_TEXT})\s*:\s*(?P<value>{_TEXT}|True|False|{_TUPLE})\s*(,|$)")
_KEYS = ["descr", "fortran_order", "shape"]

Shape = tuple[int, ...]


class Header(NamedTuple):
    """How a member begins.

    begin: where the array begins.
    dtype: of its elements.
    shape: as promised.
    promised: the promise in words.
    """

    begin: int
    dtype: np.dtype[np.integer]
    shape: Shape
    promised: str


def read_header(
    stream: ByteStream, dtypes: Collection[str], called: str, shapes: Sequence[Shape]
) -> Header:
    """Read how a member begins, and hold it against what is declared.

    Args:
        stream: the member, from its start.
        dtypes: those that its elements may have, as `descr` names them; the first is shown.
        called: what these are, for the message.
        shapes: those that the array may have.

    Raises:
        FormatError: it is no such array.
    """
    said, begin = _said(stream)
    values = _parsed(said)
    [shown, *_], [example, *_] = dtypes, shapes
    if values is None:
        raise FormatError(
            f"{stream.name}: expected an NPY header such as {{'descr': '{shown}', 'fortran_order': "
            f"False, 'shape': {example}, }}, found {said!r:.120}."
        )
    if (dtype := values["descr"][1:-1]) not in dtypes:
        objects = ": objects would have to be unpickled, which runs code" if "O" in dtype else ""
        raise FormatError(
            f"{stream.name}: expected {called} (descr '{shown}'), found {dtype!r:.40}{objects}."
        )
    if values["fortran_order"] != "False":
        raise FormatError(
            f"{stream.name}: expected an array in C order (fortran_order False), found one in "
            "Fortran's."
        )
    shape = tuple(map(int, re.findall("[0-9]+", values["shape"])))
    if shape not in shapes:
        raise FormatError(
            f"{stream.name}: the NPY header promises {_shape(shape)}, but the catalogue declares "
            f"{' or '.join(map(_shape, shapes))}. If the publisher's file is right, correct the "
            "declaration."
        )
    found = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * found.itemsize
    return Header(begin, found, shape, f"the NPY header promises {_shape(shape)} = {size:,} bytes")


def read_images_header(stream: ByteStream, image: Image, records: int) -> Header:
    """Read how a member of images begins: unsigned bytes, in any shape that says the same.

    Raises:
        FormatError: it is no such array.
    """
    height, width, channels = image.shape
    shapes: list[Shape] = [(records, image.size_bytes), (records, *image.shape)]
    shapes += [(records, height, width)] if channels == 1 else []
    return read_header(stream, BYTES, "unsigned bytes", shapes)


def _said(stream: ByteStream) -> tuple[str, int]:
    """Return the text of a header, and where the array begins after it."""
    head = _read(stream, 8, "an NPY member begins with 8 bytes of magic number and version")
    if not head.startswith(MAGIC):
        raise FormatError(
            f"{stream.name}: expected the magic number of NPY, {MAGIC.hex()}, found "
            f"{head[: len(MAGIC)].hex()}. These bytes are not NPY."
        )
    major, minor = head[6:]
    if (major, minor) not in _SIZE_BYTES:
        raise FormatError(f"{stream.name}: expected NPY 1.0 or 2.0, found {major}.{minor}.")
    width = _SIZE_BYTES[major, minor]
    size = int.from_bytes(
        _read(stream, width, f"NPY {major}.{minor} says in {width} bytes how long its header is"),
        "little",
    )
    if size > _MOST_HEADER_BYTES:
        raise FormatError(
            f"{stream.name}: expected an NPY header of at most {_MOST_HEADER_BYTES:,} bytes, found "
            f"one of {size:,}."
        )
    text = _read(stream, size, f"an NPY header of {size:,} bytes is promised")
    return text.decode("latin-1"), len(head) + width + size


def _read(stream: ByteStream, size: int, promised: str) -> bytes:
    found = np.empty(size, np.uint8)
    fill(stream, found, promised)
    return found.tobytes()


def _parsed(text: str) -> dict[str, str] | None:
    """Return key → value of a header, as they are written there; None where it is none."""
    text = text.strip(" \n")
    if not (text.startswith("{") and text.endswith("}")):
        return None
    found, at, inside = list[tuple[str, str]](), 0, text[1:-1].strip()
    while at < len(inside):
        if (entry := _ENTRY.match(inside, at)) is None:
            return None
        found.append((entry["key"][1:-1], entry["value"]))
        at = entry.end()
    values = dict(found)
    kinds = {"descr": "'\"", "fortran_order": "TF", "shape": "("}
    is_one = sorted(key for key, _ in found) == _KEYS
    is_one = is_one and all(values[key][0] in begins for key, begins in kinds.items())
    return values if is_one else None


def _shape(dimensions: Shape) -> str:
    return "(" + ", ".join(f"{size:,}" for size in dimensions) + ")"
