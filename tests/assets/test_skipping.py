"""What a build makes again, and what it leaves alone: content decides, never a clock."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines import archives, statistics, tables
from tests import builders
from tests.assets.project import Project, made, moved
from tests.builders import newer_code, newer_format

pytestmark = pytest.mark.sources("tiny_digits")

EXPORTS_AND_STATISTICS = {
    f"tiny_digits/{asset}"
    for asset in ("train_csv", "train_lmdb", "test_csv", "test_lmdb", "statistics", "croissant")
}
DIGITS = {"tiny_digits/train", "tiny_digits/test"} | EXPORTS_AND_STATISTICS


LEAVES = {
    "statistics/tiny_digits.parquet": "tiny_digits/statistics",
    "lineage/tiny_digits/croissant.json": "tiny_digits/croissant",
    "exports/tiny_digits/test.csv": "tiny_digits/test_csv",
    "exports/tiny_digits/train_lmdb/data.mdb": "tiny_digits/train_lmdb",
}
OF_EVERY_STAGE = LEAVES | {
    "archives/tiny_digits/train-images.gz": "tiny_digits/archives",
    "tables/tiny_digits/test.parquet": "tiny_digits/test",
}


@pytest.mark.parametrize(
    "deleted",
    [
        {"archives/tiny_digits/test-labels.gz": "tiny_digits/archives"},
        {"tables/tiny_digits/train.parquet": "tiny_digits/train"},
        LEAVES,
    ],
    ids=["archive", "table", "statistics and exports"],
)
def test_a_deleted_artefact_is_made_again_and_nothing_else_is(
    built: Project, deleted: dict[str, str]
) -> None:
    before = built.snapshot()
    for path in deleted:
        (built.data / path).unlink()
    assert made(built.build("tiny_digits")) == set(deleted.values())
    after = built.snapshot()
    assert moved(before, after) == {*deleted, *(f"lineage/{path}.json" for path in deleted)}
    for path in deleted:
        assert after[path][2] == before[path][2]


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_renamed_classes_make_again_what_depends_on_them_and_no_other_dataset(
    built: Project,
) -> None:
    before = built.snapshot()
    built.redeclare("tiny_digits", '"zero"', '"nought"')
    assert made(built.build()) == DIGITS
    assert {path for path in moved(before, built.snapshot()) if "tiny_digits" not in path} == set()
    table = pl.read_parquet(built.data / "tables/tiny_digits/train.parquet")
    assert set(table["class"].cast(pl.String)) == {"nought", "one", "two"}
    found = pl.read_parquet(built.data / "statistics/tiny_digits.parquet")
    assert set(found["class"].drop_nulls()) == {"nought", "one", "two"}


def test_another_archive_makes_again_the_one_split_that_reads_it(built: Project) -> None:
    before = built.snapshot()
    labels = built.publisher.splits["tiny_digits", "test"][1]
    built.republish("tiny_digits", "test-labels.gz", builders.gz(builders.idx(labels[::-1])))
    assert made(built.build()) == {
        "tiny_digits/archives",
        "tiny_digits/test",
        "tiny_digits/test_csv",
        "tiny_digits/test_lmdb",
        "tiny_digits/statistics",
        "tiny_digits/croissant",
    }
    changed = {path for path in moved(before, built.snapshot()) if "lineage" not in path}
    assert changed == {
        "archives/tiny_digits/test-labels.gz",
        "tables/tiny_digits/test.parquet",
        "exports/tiny_digits/test.csv",
        "exports/tiny_digits/test_lmdb/data.mdb",
        "statistics/tiny_digits.parquet",
    }
    csv = np.loadtxt(built.data / "exports/tiny_digits/test.csv", np.uint8, delimiter=",")
    assert csv[:, 0].tolist() == labels[::-1].tolist()


def test_what_the_catalogue_says_of_a_source_is_in_its_tables_and_changes_them(
    built: Project,
) -> None:
    built.redeclare("tiny_digits", "not stated", "CC0 1.0")
    tables_again = {"tiny_digits/train", "tiny_digits/test"}
    assert made(built.build("tiny_digits", stages=["tables"])) == tables_again


def test_words_that_stand_in_the_croissant_document_alone_make_it_again(built: Project) -> None:
    built.redeclare("tiny_digits", "Made up.", "Made up by nobody.")
    assert made(built.build("tiny_digits")) == {"tiny_digits/croissant"}
    assert "Made up by nobody." in (built.data / "lineage/tiny_digits/croissant.json").read_text()


def test_a_comment_in_the_catalogue_changes_nothing(built: Project) -> None:
    before = built.snapshot()
    toml = built.publisher.toml("tiny_digits")
    toml.write_text("# looked over again\n" + toml.read_text())
    assert made(built.build("tiny_digits", stages=["tables"])) == set()
    assert moved(before, built.snapshot()) == set()


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("csv", {"tiny_digits/train_csv", "tiny_digits/test_csv"}),
        ("lmdb", {"tiny_digits/train_lmdb", "tiny_digits/test_lmdb"}),
        (statistics.figures, {"tiny_digits/statistics"}),
        ("croissant", {"tiny_digits/croissant"}),
        (tables.about, {"tiny_digits/train", "tiny_digits/test"}),
        ("idx", {"tiny_digits/train", "tiny_digits/test"}),
        (archives.fetching, {"tiny_digits/archives"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_new_version_of_a_stage_makes_that_stage_again_and_nothing_else(
    built: Project, monkeypatch: pytest.MonkeyPatch, stage: object, again: set[str]
) -> None:
    # What lies below stays: the new code made the same bytes.
    if stage == "idx":
        newer_format(monkeypatch, "idx")
    elif isinstance(stage, str):
        newer_code(monkeypatch, stage)
    else:
        monkeypatch.setattr(stage, "CODE_VERSION", "later")
    assert made(built.build("tiny_digits")) == again


@pytest.mark.sources("tiny_digits", "tiny_colours")
def test_a_new_version_of_a_format_leaves_the_tables_of_other_formats_alone(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_format(monkeypatch, "cifar")
    assert made(built.build("tiny_digits", stages=["tables"])) == set()


def test_a_new_version_of_the_archives_stage_verifies_what_is_there_without_fetching(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = built.snapshot(lineage=False)
    monkeypatch.setattr(archives.fetching, "CODE_VERSION", "later")
    nowhere = {"stages": ["archives"], "mirror": None, "offline": True}
    assert made(built.build("tiny_digits", **nowhere)) == {"tiny_digits/archives"}
    assert moved(before, built.snapshot(lineage=False)) == set()
    assert made(built.build("tiny_digits", **nowhere)) == set()


def test_touched_files_are_hashed_again_and_not_made_again(built: Project) -> None:
    for path in built.data.rglob("*"):
        if path.is_file() and "dagster" not in path.parts:
            os.utime(path, ns=(0, 1_000_000_000))
    before = built.snapshot(lineage=False)
    assert made(built.build("tiny_digits")) == set()
    assert moved(before, built.snapshot(lineage=False)) == set()
    noted = built.snapshot()
    assert made(built.build("tiny_digits")) == set()
    assert moved(noted, built.snapshot()) == set(), "the new times are known by now"


def test_artefacts_with_a_flipped_byte_are_made_again_with_all_that_was_made_from_them(
    built: Project,
) -> None:
    before = built.snapshot()
    for path in OF_EVERY_STAGE:
        _flip_a_byte(built.data / path)
    outcomes = built.build("tiny_digits")
    assert made(outcomes) >= set(OF_EVERY_STAGE.values())
    after = built.snapshot()
    assert {path: found[2] for path, found in after.items() if "lineage" not in path} == {
        path: found[2] for path, found in before.items() if "lineage" not in path
    }
    assert made(built.build("tiny_digits")) == set()


def test_an_artefact_without_a_readable_record_is_made_again(built: Project) -> None:
    (built.data / "lineage/exports/tiny_digits/train.csv.json").write_text('{"path": "exp')
    (built.data / "lineage/exports/tiny_digits/test.csv.json").unlink()
    csvs = {"tiny_digits/train_csv", "tiny_digits/test_csv"}
    assert made(built.build("tiny_digits", stages=["csv"])) == csvs


def test_an_archive_that_a_person_put_in_place_is_verified_and_not_fetched(
    project: Project,
) -> None:
    for archive in (project.publisher.mirror / "tiny_digits").iterdir():
        place = project.data / "archives" / "tiny_digits" / archive.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(archive.read_bytes())
    before = project.snapshot()
    project.build("tiny_digits", stages=["archives"], mirror=None, offline=True)
    after = project.snapshot()
    assert {path: after[path] for path in before} == before


def test_the_header_option_makes_just_the_csvs_again(built: Project) -> None:
    csvs = {"tiny_digits/train_csv", "tiny_digits/test_csv"}
    plain = (built.data / "exports/tiny_digits/test.csv").read_bytes()
    assert made(built.build("tiny_digits", csv_header=True)) == csvs
    header = b"label," + b",".join(b"pixel%d" % (at + 1) for at in range(4 * 3)) + b"\n"
    assert (built.data / "exports/tiny_digits/test.csv").read_bytes() == header + plain
    assert made(built.build("tiny_digits", csv_header=False)) == csvs


def test_without_dagsters_records_nothing_is_made_again(built: Project) -> None:
    for path in (built.data / "dagster").rglob("*.db"):
        path.unlink()
    before = built.snapshot()
    assert made(built.build("tiny_digits")) == set()
    assert moved(before, built.snapshot()) == set()


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_a_data_folder_may_move(built: Project, tmp_path: Path) -> None:
    elsewhere = Project(built.publisher, built.data.rename(tmp_path / "elsewhere"))
    before = elsewhere.snapshot()
    assert made(elsewhere.build("tiny_letters", stages=["csv"])) == set()
    assert moved(before, elsewhere.snapshot()) == set()


def _flip_a_byte(path: Path) -> None:
    """Damage a file where its size stays what it was."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
