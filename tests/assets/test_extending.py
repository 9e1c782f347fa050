"""What people add is one module, or one file of facts: everything knows of it then.

Each test writes what somebody would add, and edits nothing else.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets.definitions import automated
from assets.settings import variables
from pipelines import catalogue, descriptions, exports, plan, products, stages
from tests import builders
from tests.assets.conftest import Command
from tests.assets.project import Project, made
from tests.assets.test_verify import rerecord

EXPORT = '''
"""Portable greymaps, one after the other; the label is a comment in the header of each."""

import re

import numpy as np

from pipelines import tables
from pipelines.errors import ArtefactError
from pipelines.products import Column, Option, Product, Stored
from pipelines.records import Batch
from pipelines.store import writing


def write(inputs, goal, chosen, advance):
    end = b"\\r\\n" if chosen["windows"] else b"\\n"
    with writing.atomic(goal) as partial, partial.open("wb") as file:
        for batch in tables.batches(inputs.table):
            for image, label in zip(batch.images, batch.labels, strict=True):
                file.write(b"P5 #%d%s" % (label, end) + image.tobytes())
            advance(len(batch))
    return {"records": tables.info(inputs.table).records}


def read(path, subject, start, stop):
    data, at = path.read_bytes(), 0
    for index in range(stop):
        header = re.compile(rb"P5 #(\\d+)\\r?\\n").match(data, at)
        first = at
        if header is None:
            raise ArtefactError(f"{path} ends before record {index:,}, or is damaged there.")
        at = header.end() + subject.dataset.image.size_bytes
        pixels = np.frombuffer(data[header.end():at], np.uint8)
        if index >= start:
            shape = (1, *subject.dataset.image.shape)
            label = np.array([int(header[1])], np.uint8)
            yield Stored(Batch(pixels.reshape(shape), label), first, at)


EXPORT = Product(
    name="greymaps",
    title="as greymaps: one after the other.",
    scope="split",
    files="exports/{dataset}/{split}.pgm",
    code_version="1",
    write=write,
    read=read,
    applies=lambda dataset: dataset.image.channels == 1,
    columns=(Column("gray", "bytes", "The intensities.", of="pixels", how="transformed"),),
    options=(Option("windows", False, "end lines as Windows does"),),
    parameters=lambda subject, chosen: dict(chosen),
    sidecar=True,
)
'''

DESCRIPTION = '''
"""A list of what there is of a dataset."""

from pipelines.products import Product
from pipelines.store import writing


def write(inputs, goal, chosen, advance):
    with writing.atomic(goal) as partial:
        partial.write_text("".join(f"{known.path}\\n" for known in inputs.known))
    advance(inputs.subject.records)
    return {}


DESCRIPTION = Product(
    name="inventory",
    title="as a list of its files.",
    scope="dataset",
    files="descriptions/{dataset}/inventory.txt",
    code_version="1",
    write=write,
    needs=("statistics", "tables"),
    uses=("greymaps", "csv"),
)
'''

FOLDER = '''
"""A file of pixels and one of labels for each split, in one folder."""

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
        advance(len(batch))
    return {"records": inputs.subject.records}


def read(path, subject, start, stop):
    size, shape = subject.dataset.image.size_bytes, (1, *subject.dataset.image.shape)
    folder = path / subject.split.name
    pixels, labels = (folder / "pixels").read_bytes(), (folder / "labels").read_bytes()
    for at in range(start, min(stop, len(labels))):
        image = np.frombuffer(pixels, np.uint8, size, at * size).reshape(shape)
        label = np.array([labels[at]], np.uint8)
        yield Stored(Batch(image, label), at * size, (at + 1) * size)


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
        (tmp_path / room / "added.py").write_text(text)
        forget()

    yield adding
    forget()
    for room in rooms.values():
        sys.modules.pop(f"{room.__name__}.added", None)
        if hasattr(room, "added"):
            del room.added


PGM = "exports/tiny_digits/test.pgm"


def test_an_export_that_is_added_as_one_module_is_made_told_of_and_verified(
    project: Project, command: Command, add: Add, tmp_path: Path
) -> None:
    add("exports", EXPORT)
    options = [*project.options, *project.mirror]

    assert "--greymaps-windows" in command("build", "--help").stdout
    assert "greymaps" in command("build", "--only", "nothing", *options).stderr

    said = command("build", *options, "--openlineage", str(tmp_path / "told.jsonl"))
    assert said.code == 0, said.stderr
    assert "greymaps" not in said.stdout, "nobody named it"
    before = command("lock", "tiny_digits", *project.options).stdout

    told = tmp_path / "events.jsonl"
    said = command("build", "--only", "greymaps", *options, "--openlineage", str(told))
    assert said.code == 0, said.stderr
    assert "tiny_digits/test_greymaps" in said.stdout
    assert "tiny_colours/test_greymaps" not in said.stdout, "it does not apply"
    events = [json.loads(line) for line in told.read_text().splitlines()]
    [done] = [e for e in events if e["eventType"] == "COMPLETE" and e["job"]["name"] == PGM]
    [field] = done["outputs"][0]["facets"]["schema"]["fields"]
    assert field["name"] == "gray"
    lineage = done["outputs"][0]["facets"]["columnLineage"]["fields"]["gray"]["inputFields"]
    assert [origin["field"] for origin in lineage] == ["pixels"]

    assert command("verify", *project.options).code == 0
    assert command("verify", "--deep", *project.options).code == 0
    assert command("lock", "tiny_digits", *project.options).stdout == before, "it is no default"
    assert "up to date" in command("list", *project.options).stdout
    assert "Nothing to do" in command("build", "--only", "greymaps", *options).stdout

    traced = command("trace", "tiny_digits/test_greymaps:3", *project.options)
    assert traced.code == 0, traced.stdout
    assert "holds   greymaps" in traced.stdout
    assert command("trace", f"{PGM}:3", *project.options).code == 0
    copy = tmp_path / "copy.pgm"
    shutil.copy(project.data / PGM, copy)
    shutil.copy(project.data / f"{PGM}.lineage.json", tmp_path / "copy.pgm.lineage.json")
    assert command("trace", f"{copy}:3", *project.options).code == 0


def test_a_wrong_byte_of_an_added_export_is_found_whatever_its_provenance_says(
    project: Project, command: Command, add: Add
) -> None:
    add("exports", EXPORT)
    project.build("tiny_digits", stages=["greymaps"])
    forged = bytearray((project.data / PGM).read_bytes())
    forged[-1] ^= 1
    (project.data / PGM).write_bytes(forged)

    said = command("verify", *project.options)
    assert (said.code, f"{PGM}: changed" in said.stdout) == (1, True)
    said = command("trace", f"{PGM}:11", *project.options)
    assert (said.code, "BROKEN  greymaps" in said.stdout) == (1, True)

    rerecord(project, PGM)
    assert command("verify", *project.options).code == 0, "its provenance agrees with it"
    said = command("verify", "--deep", *project.options)
    assert said.code == 1
    assert f"{PGM}: changed: record 11: pixel in row" in said.stdout
    assert command("verify", "--deep", "--repair", *project.options, *project.mirror).code == 0


def test_an_option_of_an_added_export_is_a_setting_everywhere(
    built: Project, command: Command, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("exports", EXPORT)
    built.build("tiny_digits", stages=["greymaps"])
    assert made(built.build("tiny_digits", stages=["greymaps"], greymaps_windows=True)) == {
        "tiny_digits/train_greymaps",
        "tiny_digits/test_greymaps",
    }
    monkeypatch.setenv(variables()["greymaps_windows"], "1")
    options = [*built.options, *built.mirror, "tiny_digits", "--only", "greymaps"]
    assert "Nothing to do" in command("build", *options).stdout
    assert "Made 2 of" in command("build", *options, "--no-greymaps-windows").stdout


def test_what_is_added_stands_in_the_ui_with_its_columns_and_in_the_launchpad(
    project: Project, add: Add
) -> None:
    add("exports", EXPORT)
    add("descriptions", DESCRIPTION)
    definitions = automated(project.settings())
    graph = definitions.resolve_asset_graph()
    keys = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert "as greymaps: one after the other." in str(keys["tiny_digits/test_greymaps"].description)
    [column] = keys["tiny_digits/test_greymaps"].metadata["dagster/column_schema"].columns
    assert (column.name, column.description) == ("gray", "The intensities.")
    above = {key.to_user_string() for key in keys["tiny_letters/inventory"].parent_keys}
    assert above == {"tiny_letters/statistics"} | {
        f"tiny_letters/{split}{what}"
        for split in ("train", "test")
        for what in ("", "_csv", "_greymaps")
    }
    options = definitions.resources["options"]
    assert options.greymaps_windows is False
    assert options.exports == stages.exports()
    assert "greymaps" in options.exports


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
    built.build("tiny_digits", stages=["greymaps"])
    assert made(built.build("tiny_digits", stages=["inventory"])) == {"tiny_digits/inventory"}
    shown = (built.data / "descriptions/tiny_digits/inventory.txt").read_text().splitlines()
    assert PGM in shown
    assert command("trace", "tiny_digits/inventory", *built.options).code == 0
    said = command("trace", "tiny_digits/inventory:1", *built.options)
    assert (said.code, "has no rows" in said.stderr) == (1, True)


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
    (folder / "more").write_bytes(b"")
    assert made(built.build("tiny_letters", stages=["plain"])) == {name}
    assert command("verify", "--deep", *options).code == 0


def test_a_module_without_a_declaration_is_an_error_that_says_so(add: Add) -> None:
    add("exports", '"""Nothing."""\n')
    with pytest.raises(TypeError, match=r"pipelines\.exports\.added declares no EXPORT"):
        products.known()


def test_a_split_may_not_be_called_as_an_added_export_is(project: Project, add: Add) -> None:
    project.redeclare("tiny_digits", "splits.test]", "splits.test_greymaps]")
    plan.load(project.publisher.catalogue)
    add("exports", EXPORT)
    with pytest.raises(catalogue.CatalogueError, match="this name is taken"):
        plan.load(project.publisher.catalogue)


def test_a_dataset_that_is_added_as_one_file_is_made_like_any_other(
    project: Project, command: Command, tmp_path: Path
) -> None:
    pixels, labels = builders.images(9), builders.labels(9, 5)
    tiny = builders.tiny(tmp_path / "added", pixels, labels)
    text = (tmp_path / "added/catalogue/tiny.toml").read_text()
    (project.publisher.catalogue / "tiny.toml").write_text(text)
    shutil.copytree(tiny.archives, project.publisher.mirror / "tiny")

    assert command("build", "tiny", *project.options, *project.mirror).code == 0
    assert command("verify", "--deep", "tiny", *project.options).code == 0
    assert command("trace", "tiny/train_lmdb:8", *project.options).code == 0
    keys = automated(project.settings()).resolve_asset_graph().get_all_asset_keys()
    assert "tiny/train_csv" in {key.to_user_string() for key in keys}
