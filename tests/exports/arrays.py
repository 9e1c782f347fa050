"""Splits of every kind, as exports that hold arrays get them, and what such arrays should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines import products
from pipelines.products import Inputs, Stored, Subject
from pipelines.progress import Advance, silent
from tests import builders
from tests.builders import Array

CHANNELS = ("none", "last", "first")


@dataclass(frozen=True)
class Made:
    """A split, its table, and the arrays behind it."""

    subject: Subject
    table: Path
    images: Array
    labels: Array
    coarse: Array | None

    def write(self, name: str, goal: Path, advance: Advance = silent, **chosen: Any) -> Path:
        """Make an export of it."""
        product = products.known()[name]
        if product.is_folder:
            goal.mkdir(parents=True)
        inputs = Inputs((self.subject,), {}, (), {self.subject.split.name: self.table})
        options = product.chosen({f"{name}_{key}": value for key, value in chosen.items()})
        facts = product.write(inputs, goal, options, advance)
        assert facts["records"] == len(self.labels)
        return goal

    def read(self, name: str, path: Path, start: int = 0, stop: int | None = None) -> list[Stored]:
        """Read records back."""
        product = products.known()[name]
        assert product.read is not None
        stop = len(self.labels) if stop is None else stop
        return list(product.read(path, self.subject, start, stop))

    def expected(self, *, one_hot: bool, flat: bool, channels: str) -> list[npt.NDArray[Any]]:
        """Images, labels and coarse labels as these options give them."""
        images: npt.NDArray[Any] = self.images
        if flat:
            images = images.reshape(len(images), -1)
        elif channels == "first":
            images = np.moveaxis(images, 3, 1)
        elif channels == "none" and images.shape[3] == 1:
            images = images[..., 0]
        found = [images]
        dataset = self.subject.dataset
        for labels, names in (
            (self.labels, dataset.classes),
            (self.coarse, dataset.coarse_classes),
        ):
            if labels is not None:
                found.append(to_categorical(labels, len(names)) if one_hot else labels)
        return found


def to_categorical(labels: Array, classes: int) -> npt.NDArray[np.float64]:
    """As read_data_sets and Keras write it."""
    found = np.zeros((len(labels), classes))
    found[np.arange(len(labels)), labels] = 1
    return found


def made(
    folder: Path,
    images: Array,
    labels: Array,
    coarse: Array | None = None,
    classes: int = 5,
    names: Sequence[str] = (),
) -> Made:
    """A split of these arrays, whose classes have names where some are given."""
    tiny = builders.tiny(folder, images, labels, coarse, classes)
    if names:
        tiny = replace(tiny, dataset=replace(tiny.dataset, classes=tuple(names)))
    subject = Subject(tiny.source, tiny.dataset, (tiny.split,))
    return Made(subject, tiny.table(folder / "table.parquet"), images, labels, coarse)


def grey(folder: Path, records: int = 40) -> Made:
    return made(folder, builders.images(records), builders.labels(records, 5))


def colours(folder: Path, records: int = 40) -> Made:
    images, labels = builders.images(records, 4, 3, 3), builders.labels(records, 5)
    return made(folder, images, labels, builders.labels(records, 3, seed=9))


def same(stored: list[Stored], made: Made, start: int = 0) -> None:
    """Assert that these are all the records from `start`."""
    assert len(stored) == len(made.labels) - start
    images = np.concatenate([one.record.images for one in stored])
    np.testing.assert_array_equal(images, made.images[start:], strict=True)
    labels = np.concatenate([one.record.labels for one in stored])
    np.testing.assert_array_equal(labels, made.labels[start:], strict=True)
    if made.coarse is not None:
        found = [one.record.coarse_labels for one in stored]
        np.testing.assert_array_equal(np.concatenate(found), made.coarse[start:], strict=True)
