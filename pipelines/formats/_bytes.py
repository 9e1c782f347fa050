"""What formats share: reading a member exactly as far as it should go, and labels from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset
from ..errors import FormatError
from ..records import ByteStream, Labels, label_type


def fill(stream: ByteStream, array: npt.NDArray[np.uint8], promised: str) -> None:
    """Fill `array` (contiguous) from `stream`.

    Raises:
        FormatError: the stream ends before the array is full; `promised` says why it should not.
    """
    view = array.reshape(-1).data
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])
        if not got:
            raise FormatError(f"{stream.name}: {promised}, but the member ends too early.")
        done += got


def expect_end(stream: ByteStream, promised: str) -> None:
    """Raise `FormatError` unless `stream` is exhausted."""
    if stream.readinto(memoryview(bytearray(1))):
        raise FormatError(f"{stream.name}: {promised}, but the member goes on after that.")


def too_many_for_a_byte(dataset: Dataset) -> Iterator[str]:
    """Yield of which classes there are too many for a format whose labels are a byte each."""
    first = 0 if dataset.class_labels else dataset.first_label
    for key, most in (("classes", 256 - first), ("coarse_classes", 256)):
        if len(getattr(dataset, key)) > most:
            yield f"{key}: a label is one byte, so there can be at most {most}"


def unasked(form: str, dataset: Dataset, *known: str) -> Iterator[str]:
    """Yield what a dataset declares that a format has nothing of, but for what it knows."""
    for key in ("coarse_classes", "columns", "numbers", "orientation"):
        said = dataset.orientation != "upright" if key == "orientation" else getattr(dataset, key)
        if said and key not in known:
            what = "images that are stored upright" if key == "orientation" else f"no {key}"
            yield f"{key}: format {form} has {what}"


def labels_from_0(raw: npt.NDArray[Any], dataset: Dataset, where: str, start: int) -> Labels:
    """Return labels counted from 0, of `label_type`.

    Args:
        raw: labels as the publisher counts them, any integers of shape (records,).
        dataset: tells which class each stands for: by `class_labels`, or from `first_label` on.
        where: the member, for the message.
        start: index of the first of these records in the split.

    Raises:
        FormatError: a label stands for no class.
    """
    published = dataset.class_labels
    if not published:
        return shifted_labels(raw, dataset.first_label, len(dataset.classes), where, start)
    meaning = np.full(max(published) + 2, -1)
    meaning[list(published)] = range(len(published))
    found = meaning[np.clip(raw.astype(np.int64), -1, max(published) + 1)]
    if (outside := found < 0).any():
        at = int(outside.argmax())
        raise FormatError(
            f"{where}: record {start + at:,} has label {raw[at]}, but the classes are labelled "
            f"{', '.join(map(str, published))}. Check `class_labels` in the catalogue, or whether "
            "these are another dataset's bytes."
        )
    return found.astype(label_type(len(dataset.classes)))


def shifted_labels(
    raw: npt.NDArray[Any], first: int, classes: int, where: str, start: int
) -> Labels:
    """Return labels counted from 0, of `label_type`, where the publisher counts from `first`.

    Args:
        raw: labels as the publisher counts them, any integers of shape (records,).
        first: the publisher's label of `classes[0]`.
        classes: how many classes there are.
        where: the member, for the message.
        start: index of the first of these records in the split.

    Raises:
        FormatError: a label stands for no class.
    """
    outside = (raw < first) | (raw > first + classes - 1)
    if outside.any():
        at = int(outside.argmax())
        raise FormatError(
            f"{where}: record {start + at:,} has label {raw[at]}, but the {classes} declared "
            f"classes are labelled {first} to {first + classes - 1}. Check `first_label` and "
            "`classes` in the catalogue, or whether these are another dataset's bytes."
        )
    kind = label_type(classes)
    return (raw - raw.dtype.type(first) if first else raw).astype(kind, copy=False)
