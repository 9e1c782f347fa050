r"""CSV: the label, then every pixel, a record per line.

The format known as "MNIST in CSV" (mnist_train.csv, mnist_test.csv, byte for byte): no header,
`label,pixel,…`, plain integers 0–255, row by row, channels last, `\n` at the end of each line.
With a header, its names are those of Fashion-MNIST's CSV: `label,pixel1,…,pixel784`. CIFAR-100's
label is the fine one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Option, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _lines

if TYPE_CHECKING:
    from ..records import Batch


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as CSV.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    about = tables.info(inputs.table)
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        if chosen["header"]:
            append(first_line(about.record_bytes))
        for batch in tables.batches(inputs.table):
            for text in lines(batch):
                append(text)
            advance(len(batch))
    return {"records": about.records}


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of a CSV, each with the bytes of its line.

    Lines before them are counted, not parsed. A first line that begins with `label` is a header and
    counts for nothing.

    Raises:
        ArtefactError: a line is not there, or holds no label and pixels of the image's shape.
        FileNotFoundError: there is no such file.
    """
    shape, most = subject.dataset.image.shape, _lines.most_label(len(subject.dataset.classes))
    with path.open("rb") as file:
        has_header = file.read(5) == b"label"
        at = _lines.start_of(file, start + has_header)
        file.seek(at)
        for index in range(start, stop):
            # No longer than a label and every pixel can be.
            line = file.readline(4 * (subject.dataset.image.size_bytes + 2))
            if not line:
                raise ArtefactError(f"{path} ends before record {index:,}.")
            record = _parsed(line, f"{path}: expected", index, shape, most)
            yield Stored(record, at, at + len(line))
            at += len(line)


def _parsed(
    line: bytes, expected: str, index: int, shape: tuple[int, int, int], most_label: int
) -> Batch:
    import numpy as np

    from ..records import Batch

    size = shape[0] * shape[1] * shape[2]
    fields = line.rstrip(b"\r\n").split(b",")
    if len(fields) != size + 1:
        raise ArtefactError(
            f"{expected} a label and {size:,} intensities in record {index:,}, found "
            f"{len(fields):,} field(s)."
        )
    label, *pixels = fields
    for most, some in ((most_label, [label]), (255, pixels)):
        if wrong := [field for field in some if not _lines.is_within(field, most)]:
            text = wrong[0].decode("utf-8", "replace")
            raise ArtefactError(
                f"{expected} integers 0 to {most} in record {index:,}, found {text!r:.40}."
            )
    values = np.array([int(field) for field in pixels], np.uint8)
    labels = np.array([int(label)], np.min_scalar_type(most_label))
    return Batch(values.reshape(1, *shape), labels)


def first_line(record_bytes: int) -> bytes:
    """Return the names of the columns, as a line."""
    names = ["label", *(f"pixel{number + 1}" for number in range(record_bytes))]
    return (",".join(names) + "\n").encode()


@functools.cache
def _fields(labels: int) -> tuple[_lines.Texts, ...]:
    """Return so many labels and each of the 256 intensities as text, and the end of a line."""
    as_pixel = _lines.filled([b",%d" % value for value in range(256)])
    as_label = _lines.filled([b"%d" % label for label in range(labels)])
    return as_label, as_pixel.ravel(), _lines.filled([b"\n"]).ravel()


def lines(batch: Batch) -> Iterator[bytes]:
    """Yield the lines of a batch, some at a time: look every field up, drop the NULs.

    Three times as fast as polars' writer, which wants the pixels column by column.
    """
    import numpy as np

    as_label, as_pixel, newline = _fields(1 << 8 * batch.labels.itemsize)
    width = as_label.shape[1]
    for start in range(0, len(batch), _lines.AT_ONCE):
        labels = batch.labels[start : start + _lines.AT_ONCE]
        pixels = batch.images[start : start + _lines.AT_ONCE].reshape(len(labels), -1)
        fields = np.empty((len(labels), width + pixels.shape[1] + 1), np.uint32)
        fields[:, :width] = as_label[labels]
        fields[:, width:-1] = as_pixel[pixels]
        fields[:, -1] = newline
        yield fields.tobytes().translate(None, b"\0")


EXPORT = Product(
    name="csv",
    title="as CSV: a record per line, its label, then every pixel.",
    scope="split",
    files="exports/{dataset}/{split}.csv",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column("label", "uint8", of="label"),
        Column(
            "pixels",
            "uint8",
            "`pixel1`, `pixel2`, …: the intensities, 0 to 255, row by row, channels last.",
            of="pixels",
            how="transformed",
        ),
    ),
    options=(Option("header", False, "begin every CSV with the names of its columns"),),
    parameters=_about.parameters,
    room=lambda image: 4 * image,
    sidecar=True,
    measured=(109.6, 0.39),
    read_by=(
        Reader(
            "pandas 3.1.1",
            ("pandas==3.1.1",),
            """import pandas
rows = pandas.read_csv("{path}", header=None, dtype="{label}").to_numpy()
labels, images = rows[:, 0], rows[:, 1:]  # channels last, row by row""",
            "Without `header=None` the first record is taken for names; with the option `header`, "
            "leave it out.",
        ),
        Reader(
            "polars 2.1.0",
            ("polars==2.1.0",),
            """import polars
rows = polars.read_csv("{path}", has_header=False).to_numpy()
labels, images = rows[:, 0].astype("{label}"), rows[:, 1:].astype("uint8")""",
        ),
        Reader(
            "duckdb 2.0.0",
            ("duckdb==2.0.0",),
            """import duckdb
rows = duckdb.sql("SELECT * FROM read_csv('{path}', header = false)").fetchall()""",
        ),
    ),
)
