"""Statistics: every figure equals its definition, computed here once more and in another way."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import statistics, tables
from pipelines.catalogue import load
from pipelines.errors import StorageError, TableError
from pipelines.reading import opening
from pipelines.records import Batch
from pipelines.statistics import Sums
from pipelines.store import Input, layout
from tests import builders
from tests.builders import Array

CLASSES = 5


def defined(images: Array, labels: Array, label: int | None) -> dict[str, Any]:
    """The figures of a class (or of all), straight from their definitions: plain numbers, slowly.

    The mean and the deviation are taken twice over the values, not from sums of squares.
    """
    mine = images if label is None else images[labels == label]

    def figures(values: list[int]) -> dict[str, Any]:
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        return {
            "mean_intensity": mean,
            "std_intensity": math.sqrt(variance),
            "min_intensity": min(values),
            "max_intensity": max(values),
        }

    found = {"records": len(mine), "share": len(mine) / len(images)}
    names = ("mean_intensity", "std_intensity", "min_intensity", "max_intensity")
    if not len(mine):
        return found | dict.fromkeys(
            [*names, *(f"channel_{name}" for name in names), "nonzero_share", "mean_image"]
        )
    every = mine.ravel().tolist()
    each = [figures(mine[..., channel].ravel().tolist()) for channel in range(mine.shape[-1])]
    return (
        found
        | figures(every)
        | {f"channel_{name}": [channel[name] for channel in each] for name in names}
        | {
            "nonzero_share": sum(value != 0 for value in every) / len(every),
            "mean_image": mine.astype(np.float64).mean(axis=0).ravel().tolist(),
        }
    )


def close(found: Any, expected: Any, name: str) -> bool:
    """Whether a figure is right: to float32 the mean image, to float64 the others."""
    if found is None or expected is None:
        return found is expected
    return np.allclose(found, expected, rtol=1e-6 if name == "mean_image" else 1e-12, atol=1e-9)


def added(batches: list[Batch], shape: tuple[int, int, int]) -> Sums:
    total = statistics.nothing(CLASSES, shape)
    for batch in batches:
        statistics.add(total, batch)
    return total


def same(one: Sums, other: Sums) -> None:
    for name in ("records", "sum", "squares", "nonzero", "least", "most"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


def rows(images: Array, labels: Array) -> list[dict[str, Any]]:
    """What the statistics say of some records: a row for each class, then one over all."""
    about = tables.Info(
        dataset="tiny",
        split="train",
        records=len(labels),
        shape=images.shape[1:],
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        coarse_classes=(),
    )
    sums = added([Batch(images, labels)], images.shape[1:])
    return statistics.rows(about, sums).to_pylist()


@given(
    records=st.one_of(
        builders.some_records(channels=1, classes=CLASSES),
        builders.some_records(channels=3, classes=CLASSES),
    )
)
@settings(deadline=None, max_examples=40)
def test_every_figure_equals_its_definition(records: tuple[Array, Array]) -> None:
    images, labels = records

    found = rows(images, labels)

    assert [row["label"] for row in found] == [0, 1, 2, 3, 4, None]
    assert [row["class"] for row in found] == [*(f"class {n}" for n in range(5)), None]
    for row in found:
        for name, value in defined(images, labels, row["label"]).items():
            assert close(row[name], value, name), name


@given(
    records=builders.some_records(channels=3, classes=CLASSES),
    seed=st.integers(0, 99),
    size=st.integers(1, 9),
)
@settings(deadline=None, max_examples=40)
def test_neither_the_order_nor_the_size_of_batches_matters(
    records: tuple[Array, Array], seed: int, size: int
) -> None:
    images, labels = records
    order = np.random.default_rng(seed).permutation(len(labels))
    starts = range(0, len(labels), size)
    parts = [order[start : start + size] for start in starts]

    whole = added([Batch(images, labels)], images.shape[1:])
    pieces = added([Batch(images[part], labels[part]) for part in parts], images.shape[1:])

    same(whole, pieces)


@given(records=builders.some_records(classes=CLASSES), cut=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_sums_of_two_parts_add_up_to_those_of_the_whole(
    records: tuple[Array, Array], cut: int
) -> None:
    images, labels = records
    shape = images.shape[1:]
    first = added([Batch(images[:cut], labels[:cut])], shape)
    second = added([Batch(images[cut:], labels[cut:])], shape)

    whole = added([Batch(images, labels)], shape)

    same(first + second, whole)
    same(second + first, whole)
    same(whole + statistics.nothing(CLASSES, shape), whole)


def test_adding_two_sums_changes_neither() -> None:
    images, labels = builders.images(6), builders.labels(6, CLASSES)
    one = added([Batch(images, labels)], (4, 3, 1))
    again = added([Batch(images, labels)], (4, 3, 1))

    assert (one + one).records.sum() == 12

    same(one, again)


def test_a_batch_of_the_greatest_size_does_not_overflow() -> None:
    """65,536 white images: their sums of squares come within a hundredth of what uint32 holds."""
    images = np.full((tables.BATCH_RECORDS, 1, 2, 1), 255, np.uint8)
    labels = np.full(len(images), 3, np.uint8)

    total = added([Batch(images, labels)] * 2, (1, 2, 1))

    assert total.records.tolist() == [0, 0, 0, 131_072, 0]
    assert total.sum[3].ravel().tolist() == [255 * 131_072] * 2
    assert total.squares[3].ravel().tolist() == [255 * 255 * 131_072] * 2
    assert total.nonzero[3] == 2 * 131_072


def test_white_images_have_a_deviation_of_exactly_zero() -> None:
    found = rows(np.full((7, 3, 3, 1), 255, np.uint8), np.zeros(7, np.uint8))

    assert (found[0]["mean_intensity"], found[0]["std_intensity"]) == (255.0, 0.0)
    assert found[0]["mean_image"] == [255.0] * 9
    assert found[0]["nonzero_share"] == 1.0


def test_a_class_without_records_has_no_figures() -> None:
    found = rows(builders.images(3), np.array([0, 0, 2], np.uint8))

    assert (found[1]["records"], found[1]["share"]) == (0, 0.0)
    assert {key for key, value in found[1].items() if value is None} == {
        "mean_intensity",
        "std_intensity",
        "min_intensity",
        "max_intensity",
        "nonzero_share",
        "channel_mean_intensity",
        "channel_std_intensity",
        "channel_min_intensity",
        "channel_max_intensity",
        "mean_image",
    }


# --- of whole tables ------------------------------------------------------------------------------


@pytest.fixture
def written(publisher: builders.Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The statistics of both splits of the tiny colours, from tables of several row groups."""
    monkeypatch.setattr(opening, "BATCH_RECORDS", 4)
    known = load(publisher.catalogue)
    dataset, source = known.datasets["tiny_colours"], known.sources["tiny_colours"]
    paths = []
    for name, split in dataset.splits.items():
        paths.append(tmp_path / f"{name}.parquet")
        archives = publisher.mirror / source.name
        tables.write(source, dataset, split, archives, paths[-1])
    told: list[int] = []

    assert statistics.write(paths, tmp_path / "statistics.parquet", told.append) == 14

    assert sum(told) == 42
    return tmp_path / "statistics.parquet"


def test_a_dataset_has_a_row_for_each_split_and_class(
    written: Path, publisher: builders.Publisher
) -> None:
    found = pl.read_parquet(written)

    assert found["dataset"].unique().to_list() == ["tiny_colours"]
    assert found["split"].to_list() == ["train"] * 7 + ["test"] * 7
    assert found["label"].to_list() == [*range(6), None] * 2
    assert found["class"].to_list()[:7] == ["rose", "ruby", "rust", "sky", "sea", "steel", None]
    for row in found.iter_rows(named=True):
        images, labels, _ = publisher.splits["tiny_colours", row["split"]]
        for name, value in defined(images, labels, row["label"]).items():
            assert close(row[name], value, name), name


def test_statistics_are_the_same_bytes_whoever_was_faster(
    publisher: builders.Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load(publisher.catalogue)
    dataset, source = known.datasets["tiny_digits"], known.sources["tiny_digits"]
    found = set()
    for batch in (1, 4, 100):
        monkeypatch.setattr(opening, "BATCH_RECORDS", batch)
        path = tmp_path / f"{batch}.parquet"
        archives = publisher.mirror / source.name
        tables.write(source, dataset, dataset.splits["train"], archives, path)
        for _ in range(3):
            statistics.write([path], tmp_path / "statistics.parquet")
            found.add((tmp_path / "statistics.parquet").read_bytes())

    assert len(found) == 1


def test_sums_that_are_at_hand_make_the_same_bytes_and_the_table_is_not_read(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "train.parquet", tmp_path / "test.parquet"]
    known = {path: statistics.summarise(path) for path in paths}
    monkeypatch.setattr(tables, "batches", None)
    told: list[int] = []

    statistics.write(paths, tmp_path / "known.parquet", told.append, known)

    assert (tmp_path / "known.parquet").read_bytes() == written.read_bytes()
    assert sum(told) == 42


def test_the_classic_table_is_category_by_split_with_totals(tmp_path: Path) -> None:
    paths = []
    for split, (images, labels) in {
        "train": (builders.images(2005), np.array([0] * 1000 + [1] * 1005, np.uint8)),
        "test": (builders.images(3), np.array([1, 1, 1], np.uint8)),
    }.items():
        tiny = builders.tiny(tmp_path / split, images, labels, classes=2)
        paths.append(tiny.table(tmp_path / f"{split}.parquet"))
    goal = tmp_path / "statistics.parquet"
    statistics.write(paths[:1], goal)

    assert statistics.counts(goal).rows() == [
        ("class 0", 1000),
        ("class 1", 1005),
        ("total", 2005),
    ]
    assert statistics.counts_as_rows(goal) == [
        ["category", "train"],
        ["class 0", "1,000"],
        ["class 1", "1,005"],
        ["total", "2,005"],
    ]
    assert statistics.counts_as_markdown(goal).splitlines() == [
        "| category | train |",
        "| --- | ---: |",
        "| class 0 | 1,000 |",
        "| class 1 | 1,005 |",
        "| total | 2,005 |",
    ]


def test_the_classic_table_has_a_column_for_each_split(
    written: Path, publisher: builders.Publisher
) -> None:
    train, test = (
        np.bincount(publisher.splits["tiny_colours", split][1], minlength=6).tolist()
        for split in ("train", "test")
    )

    found = statistics.counts(written)

    assert found.columns == ["class", "train", "test"]
    assert found["class"].to_list() == ["rose", "ruby", "rust", "sky", "sea", "steel", "total"]
    assert found["train"].to_list() == [*train, 30]
    assert found["test"].to_list() == [*test, 12]


@pytest.mark.parametrize("content", [None, b"", b"label\n1"])
def test_a_table_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "table.parquet").write_bytes(content)
    goal = tmp_path / "made" / "statistics.parquet"

    with pytest.raises(TableError, match=r"table\.parquet is not"):
        statistics.write([tmp_path / "table.parquet"], goal)

    assert not goal.exists()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    tiny = builders.tiny(tmp_path, builders.images(3), builders.labels(3, 5))
    table = tiny.table(tmp_path / "table.parquet")
    (tmp_path / "statistics").write_bytes(b"precious")

    with pytest.raises(StorageError, match=r"tiny\.parquet can't be written"):
        statistics.write([table], tmp_path / "statistics" / "tiny.parquet")

    assert (tmp_path / "statistics").read_bytes() == b"precious"


def test_what_decides_the_bytes_of_statistics(publisher: builders.Publisher) -> None:
    known = load(publisher.catalogue)
    dataset = known.datasets["tiny_digits"]
    inputs = (Input("tables/tiny_digits/train.parquet", "a" * 64),)

    found = statistics.artefact(known.source_of(dataset), dataset, inputs)

    assert found.path == layout.statistics("tiny_digits")
    assert found.inputs == inputs
    assert found.parameters["splits"] == ["train", "test"]
    assert len(found.parameters["archives"]) == 4


def test_the_metadata_says_what_the_statistics_were_made_from(
    written: Path, publisher: builders.Publisher, tmp_path: Path
) -> None:
    known = load(publisher.catalogue)
    dataset = known.datasets["tiny_colours"]
    tables_ = (Input("tables/tiny_colours/train.parquet", "a" * 64),)
    made_from = statistics.artefact(known.source_of(dataset), dataset, tables_)
    goal = tmp_path / "said.parquet"

    statistics.write([tmp_path / "train.parquet"], goal, made_from=made_from)

    said = json.loads(pq.read_schema(goal).metadata[tables.METADATA_KEY])
    archive = publisher.archive("tiny_colours", "colours.tar.gz").read_bytes()
    assert said["dataset"] == "tiny_colours"
    assert said["inputs"] == {"tables/tiny_colours/train.parquet": {"sha256": "a" * 64}}
    assert said["archives"] == {
        "archives/tiny_colours/colours.tar.gz": {
            "md5": hashlib.md5(archive).hexdigest(),
            "sha256": hashlib.sha256(archive).hexdigest(),
        }
    }


@pytest.mark.parametrize("labels", [[255, 0, 255, 254], [255], list(range(256))])
def test_the_last_of_256_classes_is_counted_like_the_others(
    tmp_path: Path, labels: list[int]
) -> None:
    values = np.array(labels, np.uint8)
    images = builders.images(len(values))
    table = builders.tiny(tmp_path, images, values, classes=256).table(tmp_path / "t.parquet")
    statistics.write([table], tmp_path / "statistics.parquet")
    found = pl.read_parquet(tmp_path / "statistics.parquet")
    assert found["records"].to_list() == [*np.bincount(values, minlength=256), len(values)]
    for label in np.unique(values).tolist():
        assert found["mean_intensity"][label] == images[values == label].mean()
