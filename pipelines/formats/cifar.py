"""The binary format of CIFAR-10 and CIFAR-100: fixed-size records without any header.

Not here: tar and gzip (`pipelines.members`), Parquet (`pipelines.tables`). The publisher's other
version, Python pickles, is never read: unpickling runs code that an archive brings along.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". A record is
the label (CIFAR-100: the coarse label, then the fine one), then the red, the green and the blue
plane, each row by row.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from pipelines.catalogue import Dataset, Split
from pipelines.errors import FormatError
from pipelines.formats import Batch, ByteStream, OpenMember, shifted_labels

CODE_VERSION = "1"  # raise when the arrays can change


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a CIFAR split: its batches one after the other.

    Raises:
        FormatError: a batch is no whole number of records, the batches hold another number of
            records than declared, or a label stands for no class.
    """
    shape = dataset.image
    label_bytes = 2 if dataset.coarse_classes else 1
    record_bytes = label_bytes + shape.height * shape.width * shape.channels
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
                shifted_labels(
                    fine, dataset.first_label, len(dataset.classes), stream.name, start
                ).copy(),
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
