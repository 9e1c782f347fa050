"""NumPy's arrays: one of images, one of labels, each a member; of an npz, or beside each other.

An `.npz` is a zip of `.npy` members: `train_images.npy`, `train_labels.npy`. Images are bytes,
(records, height, width[, channels]) or (records, height · width · channels); labels are integers
of any type, (records) or (records, 1). A split without labels has no member of them.

Not here: how such a member begins (`_npy`), a member for each class (`npy`), archives that hold
them (`archives.members`), Parquet (`tables`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset, Split
from ..records import Batch, ByteStream, Labels, Members, OpenMember, Place
from . import Format, Role
from ._bytes import expect_end, fill, labels_from_0, unasked
from ._npy import BYTES, Header, read_header, read_images_header

INTEGERS = (
    *("<i8", ">i8", "<i4", ">i4", "<i2", ">i2", "<u8", ">u8", "<u4", ">u4", "<u2", ">u2"),
    *("|i1", "<i1", ">i1", "=i1", *BYTES),
)


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split: one member of images, one of labels where it has any.

    Raises:
        FormatError: a member is no such array, or a label stands for no class.
    """
    [images_member], labels_members = split.members["images"], split.members.get("labels", ())
    raw, where = None, ""
    for member in labels_members:  # first and whole: of a tar, one member at a time
        stream = open_member(member)
        header = _read_labels_header(stream, split)
        raw, where = np.empty(split.records, header.dtype), stream.name
        fill(stream, raw.view(np.uint8), header.promised)
        expect_end(stream, header.promised)
    images = open_member(images_member)
    promised = read_images_header(images, dataset.image, split.records).promised
    for start in range(0, split.records, batch_records):
        records = min(batch_records, split.records - start)
        pixels = np.empty((records, *dataset.image.shape), np.uint8)
        fill(images, pixels, promised)
        labels = None
        if raw is not None:
            labels = _labels(raw[start : start + records], dataset, where, start)
        yield Batch(pixels, labels)
    expect_end(images, promised)


def locate(dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record's image and its label stand: the headers tell where arrays begin."""
    places = []
    for role in FORMAT.roles:
        for member in split.members.get(role, ()):
            is_image = role == "images"
            if (role, member) not in members.noted:
                stream = members.open(member)
                members.noted[role, member] = (
                    read_images_header(stream, dataset.image, split.records)
                    if is_image
                    else _read_labels_header(stream, split)
                )
            header: Header = members.noted[role, member]
            size = dataset.image.size_bytes if is_image else header.dtype.itemsize
            start = header.begin + index * size
            kind = "" if is_image else header.dtype.str
            places.append(Place(role, member, start, start + size, kind))
    return places


def assemble(
    dataset: Dataset, _split: Split, places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of an image's bytes and its label's.

    Raises:
        FormatError: the label stands for no class.
    """
    image, *rest = parts
    labels = None
    for place, part in zip(places[1:], rest, strict=True):
        labels = _labels(np.frombuffer(part, place.kind), dataset, "its label", 0)
    pixels = np.frombuffer(image, np.uint8).reshape(1, *dataset.image.shape)
    return Batch(pixels, labels)


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what such arrays can't hold of a dataset."""
    yield from unasked("numpy", dataset)


def _read_labels_header(stream: ByteStream, split: Split) -> Header:
    shapes = [(split.records,), (split.records, 1)]
    return read_header(stream, INTEGERS, "integers", shapes)


def _labels(raw: npt.NDArray[Any], dataset: Dataset, where: str, start: int) -> Labels:
    """Return labels of any type of integers, counted from 0."""
    wide = np.uint64 if raw.dtype.kind == "u" else np.int64
    return labels_from_0(raw.astype(wide), dataset, where, start)


FORMAT = Format(
    name="numpy",
    roles={"images": Role(holds=("pixels",)), "labels": Role(holds=("label",))},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
