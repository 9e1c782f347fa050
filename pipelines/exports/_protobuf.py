"""Protobuf's wire format, as far as messages are written here: numbers, and what has a length.

A message is its fields one after the other. Not here: which fields a message has.
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it: 7 bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> bytes:
    """Return a field that holds a number."""
    return varint(field << 3) + varint(value)


def before(field: int, size_bytes: int) -> bytes:
    """Return what stands before the content of a field that has a length."""
    return varint(field << 3 | 2) + varint(size_bytes)


def content(field: int, data: bytes) -> bytes:
    """Return a field that holds bytes, a text, or another message."""
    return before(field, len(data)) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a byte, and where it ends.

    Raises:
        IndexError: the data end before it does.
    """
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
