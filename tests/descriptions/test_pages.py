"""What pages share: they escape, refuse what is missing, and are legible in every colour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest

from pipelines.descriptions import _charts, _pages

MINIMAL = """{% extends "page.html" %}
{% import "parts.html" as parts %}
{% block title %}{{ name }}{% endblock %}
{% block main %}<h1>{{ name | markdown }}</h1>
{{ parts.table(name, ["class", "n"], [[name, 1234], ["b", "0.5"]], ["n"]) }}
{{ parts.copyable(name, "it", name) }}{% endblock %}
"""


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder in which templates lie beside those that all pages share."""
    for path in _pages.FOLDER.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(_pages, "FOLDER", tmp_path)
    caches = (_pages._environment, _pages.looks)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", ["page.css", "parts.html", "minimal.html"])
def test_what_pages_look_like_decides_whether_they_are_made_again(
    templates: Path, name: str
) -> None:
    (templates / "minimal.html").write_text(MINIMAL)
    before = _pages.looks("minimal.html")
    text = (templates / name).read_text()
    (templates / name).unlink()
    (templates / name).write_text(f"{text} ")
    _pages.looks.cache_clear()

    assert _pages.looks("minimal.html") != before


def test_words_in_a_page_are_no_markup(templates: Path) -> None:
    (templates / "minimal.html").write_text(MINIMAL)
    page = _pages.render("minimal.html", name="<b>&\"'")
    assert page.startswith("<!doctype html>")
    assert "<b>" not in page
    assert "<title>&lt;b&gt;&amp;&#34;&#39;</title>" in page
    assert '<th scope="row">b</th><td class="number">0.5</td>' in page
    assert '<td class="number">1,234</td>' in page


def test_a_name_that_nothing_is_given_for_is_an_error(templates: Path) -> None:
    (templates / "minimal.html").write_text(MINIMAL)
    with pytest.raises(jinja2.UndefinedError, match="name"):
        _pages.render("minimal.html")


def test_markdown_is_text_and_loads_no_picture(templates: Path) -> None:
    (templates / "text.md").write_text("{{ name }}")
    assert _pages.render("text.md", name="<b>") == "<b>"
    (templates / "one.html").write_text("{{ name | markdown }}")
    told = "*a* <img src='x'> ![b](http://x.org/y) [c](javascript:d)"
    page = _pages.render("one.html", name=told)
    assert page.startswith("<em>a</em> &lt;img")
    assert "<img" not in page
    assert 'href="javascript' not in page


def test_a_chart_in_a_page_is_named_has_the_pages_colours_and_ids_of_its_own() -> None:
    means = {"train": [3.0, None], "test": [5.0, 6.0]}
    middles = {"train": [(1.0, 4.0), None], "test": [(2.0, 7.0), (5.0, 8.0)]}
    svg = _charts.intensities(["a", "<b>"], means, middles, "Title")
    assert svg == _charts.intensities(["a", "<b>"], means, middles, "Title")
    found = _pages.inline_svg(svg, "one", "A & B", "What it shows")
    root = ElementTree.fromstring(found)
    assert [node.text for node in root][:2] == ["A & B", "What it shows"]
    assert root.get("aria-labelledby") == "one-title one-text"
    assert "width" not in root.attrib
    ids = re.findall(r' id="([^"]+)"', found)
    assert all(name.startswith("one-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', found)) <= set(ids)
    assert "var(--series-0)" in found
    assert "var(--soft)" in found
    assert not any(colour in found for colour in _pages.COLOURS)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_letters_and_charts_are_legible_in_the_light_and_in_the_dark(theme: int) -> None:
    css = (_pages.FOLDER / "page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    for paper in ("page", "panel"):
        for ink in ("text", "soft", "link"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for number in (0, 1):
        assert contrast(colours[f"series-{number}"], colours["page"]) >= 3
    assert {f"series-{number}" for number in range(len(_charts.SERIES))} <= colours.keys()
