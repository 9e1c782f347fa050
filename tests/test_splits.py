"""Splits that are rows of members, of unknown counts or without labels; labels in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines import tables
from pipelines.errors import CatalogueError, FormatError
from pipelines.lineage import trace, verify
from pipelines.progress import Display
from pipelines.statistics import expectations
from pipelines.store import Folder, Store, layout
from tests import builders, published
from tests.published import Published

RECORDS = 30
IMAGES = builders.images(RECORDS, 4, 3, seed=1)
LABELS = builders.labels(RECORDS, 3, 1)
PUBLISHER = np.array([10, 1, 2], np.uint8)  # its label of each class
FOLDS = [[4, 7, 21, 29], [3, 28, 0, 11]]

TOML = """
[datasets.sheets]
title = "Sheets"
format = "idx"
image = { height = 4, width = 3, channels = 1 }
classes = ["zero", "one", "two"]
class_labels = [10, 1, 2]
each_split = { images = "images.gz", labels = "labels.gz" }

[datasets.sheets.splits.all]
records = 30

[datasets.sheets.splits]
middle = { records = 12, rows = { first = 10, of = 30 } }
fold_1 = { records = 4, rows = { of = 30, listed = "folds.zip/folds.txt", line = 1 } }
fold_2 = { records = 4, rows = { of = 30, listed = "folds.zip/folds.txt", line = 2 } }
"""
WANTED = {
    "all": np.arange(RECORDS),
    "middle": np.arange(10, 22),
    "fold_1": np.array(FOLDS[0]),
    "fold_2": np.array(FOLDS[1]),
}


def publish(folder: Path, toml: str = TOML, folds: str | None = None) -> Published:
    lines = "".join(f"{' '.join(map(str, fold))} \r\n" for fold in FOLDS)
    files = {
        "images.gz": builders.gz(builders.idx(IMAGES[..., 0])),
        "labels.gz": builders.gz(builders.idx(PUBLISHER[LABELS])),
        "folds.zip": builders.zipped({"folds.txt": (folds or lines).encode()}),
    }
    return published.publish(folder, "sheets", files, toml)


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Store]:
    folder = tmp_path_factory.mktemp("sheets")
    found, store = publish(folder), Folder(folder / "data")
    found.build(store, [*published.BASIC, "csv", "npy", "croissant"])
    return found, store


@pytest.mark.parametrize("split", WANTED)
def test_a_split_has_the_rows_that_it_declares_in_their_order(
    sheets: tuple[Published, Store], split: str
) -> None:
    found = tables.read(sheets[1].local(layout.table("sheets", split)))

    np.testing.assert_array_equal(found.images, IMAGES[WANTED[split]])
    np.testing.assert_array_equal(found.labels, LABELS[WANTED[split]])


def test_labels_in_an_order_of_their_own_are_those_of_the_classes(
    sheets: tuple[Published, Store],
) -> None:
    found = pl.read_parquet(sheets[1].local(layout.table("sheets", "all")))

    names = np.array(["zero", "one", "two"])
    assert found["class"].to_list() == names[LABELS].tolist()
    assert {*PUBLISHER[LABELS]} == {10, 1, 2}  # the members hold them so


def test_a_label_that_no_class_has_is_refused(tmp_path: Path) -> None:
    wrong = publish(tmp_path, TOML.replace("[10, 1, 2]", "[10, 1, 3]"))

    with pytest.raises(FormatError, match=r"has label 2, but the classes are labelled 10, 1, 3"):
        wrong.build(Folder(tmp_path / "data"))


@pytest.mark.parametrize("split", WANTED)
def test_a_record_of_some_rows_is_traced_to_where_it_stands(
    sheets: tuple[Published, Store], split: str
) -> None:
    published, store = sheets
    for index in (0, 3):
        chain = trace.trace(published.plan, store, f"sheets/{split}:{index}")
        row = int(WANTED[split][index])
        header, size = 16, 12
        [place] = [hop.bytes for hop in chain.hops if "images.gz" in hop.path and hop.bytes]

        assert chain.holds, chain.hops
        assert place == (header + row * size, header + (row + 1) * size)
        assert chain.image is not None
        np.testing.assert_array_equal(chain.image, IMAGES[row])


def test_deep_verification_compares_such_splits(sheets: tuple[Published, Store]) -> None:
    published, store = sheets
    found = verify.verify(store, published.plan, [published.dataset], Display(), deep=True)

    assert {verdict.condition for verdict in found} == {"whole"}
    assert sum("tables/" in verdict.path for verdict in found) == 4


def test_the_lists_of_rows_are_among_what_a_table_is_made_from(
    sheets: tuple[Published, Store],
) -> None:
    made = sheets[0].plan.artefacts[layout.table("sheets", "fold_2")]

    assert made.needs == (
        *("archives/sheets/images.gz", "archives/sheets/labels.gz"),
        "archives/sheets/folds.zip",
    )


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ("1 2 3\n4 5 6 7\n", "expected 4 rows, each once, found 3"),
        ("1 2 3 3\n4 5 6 7\n", "found 4, 3 of them different"),
        ("1 2 3 30\n4 5 6 7\n", "expected numbers from 0 to 29, found b'30'"),
        ("1 2 3 -4\n4 5 6 7\n", "found b'-4'"),
        ("1 2 3 4", "line 2: the list has 1 lines"),
    ],
)
def test_a_list_of_other_rows_is_refused(tmp_path: Path, folds: str, said: str) -> None:
    wrong = publish(tmp_path, folds=folds)

    with pytest.raises(FormatError, match=said):
        wrong.build(Folder(tmp_path / "data"))


def test_a_member_of_another_length_than_declared_is_refused(tmp_path: Path) -> None:
    wrong = publish(tmp_path, TOML.replace("first = 10, of = 30", "first = 10, of = 40"))

    with pytest.raises(FormatError, match=r"the catalogue declares \(40\)"):
        wrong.build(Folder(tmp_path / "data"))


def test_unknown_counts_are_said_to_be_unknown(sheets: tuple[Published, Store]) -> None:
    published, store = sheets
    split = published.dataset.splits["all"]
    [counts] = [
        finding
        for finding in expectations.of_table(
            store.local(layout.table("sheets", "all")), published.dataset, split
        )
        if finding.check_name == expectations.COUNTS
    ]

    assert counts.passed
    assert counts.expected == expectations.UNDECLARED
    assert counts.found == dict(
        zip(("zero", "one", "two"), np.bincount(LABELS).tolist(), strict=True)
    )


def test_rows_of_another_split_are_no_leak_of_it(sheets: tuple[Published, Store]) -> None:
    assert [split.name for split in sheets[0].dataset.apart] == ["all"]


def test_rows_of_one_member_may_still_leak_into_each_other(tmp_path: Path) -> None:
    toml = TOML.replace("[datasets.sheets.splits.all]\nrecords = 30\n", "")

    assert len(publish(tmp_path, toml).dataset.apart) == 3


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("first = 10, of = 30", "first = 20, of = 30", "12 records from 20 on, but the members ho"),
        ("first = 10, of = 30", "of = 30", "rows: give first, or listed and line"),
        ("first = 10, of", 'first = 10, listed = "folds.zip/folds.txt", of', "give first, or lis"),
        (", line = 1", "", "listed names a member, and line which line of it"),
        ("folds.zip/folds.txt", "folds.txt/folds.txt", "rows.listed: .* is in no declared archive"),
        ("[10, 1, 2]", "[10, 1]", "class_labels: expected 3, one per class, found 2"),
        ("[10, 1, 2]", "[10, 1, 1]", "class_labels: two classes have the same label"),
        ("class_labels", "first_label = 1\nclass_labels", "first_label or class_labels, not both"),
        ("records = 30\n", "records = 30\nlabelled = false\n", "labels: a split without labels"),
        (
            "class_labels",
            'columns = { writer = "w" }\nclass_labels',
            "one of them has to be called",
        ),
        (
            "class_labels",
            'columns = { label = "l", pixels = "p" }\nclass_labels',
            "columns.pixels: a name is lower-case letters",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in TOML
    with pytest.raises(CatalogueError, match=said):
        _ = publish(tmp_path, TOML.replace(before, after)).declared
