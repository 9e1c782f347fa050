"""One record out of an export: the right one, and plainly refused where there is none."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ArtefactError
from pipelines.exports import _lines, caffe_lmdb
from pipelines.exports import _lmdb_pages as pages
from tests import builders
from tests.builders import Array
from tests.exports import exporting

SHAPE = (4, 3, 3)


@pytest.fixture(scope="module")
def some() -> tuple[Array, Array]:
    return builders.images(300, *SHAPE), builders.labels(300, 5)


@pytest.fixture(scope="module")
def table(some: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    return builders.tiny(folder, *some).table(folder / "table.parquet")


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
def test_every_line_of_a_csv_is_found_with_and_without_a_header(
    some: tuple[Array, Array],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: bool,
    chunk: int,
) -> None:
    monkeypatch.setattr(_lines, "_CHUNK_BYTES", chunk)
    path = tmp_path / "train.csv"
    exporting.write("csv", table, path, header=header)
    lines = path.read_bytes().splitlines(keepends=True)[header:]

    for index in range(0, 300, 1 if chunk > 7 else 37):
        stored = exporting.read("csv", path, index, SHAPE)
        record, start, stop = stored.record, stored.start, stored.stop
        np.testing.assert_array_equal(record.images[0], some[0][index], strict=True)
        assert record.labels.tolist() == [some[1][index]]
        assert path.read_bytes()[start:stop] == lines[index]


@pytest.mark.parametrize("text", ["3,0,1,2,255", "3,0,1,2,255\n", "3,0,1,2,255\r\n"])
def test_a_last_line_may_end_in_any_way(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,1,1,1,1\n" + text.encode())

    record = exporting.read("csv", tmp_path / "a.csv", 1, (2, 2, 1)).record

    assert (record.labels.tolist(), record.images.ravel().tolist()) == ([3], [0, 1, 2, 255])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["ends before record 1"]),
        ("1,2,3,4", ["expected a label and 4 intensities in record 1", "found 4 field(s)"]),
        ("1,2,3,4,5,6", ["found 6 field(s)"]),
        ("1,2,3,4,256", ["expected integers 0 to 255", "found '256'"]),
        ("1,2,3,4,-1", ["found '-1'"]),
        ("1,2,3,,5", ["found ''"]),
        ("1,2,3,x\udcff,5", ["found 'x\ufffd'"]),
        ("9" * 5000, ["found 1 field(s)"]),
    ],
)
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, line: str, words: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,1,1,1,1\n" + line.encode(errors="surrogateescape"))

    with pytest.raises(ArtefactError) as caught:
        exporting.read("csv", path, 1, (2, 2, 1))

    for word in words:
        assert word in str(caught.value)


def test_a_field_of_more_digits_than_python_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"9" * 4400 + b",1" * 3072 + b"\n")

    with pytest.raises(ArtefactError, match=r"integers 0 to 255 in record 0, found '99"):
        exporting.read("csv", path, 0, (32, 32, 3))


def stored(path: Path) -> dict[str, bytes]:
    """Key → value, as LMDB itself reads them."""
    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        return {key.decode(): value for key, value in transaction.cursor()}


@pytest.mark.parametrize("size", [1, 500, 2000, 2027, 2028, 5000, 70_000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_whatever_lmdb_wrote_is_found_where_lmdb_finds_it(
    tmp_path: Path, size: int, shuffled: bool
) -> None:
    """Values within pages and beside them, in trees of several levels, overwritten and deleted."""
    path = tmp_path / "data.mdb"
    random = np.random.default_rng(size)
    order = random.permutation(2000) if shuffled else np.arange(2000)
    count = min(2000, 40_000_000 // size)
    with lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 30) as database:
        for part in np.array_split(order[:count], 3):
            with database.begin(write=True) as transaction:
                for number in part.tolist():
                    transaction.put(b"%08d" % number, random.bytes(size))
                if shuffled:
                    transaction.delete(b"%08d" % part[0])
    values = stored(path)
    data = path.read_bytes()

    with path.open("rb") as file:
        for key, value in values.items():
            found, start, stop = pages._look_up(file, key.encode())
            assert (found.decode(), data[start:stop]) == (key, value)
        for key in {f"{number:08d}" for number in range(2000)} - values.keys():
            assert pages._look_up(file, key.encode())[0].decode() != key


@pytest.mark.parametrize("digits", [5, 8])
def test_every_datum_of_an_lmdb_is_found(
    some: tuple[Array, Array],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    digits: int,
) -> None:
    path = tmp_path / "data.mdb"
    monkeypatch.setattr(caffe_lmdb, "key_digits", lambda _dataset: digits)
    exporting.write("lmdb", table, path)

    values = stored(path)
    for index in range(300):
        found = exporting.read("lmdb", path, index, SHAPE)
        record, key, start, stop = found.record, found.facts["key"], found.start, found.stop
        assert key == f"{index:0{digits}d}"
        assert path.read_bytes()[start:stop] == values[key]
        np.testing.assert_array_equal(record.images[0], some[0][index], strict=True)
        assert record.labels.tolist() == [some[1][index]]
    with pytest.raises(ArtefactError, match=f"has no key {300:0{digits}d}"):
        exporting.read("lmdb", path, 300, SHAPE)
    assert builders.files_under(tmp_path) == ["data.mdb"]


def put(path: Path, value: bytes) -> Path:
    """An LMDB with one value."""
    with (
        lmdb.open(str(path), subdir=False, lock=False) as database,
        database.begin(write=True) as transaction,
    ):
        transaction.put(b"00000000", value)
    return path


GOOD = b"\x08\x01\x10\x02\x18\x02\x22\x04abcd\x28\x03"  # 1 channel, 2×2, "abcd", label 3


def test_a_datum_is_read_as_protobuf_describes_it(tmp_path: Path) -> None:
    record = exporting.read("lmdb", put(tmp_path / "data.mdb", GOOD), 0, (2, 2, 1)).record

    assert record.images.tobytes() == b"abcd"
    assert record.labels.tolist() == [3]


@pytest.mark.parametrize(
    "value",
    [
        b"\x08\x03" + GOOD[2:],  # 3 channels
        GOOD[:6] + b"\x22\x03abc\x28\x03",  # 3 bytes
        GOOD[:-2],
        GOOD[:-1],
        GOOD[:-1] + b"\x80\x02",  # label 256
        GOOD[:-1] + b"\x83\x00",  # a label that nobody writes so
        GOOD + b"\x28\x03",
        b"something else",
        b"\x28" + b"\xff" * 9,
        b"",
    ],
)
def test_a_value_that_is_no_such_datum_is_refused(tmp_path: Path, value: bytes) -> None:
    path = put(tmp_path / "data.mdb", value)

    with pytest.raises(ArtefactError) as caught:
        exporting.read("lmdb", path, 0, (2, 2, 1))

    assert "expected a Datum with (channels, height, width) = (1, 2, 2)" in str(caught.value)
    assert "key 00000000" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"no database", bytes(1 << 16)])
def test_what_is_no_lmdb_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(data)

    with pytest.raises(ArtefactError, match="no LMDB, or damaged"):
        exporting.read("lmdb", tmp_path / "data.mdb", 0, SHAPE)
    assert (tmp_path / "data.mdb").read_bytes() == data


@given(
    cut=st.floats(0, 1) | st.none(),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=40),
    index=st.integers(0, 299),
)
@settings(deadline=None, max_examples=200)
def test_a_damaged_lmdb_gives_the_record_or_is_refused(
    table: Path,
    some: tuple[Array, Array],
    tmp_path_factory: pytest.TempPathFactory,
    cut: float | None,
    flips: list[tuple[float, int]],
    index: int,
) -> None:
    """The library itself would end the process where a page lies beyond the end of the file."""
    path = tmp_path_factory.mktemp("damaged") / "data.mdb"
    exporting.write("lmdb", table, path)
    data = bytearray(path.read_bytes())
    for where, byte in flips:
        data[int(where * len(data))] = byte
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])

    try:
        found = exporting.read("lmdb", path, index, SHAPE)
    except ArtefactError:
        return

    assert found.facts["key"] == f"{index:05d}"
    assert found.stop <= path.stat().st_size
    assert found.record.images.shape == (1, *SHAPE)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_lmdb_that_is_cut_short_is_refused(table: Path, tmp_path: Path, part: float) -> None:
    path = tmp_path / "data.mdb"
    exporting.write("lmdb", table, path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    def read_all() -> None:
        for index in range(300):
            exporting.read("lmdb", path, index, SHAPE)

    with pytest.raises(ArtefactError, match=r"damaged: expected bytes .* the end of the file"):
        read_all()
