"""NPY, as `numpy.save` writes it: a member for each class, in the order of `classes`.

A member holds the images of its class, (records, height · width · channels) or (records, height,
width[, channels]), and nothing tells a record's label but which member it is in. Classes without
records need no member. So a dataset can be built of any of its publisher's classes. Headers have
80 or 128 bytes, or any other number.

Not here: how such a member begins (`_npy`), images of all classes in one member (`numpy`),
archives that hold them (`archives.members`), Parquet (`tables`).
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..declarations import Dataset, Split
from ..errors import FormatError
from ..records import Batch, Members, OpenMember, Place, label_type
from . import Format, Role
from ._bytes import expect_end, fill, unasked
from ._npy import read_images_header


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split: those of each class in turn.

    Raises:
        FormatError: a member is no such array, it holds another number of records than is declared
            of its class, or there are not as many members as classes.
    """
    for problem in _wrong_members(dataset, split):
        raise FormatError(f"{dataset.name}/{split.name}: {problem}.")
    kind, left = label_type(len(dataset.classes)), sum(split.counts)
    pixels, labels, done = _room(dataset, kind, min(batch_records, left))
    for label, member in zip(_labels(split), split.members["arrays"], strict=True):
        stream, records = open_member(member), split.counts[label]
        promised = read_images_header(stream, dataset.image, records).promised
        while records:
            some = slice(done, done + min(records, len(labels) - done))
            fill(stream, pixels[some], promised)
            labels[some] = label
            records, done = records - (some.stop - some.start), some.stop
            if done == len(labels):
                yield Batch(pixels, labels)
                left -= done
                pixels, labels, done = _room(dataset, kind, min(batch_records, left))
        expect_end(stream, promised)


def _room(
    dataset: Dataset, kind: np.dtype[np.uint8 | np.uint16], records: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return images and labels to be filled, and how many are."""
    return np.empty((records, *dataset.image.shape), np.uint8), np.empty(records, kind), 0


def locate(dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record stands; counts tell in which member, its header where that begins."""
    ends = list(itertools.accumulate(split.counts))
    label = next(at for at, end in enumerate(ends) if index < end)
    member = split.members["arrays"][_labels(split).index(label)]
    records = split.counts[label]
    if member not in members.noted:
        header = read_images_header(members.open(member), dataset.image, records)
        members.noted[member] = header.begin
    size = dataset.image.size_bytes
    start = members.noted[member] + (index - ends[label] + records) * size
    return [Place("arrays", member, start, start + size)]


def assemble(
    dataset: Dataset, split: Split, places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of its image's bytes, and of the member that they stand in."""
    [place], [part] = places, parts
    label = _labels(split)[split.members["arrays"].index(place.member)]
    pixels = np.frombuffer(part, np.uint8).reshape(1, *dataset.image.shape)
    return Batch(pixels, np.array([label], label_type(len(dataset.classes))))


def by_member(dataset: Dataset, split: Split) -> list[Split]:
    """Return what each member holds: the records of its class."""
    nothing = (0,) * len(dataset.classes)
    return [
        replace(
            split,
            records=split.counts[label],
            counts=(*nothing[:label], split.counts[label], *nothing[label + 1 :]),
            members={"arrays": (member,)},
        )
        for label, member in zip(_labels(split), split.members["arrays"], strict=True)
        if split.counts[label]
    ]


def _labels(split: Split) -> list[int]:
    """Return the class of each member: all of them, or those that have records."""
    if len(split.members.get("arrays", ())) == len(split.counts):
        return [*range(len(split.counts))]
    return [label for label, records in enumerate(split.counts) if records]


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what arrays of images, one for each class, can't hold of such a dataset."""
    if dataset.coarse_classes or dataset.orientation != "upright" or dataset.first_label:
        yield "format npy has upright images, labels from 0, and no coarse_classes"
    yield from unasked("npy", dataset, "coarse_classes", "orientation")
    for split in dataset.splits.values():
        if not split.counts or split.rows:
            yield f"splits.{split.name}: format npy needs counts, and takes no rows"
        for problem in _wrong_members(dataset, split):
            yield f"splits.{split.name}.{problem}"


def _wrong_members(dataset: Dataset, split: Split) -> Iterator[str]:
    members = split.members.get("arrays", ())  # a role that is missing is told of elsewhere
    if members and len(members) != len(_labels(split)):
        yield (
            f"arrays: expected {len(dataset.classes):,} members, one for each class in their "
            f"order, found {len(members):,}"
        )
    if len({*members}) != len(members):
        yield "arrays: a member stands there twice, and would be of two classes"


FORMAT = Format(
    name="npy",
    roles={"arrays": Role(holds=("label", "pixels"), several=True)},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
    by_member=by_member,
)
