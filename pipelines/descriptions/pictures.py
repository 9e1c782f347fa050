"""Pictures: what a dataset looks like, for a README, a page or a slide.

    samples.png   the first records of each class, with its name
    sprite.png    the first 90 of each class, without words: 30 a row, in three rows
    means.png     the mean image of each class in each split
    counts.svg    how many records of each class each split has

Samples and sprite show the split that is declared first, the training split of all datasets that
are built in; of each class those that come first in it, in the order of their index. Nothing is
drawn at random or chosen by eye. A class with fewer records leaves room empty; the mean of none is
black. Where all classes of each split have as many records, the chart says so once.

The sprite is laid out as the one that Fashion-MNIST's page made known: thumbnails of 28 pixels
without gaps, the classes one below the other, 840 × 840 pixels for ten classes. More classes stand
in several such columns, read downwards, so that the whole is about square: two of them for 47 and
62 classes, three for 100. A thumbnail of a 28-pixel image is that image. Smaller ones are enlarged,
by a whole factor where 28 has it, and larger ones made smaller; all keep their proportions.

Names are grey on nothing, for light and dark pages alike. Not here: drawing (`_pictures`,
`_charts`), or what the figures are (`pipelines.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..products import Choices, Inputs, Product
from ..progress import Advance
from ..store import Facts, layout, writing

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from PIL import Image

    from ..records import Pixels
    from ._pictures import Look

THUMBNAIL = 28  # pixels of its longer side
IN_ROW, ROWS = 30, 3  # thumbnails of a class
_MOST_SAMPLES, _FEWEST_SAMPLES, _SAMPLES = 10, 3, 400  # of a class, and about of all together

_FEW, _SEVERAL = 26, 62  # classes that a chart has in one column, and in two; above, in four
_PAGE = 8.4  # inches across a chart, as wide as a page
_ROOM_OF_BARS, _LETTER = 1.5, 0.075  # inches
_LINE = 0.14  # inches of a line of words, and of a bar, which is as high as its number


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Draw the pictures of a dataset into a folder.

    Raises:
        TableError: what they are drawn from are no tables or statistics of ours.
        StorageError: the folder can't be written to.
    """
    from .. import statistics
    from . import _pictures

    dataset = inputs.subject.dataset
    figures = inputs.paths[layout.statistics(dataset.name)]
    first = inputs.tables[inputs.subject.splits[0].name]
    each = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, _SAMPLES // len(dataset.classes)))
    samples: list[list[Pixels]] = [[] for _ in dataset.classes]
    sprite = _Sprite(len(dataset.classes), dataset.image.channels)
    for label, number, image in _first_of_each(first, IN_ROW * ROWS):
        sprite.put(label, number, image)
        if number < each:
            samples[label].append(image.copy())
    look = _look()
    shown = _pictures.Rows(dataset.classes, samples, dataset.image.shape)
    with writing.storage_errors(goal):
        sprite.whole.save(goal / "sprite.png")
        _pictures.figure(shown, look).save(goal / "samples.png")
        _pictures.figure(_pictures.means(figures), look).save(goal / "means.png")
        _draw_counts(statistics.counts(figures), dataset.title, goal / "counts.svg")
    advance(inputs.subject.records)
    return {}


def _look() -> Look:
    """Return how samples and means are drawn: sharp on fine screens too."""
    import matplotlib as mpl
    from PIL import ImageFont

    from ._pictures import Font, Look

    file = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"

    def font(size: float) -> Font:
        # Of Pillow's two ways to set letters, the one that needs no library of the system.
        return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)

    return Look(large=84, small=56, gap=4, letters=20, ink=118, font=font)


def _first_of_each(table: Path, most: int) -> Iterator[tuple[int, int, Pixels]]:
    """Yield the first records of each class: the label, which of its class, and the image."""
    import numpy as np

    from .. import tables

    labels = tables.labels(table)["label"]
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    of_class = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = of_class
    chosen = np.flatnonzero(numbers < most)
    first = 0
    for batch in tables.batches(table, 0, int(chosen[-1]) + 1):
        for index in chosen[(first <= chosen) & (chosen < first + len(batch))]:
            yield int(labels[index]), int(numbers[index]), batch.images[index - first]
        first += len(batch)


class _Sprite:
    """Thumbnails without gaps: a block of rows for each class, one below the other."""

    def __init__(self, classes: int, channels: int) -> None:
        from PIL import Image

        columns = max(1, round((classes * ROWS / IN_ROW) ** 0.5))
        self._in_column = -(-classes // columns)
        size = (columns * IN_ROW * THUMBNAIL, self._in_column * ROWS * THUMBNAIL)
        self.whole = Image.new("L" if channels == 1 else "RGB", size)

    def put(self, label: int, number: int, image: Pixels) -> None:
        """Put a record in its place: which of its class it is, from 0."""
        thumbnail = _thumbnail(image)
        column, block = divmod(label, self._in_column)
        x = (column * IN_ROW + number % IN_ROW) * THUMBNAIL
        y = (block * ROWS + number // IN_ROW) * THUMBNAIL
        middle = [(THUMBNAIL - side) // 2 for side in thumbnail.size]
        self.whole.paste(thumbnail, (x + middle[0], y + middle[1]))


def _thumbnail(pixels: Pixels) -> Image.Image:
    """Return an image whose longer side is that of a thumbnail."""
    from PIL import Image

    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    longer = max(height, width)
    if longer == THUMBNAIL:
        return image
    size = [max(1, round(side * THUMBNAIL / longer)) for side in image.size]
    is_whole = THUMBNAIL % longer == 0
    how = Image.Resampling.NEAREST if is_whole else Image.Resampling.BICUBIC
    return image.resize((size[0], size[1]), how)


def _draw_counts(counts: pl.DataFrame, title: str, goal: Path) -> None:
    """Draw a bar for each class and split, with its number.

    Args:
        counts: a row per class, and one of totals; a column `class`, and one for each split.
        title: the dataset's.
        goal: where the SVG goes.
    """
    from matplotlib.figure import Figure

    from . import _charts, _pictures

    names = [_pictures.in_lines(name) for name in counts["class"][:-1]]
    series = {split: counts[split][:-1].to_list() for split in counts.columns[1:]}
    if len(names) > 1 and all(len({*values}) == 1 for values in series.values()):
        names = [f"each of the {len(names)} classes"]
        series = {split: values[:1] for split, values in series.items()}
    columns = _columns(names)
    in_column = -(-len(names) // columns)
    lines = max(1 + name.count("\n") for name in names)
    row = 0.1 + _LINE * max(lines, len(series))
    height = in_column * row + 0.4
    with _charts.style():
        figure = Figure((_PAGE, height), layout="constrained", facecolor="none")
        parts = figure.subplots(1, columns, sharex=True, squeeze=False)[0]
        for number, axes in enumerate(parts):
            rows = slice(number * in_column, (number + 1) * in_column)
            some = {split: values[rows] for split, values in series.items()}
            _draw_bars(axes, names[rows], some, in_column)
        parts[0].set_xlim(0, max(1, *map(max, series.values())))
        handles = parts[0].containers
        figure.legend(handles, series, loc="outside upper left", ncols=len(series), frameon=False)
        figure.savefig(
            goal,
            transparent=True,
            metadata={"Title": f"{title}: records of each class", "Date": None, "Creator": None},
        )


def _columns(names: Sequence[str]) -> int:
    """Return in how many columns of a chart classes stand: fewer where their names are long."""
    most = 1 if len(names) <= _FEW else 2 if len(names) <= _SEVERAL else 4
    longest = max(len(line) for name in names for line in name.split("\n"))
    fit = int(_PAGE / (_ROOM_OF_BARS + _LETTER * longest))
    return max(1, min(most, fit))


def _draw_bars(
    axes: Axes, names: Sequence[str], series: dict[str, list[int]], in_column: int
) -> None:
    from . import _charts

    thick = 0.86 / len(series)  # of a row
    for at, values in enumerate(series.values()):
        places = [row + (at - (len(series) - 1) / 2) * thick for row in range(len(names))]
        colour = _charts.SERIES[at % len(_charts.SERIES)]
        bars = axes.barh(places, values, thick * 0.9, color=colour)
        axes.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=_charts.SMALL)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(in_column - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


DESCRIPTION = Product(
    name="pictures",
    title="as pictures: samples, mean images and counts of each class, and a sprite.",
    scope="dataset",
    files="descriptions/{dataset}/pictures/",
    code_version="1",
    write=write,
    needs=("statistics", "tables"),
    reproducible="same libraries",
    kind="png",
    libraries=("matplotlib", "numpy", "pillow"),
    extra="figures",
    requires=("matplotlib",),
)
