"""Duplicates: what is found is what comparing all bytes with all bytes finds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import tables
from pipelines.statistics import duplicates
from tests import builders
from tests.builders import Array

Found = list[list[tuple[str, int, str]]]
"""Groups, in the order in which each is met, of (split, index, class)."""


def by_brute_force(splits: dict[str, tuple[Array, Array]]) -> Found:
    groups = defaultdict(list)
    for split, (images, labels) in splits.items():
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            groups[image.tobytes()].append((split, index, f"class {label}"))
    return [group for group in groups.values() if len(group) > 1]


def as_found(frame: pl.DataFrame) -> Found:
    groups = frame["group"].unique(maintain_order=True).to_list()
    assert groups == list(range(len(groups)))
    return [[row[1:] for row in frame.filter(group=group).rows()] for group in groups]


def table(folder: Path, split: str, images: Array, labels: Array) -> Path:
    tiny = builders.tiny(folder / split, images, labels)
    return replace(tiny, split=replace(tiny.split, name=split)).table(folder / f"{split}.parquet")


@st.composite
def splits(draw: st.DrawFn) -> dict[str, tuple[Array, Array]]:
    """Strategy: two splits of images so poor that many are the same."""
    height, width = (draw(st.integers(1, 3)) for _ in range(2))
    shape = (height, width, draw(st.sampled_from([1, 3])))
    drawn = {}
    for split in ("train", "test"):
        records = draw(st.integers(1, 8))
        images = draw(hnp.arrays(np.uint8, (records, *shape), elements=st.sampled_from([0, 255])))
        labels = draw(hnp.arrays(np.uint8, records, elements=st.integers(0, 4)))
        drawn[split] = images, labels
    return drawn


@settings(max_examples=25, deadline=None)
@given(splits=splits(), collide=st.booleans())
def test_the_groups_are_those_that_brute_force_finds(
    splits: dict[str, tuple[Array, Array]],
    collide: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("duplicates")
    paths = [table(folder, split, *arrays) for split, arrays in splits.items()]
    # Even if all fingerprints were the same, only records of equal pixels would be.
    known = {}
    if collide:
        known = {path: np.zeros(tables.info(path).records, np.uint64) for path in paths}

    assert as_found(duplicates.find(paths, known)) == by_brute_force(splits)
    one = {"test": splits["test"]}
    assert as_found(duplicates.find(paths[1:])) == by_brute_force(one)


IMAGES = builders.images(8, seed=7)
A, B, C, D = IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3]


@pytest.fixture
def found(tmp_path: Path) -> pl.DataFrame:
    """Train A B A B C, test D B D: B has leaked, D is in test twice, A in train."""
    train = table(tmp_path, "train", np.stack([A, B, A, B, C]), np.array([0, 1, 0, 2, 3], np.uint8))
    test = table(tmp_path, "test", np.stack([D, B, D]), np.array([4, 1, 4], np.uint8))
    return duplicates.find([train, test])


def test_only_groups_with_records_of_several_splits_have_leaked(found: pl.DataFrame) -> None:
    [row] = duplicates.by_group(duplicates.across_splits(found)).rows(named=True)
    assert row == {
        "group": 1,
        "records": ["train 1", "train 3", "test 1"],
        "classes": ["class 1", "class 2"],
        "is_consistent": False,
    }


def test_a_group_says_whether_its_records_are_of_one_class(found: pl.DataFrame) -> None:
    told = duplicates.by_group(found)
    assert told["records"].to_list() == [
        ["train 0", "train 2"],
        ["train 1", "train 3", "test 1"],
        ["test 0", "test 2"],
    ]
    assert told["is_consistent"].to_list() == [True, False, True]


def test_nothing_is_found_where_nothing_is_the_same(tmp_path: Path) -> None:
    path = table(tmp_path, "train", IMAGES, builders.labels(8, 5))
    found = duplicates.find([path])
    assert found.is_empty()
    assert duplicates.by_group(duplicates.across_splits(found)).is_empty()


def test_one_bit_makes_a_record_another(tmp_path: Path) -> None:
    images = np.repeat(IMAGES[:1], 13, axis=0)
    for at in range(12):
        images[at + 1].ravel()[at] ^= 1
    assert duplicates.find([table(tmp_path, "train", images, np.zeros(13, np.uint8))]).is_empty()


def test_records_of_different_row_groups_are_compared(tmp_path: Path) -> None:
    records = tables.BATCH_RECORDS + 3
    numbers = np.arange(records, dtype=np.uint32)
    numbers[-1] = 1
    images = numbers.view(np.uint8).reshape(records, 2, 2, 1)
    path = table(tmp_path, "train", images, np.zeros(records, np.uint8))
    assert duplicates.find([path])["index"].to_list() == [1, records - 1]
