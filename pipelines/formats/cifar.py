"""The binary format of CIFAR-10 and CIFAR-100: fixed-size records without any header.

Not here: tar and gzip (`archives.members`), Parquet (`tables`). The publisher's other
version, Python pickles, is never read: unpickling runs code that an archive brings along.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". A record is
the label (CIFAR-100: the coarse label, then the fine one), then the red, the green and the blue
plane, each row by row.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from ..declarations import Dataset, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Members, OpenMember, Place
from . import Format, Role
from ._bytes import labels_from_0, shifted_labels, too_many_for_a_byte, unasked


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a CIFAR split: its batches one after the other.

    Raises:
        FormatError: a batch is no whole number of records, the batches hold another number of
            records than declared, or a label stands for no class.
    """
    shape = dataset.image
    label_bytes = _label_bytes(dataset)
    record_bytes = label_bytes + shape.size_bytes
    start = 0
    for member in split.members["batches"]:
        stream = open_member(member)
        while records := _read_records(stream, record_bytes, batch_records):
            raw = np.frombuffer(records, np.uint8).reshape(-1, record_bytes)
            planes = raw[:, label_bytes:].reshape(-1, shape.channels, shape.height, shape.width)
            if start + len(raw) > split.records:
                raise FormatError(
                    f"{stream.name}: the catalogue declares {split.records:,} records in "
                    f"{len(split.members['batches'])} batch(es), but there are more."
                )
            fine = raw[:, label_bytes - 1]
            coarse = raw[:, 0] if dataset.coarse_classes else None
            yield Batch(
                np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
                labels_from_0(fine, dataset, stream.name, start).copy(),
                None
                if coarse is None
                else shifted_labels(
                    coarse, 0, len(dataset.coarse_classes), f"{stream.name} (coarse)", start
                ).copy(),
            )
            start += len(raw)
    if start != split.records:
        raise FormatError(
            f"{split.members['batches'][-1]}: the catalogue declares {split.records:,} records, "
            f"but all batches together hold {start:,}."
        )


def locate(dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record stands: in the first batch that reaches so far.

    How many records each batch holds is not declared: its size tells.
    """
    size = _label_bytes(dataset) + dataset.image.size_bytes
    start = index * size
    *earlier, last = split.members["batches"]
    for member in earlier:
        if start < (batch_bytes := members.size_bytes(member)):
            return [Place("batches", member, start, start + size)]
        start -= batch_bytes
    return [Place("batches", last, start, start + size)]


def assemble(
    dataset: Dataset, _split: Split, _places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of its bytes.

    Raises:
        FormatError: a label stands for no class.
    """
    [part] = parts
    raw = np.frombuffer(part, np.uint8)
    height, width, channels = dataset.image.shape
    *coarse, fine = raw[: _label_bytes(dataset), np.newaxis]
    red_green_blue = raw[_label_bytes(dataset) :].reshape(1, channels, height, width)
    return Batch(
        np.ascontiguousarray(np.moveaxis(red_green_blue, 1, -1)),
        labels_from_0(fine, dataset, "its label", 0),
        shifted_labels(coarse[0], 0, len(dataset.coarse_classes), "its coarse label", 0)
        if coarse
        else None,
    )


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield how no CIFAR batch could hold such a dataset."""
    yield from too_many_for_a_byte(dataset)
    if dataset.orientation != "upright":
        yield "format cifar is always upright"
    yield from unasked("cifar", dataset, "coarse_classes", "orientation")


def _label_bytes(dataset: Dataset) -> int:
    return 2 if dataset.coarse_classes else 1


def _read_records(stream: ByteStream, record_bytes: int, most: int) -> memoryview:
    """Return up to `most` whole records; nothing at the end of the member."""
    buffer = memoryview(bytearray(record_bytes * most))
    done = 0
    while done < len(buffer) and (got := stream.readinto(buffer[done:])):
        done += got
    if done % record_bytes:
        raise FormatError(
            f"{stream.name}: a record takes {record_bytes:,} bytes, but the member ends "
            f"{done % record_bytes:,} bytes into one. It was cut short, or it is not CIFAR's "
            f"binary version with these labels."
        )
    return buffer[:done]


FORMAT = Format(
    name="cifar",
    roles={"batches": Role(holds=("label", "coarse_label", "pixels"), several=True)},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
