"""A split that comes in parts, as people load it who know nothing of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pipelines as imagesets
from pipelines.errors import TableError, UnknownName
from tests import parts
from tests.parts import Drawings


@pytest.fixture
def drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawings:
    """A publisher of drawings; the data folder is empty."""
    published = parts.publish(tmp_path)
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(published.catalogue))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(published.mirror))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("IMAGESETS_OFFLINE", "1")
    return published


def test_it_is_loaded_as_any_other(drawings: Drawings) -> None:
    train = imagesets.load("drawings")

    np.testing.assert_array_equal(train.images, drawings.all_images)
    np.testing.assert_array_equal(train.labels, drawings.all_labels)
    assert train.classes == parts.CLASSES
    table = imagesets.table("drawings")
    assert table["index"].to_pylist() == list(range(31))
    batches = list(imagesets.batches("drawings", records=10))
    assert [len(batch) for batch in batches] == [10, 10, 10, 1]
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), drawings.all_images)


def test_one_part_is_loaded_and_nothing_else_is_fetched(drawings: Drawings, tmp_path: Path) -> None:
    tower = imagesets.load("drawings", "train/The Eiffel Tower")

    np.testing.assert_array_equal(tower.images.reshape(9, -1), drawings.images[2])
    assert set(tower.labels.tolist()) == {2}
    assert [path.name for path in tmp_path.glob("data/archives/*/*")] == ["The Eiffel Tower.npy"]
    assert imagesets.table("drawings", "train/The Eiffel Tower")["index"].to_pylist() == [
        *range(12, 21)
    ]
    images = np.load(imagesets.arrays("drawings", "train/The Eiffel Tower") / "images.npy")
    assert images.shape == (9, 28, 28)


def test_what_is_no_part_is_refused_with_the_nearest(drawings: Drawings) -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'dog'.*5 parts, ant, bee, The Eiffel"):
        imagesets.load("drawings", "train/dgo")
    with pytest.raises(UnknownName, match="has no split 'test'"):
        imagesets.load("drawings", "test")
    with pytest.raises(TableError, match=r'comes in 5 parts.*Name one: "train/ant"'):
        imagesets.arrays("drawings")


def test_a_stream_of_parts_gives_every_record_once(drawings: Drawings) -> None:
    from pipelines.api import streams

    found = [label for _, label in streams.shuffled("drawings", "train", buffer=7, seed=3)]

    assert sorted(found) == drawings.all_labels.tolist()
    assert found != drawings.all_labels.tolist()


def test_it_is_traced_and_verified(drawings: Drawings) -> None:
    assert imagesets.trace("drawings", "train", 20).holds
    assert all(verdict.is_whole for verdict in imagesets.verify("drawings", deep=True))


def test_a_table_of_parts_is_held_against_their_list(
    drawings: Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data/tables/drawings"
    imagesets.load("drawings")
    (folder / "train/part-00002.parquet").write_bytes(
        (folder / "train/part-00001.parquet").read_bytes()
    )
    monkeypatch.setattr("pipelines.api.loading.path", lambda *_: folder / "train.json")

    with pytest.raises(TableError, match="lists"):
        imagesets.table("drawings")
