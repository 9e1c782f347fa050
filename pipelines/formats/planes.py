"""Planes without any header, as STL-10 has them: a member of images, and one of labels, if any.

An image is its planes, red, green and blue, each row by row; where the catalogue declares
`orientation = "transposed"`, column by column, as MATLAB and Fortran store them. A label is a byte.

Not here: labels and planes in one record (`cifar`), archives (`archives.members`), Parquet.

Source of the format: https://cs.stanford.edu/~acoates/stl10/.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from ..declarations import Dataset, Split
from ..records import Batch, Members, OpenMember, Place
from . import Format, Role
from ._bytes import expect_end, fill, labels_from_0, too_many_for_a_byte, unasked
from ._planes import upright


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split.

    Raises:
        FormatError: a member has another size than declared, or a label stands for no class.
    """
    [images_member] = split.members["images"]
    size, raw, where = dataset.image.size_bytes, None, ""
    for member in split.members.get("labels", ()):  # first and whole: of a tar, one at a time
        labels = open_member(member)
        raw, where = np.empty(split.records, np.uint8), labels.name
        promised = f"{split.records:,} labels of a byte are declared"
        fill(labels, raw, promised)
        expect_end(labels, promised)
    images = open_member(images_member)
    promised = f"{split.records:,} images of {size:,} bytes are declared"
    stored = np.empty((min(batch_records, split.records), size), np.uint8)
    for start in range(0, split.records, batch_records):
        some = stored[: min(batch_records, split.records - start)]
        fill(images, some, promised)
        here = None if raw is None else raw[start : start + len(some)]
        yield Batch(
            upright(some, dataset.image, dataset.orientation == "transposed"),
            None if here is None else labels_from_0(here, dataset, where, start),
        )
    expect_end(images, promised)


def locate(dataset: Dataset, split: Split, index: int, _members: Members) -> list[Place]:
    """Return where a record's image and its label stand."""
    sizes = {"images": dataset.image.size_bytes, "labels": 1}
    return [
        Place(role, member, index * size, (index + 1) * size)
        for role, size in sizes.items()
        for member in split.members.get(role, ())
    ]


def assemble(
    dataset: Dataset, _split: Split, _places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of an image's bytes and its label's.

    Raises:
        FormatError: the label stands for no class.
    """
    image, *rest = (np.frombuffer(part, np.uint8) for part in parts)
    labels = labels_from_0(rest[0], dataset, "its label", 0) if rest else None
    by_columns = dataset.orientation == "transposed"
    return Batch(upright(image, dataset.image, by_columns), labels)


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what such members can't hold of a dataset."""
    yield from too_many_for_a_byte(dataset)
    yield from unasked("planes", dataset, "orientation")


FORMAT = Format(
    name="planes",
    roles={"images": Role(holds=("pixels",)), "labels": Role(holds=("label",))},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
