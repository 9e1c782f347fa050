"""CSV: the lines that other programs write and read, byte for byte."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import plan
from pipelines.errors import StorageError, TableError
from pipelines.exports import _lines
from pipelines.reading import opening
from pipelines.store import Input
from tests import builders
from tests.builders import Array
from tests.exports import exporting


def written_elsewhere(images: Array, labels: Array) -> bytes:
    """The same records as the standard library writes them."""
    text = io.StringIO(newline="")
    fields = np.column_stack([labels, images.reshape(len(images), -1)])
    csv.writer(text, lineterminator="\n").writerows(fields.tolist())
    return text.getvalue().encode()


@given(
    records=st.one_of(
        builders.some_records(channels=1, classes=256),
        builders.some_records(channels=3, classes=256),
    ),
    batch=st.integers(1, 10),
    lines=st.integers(1, 10),
)
@settings(deadline=None, max_examples=40)
def test_the_bytes_are_those_of_another_writer_whatever_the_batch_size(
    tmp_path_factory: pytest.TempPathFactory, records: tuple[Array, Array], batch: int, lines: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        patch.setattr(_lines, "AT_ONCE", lines)
        table = builders.tiny(folder, *records, classes=256).table(folder / "table.parquet")

        count = exporting.write("csv", table, folder / "table.csv", advance=told.append)

    assert count == sum(told) == len(records[1])
    assert (folder / "table.csv").read_bytes() == written_elsewhere(*records)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 records of 4×3 pixels in 256 classes."""
    tiny = builders.tiny(tmp_path, builders.images(40), builders.labels(40, 256), classes=256)
    return tiny.table(tmp_path / "table.parquet")


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "exports" / "train.csv"


def test_every_value_from_0_to_255_is_written_as_a_plain_integer(
    tmp_path: Path, goal: Path
) -> None:
    every = np.arange(256, dtype=np.uint8)
    tiny = builders.tiny(tmp_path, every.reshape(256, 1, 1, 1), every[::-1], classes=256)

    exporting.write("csv", tiny.table(tmp_path / "table.parquet"), goal)

    lines = [f"{255 - value},{value}\n" for value in range(256)]
    assert goal.read_bytes() == "".join(lines).encode()


def test_colours_stand_channels_last_after_the_fine_label(tmp_path: Path, goal: Path) -> None:
    pixels = np.arange(1, 13, dtype=np.uint8).reshape(1, 2, 2, 3)
    tiny = builders.tiny(tmp_path, pixels, np.array([4], np.uint8), np.array([2], np.uint8))

    exporting.write("csv", tiny.table(tmp_path / "table.parquet"), goal)

    assert goal.read_text() == "4,1,2,3,4,5,6,7,8,9,10,11,12\n"


def test_a_header_is_that_of_fashion_mnist(table: Path, goal: Path) -> None:
    exporting.write("csv", table, goal)
    plain = goal.read_bytes()

    exporting.write("csv", table, goal, header=True)

    header, _, rest = goal.read_bytes().partition(b"\n")
    assert header == b"label," + b",".join(b"pixel%d" % n for n in range(1, 13))
    assert rest == plain


def test_pandas_and_duckdb_read_the_same_records(table: Path, goal: Path) -> None:
    images, labels = builders.images(40), builders.labels(40, 256)
    expected = np.column_stack([labels, images.reshape(40, -1)])

    exporting.write("csv", table, goal)

    np.testing.assert_array_equal(pd.read_csv(goal, header=None).to_numpy(), expected)
    with duckdb.connect() as database:
        found = database.execute("select * from read_csv(?, header = false)", [str(goal)])
        np.testing.assert_array_equal(np.array(found.fetchall()), expected)


def test_the_same_table_makes_the_same_bytes(table: Path, goal: Path, tmp_path: Path) -> None:
    exporting.write("csv", table, goal)
    exporting.write("csv", table, tmp_path / "again.csv")

    assert goal.read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert builders.files_under(goal.parent) == ["train.csv"]


@pytest.mark.parametrize("content", [None, b"no table"])
def test_a_table_that_is_none_of_ours_is_refused_and_the_old_file_stays(
    tmp_path: Path, goal: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "table.parquet").write_bytes(content)
    goal.parent.mkdir()
    goal.write_bytes(b"old")

    with pytest.raises(TableError, match=r"table\.parquet is not"):
        exporting.write("csv", tmp_path / "table.parquet", goal)

    assert goal.read_bytes() == b"old"
    assert builders.files_under(goal.parent) == ["train.csv"]


def test_a_file_in_the_place_of_the_folder_is_named(table: Path, goal: Path) -> None:
    goal.parent.write_bytes(b"precious")

    with pytest.raises(StorageError, match=r"train\.csv can't be written"):
        exporting.write("csv", table, goal)

    assert goal.parent.read_bytes() == b"precious"


@pytest.mark.parametrize("header", [True, False])
def test_what_decides_the_bytes_of_a_csv(publisher: builders.Publisher, header: bool) -> None:
    options = {"csv_header": header, "compression_level": -1}
    found = plan.of(plan.load(publisher.catalogue), options)

    made = found.artefacts["exports/tiny_digits/train.csv"].artefact(lambda _path: "a" * 64)

    assert made.inputs == (Input("tables/tiny_digits/train.parquet", "a" * 64),)
    assert made.parameters["header"] is header
