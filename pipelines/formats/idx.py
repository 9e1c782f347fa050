"""The IDX format of MNIST, Fashion-MNIST and EMNIST: a big-endian header, then the array.

Not here: gzip and zip (`archives.members`), Parquet (`tables`).

Source of the format: the MNIST homepage. Bytes 0–1 are zero, byte 2 is the element type (0x08 is
unsigned byte), byte 3 the number of dimensions, then each dimension as a big-endian uint32, then
the elements, the last dimension varying fastest.

Labels are a byte each. Where the catalogue declares `columns` they are QMNIST's: int32, big-endian
too, a row of columns for each record, of which one is the label. Source: the README of
facebookresearch/qmnist.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Members, OpenMember, Pixels, Place
from . import Format, Role
from ._bytes import expect_end, fill, labels_from_0, too_many_for_a_byte, unasked

UNSIGNED_BYTE, INT32 = 0x08, 0x0C
TYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of an IDX split: one member of images, one of labels where it has any.

    Raises:
        FormatError: a header, a length or a label differs from what the split declares.
    """
    [images_member] = split.members["images"]
    rows, where = None, ""
    for member in split.members.get("labels", ()):  # first and whole: of a tar, one at a time
        labels = open_member(member)
        rows, where = _read_labels(labels, dataset, split), labels.name
    images = open_member(images_member)
    shape = dataset.image
    turned = dataset.orientation == "transposed"
    stored = (shape.width, shape.height) if turned else (shape.height, shape.width)
    promised = _read_header(images, (split.records, *stored))
    for start in range(0, split.records, batch_records):
        records = min(batch_records, split.records - start)
        pixels = np.empty((records, *stored), np.uint8)
        fill(images, pixels, promised)
        if turned:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 1))
        here = None if rows is None else rows[start : start + records]
        yield _batch(pixels[..., np.newaxis], here, dataset, where, start)
    expect_end(images, promised)


def locate(dataset: Dataset, split: Split, index: int, _members: Members) -> list[Place]:
    """Return where a record's image and its label stand.

    Each stands after the header of its member, whose length the number of dimensions decides.
    """
    dimensions, size = _label_form(dataset)
    sizes = {"images": (3, dataset.image.size_bytes), "labels": (dimensions, size)}
    places = []
    for role, (dimensions, size) in sizes.items():
        for member in split.members.get(role, ()):
            start = _header_bytes(dimensions) + index * size
            places.append(Place(role, member, start, start + size))
    return places


def assemble(
    dataset: Dataset, _split: Split, _places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of an image's bytes and its label's.

    Raises:
        FormatError: the label stands for no class.
    """
    image, *rest = parts
    pixels = np.frombuffer(image, np.uint8)
    height, width, channels = dataset.image.shape
    if dataset.orientation == "transposed":
        pixels = np.ascontiguousarray(pixels.reshape(width, height).T)
    rows = np.frombuffer(rest[0], _label_type(dataset)) if rest else None
    if rows is not None and dataset.columns:
        rows = rows.reshape(1, -1)
    return _batch(pixels.reshape(1, height, width, channels), rows, dataset, "its label", 0)


def _batch(
    pixels: Pixels, rows: npt.NDArray[Any] | None, dataset: Dataset, where: str, start: int
) -> Batch:
    """Return records of what stands in both members."""
    if rows is None:
        return Batch(pixels, None)
    if not dataset.columns:
        return Batch(pixels, labels_from_0(rows, dataset, where, start))
    columns = dict(zip(dataset.columns, np.ascontiguousarray(rows.T, np.int32), strict=True))
    labels = labels_from_0(columns.pop("label"), dataset, where, start)
    return Batch(pixels, labels, extras=columns)


def _read_labels(stream: ByteStream, dataset: Dataset, split: Split) -> npt.NDArray[Any]:
    """Return labels as they stand in their member: of shape (records,), or (records, columns)."""
    shape = (split.records, *([len(dataset.columns)] if dataset.columns else []))
    found = np.empty(shape, _label_type(dataset))
    promised = _read_header(stream, shape, INT32 if dataset.columns else UNSIGNED_BYTE)
    fill(stream, found.view(np.uint8), promised)
    expect_end(stream, promised)
    return found


def _label_type(dataset: Dataset) -> np.dtype[Any]:
    return np.dtype(">i4" if dataset.columns else np.uint8)


def _label_form(dataset: Dataset) -> tuple[int, int]:
    """Return the dimensions of the member of labels, and the bytes that it has for a record."""
    return (2, 4 * len(dataset.columns)) if dataset.columns else (1, 1)


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what no IDX member could hold of such a dataset."""
    if dataset.columns and not all(split.labelled for split in dataset.splits.values()):
        yield "columns: they stand beside labels, and not all splits have labels"
    if not dataset.columns:
        yield from too_many_for_a_byte(dataset)
    yield from unasked("idx", dataset, "coarse_classes", "columns", "orientation")
    if dataset.image.channels > 1 or dataset.coarse_classes:
        yield "format idx has one channel and no coarse_classes"


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _read_header(stream: ByteStream, declared: tuple[int, ...], wanted: int = UNSIGNED_BYTE) -> str:
    """Read the header, hold it against the declared dimensions, and return what it promises."""
    magic = np.zeros(4, np.uint8)
    fill(stream, magic, "an IDX member begins with 4 bytes of magic number")
    zero, kind, dimensions = int(magic[0]) << 8 | int(magic[1]), int(magic[2]), int(magic[3])
    if zero or kind not in TYPES:
        raise FormatError(
            f"{stream.name}: expected an IDX magic number such as 00000803, found "
            f"{magic.tobytes().hex()}. These bytes are not IDX."
        )
    if kind != wanted or dimensions != len(declared):
        raise FormatError(
            f"{stream.name}: expected IDX {TYPES[wanted]} with {len(declared)} dimensions (magic "
            f"{wanted << 8 | len(declared):08x}), found {TYPES[kind]} with {dimensions} "
            f"(magic {magic.tobytes().hex()}). Are images and labels swapped in the catalogue?"
        )
    header = np.zeros(4 * dimensions, np.uint8)
    fill(stream, header, f"the IDX header promises {dimensions} dimensions")
    found = struct.unpack(f">{dimensions}I", header.tobytes())
    if found != declared:
        raise FormatError(
            f"{stream.name}: the IDX header promises {_shape(found)}, but the catalogue declares "
            f"{_shape(declared)}. If the publisher's file is right, correct the declaration."
        )
    size = int(np.prod(found, dtype=np.int64)) * (4 if wanted == INT32 else 1)
    return f"the IDX header promises {_shape(found)} = {size:,} bytes"


def _shape(dimensions: tuple[int, ...]) -> str:
    return "(" + ", ".join(f"{size:,}" for size in dimensions) + ")"


FORMAT = Format(
    name="idx",
    roles={"images": Role(holds=("pixels",)), "labels": Role(holds=("label",))},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
