"""`verify`, `--repair` and `lock`: whatever is damaged is found, named, and healed."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import lmdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets import checks
from assets.running import runs
from assets.settings import ROOT
from pipelines import products, stages
from pipelines.exports import caffe_lmdb
from pipelines.lineage import deep, shallow
from pipelines.reading import opening
from pipelines.stages import DEFAULT
from pipelines.store import layout
from tests.assets.conftest import Command
from tests.assets.project import Project, environment, moved, of_all
from tests.waiting import within

pytestmark = pytest.mark.sources("tiny_digits")

ARCHIVE = "archives/tiny_digits/train-images.gz"
TABLE = "tables/tiny_digits/train.parquet"
STATISTICS = "statistics/tiny_digits.parquet"
CSV = "exports/tiny_digits/train.csv"
LMDB = "exports/tiny_digits/train_lmdb/data.mdb"
CROISSANT = "lineage/tiny_digits/croissant.json"
EVERY_KIND = [ARCHIVE, TABLE, STATISTICS, CSV, LMDB, CROISSANT]
OF_TABLE = [STATISTICS, CSV, LMDB, CROISSANT]
MADE_FROM = {TABLE: OF_TABLE, ARCHIVE: [TABLE, *OF_TABLE]}  # all of it since, so all in doubt


def verify(command: Command, project: Project, *options: str) -> tuple[int, list[tuple[str, str]]]:
    """Run `verify`; return the exit code, and (path, state) of all that is complained about."""
    said = command("verify", *options, *project.options, *project.mirror)
    if "--repair" not in options:  # nothing but how far it is
        others = [line for line in said.stderr.splitlines() if not line.startswith("verify")]
        assert others == []
    assert "Traceback" not in said.stderr
    complaints = re.findall(
        r"^(\S+): (missing|changed|stale|unknown|undeclared): ", said.stdout, re.M
    )
    return said.code, complaints


def flip(path: Path, at: int | None = None) -> None:
    """Change a byte and nothing else: not even the modification time."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def rerecord(project: Project, path: str, **more: Any) -> None:
    """Write a file's hash into its provenance, as a forger who has read the schema would."""
    data = (project.data / path).read_bytes()
    provenance = project.data / "lineage" / f"{path}.json"
    said = json.loads(provenance.read_text("utf-8"))
    del said["digest"]
    said |= {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "mtime_ns": (project.data / path).stat().st_mtime_ns,
    } | more
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    said["digest"] = hashlib.sha256(text.encode()).hexdigest()
    provenance.write_text(json.dumps(said))
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
        assert re.fullmatch(r"All 12 artefacts are whole \(\d+\.\d s\)\.\n", said.stdout)
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
    remade = {path, *MADE_FROM.get(path, ())}
    assert moved(before, after) == remade | {f"lineage/{p}.json" for p in remade}
    assert all(after[p][2] == before[p][2] for p in remade)
    assert verify(command, built, "--deep") == (0, [])


@pytest.mark.parametrize("path", EVERY_KIND)
def test_a_flipped_byte_in_provenance_is_found_and_healed(
    built: Project, command: Command, path: str
) -> None:
    provenance = built.data / "lineage" / f"{path}.json"
    flip(provenance, provenance.read_bytes().index(b'"host": "') + 9)

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


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_what_is_missing_stale_or_without_provenance_is_told_apart(
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


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_what_was_never_made_is_not_missing(project: Project, command: Command) -> None:
    said = command("verify", *project.options)
    assert said.code == 1
    assert "Nothing is built" in said.stderr
    project.build("tiny_digits", stages=["tables"])
    assert verify(command, project) == (0, [])
    said = command("verify", "tiny_letters", *project.options)
    assert said.code == 1
    assert "Nothing of tiny_letters is built" in said.stderr
    assert said.stderr.rstrip().endswith("python -m assets build tiny_letters")


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
    *_, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes() + last)


def _other_datum(path: Path) -> None:
    with (
        lmdb.open(str(path), subdir=False, lock=False) as database,
        database.begin(write=True) as transaction,
    ):
        datum = transaction.get(b"00000003")
        transaction.put(b"00000003", datum[:-1] + bytes([datum[-1] ^ 1]))


def _no_text(path: Path) -> None:
    table = pq.read_table(path)
    at, found = table.schema.get_field_index("class"), table["class"].combine_chunks()
    words = pa.array([b"\xff\xfe"] * len(found.dictionary), pa.binary()).view(pa.string())
    column = pa.DictionaryArray.from_arrays(found.indices, words)
    pq.write_table(table.set_column(at, table.schema.field(at), column), path)


def _other_free_space(path: Path) -> None:
    data = path.read_bytes()
    at = data.rindex(bytes(64)) + 32  # in the middle of a page that is not full
    path.write_bytes(data[:at] + b"!" + data[at + 1 :])


def _other_extremes(path: Path) -> None:
    """What readers that skip row groups go by, and all others never see."""
    found = pq.read_table(path)
    pq.write_table(found, path, write_statistics=False)


def _other_figure(path: Path) -> None:
    schema = pq.read_schema(path)
    found = pl.read_parquet(path).with_columns(pl.col("records") + 1)
    pq.write_table(found.to_arrow().cast(schema), path)


def _other_kind(path: Path) -> None:
    table = pq.read_table(path)
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, "label", table["label"].cast(pa.float64())), path)


def _other_text(path: Path) -> None:
    table = pq.read_table(path)
    at = table.schema.get_field_index("class")
    field = pa.field("class", pa.string(), nullable=False)
    pq.write_table(table.set_column(at, field, table["class"].cast(pa.string())), path)


def _one_column_less(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["class"]), path)


def _other_order(path: Path) -> None:
    table = pq.read_table(path)
    turned = table.take([*range(4, -1, -1), *range(5, len(table))])
    pq.write_table(turned.set_column(0, table.schema.field(0), table["index"]), path)


def _other_metadata(path: Path) -> None:
    table = pq.read_table(path)
    said = table.schema.metadata[b"imagesets"].replace(b"zero", b"null")
    pq.write_table(table.replace_schema_metadata({b"imagesets": said}), path)


def _next_float(path: Path) -> None:
    schema, rows = pq.read_schema(path), pl.read_parquet(path).to_dicts()
    rows[0]["std_intensity"] = math.nextafter(rows[0]["std_intensity"], math.inf)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _other_words(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace("Tiny", "Huge"), "utf-8")


@pytest.mark.parametrize(
    ("path", "forge", "words"),
    [
        (TABLE, _other_kind, "expected one column 'label' of uint8, found double"),
        (TABLE, _one_column_less, "column 'class' of dictionary<string>, found none"),
        (TABLE, _other_text, "its columns are index (uint32), label (uint8), class (string)"),
        (TABLE, _other_order, "record 1: label is "),
        (TABLE, _other_metadata, "its metadata are of another table"),
        (STATISTICS, _next_float, "std_intensity is not what"),
        (CROISSANT, _other_words, "its bytes are not those that the same libraries make"),
        (TABLE, _other_label, "record 3: label is "),
        (TABLE, _no_text, "it can't be read: "),
        (TABLE, _other_pixel, "record 3: pixel (row 0, column 0, channel 0) is "),
        (CSV, _other_line, "record 3: label: expected "),
        (CSV, _one_line_more, "it goes on after the last record"),
        (LMDB, _other_datum, "record 3: label: expected "),
        (LMDB, _other_free_space, "its bytes are not those that the same libraries make"),
        (TABLE, _other_extremes, "its bytes are not those that the same libraries make"),
        (STATISTICS, _other_figure, "records is not what"),
        (STATISTICS, _other_extremes, "its bytes are not those that the same libraries make"),
    ],
)
def test_a_forgery_whose_record_was_forged_too_is_found_by_looking_deep(
    built: Project, command: Command, path: str, forge: Callable[[Path], None], words: str
) -> None:
    forge(built.data / path)
    rerecord(built, path)

    said = command("verify", "--deep", "tiny_digits", *built.options)

    assert said.code == 1
    assert re.search(rf"^{re.escape(path)}: changed: .*{re.escape(words)}", said.stdout, re.M)


@pytest.mark.parametrize(
    ("path", "forge"),
    [
        (TABLE, _other_label),
        (STATISTICS, _next_float),
        (CROISSANT, _other_words),
        (CSV, _one_line_more),
        (LMDB, _other_free_space),
    ],
)
def test_a_forgery_of_every_kind_is_made_again_as_it_was(
    built: Project, command: Command, path: str, forge: Callable[[Path], None]
) -> None:
    genuine = (built.data / path).read_bytes()
    forge(built.data / path)
    rerecord(built, path)

    assert verify(command, built, "--deep", "--repair", "tiny_digits")[0] == 0
    assert (built.data / path).read_bytes() == genuine
    assert verify(command, built, "--deep", "tiny_digits") == (0, [])


def test_what_other_libraries_made_is_compared_record_by_record(
    built: Project, command: Command
) -> None:
    provenance = json.loads((built.data / f"lineage/{LMDB}.json").read_text("utf-8"))
    run = provenance["run"] | {"versions": provenance["run"]["versions"] | {"lmdb": "another"}}
    _other_free_space(built.data / LMDB)
    rerecord(built, LMDB, run=run)
    assert verify(command, built, "--deep") == (0, []), "no reader can see that"
    _other_datum(built.data / LMDB)
    rerecord(built, LMDB, run=run)
    said = command("verify", "--deep", *built.options)
    assert f"{LMDB}: changed: record 3: label: expected " in said.stdout


def test_another_python_is_no_reason_for_other_bytes(built: Project, command: Command) -> None:
    provenance = json.loads((built.data / f"lineage/{LMDB}.json").read_text("utf-8"))
    run = provenance["run"] | {"versions": provenance["run"]["versions"] | {"python": "3.0"}}
    _other_free_space(built.data / LMDB)
    rerecord(built, LMDB, run=run)
    said = command("verify", "--deep", *built.options)
    assert f"{LMDB}: changed: its bytes are not those that the same libraries" in said.stdout


def test_an_lmdb_of_a_machine_with_other_pages_is_compared_record_by_record(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caffe_lmdb, "PAGE_BYTES", 4 * caffe_lmdb.PAGE_BYTES)  # here, from now on
    _other_free_space(built.data / LMDB)
    rerecord(built, LMDB)
    assert verify(command, built, "--deep") == (0, []), "no reader can see that"
    _other_datum(built.data / LMDB)
    rerecord(built, LMDB)
    said = command("verify", "--deep", *built.options)
    assert f"{LMDB}: changed: record 3: label: expected " in said.stdout


def test_an_export_of_other_libraries_is_read_once_from_its_start(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some can be read from their start alone: batch by batch that would take ever longer."""
    built.build("tiny_digits", stages=["npz"])
    known = products.known()["npz"]
    asked: list[tuple[str, int, int]] = []

    def read(path: Path, subject: products.Subject, start: int, stop: int) -> Any:
        asked.append((subject.split.name, start, stop))
        assert known.read is not None
        return known.read(path, subject, start, stop)

    monkeypatch.setitem(cast(Any, products.known()), "npz", replace(known, read=read))
    monkeypatch.setattr(deep, "_same_libraries", lambda _made: False)
    monkeypatch.setattr(opening, "BATCH_RECORDS", 4)

    assert verify(command, built, "--deep") == (0, [])

    assert sorted(asked) == [("test", 0, 12), ("test", 12, 13), ("train", 0, 30), ("train", 30, 31)]


def test_who_looks_deep_beside_another_waits_for_a_turn(built: Project) -> None:
    store, plan = built.settings().store, built.settings().plan()
    [digits] = plan.declared.select(["tiny_digits"])
    whole = {one.path for one in plan.of([digits], stages.DEFAULT)}
    of_the_other = list[shallow.Verdict]()

    def look() -> None:
        of_the_other.extend(deep.verify(store, plan, digits, whole))

    other = threading.Thread(target=look)

    def begin_another(_records: int) -> None:
        if other.ident is None:
            other.start()
            other.join(1)  # it gets no further than to the lock

    found = deep.verify(store, plan, digits, whole, begin_another)
    other.join(60)
    assert found == of_the_other
    assert {verdict.condition for verdict in found} == {"whole"}


def test_repairing_begins_at_the_nearest_ancestor_that_is_whole(
    built: Project, command: Command
) -> None:
    before = built.snapshot(lineage=False)
    shutil.rmtree(built.data / "archives")
    shutil.rmtree(built.data / "lineage/archives")
    flip(built.data / CSV)
    assert verify(command, built) == (1, [(CSV, "changed")]), "archives were never made"
    assert verify(command, built, "--repair")[0] == 0
    assert not (built.data / "archives").exists(), "the table is whole: nothing else is needed"

    (built.data / TABLE).unlink()
    (built.data / f"lineage/{TABLE}.json").unlink()
    flip(built.data / CSV)
    assert verify(command, built, "--repair")[0] == 0
    assert verify(command, built, "--deep", "tiny_digits") == (0, [])
    archives = {path for path in before if path.startswith("archives/")}
    assert archives
    assert moved(before, built.snapshot(lineage=False)) == {*archives, TABLE, CSV}


def test_what_no_mirror_has_any_more_stays_known_and_is_whole_when_it_is_put_back(
    built: Project, command: Command
) -> None:
    shutil.rmtree(built.publisher.mirror)
    provenance = built.data / f"lineage/{ARCHIVE}.json"
    facts = json.loads(provenance.read_text("utf-8"))["facts"]
    for path in (ARCHIVE, TABLE):
        flip(built.data / path)

    said = command("verify", "--repair", *built.options, *built.mirror)

    assert said.code == 1
    assert "train-images.gz" in said.stderr
    assert "could not be had" in said.stderr
    assert verify(command, built) == (1, [(ARCHIVE, "changed"), (TABLE, "changed")])
    flip(built.data / ARCHIVE)
    assert verify(command, built) == (1, [(TABLE, "changed")])
    assert verify(command, built, "--repair")[0] == 0
    assert verify(command, built, "--deep") == (0, [])
    assert json.loads(provenance.read_text("utf-8"))["facts"] == facts


def test_a_catalogue_that_moved_on_makes_stale_and_ends_nothing(
    built: Project, command: Command
) -> None:
    toml = built.publisher.toml("tiny_digits")
    [counts] = re.findall(r"records = 30\ncounts = \[(\d+)", toml.read_text())
    built.redeclare(
        "tiny_digits",
        f"records = 30\ncounts = [{counts}",
        f"records = 31\ncounts = [{int(counts) + 1}",
    )
    code, complaints = verify(command, built, "--deep", "--repair", "tiny_digits")
    assert code == 1
    assert (TABLE, "stale") in complaints


UNREADABLE = Path("/proc/self/mem")  # a regular file whose first byte even root can't read


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="only Linux has a file that nobody can read")
@pytest.mark.parametrize("path", [ARCHIVE, TABLE, CSV, CROISSANT])
def test_what_can_not_be_read_is_named_everywhere_and_made_again(
    built: Project, command: Command, path: str
) -> None:
    before = (built.data / path).read_bytes()
    (built.data / path).unlink()
    (built.data / path).symlink_to(UNREADABLE)

    said = command("verify", *built.options)
    assert (said.code, f"{path}: changed: it can't be read" in said.stdout) == (1, True)
    said = lock(command, built, "tiny_digits")
    assert (said.code, f"{path} must be made first: it can't be read" in said.stderr) == (1, True)
    assert command("list", *built.options).code == 0
    if path != CROISSANT:
        assert command("trace", path, *built.options).code == 1

    assert verify(command, built, "--repair")[0] == 0
    assert (built.data / path).read_bytes() == before
    assert verify(command, built, "--deep") == (0, [])


def test_repairing_ends_where_what_was_repaired_is_damaged_again_and_again(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or a memory that fails: other bytes each time."""
    number = itertools.count()
    real = shallow.hash_files

    def look(*arguments: Any) -> Any:
        with (built.data / CSV).open("ab") as file:
            file.write(b"%d" % next(number))
        return real(*arguments)

    monkeypatch.setattr(shallow, "hash_files", look)
    assert verify(command, built, "--repair") == (1, [(CSV, "changed")] * 2)


def test_a_folder_in_the_place_of_provenance_is_named_by_repairing(
    built: Project, command: Command
) -> None:
    provenance = built.data / f"lineage/{CSV}.json"
    provenance.unlink()
    provenance.mkdir()
    said = command("verify", "--repair", *built.options)
    assert said.code == 1
    assert "train.csv.json can't be written: Is a directory." in said.stderr


def test_what_somebody_makes_again_while_everything_is_read_is_whole(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shallow.hash_files

    def look(*arguments: Any) -> Any:
        found = real(*arguments)
        built.build("tiny_digits", csv_header=True)
        return found

    monkeypatch.setattr(shallow, "hash_files", look)
    options = [*built.options, "--csv-header"]
    assert command("verify", "tiny_digits", *options).code == 0


def test_looking_deep_removes_nothing_but_what_it_made(built: Project, command: Command) -> None:
    """Whoever names a folder of their own with --data may keep more in it."""
    notes = built.data / ".scratch/notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    left = built.data / layout.SCRATCH / "table.parquet"  # by a process that was killed
    left.parent.mkdir()
    left.write_bytes(b"half")
    assert verify(command, built, "--deep") == (0, [])
    assert notes.read_text() == "mine"
    assert not left.parent.exists()


def test_nothing_is_compared_with_an_archive_that_is_damaged_itself(
    built: Project, command: Command
) -> None:
    flip(built.data / ARCHIVE)
    assert verify(command, built, "--deep") == (1, [(ARCHIVE, "changed")])


@of_all
def test_what_can_not_be_compared_is_not_called_whole_by_looking_deep(
    built: Project, command: Command
) -> None:
    shutil.rmtree(built.data / "archives/tiny_digits")
    shutil.rmtree(built.data / "lineage/archives/tiny_digits")
    assert verify(command, built) == (0, [])
    said = command("verify", "--deep", *built.options)
    assert said.code == 1
    assert re.search(
        r"^\S+ and 7 more: uncompared: not all of its archives are here", said.stdout, re.M
    )
    assert "8 of 26 artefacts could not be compared; all have the bytes" in said.stdout
    assert verify(command, built, "--deep", "--repair")[0] == 0
    assert verify(command, built, "--deep") == (0, [])


def test_what_was_made_from_a_forged_table_is_changed_too(built: Project, command: Command) -> None:
    _other_label(built.data / TABLE)
    rerecord(built, TABLE)
    forged = hashlib.sha256((built.data / TABLE).read_bytes()).hexdigest()
    said = json.loads((built.data / f"lineage/{STATISTICS}.json").read_text("utf-8"))
    for one in said["inputs"]:
        if one["path"] == TABLE:
            one |= {"sha256": forged, "size_bytes": (built.data / TABLE).stat().st_size}
    rerecord(built, STATISTICS, inputs=said["inputs"])

    found = command("verify", "--deep", "tiny_digits", *built.options)

    assert found.code == 1
    assert f"{STATISTICS}: changed: it was made from {TABLE} with wrong bytes" in found.stdout


def test_without_room_to_make_an_export_again_looking_deep_says_so_and_leaves_nothing(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(built.data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=10))
    said = command("verify", "--deep", "tiny_digits", *built.options)
    assert said.code == 1
    assert re.search(r"has [\d,]+ bytes, but only 10 are free to make it again in", said.stderr)
    assert not (built.data / layout.SCRATCH).exists()


def test_a_csv_with_a_header_is_compared_too(built: Project, command: Command) -> None:
    built.build("tiny_digits", csv_header=True)
    assert verify(command, built, "--deep", "--csv-header", "tiny_digits") == (0, [])
    _other_line(built.data / CSV)
    assert verify(command, built, "--csv-header", "tiny_digits") == (1, [(CSV, "changed")])


# --- lock -----------------------------------------------------------------------------------------


def lock(command: Command, project: Project, *arguments: str) -> Any:
    return command("lock", *arguments, *project.options)


@of_all
def test_the_lock_is_the_same_in_another_folder_and_after_another_build(
    built: Project, tmp_path: Path, command: Command
) -> None:
    other = built.copied_to(tmp_path / "other")
    shutil.rmtree(other.data)
    other.build()
    here, there = (lock(command, one).stdout for one in (built, other))
    assert here == there
    assert re.fullmatch(r"(tiny_\w+  sha256:[0-9a-f]{64}\n){3}", here)


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_the_lock_is_of_what_is_built_unless_it_is_named(
    project: Project, command: Command
) -> None:
    said = lock(command, project)
    assert (said.code, said.stdout) == (1, "")
    assert "Nothing is built" in said.stderr
    project.build("tiny_letters")
    said = lock(command, project)
    assert said.code == 0
    assert re.fullmatch(r"tiny_letters  sha256:[0-9a-f]{64}\n", said.stdout)
    assert "must be made first" in lock(command, project, "tiny_digits").stderr


@pytest.mark.sources("tiny_digits", "tiny_letters")
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


@pytest.mark.sources("tiny_digits", "tiny_letters")
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


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 1, "can't be read as lines of `lock`"),
        (b"", 1, "has no line of `lock`"),
        (b"\n\n", 1, "has no line of `lock`"),
        ("tiny_digits".encode("utf-16"), 1, "can't be read as lines of `lock`"),
        (b"tiny_digits\n", 1, "line 1: expected `DATASET  sha256:"),
        (b"\ntiny_digits  sha256:12\n", 1, "line 2: expected `DATASET  sha256:"),
        (b"tiny_digit  sha256:" + b"0" * 64, 2, "no dataset 'tiny_digit'. Did you mean"),
    ],
)
def test_what_is_no_lock_is_refused_in_words(
    built: Project, command: Command, tmp_path: Path, text: bytes | None, code: int, words: str
) -> None:
    if text is not None:
        (tmp_path / "data.lock").write_bytes(text)
    said = lock(command, built, "--check", str(tmp_path / "data.lock"))
    assert (said.code, said.stdout) == (code, "")
    assert words in said.stderr


def test_a_lock_that_contradicts_itself_is_refused(
    built: Project, command: Command, tmp_path: Path
) -> None:
    kept = tmp_path / "data.lock"
    line = lock(command, built, "tiny_digits").stdout
    kept.write_text(line + line)
    assert lock(command, built, "--check", str(kept)).code == 0
    kept.write_text(f"tiny_digits  sha256:{'0' * 64}\n{line}")
    said = lock(command, built, "--check", str(kept))
    assert (said.code, said.stdout) == (1, "")
    assert "data.lock, line 2: another line says otherwise of tiny_digits" in said.stderr


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_a_lock_may_have_been_through_another_editor_and_be_checked_in_part(
    built: Project, command: Command, tmp_path: Path
) -> None:
    kept = tmp_path / "data.lock"
    lines = lock(command, built).stdout.replace("\n", " \r\n")
    kept.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (built.data / TABLE).unlink()
    assert lock(command, built, "--check", str(kept)).code == 1
    said = lock(command, built, "tiny_letters", "--check", str(kept))
    assert (said.code, said.stdout) == (0, "tiny_letters: as locked\n")
    kept.write_text(kept.read_text("utf-8-sig").splitlines()[0])
    said = lock(command, built, "tiny_letters", "--check", str(kept))
    assert (said.code, said.stdout) == (2, "")
    assert "has no line for tiny_letters" in said.stderr


# --- what Dagster is told -------------------------------------------------------------------------


def evaluated(project: Project, asset: str, check: str) -> list[tuple[bool, str | None, float]]:
    """Whether a check passed, why not, and when it was told; the latest first."""
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    with runs.records(project.settings()) as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(key, 9)
    told = [record.event for record in records if record.event]
    found = [(event.timestamp, event.asset_check_evaluation) for event in told]
    return [(one.passed, one.description, at) for at, one in found if one]


def test_every_asset_is_told_to_have_the_bytes_recorded_by_the_step_that_made_them(
    built: Project,
) -> None:
    built.build("tiny_digits", stages=["npz"])
    plan = built.plan()
    default = plan.assets(plan.of(plan.declared.datasets.values(), DEFAULT))
    for asset in ["/".join(one) for one in default] + ["tiny_digits/npz"]:
        told = evaluated(built, asset, "bytes_as_recorded")
        assert {(passed, why) for passed, why, _ in told} == {(True, None)}, asset
        assert evaluated(built, asset, "records_as_archived") == []


def test_the_very_asset_turns_red_with_the_time_and_green_again_when_it_is_repaired(
    built: Project, command: Command
) -> None:
    flip(built.data / CSV)
    before = time.time()
    assert verify(command, built) == (1, [(CSV, "changed")])
    after = time.time()

    (passed, why, at), *_ = evaluated(built, "tiny_digits/train_csv", "bytes_as_recorded")
    assert not passed
    assert why
    assert why.startswith(f"{CSV}: changed: its bytes changed since it was made: SHA-256 ")
    assert before <= at <= after
    (passed, _, at), *_ = evaluated(built, "tiny_digits/test_csv", "bytes_as_recorded")
    assert passed
    assert before <= at <= after, "it was looked at, too"

    assert verify(command, built, "--repair")[0] == 0
    assert evaluated(built, "tiny_digits/train_csv", "bytes_as_recorded")[0][0]


def test_a_build_that_makes_it_again_turns_it_green(built: Project, command: Command) -> None:
    flip(built.data / CSV)
    assert verify(command, built)[0] == 1
    built.build("tiny_digits")
    assert evaluated(built, "tiny_digits/train_csv", "bytes_as_recorded")[0][0]


def test_what_differs_from_the_archives_is_told_of_the_records_not_of_the_bytes(
    built: Project, command: Command
) -> None:
    _other_label(built.data / TABLE)
    rerecord(built, TABLE)
    assert command("verify", "--deep", "tiny_digits", *built.options).code == 1

    (passed, why, _), *_ = evaluated(built, "tiny_digits/train", "records_as_archived")
    assert not passed
    assert why
    assert f"{TABLE}: changed: record 3: label is " in why
    assert evaluated(built, "tiny_digits/train", "bytes_as_recorded")[0][0]
    assert evaluated(built, "tiny_digits/test", "records_as_archived")[0][0]
    assert verify(command, built, "--deep", "--repair", "tiny_digits")[0] == 0
    assert evaluated(built, "tiny_digits/train", "records_as_archived")[0][0]


@pytest.mark.parametrize("gone", ["dagster", "dagster/history"])
def test_where_there_are_no_records_of_dagster_it_is_not_loaded_and_none_are_made(
    built: Project, gone: str
) -> None:
    shutil.rmtree(built.data / gone)
    script = (
        "import sys; from assets.command_line import main; code = main(sys.argv[1:]); "
        "print('dagster' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "verify", *built.options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False"), done.stderr
    assert not (built.data / gone).exists()


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_records_of_dagster_that_are_damaged_change_nothing_but_a_warning(
    built: Project, command: Command
) -> None:
    (built.data / "dagster/history/runs/index.db").write_bytes(b"no database" * 999)
    flip(built.data / CSV)
    for options, code in (([], 1), (["tiny_letters"], 0)):
        said = command("verify", *options, *built.options)
        assert said.code == code
        assert "Dagster was not told what was found. " in said.stderr
        assert "Traceback" not in said.stderr


def test_where_dagster_can_not_be_loaded_all_that_is_whole_is_whole(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "assets.running.integrity", raising=False)
    monkeypatch.setitem(sys.modules, "dagster", None)

    said = command("verify", *built.options)

    assert said.code == 0
    assert "Dagster was not told what was found. import of dagster halted" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_verified_without_a_word_to_dagster(
    built: Project, command: Command
) -> None:
    folders = [path for path in (built.data, *built.data.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        said = command("verify", *built.options)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert said.code == 0
    assert "Dagster" not in said.stderr


@pytest.mark.parametrize("job", ["verify", "refresh"])
def test_jobs_tell_of_what_they_read_in_their_own_run(built: Project, job: str) -> None:
    flip(built.data / CSV)
    mirror = str(built.publisher.mirror)
    with runs.records(built.settings()) as instance:
        found = built.definitions(mirror).resolve_job_def(job)
        result = found.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is (job == "refresh")
    told = evaluated(built, "tiny_digits/train_csv", "bytes_as_recorded")
    passed = [passed for passed, _, _ in told]
    assert passed == ([True, False, True] if job == "refresh" else [False, True])


def test_the_checks_can_be_executed_by_themselves_and_wait_for_nobody(built: Project) -> None:
    definitions = built.definitions(str(built.publisher.mirror))
    graph = definitions.resolve_asset_graph()
    keys = {key for key in graph.asset_check_keys if key.name in (checks.BYTES, checks.RECORDS)}
    assert {key.asset_key for key in keys} == graph.materializable_asset_keys
    assert not any(graph.get_check_spec(key).blocking for key in keys)
    for name in ("everything", "everything_of_tiny_digits", "archives", "tables", "exports"):
        in_job = definitions.resolve_job_def(name).asset_layer.asset_graph.asset_check_keys
        assert not keys & in_job, name

    flip(built.data / CSV)
    asset = dg.AssetKey(["tiny_digits", "train_csv"])
    asked = {dg.AssetCheckKey(asset, name) for name in (checks.BYTES, checks.RECORDS)}
    job = definitions.resolve_implicit_global_asset_job_def()
    with runs.records(built.settings()) as instance:
        result = job.get_subset(
            asset_selection=set(), asset_check_selection=asked
        ).execute_in_process(instance=instance)
    assert result.success, "a check tells; it stops nothing"
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    severities = {name: (one.passed, one.severity) for name, one in found.items()}
    assert severities == {
        checks.BYTES: (False, dg.AssetCheckSeverity.ERROR),
        checks.RECORDS: (False, dg.AssetCheckSeverity.WARN),
    }, "other bytes than recorded are compared with nothing"


def test_a_run_that_finds_an_asset_as_it_was_leaves_what_was_found_of_it(built: Project) -> None:
    asset = dg.AssetKey(["tiny_digits", "train_csv"])
    asked = {dg.AssetCheckKey(asset, name) for name in (checks.BYTES, checks.RECORDS)}
    job = built.definitions(str(built.publisher.mirror)).resolve_implicit_global_asset_job_def()

    def materialized(instance: dg.DagsterInstance) -> dict[str, bool]:
        some = job.get_subset(asset_selection={asset}, asset_check_selection=asked)
        result = some.execute_in_process(instance=instance)
        assert result.success
        return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}

    with runs.records(built.settings()) as instance:
        red = checks.integrity(asset.path, checks.RECORDS, ["its label was forged"], 1, 0.0)
        instance.report_runless_asset_event(red)
        assert materialized(instance)[checks.RECORDS] is False, "nothing was read, and it stands"
        assert materialized(instance)[checks.RECORDS] is False, "for good"

        (built.data / CSV).unlink()
        assert materialized(instance) == {checks.BYTES: True}, "that was of other bytes"
