"""Pictures: what a table holds, and how its figures compare, at a glance.

Not here: where pictures are shown, or what the figures mean (`pipelines.statistics`). Everything is
drawn small enough to be kept with the records of every run, the same from run to run, and for
light and dark pages alike: what is no image is transparent, and names are grey.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from .. import tables
from ..records import Pixels

MOST_EXAMPLES = 10  # of a class on a contact sheet
SHEET_EXAMPLES = 240  # of all classes together
FEW_CLASSES = 30  # at most so many have their examples drawn large
LARGE, SMALL = 56, 28  # pixels of an example's longer side, as nearly as a whole factor gives
MOST_BYTES = 150_000  # of a sheet
GREYS, COLOURS = 12, (60, 28, 12, 6)  # of a sheet; the fewer, the smaller
MOST_LETTERS = 999  # of markdown that Dagster's UI shows at once; more hides behind a button

_FONT_SIZE = 15
_GAP = 2  # pixels between examples
_INK = (128, 128, 128)  # of names: legible on white and on black
_INKS = 4  # steps of a letter's edge, from transparent to _INK; they come first in a palette
_STRIP_CLASSES = 10
_STRIP_SIDE, _STRIP_SHOWN = 32, 48  # pixels of an image's longer side: most kept, and as shown
_QUALITIES = (80, 60, 40, 20, 5)  # of a strip, at each of its sizes
_NAME_LETTERS = 24  # longer names of classes are cut

_LONGEST = 300  # pixels of the longest bar; above its end stands its value
_BAR_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")  # on white and on black


@dataclass(frozen=True, slots=True)
class Rows:
    """Images in a row behind each name; `heads` say what the columns of all rows are, if not alike.

    shape: (height, width, channels) of every image.
    """

    names: Sequence[str]
    images: Sequence[Sequence[Pixels]]
    shape: tuple[int, int, int]
    heads: Sequence[str] = ()


def examples(path: Path) -> Rows:
    """Return each class's first examples in a table; no more is read than it takes to have them.

    Raises:
        TableError: no table of ours.
    """
    about = tables.info(path)
    each = max(2, min(MOST_EXAMPLES, SHEET_EXAMPLES // len(about.classes)))
    return Rows(about.classes, _examples(path, each, len(about.classes)), about.shape)


def means(path: Path) -> Rows:
    """Return each class's mean image in each split; black where a split has none of a class."""
    schema = pq.read_schema(path)
    height, width, channels = map(int, schema.metadata[b"shape"].split(b","))
    found = pl.read_parquet(path, columns=["split", "class", "mean_image"]).drop_nulls("class")
    nothing = np.zeros((height, width, channels), np.uint8)
    images = [
        [
            nothing if one is None else np.rint(one).astype(np.uint8).reshape(nothing.shape)
            for one in of_class
        ]
        for of_class in found.group_by("class", maintain_order=True)
        .agg("mean_image")["mean_image"]
        .to_list()
    ]
    names, splits = (found[key].unique(maintain_order=True).to_list() for key in ("class", "split"))
    return Rows(names, images, nothing.shape, splits)


def strip(rows: Rows, alt: str) -> str:
    """Return markdown that the UI shows at once: of ten classes at most the first image.

    Where the columns have heads, an image of each column, one above the other.
    """
    classes = min(_STRIP_CLASSES, len(rows.names))
    while classes:
        chosen = np.linspace(0, len(rows.names) - 1, classes).round().astype(int)
        names = " · ".join(_plain(_cut(rows.names[at])) for at in chosen)
        told = f"{' above '.join(map(_plain, rows.heads))}: {names}" if rows.heads else names
        lines = [
            [next(iter(rows.images[at][line:]), None) for at in chosen]
            for line in range(max(1, len(rows.heads)))
        ]
        for picture in _ever_smaller(lines, rows.shape):
            text = f"{in_markdown(picture, alt)}\n\n{told}"
            if len(text) <= MOST_LETTERS:
                return text
        classes //= 2
    return text


def bars(names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Return an SVG of horizontal bars: a row per name, in it a bar per series.

    Args:
        names: of the rows.
        series: what each is called → a value for each row, 0 or more. All share one scale.
    """
    longest = max([*map(max, series.values()), 1e-9])
    left = 8 * min(max(map(len, names)), _NAME_LETTERS) + 8
    right = left + _LONGEST
    thick = max(1, 14 // len(series))
    scale = f"{longest:,.0f}" if longest >= 1000 else f"{longest:.3g}"
    parts = [f"<text x='{right}' y='13' text-anchor='end'>{scale}</text>"]
    for row, name in enumerate(names):
        parts.append(f"<text y='{18 * row + 35}'>{escape(_cut(name))}</text>")
    for at, (name, values) in enumerate(series.items()):
        colour, x = _BAR_COLOURS[at % len(_BAR_COLOURS)], left + 80 * at
        parts.append(f"<text x='{x}' y='13' fill='{colour}'>{escape(_cut(name))}</text>")
        top = 23 + thick // 2 + at * thick
        lengths = (round(_LONGEST * value / longest) for value in values)
        lines = "".join(f"M{left} {top + 18 * row}h{long}" for row, long in enumerate(lengths))
        parts.append(f"<path stroke='{colour}' d='{lines}'/>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{right}' height='{18 * len(names) + 22}' "
        f"fill='gray' stroke-width='{thick}' style='font:13px sans-serif'>{''.join(parts)}</svg>"
    )


def in_markdown(picture: bytes | str, alt: str) -> str:
    """Return a PNG (bytes) or an SVG (text) as a markdown image that needs no file."""
    if isinstance(picture, bytes):
        return f"![{alt}](data:image/png;base64,{base64.b64encode(picture).decode()})"
    for letter in "%<>#\n":  # all that a URL between < and > in markdown must not hold
        picture = picture.replace(letter, f"%{ord(letter):02X}")
    return f"![{alt}](<data:image/svg+xml,{picture}>)"


def _examples(path: Path, each: int, classes: int) -> list[list[Pixels]]:
    """Return the first images of each class."""
    found: list[list[Pixels]] = [[] for _ in range(classes)]
    missing = each * classes
    with contextlib.closing(tables.batches(path)) as batches:
        for batch in batches:
            for label, some in enumerate(found):
                at = np.flatnonzero(batch.labels == label)[: each - len(some)]
                some.extend(batch.images[at])
                missing -= len(at)
            if not missing:
                break
    return found


def _ever_smaller(
    lines: Sequence[Sequence[Pixels | None]], shape: tuple[int, int, int]
) -> Iterator[str]:
    """Yield an SVG of lines of images, of ever fewer pixels and lower quality, shown as large."""
    height, width, channels = shape
    shown = [round(_STRIP_SHOWN * side / max(height, width)) for side in (width, height)]
    wide, tall = shown[0] * len(lines[0]), shown[1] * len(lines)
    nothing = np.zeros(shape, np.uint8)
    whole = np.concatenate(
        [np.concatenate([nothing if i is None else i for i in line], axis=1) for line in lines]
    )
    image = Image.fromarray(whole[..., 0] if channels == 1 else whole).convert("RGB")
    most = min(1.0, _STRIP_SIDE / max(height, width))
    for scale in (most, most * 0.75, most * 0.5):
        size = [max(1, round(side * scale)) for side in image.size]
        small = image.resize((size[0], size[1]), Image.Resampling.BOX)
        for quality in _QUALITIES:
            file = io.BytesIO()
            small.save(file, "WEBP", quality=quality)
            data = base64.b64encode(file.getvalue()).decode()
            yield (
                f"<svg xmlns='http://www.w3.org/2000/svg' width='{wide}' height='{tall}'><image "
                f"width='{wide}' height='{tall}' href='data:image/webp;base64,{data}'/></svg>"
            )


def sheet(rows: Rows) -> bytes:
    """Return a PNG with a row for each name, in columns that make it about square."""
    names = [_cut(name) for name in rows.names]
    font = ImageFont.load_default(_FONT_SIZE)
    height, width, channels = rows.shape
    is_small = len(names) > FEW_CLASSES
    factor = (SMALL if is_small else LARGE) / max(height, width)
    factor = max(1, round(factor)) if factor > 0.5 else factor
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    left = max(int(font.getlength(name)) for name in names) + 12
    across = left + max(map(len, rows.images)) * (wide + _GAP) + 12
    down = max(tall, _FONT_SIZE + 4) + _GAP
    columns = max(1, round(math.sqrt(len(names) * down / across)))
    in_column = -(-len(names) // columns)
    top = _FONT_SIZE + 4 if rows.heads else 0
    size = (columns * across, in_column * down + top)
    pictures, covered = Image.new("L" if channels == 1 else "RGB", size), Image.new("1", size)
    letters = Image.new("L", size)
    draw = ImageDraw.Draw(letters)
    small_font = ImageFont.load_default(10)
    for column in range(-(-len(names) // in_column)):
        for at, head in enumerate(rows.heads):
            x = column * across + left + at * (wide + _GAP) + wide // 2
            draw.text((x, top // 2), head, 255, small_font if wide < LARGE else font, anchor="mm")
    for number, (name, images) in enumerate(zip(names, rows.images, strict=True)):
        x, y = number // in_column * across, top + number % in_column * down
        draw.text((x + left - 8, y + tall // 2), name, 255, font, anchor="rm")
        for at, one in enumerate(images):
            image = Image.fromarray(one[..., 0] if channels == 1 else one)
            how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
            corner = (x + left + at * (wide + _GAP), y)
            pictures.paste(image.resize((wide, tall), how), corner)
            covered.paste(1, (*corner, corner[0] + wide, corner[1] + tall))
    if channels == 1:
        return _png(_over(_in_greys(pictures), covered, letters))
    for colours in COLOURS:
        few = pictures.quantize(colours, dither=Image.Dither.NONE)
        png = _png(_over(few, covered, letters))
        if len(png) <= MOST_BYTES:
            break
    return png


def _over(pictures: Image.Image, covered: Image.Image, letters: Image.Image) -> Image.Image:
    """Return an image with a palette: pictures where they cover it, and letters on nothing."""
    steps = np.rint(np.asarray(letters) / (255 / (_INKS - 1)))
    indices = np.where(np.asarray(covered), np.asarray(pictures) + _INKS, steps).astype(np.uint8)
    whole = Image.fromarray(indices).convert("P")
    whole.putpalette([*_INK * _INKS, *(pictures.getpalette() or [])])
    whole.info["transparency"] = bytes(step * 255 // (_INKS - 1) for step in range(_INKS))
    return whole


def _in_greys(pictures: Image.Image) -> Image.Image:
    """Return a grey image in a few steps of grey, which take half the bytes and look the same."""
    steps = np.rint(np.asarray(pictures) / (255 / (GREYS - 1))).astype(np.uint8)
    few = Image.fromarray(steps).convert("P")
    few.putpalette([step * 255 // (GREYS - 1) for step in range(GREYS) for _ in range(3)])
    return few


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def _plain(text: str) -> str:
    """Return text of which markdown takes nothing for its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", text)
