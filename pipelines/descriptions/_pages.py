"""Pages: what every HTML page of ours shares; each is one file that opens from disk.

    pages/page.html     the frame: a page of ours `extends` it and fills `main`
    pages/parts.html    macros: a table, a table that scrolls, text with a button that copies it
    pages/page.css      colours and type for light, dark and paper; every colour is a variable
    pages/page.js       the copy buttons, and what is folded away opens before it is printed

A page asks nobody for anything, and its Content-Security-Policy would not let it: all that it shows
stands in it. `WITH_FILES` lets it load pictures and scripts that lie beside it. The template of a
page is a file in `pages/` too, for `render`. What is put into one that ends in `.html` is escaped,
and a name that nothing was given for is an error. Not here: what a page tells (the descriptions),
or how charts are drawn (`_charts`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import wording
from . import _charts

if TYPE_CHECKING:
    from jinja2 import Environment
    from markdown_it import MarkdownIt
    from markupsafe import Markup

FOLDER = Path(__file__).parent / "pages"
_SHARED = ("page.html", "parts.html", "page.css", "page.js")

_NOTHING_ELSE = "; base-uri 'none'; form-action 'none'"
_INLINE = "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
ALONE = f"default-src 'none'; img-src data:; {_INLINE}{_NOTHING_ELSE}"
WITH_FILES = f"default-src 'none'; img-src 'self' data: blob:; {_INLINE} 'self'{_NOTHING_ELSE}"

COLOURS: Mapping[str, str] = {_charts.INK: "var(--soft)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_charts.SERIES)
}
"""A colour of a chart → what it is on a page, in the light and in the dark."""


def render(template: str, **values: Any) -> str:
    """Return a template of `pages/` with values in the places of their names."""
    return _environment().get_template(template).render(values)


@functools.cache
def looks(*templates: str) -> str:
    """Return the SHA-256 of what decides how pages look: what all share, and their templates.

    It is a parameter of every product that writes pages, so that they are made again when it moves.
    """
    files = [FOLDER / name for name in (*_SHARED, *templates)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def inline_svg(
    svg: str, ident: str, title: str, text: str, colours: Mapping[str, str] = COLOURS
) -> Markup:
    """Return a chart of matplotlib's as part of a page: in its colours, as wide as its place.

    Args:
        svg: the file's text.
        ident: begins all its ids; each chart of a page has another.
        title: what the chart is called, for those who don't see it.
        text: what it shows, for them; the numbers had better stand below, as a table.
        colours: what the page has in the place of the chart's.
    """
    from markupsafe import Markup

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<(metadata|title)>.*?</\1>", "", svg, flags=re.DOTALL)
    # matplotlib's style is for `*`: all of the page.
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{ident}-", svg)
    svg = svg.replace("xlink:href", "href").replace(
        ' xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    for drawn, here in colours.items():
        svg = svg.replace(drawn, here)
    head, rest = svg.split(">", 1)
    named = f'role="img" aria-labelledby="{ident}-title {ident}-text"'
    return Markup(  # matplotlib escaped what it wrote
        f'{head} {named}><title id="{ident}-title">{escape(title)}</title>'
        f'<desc id="{ident}-text">{escape(text)}</desc>{rest}'
    )


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals["policy"] = ALONE
    found.filters["markdown"] = _as_html
    found.filters["plain"] = wording.plain
    found.filters["fenced"] = wording.fenced
    return found


def _as_html(text: str) -> Markup:
    """Return the catalogue's words, which may hold markdown, as parts of a paragraph.

    Markup in them is text, and a picture, which would have to be fetched, is what it is called.
    """
    from markupsafe import Markup

    return Markup(_markdown().renderInline(text.strip()))  # it escaped what is no markdown


@functools.cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).disable("image")
