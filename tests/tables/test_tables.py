"""Tables: what a split holds goes into Parquet and comes back, whole or in parts, never copied."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import catalogue, tables
from pipelines.errors import FormatError, ImagesetsError, MemberError, StorageError, TableError
from pipelines.reading import opening
from pipelines.records import Batch
from pipelines.store import Input, layout
from tests import builders
from tests.builders import Array, Publisher

SPLITS = [
    ("tiny_digits", "train"),
    ("tiny_digits", "test"),
    ("tiny_letters", "train"),
    ("tiny_letters", "test"),
    ("tiny_colours", "train"),
    ("tiny_colours", "test"),
]


def built(publisher: Publisher, dataset: str, split: str, goal: Path, **options: Any) -> int:
    """Write the table of a published split, as the assets do."""
    known = catalogue.load(publisher.catalogue)
    found = known.datasets[dataset]
    source = known.source_of(found)
    archives = publisher.mirror / source.name
    return tables.write(source, found, found.splits[split], archives, goal, **options)


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tables" / "table.parquet"


@pytest.fixture
def seven_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches: row groups of seven records."""
    monkeypatch.setattr(opening, "BATCH_RECORDS", 7)


@pytest.fixture
def colours(publisher: Publisher, goal: Path, seven_a_group: None) -> Path:
    """The table of 30 records with coarse labels, in six row groups: three of each batch."""
    built(publisher, "tiny_colours", "train", goal)
    assert pq.read_metadata(goal).num_row_groups == 6
    return goal


def same(batch: Batch, images: Array, labels: Array, coarse: Array | None) -> None:
    np.testing.assert_array_equal(batch.images, images, strict=True)
    np.testing.assert_array_equal(batch.labels, labels, strict=True)
    if coarse is None:
        assert batch.coarse_labels is None
    else:
        assert batch.coarse_labels is not None
        np.testing.assert_array_equal(batch.coarse_labels, coarse, strict=True)


def joined(batches: list[Batch]) -> Batch:
    coarse = [b.coarse_labels for b in batches if b.coarse_labels is not None]
    return Batch(
        np.concatenate([b.images for b in batches]),
        np.concatenate([b.labels for b in batches]),
        np.concatenate(coarse) if coarse else None,
    )


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_a_table_holds_what_was_published(
    publisher: Publisher, goal: Path, dataset: str, split: str
) -> None:
    images, labels, coarse = publisher.splits[dataset, split]

    assert built(publisher, dataset, split, goal) == len(labels)

    same(tables.read(goal), images, labels, coarse)
    assert builders.files_under(goal.parent) == ["table.parquet"]


@pytest.mark.usefixtures("seven_a_group")
@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_batches_of_any_size_make_the_same_records(
    publisher: Publisher, goal: Path, dataset: str, split: str
) -> None:
    told: list[int] = []

    built(publisher, dataset, split, goal, advance=told.append)

    same(tables.read(goal), *publisher.splits[dataset, split])
    assert max(told) <= 7
    assert sum(told) == len(publisher.splits[dataset, split][1])


@pytest.mark.usefixtures("seven_a_group")
@pytest.mark.parametrize("decode_ahead", [True, False])
def test_whoever_observes_the_writing_sees_every_record_once_in_order(
    publisher: Publisher, goal: Path, decode_ahead: bool
) -> None:
    seen: list[Batch] = []
    records = built(
        publisher,
        "tiny_colours",
        "train",
        goal,
        observe=lambda batch: seen.append(Batch(batch.images.copy(), batch.labels.copy())),
        decode_ahead=decode_ahead,
    )
    images, labels, _ = publisher.splits["tiny_colours", "train"]
    assert len(seen) > 2
    assert sum(map(len, seen)) == records
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in seen]), images)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in seen]), labels)


@pytest.mark.parametrize("pack", [builders.tarred, builders.zipped])
@pytest.mark.parametrize("first", ["images", "labels"])
def test_idx_members_may_lie_in_one_archive_in_any_order(
    pack: Callable[[dict[str, bytes]], bytes], first: str, tmp_path: Path
) -> None:
    pixels, values = builders.images(30), builders.labels(30, 3)
    members = {"d/images": builders.idx(pixels[..., 0]), "d/labels": builders.idx(values)}
    name = "all.zip" if pack is builders.zipped else "all.tar.gz"
    data = pack(dict(sorted(members.items(), reverse=first == "labels")))
    (tmp_path / name).write_bytes(data)
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "one.toml").write_text(
        builders.declare({name: data})
        + f"""
[datasets.one]
title = "One"
format = "idx"
image = {{ height = 4, width = 3, channels = 1 }}
classes = ["a", "b", "c"]

[datasets.one.splits.train]
records = 30
counts = {builders.counts(values, 3)}
images = "{name}/d/images"
labels = "{name}/d/labels"
"""
    )
    source = catalogue.load(tmp_path / "catalogue").sources["one"]
    dataset = source.datasets["one"]
    goal = tmp_path / "one.parquet"
    tables.write(source, dataset, dataset.splits["train"], tmp_path, goal)
    same(tables.read(goal), pixels, values, None)


def test_the_columns_are_those_of_the_design(publisher: Publisher, goal: Path) -> None:
    built(publisher, "tiny_colours", "train", goal)

    text = pa.dictionary(pa.int32(), pa.string())
    columns = [
        ("index", pa.uint32()),
        ("label", pa.uint8()),
        ("class", text),
        ("coarse_label", pa.uint8()),
        ("coarse_class", text),
        ("pixels", pa.binary(4 * 4 * 3)),
    ]
    assert pq.read_schema(goal).remove_metadata() == pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in columns]
    )


def test_polars_and_duckdb_read_the_same_records(colours: Path, publisher: Publisher) -> None:
    images, labels, coarse = publisher.splits["tiny_colours", "train"]
    names = ["rose", "ruby", "rust", "sky", "sea", "steel"]
    assert coarse is not None
    rows = list(
        zip(
            range(30),
            labels.tolist(),
            [names[label] for label in labels],
            coarse.tolist(),
            [["red", "blue"][group] for group in coarse],
            [image.tobytes() for image in images],
            strict=True,
        )
    )

    assert pl.read_parquet(colours).rows() == rows
    with duckdb.connect() as database:
        found = database.execute("select * from read_parquet(?)", [str(colours)]).fetchall()
    assert [tuple(row) for row in found] == rows


def test_the_metadata_says_what_the_table_is_and_what_it_was_made_from(
    publisher: Publisher, goal: Path
) -> None:
    built(publisher, "tiny_letters", "test", goal)

    about = json.loads(pq.read_schema(goal).metadata[tables.METADATA_KEY])
    archive = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    assert about["dataset"] == "tiny_letters"
    assert about["split"] == "test"
    assert about["records"] == 12
    assert (about["shape"], about["dtype"], about["layout"]) == ([5, 5, 1], "uint8", "HWC")
    assert about["classes"] == ["A", "B", "C", "D"]
    assert about["source"]["licence"] == "not stated"
    md5 = hashlib.md5(archive).hexdigest()
    sha256 = hashlib.sha256(archive).hexdigest()
    assert about["inputs"] == {"archives/tiny_letters/letters.zip": {"md5": md5, "sha256": sha256}}
    found = tables.info(goal)
    assert (found.dataset, found.split, found.records) == ("tiny_letters", "test", 12)
    assert (found.shape, found.record_bytes) == ((5, 5, 1), 25)
    assert (found.classes, found.coarse_classes) == (("A", "B", "C", "D"), ())


@pytest.mark.parametrize("dataset", ["tiny_digits", "tiny_letters", "tiny_colours"])
def test_the_same_archives_make_the_same_bytes(
    publisher: Publisher, tmp_path: Path, dataset: str
) -> None:
    for goal in (tmp_path / "here.parquet", tmp_path / "deep" / "there.parquet"):
        built(publisher, dataset, "train", goal)

    assert (tmp_path / "here.parquet").read_bytes() == (
        tmp_path / "deep" / "there.parquet"
    ).read_bytes()


@pytest.mark.parametrize(
    ("record_bytes", "records"),
    [(784, 5_349), (3_072, 1_365), (1, 65_536), (4 << 20, 1), (5 << 20, 1)],
)
def test_a_batch_is_about_4_mib_of_pixels(record_bytes: int, records: int) -> None:
    assert tables.batch_records(record_bytes) == records


@given(records=builders.some_records(), batch=st.integers(1, 10))
@settings(deadline=None, max_examples=30)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: tuple[Array, Array], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("any")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        table = builders.tiny(folder, *records).table(folder / "table.parquet")

    same(tables.read(table), *records, None)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 6, 7, 8, 13, 14, 15, 29, 30, None])
def test_any_range_of_rows_is_a_slice_of_all(
    colours: Path, publisher: Publisher, stop: int | None
) -> None:
    """Read, streamed, and as Arrow: every start, below every interesting stop."""
    images, labels, coarse = publisher.splits["tiny_colours", "train"]
    assert coarse is not None
    for start in range((30 if stop is None else stop) + 1):
        rows = slice(start, stop)
        expected = (images[rows], labels[rows], coarse[rows])

        same(tables.read(colours, start, stop), *expected)
        streamed = list(tables.batches(colours, start, stop))
        assert all(len(batch) for batch in streamed)
        if streamed:
            same(joined(streamed), *expected)
        else:
            assert len(labels[rows]) == 0
        table = tables.to_arrow(colours, start, stop)
        assert table["index"].to_pylist() == list(range(30))[rows]
        assert table["label"].to_pylist() == labels[rows].tolist()
        assert table["coarse_label"].to_pylist() == coarse[rows].tolist()
        assert table["image"].combine_chunks().type.shape == [4, 4, 3]
        found = [chunk.to_numpy_ndarray() for chunk in table["image"].chunks if len(chunk)]
        if found:
            np.testing.assert_array_equal(np.concatenate(found), images[rows], strict=True)
        table.validate(full=True)


def test_batches_are_row_groups(colours: Path) -> None:
    assert [len(batch) for batch in tables.batches(colours)] == [7, 7, 1, 7, 7, 1]
    assert [len(batch) for batch in tables.batches(colours, 5, 16)] == [2, 7, 1, 1]


@given(
    written=st.integers(1, 7), rewritten=st.integers(1, 31), most=st.integers(1, 9), data=st.data()
)
@settings(deadline=None, max_examples=60)
def test_a_table_with_row_groups_of_any_size_reads_as_numpy_slices(
    tmp_path_factory: pytest.TempPathFactory,
    written: int,
    rewritten: int,
    most: int,
    data: st.DataObject,
) -> None:
    """As ours are, and as pyarrow writes them again: often all records in one."""
    start = data.draw(st.integers(0, 30))
    stop = data.draw(st.integers(start, 30))
    images, labels = builders.images(30, 4, 4, 3), builders.labels(30, 5)
    coarse = (labels % 3).astype(np.uint8)
    expected = (images[start:stop], labels[start:stop], coarse[start:stop])
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", written)
        ours = builders.tiny(folder, images, labels, coarse).table(folder / "ours.parquet")
        theirs = folder / "theirs.parquet"
        pq.write_table(pq.read_table(ours), theirs, row_group_size=rewritten)
        patch.setattr(opening, "BATCH_RECORDS", most)
        for path in (ours, theirs):
            same(tables.read(path, start, stop), *expected)
            streamed = list(tables.batches(path, start, stop))
            assert all(0 < len(batch) <= most for batch in streamed)
            assert bool(streamed) == (start < stop)
            if streamed:
                same(joined(streamed), *expected)
            table = tables.to_arrow(path, start, stop)
            assert table["index"].to_pylist() == list(range(start, stop))
            assert table["label"].to_pylist() == expected[1].tolist()
            chunks = [chunk.to_numpy_ndarray() for chunk in table["image"].chunks if len(chunk)]
            assert sum(map(len, chunks)) == stop - start
            if chunks:
                np.testing.assert_array_equal(np.concatenate(chunks), expected[0], strict=True)


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "snappy"},
        {"compression": "none"},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "zstd", "write_page_checksum": True},
        {"compression": "zstd", "use_dictionary": ["pixels"]},
        {"compression": "zstd", "use_dictionary": False, "data_page_size": 100},
        {"compression": "zstd", "column_encoding": "BYTE_STREAM_SPLIT", "use_dictionary": False},
    ],
    ids=str,
)
def test_a_table_that_was_written_again_in_another_way_holds_the_same_records(
    colours: Path, publisher: Publisher, how: dict[str, Any]
) -> None:
    if encoding := how.get("column_encoding"):
        how = how | {"column_encoding": {"pixels": encoding}}
    pq.write_table(pq.read_table(colours), colours, **how)

    same(tables.read(colours), *publisher.splits["tiny_colours", "train"])


def test_what_was_read_is_the_callers_own(colours: Path) -> None:
    batch = tables.read(colours)

    batch.images[:] = 0
    batch.labels[:] = 0

    assert tables.read(colours).images.any()


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (0, 31), (5, 4), (31, None), (31, 31)])
def test_rows_that_are_not_there_are_refused(colours: Path, start: int, stop: int | None) -> None:
    readers: list[Callable[..., Any]] = [
        tables.read,
        tables.to_arrow,
        lambda *rows: list(tables.batches(*rows)),
    ]
    for reader in readers:
        with pytest.raises(TableError, match=r"tiny_colours/train has records 0 to 29; rows"):
            reader(colours, start, stop)


# --- without a copy -------------------------------------------------------------------------------


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_streamed_batch_is_a_view_of_arrows_memory(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_by_arrow: list[tuple[int, int]] = []
    iter_batches = pq.ParquetFile.iter_batches

    def spy(*args: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        for part in iter_batches(*args, **options):
            buffers = [part[name].buffers()[1] for name in ("pixels", "label")]
            given_by_arrow.append((buffers[0].address, buffers[1].address))
            yield part

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)

    found = list(tables.batches(colours))

    assert [(address(b.images), address(b.labels)) for b in found] == given_by_arrow
    for batch in found:
        assert not batch.images.flags.owndata
        assert not batch.images.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            batch.images[0] = 0


def test_the_pixels_of_a_table_of_ours_are_decompressed_straight_into_the_array(
    colours: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow's reader, which copies them once more, is only for what something else wrote."""
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)

    same(tables.read(colours), *publisher.splits["tiny_colours", "train"])

    pq.write_table(pq.read_table(colours), colours, compression="snappy")
    with pytest.raises(TypeError):
        tables.read(colours)


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (9, 23)])
def test_the_tensors_are_the_bytes_that_parquet_gave(
    colours: Path, monkeypatch: pytest.MonkeyPatch, start: int, stop: int
) -> None:
    given_by_arrow: list[pa.Table] = []
    read_row_groups = pq.ParquetFile.read_row_groups

    def spy(*args: Any, **options: Any) -> pa.Table:
        given_by_arrow.append(read_row_groups(*args, **options))
        return given_by_arrow[-1]

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)

    found = tables.to_arrow(colours, start, stop)

    [raw] = given_by_arrow
    before = start - raw["index"][0].as_py()
    expected = [
        chunk.buffers()[1].address + chunk.offset * 48
        for chunk in raw.slice(before, stop - start)["pixels"].chunks
    ]
    chunks = found["image"].chunks
    assert [chunk.storage.values.buffers()[1].address for chunk in chunks] == expected
    assert [address(chunk.to_numpy_ndarray()) for chunk in chunks] == expected
    assert found.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (4, 4, 3))
    assert found.column_names[-1] == "image"
    assert "pixels" not in found.column_names


# --- what is no table of ours ---------------------------------------------------------------------


def _about(text: bytes) -> Callable[[Path], None]:
    """Write a Parquet file of the right columns that says `text` of itself."""

    def write(path: Path) -> None:
        table = pa.table({"label": pa.array([1], pa.uint8()), "pixels": pa.array([b"x"])})
        pq.write_table(table.replace_schema_metadata({tables.METADATA_KEY: text}), path)

    return write


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda _path: None, "is not there. Build the tables", id="nothing"),
        pytest.param(lambda path: path.mkdir(), "is not a table of ours", id="a folder"),
        pytest.param(lambda path: path.write_bytes(b""), "is not a table of ours", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"a,b\n1,2"), "not a table of ours", id="CSV"),
        pytest.param(
            lambda path: pq.write_table(pa.table({"a": [1]}), path), "'imagesets'", id="not ours"
        ),
        pytest.param(_about(b"{}"), "is not a table of ours", id="metadata says nothing"),
        pytest.param(_about(b"{"), "is not a table of ours", id="metadata is cut"),
        pytest.param(_about(b"\xff"), "is not a table of ours", id="metadata is no text"),
        pytest.param(_about(b"[]"), "is not a table of ours", id="metadata is a list"),
        pytest.param(_about(b"null"), "is not a table of ours", id="metadata is null"),
    ],
)
def test_a_file_that_is_no_table_of_ours_is_refused(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "a.parquet"
    make(path)

    for reader in (tables.info, tables.read, tables.to_arrow, lambda p: list(tables.batches(p))):
        with pytest.raises(TableError) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert words in str(caught.value)


READERS: list[Callable[[Path], object]] = [
    tables.read,
    tables.to_arrow,
    lambda path: list(tables.batches(path)),
]


def _changed(path: Path, name: str, change: Callable[[pa.ChunkedArray], pa.Array]) -> None:
    """Write a table again with another column in the place of one; all else stays as it was."""
    table = pq.read_table(path)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, name, change(table[name])), path)


def _with_a_null(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    kept = [*values[:17], None, *values[18:]]
    return pa.array([value and value.as_py() for value in kept], column.type)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("label", pa.int64(), "uint8, found int64"),
        ("label", pa.int8(), "uint8, found int8"),
        ("coarse_label", pa.uint16(), "uint8, found uint16"),
        ("index", pa.int32(), "uint32, found int32"),
        ("pixels", pa.binary(), "fixed_size_binary[48], found binary"),
        ("pixels", pa.large_binary(), "fixed_size_binary[48], found large_binary"),
        ("class", pa.binary(), "dictionary<string>, found binary"),
    ],
)
def test_a_column_of_another_type_is_refused_by_name(
    colours: Path, name: str, kind: pa.DataType, found: str, reader: Callable[[Path], object]
) -> None:
    text = pa.string() if name == "class" else None
    _changed(colours, name, lambda column: column.cast(text or kind).cast(kind))
    with pytest.raises(TableError) as caught:
        reader(colours)
    assert str(caught.value).startswith(f"{colours} is not a table of ours: ")
    assert f"expected one column '{name}' of {found}. " in str(caught.value)
    assert "build the tables stage again" in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_pixels_of_another_size_are_refused(
    colours: Path, reader: Callable[[Path], object]
) -> None:
    _changed(colours, "pixels", lambda _old: pa.array([bytes(47)] * 30, pa.binary(47)))
    with pytest.raises(TableError, match=r"fixed_size_binary\[48\], found fixed_size_binary\[47\]"):
        reader(colours)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["label", "coarse_label", "pixels"])
def test_a_row_without_a_value_is_refused(
    colours: Path, name: str, reader: Callable[[Path], object]
) -> None:
    _changed(colours, name, _with_a_null)
    with pytest.raises(TableError, match=rf"every row of column '{name}', found 1 without one"):
        reader(colours)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("columns", [["index", "label"], ["index", "label", "pixels", "pixels"]])
def test_a_column_that_is_missing_or_there_twice_is_refused(
    colours: Path, columns: list[str], reader: Callable[[Path], object]
) -> None:
    table = pq.read_table(colours)
    arrays = [table[name] for name in ["class", "coarse_label", "coarse_class", *columns]]
    names = ["class", "coarse_label", "coarse_class", *columns]
    schema = pa.schema(
        [(name, array.type) for name, array in zip(names, arrays, strict=True)],
        table.schema.metadata,
    )
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), colours)
    with pytest.raises(TableError, match=r"expected one column 'pixels' of .*, found "):
        reader(colours)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.uint32(), pa.large_string()),
    ],
    ids=str,
)
def test_a_table_whose_classes_are_another_kind_of_text_is_read_all_the_same(
    colours: Path, publisher: Publisher, kind: pa.DataType
) -> None:
    """Pandas, polars and DuckDB each choose their own; only the labels are read as bytes."""
    for name in ("class", "coarse_class"):
        text = kind.value_type if pa.types.is_dictionary(kind) else kind
        _changed(colours, name, lambda column, text=text: pa.array(column.to_pylist(), text))
        if text != kind:
            _changed(colours, name, lambda column: pc.dictionary_encode(column).cast(kind))
    assert all(field.nullable for field in pq.read_schema(colours) if "class" in field.name)
    same(tables.read(colours), *publisher.splits["tiny_colours", "train"])
    assert tables.to_arrow(colours)["class"].to_pylist()[0] in tables.info(colours).classes


def test_what_polars_writes_again_is_refused(colours: Path) -> None:
    """It says nothing of itself any more, and its pixels have no fixed size."""
    pl.read_parquet(colours).write_parquet(colours)
    with pytest.raises(TableError, match="has no 'imagesets'"):
        tables.read(colours)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda some: (
        st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=3), some, max_size=3)
    ),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["dataset", "split", "shape", "classes", "coarse_classes", "inputs"]),
    value=JSON
    | st.lists(st.integers() | st.sampled_from(["4", -4, 2**70, "huge", True]), max_size=4)
    | st.lists(st.text(), min_size=257, max_size=257),
)
@settings(deadline=None, max_examples=200)
def test_whatever_the_metadata_say_a_table_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "metadata"
    images, labels = builders.images(6), builders.labels(6, 3)
    ours = folder / "ours.parquet"
    if not ours.exists():
        builders.tiny(folder, images, labels).table(ours)
    table = pq.read_table(ours)
    about = json.loads(table.schema.metadata[tables.METADATA_KEY]) | {key: value}
    text = json.dumps(about, default=str).replace('"huge"', "1" * 5000)
    changed = folder / "changed.parquet"
    pq.write_table(table.replace_schema_metadata({tables.METADATA_KEY: text}), changed)
    for reader in (tables.info, *READERS):
        with contextlib.suppress(TableError):
            found = reader(changed)
            if isinstance(found, Batch):
                np.testing.assert_array_equal(found.labels, labels)
                assert found.images.tobytes() == images.tobytes()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shape", ["4", "4", "3"], "shape.0: it is no number"),
        ("shape", [4, 4], "shape: it is no list of three numbers"),
        ("shape", [4, -4, 3], "shape.1: it is no number from 1"),
        ("shape", [4, 4, 2**80], "shape.2: it is no number from 1 to 2,147,483,647"),
        ("classes", "rose", "classes: it is no list"),
        ("classes", [], "classes: "),
        ("classes", ["rose", 7], "classes.1: it is no text"),
        ("inputs", {"archives/x": "0"}, "inputs.archives/x"),
    ],
)
def test_metadata_that_can_not_be_true_are_refused_by_their_key(
    colours: Path, key: str, value: Any, words: str
) -> None:
    table = pq.read_table(colours)
    about = json.loads(table.schema.metadata[tables.METADATA_KEY]) | {key: value}
    said = {tables.METADATA_KEY: json.dumps(about)}
    pq.write_table(table.replace_schema_metadata(said), colours)
    for reader in (tables.info, *READERS):
        with pytest.raises(TableError) as caught:
            reader(colours)
        assert "what its metadata says under 'imagesets' can't be true" in str(caught.value)
        assert words in str(caught.value)


def test_a_bit_that_flips_in_the_footer_gives_the_same_records_or_a_refusal(
    tmp_path: Path,
) -> None:
    images, labels = builders.images(5), builders.labels(5, 5)
    table = builders.tiny(tmp_path, images, labels).table(tmp_path / "table.parquet")
    good = table.read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    random = np.random.default_rng(0)
    for at in range(footer, len(good), 2):
        bad = bytearray(good)
        bad[at] ^= 1 << random.integers(8)
        table.write_bytes(bad)
        with contextlib.suppress(TableError):
            found = tables.read(table)
            assert found.images.tobytes() == images.tobytes(), at
            np.testing.assert_array_equal(found.labels, labels)


def test_a_bit_that_flips_in_a_pages_header_gives_the_same_records_or_a_refusal(
    tmp_path: Path,
) -> None:
    images, labels = builders.images(5), builders.labels(5, 5)
    table = builders.tiny(tmp_path, images, labels).table(tmp_path / "table.parquet")
    good = table.read_bytes()
    header = pq.read_metadata(table).row_group(0).column(3).data_page_offset
    for at in range(8 * header, 8 * (header + 24)):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        table.write_bytes(bad)
        with contextlib.suppress(TableError):
            assert tables.read(table).images.tobytes() == images.tobytes(), at


def test_a_table_that_was_cut_short_is_refused(colours: Path) -> None:
    colours.write_bytes(colours.read_bytes()[:-1])

    with pytest.raises(TableError, match=r"table\.parquet is not a table of ours"):
        tables.read(colours)


@pytest.mark.parametrize(
    "reader", [tables.read, tables.to_arrow, lambda path: list(tables.batches(path))]
)
def test_a_table_whose_pixels_were_damaged_is_refused(
    colours: Path, reader: Callable[[Path], object]
) -> None:
    column = pq.read_metadata(colours).row_group(2).column(5)
    assert column.path_in_schema == "pixels"
    at = column.data_page_offset
    with colours.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * column.total_compressed_size)

    with pytest.raises(TableError, match=r"table\.parquet"):
        reader(colours)


# --- what a split may not be made from ------------------------------------------------------------

Damage = Callable[[Publisher], None]


def _archive(source: str, name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(publisher: Publisher) -> None:
        path = publisher.archive(source, name)
        path.write_bytes(change(path.read_bytes()))

    return damage


def _digits(name: str, data: bytes) -> Damage:
    return _archive("tiny_digits", f"train-{name}.gz", lambda _old: builders.gz(data))


def _letters(**members: bytes) -> Damage:
    """Put a zip there that holds the train members given, without the hashes declared for them."""

    def damage(publisher: Publisher) -> None:
        packed = {f"gzip/train-{name}.gz": builders.gz(data) for name, data in members.items()}
        publisher.archive("tiny_letters", "letters.zip").write_bytes(builders.zipped(packed))
        toml = publisher.toml("tiny_letters")
        toml.write_text(toml.read_text().partition("[members.")[0])

    return damage


def _colours(*parts: bytes) -> Damage:
    members = {f"bin/train_{number}.bin": data for number, data in enumerate(parts, start=1)}
    return _archive("tiny_colours", "colours.tar.gz", lambda _old: builders.tarred(members))


def _hard_link(publisher: Publisher) -> None:
    path = publisher.archive("tiny_colours", "colours.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("bin/train_1.bin")
        link.type, link.linkname = tarfile.LNKTYPE, "bin/train_2.bin"
        archive.addfile(link)


COLOURS = builders.cifar(
    builders.images(15, 4, 4, 3), np.zeros(15, np.uint8), np.zeros(15, np.uint8)
)

BAD = [
    (
        "an archive that is missing",
        lambda publisher: publisher.archive("tiny_digits", "train-labels.gz").unlink(),
        "tiny_digits",
        MemberError,
        ["train-labels.gz: the archive is not there"],
    ),
    (
        "a page of HTML",
        _archive("tiny_digits", "train-images.gz", lambda _old: b"<html>no</html>" * 99),
        "tiny_digits",
        MemberError,
        ["train-images.gz: damaged"],
    ),
    (
        "gzip cut short",
        _archive("tiny_digits", "train-images.gz", lambda old: old[:-3]),
        "tiny_digits",
        MemberError,
        ["train-images.gz: the gzip stream is cut short"],
    ),
    (
        "gzip with bytes after its end",
        _archive("tiny_digits", "train-labels.gz", lambda old: old + bytes(100)),
        "tiny_digits",
        MemberError,
        ["train-labels.gz: there are bytes after the end of the gzip stream"],
    ),
    (
        "images where labels should be",
        _digits("labels", builders.idx(builders.images(30)[..., 0])),
        "tiny_digits",
        FormatError,
        ["train-labels.gz: expected IDX uint8 with 1 dimensions", "found uint8 with 3"],
    ),
    (
        "fewer labels than images",
        _digits("labels", builders.idx(builders.labels(29, 3))),
        "tiny_digits",
        FormatError,
        ["train-labels.gz: the IDX header promises (29)", "declares (30)"],
    ),
    (
        "too few pixels",
        _digits("images", builders.idx(builders.images(30)[..., 0])[:-1]),
        "tiny_digits",
        FormatError,
        ["train-images.gz: the IDX header promises (30, 4, 3) = 360 bytes", "ends too early"],
    ),
    (
        "too many labels",
        _digits("labels", builders.idx(builders.labels(30, 3)) + b"\0"),
        "tiny_digits",
        FormatError,
        ["train-labels.gz: the IDX header promises (30) = 30 bytes", "goes on after that"],
    ),
    (
        "a label outside the classes",
        _digits("labels", builders.idx(np.full(30, 3, np.uint8))),
        "tiny_digits",
        FormatError,
        ["train-labels.gz: record 0 has label 3", "3 declared classes are labelled 0 to 2"],
    ),
    (
        "a member that is missing",
        _letters(images=b"x"),
        "tiny_letters",
        MemberError,
        ["letters.zip/gzip/train-labels.gz: the archive has no such member"],
    ),
    (
        "a member that is another",
        _archive(
            "tiny_letters",
            "letters.zip",
            lambda _old: builders.zipped({"gzip/train-labels.gz": builders.gz(b"other")}),
        ),
        "tiny_letters",
        MemberError,
        ["letters.zip/gzip/train-labels.gz: ", "bytes are declared, but the archive says it has"],
    ),
    (
        "label 0 where labels begin with 1",
        _letters(
            images=builders.idx(builders.images(30, 5, 5)[..., 0]),
            labels=builders.idx(np.zeros(30, np.uint8)),
        ),
        "tiny_letters",
        FormatError,
        ["train-labels.gz: record 0 has label 0", "labelled 1 to 4"],
    ),
    (
        "batches that hold too few records",
        _colours(COLOURS, COLOURS[: 50 * 14]),
        "tiny_colours",
        FormatError,
        ["declares 30 records", "hold 29"],
    ),
    (
        "batches that hold too many records",
        _colours(COLOURS, COLOURS + COLOURS[:50]),
        "tiny_colours",
        FormatError,
        ["train_2.bin", "declares 30 records", "there are more"],
    ),
    (
        "a batch that ends within a record",
        _colours(COLOURS, COLOURS[:-1]),
        "tiny_colours",
        FormatError,
        ["train_2.bin: a record takes 50 bytes", "ends 49 bytes into one"],
    ),
    (
        "a coarse label outside the classes",
        _colours(COLOURS, b"\2" + COLOURS[1:]),
        "tiny_colours",
        FormatError,
        ["train_2.bin (coarse): record 15 has label 2", "labelled 0 to 1"],
    ),
    (
        "a fine label outside the classes",
        _colours(COLOURS, b"\0\6" + COLOURS[2:]),
        "tiny_colours",
        FormatError,
        ["train_2.bin: record 15 has label 6", "labelled 0 to 5"],
    ),
    (
        "a batch that is a hard link",
        _hard_link,
        "tiny_colours",
        MemberError,
        ["train_1.bin: expected a regular file"],
    ),
]


@pytest.mark.usefixtures("seven_a_group")
@pytest.mark.parametrize(
    ("damage", "dataset", "error", "words"),
    [pytest.param(*case, id=what) for what, *case in BAD],
)
def test_bad_input_is_refused_and_the_old_table_stays(
    publisher: Publisher,
    goal: Path,
    damage: Damage,
    dataset: str,
    error: type[ImagesetsError],
    words: list[str],
) -> None:
    damage(publisher)

    for old in (None, b"the old table"):
        if old is not None:
            goal.write_bytes(old)
        with pytest.raises(error) as caught:
            built(publisher, dataset, "train", goal)
        for word in words:
            assert word in str(caught.value)
        assert builders.files_under(goal.parent) == ([goal.name] if old else [])
    assert goal.read_bytes() == b"the old table"


# --- where it can not be written ------------------------------------------------------------------


def test_a_file_in_the_place_of_the_data_folder_is_named(
    publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(b"precious")

    with pytest.raises(StorageError, match=r"train\.parquet can't be written.*--data"):
        built(publisher, "tiny_digits", "train", tmp_path / "data" / "tables" / "train.parquet")

    assert (tmp_path / "data").read_bytes() == b"precious"


# Runs every stage in a process of its own that may not write files longer than so many bytes, which
# is how a full disk looks to a program. Says as JSON what each stage raised.
FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path

from pipelines import archives, catalogue, statistics, tables
from tests.exports import exporting

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
published, table, data = map(Path, sys.argv[1:4])
known = catalogue.load(published / "catalogue")
dataset = known.datasets["tiny_colours"]
source = known.source_of(dataset)
mirror = published / "mirror" / source.name
[archive] = source.archives.values()
stages = {
    "table": lambda goal: tables.write(source, dataset, dataset.splits["train"], mirror, goal),
    "csv": lambda goal: exporting.write("csv", table, goal),
    "lmdb": lambda goal: exporting.write("lmdb", table, goal),
    "archive": lambda goal: archives.obtain(archive, goal, [str(mirror / archive.name)]),
    "statistics": lambda goal: statistics.write([table], goal),
}
said = {}
for limit in map(int, sys.argv[4:]):
    for name, stage in stages.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            stage(data / str(limit) / name)
        except Exception as error:
            said[f"{name} {limit}"] = [type(error).__name__, str(error)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(json.dumps(said))
"""

LIMITS = {  # bytes: the first piece does not fit, or a later one
    "table": (100, 20_000),
    "csv": (100, 20_000),
    "lmdb": (100, 20_000, 60_000),
    "archive": (100, 20_000),
    "statistics": (100, 1_000),
}
RESUMED = {".archive.partial"}  # kept: fetching goes on with it when there is space again


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """The data folder, and what each stage raised when it was full."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the size of files is limited from outside")
    folder = tmp_path_factory.mktemp("full")
    publisher = builders.publish(folder / "published", train=900)
    table = folder / "table.parquet"
    built(publisher, "tiny_colours", "train", table)
    limits = sorted({limit for found in LIMITS.values() for limit in found})
    for limit in limits:
        for stage in LIMITS:
            goal = folder / "data" / str(limit) / stage
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(b"old")
    paths = [publisher.catalogue.parent, table, folder / "data"]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *map(str, [*paths, *limits])],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / "data", json.loads(done.stdout)


@pytest.mark.parametrize(
    ("stage", "limit"), [(stage, limit) for stage, limits in LIMITS.items() for limit in limits]
)
def test_a_full_disk_is_told_and_leaves_the_old_file(
    full_disk: tuple[Path, dict[str, list[str]]], stage: str, limit: int
) -> None:
    data, said = full_disk

    kind, text = said[f"{stage} {limit}"]

    assert kind == "StorageError", text
    assert f"{stage} can't be written" in text
    assert "--data or IMAGESETS_DATA" in text
    assert (data / str(limit) / stage).read_bytes() == b"old"
    assert set(builders.files_under(data / str(limit))) - RESUMED == {*LIMITS}


# --- as an artefact -------------------------------------------------------------------------------


def test_what_decides_a_tables_bytes(publisher: Publisher) -> None:
    known = catalogue.load(publisher.catalogue)
    source, dataset = known.sources["tiny_letters"], known.datasets["tiny_letters"]

    found = tables.artefact(source, dataset, dataset.splits["train"])

    assert found.path == layout.table("tiny_letters", "train")
    archive = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    assert found.inputs == (
        Input(
            "archives/tiny_letters/letters.zip",
            hashlib.sha256(archive).hexdigest(),
            len(archive),
            hashlib.md5(archive).hexdigest(),
        ),
    )
    parameters = json.dumps(found.parameters)
    for fact in ("transposed", "first_label", "zstd", "gzip/train-images.gz", "Tiny letters"):
        assert fact in parameters


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("first_label = 1", "first_label = 2"),
        ('orientation = "transposed"', 'orientation = "upright"'),
        ('"A", "B"', '"B", "A"'),
        ('licence = "not stated"', 'licence = "CC0"'),
        ("train-images.gz", "other-images.gz"),
    ],
)
def test_a_changed_declaration_makes_another_artefact(
    publisher: Publisher, old: str, new: str
) -> None:
    def artefact() -> str:
        known = catalogue.load(publisher.catalogue)
        source, dataset = known.sources["tiny_letters"], known.datasets["tiny_letters"]
        return json.dumps(tables.artefact(source, dataset, dataset.splits["train"]).parameters)

    before = artefact()
    toml = publisher.toml("tiny_letters")
    assert old in toml.read_text()
    toml.write_text(toml.read_text().replace(old, new))

    assert artefact() != before
