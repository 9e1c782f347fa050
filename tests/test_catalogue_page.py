"""docs/catalogue.md tells every key that a TOML may have."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from pipelines import declarations as declared

PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
FILLED_IN = {
    "group",
    "image_bytes",
    "name",
    "source",
    "members",
    "divided",
    "whole",
    "key",
    "first",
    "skip",
    "member",
}
KINDS = (declared.Source, declared.Dataset, declared.Split, declared.Archive, declared.Rows)


def test_every_key_is_told() -> None:
    keys = {field.name for kind in KINDS for field in fields(kind)}
    keys = (keys - FILLED_IN - {"optional_archives", "size_bytes"}) | {
        "bytes",
        "each_split",
        "like",
    }
    told = {*re.findall(r"\w+", " ".join(re.findall(r"`+([^`]+)`+", PAGE.read_text("utf-8"))))}

    assert keys - told - {"archives", "datasets", "splits", "listed", "line", "of"} == set()
