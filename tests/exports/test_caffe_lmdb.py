"""LMDB: what Caffe would read, read here with LMDB itself and Google's protobuf."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import plan
from pipelines.errors import StorageError, TableError
from pipelines.exports import caffe_lmdb
from pipelines.reading import opening
from pipelines.store import Input
from tests import builders
from tests.builders import Array
from tests.caffe import Datum, read
from tests.exports import exporting


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "exports" / "train_lmdb" / "data.mdb"


@given(
    some=st.one_of(
        builders.some_records(channels=1, classes=256),
        builders.some_records(channels=3, classes=256),
    ),
    batch=st.integers(1, 10),
)
@settings(deadline=None, max_examples=30)
def test_caffe_reads_what_was_written_whatever_the_batch_size(
    tmp_path_factory: pytest.TempPathFactory, some: tuple[Array, Array], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("lmdb")
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        table = builders.tiny(folder, *some, classes=256).table(folder / "table.parquet")
        count = exporting.write("lmdb", table, folder / "db" / "data.mdb", advance=told.append)

    keys, images, labels = read(folder / "db")

    assert count == sum(told) == len(some[1])
    digits = 8 if some[0].shape[-1] == 1 else 5
    assert keys == [f"{number:0{digits}d}" for number in range(count)]
    np.testing.assert_array_equal(images, some[0])
    assert labels == some[1].tolist()


def test_a_value_is_byte_for_byte_what_protobuf_writes(tmp_path: Path, goal: Path) -> None:
    values = np.array([0, 1, 127, 128, 129, 254, 255], np.uint8)
    pixels = builders.images(7, 20, 10, 3)  # more than 127 bytes: their number takes two
    tiny = builders.tiny(tmp_path, pixels, values, classes=256)
    exporting.write("lmdb", tiny.table(tmp_path / "table.parquet"), goal)

    with (
        lmdb.open(str(goal.parent), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        found = [bytes(value) for _, value in transaction.cursor()]

    expected = [
        Datum(
            channels=3,
            height=20,
            width=10,
            data=image.transpose(2, 0, 1).tobytes(),
            label=int(value),
        ).SerializeToString()
        for image, value in zip(pixels, values, strict=True)
    ]
    assert found == expected


def test_the_label_is_the_fine_one(tmp_path: Path, goal: Path) -> None:
    fine, coarse = np.array([4, 0, 3], np.uint8), np.array([2, 1, 0], np.uint8)
    tiny = builders.tiny(tmp_path, builders.images(3, 2, 2, 3), fine, coarse)

    exporting.write("lmdb", tiny.table(tmp_path / "table.parquet"), goal)

    keys, _, labels = read(goal.parent)
    assert keys == ["00000", "00001", "00002"]
    assert labels == [4, 0, 3]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """1,200 records of 28×28 pixels."""
    tiny = builders.tiny(tmp_path, builders.images(1200, 28, 28), builders.labels(1200, 5))
    return tiny.table(tmp_path / "table.parquet")


def test_keys_have_more_digits_where_the_records_need_them_and_keep_their_order(
    table: Path, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caffe_lmdb, "key_digits", lambda _dataset: 2)
    exporting.write("lmdb", table, goal)

    keys, images, _ = read(goal.parent)
    assert keys == [f"{number:04d}" for number in range(1200)]
    np.testing.assert_array_equal(images, builders.images(1200, 28, 28))


@pytest.mark.parametrize(
    ("count", "digits"), [(1, 1), (9, 1), (10, 1), (11, 2), (100, 2), (101, 3), (1000, 3)]
)
def test_keys_have_the_digits_of_the_last_one_and_no_more(
    tmp_path: Path, goal: Path, monkeypatch: pytest.MonkeyPatch, count: int, digits: int
) -> None:
    tiny = builders.tiny(tmp_path, builders.images(count, 2, 2), builders.labels(count, 5))
    monkeypatch.setattr(caffe_lmdb, "key_digits", lambda _dataset: 1)
    exporting.write("lmdb", tiny.table(tmp_path / "table.parquet"), goal)

    assert read(goal.parent)[0] == [f"{number:0{digits}d}" for number in range(count)]


def test_the_same_table_makes_the_same_bytes(
    table: Path, goal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BATCH_RECORDS", 100)
    exporting.write("lmdb", table, goal)
    exporting.write("lmdb", table, tmp_path / "a longer name" / "data.mdb")

    assert goal.read_bytes() == (tmp_path / "a longer name" / "data.mdb").read_bytes()


def test_only_the_data_file_is_left(table: Path, goal: Path) -> None:
    exporting.write("lmdb", table, goal)

    assert builders.files_under(goal.parent) == ["data.mdb"]


def test_the_old_database_is_replaced_not_added_to(table: Path, goal: Path, tmp_path: Path) -> None:
    exporting.write("lmdb", table, goal)
    small = builders.tiny(tmp_path / "small", builders.images(3), builders.labels(3, 5))

    exporting.write("lmdb", small.table(tmp_path / "small.parquet"), goal)

    assert read(goal.parent)[0] == ["00000000", "00000001", "00000002"]


@pytest.mark.parametrize("batch", [1000, 65_536])
def test_the_file_is_compact_in_several_transactions_as_in_one(
    tmp_path: Path, goal: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Within two hundredths of the pages that hold the records: no map, no pages left behind."""
    tiny = builders.tiny(tmp_path, builders.images(4000, 28, 28), builders.labels(4000, 5))
    monkeypatch.setattr(opening, "BATCH_RECORDS", batch)
    exporting.write("lmdb", tiny.table(tmp_path / "table.parquet"), goal)

    with lmdb.open(str(goal.parent), readonly=True, lock=False) as database:
        stat = database.stat()
        pages = stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"] + 2
        assert stat["entries"] == 4000
        assert stat["leaf_pages"] <= 4000 / 4 + 1  # no fifth record of 784 bytes fits into a page
    assert goal.stat().st_size <= 1.02 * pages * stat["psize"]


@pytest.mark.parametrize("side", [44, 64, 100])
def test_images_larger_than_a_page_are_written_too(tmp_path: Path, goal: Path, side: int) -> None:
    images = builders.images(50, side, side)
    tiny = builders.tiny(tmp_path, images, builders.labels(50, 5))

    exporting.write("lmdb", tiny.table(tmp_path / "table.parquet"), goal)

    np.testing.assert_array_equal(read(goal.parent)[1], images)


@pytest.mark.parametrize("content", [None, b"no table"])
def test_a_table_that_is_none_of_ours_is_refused_and_the_old_file_stays(
    tmp_path: Path, goal: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "table.parquet").write_bytes(content)
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"old")

    with pytest.raises(TableError, match=r"table\.parquet is not"):
        exporting.write("lmdb", tmp_path / "table.parquet", goal)

    assert goal.read_bytes() == b"old"
    assert builders.files_under(goal.parent) == ["data.mdb"]


def test_a_file_in_the_place_of_the_folder_is_named(table: Path, goal: Path) -> None:
    goal.parent.parent.mkdir()
    goal.parent.write_bytes(b"precious")

    with pytest.raises(StorageError, match=r"data\.mdb can't be written"):
        exporting.write("lmdb", table, goal)

    assert goal.parent.read_bytes() == b"precious"


@pytest.mark.parametrize(("name", "digits"), [("tiny_digits", 8), ("tiny_colours", 5)])
def test_what_decides_the_bytes_of_a_database(
    publisher: builders.Publisher, name: str, digits: int
) -> None:
    found = plan.of(plan.load(publisher.catalogue), {"compression_level": -1})

    planned = found.artefacts[f"exports/{name}/train_lmdb/data.mdb"]
    made = planned.artefact(lambda _path: "a" * 64)

    assert made.inputs == (Input(f"tables/{name}/train.parquet", "a" * 64),)
    assert made.parameters["key_digits"] == digits
