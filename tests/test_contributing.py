"""CONTRIBUTING.md and docs/architecture.md: what they name is there, and what they show works.

The export, the description and the dataset are made, listed, verified and traced in
`tests/assets/test_extending.py`, the command runs in `tests/assets/test_command_line.py`.
"""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import catalogue, descriptions, exports, formats, products, stages, tables
from pipelines.errors import FormatError
from pipelines.records import Batch
from tests import builders, contributing
from tests.builders import Array, Tiny
from tests.contributing import EXAMPLES, ROOT, TEXT
from tests.exports import test_contract as made_for_others
from tests.formats import test_contract as contract
from tests.formats.test_contract import room

__all__ = ["room"]  # a fixture

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """The files and folders of the project that a text names: in backticks, or as links."""
    words = re.findall(r"`([\w./-]+)`|\]\(([\w./-]+)\)", text)
    return {
        word
        for word in (first or second for first, second in words)
        if re.match(r"(\.\./)?(assets|benchmarks|docs|pipelines|tests|\.ci)/|\w+\.md$", word)
    }


def test_every_file_that_contributing_names_is_there() -> None:
    missing = {name for name in named(TEXT) if not (ROOT / name).exists()}

    assert missing == {*EXAMPLES}


def test_every_make_target_of_contributing_is_one() -> None:
    targets = re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = re.findall(r"^    .*?\bmake ([a-z-]+)|`make ([a-z-]+)`", TEXT, re.MULTILINE)

    found = {first or second for first, second in said}
    assert found == {"test", "test-quick", "test-wheel", "test-readers", "check", "bench"}
    assert found <= {*targets}


def test_every_example_has_a_name_by_which_tests_use_it() -> None:
    named = {value for value in vars(contributing).values() if isinstance(value, str)}

    assert {*EXAMPLES.values()} <= named


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.endswith(".py")])
def test_an_example_is_written_as_make_check_wants_it(path: str) -> None:
    for check in (["format", "--check", "--diff"], ["check", "--extend-ignore", "D,A"]):
        command = [sys.executable, "-m", "ruff", *check, "--stdin-filename", path, "-"]
        done = subprocess.run(
            command, cwd=ROOT, input=EXAMPLES[path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


# --- The format -----------------------------------------------------------------------------------


def plain(folder: Path, pixels: Array, labels: Array, stored: bytes) -> Tiny:
    """A split in the format that CONTRIBUTING.md shows, as a file of these bytes."""
    declared, archives = folder / "catalogue", folder / "archives"
    for place in (declared, archives):
        place.mkdir()
    (archives / "some.bin").write_bytes(stored)
    _, height, width, channels = pixels.shape
    (declared / "some.toml").write_text(
        builders.declare({"some.bin": stored})
        + f"""
[datasets.some]
title = "Some"
format = "plain"
image = {{ height = {height}, width = {width}, channels = {channels} }}
classes = ["a", "b", "c"]
first_label = 1

[datasets.some.splits.train]
records = {len(labels)}
counts = {builders.counts(labels, 3)}
data = "some.bin"
"""
    )
    source = catalogue.load(declared).sources["some"]
    dataset = source.datasets["some"]
    return Tiny(source, dataset, dataset.splits["train"], {"some.bin": stored}, archives)


def test_the_format_of_contributing_is_read_like_any_other(room: Path, tmp_path: Path) -> None:
    (room / "plain.py").write_text(contributing.FORMAT)
    pixels, labels = builders.images(9, 4, 3, 3), builders.labels(9, 3)
    stored = np.column_stack([labels + np.uint8(1), pixels.reshape(9, -1)]).tobytes()
    tiny = plain(tmp_path, pixels, labels, stored)

    found = tables.read(tiny.table(tmp_path / "train.parquet"))

    contract.same(found, Batch(pixels, labels))
    for piece in (1, 7, 1000):
        batches = contract.decoded(tiny, tiny.members, batch=4, piece=piece)
        assert [len(batch) for batch in batches] == [4, 4, 1]
        assert all(batch.images.flags.c_contiguous for batch in batches)
        contract.same(Batch.joined(batches), found)
    for index in range(9):
        record = slice(index, index + 1)
        contract.same(contract.located(tiny, index), Batch(pixels[record], labels[record]))
    for wrong in (stored[:-1], stored + b"\0", b"\0" + stored[1:]):
        with pytest.raises(FormatError):
            contract.decoded(tiny, {"some.bin": wrong}, batch=4, piece=1000)


def test_the_format_of_contributing_refuses_what_it_can_not_hold(
    room: Path, tmp_path: Path
) -> None:
    (room / "plain.py").write_text(contributing.FORMAT)
    tiny = plain(tmp_path, builders.images(1), builders.labels(1, 3), bytes(13))
    toml = tmp_path / "catalogue/some.toml"
    toml.write_text(
        toml.read_text().replace('title = "Some"', 'title = "x"\norientation = "transposed"')
    )

    assert [*formats.named("plain").refuses(tiny.dataset)] == []
    with pytest.raises(catalogue.CatalogueError, match="format plain has upright images"):
        catalogue.load(toml.parent)


# --- The export and the description ---------------------------------------------------------------


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, while both lie in their packages."""
    packages = {exports: contributing.EXPORT, descriptions: contributing.DESCRIPTION}
    for package, text in packages.items():
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "shown.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])

    def forget() -> None:
        for cached in (products.known, products._lying_in, stages.reserved):
            cached.cache_clear()

    forget()
    yield tmp_path
    forget()
    for package in packages:
        sys.modules.pop(f"{package.__name__}.shown", None)
        monkeypatch.delattr(package, "shown", raising=False)


@pytest.mark.slow
def test_what_contributing_adds_keeps_the_contract(added: Path) -> None:
    for name in ("rows", "inventory"):
        made_for_others.test_a_declaration_is_complete(products.known()[name])
    made = replace(made_for_others.made_in(added), only=frozenset({"rows", "inventory"}))
    assert {product.name for _, product in made.products()} == {"rows", "inventory"}
    first = made_for_others.written(made, added / "first")
    assert made_for_others.written(made, added / "second") == first
    made_for_others.test_what_holds_records_gives_all_of_them_back_from_where_it_says(
        made, (added / "first", first)
    )
    made_for_others.test_a_byte_that_flips_within_a_record_is_another_record_or_a_refusal(
        made, added / "flipped"
    )
    made_for_others.test_no_two_artefacts_lie_in_one_place_or_have_one_name(made)


# --- What charters name ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("wing", ["pipelines", "assets", "docs", "benchmarks", "tests"])
def test_every_module_that_is_named_in_backticks_is_there(wing: str) -> None:
    texts = {path: path.read_text() for path in (ROOT / wing).rglob("*.[pm][yd]")}
    names = {
        (str(path.relative_to(ROOT)), name)
        for path, text in texts.items()
        for name in re.findall(r"`((?:pipelines|assets)(?:\.\w+)+)`", text)
    }

    missing = []
    for place, name in sorted(names):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(f"{place} names {name}")
    assert missing == []


# --- The map --------------------------------------------------------------------------------------


def test_every_file_that_the_map_names_is_there() -> None:
    missing = {
        name
        for name in named(MAP)
        if not (ROOT / "docs" / name).exists() and not (ROOT / name).exists()
    }

    assert missing == set()


@pytest.mark.parametrize("wing", ["pipelines", "assets"])
def test_the_map_shows_every_room_of_a_wing_and_nothing_that_is_not_there(wing: str) -> None:
    """Of the rooms, and of the modules that lie beside them."""
    [shown] = re.findall(rf"^    {wing}/ .*\n((?: {{6}}.*\n)+)", MAP, re.MULTILINE)
    words = {word for line in shown.splitlines() for word in line.strip().split("  ")[0].split()}
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / wing).iterdir()
        if not path.name.startswith("__")
    }

    assert words == there
