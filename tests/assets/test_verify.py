"""`verify`, `--repair` and `lock`: whatever is damaged is found, named, and healed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.assets.conftest import Command
from tests.assets.project import Project, moved

ARCHIVE = "archives/tiny_digits/train-images.gz"
TABLE = "tables/tiny_digits/train.parquet"
STATISTICS = "statistics/tiny_digits.parquet"
CSV = "exports/tiny_digits/train.csv"
LMDB = "exports/tiny_digits/train_lmdb/data.mdb"
CROISSANT = "lineage/tiny_digits/croissant.json"
EVERY_KIND = [ARCHIVE, TABLE, STATISTICS, CSV, LMDB, CROISSANT]


def verify(command: Command, project: Project, *options: str) -> tuple[int, list[tuple[str, str]]]:
    """Run `verify`; return the exit code, and (path, state) of all that is complained about."""
    said = command("verify", *options, *project.options, *project.mirror)
    assert said.stderr == "" or "verify" in said.stderr
    complaints = re.findall(r"^(\S+): (missing|changed|stale|unknown): ", said.stdout, re.M)
    return said.code, complaints


def flip(path: Path, at: int | None = None) -> None:
    """Change a byte and nothing else: not even the modification time."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def rerecord(project: Project, path: str) -> None:
    """Write a file's hash into its record, as a forger who has read the schema would."""
    data = (project.data / path).read_bytes()
    record = project.data / "lineage" / f"{path}.json"
    said = json.loads(record.read_text("utf-8"))
    del said["digest"]
    said |= {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "mtime_ns": (project.data / path).stat().st_mtime_ns,
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    said["digest"] = hashlib.sha256(text.encode()).hexdigest()
    record.write_text(json.dumps(said))
    sidecar = project.data / f"{path}.lineage.json"
    if sidecar.exists():
        beside = json.loads(sidecar.read_text("utf-8"))
        beside |= {"sha256": said["sha256"], "size_bytes": said["size_bytes"]}
        sidecar.write_text(json.dumps(beside, indent=1, ensure_ascii=False) + "\n", "utf-8")


def test_what_was_just_built_is_whole_and_nothing_is_written(
    built: Project, command: Command
) -> None:
    before = built.snapshot()
    for options in ([], ["--deep"]):
        said = command("verify", *options, *built.options)
        assert said.code == 0
        assert re.fullmatch(r"All 30 artefacts are whole \(\d+\.\d s\)\.\n", said.stdout)
    assert moved(before, built.snapshot()) == set()


@pytest.mark.parametrize("path", EVERY_KIND)
def test_a_flipped_byte_is_found_in_every_kind_of_artefact_and_healed(
    built: Project, command: Command, path: str
) -> None:
    before = built.snapshot()
    flip(built.data / path)

    assert verify(command, built) == (1, [(path, "changed")])
    assert verify(command, built, "--repair")[0] == 0

    after = built.snapshot()
    assert moved(before, after) == {path, f"lineage/{path}.json"}, "just what was not whole"
    assert after[path][2] == before[path][2]
    assert verify(command, built, "--deep") == (0, [])


@pytest.mark.parametrize("path", EVERY_KIND)
def test_a_flipped_byte_in_a_record_is_found_and_healed(
    built: Project, command: Command, path: str
) -> None:
    record = built.data / "lineage" / f"{path}.json"
    flip(record, record.read_bytes().index(b'"host": "') + 9)

    assert verify(command, built) == (1, [(path, "unknown")])
    assert verify(command, built, "--repair")[0] == 0

    assert verify(command, built) == (0, [])


@pytest.mark.parametrize("path", [CSV, LMDB])
def test_a_flipped_byte_in_a_sidecar_is_found_and_healed(
    built: Project, command: Command, path: str
) -> None:
    flip(built.data / f"{path}.lineage.json")
    assert verify(command, built) == (1, [(path, "changed")])
    assert verify(command, built, "--repair")[0] == 0
    assert verify(command, built) == (0, [])


def test_everything_at_once_is_found_and_healed(built: Project, command: Command) -> None:
    before = built.snapshot()
    for path in EVERY_KIND:
        flip(built.data / path)
    assert sorted(verify(command, built)[1]) == sorted((path, "changed") for path in EVERY_KIND)
    assert verify(command, built, "--repair")[0] == 0
    assert verify(command, built, "--deep") == (0, [])
    assert {path: found[2] for path, found in built.snapshot(lineage=False).items()} == {
        path: found[2] for path, found in before.items() if "lineage" not in path
    }


def test_what_is_missing_stale_or_without_a_record_is_told_apart(
    built: Project, command: Command
) -> None:
    (built.data / CSV).unlink()
    (built.data / "lineage" / f"{LMDB}.json").unlink()
    built.redeclare("tiny_letters", '"A"', '"Alpha"')
    code, complaints = verify(command, built)
    assert code == 1
    assert complaints[:2] == [(CSV, "missing"), (LMDB, "unknown")]
    assert {(path.split("/")[1], state) for path, state in complaints[2:]} == {
        ("tiny_letters", "stale"),
        ("tiny_letters.parquet", "stale"),
    }
    assert verify(command, built, "--repair")[0] == 0
    assert verify(command, built) == (0, [])


def test_what_was_never_made_is_not_missing(project: Project, command: Command) -> None:
    said = command("verify", *project.options)
    assert said.code == 1
    assert "Nothing is built" in said.stderr
    project.build("tiny_digits", stages=["tables"])
    assert verify(command, project) == (0, [])


def _other_label(path: Path) -> None:
    table = pq.read_table(path)
    labels = table["label"].to_pylist()
    labels[3] = (labels[3] + 1) % 3
    at = table.schema.get_field_index("label")
    column = pa.chunked_array([pa.array(labels, pa.uint8())])
    pq.write_table(table.set_column(at, table.schema.field("label"), column), path)


def _other_pixel(path: Path) -> None:
    table = pq.read_table(path)
    pixels = table["pixels"].to_pylist()
    pixels[3] = bytes([pixels[3][0] ^ 1]) + pixels[3][1:]
    at = table.schema.get_field_index("pixels")
    column = pa.chunked_array([pa.array(pixels, table.schema.field("pixels").type)])
    pq.write_table(table.set_column(at, table.schema.field("pixels"), column), path)


def _other_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"9" + lines[3][1:]
    path.write_bytes(b"".join(lines))


def _one_line_more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0\n")


def _other_datum(path: Path) -> None:
    with (
        lmdb.open(str(path), subdir=False, lock=False) as database,
        database.begin(write=True) as transaction,
    ):
        datum = transaction.get(b"00000003")
        transaction.put(b"00000003", datum[:-1] + bytes([datum[-1] ^ 1]))


def _other_figure(path: Path) -> None:
    schema = pq.read_schema(path)
    found = pl.read_parquet(path).with_columns(pl.col("records") + 1)
    pq.write_table(found.to_arrow().cast(schema), path)


@pytest.mark.parametrize(
    ("path", "forge", "words"),
    [
        (TABLE, _other_label, "record 3: label is "),
        (TABLE, _other_pixel, "record 3: pixel (row 0, column 0, channel 0) is "),
        (CSV, _other_line, "record 3: its line"),
        (CSV, _one_line_more, "it goes on after the last record"),
        (LMDB, _other_datum, "record 3: its datum is not what"),
        (STATISTICS, _other_figure, "records is not what"),
    ],
)
def test_a_forgery_whose_record_was_forged_too_is_found_by_looking_deep(
    built: Project, command: Command, path: str, forge: Callable[[Path], None], words: str
) -> None:
    genuine = (built.data / path).read_bytes()
    forge(built.data / path)
    rerecord(built, path)

    said = command("verify", "--deep", *built.options)

    assert said.code == 1
    assert re.search(rf"^{re.escape(path)}: changed: .*{re.escape(words)}", said.stdout, re.M)
    assert verify(command, built, "--deep", "--repair")[0] == 0
    assert (built.data / path).read_bytes() == genuine
    assert verify(command, built, "--deep") == (0, [])


def test_nothing_is_compared_with_an_archive_that_is_damaged_itself(
    built: Project, command: Command
) -> None:
    flip(built.data / ARCHIVE)
    assert verify(command, built, "--deep") == (1, [(ARCHIVE, "changed")])


def test_a_csv_with_a_header_is_compared_too(built: Project, command: Command) -> None:
    built.build("tiny_digits", csv_header=True)
    assert verify(command, built, "--deep", "--csv-header", "tiny_digits") == (0, [])
    _other_line(built.data / CSV)
    assert verify(command, built, "--csv-header", "tiny_digits") == (1, [(CSV, "changed")])


# --- lock -----------------------------------------------------------------------------------------


def lock(command: Command, project: Project, *arguments: str) -> Any:
    return command("lock", *arguments, *project.options)


def test_the_lock_is_the_same_in_another_folder_and_after_another_build(
    built: Project, tmp_path: Path, command: Command
) -> None:
    other = built.copied_to(tmp_path / "other")
    shutil.rmtree(other.data)
    other.build()
    here, there = (lock(command, one).stdout for one in (built, other))
    assert here == there
    assert re.fullmatch(r"(tiny_\w+  sha256:[0-9a-f]{64}\n){3}", here)


def test_the_lock_is_what_sha256sum_says_hashed_once_more(built: Project, command: Command) -> None:
    paths = sorted(
        [
            "lineage/tiny_letters/croissant.json",
            *(
                str(path.relative_to(built.data))
                for kind in ("archives", "tables", "statistics", "exports")
                for path in (built.data / kind).rglob("*")
                if path.is_file() and "tiny_letters" in str(path) and path.suffix != ".json"
            ),
        ]
    )
    digests = (hashlib.sha256((built.data / path).read_bytes()).hexdigest() for path in paths)
    text = "".join(f"{digest}  {path}\n" for digest, path in zip(digests, paths, strict=True))
    said = lock(command, built, "tiny_letters")
    assert said.stdout == f"tiny_letters  sha256:{hashlib.sha256(text.encode()).hexdigest()}\n"


def test_a_lock_that_was_kept_is_held_against_what_is_there(
    built: Project, command: Command, tmp_path: Path
) -> None:
    kept = tmp_path / "data.lock"
    kept.write_text(lock(command, built).stdout)
    assert lock(command, built, "--check", str(kept)).code == 0

    built.build(csv_header=True)
    said = command("lock", "--check", str(kept), "--csv-header", *built.options)

    assert said.code == 1
    assert "tiny_letters: differs: tiny_letters  sha256:" in said.stdout
    (built.data / TABLE).unlink()
    said = lock(command, built, "tiny_digits", "--csv-header")
    assert said.code == 1
    assert f"{TABLE} must be made first: it is not there" in said.stderr


def test_an_lmdb_that_was_cut_is_reported_and_not_opened(built: Project, command: Command) -> None:
    with (built.data / LMDB).open("rb+") as file:
        file.truncate(8192)
    assert verify(command, built, "--deep") == (1, [(LMDB, "changed")])
