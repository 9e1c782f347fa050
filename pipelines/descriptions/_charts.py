"""Charts of classes and splits, as SVG by matplotlib: the same figures give the same bytes.

Classes stand one below the other, in columns where there are many. Not here: where the figures come
from (`pipelines.statistics`), or small charts for the UI (`_pictures`).
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

INK = "#767676"  # of words and lines: 4 to 5 to 1 on white and on black pages
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
SMALL = 8.0  # letters beside others
PAGE, PHONE = 8.4, 3.8  # inches across a chart

_FEW, _SEVERAL = 26, 62  # classes that a chart has in one column, and in two; above, in four
_ROOM_OF_BARS, _LETTER = 1.5, 0.075  # inches
_LINE = 0.14  # inches of a line of words, and of a bar, which is as high as its number
_MARKERS = "osD^vP"  # of splits, so that nobody needs to see their colours

_STYLE: dict[Any, Any] = {  # matplotlib spells out every key as its type
    "svg.hashsalt": "imagesets",  # ids in an SVG would be random
    "svg.fonttype": "none",  # words stay words: they can be searched for, and take half the bytes
    "text.parse_math": False,  # a class may be called $
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # what matplotlib brings: words are measured with it
    "font.size": 9.0,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_ONE_AT_A_TIME = threading.Lock()  # matplotlib's settings are those of the whole process


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Let charts look alike, whatever matplotlib was told elsewhere; draw and save inside."""
    import matplotlib as mpl

    with _ONE_AT_A_TIME, mpl.rc_context(), warnings.catch_warnings():
        # Who looks at the SVG has another font for what this one lacks.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def counts(counted: pl.DataFrame, title: str, across: float = PAGE) -> str:
    """Return a chart with a bar for each class and split, and its number.

    Where all classes of each split have as many records, it says so once.

    Args:
        counted: a row per class, and one of totals; a column `class`, and one for each split.
        title: the dataset's.
        across: its width in inches.
    """
    names = counted["class"][:-1].to_list()
    series = of_classes(counted)
    if len(names) > 1 and all(len({*values}) == 1 for values in series.values()):
        names = [f"each of the {len(names)} classes"]
        series = {split: values[:1] for split, values in series.items()}

    def draw(axes: Axes, rows: slice) -> None:
        for at, places, thick in _places(len(names[rows]), len(series)):
            values = [*series.values()][at][rows]
            bars = axes.barh(places, values, thick * 0.9, color=SERIES[at % len(SERIES)])
            axes.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=SMALL)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    most = max(1, *map(max, series.values()))
    return _of_classes(names, [*series], draw, f"{title}: records of each class", most, across)


def of_classes(counted: pl.DataFrame) -> dict[str, list[int]]:
    """Return split → the records of each class, of the splits that have labels."""
    labelled = (split for split in counted.columns[1:] if not counted[split].null_count())
    return {split: counted[split][:-1].to_list() for split in labelled}


def intensities(
    names: Sequence[str],
    means: Mapping[str, Sequence[float | None]],
    middles: Mapping[str, Sequence[tuple[float, float] | None]],
    title: str,
    across: float = PAGE,
) -> str:
    """Return a chart with a dot for the mean of each class and split, and a line about it.

    Args:
        names: of the classes.
        means: split → of each class, where it has any records.
        middles: split → from where to where the line goes, likewise.
        title: the dataset's.
        across: its width in inches.
    """

    def draw(axes: Axes, rows: slice) -> None:
        for at, places, _ in _places(len(names[rows]), len(means)):
            split, colour = [*means][at], SERIES[at % len(SERIES)]
            dots = [
                (x, y) for x, y in zip(means[split][rows], places, strict=True) if x is not None
            ]
            lines = [(m, y) for m, y in zip(middles[split][rows], places, strict=True) if m]
            for (low, high), y in lines:
                axes.plot((low, high), (y, y), color=colour, linewidth=2, solid_capstyle="butt")
            axes.scatter(
                [x for x, _ in dots],
                [y for _, y in dots],
                s=30,
                color=colour,
                marker=_MARKERS[at % len(_MARKERS)],
                zorder=3,
                label=split,
            )
        axes.grid(axis="x", color=INK, alpha=0.35, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["bottom"].set_visible(False)
        axes.locator_params(axis="x", nbins=5)

    highest = [high for of_split in middles.values() for _, high in filter(None, of_split)]
    most = max([1.0, *highest]) * 1.03
    return _of_classes(names, [*means], draw, f"{title}: mean intensity", most, across)


def _places(rows: int, series: int) -> Iterator[tuple[int, list[float], float]]:
    """Yield for each series its number, its place in each row, and its share of a row."""
    thick = 0.86 / series
    for at in range(series):
        yield at, [row + (at - (series - 1) / 2) * thick for row in range(rows)], thick


def _of_classes(
    classes: Sequence[str],
    series: Sequence[str],
    draw: Callable[[Axes, slice], None],
    title: str,
    most: float,
    across: float,
) -> str:
    """Return a chart in which each class has a row; `draw` draws some rows, from 0 to `most`."""
    from matplotlib.figure import Figure

    from . import _pictures

    names = [_pictures.in_lines(name) for name in classes]
    columns = _columns(names, across)
    in_column = -(-len(names) // columns)
    lines = max(1 + name.count("\n") for name in names)
    height = in_column * (0.1 + _LINE * max(lines, len(series))) + 0.4
    with style():
        figure = Figure((across, height), layout="constrained", facecolor="none")
        parts = figure.subplots(1, columns, sharex=True, squeeze=False)[0]
        for number, axes in enumerate(parts):
            rows = slice(number * in_column, (number + 1) * in_column)
            draw(axes, rows)
            axes.set_yticks(range(len(names[rows])), names[rows])
            axes.set_ylim(in_column - 0.5, -0.5)
            axes.tick_params(length=0)
        parts[0].set_xlim(0, most)
        handles = parts[0].get_legend_handles_labels()[0] or parts[0].containers
        figure.legend(handles, series, loc="outside upper left", ncols=len(series), frameon=False)
        file = io.StringIO()
        told = {"Title": title, "Date": None, "Creator": None}
        figure.savefig(file, format="svg", transparent=True, metadata=told)
    return file.getvalue()


def _columns(names: Sequence[str], across: float) -> int:
    """Return in how many columns of a chart classes stand: fewer where their names are long."""
    most = 1 if len(names) <= _FEW else 2 if len(names) <= _SEVERAL else 4
    longest = max(len(line) for name in names for line in name.split("\n"))
    fit = int(across / (_ROOM_OF_BARS + _LETTER * longest))
    return max(1, min(most, fit))
