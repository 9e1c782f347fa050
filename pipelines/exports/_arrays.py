"""A split as arrays: which there are, of what shape, their values piece by piece, and back again.

NPZ, NPY, safetensors and HDF5 hold the same arrays and have the same options. Not here: how a file
holds an array, but for the header of NPY.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ArtefactError
from ..products import Choices, Column, Option, Subject
from ..progress import Advance

if TYPE_CHECKING:
    from ..records import Batch, Labels

CHANNELS = ("none", "last", "first")
OPTIONS = (
    Option("one_hot", False, "give each label as a row of float64: 1 at its class, 0 elsewhere"),
    Option("flat", False, "give the pixels of a record one axis: row by row, channels last"),
    Option(
        "channels",
        "none",
        "where the axis of the channels stands: first as for torch, last, or for grey images none; "
        "nothing to flat ones",
        choices=CHANNELS,
    ),
)

NAMES = {"pixels": "images", "label": "labels", "coarse_label": "coarse_labels"}


def named_of(subject: Subject) -> dict[str, str]:
    """Return column → the name of its array, of those that there are of a subject."""
    return {"pixels": NAMES["pixels"]} | {c: NAMES[c] for c in _classes(subject)}


def columns(images: str, labels: str, coarse_labels: str) -> tuple[Column, ...]:
    """Return the columns of an export by the names that its arrays have there."""
    return (
        Column(
            images,
            "uint8",
            "Intensities, 0 to 255; of shape (records, height, width), with channels (records, "
            "height, width, channels), or as `channels` and `flat` say.",
            of="pixels",
            how="transformed",
        ),
        Column(labels, "uint8", of="label"),
        Column(
            coarse_labels,
            "uint8",
            "Number of the coarse class, from 0, where a dataset has them.",
            of="coarse_label",
        ),
    )


_BYTE, _FLOAT = "|u1", "<f8"  # as NumPy writes types: the same on every machine
_NAMES = {_BYTE: "uint8", "<u2": "uint16", _FLOAT: "float64"}
_PIECE_RECORDS, _PIECE_BYTES = 1024, 8 << 20  # one-hot labels of so many are made at once
_READ_BYTES = 1 << 20  # of an array, that are read at once


@dataclass(frozen=True, slots=True)
class Array:
    """An array of all records of a split.

    column: of the table that it is made from.
    dtype: uint8, of labels of many classes uint16, or of one-hot ones float64, as NumPy writes it.
    shape: of the whole array.
    """

    column: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return int(self.dtype[-1]) * math.prod(self.shape[1:])

    @property
    def size_bytes(self) -> int:
        """Bytes of all records."""
        return self.shape[0] * self.record_bytes

    def __str__(self) -> str:
        """Return for example `uint8 (60000, 28, 28)`."""
        return f"{_NAMES[self.dtype]} {self.shape}"


def of(subject: Subject, chosen: Choices) -> list[Array]:
    """Return the arrays of a split: pixels, labels, and coarse labels where there are any."""
    records, (height, width, channels) = subject.split.records, subject.dataset.image.shape
    shape: tuple[int, ...] = height, width, channels
    if chosen["flat"]:
        shape = (height * width * channels,)
    elif chosen["channels"] == "first":
        shape = channels, height, width
    elif chosen["channels"] == "none" and channels == 1:
        shape = height, width
    found = [Array("pixels", _BYTE, (records, *shape))]
    for column, classes in _classes(subject).items():
        if chosen["one_hot"]:
            found.append(Array(column, _FLOAT, (records, classes)))
        else:
            found.append(Array(column, _label_dtype(classes), (records,)))
    return found


def _label_dtype(classes: int) -> str:
    """Return the type of the labels of so many classes, the same on every machine."""
    from ..records import label_type

    return label_type(classes).newbyteorder("<").str


def _classes(subject: Subject) -> dict[str, int]:
    """Return column of labels → how many classes it tells apart; nothing without labels."""
    if not all(split.labelled for split in subject.splits):
        return {}
    dataset = subject.dataset
    counts = {"label": len(dataset.classes), "coarse_label": len(dataset.coarse_classes)}
    return {column: count for column, count in counts.items() if count}


def values(table: Path, array: Array, image: tuple[int, ...], advance: Advance) -> Iterator[Any]:
    """Yield the values of an array, some records at a time, in C order.

    `image` is the shape of one image; `advance` is told of records whose pixels were taken.

    Raises:
        TableError: what it is made from is no table of ours.
    """
    import numpy as np

    from .. import tables

    if array.column == "pixels":
        for batch in tables.batches(table):
            images = batch.images
            if _is_channels_first(array, image):
                images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            yield images.reshape(len(batch), *array.shape[1:])
            advance(len(batch))
        return
    labels = tables.labels(table)[array.column]
    step = max(1, min(_PIECE_RECORDS, _PIECE_BYTES // array.record_bytes))
    for start in range(0, len(labels), step):
        some = labels[start : start + step]
        if array.dtype == _FLOAT:
            yield _one_hot(some, array.shape[1])
        else:
            yield some.astype(array.dtype, copy=False)


def _one_hot(labels: Any, classes: int) -> Any:
    """Return labels as rows: 1 at the class, 0 elsewhere."""
    import numpy as np

    rows = np.zeros((len(labels), classes), _FLOAT)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def pieces(
    table: Path, array: Array, image: tuple[int, ...], advance: Advance
) -> Iterator[memoryview]:
    """Yield the bytes of an array, as `values` yields its values."""
    for some in values(table, array, image, advance):
        yield some.reshape(-1).view("u1").data


def _is_channels_first(array: Array, image: tuple[int, ...]) -> bool:
    """Whether an array holds an image channel by channel.

    Three colours of 3×3 pixels can't be told by their shape: they count as channels last.
    """
    height, width, channels = image
    return array.shape[1:] == (channels, height, width) != image


# --- Reading --------------------------------------------------------------------------------------


def named(
    subject: Subject, found: Mapping[str, str], told: Callable[[Array], object], where: object
) -> dict[str, Array]:
    """Return column → the array that a file says it holds, one of those that there can be.

    Args:
        subject: the split that it must be of.
        found: column → what the file says of its array.
        told: what a file says of an array.
        where: the file, for messages.

    Raises:
        ArtefactError: it says something else, or has other arrays.
    """
    possible: dict[str, dict[str, Array]] = {}
    for one_hot, flat, channels in itertools.product((False, True), (False, True), CHANNELS):
        for array in of(subject, {"one_hot": one_hot, "flat": flat, "channels": channels}):
            possible.setdefault(array.column, {})[str(told(array))] = array
    if missing := sorted(possible.keys() ^ found.keys()):
        raise ArtefactError(
            f"{where}: expected arrays for {', '.join(possible)} and no others, found those for "
            f"{', '.join(found) or 'nothing'} ({', '.join(missing)} differ)."
        )
    for column, said in found.items():
        if said not in possible[column]:
            known = " or ".join(map(str, possible[column].values()))
            raise ArtefactError(
                f"{where}: expected {column} as {known} in C order, found {said!r:.200}."
            )
    return {column: possible[column][said] for column, said in found.items()}


def records(
    path: Path,
    subject: Subject,
    arrays: Mapping[str, Array],
    take: Callable[[Array, int, int], Any],
    start: int,
    stop: int,
) -> Iterator[tuple[int, Batch]]:
    """Yield the index of each record from `start` to `stop`, and the record.

    `take` gives the values of an array for the records between two indices.

    Raises:
        ArtefactError: a record is not there, or its label is not one-hot.
    """
    import numpy as np

    from ..records import Batch

    image, most = subject.dataset.image.shape, subject.split.records
    step = max(1, _READ_BYTES // max(array.record_bytes for array in arrays.values()))
    for low in range(start, min(stop, most), step):
        high = min(low + step, stop, most)
        images = take(arrays["pixels"], low, high)
        if _is_channels_first(arrays["pixels"], image):
            height, width, channels = image
            images = images.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        images = np.ascontiguousarray(images).reshape(-1, *image)
        labels = [
            _numbers(take(arrays[column], low, high), f"{path}: {column}", low)
            for column in ("label", "coarse_label")
            if column in arrays
        ]
        for at in range(high - low):
            one = slice(at, at + 1)
            yield low + at, Batch(images[one], *(column[one] for column in labels))
    if stop > max(start, most):
        raise ArtefactError(f"{path} has {most:,} records: no record {max(start, most):,}.")


def _numbers(labels: Any, where: str, first: int) -> Labels:
    """Return labels as numbers, where they are one-hot too.

    Raises:
        ArtefactError: a row does not have 1 in one place and 0 in all others.
    """
    import numpy as np

    from ..records import label_type

    if labels.ndim == 1:
        return np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    classes = labels.shape[1]
    numbers: Labels = labels.argmax(axis=1).astype(label_type(classes))
    wrong = (labels.view("<u8") != _one_hot(numbers, classes).view("<u8")).any(1)
    if wrong.any():
        at = int(wrong.argmax())
        raise ArtefactError(
            f"{where}: expected 1 in one place and 0 in all others in record {first + at:,}, found "
            f"{labels[at].tolist()!s:.200}."
        )
    return numbers


def stored(
    path: Path,
    subject: Subject,
    arrays: Mapping[str, Array],
    files: Mapping[str, BinaryIO],
    begins: Mapping[str, int],
    start: int,
    stop: int,
) -> Iterator[tuple[Batch, dict[str, tuple[int, int]]]]:
    """Yield records `start` to `stop` of arrays in C order, and name → where it stands of each.

    Args:
        path: where they are, for messages.
        subject: what they are of.
        arrays: column → the array.
        files: column → what it is in.
        begins: column → where it begins there.
        start: the first record.
        stop: the one after the last.

    Raises:
        ArtefactError: a record is not there, or its label is not one-hot.
    """
    import numpy as np

    def take(array: Array, low: int, high: int) -> Any:
        size = (high - low) * array.record_bytes
        file = files[array.column]
        file.seek(begins[array.column] + low * array.record_bytes)
        if len(data := file.read(size)) < size:
            raise ArtefactError(f"{path} ends before record {high - 1:,}.")
        return np.frombuffer(data, array.dtype).reshape(-1, *array.shape[1:])

    for index, record in records(path, subject, arrays, take, start, stop):
        places = {}
        for column, array in arrays.items():
            at = begins[column] + index * array.record_bytes
            places[NAMES[column]] = at, at + array.record_bytes
        yield record, places


# --- NPY ------------------------------------------------------------------------------------------


def npy_header(array: Array) -> bytes:
    """Return how a file of NPY begins, version 1.0, byte for byte as NumPy has it since 1.26.

    The first number has room for 21 digits, so that the file can grow in its place. Blanks, one at
    least, fill it up to a multiple of 64 bytes.

    Source: numpy.lib.format.
    """
    room = " " * (21 - len(str(array.shape[0])))
    said = f"{{'descr': '{array.dtype}', 'fortran_order': False, 'shape': {array.shape}, }}{room}"
    size = ((10 + len(said) + 1) // 64 + 1) * 64 - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{said:{size - 1}}\n".encode()


def npy_arrays(subject: Subject, files: Mapping[str, BinaryIO], where: object) -> dict[str, Array]:
    """Return column → the array that a file of NPY promises, which then stands after its header.

    Only what `npy_header` writes is known: nothing is parsed.

    Raises:
        ArtefactError: it promises something else.
    """
    begins = {}
    for column, file in files.items():
        first = file.read(10)
        begins[column] = first + file.read(int.from_bytes(first[8:], "little"))
    said = {column: data.decode("latin-1") for column, data in begins.items()}
    return named(subject, said, lambda array: npy_header(array).decode("latin-1"), where)
