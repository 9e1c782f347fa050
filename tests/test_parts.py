"""A split that comes in parts: made part by part, read as one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipelines import formats, statistics, tables
from pipelines.errors import ArtefactError, CatalogueError, TableError, UnknownName
from pipelines.lineage import lock, status, trace, verify
from pipelines.progress import Display
from pipelines.statistics import duplicates, expectations, fingerprints
from pipelines.store import Folder, Store, layout, provenance
from tests import builders, object_stores, parts
from tests.parts import Drawings

WHOLE = "tables/drawings/train.json"
BY = pytest.mark.parametrize("by", ['"members"', "8"], ids=["by member", "by so many records"])


@pytest.fixture
def drawings(tmp_path: Path) -> Drawings:
    return parts.publish(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Folder(tmp_path / "data")


def part(number: int) -> str:
    return f"tables/drawings/train/part-{number:05}.parquet"


# --- which parts there are ------------------------------------------------------------------------


def test_what_is_in_a_part_is_known_before_anything_is_fetched(tmp_path: Path) -> None:
    pieces = parts.publish(tmp_path, counts=(3, 2, 0, 4, 1)).dataset.pieces

    assert [piece.key for piece in pieces] == ["ant", "bee", "cat", "dog"]
    assert [(piece.first, piece.records) for piece in pieces] == [(0, 3), (3, 2), (5, 4), (9, 1)]
    assert [piece.archives for piece in pieces][2] == ("cat.npy",)
    assert pieces[2].counts == (0, 0, 0, 4, 0)
    assert {piece.split for piece in pieces} == {"train"}


def test_parts_of_so_many_records_have_the_members_of_the_split(tmp_path: Path) -> None:
    pieces = parts.publish(tmp_path, parts="8").dataset.pieces

    assert [(piece.first, piece.skip, piece.records) for piece in pieces] == [
        *((0, 0, 8), (8, 8, 8), (16, 16, 8), (24, 24, 7))
    ]
    assert len(pieces[3].archives) == 5


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0", "splits.train.parts"),
        ('"classes"', "splits.train.parts"),
        ("true", "splits.train.parts"),
    ],
)
def test_parts_are_members_or_a_number_of_records(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        _ = parts.publish(tmp_path, parts=written).declared


def test_a_format_that_cannot_tell_what_a_member_holds_can_not_be_divided_so(
    tmp_path: Path,
) -> None:
    published = parts.publish(tmp_path)
    toml = published.catalogue / "drawings.toml"
    text = toml.read_text().replace('format = "npy"', 'format = "cifar"')
    toml.write_text(text.replace("arrays = ", "batches = "))

    with pytest.raises(CatalogueError, match="cifar does not tell how many records each member"):
        _ = published.declared
    assert formats.named("cifar").by_member is None


# --- made part by part, read as one ---------------------------------------------------------------


@BY
def test_parts_are_read_as_one_table(tmp_path: Path, store: Store, by: str) -> None:
    published = parts.publish(tmp_path, parts=by)
    published.build(store)
    images, labels = published.all_images, published.all_labels

    for path in (store.local(WHOLE), store.local(WHOLE).with_suffix("")):
        found = tables.read(path)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
        assert tables.info(path).records == 31
        np.testing.assert_array_equal(tables.labels(path)["label"], labels)
    for start, stop in ((0, 0), (6, 7), (6, 8), (3, 29), (30, 31), (31, 31)):
        found = tables.read(store.local(WHOLE), start, stop)
        np.testing.assert_array_equal(found.images, images[start:stop])
        batches = list(tables.batches(store.local(WHOLE), start, stop))
        assert sum(map(len, batches)) == stop - start
        rows = tables.to_arrow(store.local(WHOLE), start, stop)
        assert rows["index"].to_pylist() == list(range(start, stop))


@BY
def test_others_read_a_folder_of_parts_as_one_table(tmp_path: Path, store: Store, by: str) -> None:
    published = parts.publish(tmp_path, parts=by)
    published.build(store)
    folder = store.local(WHOLE).with_suffix("")

    index = list(range(31))
    assert pl.read_parquet(folder / "*.parquet")["index"].to_list() == index
    assert sorted(ds.dataset(folder).to_table()["index"].to_pylist()) == index
    query = f"select class, count(*) from '{folder}/*.parquet' group by class"
    assert dict(duckdb.sql(query).fetchall()) == dict(
        zip(parts.CLASSES, (7, 5, 9, 4, 6), strict=True)
    )


@BY
def test_statistics_are_those_of_the_split_in_one_piece(
    tmp_path: Path, store: Store, by: str
) -> None:
    divided = parts.publish(tmp_path / "divided", parts=by)
    divided.build(store)
    total = statistics.nothing(5, (28, 28, 1))
    statistics.add(total, tables.read(store.local(WHOLE)))

    found = pl.read_parquet(store.local(layout.statistics("drawings")))
    about = tables.declared(divided.source, divided.dataset, divided.dataset.splits["train"])
    expected = pl.from_arrow(statistics.rows(about, total))
    assert found.equals(expected)
    assert found["records"].to_list() == [7, 5, 9, 4, 6, 31]


def test_a_class_without_records_has_figures_of_nothing(tmp_path: Path, store: Store) -> None:
    parts.publish(tmp_path, counts=(3, 0, 2, 1, 1)).build(store)

    found = pl.read_parquet(store.local(layout.statistics("drawings")))
    assert found["records"].to_list() == [3, 0, 2, 1, 1, 7]
    assert found["mean_intensity"].is_null().to_list() == [False, True, *[False] * 4]


# --- some of the parts ----------------------------------------------------------------------------


def test_any_parts_can_be_built_and_the_others_are_told_of(
    drawings: Drawings, store: Store
) -> None:
    made = drawings.build(store, parts=["bee", "dog"])

    assert {path for path in made if path.endswith(".parquet")} == {
        *(part(1), part(4), "statistics/drawings.parquet")
    }
    whole = tables.read(store.local(WHOLE), 7, 12)  # all of bee
    np.testing.assert_array_equal(whole.images[..., 0].reshape(5, -1), drawings.images[1])
    said = json.loads(store.local(WHOLE).read_text())
    assert [one["key"] for one in said["parts"]] == ["bee", "dog"]
    assert said["parts_declared"] == 5
    with pytest.raises(TableError, match="5 parts, of which 2 are here: record 0 is in none"):
        tables.read(store.local(WHOLE))
    with pytest.raises(TableError, match="record 12 is in none"):
        list(tables.batches(store.local(WHOLE), 8, 31))
    found = pl.read_parquet(store.local(layout.statistics("drawings")))
    assert found["records"].to_list() == [0, 5, 0, 0, 6, 11]


def test_what_was_built_before_stays_and_the_rest_is_added(
    drawings: Drawings, store: Store
) -> None:
    first = drawings.build(store, parts=["bee"])
    again = drawings.build(store, parts=["bee", "cat"])
    nothing = drawings.build(store, parts=["bee", "cat"])

    assert first[part(1)].because == "it is not there"
    assert again[part(1)].because is None
    assert again[part(3)].because == "it is not there"
    assert "its input changed" in str(again[WHOLE].because)
    assert not [path for path, made in nothing.items() if made.because]


def test_a_record_of_a_missing_part_says_how_many_are_here(
    drawings: Drawings, store: Store
) -> None:
    drawings.build(store, parts=["ant"])
    store.local(part(0)).unlink()

    with pytest.raises(TableError, match=r"part-00000.parquet is not there"):
        tables.read(store.local(WHOLE), 0, 3)


def test_of_no_parts_there_is_no_whole(drawings: Drawings, store: Store) -> None:
    for stage in ("manifest", "statistics"):
        with pytest.raises(ArtefactError, match=r"None of the parts of .* is here"):
            drawings.build(store, [stage])
    assert not builders.files_under(store.place(""))


# --- a manifest that lies -------------------------------------------------------------------------


def test_a_part_that_is_another_than_the_one_listed_is_refused(
    drawings: Drawings, store: Store
) -> None:
    drawings.build(store)
    shutil.copyfile(store.local(part(1)), store.local(part(2)))

    with pytest.raises(TableError, match=r"is not the part that .*train.json lists"):
        tables.read(store.local(WHOLE))


def test_a_part_that_was_made_anew_since_it_was_listed_is_refused(
    drawings: Drawings, store: Store
) -> None:
    """Its records are as many as before: it has other bytes."""
    drawings.build(store)
    rows = pq.read_table(store.local(part(1)))
    pq.write_table(rows, store.local(part(1)), compression="none")

    for read in (tables.read, lambda path: list(tables.batches(path)), tables.to_arrow):
        with pytest.raises(TableError, match=r"is not the part that .*train.json lists"):
            read(store.local(WHOLE))
    with pytest.raises(TableError, match="lists"):
        tables.labels(store.local(WHOLE))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "imagesets-parts/9"}, "expected format imagesets-parts/1"),
        ({"parts": None}, "is no list of a split's parts"),
        ({"parts": [{"path": "../../x", "key": "", "first": 0, "records": 1}]}, "no plain path"),
        ({"shape": [28]}, "is no list of a split's parts"),
    ],
)
def test_a_damaged_manifest_is_refused(
    drawings: Drawings, store: Store, change: dict[str, object], said: str
) -> None:
    drawings.build(store, parts=["ant"])
    path = store.local(WHOLE)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(TableError, match=said):
        tables.read(path)
    with pytest.raises(TableError, match="is not there"):
        tables.read(path.with_name("test.json"))


# --- duplicates -----------------------------------------------------------------------------------


@BY
def test_the_same_image_in_two_parts_is_found(tmp_path: Path, store: Store, by: str) -> None:
    published = parts.publish(tmp_path, parts=by)
    made = published.build(store)

    [found] = [
        finding
        for finding in made["statistics/drawings.parquet"].findings
        if finding.check_name == expectations.DUPLICATES
    ]
    assert not found.passed
    assert found.warns
    assert found.numbers == {"groups": 2, "records": 4, "of different classes": 1}
    assert [row["records"] for row in found.rows] == ["train 2, train 22", "train 7, train 9"]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_fingerprints_are_compared_some_at_a_time_and_none_is_missed(at_once: int) -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(0, 1 << 64, 400, np.uint64)
    numbers[[3, 200, 399]] = numbers[7]  # 4 times the same
    numbers[[11, 250]] = [0, (1 << 64) - 1]
    numbers[[12, 251]] = [0, (1 << 64) - 1]
    cut = [numbers[:150], numbers[150:150], numbers[150:]]
    firsts = [0, 150, 150]
    made = []
    for first, some in zip(firsts, cut, strict=True):
        order = np.argsort(some, kind="stable")
        made.append(fingerprints.Sorted(some[order], (order + first).astype(np.uint32)))

    found = {index for _, some in fingerprints.repeated(made, at_once) for index in some.tolist()}

    assert found == {3, 7, 200, 399, 11, 12, 250, 251}


def test_what_is_found_in_parts_is_what_is_found_in_one_table(
    drawings: Drawings, store: Store
) -> None:
    drawings.build(store)
    pairs = [
        (store.local(part(n)), store.local(layout.sums("drawings", f"train/part-{n:05}")))
        for n in range(5)
    ]
    apart = duplicates.find_in_parts([(one, two / fingerprints.FILE) for one, two in pairs])

    assert apart.equals(
        duplicates.find([one for one, _ in pairs])
        .with_columns(split=pl.lit("train"))
        .select(apart.columns)
    )


# --- where it comes from, and whether it is still so ----------------------------------------------


@BY
def test_every_record_is_traced_to_its_publishers_bytes(
    tmp_path: Path, store: Store, by: str
) -> None:
    published = parts.publish(tmp_path, parts=by)
    published.build(store)

    for index in (0, 6, 7, 20, 30):
        chain = trace.trace(published.plan, store, f"drawings/train:{index}")
        assert chain.holds
        assert chain.facts["index"] == index
        assert chain.facts["label"] == published.all_labels[index]
        assert chain.image is not None
        np.testing.assert_array_equal(chain.image, published.all_images[index])
    for text in ("drawings/train", "drawings/statistics", "drawings/statistics:train/cat"):
        assert trace.trace(published.plan, store, text).holds
    with pytest.raises(UnknownName, match="There is no artefact"):
        trace.trace(published.plan, store, "drawings/train/eel:1")


def test_a_part_with_changed_pixels_is_blamed(drawings: Drawings, store: Store) -> None:
    drawings.build(store)
    other = parts.publish(store.place("").parent / "other", seed=9)
    other.build(elsewhere := Folder(store.place("").parent / "elsewhere"))
    store.local(part(2)).write_bytes(elsewhere.local(part(2)).read_bytes())

    chain = trace.trace(drawings.plan, store, "drawings/train:12")
    assert [hop.what for hop in chain.hops if not hop.holds] == ["table"]
    assert trace.trace(drawings.plan, store, "drawings/train:11").hops[0].path == part(1)
    whole = trace.trace(drawings.plan, store, "drawings/train")
    assert [hop.path for hop in whole.hops if not hop.holds] == [part(2)]


@BY
def test_deep_verification_compares_every_part(tmp_path: Path, store: Store, by: str) -> None:
    published = parts.publish(tmp_path, parts=by)
    published.build(store, [*parts.BASIC, "csv", "lmdb", "croissant"])

    verdicts = verify.verify(store, published.plan, [published.dataset], Display(), deep=True)

    assert all(verdict.is_whole for verdict in verdicts)
    pieces = len(published.dataset.pieces)
    assert sum(verdict.is_deep for verdict in verdicts) == 4 * pieces + 3
    csv = f"exports/drawings/train/part-{pieces - 1:05}.csv"
    for path in (csv, "statistics/drawings/train/part-00001/sums.arrow", WHOLE):
        data = bytearray(store.local(path).read_bytes())
        data[len(data) // 2] ^= 1
        store.local(path).write_bytes(data)
        found = verify.verify(store, published.plan, [published.dataset], Display(), deep=True)
        assert {v.path for v in found if v.condition == "changed"} == {
            path.removesuffix("/sums.arrow")
        }
        data[len(data) // 2] ^= 1
        store.local(path).write_bytes(data)


def test_forged_sums_are_found_by_making_them_again(drawings: Drawings, store: Store) -> None:
    """Whoever forges provenance too deceives every hash; the archives say otherwise."""
    drawings.build(store)
    other = parts.publish(store.place("").parent / "other", seed=9)
    other.build(elsewhere := Folder(store.place("").parent / "elsewhere"))
    path = layout.sums("drawings", "train/part-00002")
    for name in ("sums.arrow", "fingerprints.arrow"):
        (store.local(path) / name).write_bytes((elsewhere.local(path) / name).read_bytes())
    known, forged = (
        json.loads(one.place(layout.lineage(path)).read_text()) for one in (store, elsewhere)
    )
    del forged["digest"]
    forged["inputs"] = known["inputs"]
    forged["digest"] = provenance._digest(forged)
    store.place(layout.lineage(path)).write_text(json.dumps(forged))

    found = verify.verify(store, drawings.plan, [drawings.dataset], Display(), deep=True)

    assert {v.path for v in found if v.condition == "changed"} == {path}


# --- any store ------------------------------------------------------------------------------------


@BY
def test_a_folder_and_a_bucket_hold_the_same(tmp_path: Path, store: Store, by: str) -> None:
    published = parts.publish(tmp_path, parts=by)
    bucket = object_stores.bucket(object_stores.in_memory(), tmp_path / "scratch")
    for one in (store, bucket):
        published.build(one, [*parts.BASIC, "csv", "lmdb", "croissant"])

    assert lock.lock(published.plan, store, published.dataset) == lock.lock(
        published.plan, bucket, published.dataset
    )
    assert not status.reasons(bucket, published.plan, published.dataset)
    assert trace.trace(published.plan, bucket, "drawings/train:20").holds


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_source_on_request_was_asked_for_where_only_a_table_of_it_is_left(
    tmp_path: Path, kind: str
) -> None:
    published = parts.publish(tmp_path)
    toml = published.catalogue / "drawings.toml"
    toml.write_text(f"on_request = true\n{toml.read_text()}")
    in_memory = object_stores.in_memory()
    store: Store = Folder(tmp_path / "data")
    if kind == "bucket":
        store = object_stores.bucket(in_memory, tmp_path / "scratch")
    assert status.never_asked(store, published.declared, ()) == {"drawings"}
    published.build(store, ["tables"], ["ant"])
    for name in store.names(f"{layout.LINEAGE}/archives"):
        store.forget(name)

    assert status.never_asked(store, published.declared, ()) == set()
