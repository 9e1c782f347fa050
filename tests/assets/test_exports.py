"""`python -m assets exports` and docs/exports.md: who opens what, made from the declarations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assets.settings import ROOT
from pipelines import products, stages
from pipelines.products import Option, Product, Reader
from tests.assets.conftest import Command
from tests.assets.project import Project
from tests.assets.test_extending import Add, add  # noqa: F401 # a fixture
from tests.contributing import EXPORT

PAGE = ROOT / "docs" / "exports.md"
MAKE = f"{Path(sys.executable).name} -m assets exports --markdown > docs/exports.md"

READERS = """    read_by=(
        Reader(
            "torchvision 0.28.0",
            ("torchvision==0.28.0",),
            'import shop\\n\\nshop.unpack({"a": 1})\\n'
            'shop.load(\\n    "{path}",\\n    split="{split}",\\n)\\nshop.close()',
            "It is read as it is.",
        ),
        Reader("candle", (), 'load_dir("{folder}")?;'),
    ),
    measured=(1234.5, 0.25),
    extra="hdf5",
    requires=("h5py",),
"""
WITH_READERS = EXPORT.replace("    sidecar=True,\n", READERS).replace(
    "import Column, Option, Product, Stored", "import Column, Option, Product, Reader, Stored"
)


@pytest.mark.slow
def test_the_page_is_the_one_that_the_declarations_make() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assets", "exports", "--markdown"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert PAGE.read_bytes() == done.stdout, f"run: {MAKE}"


def test_formatting_the_sources_leaves_the_page_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", PAGE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_names_every_export_and_warns_of_what_deletes_files() -> None:
    text = PAGE.read_text("utf-8")
    for name in stages.exports():
        assert f"\n## {name}\n" in text
        for reader in products.known()[name].read_by:
            assert f"\n**{reader.name}**" in text
    for words in ("your loader", "`crab`", "column by column", "from 1", "88,800", "~/.keras"):
        assert words in text


def test_the_table_fits_a_terminal_and_names_every_export(command: Command) -> None:
    said = command("exports")
    assert said.code == 0
    assert max(map(len, said.stdout.splitlines())) <= 80
    rows = [line.split("  ")[0] for line in said.stdout.splitlines()]
    assert {*stages.exports()} <= {*rows}


def test_all_there_is_to_know_of_one_is_told_with_the_lines_that_open_it(
    project: Project,
    command: Command,
    add: Add,  # noqa: F811
) -> None:
    add("exports", WITH_READERS)
    lines = command("exports", *project.options).stdout.splitlines()
    [row] = [line for line in lines if line.startswith("rows")]
    assert row.split() == ["rows", "NPY", "1,234.5", "0.25", "torchvision,", "candle"]

    said = command("exports", "rows", *project.options)
    assert (said.code, said.stderr) == (0, "")
    text = said.stdout
    assert text.startswith(
        "rows: Tiny colours as NPY: an array of records, each a label and pixels"
    )
    for words in (
        f"files      {project.data}/exports/tiny_colours/train.npy",
        "one of     each split\n",
        "made       on request: python -m assets build tiny_colours --only rows",
        "size       1,234.5 MB for MNIST train",
        "needs      h5py: .venv/bin/python -m pip install h5py",
        "bytes      the same ones come out everywhere",
        "--rows-flat                 give the pixels of a record one axis (off by",
        "torchvision 0.28.0:\nIt is read as it is.\n\n    import shop\n",
        f'        "{project.data}/exports/tiny_colours/train.npy",\n        split="train",\n',
        f'    load_dir("{project.data}/exports/tiny_colours")?;',
    ):
        assert words in text
    assert 'unpack({"a": 1})' in text, "other braces are code"

    page = command("exports", "rows", "--markdown", *project.options).stdout
    line = 'shop.load("data/exports/tiny_colours/train.npy", split="train")'
    assert f"| torchvision | [`rows`](#rows) | `{line}` |" in page
    assert '| candle | [`rows`](#rows) | `load_dir("data/exports/tiny_colours")?;` |' in page
    assert str(project.data) not in page


def test_an_export_of_some_datasets_says_of_which(
    project: Project,
    command: Command,
    add: Add,  # noqa: F811
) -> None:
    grey = "    applies=lambda dataset: dataset.image.channels == 1,\n    read=read,"
    add("exports", WITH_READERS.replace("    read=read,", grey))
    said = command("exports", "rows", *project.options)
    assert "one of     each split of tiny_digits, tiny_letters\n" in said.stdout
    never = grey.replace("== 1", "== 4")
    add("exports", WITH_READERS.replace("    read=read,", never))
    lines = command("exports", *project.options).stdout.splitlines()
    assert [line for line in lines if line.startswith("rows")] == []
    assert "No dataset" in command("exports", "rows", *project.options).stdout


def test_an_export_that_there_is_none_of_a_dataset_is_refused_and_makes_nothing_else(
    project: Project, command: Command
) -> None:
    for name in ("build", "fetch"):
        said = command(name, "tiny_digits", "--only", "python_batches", *project.options)
        assert said.code == 2
        assert said.stderr == (
            "error: There is no python_batches of tiny_digits. "
            "Datasets that have one: none of this catalogue.\n"
        )
    assert not (project.data / "tables").exists()


def test_an_export_that_other_datasets_have_is_refused_with_their_names(
    project: Project,
    command: Command,
    add: Add,  # noqa: F811
) -> None:
    grey = "    applies=lambda dataset: dataset.image.channels == 1,\n    read=read,"
    add("exports", WITH_READERS.replace("    read=read,", grey))
    said = command("build", "tiny_colours", "--only", "rows", *project.options)
    assert "no rows of tiny_colours. Datasets that have one: tiny_digits, tiny_l" in said.stderr


def test_a_misspelt_export_gets_a_suggestion(command: Command) -> None:
    said = command("exports", "lmbd")
    assert said.code == 2
    assert "There is no export 'lmbd'. Did you mean 'lmdb'? Known: " in said.stderr


def test_options_have_words_or_numbers() -> None:
    words = Option("channels", "none", "where they stand", choices=("none", "last", "first"))
    assert words.read("first") == "first"
    with pytest.raises(ValueError, match="write none, last or first; none is the default"):
        words.read("First")
    assert Option("level", 6, "how much", 0, 9).read("9") == 9


def test_what_a_product_lacks_is_told_with_the_command_that_installs_it() -> None:
    def write(*_: object) -> dict[str, object]:
        raise AssertionError

    def needing(*libraries: str) -> Product:
        return Product("x", "as x.", "split", "{split}", "1", write, requires=libraries)

    assert needing("numpy", "pillow").lacking == ""  # by the names that pip takes
    assert needing("numpy", "not-there", "nor-this").lacking == (
        "x needs not-there and nor-this, which not everybody has. Install it: "
        ".venv/bin/python -m pip install not-there nor-this"
    )
    assert Reader("a 1", (), "open('{path}')").lines(path="p") == "open('p')"
