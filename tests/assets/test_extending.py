"""What people add is one module, or one file of facts: everything knows of it then.

Each test adds an example of CONTRIBUTING.md as it stands there, and edits nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.definitions import automated
from assets.running import turns
from assets.settings import variables
from pipelines import catalogue, descriptions, exports, plan, products, stages
from pipelines.store import Folder, hashing, provenance
from tests import builders
from tests.assets.conftest import Command
from tests.assets.project import Project, made, of_all
from tests.assets.test_verify import rerecord
from tests.contributing import DATASET, DESCRIPTION, EXPORT

pytestmark = pytest.mark.sources("tiny_digits")

APPLIES = "applies=lambda dataset: dataset.image.channels == 1"
OF_GREY = EXPORT.replace("    write=write,", f"    {APPLIES},\n    write=write,")

FOLDER = '''
"""A file of pixels and one of each kind of labels for each split, in one folder."""

import numpy as np

from pipelines import tables
from pipelines.products import Product, Stored
from pipelines.records import Batch


def write(inputs, goal, chosen, advance):
    for split, table in inputs.tables.items():
        (goal / split).mkdir()
        batch = tables.read(table)
        (goal / split / "pixels").write_bytes(batch.images.tobytes())
        (goal / split / "labels").write_bytes(batch.labels.tobytes())
        if batch.coarse_labels is not None:
            (goal / split / "coarse").write_bytes(batch.coarse_labels.tobytes())
        advance(len(batch))
    return {"records": inputs.subject.records}


def read(path, subject, start, stop):
    size, shape = subject.dataset.image.size_bytes, (1, *subject.dataset.image.shape)
    folder = path / subject.split.name
    pixels, labels = (folder / "pixels").read_bytes(), (folder / "labels").read_bytes()
    for at in range(start, min(stop, len(labels))):
        image = np.frombuffer(pixels, np.uint8, size, at * size).reshape(shape)
        label = np.array([labels[at]], np.uint8)
        coarse = folder / "coarse"
        coarse = np.fromfile(coarse, np.uint8, 1, offset=at) if coarse.exists() else None
        yield Stored(Batch(image, label, coarse), at * size, (at + 1) * size)


EXPORT = Product(
    name="plain",
    title="as plain bytes: a folder of files.",
    scope="dataset",
    files="exports/{dataset}/plain/",
    code_version="1",
    write=write,
    read=read,
    libraries=("numpy",),
)
'''

UNPACKED = '''
"""The files of an IDX dataset as they are published, unpacked, in one folder."""

import shutil

from pipelines import formats
from pipelines.archives import members
from pipelines.products import Product, Stored
from pipelines.records import Members, Place


def write(inputs, goal, chosen, advance):
    assert list(inputs.paths) == [known.path for known in inputs.known]
    [folder] = {path.parent for path in inputs.paths.values()}
    for split in inputs.subject.splits:
        with members.opened(folder) as open_member:
            for role, [member] in split.members.items():
                stream, buffer = open_member(member), memoryview(bytearray(4096))
                with (goal / f"{split.name}-{role}").open("wb") as file:
                    while got := stream.readinto(buffer):
                        file.write(buffer[:got])
        advance(split.records)
    return {"records": inputs.subject.records}


def read(path, subject, start, stop):
    dataset, split, size = subject.dataset, subject.split, subject.dataset.image.size_bytes
    images, labels = ((path / f"{split.name}-{what}").read_bytes() for what in ("images", "labels"))
    for at in range(start, min(stop, len(labels) - 8)):
        begin = 16 + at * size
        parts = [images[begin : begin + size], labels[8 + at : 9 + at]]
        record = formats.named("idx").assemble(dataset, split, (), parts)
        yield Stored(record, begin, begin + size, file=f"{split.name}-images")


EXPORT = Product(
    name="unpacked",
    title="as published, unpacked.",
    scope="dataset",
    files="exports/{dataset}/unpacked/",
    code_version="1",
    needs=("archives",),
    applies=lambda dataset: dataset.format == "idx",
    write=write,
    read=read,
    sidecar=True,
)
'''

Add = Callable[[str, str], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Put a module into a room: its folder, and the name of the module."""
    rooms = {"exports": exports, "descriptions": descriptions}
    for name, room in rooms.items():
        (tmp_path / name).mkdir()
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path / name)])

    def forget() -> None:
        for cached in (products.known, products._lying_in, stages.reserved):
            cached.cache_clear()

    def adding(room: str, text: str) -> None:
        # Bytecode of the text before passes for that of one of the same length and second.
        shutil.rmtree(tmp_path / room / "__pycache__", ignore_errors=True)
        (tmp_path / room / "added.py").write_text(text)
        sys.modules.pop(f"{rooms[room].__name__}.added", None)
        forget()

    yield adding
    forget()
    for room in rooms.values():
        sys.modules.pop(f"{room.__name__}.added", None)
        if hasattr(room, "added"):
            del room.added


NPY = "exports/tiny_digits/test.npy"


@pytest.mark.sources("tiny_colours", "tiny_digits")
def test_an_export_that_is_added_as_one_module_is_made_told_of_and_verified(
    project: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    add("exports", OF_GREY)
    options = [*project.options, *project.mirror]

    assert "--rows-flat" not in command("build", "--help").stdout, "that of a default build"
    assert "--rows-flat" in command("exports", "rows").stdout
    assert "rows" in command("build", "--only", "nothing", *options).stderr

    said = command("build", *options, "--openlineage", str(tmp_path / "told.jsonl"))
    assert said.code == 0, said.stderr
    assert "_rows" not in said.stdout, "nobody named it"
    before = command("lock", "tiny_digits", *project.options).stdout

    told = tmp_path / "events.jsonl"
    said = command("build", "--only", "rows", *options, "--openlineage", str(told))
    assert said.code == 0, said.stderr
    assert "tiny_digits/test_rows" in said.stdout
    assert "tiny_colours/test_rows" not in said.stdout, "it does not apply"
    events = [json.loads(line) for line in told.read_text().splitlines()]
    [done] = [e for e in events if e["eventType"] == "COMPLETE" and e["job"]["name"] == NPY]
    fields = done["outputs"][0]["facets"]["schema"]["fields"]
    assert [field["name"] for field in fields] == ["label", "pixels"]
    lineage = done["outputs"][0]["facets"]["columnLineage"]["fields"]
    for name in ("label", "pixels"):
        assert [origin["field"] for origin in lineage[name]["inputFields"]] == [name]
    for split, (pixels, labels, _) in project.publisher.splits.items():
        if split[0] == "tiny_digits":
            array = np.load(project.data / f"exports/tiny_digits/{split[1]}.npy")
            np.testing.assert_array_equal(array["label"], labels, strict=True)
            np.testing.assert_array_equal(array["pixels"], pixels, strict=True)

    assert command("verify", *project.options).code == 0
    assert command("verify", "--deep", *project.options).code == 0
    assert command("lock", "tiny_digits", *project.options).stdout == before, "it is no default"
    assert "up to date" in command("list", *project.options).stdout
    assert "Nothing to do" in command("build", "--only", "rows", *options).stdout

    traced = command("trace", "tiny_digits/test_rows:3", *project.options)
    assert traced.code == 0, traced.stdout
    assert "holds   rows" in traced.stdout
    assert command("trace", f"{NPY}:3", *project.options).code == 0
    copy = tmp_path / "copy.npy"
    shutil.copy(project.data / NPY, copy)
    shutil.copy(project.data / f"{NPY}.lineage.json", tmp_path / "copy.npy.lineage.json")
    assert command("trace", f"{copy}:3", *project.options).code == 0


def test_a_wrong_byte_of_an_added_export_is_found_whatever_its_provenance_says(
    project: Project, command: Command, add: Add
) -> None:
    add("exports", EXPORT)
    project.build("tiny_digits", stages=["rows"])
    forged = bytearray((project.data / NPY).read_bytes())
    forged[-1] ^= 1
    (project.data / NPY).write_bytes(forged)

    said = command("verify", *project.options)
    assert (said.code, f"{NPY}: changed" in said.stdout) == (1, True)
    said = command("trace", f"{NPY}:11", *project.options)
    assert (said.code, "BROKEN  rows" in said.stdout) == (1, True)

    rerecord(project, NPY)
    assert command("verify", *project.options).code == 0, "its provenance agrees with it"
    said = command("verify", "--deep", *project.options)
    assert said.code == 1
    assert f"{NPY}: changed: record 11: pixel in row" in said.stdout
    assert command("verify", "--deep", "--repair", *project.options, *project.mirror).code == 0


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x93NUMPY\1\0", None])
def test_a_damaged_file_of_an_added_export_is_the_hop_to_blame(
    built: Project, command: Command, add: Add, damage: bytes | None
) -> None:
    add("exports", EXPORT)
    built.build("tiny_digits", stages=["rows"])
    whole = (built.data / NPY).read_bytes()
    (built.data / NPY).write_bytes(whole[:-1] if damage is None else damage)

    said = command("trace", f"{NPY}:11", *built.options)
    assert (said.code, "BROKEN  rows" in said.stdout) == (1, True)
    assert "is not as it was written: " in " ".join(said.stdout.split())
    rerecord(built, NPY)
    said = command("verify", "--deep", *built.options)
    assert (said.code, f"{NPY}: changed: it can't be read: " in said.stdout) == (1, True)


def test_an_option_of_an_added_export_is_a_setting_everywhere(
    built: Project, command: Command, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("exports", EXPORT)
    built.build("tiny_digits", stages=["rows"])
    assert made(built.build("tiny_digits", stages=["rows"], rows_flat=True)) == {
        "tiny_digits/train_rows",
        "tiny_digits/test_rows",
    }
    monkeypatch.setenv(variables()["rows_flat"], "1")
    options = [*built.options, *built.mirror, "tiny_digits", "--only", "rows"]
    assert "Nothing to do" in command("build", *options).stdout
    assert "Made 2 of" in command("build", *options, "--no-rows-flat").stdout


@of_all
def test_what_is_added_stands_in_the_ui_with_its_columns_and_in_the_launchpad(
    project: Project, add: Add
) -> None:
    coarse = 'Column("pixels", "u1", of="pixels"), Column("group", "u1", of="coarse_label")'
    add("exports", EXPORT.replace('Column("pixels", "u1", of="pixels")', coarse))
    add("descriptions", DESCRIPTION)
    definitions = automated(project.settings())
    graph = definitions.resolve_asset_graph()
    keys = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    rows = keys["tiny_digits/test_rows"]
    assert "as NPY: an array of records, each a label and pixels." in str(rows.description)
    of_colours = keys["tiny_colours/test_rows"].metadata["dagster/column_schema"].columns
    assert [column.name for column in of_colours] == ["label", "pixels", "group"]
    columns = rows.metadata["dagster/column_schema"].columns
    assert [(column.name, column.type) for column in columns] == [("label", "u1"), ("pixels", "u1")]
    above = {key.to_user_string() for key in keys["tiny_letters/inventory"].parent_keys}
    assert above == {"tiny_letters/statistics"} | {
        f"tiny_letters/{split}{what}"
        for split in ("train", "test")
        for what in ("", "_csv", "_rows")
    }
    job = definitions.resolve_job_def("everything")
    options = dg.validate_run_config(job, {})["resources"]["options"]["config"]
    assert options["rows_flat"] is False
    assert options["exports"] == ["csv", "lmdb"], "the others are made where somebody names them"
    assert rows.group_name == "tiny_digits/on_request"
    assert keys["tiny_digits/test_csv"].group_name == "tiny_digits"
    assert rows.automation_condition is None
    assert keys["tiny_digits/test_csv"].automation_condition is not None


def test_a_description_that_is_added_shows_what_is_there_and_is_made_again_when_that_changes(
    built: Project, command: Command, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", DESCRIPTION)
    assert made(built.build("tiny_digits", stages=["inventory"])) == {"tiny_digits/inventory"}
    shown = (built.data / "descriptions/tiny_digits/inventory.txt").read_text().splitlines()
    assert shown == [
        "statistics/tiny_digits.parquet",
        "tables/tiny_digits/train.parquet",
        "tables/tiny_digits/test.parquet",
        "exports/tiny_digits/train.csv",
        "exports/tiny_digits/test.csv",
    ]
    assert command("verify", "--deep", *built.options).code == 0
    built.build("tiny_digits", stages=["rows"])
    assert made(built.build("tiny_digits", stages=["inventory"])) == {"tiny_digits/inventory"}
    shown = (built.data / "descriptions/tiny_digits/inventory.txt").read_text().splitlines()
    assert NPY in shown
    assert command("trace", "tiny_digits/inventory", *built.options).code == 0
    said = command("trace", "tiny_digits/inventory:1", *built.options)
    assert (said.code, "has no rows" in said.stderr) == (1, True)


OF_ALL = '''
"""A list of all datasets, and of the files that there are of them."""

from pipelines.products import Product
from pipelines.store import writing


def write(inputs, goal, chosen, advance):
    with writing.atomic(goal) as partial:
        titles = [one.dataset.title for one in inputs.subjects]
        partial.write_text("".join(f"{line}\\n" for line in (*titles, *inputs.paths)))
    advance(sum(one.records for one in inputs.subjects))
    return {}


DESCRIPTION = Product(
    name="contents",
    title="as a list.",
    scope="catalogue",
    files="descriptions/contents.txt",
    code_version="1",
    write=write,
    needs=(),
    uses=("tables", "rows"),
    parameters=lambda subject, chosen: {"title": subject.dataset.title},
)
'''
CONTENTS = "descriptions/contents.txt"
ASSET = ("catalogue", "contents")


def _but_when(listed: str) -> str:
    """What `list` prints, but for the minute in which something was read last."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "then", listed)


@of_all
def test_a_description_of_all_datasets_is_made_of_what_is_there_whichever_are_asked_for(
    project: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    add("exports", EXPORT)
    add("descriptions", OF_ALL)
    options, file = [*project.options, *project.mirror], project.data / CONTENTS
    project.build("tiny_digits")
    before = command("lock", "tiny_digits", *project.options).stdout
    listed = _but_when(command("list", *project.options).stdout)
    assert not file.exists(), "nobody named it"

    told = tmp_path / "told.jsonl"
    asked = ["build", "tiny_letters", "--only", "contents", *options]
    said = command(*asked, "--openlineage", str(told))
    assert said.code == 0, said.stderr
    titles = ["Tiny colours", "Tiny digits", "Tiny letters"]
    there = [f"tables/tiny_digits/{split}.parquet" for split in ("train", "test")]
    assert file.read_text().splitlines() == [*titles, *there]
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(e["eventType"], e["job"]["name"]) for e in events] == [
        ("START", CONTENTS),
        ("COMPLETE", CONTENTS),
    ], "it needs nothing that is not there"
    inputs = [one["name"] for one in events[-1]["inputs"]]
    assert inputs == [str(project.data / path) for path in there]

    assert "Nothing to do" in command(*asked).stdout
    assert "Nothing to do" in command("build", "--only", "contents", *options).stdout
    assert command("lock", "tiny_digits", *project.options).stdout == before, "it is no default"
    assert _but_when(command("list", *project.options).stdout) == listed
    assert command("status", "tiny_digits", *project.options).code == 0

    project.build("tiny_digits", stages=["rows"])
    assert made(project.build("tiny_digits", stages=["contents"])) == {"/".join(ASSET)}
    assert file.read_text().splitlines() == [
        *titles,
        *(f"{what}/tiny_digits/{split}.{suffix}" for split in ("train", "test")
          for what, suffix in (("tables", "parquet"), ("exports", "npy"))),
    ]  # fmt: skip
    project.redeclare("tiny_letters", "Tiny letters", "Small letters")
    assert made(project.build("tiny_digits", stages=["contents"])) == {"/".join(ASSET)}
    assert "Small letters" in file.read_text()


@of_all
def test_a_description_of_all_datasets_is_verified_with_all_of_them_and_traced(
    built: Project, command: Command, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", OF_ALL)
    built.build(stages=["contents"])
    options, file = built.options, built.data / CONTENTS
    some = command("verify", "tiny_digits", *options)
    assert (some.code, CONTENTS in some.stdout) == (0, False), "it shows others, too"
    assert command("verify", *options).code == 0
    assert command("verify", "--deep", *options).code == 0

    built.build("tiny_digits", stages=["rows"])
    said = command("verify", *options)
    assert f"{CONTENTS}: stale: its input changed: exports/tiny_digits/" in said.stdout
    assert command("verify", "--repair", *options, *built.mirror).code == 0
    assert "tiny_digits/test.npy" in file.read_text()

    file.write_bytes(file.read_bytes()[:-1] + b"!")
    said = command("verify", *options)
    assert (said.code, f"{CONTENTS}: changed" in said.stdout) == (1, True)
    said = command("trace", CONTENTS, *options)
    assert (said.code, "BROKEN  contents" in said.stdout) == (1, True)
    rerecord(built, CONTENTS)
    assert command("verify", *options).code == 0, "its provenance agrees with it"
    said = command("verify", "--deep", *options)
    assert f"{CONTENTS}: changed: its bytes are not those" in said.stdout
    assert command("verify", "--deep", "--repair", *options, *built.mirror).code == 0

    for name in (CONTENTS, "/".join(ASSET)):
        said = command("trace", name, *options)
        assert said.code == 0, said.stdout
        assert "of all datasets of the catalogue: 3" in said.stdout
        assert "holds   rows        exports/tiny_digits/train.npy" in said.stdout
    said = command("trace", f"{CONTENTS}:1", *options)
    assert (said.code, "has no rows" in said.stderr) == (1, True)
    file.unlink()
    said = command("trace", CONTENTS, *options)
    assert "Build it: python -m assets build --only contents" in " ".join(said.stderr.split())


@pytest.mark.sources("tiny_letters")
def test_a_description_of_all_datasets_is_not_compared_where_an_archive_is_missing(
    built: Project, command: Command, add: Add
) -> None:
    add("descriptions", OF_ALL)
    built.build(stages=["contents"])
    shutil.rmtree(built.data / "archives/tiny_letters")
    said = command("verify", "--deep", *built.options)
    assert f"{CONTENTS}: changed" not in said.stdout
    assert "tiny_letters/letters.zip: missing" in said.stdout
    assert "uncompared: not all of its archives are here" in said.stdout


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_a_description_of_all_datasets_stands_apart_in_the_ui_and_follows_nothing_by_itself(
    built: Project, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", OF_ALL)
    definitions = automated(built.settings(mirror=str(built.publisher.mirror)))
    node = definitions.resolve_asset_graph().get(dg.AssetKey(ASSET))
    assert node.group_name == "catalogue/on_request"
    assert node.automation_condition is None
    assert node.description == "All datasets of the catalogue as a list."
    assert {key.to_user_string() for key in node.parent_keys} == {
        f"{name}/{split}{what}"
        for name in built.sources
        for split in ("train", "test")
        for what in ("", "_rows")
    }
    assert {check.name for check in node.check_keys} == {"bytes_as_recorded", "records_as_archived"}
    job = definitions.resolve_implicit_global_asset_job_def()
    assert "/".join(ASSET) not in materialized(job.execute_in_process()), "a run of everything"
    some = job.execute_in_process(asset_selection=[dg.AssetKey(ASSET)])
    assert materialized(some) == {"/".join(ASSET)}
    for name in ("everything", "refresh", "verify"):
        done = definitions.resolve_job_def(name).execute_in_process()
        assert "/".join(ASSET) not in materialized(done)
    made_of = turns.sources_of(built.plan(), [ASSET])
    assert made_of == {*built.sources}, "nobody replaces what it reads"


@of_all
def test_a_description_of_all_datasets_is_of_those_that_it_applies_to(
    built: Project, add: Add
) -> None:
    add("descriptions", OF_ALL.replace("needs=(),", f"needs=(),\n    {APPLIES},"))
    [of_grey] = [one for one in built.plan().artefacts.values() if one.asset == ASSET]
    assert [one.dataset.name for one in of_grey.subjects] == ["tiny_digits", "tiny_letters"]
    assert not any("tiny_colours" in path for path in of_grey.uses)
    add("descriptions", OF_ALL.replace("needs=(),", "needs=(),\n    applies=lambda _: False,"))
    assert ASSET not in built.plan().assets()


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_what_is_of_all_datasets_may_need_a_stage_of_each(project: Project, add: Add) -> None:
    add("descriptions", OF_ALL.replace("needs=(),", 'needs=("statistics",),'))
    found = project.build("tiny_digits", stages=["contents"])
    assert {f"{name}/statistics" for name in project.sources} < made(found)


def test_what_holds_records_is_of_no_catalogue(add: Add) -> None:
    add("exports", OF_ALL.replace("DESCRIPTION =", "EXPORT ="))
    with pytest.raises(TypeError, match="is of the catalogue, but records are those of a split"):
        products.known()


def rerecord_folder(project: Project, path: str) -> None:
    """Let the provenance of a folder tell the bytes that are there now, as a forger would."""
    found = Folder(project.data)
    made = provenance.latest(found, path)
    assert made is not None
    folder = hashing.look(found.local(path))
    said = replace(
        made, sha256=folder.sha256, size_bytes=folder.identity.size_bytes, files=folder.files
    )
    (project.data / f"lineage/{path}.json").write_bytes(provenance.dump(said))
    sidecar = project.data / f"{path}.lineage.json"
    if sidecar.exists():
        sidecar.write_bytes(provenance.sidecar(said))


@pytest.mark.sources("tiny_letters")
def test_an_added_export_of_several_files_is_one_artefact(
    built: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    add("exports", FOLDER)
    name, options = "tiny_letters/plain", built.options
    assert made(built.build("tiny_letters", stages=["plain"])) == {name}
    assert made(built.build("tiny_letters", stages=["plain"])) == set()
    folder = built.data / "exports/tiny_letters/plain"
    assert builders.files_under(folder) == [
        f"{split}/{what}" for split in ("test", "train") for what in ("labels", "pixels")
    ]
    said = json.loads((built.data / "lineage/exports/tiny_letters/plain.json").read_text())
    assert said["format"] == "imagesets-lineage/2"
    assert set(said["run"]["versions"]) == {"python", "imagesets", "numpy"}
    assert command("verify", "--deep", *options).code == 0
    assert command("trace", f"{name}:test/11", *options).code == 0
    assert command("trace", name, *options).code == 0

    labels = bytearray((folder / "test/labels").read_bytes())
    labels[3] ^= 1
    (folder / "test/labels").write_bytes(labels)
    said = command("trace", f"{name}:test/3", *options)
    assert (said.code, "label: expected" in said.stdout) == (1, True)
    said = command("verify", *options)
    assert (said.code, "test/labels has other bytes" in said.stdout) == (1, True)
    labels[3] ^= 1
    (folder / "test/labels").write_bytes(labels[:-1])  # its reader says nothing of what is missing
    rerecord_folder(built, "exports/tiny_letters/plain")
    said = command("verify", "--deep", *options)
    assert (said.code, "record 11 is missing" in said.stdout) == (1, True), said.stdout
    (folder / "more").write_bytes(b"")
    assert made(built.build("tiny_letters", stages=["plain"])) == {name}
    assert command("verify", "--deep", *options).code == 0


@pytest.mark.sources("tiny_colours")
def test_a_wrong_coarse_label_of_an_added_export_is_found_by_looking_deep(
    built: Project, command: Command, add: Add
) -> None:
    add("exports", FOLDER)
    built.build("tiny_colours", stages=["plain"])
    place = built.data / "exports/tiny_colours/plain/test/coarse"
    coarse = bytearray(place.read_bytes())
    coarse[3] ^= 1
    place.write_bytes(coarse)
    rerecord_folder(built, "exports/tiny_colours/plain")
    said = command("verify", "--deep", "tiny_colours", *built.options)
    assert (said.code, "record 3: coarse label: expected" in said.stdout) == (1, True), said.stdout


def test_an_added_export_is_made_only_where_somebody_names_it(add: Add) -> None:
    add("exports", EXPORT)
    assert stages.selected([]) == set(stages.DEFAULT)
    assert stages.selected(["exports"]) == {"csv", "lmdb"}
    assert stages.selected(["exports", "rows"]) == {"csv", "lmdb", "rows"}
    named = stages.selected([], ["csv", "rows"])
    assert named == {*stages.DEFAULT} - {"lmdb"} | {"rows"}
    assert stages.selected(["exports"], ["rows"]) == {"rows"}


def test_a_module_without_a_declaration_is_an_error_that_says_so(add: Add) -> None:
    add("exports", '"""Nothing."""\n')
    with pytest.raises(TypeError, match=r"pipelines\.exports\.added declares no EXPORT"):
        products.known()


def test_a_split_may_not_be_called_as_an_added_export_is(project: Project, add: Add) -> None:
    project.redeclare("tiny_digits", "splits.test]", "splits.test_rows]")
    plan.load(project.publisher.catalogue)
    add("exports", EXPORT)
    with pytest.raises(catalogue.CatalogueError, match="this name is taken"):
        plan.load(project.publisher.catalogue)


def test_a_dataset_that_is_added_as_one_file_is_made_like_any_other(
    project: Project, command: Command
) -> None:
    white = np.eye(4, dtype=np.uint8).reshape(4, 2, 2, 1) * np.uint8(255)
    stored = builders.cifar(np.repeat(white, 3, axis=3), np.arange(4, dtype=np.uint8))
    (project.publisher.mirror / "corners").mkdir()
    project.publisher.archive("corners", "corners.bin").write_bytes(stored)
    project.publisher.toml("corners").write_text(DATASET)

    said = command("build", "corners", *project.options, *project.mirror)
    assert said.code == 0, said.stderr
    assert re.search(
        r"^corners  +4 train .* up to date", command("list", *project.options).stdout, re.M
    )
    assert command("verify", "--deep", "corners", *project.options).code == 0
    assert command("lock", "corners", *project.options).code == 0
    assert "top right" in command("trace", "corners/train_lmdb:1", *project.options).stdout
    keys = automated(project.settings()).resolve_asset_graph().get_all_asset_keys()
    assert "corners/train_csv" in {key.to_user_string() for key in keys}


@pytest.mark.sources("tiny_letters")
def test_an_export_made_from_archives_is_traced_and_verified_without_a_table(
    project: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    add("exports", UNPACKED)
    name, options = "tiny_letters/unpacked", [*project.options, *project.mirror]
    assert made(project.build("tiny_letters", stages=["unpacked"])) == {
        "tiny_letters/archives",
        name,
    }
    assert not (project.data / "tables").exists(), "it needs none"
    assert command("verify", "--deep", *options).code == 0
    assert command("trace", name, *project.options).code == 0
    said = command("trace", f"{name}:test/11", "--json", *project.options)
    assert said.code == 0, said.stdout
    hops = json.loads(said.stdout)["hops"]
    assert [hop["what"] for hop in hops] == ["unpacked", "member", "member", "archive", "origin"]
    assert hops[0]["path"] == "exports/tiny_letters/unpacked/test-images"
    assert hops[0]["bytes"] == [16 + 11 * 25, 16 + 12 * 25]
    shutil.copytree(project.data / "exports/tiny_letters", tmp_path / "copied")
    said = command("trace", f"{tmp_path / 'copied/unpacked'}:test/11", *project.options)
    assert said.code == 0, said.stderr
    assert str(tmp_path / "copied/unpacked/test-images") in said.stdout

    folder = project.data / "exports/tiny_letters/unpacked"
    labels = bytearray((folder / "test-labels").read_bytes())
    labels[8 + 3] = labels[8 + 3] % 4 + 1
    (folder / "test-labels").write_bytes(labels)
    said = command("trace", f"{name}:test/3", *project.options)
    assert (said.code, "BROKEN  unpacked" in said.stdout) == (1, True), said.stdout
    rerecord_folder(project, "exports/tiny_letters/unpacked")
    said = command("verify", "--deep", *options)
    assert (said.code, "unpacked: changed: record 3: label" in said.stdout) == (1, True), said
    assert command("verify", "--deep", "--repair", *options).code == 0


def test_an_export_made_from_archives_whose_records_nobody_reads_is_made_again(
    project: Project, command: Command, add: Add
) -> None:
    add("exports", UNPACKED.replace("    read=read,\n", ""))
    project.build("tiny_digits", stages=["unpacked"])
    assert command("verify", "--deep", *project.options).code == 0
    place = project.data / "exports/tiny_digits/unpacked/test-labels"
    place.write_bytes(place.read_bytes()[:-1] + b"\x02\x02")
    rerecord_folder(project, "exports/tiny_digits/unpacked")
    said = command("verify", "--deep", *project.options)
    assert (said.code, "changed: its bytes are not those" in said.stdout) == (1, True), said.stdout


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_an_export_whose_library_is_missing_says_how_to_install_it_and_nothing_else_stops(
    built: Project, command: Command, add: Add
) -> None:
    add("exports", FOLDER)
    built.build("tiny_digits", stages=["plain"])
    lacking = '    extra="hdf5",\n    requires=("numpy", "not_there"),\n    libraries'
    add("exports", FOLDER.replace("    libraries", lacking))
    options = [*built.options, *built.mirror]
    install = ".venv/bin/python -m pip install not_there"

    said = command("build", "tiny_letters", "--only", "plain", *options)
    assert said.code == 1
    assert f"plain needs not_there, which not everybody has. Install it: {install}" in said.stderr
    said = command("trace", "tiny_digits/plain:test/3", *built.options)
    assert (said.code, "BROKEN  plain" in said.stdout) == (1, True)
    assert install in " ".join(said.stdout.split())
    assert command("list", *built.options).code == 0
    assert command("verify", *built.options).code == 0
    said = command("verify", "--deep", *built.options)
    assert "exports/tiny_digits/plain: uncompared: plain needs not_there" in said.stdout


def test_words_to_choose_from_are_a_setting_everywhere(
    built: Project, command: Command, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = 'Option("order", "rows", "which pixels come first", choices=("rows", "columns"))'
    of_rows = EXPORT.replace("options=(Option(", f"options=({words}, Option(")
    add("exports", of_rows)
    asked = [*built.options, *built.mirror, "tiny_digits", "--only", "rows"]
    assert "--rows-order {rows,columns}" in command("exports", "rows").stdout
    said = command("build", *asked, "--rows-order", "diagonals")
    assert "write rows or columns; rows is the default" in " ".join(said.stderr.split())
    assert command("build", *asked, "--rows-order", "columns").code == 0
    said = (built.data / f"lineage/{NPY}.json").read_text()
    assert json.loads(said)["parameters"]["order"] == "columns"
    monkeypatch.setenv(variables()["rows_order"], "columns")
    assert "Nothing to do" in command("build", *asked).stdout
    settings = built.settings().with_({"rows_order": "columns"})
    assert settings.as_environment()[variables()["rows_order"]] == "columns"
    monkeypatch.setenv(variables()["rows_order"], "diagonals")
    assert "write rows or columns" in command("build", *asked).stderr
    schema = automated(settings).resolve_implicit_global_asset_job_def().run_config_schema
    config = schema.config_type.fields["resources"].config_type.fields["options"].config_type  # type: ignore[attr-defined]
    field = config.fields["config"].config_type.fields["rows_order"]
    assert field.default_value == "columns"
    assert [value.config_value for value in field.config_type.enum_values] == ["rows", "columns"]


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    assert result.success
    return {
        event.asset_key.to_user_string()
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }


def test_a_run_of_everything_leaves_out_what_is_made_on_request_and_a_run_of_that_makes_it(
    built: Project, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", DESCRIPTION)
    rows = {f"{name}/{split}_rows" for name in built.sources for split in ("train", "test")}
    inventories = {f"{name}/inventory" for name in built.sources}

    def run(*keys: str, named: tuple[str, ...] = ("csv", "lmdb"), **config: Any) -> set[str]:
        settings = built.settings(mirror=str(built.publisher.mirror), exports=named)
        job = automated(settings).resolve_implicit_global_asset_job_def()
        said = {"resources": {"options": {"config": config}}} if config else None
        chosen = [dg.AssetKey(key.split("/")) for key in keys]
        return materialized(job.execute_in_process(asset_selection=chosen or None, run_config=said))

    graph = automated(built.settings()).resolve_asset_graph()
    made = graph.materializable_asset_keys  # the others are told what was found
    groups = {key.to_user_string(): graph.get(key).group_name for key in made}
    everything = {*groups}
    on_request = {key for key, group in groups.items() if str(group).endswith("/on_request")}
    default = everything - on_request
    assert rows | inventories < on_request
    assert run() & everything == default
    assert run(*everything) == default, "as the UI says it"
    assert run(*everything, exports=["csv", "lmdb", "rows"]) == default | rows, "the launchpad"
    assert run(*everything, named=("csv", "lmdb", "rows")) == default | rows, "IMAGESETS_EXPORTS"
    assert run("tiny_digits/test_rows") == {"tiny_digits/test_rows"}
    assert run(*rows, *inventories) == rows | inventories
    jobs = automated(built.settings())
    assert materialized(jobs.resolve_job_def("everything").execute_in_process()) == default
    status = materialized(jobs.resolve_job_def("refresh").execute_in_process())
    assert status & everything == set(), "nothing to do"


def test_exports_that_the_environment_names_are_made_where_nobody_names_any(
    built: Project, command: Command, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("exports", EXPORT)
    monkeypatch.setenv("IMAGESETS_EXPORTS", "csv, rows")
    said = command("build", "tiny_digits", *built.options, *built.mirror)
    assert said.code == 0, said.stderr
    assert "tiny_digits/test_rows" in said.stdout
    assert "_lmdb" not in said.stdout
    monkeypatch.setenv("IMAGESETS_EXPORTS", "csv,rowz")
    said = command("build", "tiny_digits", *built.options, *built.mirror)
    assert said.code != 0
    assert "IMAGESETS_EXPORTS is 'csv,rowz': there is no export 'rowz'. Did you mean 'rows'?" in (
        said.stderr
    )


def test_all_that_is_named_on_the_command_line_is_made_though_it_be_everything(
    project: Project, command: Command, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", DESCRIPTION)
    known = products.known().values()
    quick = [one.name for one in known if one.reproducible != "one machine"]  # no long computation
    only = [f"--only={stage}" for stage in (*stages.DEFAULT, *quick)]
    said = command("build", *only, *project.options, *project.mirror)
    assert said.code == 0, said.stderr
    assert "tiny_digits/inventory" in said.stdout
    assert "tiny_digits/test_rows" in said.stdout


REPACKED = UNPACKED.replace('name="unpacked"', 'name="repacked"').replace(
    'needs=("archives",)', 'needs=("optional_archives",)'
)
REPACKED = re.sub(
    r"def write.*?(?=EXPORT)",
    """def write(inputs, goal, chosen, advance):
    [archive] = inputs.paths.values()
    with members.opened(archive.parent) as open_member:
        for path in inputs.subject.source.optional_archives[archive.name].members:
            stream = open_member(Member(archive.name, path))
            (goal / path.rpartition("/")[2]).write_bytes(members.read_range(stream, 0, 5))
    advance(inputs.subject.records)
    return {"records": inputs.subject.records}


""",
    REPACKED,
    flags=re.DOTALL,
)
REPACKED = (
    REPACKED.replace("/unpacked/", "/repacked/")
    .replace("    read=read,\n", "")
    .replace("import shutil\n", "from pipelines.declarations import Member\n")
)


@pytest.mark.sources("tiny_digits", "tiny_letters")
def test_optional_archives_are_fetched_for_what_needs_them_and_for_nothing_else(
    project: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    data = builders.tarred({"py/one": b"first", "py/two": b"other"})
    name, place = "tiny-python.tar.gz", project.data / "archives/tiny_digits/tiny-python.tar.gz"
    project.publisher.archive("tiny_digits", name).write_bytes(data)
    declared = (
        builders.declare({name: data})
        .splitlines()[-1]
        .replace(
            " }",
            ", optional = true, "
            f'members = {{ "py/one" = {{ md5 = "{hashlib.md5(b"first").hexdigest()}" }}, '
            f'"py/two" = {{ md5 = "{hashlib.md5(b"other").hexdigest()}", bytes = 5 }} }} }}',
        )
    )
    project.redeclare("tiny_digits", "[archives]", f"[archives]\n{declared}")
    add("exports", REPACKED)
    options, asset = [*project.options, *project.mirror], "tiny_digits/optional_archives"

    for arguments in (["build"], ["fetch"]):
        said = command(*arguments, *options)
        assert (said.code, asset in said.stdout, place.exists()) == (0, False, False), said.stderr
    before = command("lock", "tiny_digits", *project.options).stdout
    assert command("mirror", *options, str(tmp_path / "mirror")).code == 0
    assert not (tmp_path / "mirror/tiny_digits" / name).exists()
    assert f"{len(data)}" not in command("list", *project.options).stdout
    assert materialized(
        project.definitions(mirror=str(project.publisher.mirror))
        .resolve_implicit_global_asset_job_def()
        .execute_in_process()
    ).isdisjoint({asset, "tiny_digits/repacked"})
    graph = project.definitions().resolve_asset_graph()
    node = graph.get(dg.AssetKey(asset.split("/")))
    assert node.group_name == "tiny_digits/on_request"
    assert node.automation_condition is None
    assert not graph.has(dg.AssetKey(["tiny_letters", "repacked"])), "it has none"

    said = command("fetch", "tiny_digits", "--only", "repacked", *options)
    assert (said.code, asset in said.stdout) == (0, True), said.stderr
    assert place.read_bytes() == data
    shutil.rmtree(project.data / "archives/tiny_digits")
    said = command("build", "tiny_digits", "--only", "repacked", *options)
    assert (said.code, f"{asset} " in said.stdout) == (0, True), said.stderr
    assert "tiny_digits/archives" not in said.stdout, "it needs those alone"
    made_of = project.data / "exports/tiny_digits/repacked"
    assert {p.name: p.read_bytes() for p in made_of.iterdir()} == {"one": b"first", "two": b"other"}
    assert command("build", *options).code == 0
    assert command("verify", "--deep", *options).code == 0
    assert command("lock", "tiny_digits", *project.options).stdout == before
    said = command("trace", "tiny_digits/repacked", *project.options)
    assert (said.code, f"archives/tiny_digits/{name}" in said.stdout) == (0, True), said.stdout
    said = command("trace", f"archives/tiny_digits/{name}", *project.options)
    assert (said.code, "an archive of tiny_digits" in said.stdout) == (0, True), said.stderr
    place.unlink()
    said = command("verify", "--deep", *options)
    assert f"archives/tiny_digits/{name}: missing" in said.stdout
    assert "repacked: uncompared: archives/tiny_digits/tiny-python.tar.gz is not" in said.stdout
    said = command("trace", f"archives/tiny_digits/{name}", *project.options)
    assert "build tiny_digits --only optional_archives" in " ".join(said.stderr.split())
    assert command("verify", "--deep", "--repair", *options).code == 0
    assert place.read_bytes() == data
