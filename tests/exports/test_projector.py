"""TensorBoard's projector: pixels, classes and pictures of the same records, evenly spread."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.exports import _lines, projector
from pipelines.reading import opening
from tests import builders
from tests.builders import Array
from tests.exports import sets
from tests.exports.sets import AWKWARD, Set


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return sets.build(tmp_path_factory.mktemp("grey"), names=AWKWARD, shape=(5, 4, 1))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Set:
    folder = tmp_path_factory.mktemp("colour")
    return sets.build(folder, classes=100, coarse=20, shape=(6, 7, 3))


@pytest.fixture(params=["grey", "colour"])
def some(request: pytest.FixtureRequest) -> Set:
    found: Set = request.getfixturevalue(request.param)
    return found


def pictures(folder: Path, shape: tuple[int, int, int], count: int) -> tuple[Array, Array]:
    """The pictures of a sprite, as the projector's browser cuts them, and those that fill it up."""
    config = (folder / "projector_config.pbtxt").read_text()
    width, height = map(int, re.findall(r"single_image_dim: (\d+)", config))
    assert (height, width) == shape[:2]
    with Image.open(folder / "sprite.png") as sprite:
        array = np.asarray(sprite).reshape(sprite.height, sprite.width, -1)
    side = math.ceil(math.sqrt(count))
    assert array.shape == (side * height, side * width, shape[2])
    cut = array.reshape(side, height, side, width, shape[2]).transpose(0, 2, 1, 3, 4)
    cut = cut.reshape(-1, *shape)
    return cut[:count], cut[count:]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("most", [1, 2, 7, 12, 29, 30, 10_000])
def test_all_files_are_of_the_same_records_in_the_same_order(
    some: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, most: int
) -> None:
    monkeypatch.setattr(opening, "BATCH_RECORDS", 11)
    monkeypatch.setattr(_lines, "AT_ONCE", 4)
    told: list[int] = []
    folder, (images, labels, _) = tmp_path / "p", some.arrays[split]
    facts = some.write("projector", folder, split, advance=told.append, records=most)
    count = min(most, len(labels))
    rows = [number * len(labels) // count for number in range(count)]

    assert facts == {"records": count, "of": len(labels)}
    assert sum(told) == len(labels)
    assert builders.files_under(folder) == sorted(
        ["projector_config.pbtxt", "tensors.tsv", "metadata.tsv", "sprite.png"]
    )
    tensors = np.loadtxt(folder / "tensors.tsv", np.uint8, delimiter="\t", ndmin=2)
    np.testing.assert_array_equal(tensors, images[rows].reshape(count, -1))
    classes = (folder / "metadata.tsv").read_bytes().decode().split("\n")
    assert classes == [*(some.subject.dataset.classes[labels[row]] for row in rows), ""]
    found, rest = pictures(folder, images.shape[1:], count)
    np.testing.assert_array_equal(found, images[rows])
    assert not rest.any()


def test_a_line_is_plain_numbers_and_tabs(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)

    assert (
        b"".join(projector._rows(values))
        == ("\t".join(str(number) for number in range(256)) + "\n").encode()
    )


@pytest.mark.parametrize(
    ("records", "most", "shape", "count"),
    [
        (10_000, 10_000, (28, 28, 1), 10_000),
        (60_000, 10_000, (28, 28, 1), 10_000),
        (697_932, 10_000, (28, 28, 1), 10_000),
        (697_932, 1_000_000, (28, 28, 1), 292**2),  # 8,176 pixels
        (60_000, 10_000, (64, 224, 3), 36**2),
        (5, 10_000, (9000, 9, 1), 1),
    ],
)
def test_a_sample_is_spread_evenly_and_fits_into_a_picture(
    grey: Set, records: int, most: int, shape: tuple[int, int, int], count: int
) -> None:
    subject = grey.of("train")
    image = replace(subject.dataset.image, height=shape[0], width=shape[1], channels=shape[2])
    subject = replace(
        subject,
        dataset=replace(subject.dataset, image=image),
        splits=(replace(subject.split, records=records),),
    )

    found = projector.sample(subject, most)

    assert len(found) == len(set(found)) == count
    assert found[0] == 0
    steps = {after - before for before, after in itertools.pairwise(found)}
    assert not steps or max(steps) - min(steps) <= 1
    assert found[-1] < records
    assert projector._side(count) * max(shape[:2]) <= max(8192, *shape[:2])
