"""Maps: points on a plane, each of a class, drawn so that classes can be told apart.

Up to ten classes have a colour each, the same on light and dark pages, and their names on the map,
never colour alone. More can't be told apart by colour: each class has a small map of its own, in
which its points lie over those of all others in grey.

Not here: what the points are (`_projection`), or how matplotlib is set up (`_charts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import _charts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..records import Labels

    Points = npt.NDArray[np.float32]

# Petroff's ten colours (arXiv:2107.02270), in order of label: also those who see fewer colours can
# tell any two of them.
COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
_SIDE, _DPI = 9.0, 100  # inches; 900 pixels
_POINT, _MINE, _OTHER = 4.0, 2.5, 0.4  # square points that a record takes, on small maps too
_NAME, _SMALL_NAME, _LEAST = 12.0, 9.0, 6.0  # points of letters, and the fewest above a small map
_HEAD = 0.22  # inches for a name above a small map
_INK, _PAPER = "#1a1a1a", "#ffffff"  # of names on a map: legible on any page
_ONE, _OTHERS = "#d55e00", "#767676"  # points of a class, and of all others

Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""


def draw(points: Points, labels: Labels, classes: Sequence[str], goal: Path) -> None:
    """Draw a map as PNG, on nothing.

    Args:
        points: of shape (records, 2).
        labels: of the records.
        classes: the name of each label.
        goal: where the PNG goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _charts.style():
        figure = Figure((_SIDE, _SIDE), _DPI, facecolor="none")
        FigureCanvasAgg(figure)  # which measures words
        if len(classes) <= len(COLOURS):
            _draw_in_colours(figure, points, labels, classes)
        else:
            _draw_small_maps(figure, points, labels, classes)
        figure.savefig(goal, dpi=_DPI, transparent=True, metadata={"Software": None})


def _draw_in_colours(
    figure: Figure, points: Points, labels: Labels, classes: Sequence[str]
) -> None:
    """Draw each class in its colour, with its name at the median of its points."""
    import numpy as np

    axes = _axes(figure, (0, 0, 1, 1))
    colours = np.array(COLOURS)[labels]  # in the order of the records: no class hides another
    axes.scatter(points[:, 0], points[:, 1], _POINT, colours, linewidths=0)
    names = []
    for label, name in enumerate(classes):
        if (labels == label).any():
            x, y = np.median(points[labels == label], axis=0)
            frame = {"boxstyle": "round,pad=0.25", "ec": COLOURS[label], "fc": _PAPER, "lw": 2}
            names.append(
                axes.annotate(
                    name,
                    (x, y),
                    (0, 0),
                    textcoords="offset pixels",
                    color=_INK,
                    size=_NAME,
                    weight="bold",
                    ha="center",
                    va="center",
                    bbox=frame,
                    arrowprops={"arrowstyle": "-", "color": _INK, "shrinkA": 0, "shrinkB": 0},
                )
            )
    axes.apply_aspect()  # names are where they will be
    found = [name.get_window_extent().padded(6) for name in names]
    shifts = apart([(box.x0, box.x1, box.y0, box.y1) for box in found])
    for text, box, shift in zip(names, found, shifts, strict=True):
        inwards = max(0.0, -box.x0) - max(0.0, box.x1 - figure.bbox.width)
        text.set_position((inwards, shift))


def _draw_small_maps(
    figure: Figure, points: Points, labels: Labels, classes: Sequence[str]
) -> None:
    """Draw a map for each class, row by row: its points over those of all others."""
    columns = math.ceil(math.sqrt(len(classes)))
    side = _SIDE / columns
    height = -(-len(classes) // columns) * (side + _HEAD)
    figure.set_size_inches(_SIDE, height)
    names = []
    for label, name in enumerate(classes):
        row, column = divmod(label, columns)
        bottom = 1 - (row + 1) * (side + _HEAD) / height
        axes = _axes(figure, (column / columns, bottom, 1 / columns, side / height))
        axes.scatter(points[:, 0], points[:, 1], _OTHER, _OTHERS, alpha=2 / columns, linewidths=0)
        mine = points[labels == label]
        axes.scatter(mine[:, 0], mine[:, 1], _MINE, _ONE, linewidths=0)
        names.append(axes.set_title(name, size=_SMALL_NAME, pad=1))
    widest = max(text.get_window_extent().width for text in names)
    size = max(_LEAST, min(1.0, 0.95 * side * _DPI / widest) * _SMALL_NAME)
    for text in names:
        text.set_fontsize(size)
        while text.get_window_extent().width > 0.98 * side * _DPI:
            text.set_text(text.get_text().rstrip("…")[:-1] + "…")


def _axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    """Return a part of a figure in which points keep their distances, and nothing else stands."""
    axes = figure.add_axes(place)
    axes.set_aspect("equal", "datalim")
    axes.margins(0.06)
    axes.set_axis_off()
    return axes


def apart(boxes: Sequence[Box]) -> list[float]:
    """Return how far each box moves up, or down, so that none covers another.

    Those that overlap share the way; where there is no room for all, some still do.
    """
    shifts = [0.0] * len(boxes)
    for _ in range(100):
        moved = False
        for one, (left, right, bottom, top) in enumerate(boxes):
            for other, (from_left, to_right, low, high) in enumerate(boxes[:one]):
                above = bottom + shifts[one] - low - shifts[other]
                overlap = min(top - bottom + above, high - low) - max(above, 0.0)
                if overlap <= 0 or right <= from_left or to_right <= left:
                    continue
                way = overlap / 2 + 0.5 if above >= 0 else -overlap / 2 - 0.5
                shifts[one] += way
                shifts[other] -= way
                moved = True
        if not moved:
            break
    return shifts
