"""NumPy's arrays: what NumPy saved comes back, of whatever type its labels are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import catalogue, tables
from pipelines.errors import CatalogueError, FormatError
from pipelines.formats import numpy
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Array, Tiny
from tests.formats.test_npy import saved

LABEL_TYPES = [f"{order}{kind}{size}" for order in "<>" for kind in "ui" for size in (1, 2, 4, 8)]


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(numpy.decode(opened, tiny.dataset, tiny.split, batch))


def published(
    folder: Path, images: bytes, labels: bytes | None, pixels: Array, **dataset: Any
) -> Tiny:
    """Two members, or one where there are no labels, of images of this shape."""
    _, height, width, channels = pixels.shape
    members = {"images.npy": images}
    split: dict[str, Any] = {"records": len(pixels), "images": "images.npy"}
    if labels is None:
        split["labelled"] = False
    else:
        members["labels.npy"] = labels
        split["labels"] = "labels.npy"
    facts = {
        "title": "Tiny",
        "format": "numpy",
        "image": {"height": height, "width": width, "channels": channels},
        "classes": [f"class {number}" for number in range(5)],
    }
    return builders.published(folder, members, facts | dataset, split)


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of such arrays: in every shape, with labels of every type or without."""
    channels = draw(st.sampled_from([1, 3]))
    pixels, values = draw(builders.some_records(channels))
    _, height, width, _ = pixels.shape
    shapes: list[tuple[int, ...]] = [(height * width * channels,), (height, width, channels)]
    shapes += [(height, width)] if channels == 1 else []
    form, version = draw(st.sampled_from(shapes)), draw(st.sampled_from([(1, 0), (2, 0)]))
    kind = draw(st.sampled_from(LABEL_TYPES))
    column = draw(st.sampled_from([(), (1,)]))
    first = draw(st.sampled_from([0, 1, 120]))
    labelled = draw(st.booleans())

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        raw = (values.astype(np.int64) + first).astype(kind).reshape(-1, *column)
        images = builders.npy(pixels.reshape(-1, *form), version)
        labels = builders.npy(raw, version) if labelled else None
        tiny = published(folder, images, labels, pixels, first_label=first)
        return tiny, Batch(pixels, values if labelled else None)

    return publish


@pytest.fixture
def pixels() -> Array:
    return builders.images(6, 4, 3)


@pytest.fixture
def tiny(tmp_path: Path, pixels: Array) -> Tiny:
    """Six images of 4×3 pixels in five classes, labels as a column."""
    labels = np.array([[0], [4], [1], [1], [3], [2]], np.uint8)
    return published(tmp_path, saved(pixels[..., 0]), saved(labels), pixels)


def test_the_arrays_of_an_npz_that_numpy_wrote_are_a_table(tmp_path: Path) -> None:
    pixels, values = builders.images(30, 4, 3, 3), builders.labels(30, 5)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        train_images=pixels[:20],
        train_labels=values[:20, np.newaxis],
        val_images=pixels[20:],
        val_labels=values[20:, np.newaxis],
    )
    (folder := tmp_path / "catalogue").mkdir()
    (tmp_path / "tiny.zip").write_bytes(file.getvalue())
    toml = (
        builders.declare({"tiny.zip": file.getvalue()})
        + """
[datasets.tiny]
title = "Tiny"
format = "numpy"
image = { height = 4, width = 3, channels = 3 }
classes = ["a", "b", "c", "d", "e"]
"""
    )
    for split, records in (("train", 20), ("val", 10)):
        toml += f"[datasets.tiny.splits.{split}]\nrecords = {records}\n"
        toml += "".join(f'{r} = "tiny.zip/{split}_{r}.npy"\n' for r in ("images", "labels"))
    (folder / "tiny.toml").write_text(toml)
    source = catalogue.load(folder).sources["tiny"]
    dataset = source.datasets["tiny"]

    for split, rows in (("train", slice(0, 20)), ("val", slice(20, 30))):
        goal = tmp_path / f"{split}.parquet"
        tables.write(source, dataset, dataset.splits[split], tmp_path, goal)
        found = tables.read(goal)
        np.testing.assert_array_equal(found.images, pixels[rows])
        np.testing.assert_array_equal(found.labels, values[rows])


@pytest.mark.parametrize("kind", LABEL_TYPES)
def test_labels_of_every_type_of_integers_are_the_same_labels(
    tmp_path: Path, pixels: Array, kind: str
) -> None:
    labels = np.array([0, 4, 1, 1, 3, 2], kind)
    tiny = published(tmp_path, saved(pixels[..., 0]), saved(labels), pixels)

    found = Batch.joined(decoded(tiny, {**tiny.members}))

    assert (found.labels.tolist(), found.labels.dtype) == ([0, 4, 1, 1, 3, 2], np.uint8)


OTHERS = [5, 127, 255, -1, -128, 2**16, -(2**31), 2**63 - 1, 2**64 - 1]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kind, value)
        for kind in LABEL_TYPES
        for value in OTHERS
        if np.iinfo(kind).min <= value <= np.iinfo(kind).max
    ],
)
@pytest.mark.parametrize("said", [{}, {"class_labels": [0, 4, 1, 3, 2]}])
def test_a_label_that_stands_for_no_class_is_named_whatever_its_type(
    tmp_path: Path, pixels: Array, kind: str, value: int, said: dict[str, Any]
) -> None:
    labels = np.array([0, 4, 1, 1, value, 2], kind)
    tiny = published(tmp_path, saved(pixels[..., 0]), saved(labels), pixels, **said)

    with pytest.raises(FormatError, match=rf"labels.npy: record 4 has label {value}, "):
        decoded(tiny, {**tiny.members})


@pytest.mark.parametrize(
    ("member", "array", "words"),
    [
        ("images.npy", np.zeros((6, 4, 3), np.int8), ["unsigned bytes (descr '|u1')", "'|i1'"]),
        ("images.npy", np.zeros((6, 4, 3), np.float32), ["unsigned bytes", "'<f4'"]),
        ("images.npy", np.zeros((6, 3, 4), np.uint8), ["promises (6, 3, 4)", "(6, 4, 3)"]),
        ("images.npy", np.zeros((5, 4, 3), np.uint8), ["promises (5, 4, 3)"]),
        ("images.npy", np.zeros((6, 4, 3), np.uint8, "F"), ["C order"]),
        ("images.npy", np.full((6, 4, 3), None), ["'|O'", "unpickled"]),
        ("labels.npy", np.zeros(6, np.float64), ["expected integers (descr '<i8')", "'<f8'"]),
        ("labels.npy", np.zeros(6, bool), ["expected integers", "'|b1'"]),
        ("labels.npy", np.zeros(6, "<M8[s]"), ["expected integers", "'<M8[s]'"]),
        ("labels.npy", np.full(6, None), ["'|O'", "unpickled"]),
        ("labels.npy", np.zeros((6, 14), np.uint8), ["promises (6, 14)", "(6) or (6, 1)"]),
        ("labels.npy", np.zeros(5, np.uint8), ["promises (5)", "(6) or (6, 1)"]),
        ("labels.npy", np.zeros((1, 6), np.uint8), ["promises (1, 6)"]),
        ("labels.npy", np.full(6, 5, np.int64), ["record 0 has label 5", "0 to 4"]),
    ],
)
def test_other_arrays_are_refused(tiny: Tiny, member: str, array: Array, words: list[str]) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {**tiny.members, member: saved(array)})

    for word in [f"{member}: ", *words]:
        assert word in str(caught.value)


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@given(array=hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(max_dims=3)))
@settings(deadline=None, max_examples=100)
def test_of_all_that_numpy_saves_only_integers_of_the_shape_are_labels(
    tmp_path_factory: pytest.TempPathFactory, array: Any
) -> None:
    pixels = builders.images(2, 2, 2)
    tiny = published(tmp_path_factory.mktemp("tiny"), saved(pixels), saved(array), pixels)
    is_ours = array.dtype.kind in "ui" and array.shape in {(2,), (2, 1)}
    is_ours = is_ours and all(0 <= value <= 4 for value in array.ravel().tolist())

    if is_ours:
        [batch] = decoded(tiny, {**tiny.members})
        assert batch.labels.tolist() == array.ravel().tolist()
    else:
        with pytest.raises(FormatError):
            decoded(tiny, {**tiny.members})


def test_a_record_is_located_by_headers_that_are_read_once(tiny: Tiny) -> None:
    opened = []

    def open_member(member: Any) -> Any:
        opened.append(str(member))
        return builders.Bytes(str(member), tiny.members[str(member)], 7)

    members = Members(open_member, len)
    for index in range(6):
        image, label = numpy.locate(tiny.dataset, tiny.split, index, members)
        assert (image.start, image.stop) == (128 + 12 * index, 128 + 12 * (index + 1))
        assert (label.start, label.stop, label.kind) == (128 + index, 129 + index, "|u1")
    assert opened == ["images.npy", "labels.npy"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"orientation": "transposed"}, "orientation: format numpy has images that are stored"),
        ({"coarse_classes": ["a"]}, "coarse_classes: format numpy has no coarse_classes"),
        ({"columns": {"label": "x"}}, "columns: format numpy has no columns"),
    ],
)
def test_what_such_arrays_can_not_hold_is_refused_by_the_catalogue(
    tmp_path: Path, pixels: Array, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(CatalogueError) as caught:
        published(tmp_path, b"-", b"-", pixels, **said)

    assert words in str(caught.value)
