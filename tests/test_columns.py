"""What a publisher says of each record beside its class: kept, read, traced and verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines as imagesets
from pipelines import tables
from pipelines.lineage import trace, verify
from pipelines.progress import Display
from pipelines.store import Folder, Store, layout
from tests import builders, published
from tests.published import Published

RECORDS = 24
IMAGES = builders.images(RECORDS, 4, 3, seed=1)
LABELS = builders.labels(RECORDS, 3, 1)
WRITERS = np.arange(RECORDS, dtype=np.int32) // 5 + 2599
GLYPHS = -np.arange(RECORDS, dtype=np.int32) * 70_000  # more than 16 bits, and below 0
TOML = """
[datasets.digits]
title = "Digits"
format = "idx"
image = { height = 4, width = 3, channels = 1 }
classes = ["zero", "one", "two"]
columns = { writer = "Who wrote it.", label = "The digit.", glyph = "Its number at NIST." }
each_split = { images = "images.gz", labels = "labels.gz" }

[datasets.digits.splits]
test = { records = 24 }
test10 = { records = 10, rows = { first = 0, of = 24 } }
"""
TABLE = layout.table("digits", "test")


def labels(values: np.ndarray) -> bytes:
    """Rows of big-endian int32, as QMNIST has them."""
    return bytes([0, 0, 0x0C, 2]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Store]:
    folder = tmp_path_factory.mktemp("digits")
    rows = np.stack([WRITERS, LABELS, GLYPHS], axis=1).astype(">i4")
    files = {
        "images.gz": builders.gz(builders.idx(IMAGES[..., 0])),
        "labels.gz": builders.gz(labels(rows)),
    }
    found, store = published.publish(folder, "digits", files, TOML), Folder(folder / "data")
    found.build(store, [*published.BASIC, "csv", "croissant"])
    return found, store


def test_they_stand_in_the_table(digits: tuple[Published, Store]) -> None:
    found = pl.read_parquet(digits[1].local(TABLE))

    assert found.columns == ["index", "label", "class", "writer", "glyph", "pixels"]
    assert (found["writer"].dtype, found["glyph"].dtype) == (pl.Int32, pl.Int32)
    assert found["writer"].to_list() == WRITERS.tolist()
    assert found["glyph"].to_list() == GLYPHS.tolist()


@pytest.mark.parametrize(("start", "stop"), [(0, RECORDS), (5, 6), (3, 3), (20, RECORDS)])
def test_they_are_read_with_the_records(
    digits: tuple[Published, Store], start: int, stop: int
) -> None:
    path = digits[1].local(TABLE)
    for batch in (tables.read(path, start, stop), *tables.batches(path, start, stop)):
        assert batch.extras.keys() == {"writer", "glyph"}
        np.testing.assert_array_equal(batch.extras["writer"], WRITERS[start:stop])
        np.testing.assert_array_equal(batch.extras["glyph"], GLYPHS[start:stop])


def test_the_library_has_them(
    digits: tuple[Published, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_DATA", str(digits[1].place("")))
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(digits[0].catalogue))
    found = imagesets.load("digits", "test10")

    np.testing.assert_array_equal(found.extras["writer"], WRITERS[:10])
    [first, *_] = imagesets.batches("digits", "test", records=7)
    np.testing.assert_array_equal(first.extras["glyph"], GLYPHS[:7])


def test_a_trace_tells_them(digits: tuple[Published, Store]) -> None:
    chain = trace.trace(digits[0].plan, digits[1], "digits/test10:7")

    assert chain.holds, chain.hops
    assert chain.facts["writer"] == WRITERS[7]
    assert chain.facts["glyph"] == GLYPHS[7]


def test_a_forged_one_is_found(digits: tuple[Published, Store], tmp_path: Path) -> None:
    """Also where the provenance was forged with it."""
    found, store = digits
    shutil.copytree(store.place(""), tmp_path / "data")
    forged = Folder(tmp_path / "data")
    path = forged.local(TABLE)
    table = pq.read_table(path)
    writers = table["writer"].to_pylist()
    writers[11] += 1
    at = table.schema.get_field_index("writer")
    column = pa.array(writers, pa.int32())
    pq.write_table(table.set_column(at, table.schema.field(at), column), path)

    chain = trace.trace(found.plan, forged, "digits/test:11")
    [problem] = [hop.problem for hop in chain.hops if hop.what == "table"]
    assert f"writer: expected {WRITERS[11]}, found {WRITERS[11] + 1}" in problem
    verdicts = verify.verify(forged, found.plan, [found.dataset], Display(), deep=True)
    assert {one.path for one in verdicts if not one.is_whole} >= {TABLE}


def test_what_is_compared_with_the_archive_says_which_differs(
    digits: tuple[Published, Store], tmp_path: Path
) -> None:
    found, store = digits
    table = pq.read_table(store.local(TABLE))
    at = table.schema.get_field_index("glyph")
    column = pa.array([0, 1, *table["glyph"].to_pylist()[2:]], pa.int32())
    pq.write_table(table.set_column(at, table.schema.field(at), column), tmp_path / "t.parquet")
    comparison = tables.Comparison(
        TABLE, tmp_path / "t.parquet", found.source, found.dataset, found.dataset.splits["test"]
    )
    batch = tables.read(store.local(TABLE))

    assert comparison.compare(0, batch) == "record 1: glyph is 1, but the archive says -70000"
