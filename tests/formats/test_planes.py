"""Planes: both ways to store them come back upright; rows of a list are folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines import catalogue, formats, tables
from pipelines.descriptions import records as page
from pipelines.errors import CatalogueError, FormatError
from pipelines.exports import raw
from pipelines.formats import planes
from pipelines.products import Subject
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Array, Tiny


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(planes.decode(opened, tiny.dataset, tiny.split, batch))


def stored(pixels: Array, orientation: str) -> bytes:
    """Images as planes, by another way than ours: MATLAB's order of memory."""
    if orientation == "transposed":
        return b"".join(image.tobytes("F") for image in pixels)
    return b"".join(image[..., k].tobytes() for image in pixels for k in range(image.shape[-1]))


def published(folder: Path, pixels: Array, values: Array | None, **dataset: Any) -> Tiny:
    _, height, width, channels = pixels.shape
    orientation, first = dataset.get("orientation", "upright"), dataset.get("first_label", 0)
    members = {"X.bin": stored(pixels, orientation)}
    split: dict[str, Any] = {"records": len(pixels), "images": "X.bin"}
    if values is None:
        split["labelled"] = False
    else:
        members["y.bin"] = (values + np.uint8(first)).astype(np.uint8).tobytes()
        split["labels"] = "y.bin"
    facts = {
        "title": "Tiny",
        "format": "planes",
        "image": {"height": height, "width": width, "channels": channels},
        "classes": [f"class {number}" for number in range(5)],
    }
    return builders.published(folder, members, facts | dataset, split)


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of planes: upright or transposed, with labels from wherever or without."""
    pixels, values = draw(builders.some_records(draw(st.sampled_from([1, 3]))))
    orientation = draw(st.sampled_from(["upright", "transposed"]))
    first, labelled = draw(st.sampled_from([0, 1, 251])), draw(st.booleans())

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        labels = values if labelled else None
        said: dict[str, Any] = {"orientation": orientation, "first_label": first}
        return published(folder, pixels, labels, **said), Batch(pixels, labels)

    return publish


@pytest.mark.parametrize(
    ("orientation", "rows"),
    [
        ("transposed", [[[1, 7], [3, 9], [5, 11]], [[2, 8], [4, 10], [6, 12]]]),
        ("upright", [[[1, 7], [2, 8], [3, 9]], [[4, 10], [5, 11], [6, 12]]]),
    ],
)
def test_the_example_in_bytes_is_read_as_the_format_is_described(
    tmp_path: Path, orientation: str, rows: list[list[list[int]]]
) -> None:
    """Written by hand from STL-10's page; its third plane is all zero."""
    blank = np.zeros((1, 2, 3, 3), np.uint8)
    said: dict[str, Any] = {"orientation": orientation, "first_label": 1}
    tiny = published(tmp_path, blank, np.zeros(1, np.uint8), **said)
    image = bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) + bytes(6)

    [batch] = decoded(tiny, {"X.bin": image, "y.bin": b"\3"})

    assert batch.images[0, ..., :2].tolist() == rows
    assert not batch.images[0, ..., 2].any()
    assert batch.labels.tolist() == [2]


FOLDS = b"5 0 3 \n1 4 2 \n"


def test_the_rows_of_a_fold_are_a_split_and_each_is_found_in_the_member(tmp_path: Path) -> None:
    """As STL-10 has its folds: ten lines of numbers, counted from 0."""
    pixels, values = builders.images(6, 4, 3, 3), builders.labels(6, 5)
    packed = {
        "bin/folds.txt": FOLDS,
        "bin/X.bin": stored(pixels, "transposed"),
        "bin/y.bin": (values + 1).tobytes(),
    }
    archive = {"stl.tar.gz": builders.tarred(packed)}
    (tmp_path / "stl.tar.gz").write_bytes(archive["stl.tar.gz"])
    toml = builders.declare(archive)
    toml += """
[datasets.tiny]
title = "Tiny"
format = "planes"
image = { height = 4, width = 3, channels = 3 }
orientation = "transposed"
first_label = 1
classes = ["a", "b", "c", "d", "e"]
"""
    for split, records, rows in (
        ("train", 6, ""),
        ("fold_1", 3, 'rows = { of = 6, listed = "stl.tar.gz/bin/folds.txt", line = 1 }'),
        ("fold_2", 3, 'rows = { of = 6, listed = "stl.tar.gz/bin/folds.txt", line = 2 }'),
    ):
        toml += f"""
[datasets.tiny.splits.{split}]
records = {records}
images = "stl.tar.gz/bin/X.bin"
labels = "stl.tar.gz/bin/y.bin"
{rows}
"""
    (folder := tmp_path / "catalogue").mkdir()
    (folder / "tiny.toml").write_text(toml)
    source = catalogue.load(folder).sources["tiny"]
    dataset = source.datasets["tiny"]
    members = {"stl.tar.gz/bin/folds.txt": FOLDS, "stl.tar.gz/bin/X.bin": b""}
    known = Members(builders.opener(members), len)

    for split, order in (("train", range(6)), ("fold_1", (5, 0, 3)), ("fold_2", (1, 4, 2))):
        goal = tmp_path / f"{split}.parquet"
        tables.write(source, dataset, dataset.splits[split], tmp_path, goal)
        found = tables.read(goal)
        np.testing.assert_array_equal(found.images, pixels[[*order]])
        np.testing.assert_array_equal(found.labels, values[[*order]])
        for index, row in enumerate(order):
            whole, at = formats.stored_at(dataset, dataset.splits[split], index, known)
            image, label = planes.locate(dataset, whole, at, known)
            assert (image.start, image.stop) == (row * 36, row * 36 + 36)
            assert (label.start, label.stop) == (row, row + 1)

    files = tmp_path / "files"
    files.mkdir()
    for path, data in packed.items():
        (files / path.removeprefix("bin/")).write_bytes(data)
    for split, order in (("train", range(6)), ("fold_1", (5, 0, 3)), ("fold_2", (1, 4, 2))):
        subject = Subject(source, dataset, (dataset.splits[split],))
        back = [one.record for one in raw.read(files, subject, 0, len(order))]
        np.testing.assert_array_equal(Batch.joined(back).images, pixels[[*order]])
        _, runs = page.places(dataset, dataset.splits[split], range(len(order)), known)
        starts = [part["start"] for run in runs for part in run["parts"] if part["bytes"] == 36]
        assert starts == ([0] if split == "train" else [36 * row for row in order])


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    values = builders.labels(6, 5)
    return published(tmp_path, builders.images(6, 4, 3, 3), values, first_label=1)


@pytest.mark.parametrize(
    ("member", "data", "words"),
    [
        ("X.bin", b"", ["6 images of 36 bytes are declared", "ends too early"]),
        ("X.bin", bytes(6 * 36 - 1), ["6 images of 36 bytes are declared", "ends too early"]),
        ("X.bin", bytes(6 * 36 + 1), ["6 images of 36 bytes", "goes on after that"]),
        ("y.bin", b"\1\1\1\1\1", ["6 labels of a byte are declared", "ends too early"]),
        ("y.bin", bytes(7 * [1]), ["6 labels of a byte are declared", "goes on after that"]),
        ("y.bin", b"\1\1\1\1\0\1", ["record 4 has label 0", "1 to 5"]),
        ("y.bin", b"\1\1\1\1\1\6", ["record 5 has label 6", "1 to 5"]),
    ],
)
@pytest.mark.parametrize("batch", [2, 100])
def test_bytes_that_break_the_format_are_refused(
    tiny: Tiny, member: str, data: bytes, words: list[str], batch: int
) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {**tiny.members, member: data}, batch)

    for word in [f"{member}: ", *words]:
        assert word in str(caught.value)


def test_what_planes_can_not_hold_is_refused_by_the_catalogue(tmp_path: Path) -> None:
    pixels, values = builders.images(2), builders.labels(2, 5)
    with pytest.raises(CatalogueError, match="format planes has no coarse_classes"):
        published(tmp_path, pixels, values, coarse_classes=["a"])
