"""`trace`: from every row of every artefact back to the publisher, and what is wrong on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.command_line import tracing
from assets.settings import ROOT
from pipelines import declarations
from pipelines.errors import ArtefactError, UnknownName
from pipelines.lineage.trace import Chain, Hop, trace
from pipelines.plan import Plan
from pipelines.store import Folder, layout, provenance
from tests import builders
from tests.assets.conftest import Command
from tests.assets.project import DATASETS, Project, environment

SPLITS = [(name, split) for name in DATASETS for split in ("train", "test")]
CLASSES = {
    "tiny_digits": ["zero", "one", "two"],
    "tiny_letters": ["A", "B", "C", "D"],
    "tiny_colours": ["rose", "ruby", "rust", "sky", "sea", "steel"],
}


def traced(project: Project, text: str, plan: Plan | None = None) -> Chain:
    return trace(plan or project.plan(), Folder(project.data), text)


def broken(chain: Chain) -> list[tuple[str, str]]:
    """What and where of the hops that do not hold; exit code and JSON follow from it."""
    assert chain.holds == all(hop.holds for hop in chain.hops)
    return [(hop.what, hop.path) for hop in chain.hops if not hop.holds]


def hops(chain: Chain, what: str) -> list[Hop]:
    return [hop for hop in chain.hops if hop.what == what]


# --- The whole way back ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_every_record_is_traced_from_every_artefact_to_the_published_arrays(
    built: Project, name: str, split: str
) -> None:
    images, labels, coarse = built.publisher.splits[name, split]
    digits, plan = 5 if name == "tiny_colours" else 8, built.plan()
    for index in range(len(labels)):
        for text, kinds in {
            f"{name}/{split}:{index}": [],
            f"tables/{name}/{split}.parquet:{index}": [],
            f"exports/{name}/{split}.csv:{index}": ["csv"],
            f"{name}/{split}_csv:{index}": ["csv"],
            f"exports/{name}/{split}_lmdb:{index:0{digits}d}": ["lmdb"],
            f"exports/{name}/{split}_lmdb/data.mdb:{index}": ["lmdb"],
        }.items():
            chain = traced(built, text, plan)
            assert broken(chain) == []
            assert chain.image is not None
            np.testing.assert_array_equal(chain.image, images[index], strict=True)
            assert chain.facts["index"] == index
            assert chain.facts["label"] == labels[index]
            assert chain.facts["class"] == CLASSES[name][labels[index]]
            if coarse is not None:
                assert chain.facts["coarse_label"] == coarse[index]
                assert chain.facts["coarse_class"] == ["red", "blue"][coarse[index]]
            members = ["member"] * (1 if name == "tiny_colours" else 2)
            sources = ["archive", "origin"] * (2 if name == "tiny_digits" else 1)
            assert [hop.what for hop in chain.hops] == [*kinds, "table", *members, *sources]
            assert all(hop.row == index for hop in chain.hops[: len(kinds) + 1])


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_the_bytes_that_are_told_are_those_of_the_record(
    built: Project, name: str, split: str
) -> None:
    """Read here from the publisher's arrays, with another order of axes for every source."""
    images, labels, coarse = built.publisher.splits[name, split]
    plan = built.plan()
    for index in range(len(labels)):
        [csv] = hops(traced(built, f"exports/{name}/{split}.csv:{index}", plan), "csv")
        assert csv.bytes is not None
        line = (built.data / csv.path).read_bytes()[slice(*csv.bytes)]
        assert line == ",".join(map(str, [labels[index], *images[index].ravel()])).encode() + b"\n"

        found = {
            hop.facts["role"]: hop
            for hop in hops(traced(built, f"{name}/{split}:{index}", plan), "member")
        }
        size = images[index].size
        if coarse is None:
            assert found["images"].bytes == (16 + index * size, 16 + (index + 1) * size)
            assert found["labels"].bytes == (8 + index, 9 + index)
        else:
            start, record = index % (len(labels) // 2), size + 2
            assert found["batches"].bytes == (start * record, (start + 1) * record)
            part = 1 + index // (len(labels) // 2)
            assert found["batches"].path == (
                f"archives/tiny_colours/colours.tar.gz/bin/{split}_{part}.bin"
            )


def test_a_csv_may_have_a_header(project: Project) -> None:
    project.build("tiny_digits", stages=["tables", "csv"], csv_header=True)
    images, labels, _ = project.publisher.splits["tiny_digits", "test"]

    for index in range(12):
        chain = traced(project, f"exports/tiny_digits/test.csv:{index}")
        assert broken(chain) == []
        assert chain.image is not None
        np.testing.assert_array_equal(chain.image, images[index])
        assert chain.facts["label"] == labels[index]


def test_archives_are_traced_to_where_they_came_from_and_when(built: Project) -> None:
    path = "archives/tiny_digits/train-images.gz"
    published = built.publisher.archive("tiny_digits", "train-images.gz")
    recorded = json.loads((built.data / f"lineage/{path}.json").read_text())["facts"]
    for text in (path, "tiny_digits/train:3", "tables/tiny_digits/train.parquet"):
        chain = traced(built, text)
        archive, origin, *_ = [h for h in chain.hops if h.what in ("archive", "origin")]
        assert archive.path == path
        assert archive.hashes == {
            "md5": hashlib.md5(published.read_bytes()).hexdigest(),
            "sha256": hashlib.sha256(published.read_bytes()).hexdigest(),
        }
        assert origin.path == recorded["origin"]
        assert origin.path.endswith("/mirror/tiny_digits/train-images.gz")
        assert origin.facts == {"retrieved": recorded["retrieved"]}


@pytest.mark.parametrize(
    ("text", "whats"),
    [
        ("tables/tiny_letters/test.parquet", "table member member archive origin"),
        ("tiny_colours/train", "table member member archive origin"),
        ("exports/tiny_digits/test.csv", "csv table member member archive origin archive origin"),
        ("exports/tiny_letters/test_lmdb/", "lmdb table member member archive origin"),
        ("archives/tiny_letters/letters.zip", "archive origin"),
        (
            "statistics/tiny_letters.parquet",
            "statistics table member member table member member archive origin",
        ),
    ],
)
def test_without_a_row_the_artefact_is_traced_as_a_whole(
    built: Project, text: str, whats: str
) -> None:
    chain = traced(built, text)

    assert [hop.what for hop in chain.hops] == whats.split()
    assert broken(chain) == []
    assert chain.image is None
    assert all(hop.row is None for hop in chain.hops)
    for hop in chain.hops:
        if hop.what not in ("member", "origin"):
            data = (built.data / hop.path).read_bytes()
            assert hop.hashes["sha256"] == hashlib.sha256(data).hexdigest()


# --- Statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_of_statistics_is_traced_to_its_records(built: Project, name: str) -> None:
    rows = pl.read_parquet(built.data / f"statistics/{name}.parquet").rows(named=True)
    size = len(CLASSES[name]) + 1
    assert len(rows) == 2 * size
    for number, row in enumerate(rows):
        split, label = ("train", "test")[number // size], number % size
        images, labels, _ = built.publisher.splits[name, split]
        [of_class] = np.nonzero(labels == label) if label < size - 1 else [np.arange(len(labels))]

        chain = traced(built, f"statistics/{name}.parquet:{number}")

        assert broken(chain) == []
        assert (row["split"], chain.facts["split"]) == (split, split)
        [table] = hops(chain, "table")
        assert table.path == f"tables/{name}/{split}.parquet"
        expected = {"records": len(of_class)}
        if len(of_class):
            expected |= {"first": of_class[0], "last": of_class[-1]}
            assert chain.image is not None
            means = images[of_class].mean(axis=0, dtype=np.float64)
            np.testing.assert_allclose(chain.image, means, atol=0.5001)
        assert table.facts == expected


@pytest.mark.parametrize(
    ("row", "number"),
    [
        ("train/0", 0),
        ("train/two", 2),
        ("train/total", 3),
        ("train", 3),
        ("test/zero", 4),
        ("test/total", 7),
        ("5", 5),
    ],
)
def test_a_row_of_statistics_has_a_name(built: Project, row: str, number: int) -> None:
    for text in (f"tiny_digits/statistics:{row}", f"statistics/tiny_digits.parquet:{row}"):
        assert traced(built, text).hops[0].row == number


# --- What is wrong is named, and nothing else -----------------------------------------------------

Damage = Callable[[Project], None]


def rewrite(path: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Write a Parquet file again with other values and the same schema."""
    table = pq.read_table(path)
    columns = {
        name: column.combine_chunks().to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    change(columns)
    arrays = [pa.array(columns[field.name], field.type) for field in table.schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=table.schema), path)


def change_csv(project: Project) -> None:
    path = project.data / "exports/tiny_letters/train.csv"
    lines = path.read_text().split("\n")
    fields = lines[7].split(",")
    fields[1 + 8] = str(255 - int(fields[1 + 8]))  # row 1, column 3
    lines[7] = ",".join(fields)
    path.write_text("\n".join(lines))


def change_lmdb(project: Project) -> None:
    path = project.data / "exports/tiny_letters/train_lmdb/data.mdb"
    with (
        lmdb.open(str(path), subdir=False, lock=False) as database,
        database.begin(write=True) as transaction,
    ):
        value = bytearray(transaction.get(b"00000007"))
        value[-2 - 25 + 8] ^= 0xFF  # the tail is the label's field, 25 pixels stand before it
        transaction.put(b"00000007", bytes(value))


def change_pixel(columns: dict[str, list[Any]]) -> None:
    pixels = bytearray(columns["pixels"][7])
    pixels[8] ^= 0xFF
    columns["pixels"][7] = bytes(pixels)


def change_label(columns: dict[str, list[Any]]) -> None:
    columns["label"][7] = (columns["label"][7] + 1) % 4


def change_class(columns: dict[str, list[Any]]) -> None:
    columns["class"][7] = "D" if columns["class"][7] != "D" else "A"


def change_index(columns: dict[str, list[Any]]) -> None:
    columns["index"][7] = 8


def change_table(change: Callable[[dict[str, list[Any]]], None]) -> Damage:
    return lambda project: rewrite(project.data / "tables/tiny_letters/train.parquet", change)


ARCHIVE = "archives/tiny_letters/letters.zip"
TABLE = "tables/tiny_letters/train.parquet"


def repack(changed: str = "", at: int = 0, level: int = 9) -> Damage:
    """Pack the archive again, with one byte of a member (unpacked) changed."""

    def damage(project: Project) -> None:
        path = project.data / ARCHIVE
        with zipfile.ZipFile(path) as archive:
            members = {name: gzip.decompress(archive.read(name)) for name in archive.namelist()}
        if changed:
            data = bytearray(members[changed])
            data[at] ^= 0xFF
            members[changed] = bytes(data)
        packed = {name: gzip.compress(data, level, mtime=0) for name, data in members.items()}
        path.write_bytes(builders.zipped(packed))
        toml = project.publisher.toml("tiny_letters")  # which must not know the members' hashes
        toml.write_text(toml.read_text().partition("\n[members.")[0] + "\n")

    return damage


IMAGES, LABELS = "gzip/train-images.gz", "gzip/train-labels.gz"
STARTS = ["tiny_letters/train:7", "tiny_letters/train_csv:7", "tiny_letters/train_lmdb:7"]


@pytest.mark.parametrize(
    ("damage", "start", "expected", "words"),
    [
        (change_csv, STARTS[0], [], ""),
        (change_csv, STARTS[1], [("csv", "exports/tiny_letters/train.csv")], "row 1, column 3"),
        (change_csv, STARTS[2], [], ""),
        (change_lmdb, STARTS[1], [], ""),
        (
            change_lmdb,
            STARTS[2],
            [("lmdb", "exports/tiny_letters/train_lmdb/data.mdb")],
            "row 1, column 3",
        ),
        *(
            (change_table(change), start, [("table", TABLE)], words)
            for change, words in {
                change_pixel: "row 1, column 3: expected intensity",
                change_label: "label: expected",
                change_class: "class: expected",
                change_index: "index: expected 7, found 8",
            }.items()
            for start in STARTS
        ),
        (repack(level=1), STARTS[1], [("archive", ARCHIVE)], "the catalogue declares"),
        *(
            (
                repack(member, at),
                start,
                [("member", f"{ARCHIVE}/{member}"), ("archive", ARCHIVE)],
                words,
            )
            for member, at, words in [
                (IMAGES, 16 + 7 * 25 + 3 * 5 + 1, "row 1, column 3: expected intensity"),
                (LABELS, 8 + 7, "its label: record 0 has label"),
            ]
            for start in STARTS
        ),
    ],
)
def test_the_very_hop_that_does_not_hold_is_named(
    built: Project,
    command: Command,
    damage: Damage,
    start: str,
    expected: list[tuple[str, str]],
    words: str,
) -> None:
    images, labels, _ = built.publisher.splits["tiny_letters", "train"]
    damage(built)

    chain = traced(built, start)
    said = command("trace", start, *built.options)

    assert broken(chain) == expected
    assert said.code == (1 if expected else 0)
    assert len(re.findall(r"^BROKEN", said.stdout, re.M)) == len(expected)
    assert len(re.findall(r"^holds", said.stdout, re.M)) == len(chain.hops) - len(expected)
    if expected:
        assert words in next(hop.problem for hop in chain.hops if not hop.holds)
        assert words in " ".join(said.stdout.split())
        assert "not hold" in said.stderr
    assert chain.image is not None
    np.testing.assert_array_equal(chain.image, images[7])
    assert chain.facts["label"] == labels[7]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("train-images.gz", 4, ["archive"]),  # the time in gzip's header: nobody reads it
        ("train-labels.gz", 4, ["archive"]),
        ("train-images.gz", 0, ["member", "archive"]),  # the magic number
        ("train-labels.gz", 0, ["member", "archive"]),
    ],
)
def test_a_flipped_byte_of_an_archive_is_its_own(
    built: Project, name: str, at: int, expected: list[str]
) -> None:
    path = f"archives/tiny_digits/{name}"
    flip(built.data / path, at)
    images, *_ = built.publisher.splits["tiny_digits", "train"]

    chain = traced(built, "exports/tiny_digits/train.csv:3")

    assert broken(chain) == [(what, path) for what in expected]
    assert chain.image is not None
    np.testing.assert_array_equal(chain.image, images[3])


@pytest.mark.parametrize("member", ["bin/train_1.bin", "bin/train_2.bin"])
def test_a_changed_batch_of_colours_is_named(built: Project, member: str) -> None:
    pixels, fine, coarse = built.publisher.splits["tiny_colours", "train"]
    assert coarse is not None
    parts = {"bin/train_1.bin": slice(0, 15), "bin/train_2.bin": slice(15, 30)}
    data = {
        name: bytearray(builders.cifar(pixels[rows], coarse[rows], fine[rows]))
        for name, rows in parts.items()
    }
    data[member][4 * 50 + 2 + 16 + 5] ^= 0xFF  # record 4 of the batch: green, row 1, column 1
    path = "archives/tiny_colours/colours.tar.gz"
    (built.data / path).write_bytes(builders.tarred({k: bytes(v) for k, v in data.items()}))
    index = parts[member].start + 4

    chain = traced(built, f"tiny_colours/train:{index}")

    assert broken(chain) == [("member", f"{path}/{member}"), ("archive", path)]
    assert "row 1, column 1, channel 1: expected intensity" in hops(chain, "member")[0].problem
    for other in (index - 1, index + 1):
        assert broken(traced(built, f"tiny_colours/train:{other}")) == [("archive", path)]


def test_two_copies_that_agree_on_something_wrong_are_both_named(built: Project) -> None:
    change_csv(built)
    change_table(change_pixel)(built)

    assert broken(traced(built, "tiny_letters/train_csv:7")) == [
        ("csv", "exports/tiny_letters/train.csv"),
        ("table", TABLE),
    ]


@pytest.mark.parametrize("row", [None, 0, 3])
def test_a_changed_figure_is_named(built: Project, row: int | None) -> None:
    path = built.data / "statistics/tiny_digits.parquet"

    def change(columns: dict[str, list[Any]]) -> None:
        columns["mean_intensity"][row or 0] += 0.5

    rewrite(path, change)
    text = "tiny_digits/statistics" + ("" if row is None else f":{row}")

    chain = traced(built, text)

    assert broken(chain) == [("statistics", "statistics/tiny_digits.parquet")]
    assert f"row {row or 0}, mean_intensity: expected " in chain.hops[0].problem
    assert broken(traced(built, "tiny_digits/statistics:1")) == []


def test_statistics_of_a_changed_table_are_those_of_the_publishers_records(built: Project) -> None:
    change_table(change_pixel)(built)

    for text in ("tiny_letters/statistics", "tiny_letters/statistics:train/total"):
        assert broken(traced(built, text)) == [("table", TABLE)]
    assert broken(traced(built, "tiny_letters/statistics:test/total")) == []


@pytest.mark.parametrize(
    ("path", "start", "what"),
    [
        ("exports/tiny_digits/test.csv", "tiny_digits/test_csv", "csv"),
        ("exports/tiny_digits/test_lmdb/data.mdb", "tiny_digits/test_lmdb", "lmdb"),
        ("tables/tiny_digits/test.parquet", "tiny_digits/test_csv", "table"),
        ("tables/tiny_digits/test.parquet", "tiny_digits/test", "table"),
        ("statistics/tiny_digits.parquet", "tiny_digits/statistics", "statistics"),
    ],
)
def test_a_flipped_byte_of_a_whole_artefact_is_named(
    built: Project, path: str, start: str, what: str
) -> None:
    flip(built.data / path, 100)

    chain = traced(built, start)

    assert broken(chain) == [(what, path)]
    problem = next(hop.problem for hop in chain.hops if not hop.holds)
    record = provenance.latest(Folder(built.data), path)
    assert record is not None
    assert f"expected SHA-256 {record.sha256}" in problem
    assert f"found {hashlib.sha256((built.data / path).read_bytes()).hexdigest()}" in problem


def test_an_export_of_a_table_that_was_made_anew_is_named(built: Project) -> None:
    built.redeclare("tiny_digits", 'title = "Tiny digits"', 'title = "Tiny digits anew"')
    built.build("tiny_digits", stages=["tables"])

    chain = traced(built, "tiny_digits/test_csv")

    assert broken(chain) == [("csv", "exports/tiny_digits/test.csv")]
    assert "made from tables/tiny_digits/test.parquet when its SHA-256 was" in chain.hops[0].problem


def test_a_table_of_another_split_in_its_place_is_named(built: Project) -> None:
    folder = built.data / "tables/tiny_digits"
    shutil.copy(folder / "test.parquet", folder / "train.parquet")

    chain = traced(built, "tiny_digits/train:3")

    assert broken(chain) == [("table", "tables/tiny_digits/train.parquet")]
    assert "split: the catalogue declares train, found test" in chain.hops[0].problem


def test_what_is_not_there_on_the_way_is_named_with_how_to_have_it(built: Project) -> None:
    (built.data / "archives/tiny_digits/train-labels.gz").unlink()
    (built.data / "tables/tiny_digits/train.parquet").unlink()

    chain = traced(built, "tiny_digits/train_csv:3")

    assert broken(chain) == [
        ("table", "tables/tiny_digits/train.parquet"),
        ("member", "archives/tiny_digits/train-labels.gz"),
        ("archive", "archives/tiny_digits/train-labels.gz"),
    ]
    problems = " ".join(hop.problem for hop in chain.hops)
    assert "python -m assets build tiny_digits --only tables" in problems
    assert "python -m assets fetch tiny_digits" in problems
    images, *_ = built.publisher.splits["tiny_digits", "train"]
    assert chain.image is not None
    np.testing.assert_array_equal(chain.image, images[3])


def test_an_archive_without_a_record_came_from_nowhere(built: Project) -> None:
    path = "archives/tiny_letters/letters.zip"
    (built.data / layout.lineage(path)).unlink()

    for text in (path, "tiny_letters/test:0", "tiny_letters/test"):
        chain = traced(built, text)
        assert [hop.what for hop in chain.hops if not hop.holds] == ["origin"]
        assert layout.lineage(path) in hops(chain, "origin")[0].problem


# --- Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    ("copied", "row"),
    [
        (["tables/tiny_colours/train.parquet"], ":17"),
        (["tables/tiny_colours/train.parquet"], ""),
        (["statistics/tiny_colours.parquet"], ":train/sky"),
        (["statistics/tiny_colours.parquet"], ""),
        (["exports/tiny_colours/train.csv", "exports/tiny_colours/train.csv.lineage.json"], ":17"),
        (["exports/tiny_colours/train.csv", "exports/tiny_colours/train.csv.lineage.json"], ""),
    ],
)
def test_a_copy_anywhere_is_recognised(
    built: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copied: list[str],
    row: str,
    absolute: bool,
) -> None:
    elsewhere = tmp_path / "elsewhere: here"
    elsewhere.mkdir()
    for path in copied:
        name = Path(path).name
        shutil.copy(built.data / path, elsewhere / re.sub(r"^\w+", "mine", name))
    [copy] = [path for path in elsewhere.iterdir() if not path.name.endswith(".json")]
    monkeypatch.chdir(elsewhere)

    chain = traced(built, (str(copy) if absolute else copy.name) + row)

    assert broken(chain) == []
    assert chain.hops[0].path == str(copy)
    assert chain.facts["dataset"] == "tiny_colours"
    if row == ":17":
        assert chain.image is not None
        np.testing.assert_array_equal(
            chain.image, built.publisher.splits["tiny_colours", "train"][0][17]
        )


@pytest.mark.parametrize("inside", ["", "/data.mdb"])
def test_a_copied_lmdb_is_recognised_by_the_file_beside_it(
    built: Project, tmp_path: Path, inside: str
) -> None:
    shutil.copytree(built.data / "exports/tiny_letters/test_lmdb", tmp_path / "copy")

    chain = traced(built, f"{tmp_path}/copy{inside}:4")

    assert broken(chain) == []
    assert chain.hops[0].path == str(tmp_path / "copy" / "data.mdb")
    (tmp_path / "copy" / "data.mdb.lineage.json").unlink()
    with pytest.raises(UnknownName, match="does not say what it is"):
        traced(built, f"{tmp_path}/copy:4")


def test_a_copied_table_with_another_pixel_is_named(built: Project, tmp_path: Path) -> None:
    copy = tmp_path / "mine.parquet"
    shutil.copy(built.data / TABLE, copy)
    rewrite(copy, change_pixel)

    assert broken(traced(built, f"{copy}:7")) == [("table", str(copy))]
    assert broken(traced(built, f"{copy}:8")) == []
    assert broken(traced(built, str(copy))) == [("table", str(copy))]


@pytest.mark.parametrize("data", [b"", b"1,2,3\n", b"PAR1"])
def test_a_file_that_does_not_say_what_it_is_is_refused(
    built: Project, tmp_path: Path, data: bytes
) -> None:
    for name in ("a.parquet", "a.csv"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnknownName, match="does not say what it is"):
            traced(built, f"{tmp_path / name}:0")


@pytest.mark.parametrize("path", ["data/tables/tiny_digits/test.parquet", "link.parquet"])
def test_a_path_that_leads_into_the_data_folder_is_no_copy(
    built: Project, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(built.data.parent)
    Path("link.parquet").symlink_to(built.data / "tables/tiny_digits/test.parquet")

    chain = traced(built, f"{path}:0")

    assert chain.hops[0].path == "tables/tiny_digits/test.parquet"


@pytest.mark.parametrize("name", ["../../outside", "tables/../../../outside", "a\0b"])
def test_nothing_else_is_opened_because_a_copy_names_it(
    built: Project, tmp_path: Path, name: str
) -> None:
    outside = built.data.parent / "outside.json"
    os.mkfifo(outside)  # whoever opens it waits for ever
    copy = shutil.copy(built.data / "exports/tiny_digits/train.csv", tmp_path / "copy.csv")
    beside = json.loads((built.data / "exports/tiny_digits/train.csv.lineage.json").read_text())
    beside["inputs"][0]["path"] = name
    (tmp_path / "copy.csv.lineage.json").write_text(json.dumps(beside))

    chain = traced(built, str(copy))

    assert not chain.hops[0].holds
    assert f"made from {name!r}, which the catalogue does not know" in chain.hops[0].problem


def test_a_pipe_is_not_waited_for(built: Project, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnknownName):
        traced(built, str(tmp_path / "pipe"))


# --- What can't be traced -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("tiny_digit/train:3", UnknownName, "Did you mean 'tiny_digits/train'?"),
        ("tiny_digits/trian:3", UnknownName, "Did you mean 'tiny_digits/train'?"),
        (
            "exports/tiny_digits/tset.csv",
            UnknownName,
            "Did you mean 'exports/tiny_digits/test.csv'",
        ),
        ("/no/such/file.parquet:3", UnknownName, "no artefact '/no/such/file.parquet'"),
        ("x" * 5000, UnknownName, "no artefact"),
        ("", UnknownName, "no artefact ''"),
        ("tiny_digits/test:12", ArtefactError, "has records 0 to 11; 12 was asked for"),
        ("tiny_digits/test:-1", ArtefactError, "has records 0 to 11; -1 was asked for"),
        ("tiny_digits/test_csv:12", ArtefactError, "has records 0 to 11; 12 was asked for"),
        ("tiny_digits/test:", ArtefactError, "has records 0 to 11; nothing was asked for"),
        ("tiny_digits/test:1_0", ArtefactError, "has records 0 to 11; 1_0 was asked for"),
        ("tiny_digits/test:" + "9" * 5000, ArtefactError, f"{'9' * 40} was asked for"),
        ("~nobody-of-that-name/train:1", UnknownName, "no artefact '~nobody-of-that-name/train'"),
        ("tiny_digits/test:first", ArtefactError, "has records 0 to 11; first was asked for"),
        ("tiny_digits/statistics:8", ArtefactError, "has rows 0 to 7; 8 was asked for"),
        ("tiny_digits/statistics:tran/1", UnknownName, "no split 'tran'. Did you mean 'train'?"),
        ("tiny_digits/statistics:train/tow", UnknownName, "no class 'tow'. Did you mean 'two'?"),
        ("archives/tiny_digits/train-images.gz:3", ArtefactError, "An archive has no rows"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(
    built: Project, command: Command, text: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        traced(built, text)
    said = command("trace", text, *built.options)

    assert words in str(caught.value)
    assert said.code == (2 if kind is UnknownName else 1)
    assert (said.stdout, said.stderr) == ("", f"error: {caught.value}\n")


def test_a_row_that_names_no_split_is_told_so_where_there_are_several(
    project: Project, command: Command
) -> None:
    build = ("build", "tiny_digits", "--only", "npz", *project.options, *project.mirror)
    assert command(*build).code == 0
    said = command("trace", "tiny_digits/npz:7", *project.options)
    assert said.code == 2
    assert "several splits; '7' names none. Name a record as SPLIT/INDEX." in said.stderr


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("tiny_digits/test:1", "build tiny_digits --only tables"),
        ("exports/tiny_digits/test.csv:1", "build tiny_digits --only csv"),
        ("exports/tiny_digits/test_lmdb", "build tiny_digits --only lmdb"),
        ("tiny_digits/statistics:1", "build tiny_digits --only statistics"),
        ("archives/tiny_letters/letters.zip", "fetch tiny_letters"),
    ],
)
def test_an_artefact_that_is_not_there_says_how_to_have_it(
    project: Project, command: Command, text: str, remedy: str
) -> None:
    said = command("trace", text, *project.options)

    assert (said.code, said.stdout) == (1, "")
    assert re.search(rf"is not there\. \w+ it: python -m assets {remedy}$", said.stderr)
    assert command(*remedy.split(), *project.options, *project.mirror).code == 0
    assert command("trace", text, *project.options).code == 0


# --- How it looks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["tiny_colours/train_csv:3", "tiny_digits/statistics:1", "tiny_digits/test"]
)
def test_json_says_the_same_for_machines(built: Project, command: Command, text: str) -> None:
    chain = traced(built, text)

    said = command("trace", text, "--json", *built.options)

    assert (said.code, said.stderr) == (0, "")
    found = json.loads(said.stdout)
    assert (found["artefact"], found["holds"]) == (text, True)
    assert {key: found[key] for key in chain.facts} == chain.facts
    for hop, one in zip(chain.hops, found["hops"], strict=True):
        assert (one["what"], one["path"], one["row"]) == (hop.what, hop.path, hop.row)
        assert one["bytes"] == (None if hop.bytes is None else list(hop.bytes))
        assert (one["hashes"], one["holds"], one["problem"]) == (hop.hashes, True, None)


def test_json_tells_what_does_not_hold_and_where_urls_are(built: Project, command: Command) -> None:
    change_csv(built)
    path = "archives/tiny_letters/letters.zip"
    url = "https://example.org/letters.zip"
    record = built.data / layout.lineage(path)
    said = json.loads(record.read_text())
    del said["digest"]
    said["facts"]["origin"] = url
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    record.write_text(json.dumps(said | {"digest": hashlib.sha256(text.encode()).hexdigest()}))

    answer = command("trace", "tiny_letters/train_csv:7", "--json", *built.options)

    assert (answer.code, answer.stderr) == (1, "")
    found = json.loads(answer.stdout)
    assert [hop["holds"] for hop in found["hops"]] == [False] + [True] * 5
    assert "expected intensity" in found["hops"][0]["problem"]
    assert found["hops"][-1]["url"] == url
    assert "path" not in found["hops"][-1]


def test_a_picture_in_plain_text_is_two_characters_a_pixel() -> None:
    image = np.array([[0, 25, 26, 128], [255, 230, 77, 0], [0, 0, 0, 0]], np.uint8)

    assert tracing.in_ascii(image[..., None]) == "    ..++\n@@%%--\n"


def test_a_colour_counts_as_bright_as_it_is_seen() -> None:
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)

    assert tracing.in_ascii(image) == "::++..@@"


def test_a_wide_picture_is_thinned_out_to_fit() -> None:
    image = np.zeros((90, 90, 1), np.uint8)
    image[::3, ::3] = 255

    lines = tracing.in_ascii(image, columns=80).split("\n")

    assert lines == ["@" * 60] * 30


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What a person sees who runs a command in a terminal of 80 columns with all colours."""
    main, side = pty.openpty()
    known = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-m", "assets", *arguments],
        cwd=ROOT,
        env=environment(**known | {"PYTHONIOENCODING": "utf-8"} | variables),
        stdout=side,
        stderr=side,
    ):
        os.close(side)
        seen = b""
        try:
            while part := os.read(main, 1 << 16):
                seen += part
        except OSError:  # the other side is closed
            pass
    os.close(main)
    return seen.decode().replace("\r\n", "\n")


def pixels_in(seen: str) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Lines of half blocks as (colour above, colour below)."""
    block = r"\x1b\[38;2;(\d+;\d+;\d+)(?:;48;2;(\d+;\d+;\d+))?m▀\x1b\[0m"
    return [
        [tuple(tuple(map(int, rgb.split(";"))) if rgb else () for rgb in pair) for pair in found]  # type: ignore[misc]
        for line in seen.split("\n")
        if (found := re.findall(block, line))
    ]


def test_a_terminal_shows_the_picture_in_its_colours(built: Project) -> None:
    images, *_ = built.publisher.splits["tiny_colours", "train"]

    seen = on_a_terminal("trace", "tiny_colours/train:5", *built.options)

    expected = [
        [(tuple(above), tuple(below)) for above, below in zip(*pair, strict=True)]
        for pair in images[5].reshape(2, 2, 4, 3).tolist()
    ]
    assert pixels_in(seen) == expected
    assert "\x1b[32mholds" in seen


def test_a_grey_picture_with_an_odd_number_of_rows_ends_in_half_a_line(built: Project) -> None:
    images, *_ = built.publisher.splits["tiny_letters", "train"]

    lines = pixels_in(on_a_terminal("trace", "tiny_letters/train:5", *built.options))

    assert [len(line) for line in lines] == [5, 5, 5]
    assert [above for above, _ in lines[2]] == [(v, v, v) for v in images[5][4, :, 0].tolist()]
    assert [below for _, below in lines[2]] == [()] * 5


@pytest.mark.parametrize(
    "variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}], ids=str
)
def test_a_terminal_without_colours_shows_plain_text(
    built: Project, variables: dict[str, str]
) -> None:
    images, *_ = built.publisher.splits["tiny_letters", "train"]

    seen = on_a_terminal("trace", "tiny_letters/train:5", *built.options, **variables)

    assert "\x1b" not in seen
    assert tracing.in_ascii(images[5]) in seen


def test_the_picture_can_be_left_out(built: Project, command: Command) -> None:
    with_it = command("trace", "tiny_letters/train:5", *built.options).stdout
    without = command("trace", "tiny_letters/train:5", "--no-picture", *built.options).stdout

    picture = tracing.in_ascii(built.publisher.splits["tiny_letters", "train"][0][5])
    assert with_it.replace(f"{picture}\n\n", "") == without != with_it


def test_what_is_printed_reads_like_this(built: Project, command: Command) -> None:
    letters = built.publisher.archive("tiny_letters", "letters.zip").read_bytes()
    _, labels, _ = built.publisher.splits["tiny_letters", "train"]
    lines = (built.data / "exports/tiny_letters/train.csv").read_bytes().splitlines(keepends=True)
    start = sum(map(len, lines[:29]))
    came = provenance.latest(Folder(built.data), "archives/tiny_letters/letters.zip")
    assert came is not None

    said = command("trace", "exports/tiny_letters/train.csv:29", "--no-picture", *built.options)

    found = re.sub(r"retrieved \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "retrieved then", said.stdout)
    assert (
        found
        == f"""\
tiny_letters/train, record 29: {"ABCD"[labels[29]]} (label {labels[29]})

holds   csv         exports/tiny_letters/train.csv
        row 29, bytes {start:,} to {start + len(lines[29]):,}
holds   table       tables/tiny_letters/train.parquet
        row 29
holds   member      archives/tiny_letters/letters.zip/gzip/train-images.gz
        images: bytes 741 to 766, decompressed
holds   member      archives/tiny_letters/letters.zip/gzip/train-labels.gz
        labels: bytes 37 to 38, decompressed
holds   archive     archives/tiny_letters/letters.zip
        MD5     {hashlib.md5(letters).hexdigest()}
        SHA-256 {hashlib.sha256(letters).hexdigest()}
holds   origin      {came.facts["origin"]}
        retrieved then

All 6 hops hold.
"""
    )


def test_nothing_is_written_by_tracing(built: Project, command: Command) -> None:
    before = built.snapshot()
    for text in ("tiny_letters/train_lmdb:5", "tiny_colours/statistics", "tiny_digits/test_csv"):
        assert command("trace", text, *built.options).code == 0
    assert built.snapshot() == before


def test_forged_provenance_commands_no_terminal(built: Project, command: Command) -> None:
    origin = "https://example.org/\x1b]0;mine\x07[red]\x9b2J\u202e\rnice"
    for archive in ("train-images.gz", "train-labels.gz"):
        record = built.data / layout.lineage(layout.archive("tiny_digits", archive))
        said = json.loads(record.read_bytes())
        said["facts"] |= {"origin": origin}
        del said["digest"]
        record.write_text(json.dumps(said | {"digest": provenance._digest(said)}))

    lines = command("trace", "tiny_digits/train:5", "--no-picture", *built.options)
    as_json = command("trace", "tiny_digits/train:5", "--json", *built.options)

    for text in (lines.stdout, lines.stderr, as_json.stdout, as_json.stderr):
        assert declarations.CONTROLS.search(text) is None
    assert r"https://example.org/\u001b]0;mine\u0007[red]\u009b2J\u202e\u000dnice" in lines.stdout
    *_, last = json.loads(as_json.stdout)["hops"]
    assert last["url"] == origin, "JSON says the very same"


def test_a_problem_that_holds_commands_is_shown_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    hop = Hop("origin", "\x1b[2J", problem="expected this,\x1b[2J found \u202ethat")
    tracing.show(Chain("x\x9b", {"source": "tiny\x1b"}, None, (hop,)), picture=False)
    said = capsys.readouterr().out
    assert declarations.CONTROLS.search(said) is None
    assert r"expected this,\u001b[2J found \u202ethat" in said
