"""The IDX format of MNIST, Fashion-MNIST and EMNIST: a big-endian header, then the array.

Not here: gzip and zip (`archives.members`), Parquet (`tables`).

Source of the format: the MNIST homepage. Bytes 0–1 are zero, byte 2 is the element type (0x08 is
unsigned byte), byte 3 the number of dimensions, then each dimension as a big-endian uint32, then
the elements, the last dimension varying fastest.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from ..declarations import Dataset, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Members, OpenMember, Place
from . import Format, Role
from ._bytes import expect_end, fill, labels_from_0, too_many_for_a_byte

UNSIGNED_BYTE = 0x08
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
    """Yield the records of an IDX split: one member of images, one of labels.

    Raises:
        FormatError: a header, a length or a label differs from what the split declares.
    """
    [images_member], [labels_member] = split.members["images"], split.members["labels"]
    labels = open_member(labels_member)  # first and whole: of a tar, one member at a time
    promised = _read_header(labels, (split.records,))
    raw_labels = np.empty(split.records, np.uint8)
    fill(labels, raw_labels, promised)
    expect_end(labels, promised)
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
        yield Batch(
            pixels[..., np.newaxis],
            labels_from_0(raw_labels[start : start + records], dataset, labels.name, start),
        )
    expect_end(images, promised)


def locate(dataset: Dataset, split: Split, index: int, _members: Members) -> list[Place]:
    """Return where a record's image and its label stand.

    Each stands after the header of its member, whose length the number of dimensions decides.
    """
    [images], [labels] = split.members["images"], split.members["labels"]
    size = dataset.image.size_bytes
    start = _header_bytes(3) + index * size
    label = _header_bytes(1) + index
    return [
        Place("images", images, start, start + size),
        Place("labels", labels, label, label + 1),
    ]


def assemble(
    dataset: Dataset, _split: Split, _places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of an image's bytes and its label's.

    Raises:
        FormatError: the label stands for no class.
    """
    pixels, label = (np.frombuffer(part, np.uint8) for part in parts)
    height, width, channels = dataset.image.shape
    if dataset.orientation == "transposed":
        pixels = np.ascontiguousarray(pixels.reshape(width, height).T)
    return Batch(
        pixels.reshape(1, height, width, channels),
        labels_from_0(label, dataset, "its label", 0),
    )


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what no IDX member could hold of such a dataset."""
    yield from too_many_for_a_byte(dataset)
    if dataset.image.channels > 1 or dataset.coarse_classes:
        yield "format idx has one channel and no coarse_classes"


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _read_header(stream: ByteStream, declared: tuple[int, ...]) -> str:
    """Read the header, hold it against the declared dimensions, and return what it promises."""
    magic = np.zeros(4, np.uint8)
    fill(stream, magic, "an IDX member begins with 4 bytes of magic number")
    zero, kind, dimensions = int(magic[0]) << 8 | int(magic[1]), int(magic[2]), int(magic[3])
    if zero or kind not in TYPES:
        raise FormatError(
            f"{stream.name}: expected an IDX magic number such as 00000803, found "
            f"{magic.tobytes().hex()}. These bytes are not IDX."
        )
    if kind != UNSIGNED_BYTE or dimensions != len(declared):
        raise FormatError(
            f"{stream.name}: expected IDX uint8 with {len(declared)} dimensions (magic "
            f"{UNSIGNED_BYTE << 8 | len(declared):08x}), found {TYPES[kind]} with {dimensions} "
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
    return (
        f"the IDX header promises {_shape(found)} = {int(np.prod(found, dtype=np.int64)):,} bytes"
    )


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
