r"""Table → CSV: the label, then every pixel, a record per line.

The format known as "MNIST in CSV" (mnist_train.csv, mnist_test.csv, byte for byte): no header,
`label,pixel,…`, plain integers 0–255, row by row, channels last, `\n` at the end of each line.
With a header, its names are those of Fashion-MNIST's CSV: `label,pixel1,…,pixel784`. CIFAR-100's
label is the fine one. Not here: reading CSV.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import tables
from ..declarations import Dataset, Source, Split
from ..progress import Advance, silent
from ..records import Batch
from ..store import layout, writing
from ..store.provenance import Artefact, Input

CODE_VERSION = "1"  # raise when the bytes of a CSV can change

_LINES = 512  # formatted at once: small enough to stay in the cache


def artefact(
    source: Source, dataset: Dataset, split: Split, inputs: tuple[Input, ...], header: bool = False
) -> Artefact:
    """Return the CSV of a split as an artefact of its table."""
    path = layout.csv(dataset.name, split.name)
    parameters = {"header": header, "about": tables.description(source, dataset, split)}
    return Artefact(path, "csv", CODE_VERSION, parameters, inputs, layout.sidecar(path))


def write(table: Path, goal: Path, header: bool = False, advance: Advance = silent) -> int:
    """Write a table as CSV; return the records.

    Raises:
        TableError: `table` is no table of ours.
        StorageError: `goal` can't be written.
    """
    about = tables.info(table)
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        if header:
            append(first_line(about.record_bytes))
        for batch in tables.batches(table):
            for text in lines(batch):
                append(text)
            advance(len(batch))
    return about.records


def first_line(record_bytes: int) -> bytes:
    """Return the names of the columns, as a line."""
    names = ["label", *(f"pixel{number + 1}" for number in range(record_bytes))]
    return (",".join(names) + "\n").encode()


def _fields(form: str) -> npt.NDArray[np.uint32]:
    """Return each of the 256 values written as `form`, four bytes each, filled up with NUL."""
    texts = (form.format(value).encode().rjust(4, b"\0") for value in range(256))
    return np.frombuffer(b"".join(texts), np.uint32)


_LABEL, _PIXEL = _fields("{}"), _fields(",{}")
_NEWLINE = np.frombuffer(b"\0\0\0\n", np.uint32)


def lines(batch: Batch) -> Iterator[bytes]:
    """Yield the lines of a batch, `_LINES` at a time: look every field up, drop the NULs.

    Three times as fast as polars' writer, which wants the pixels column by column.
    """
    for start in range(0, len(batch), _LINES):
        labels = batch.labels[start : start + _LINES]
        pixels = batch.images[start : start + _LINES].reshape(len(labels), -1)
        fields = np.empty((len(labels), pixels.shape[1] + 2), np.uint32)
        fields[:, 0] = _LABEL[labels]
        fields[:, 1:-1] = _PIXEL[pixels]
        fields[:, -1] = _NEWLINE
        yield fields.tobytes().translate(None, b"\0")
