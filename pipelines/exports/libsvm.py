r"""LIBSVM: a record per line, its label, then those pixels that are not 0, each with its number.

    5 153:3 154:18 155:18 …

Pixels are numbered from 1, row by row, channels last. Byte for byte what scikit-learn's
`dump_svmlight_file(zero_based=False)` writes, of a record without any such pixel the blank after
its label too. With `scale` an intensity is its share of 255, `%.6g`, as in the `.scale` files of
LIBSVM's collection. The label is the fine one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import ArtefactError
from ..products import Choices, Column, Inputs, Option, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _lines

if TYPE_CHECKING:
    from ..records import Batch

_BLOCK_PIXELS = 100_000  # formatted at once: few enough to stay in the cache
_TELLS = re.compile(rb":(?!1[ \n])[0-9]+(\.[0-9]+)?[ \n]")  # not 1, which may be 255/255, too
_CHUNK_BYTES = 1 << 20
_VALUE_BYTES = len(":0.00392157")  # at most


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as such lines.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    about = tables.info(inputs.table)
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        for batch in tables.batches(inputs.table):
            for text in lines(batch, is_scaled=chosen["scale"]):
                append(text)
            advance(len(batch))
    return {"records": about.records}


# What may stand in a line, by a number: 0 for nothing, intensities, labels, labels of records in
# which nothing else stands, and the end of the line.
_LABEL = 256


def lines(batch: Batch, *, is_scaled: bool) -> Iterator[bytes]:
    """Yield the lines of a batch, some at a time: look all texts up, drop the NULs in them."""
    import numpy as np

    pixels = batch.images.reshape(len(batch), -1)
    labels = 1 << 8 * batch.labels.itemsize  # that there can be
    numbers, values = _numbers(pixels.shape[1]), _values(is_scaled, labels)
    width = numbers.shape[1]
    step = max(1, _BLOCK_PIXELS // pixels.shape[1])
    columns = np.tile(np.arange(len(numbers), dtype=np.uint32), min(step, len(batch)))
    for start in range(0, len(batch), step):
        some = pixels[start : start + step]
        said = np.empty((len(some), len(numbers)), np.min_scalar_type(len(values)))
        said[:, 0] = np.where(some.any(axis=1), _LABEL, _LABEL + labels)
        said[:, 0] += batch.labels[start : start + step]
        said[:, 1:-1] = some
        said[:, -1] = _LABEL + 2 * labels
        at = np.flatnonzero(said != 0)
        texts = np.empty((len(at), width + values.shape[1]), np.uint32)
        texts[:, :width] = numbers.take(columns.take(at), axis=0)
        texts[:, width:] = values.take(said.ravel().take(at), axis=0)
        yield texts.tobytes().translate(None, b"\0")


@functools.cache
def _numbers(pixels: int) -> _lines.Texts:
    """Return what stands before the values in a line: nothing but for pixels their numbers."""
    return _lines.filled([b"", *(b" %d:" % (number + 1) for number in range(pixels)), b""])


@functools.cache
def _values(is_scaled: bool, labels: int) -> _lines.Texts:
    numbers = [b"%d" % label for label in range(labels)]
    return _lines.filled(
        [*intensities(is_scaled), *numbers, *(text + b" " for text in numbers), b"\n"]
    )


def intensities(is_scaled: bool) -> list[bytes]:
    """Return what is written for each of the 256 intensities."""
    return [b"%.6g" % (value / 255) if is_scaled else b"%d" % value for value in range(256)]


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop`, each with the bytes of its line.

    Raises:
        ArtefactError: a line is not there, or no such record.
        FileNotFoundError: there is no such file.
    """
    size, most = subject.dataset.image.size_bytes, _lines.most_label(len(subject.dataset.classes))
    with path.open("rb") as file:
        known = {text: value for value, text in enumerate(intensities(_is_scaled(file))) if value}
        longest = len(f" {size}:0.00392157") * (size + 1)
        file.seek(at := _lines.start_of(file, start))
        for index in range(start, stop):
            if not (line := file.readline(longest)):
                raise ArtefactError(f"{path} ends before record {index:,}.")
            try:
                record = _parsed(line, known, subject.dataset.image.shape, most)
            except ValueError as error:
                raise ArtefactError(f"{path}: record {index:,}: {error}.") from error
            yield Stored(record, at, at + len(line))
            at += len(line)


def _is_scaled(file: BinaryIO) -> bool:
    """Return whether the first value that tells is a fraction.

    Where all values are 1, none does; then they are intensities as they stand.
    """
    file.seek(0)
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        if (found := _TELLS.search(rest + chunk)) is not None:
            return bool(found[1])
        rest = (rest + chunk)[-_VALUE_BYTES:]
    return False


def _parsed(line: bytes, known: dict[bytes, int], shape: tuple[int, ...], most_label: int) -> Batch:
    """Return the record of a line as it is written here, and nowhere else more freely.

    Raises:
        ValueError: it is none.
    """
    import numpy as np

    from ..records import Batch

    if not line.endswith(b"\n"):
        raise ValueError("expected a line that ends")
    label, *fields = line[:-1].split(b" ")
    if not _lines.is_within(label, most_label) or label != b"%d" % int(label) or not fields:
        raise ValueError(f"expected a label 0 to {most_label} and a blank, found {label!r:.40}")
    pixels, before = np.zeros(shape, np.uint8), 0
    for field in fields if fields != [b""] else []:
        number, colon, text = field.partition(b":")
        is_number = colon and number.isdigit() and len(number) <= len(str(pixels.size))
        if not is_number or not before < int(number) <= pixels.size or number[:1] == b"0":
            raise ValueError(
                f"expected numbers that rise to at most {pixels.size:,}, found {field!r:.40} after "
                f"{before:,}"
            )
        if text not in known:
            raise ValueError(f"expected an intensity that is not 0, found {field!r:.40}")
        before = int(number)
        pixels.flat[before - 1] = known[text]
    return Batch(pixels[np.newaxis], np.array([int(label)], np.min_scalar_type(most_label)))


EXPORT = Product(
    name="libsvm",
    title="as LIBSVM: a record per line, its label, then the pixels that are not 0.",
    scope="split",
    files="exports/{dataset}/{split}.libsvm",
    code_version="1",
    write=write,
    read=read,
    columns=(
        Column("label", "integer", of="label"),
        Column(
            "features",
            "number",
            "Intensities that are not 0, numbered from 1, row by row, channels last: 1 to 255, or "
            "with `scale` their share of 255.",
            of="pixels",
            how="transformed",
        ),
    ),
    options=(Option("scale", False, "write intensities as their share of 255, with six digits"),),
    parameters=_about.parameters,
    room=lambda image: 9 * image,
    sidecar=True,
    measured=(69.4, 0.29),
    read_by=(
        Reader(
            "scikit-learn 1.9.1",
            ("scikit-learn==1.9.1",),
            "from sklearn.datasets import load_svmlight_file\n\n"
            'images, labels = load_svmlight_file("{path}", n_features=28 * 28)\n',
            "Without n_features it is the number of the last pixel that is not 0 anywhere: 780 in "
            "MNIST's train, 778 in its test.",
        ),
    ),
)
