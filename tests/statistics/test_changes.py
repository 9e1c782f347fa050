"""Changes between two datasets: what was added, removed, relabelled, moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statistics import changes
from pipelines.statistics.changes import Change, Changes, OfSplit, Record
from tests import builders
from tests.builders import Array

Rows = list[tuple[int, int]]
"""(picture, label) of each record of a split; equal numbers are equal pictures."""


def written(folder: Path, splits: Mapping[str, Rows]) -> dict[str, list[Path]]:
    """Tables of records whose pictures differ by one pixel."""
    paths = {}
    for split, rows in splits.items():
        images = np.zeros((len(rows), 4, 3, 1), np.uint8)
        images[:, 1, 2, 0] = [picture for picture, _ in rows]
        labels = np.array([label for _, label in rows], np.uint8)
        paths[split] = [table(folder, split, images, labels)]
    return paths


def table(folder: Path, split: str, images: Array, labels: Array, **facts: Any) -> Path:
    tiny = builders.tiny(folder / split, images, labels, **facts)
    return replace(tiny, split=replace(tiny.split, name=split)).table(folder / f"{split}.parquet")


def between(
    folder: Path, before: Mapping[str, Rows], after: Mapping[str, Rows], **more: Any
) -> Changes:
    for name in ("before", "after"):
        (folder / name).mkdir(exist_ok=True)
    return changes.between(
        written(folder / "before", before), written(folder / "after", after), **more
    )


def record(split: str, index: int, label: int) -> Record:
    return Record(split, index, f"class {label}")


def test_the_same_records_in_the_same_order_are_no_change(tmp_path: Path) -> None:
    rows = {"train": [(1, 0), (2, 1), (1, 2)], "test": [(1, 0)]}

    found = between(tmp_path, rows, rows)

    assert found.are_none
    assert found.splits[0] == OfSplit("train", 3, 3, 3, 0, 0, 0, 0)
    assert set(found.first.values()) == {()}


def test_each_kind_of_change_is_told_with_the_records(tmp_path: Path) -> None:
    found = between(
        tmp_path,
        {"train": [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1)], "test": [(6, 0)]},
        {"train": [(1, 0), (2, 2), (4, 0), (7, 1)], "test": [(6, 0), (5, 1), (8, 2)]},
    )

    assert not found.are_none
    assert found.splits == (
        OfSplit("train", 5, 4, unchanged=1, moved=2, relabelled=1, removed=1, added=1),
        OfSplit("test", 1, 3, unchanged=1, moved=0, relabelled=0, removed=0, added=1),
    )
    assert found.across == {("train", "test"): 1}
    assert found.first == {
        "removed": (Change(record("train", 2, 2), None),),
        "added": (Change(None, record("train", 3, 1)), Change(None, record("test", 2, 2))),
        "relabelled": (Change(record("train", 1, 1), record("train", 1, 2)),),
        "moved": (
            Change(record("train", 3, 0), record("train", 2, 0)),
            Change(record("train", 4, 1), record("test", 1, 1)),
        ),
    }


def test_of_copies_as_many_are_removed_as_there_are_fewer(tmp_path: Path) -> None:
    found = between(tmp_path, {"train": [(1, 0), (1, 0), (1, 0)]}, {"train": [(2, 0), (1, 0)]})

    assert found.splits == (OfSplit("train", 3, 2, 1, 0, 0, removed=2, added=1),)
    assert [str(change.before) for change in found.first["removed"]] == [
        "train 0 (class 0)",
        "train 2 (class 0)",
    ]


def test_a_copy_at_its_own_place_is_matched_before_one_elsewhere(tmp_path: Path) -> None:
    """Two copies whose labels were exchanged: they were relabelled, and went nowhere."""
    found = between(tmp_path, {"train": [(1, 0), (1, 1)]}, {"train": [(1, 1), (1, 0)]})

    assert found.splits == (OfSplit("train", 2, 2, 0, 0, relabelled=2, removed=0, added=0),)


def test_a_copy_elsewhere_is_matched_by_its_split_and_label_first(tmp_path: Path) -> None:
    found = between(
        tmp_path,
        {"train": [(1, 0), (1, 1), (9, 0)], "test": [(5, 0)]},
        {"train": [(8, 0), (7, 0), (6, 0), (1, 1), (1, 2)], "test": [(4, 0), (1, 0)]},
    )

    assert found.first["moved"] == (
        Change(record("train", 0, 0), record("test", 1, 0)),
        Change(record("train", 1, 1), record("train", 3, 1)),
    )
    assert found.first["relabelled"] == ()
    assert found.splits[0].added == 4


def test_labels_are_compared_by_what_their_classes_are_called(tmp_path: Path) -> None:
    images, labels = builders.images(3), np.array([0, 1, 2], np.uint8)
    one = builders.tiny(tmp_path / "one", images, labels, classes=3)
    other = builders.tiny(tmp_path / "other", images, 2 - labels, classes=3)
    turned = replace(other.dataset, classes=one.dataset.classes[::-1])
    paths = [
        one.table(tmp_path / "one.parquet"),
        replace(other, dataset=turned).table(tmp_path / "other.parquet"),
    ]

    assert changes.between({"train": paths[:1]}, {"train": paths[1:]}).are_none


def test_of_one_split_what_came_from_others_or_went_there_is_told(tmp_path: Path) -> None:
    before = {"train": [(1, 0), (2, 0)], "test": [(3, 0), (4, 0)]}
    after = {"train": [(1, 0), (3, 0)], "test": [(2, 0)]}

    found = between(tmp_path, before, after, split="train")

    assert [one.split for one in found.splits] == ["train"]
    assert found.across == {("train", "test"): 1, ("test", "train"): 1}
    assert len(found.first["moved"]) == 2
    assert found.first["removed"] == ()
    assert found.totals == {"removed": 0, "added": 0, "relabelled": 0, "moved": 2}


def test_a_split_that_only_one_has_is_added_or_removed(tmp_path: Path) -> None:
    found = between(tmp_path, {"train": [(1, 0)]}, {"train": [(1, 0)], "val": [(2, 0)]})

    assert found.splits[1] == OfSplit("val", 0, 1, 0, 0, 0, 0, 1)


rows = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=8)
two_splits = st.fixed_dictionaries({"train": rows, "test": rows})


@given(two_splits, two_splits)
@settings(max_examples=30, deadline=None)
def test_whatever_there_is_every_record_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, Rows], after: dict[str, Rows]
) -> None:
    found = between(tmp_path_factory.mktemp("any"), before, after)

    pictures = [Counter(p for r in side.values() for p, _ in r) for side in (before, after)]
    assert sum(one.removed for one in found.splits) == (pictures[0] - pictures[1]).total()
    assert sum(one.added for one in found.splits) == (pictures[1] - pictures[0]).total()
    for one in found.splits:
        assert one.unchanged + one.moved + one.relabelled + one.removed == one.before
    of_other = sum(one.after for one in found.splits)
    kept = sum(one.unchanged + one.moved + one.relabelled for one in found.splits)
    assert kept + sum(one.added for one in found.splits) == of_other
    assert found.are_none == (before == after)
