"""Texts of a record per line: written many at a time, and found in a file of any size.

Not here: what stands in a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Texts = npt.NDArray[np.uint32]

AT_ONCE = 64
"""Lines that are formatted together: few enough to use the same memory again and again."""

_CHUNK_BYTES = 1 << 20


def filled(texts: Sequence[bytes]) -> Texts:
    """Return texts as rows of whole words of four bytes, filled up with NUL from the left.

    Lines come of looking all their texts up in such arrays and dropping the NULs.
    """
    import numpy as np

    width = -(-max(map(len, texts)) // 4) * 4
    joined = b"".join(text.rjust(width, b"\0") for text in texts)
    return np.frombuffer(joined, np.uint32).reshape(len(texts), -1)


def start_of(file: BinaryIO, number: int, first: int = 0) -> int:
    """Return where a line begins (counted from 0, at byte `first`), or the end of the file."""
    file.seek(start := first)
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


def is_a_byte(field: bytes) -> bool:
    """Return whether a field is an integer 0 to 255."""
    return is_within(field, 255)


def is_within(field: bytes, most: int) -> bool:
    """Return whether a field is an integer 0 to `most`; Python reads none of 4,301 digits."""
    return len(field) <= len(str(most)) and field.isdigit() and int(field) <= most


def most_label(classes: int) -> int:
    """Return the largest number that the labels of so many classes have room for: 255 or 65,535."""
    import numpy as np

    from ..records import label_type

    return int(np.iinfo(label_type(classes)).max)
