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
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image, ImageChops, ImageDraw, ImageFont

from .. import tables, wording
from ..records import Pixels

MOST_EXAMPLES = 10  # of a class on a contact sheet
SHEET_EXAMPLES = 240  # of all classes together
FEW_CLASSES = 30  # at most so many have their examples drawn large
LARGE, SMALL = 56, 28  # pixels of an example's longer side, as nearly as a whole factor gives
MOST_BYTES = 150_000  # of a sheet
GREYS, COLOURS = 12, (60, 28, 12, 6)  # of a sheet; the fewer, the smaller
_FEWEST_SAMPLES, _SAMPLES = 3, 400  # of a class on a page, and about of all together
MOST_LETTERS = 999  # of markdown that Dagster's UI shows at once; more hides behind a button

_FONT_SIZE = 15
_GAP = 2  # pixels between examples
_INK = 128  # the grey of names: legible on white and on black
_INKS = 4  # steps of a letter's edge, from transparent to _INK; they come first in a palette
_STRIP_CLASSES = 10
_STRIP_SIDE, _STRIP_SHOWN = 32, 48  # pixels of an image's longer side: most kept, and as shown
_QUALITIES = (80, 60, 40, 20, 5)  # of a strip, at each of its sizes
_NAME_LETTERS = 24  # longer names of classes are cut, or take two lines
_SMALLEST = 6  # letters above a narrow column

_LONGEST = 300  # pixels of the longest bar; above its end stands its value
_BAR_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")  # on white and on black

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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


def samples_of_each(classes: int) -> int:
    """Return how many samples of each class are shown on a page: of more classes, fewer."""
    return max(_FEWEST_SAMPLES, min(MOST_EXAMPLES, _SAMPLES // classes))


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a table.

    number: which of its class it is, from 0.
    """

    index: int
    label: int
    number: int
    image: Pixels


def first_of_each(table: Path, most: int) -> Iterator[Record]:
    """Yield the first records of each class of a table, in the order of their index."""
    labels = tables.labels(table)["label"]
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    for index, image in images_at(table, np.flatnonzero(numbers < most).tolist()):
        yield Record(index, int(labels[index]), int(numbers[index]), image)


def images_at(table: Path, indices: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
    """Yield records of a table by their indices, in order: the index, and an image to keep."""
    first, at = (indices[0] if indices else 0), 0
    for batch in tables.batches(table, first, indices[-1] + 1 if indices else 0):
        while at < len(indices) and indices[at] < first + len(batch):
            yield indices[at], batch.images[indices[at] - first].copy()
            at += 1
        first += len(batch)


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
        names = " · ".join(wording.plain(_cut(rows.names[at])) for at in chosen)
        told = f"{' above '.join(map(wording.plain, rows.heads))}: {names}" if rows.heads else names
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


def in_a_row(images: Sequence[Pixels], longer: int) -> tuple[bytes, tuple[int, int]]:
    """Return images of one shape side by side as a PNG, and its width and height.

    A pixel between two is transparent. The longer side of each has `longer` pixels, if it had more.
    """
    height, width, channels = images[0].shape
    scale = min(1.0, longer / max(height, width))
    wide, tall = (max(1, round(side * scale)) for side in (width, height))
    size = (len(images) * (wide + 1) - 1, tall)
    row = Image.new("LA" if channels == 1 else "RGBA", size)
    for at, one in enumerate(images):
        image = Image.fromarray(one[..., 0] if channels == 1 else one)
        row.paste(image.resize((wide, tall), Image.Resampling.BOX), (at * (wide + 1), 0))
    return _png(row), size


def in_markdown(picture: bytes | str, alt: str) -> str:
    """Return a PNG (bytes) or an SVG (text) as a markdown image that needs no file."""
    if isinstance(picture, bytes):
        return f"![{alt}](data:image/png;base64,{base64.b64encode(picture).decode()})"
    for letter in "%<>#\n":  # all that a URL between < and > in markdown must not hold
        picture = picture.replace(letter, f"%{ord(letter):02X}")
    return f"![{alt}](<data:image/svg+xml,{picture}>)"


def in_lines(name: str) -> str:
    """Return a name in at most two lines."""
    first, *rest = textwrap.wrap(name, _NAME_LETTERS)
    return f"{first}\n{_cut(' '.join(rest))}" if rest else first


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


@dataclass(frozen=True, slots=True)
class Look:
    """How a sheet is drawn; all numbers are pixels.

    large, small: of an image's longer side, as nearly as a whole factor gives: where there are few
        names, and where there are many.
    letters: the size of names.
    ink: their grey.
    font: size → the font of names.
    """

    large: int
    small: int
    gap: int
    letters: int
    ink: int
    font: Callable[[float], Font]


_SHEET = Look(LARGE, SMALL, _GAP, _FONT_SIZE, _INK, ImageFont.load_default)


def sheet(rows: Rows) -> bytes:
    """Return a small PNG with a row for each name, in columns that make it about square."""
    drawn = _drawn(rows, _SHEET)
    if drawn.pictures.mode == "L":
        return _png(_over(_in_greys(drawn.pictures), drawn))
    for colours in COLOURS:
        few = drawn.pictures.quantize(colours, dither=Image.Dither.NONE)
        png = _png(_over(few, drawn))
        if len(png) <= MOST_BYTES:
            break
    return png


def figure(rows: Rows, look: Look) -> Image.Image:
    """Return a sheet in all its greys or colours, however many bytes that takes."""
    drawn = _drawn(rows, look)
    names = Image.new("L", drawn.letters.size, look.ink).convert(drawn.pictures.mode)
    whole = Image.composite(drawn.pictures, names, drawn.covered)
    whole.putalpha(ImageChops.lighter(drawn.letters, drawn.covered.convert("L")))
    return whole


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A sheet in parts of one size: the images, where there are any, and the letters (255: ink)."""

    pictures: Image.Image
    covered: Image.Image
    letters: Image.Image


def _drawn(rows: Rows, look: Look) -> _Drawn:
    font = look.font(look.letters)
    names = [in_lines(name) for name in rows.names]
    line = look.letters + 4
    height, width, channels = rows.shape
    side = look.small if len(names) > FEW_CLASSES else look.large
    factor = side / max(height, width)
    factor = max(1, round(factor)) if factor > 0.5 else factor
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    margin = round(0.8 * look.letters)
    left = max(int(font.getlength(part)) for name in names for part in name.split("\n")) + margin
    across = left + max(map(len, rows.images)) * (wide + look.gap) + margin
    row = max(tall, line * max(1 + name.count("\n") for name in names))
    down = row + look.gap
    columns = max(1, round(math.sqrt(len(names) * down / across)))
    in_column = -(-len(names) // columns)
    top = line if rows.heads else 0
    size = (columns * across - look.gap - margin, top + in_column * down - look.gap)
    pictures, covered = Image.new("L" if channels == 1 else "RGB", size), Image.new("1", size)
    letters = Image.new("L", size)
    draw = ImageDraw.Draw(letters)
    head_font = _fitting(rows.heads, wide, look)
    for column in range(-(-len(names) // in_column)):
        for at, head in enumerate(rows.heads):
            x = column * across + left + at * (wide + look.gap) + wide // 2
            draw.text((x, top // 2), head, 255, head_font, anchor="mm")
    for number, (name, images) in enumerate(zip(names, rows.images, strict=True)):
        x, y = number // in_column * across, top + number % in_column * down
        end = (x + left - margin // 2 - 2, y + row // 2)
        draw.text(end, name, 255, font, anchor="rm", align="right")
        for at, one in enumerate(images):
            image = Image.fromarray(one[..., 0] if channels == 1 else one)
            how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
            corner = (x + left + at * (wide + look.gap), y + (row - tall) // 2)
            pictures.paste(image.resize((wide, tall), how), corner)
            covered.paste(1, (*corner, corner[0] + wide, corner[1] + tall))
    return _Drawn(pictures, covered, letters)


def _fitting(heads: Sequence[str], wide: int, look: Look) -> Font:
    """Return the largest font, up to that of names, in which each head fits above its column."""
    size = look.letters
    while size > _SMALLEST and any(look.font(size).getlength(head) > wide for head in heads):
        size -= 1
    return look.font(size)


def _over(pictures: Image.Image, drawn: _Drawn) -> Image.Image:
    """Return an image with a palette: pictures where they cover it, and letters on nothing."""
    steps = np.rint(np.asarray(drawn.letters) / (255 / (_INKS - 1)))
    at = np.where(np.asarray(drawn.covered), np.asarray(pictures) + _INKS, steps)
    whole = Image.fromarray(at.astype(np.uint8)).convert("P")
    whole.putpalette([*[_INK] * 3 * _INKS, *(pictures.getpalette() or [])])
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
