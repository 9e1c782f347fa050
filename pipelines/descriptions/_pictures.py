"""Pictures: what a table holds, and how its figures compare, at a glance.

Not here: where pictures are shown, or what the figures mean (`pipelines.statistics`). Everything is
drawn small enough to be kept with the records of every run, and the same from run to run.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Mapping, Sequence
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
GREYS, COLOURS = 16, (64, 32, 16, 8)  # of a sheet; the fewer, the smaller

_FONT_SIZE = 15
_GAP = 2  # pixels between examples
_NAME_LETTERS = 24  # longer names of classes are cut

_LONGEST = 300  # pixels of the longest bar; above its end stands its value
_BAR_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")  # on white and on black


def contact_sheet(path: Path) -> bytes:
    """Return a PNG of a table: each class's first examples in a row behind its name.

    No more is read than it takes to have them.

    Raises:
        TableError: no table of ours.
    """
    about = tables.info(path)
    each = max(2, min(MOST_EXAMPLES, SHEET_EXAMPLES // len(about.classes)))
    return _sheet(about.classes, _examples(path, each, len(about.classes)), about.shape)


def mean_images(path: Path) -> bytes:
    """Return a PNG of a dataset's statistics: behind each class's name its mean image per split."""
    schema = pq.read_schema(path)
    height, width, channels = map(int, schema.metadata[b"shape"].split(b","))
    found = pl.read_parquet(path, columns=["class", "mean_image"]).drop_nulls("class")
    rows = [
        [np.rint(image).astype(np.uint8).reshape(height, width, channels) for image in images]
        for images in found.group_by("class", maintain_order=True)
        .agg(pl.col("mean_image").drop_nulls())["mean_image"]
        .to_list()
    ]
    names = found["class"].unique(maintain_order=True).to_list()
    return _sheet(names, rows, (height, width, channels))


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


def _sheet(
    names: Sequence[str], rows: Sequence[Sequence[Pixels]], shape: tuple[int, int, int]
) -> bytes:
    """Return a PNG with a row for each name, in columns that make it about square."""
    names = [_cut(name) for name in names]
    font = ImageFont.load_default(_FONT_SIZE)
    height, width, channels = shape
    factor = (LARGE if len(names) <= FEW_CLASSES else SMALL) / max(height, width)
    factor = max(1, round(factor)) if factor > 0.5 else factor
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    left = max(int(font.getlength(name)) for name in names) + 12
    across = left + max(map(len, rows)) * (wide + _GAP) + 12
    down = max(tall, _FONT_SIZE + 4) + _GAP
    columns = max(1, round(math.sqrt(len(names) * down / across)))
    in_column = -(-len(names) // columns)
    colour = "L" if channels == 1 else "RGB"
    sheet = Image.new(colour, (columns * across, in_column * down), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, examples) in enumerate(zip(names, rows, strict=True)):
        x, y = number // in_column * across, number % in_column * down
        draw.text((x + left - 8, y + tall // 2), name, "black", font, anchor="rm")
        for at, example in enumerate(examples):
            image = Image.fromarray(example[..., 0] if channels == 1 else example)
            how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
            sheet.paste(image.resize((wide, tall), how), (x + left + at * (wide + _GAP), y))
    if channels == 1:
        return _png(_in_greys(sheet))
    for colours in COLOURS:
        png = _png(sheet.quantize(colours, dither=Image.Dither.NONE))
        if len(png) <= MOST_BYTES:
            break
    return png


def _in_greys(sheet: Image.Image) -> Image.Image:
    """Return a grey sheet in a few steps of grey, which take half the bytes and look the same."""
    steps = np.rint(np.asarray(sheet) / (255 / (GREYS - 1))).astype(np.uint8)
    few = Image.fromarray(steps).convert("P")
    few.putpalette([step * 255 // (GREYS - 1) for step in range(GREYS) for _ in range(3)])
    return few


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"
