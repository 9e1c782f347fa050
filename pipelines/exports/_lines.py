"""Where the lines of a text begin that is too large to be read at once.

Not here: what stands in them.
"""

from __future__ import annotations

from typing import BinaryIO

_CHUNK_BYTES = 1 << 20


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
    """Return whether a field is an integer 0 to 255; Python reads no integer of 4,301 digits."""
    return len(field) <= len(b"255") and field.isdigit() and int(field) <= 255
