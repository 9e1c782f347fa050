"""docs/descriptions.md: every description stands there, with commands and files that there are."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from assets.command_line._main import _parser
from assets.command_line.declaring import declared
from assets.settings import ROOT, Settings
from pipelines import products, stages

TEXT = (ROOT / "docs/descriptions.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^    python -m assets ([^#\n]*)", TEXT, re.MULTILINE)


def test_every_description_has_a_section_and_no_other_thing_has_one() -> None:
    there = {name for name in products.known() if products.room_of(name) == "descriptions"}
    commands = {module.__name__.rpartition(".")[2] for module in declared()}
    assert there <= {*SECTIONS}
    assert {*SECTIONS} <= there | commands


@pytest.mark.parametrize(
    "name", [name for name in products.known() if products.room_of(name) == "descriptions"]
)
def test_a_section_says_the_command_and_where_the_files_lie(name: str) -> None:
    path = products.known()[name].files.format(dataset="mnist", split="train")
    assert f"`data/{path}`" in SECTIONS[name]
    assert re.search(rf"python -m assets build .*--only {name}\b", SECTIONS[name])


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood_and_names_what_there_is(line: str) -> None:
    arguments = shlex.split(line)
    given: argparse.Namespace = _parser(arguments).parse_args(arguments)
    catalogue = Settings().plan().declared
    names = getattr(given, "datasets", None) or [getattr(given, "dataset", None) or "mnist"]
    assert catalogue.select(names)
    assert stages.selected(getattr(given, "only", None) or ())
