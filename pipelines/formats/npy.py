r"""NPY, as `numpy.save` writes it: a member for each class, in the order of `classes`.

    93 4E 55 4D 50 59       "\x93NUMPY"
    01 00 or 02 00          the version
    76 00 or 76 00 00 00    bytes of the header, little-endian: two in version 1.0, four in 2.0
    {'descr': '|u1', 'fortran_order': False, 'shape': (1000, 784), }      and blanks
    the array

A member holds the images of its class, (records, height · width · channels) or (records, height,
width[, channels]), and nothing tells a record's label but which member it is in. Classes without
records need no member. So a dataset can be built of any of its publisher's classes. Headers have
80 or 128 bytes, or any other number.

A header is read by its grammar and never evaluated; what would need `pickle` is refused. Not here:
archives that hold such members (`archives.members`), Parquet (`tables`).

Source of the format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..declarations import Dataset, Image, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Members, OpenMember, Place, label_type
from . import Format, Role
from ._bytes import expect_end, fill

MAGIC = b"\x93NUMPY"
_SIZE_BYTES = {(1, 0): 2, (2, 0): 4}  # version → bytes of the header's length
_MOST_HEADER_BYTES = 10_000  # as NumPy's own reader has it
_BYTES = ("|u1", "<u1", ">u1", "=u1")  # a byte has no order

_TEXT = r"""'[^'\\]*'|"[^"\\]*\""""
_TUPLE = r"\((?:\s*[0-9]{1,19}L?\s*,)+(?:\s*[0-9]{1,19}L?)?\s*\)"  # L: of Python 2
_ENTRY = re.compile(rf"\s*(?P<key>{_TEXT})\s*:\s*(?P<value>{_TEXT}|True|False|{_TUPLE})\s*(,|$)")
_KEYS = ["descr", "fortran_order", "shape"]


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
        _, promised = _read_header(stream, dataset.image, records)
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
        begin, _ = _read_header(members.open(member), dataset.image, records)
        members.noted[member] = begin
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


def _read_header(stream: ByteStream, image: Image, records: int) -> tuple[int, str]:
    """Read how a member begins, and hold it against what is declared.

    Returns:
        where the array begins, and what the header promises.
    """
    said, begin = _said(stream)
    values = _parsed(said)
    if values is None:
        raise FormatError(
            f"{stream.name}: expected an NPY header such as {{'descr': '|u1', 'fortran_order': "
            f"False, 'shape': ({records}, {image.size_bytes}), }}, found {said!r:.120}."
        )
    if (dtype := values["descr"][1:-1]) not in _BYTES:
        objects = ": objects would have to be unpickled, which runs code" if "O" in dtype else ""
        raise FormatError(
            f"{stream.name}: expected unsigned bytes (descr '|u1'), found {dtype!r:.40}{objects}."
        )
    if values["fortran_order"] != "False":
        raise FormatError(
            f"{stream.name}: expected an array in C order (fortran_order False), found one in "
            "Fortran's."
        )
    shape = tuple(map(int, re.findall("[0-9]+", values["shape"])))
    height, width, channels = image.shape
    known = [(records, image.size_bytes), (records, *image.shape)]
    known += [(records, height, width)] if channels == 1 else []
    if shape not in known:
        raise FormatError(
            f"{stream.name}: the NPY header promises {_shape(shape)}, but the catalogue declares "
            f"{' or '.join(map(_shape, known))}. If the publisher's file is right, correct the "
            "declaration."
        )
    size = records * image.size_bytes
    return begin, f"the NPY header promises {_shape(shape)} = {size:,} bytes"


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


def _shape(dimensions: tuple[int, ...]) -> str:
    return "(" + ", ".join(f"{size:,}" for size in dimensions) + ")"


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
