"""A version that is not the current one is loaded by its name, in the library as everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pipelines as imagesets
from pipelines.errors import UnknownName
from tests import builders


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[builders.Array, builders.Array]:
    """The records of the split train of a version that is not current."""
    publisher = builders.publish(tmp_path / "published")
    train = builders.images(20, seed=7), builders.labels(20, 3, 7)
    builders.add_version(publisher, "1", {"train": train, "test": train})
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(publisher.catalogue))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(publisher.mirror))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("IMAGESETS_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return train


def test_a_version_is_loaded_beside_the_current_one(
    older: tuple[builders.Array, builders.Array],
) -> None:
    images, labels = older

    found = imagesets.load("tiny_digits@1", "train")
    current = imagesets.load("tiny_digits", "train")

    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    assert len(current.labels) == 30
    assert imagesets.about("tiny_digits@1").title == "Tiny digits, version 1"
    assert imagesets.trace("tiny_digits@1", "train", 3).holds


@pytest.mark.usefixtures("older")
def test_a_version_that_there_is_none_of_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownName) as refused:
        imagesets.load("tiny_digits@3", "train")

    assert str(refused.value) == (
        "There is no version 'tiny_digits@3'. Known: tiny_digits@1 and tiny_digits, the current "
        "one."
    )
