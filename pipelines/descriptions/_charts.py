"""Charts: how matplotlib draws here, so that the same figures give the same bytes.

Not here: what a chart shows (the descriptions), or small charts for the UI (`_pictures`).
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

INK = "#767676"  # of words and lines: 4 to 5 to 1 on white and on black pages
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
SMALL = 8.0  # letters beside others

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
