"""The pixels of a table, decompressed page by page into the array that wants them.

Parquet keeps a column as pages, each a header and its values, compressed. Our pixels are never
null, so a page of ours *is* a piece of the array once it is decompressed; Arrow's reader would copy
every value once more, and can share work between threads by row group only. Not here: any other
column, and pages that are damaged or that something else laid out otherwise: those are Arrow's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..records import Pixels
from .opening import Group, Opened

_HEADER_BYTES = 64  # more than any header of ours has
_HEADER = re.compile(  # Thrift's compact protocol: what a field is, then what it holds
    rb"\x15\x00"  # a data page
    rb"\x15(?P<size>[\x80-\xff]{0,4}[\x00-\x7f])"
    rb"\x15(?P<compressed>[\x80-\xff]{0,4}[\x00-\x7f])"
    rb"\x2c\x15(?P<records>[\x80-\xff]{0,4}[\x00-\x7f])"
    rb"\x15\x00"  # PLAIN: the values as they are
    rb"\x15\x06\x15\x06(\x1c\x00)?\x00\x00"  # no levels, no statistics, no checksum
)


class _Page(NamedTuple):
    first: int  # record
    records: int
    position: int  # in the file, of its compressed bytes
    size_bytes: int


class _Other(Exception):
    """A page is not laid out as ours are."""


def filler(images: Pixels, table: Opened, groups: list[Group], start: int) -> Callable[[], bool]:
    """Return what puts a table's images, from record `start` on, into an array.

    Any number of threads may call it at once: they share the pages. It returns whether all pages
    that it met were laid out as ours are; where one was not, the array is not filled.

    Args:
        images: uint8 of shape (records, height, width, channels).
        table: where they are read.
        groups: the row groups that hold those records.
        start: the first record.
    """
    stop, width = start + len(images), table.about.record_bytes
    flat = images.reshape(len(images), width)
    try:
        pages = list(_pages(table, groups, start, stop))
    except (_Other, OSError):
        return lambda: False
    largest = max((page.size_bytes for page in pages), default=0)
    left = iter(pages)  # which several threads may ask
    descriptor = table.source.fileno()  # read by position: a NativeFile is not for several threads

    def fill() -> bool:
        codec = pa.Codec("zstd")
        try:
            memory = memoryview(pa.allocate_buffer(largest))  # for one page after the other
            for page in left:
                compressed = memory[: page.size_bytes]
                if os.preadv(descriptor, [compressed], page.position) != page.size_bytes:
                    raise _Other
                values = codec.decompress(compressed, page.records * width)
                found = np.frombuffer(values, np.uint8).reshape(-1, width)
                low, high = max(page.first, start), min(page.first + page.records, stop)
                flat[low - start : high - start] = found[low - page.first : high - page.first]
            return True
        except (_Other, OSError, pa.ArrowException):
            return False

    return fill


def _pages(table: Opened, groups: list[Group], start: int, stop: int) -> Iterator[_Page]:
    """Yield the pages of some row groups that hold pixels of records `start` to `stop`, in order.

    Raises:
        _Other: they are not laid out as ours are.
    """
    width, at = table.about.record_bytes, table.file.schema_arrow.get_field_index("pixels")
    kind = table.file.schema.column(at)
    found = (kind.path, kind.physical_type, kind.length, kind.max_definition_level)
    if found != ("pixels", "FIXED_LEN_BYTE_ARRAY", width, 0):
        raise _Other
    for group in groups:
        column = table.file.metadata.row_group(group.number).column(at)
        if column.compression != "ZSTD" or column.has_dictionary_page:
            raise _Other
        first, last = group.first, group.first + group.records
        position = column.data_page_offset
        end = position + column.total_compressed_size
        while first < last:
            header = _HEADER.match(os.pread(table.source.fileno(), _HEADER_BYTES, position))
            if header is None:
                raise _Other
            position += header.end()
            size, compressed, records = map(_number, header.group("size", "compressed", "records"))
            is_whole = size == records * width and 0 < compressed <= end - position
            if not is_whole or not 0 < records <= last - first:
                raise _Other
            if max(first, start) < min(first + records, stop):
                yield _Page(first, records, position, compressed)
            position, first = position + compressed, first + records


def _number(text: bytes) -> int:
    """Return what Thrift's variable-length text says: seven bits a byte, the lowest is the sign."""
    value = sum((byte & 127) << 7 * at for at, byte in enumerate(text))
    return (value >> 1) ^ -(value & 1)
