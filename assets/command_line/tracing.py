"""How a trace looks: the chain as lines or as JSON, and the picture of the record in a terminal.

Not here: following or verifying the chain (`pipelines.lineage.trace`).
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.command_line.display import plain, say
from pipelines.archives import ALREADY_THERE
from pipelines.lineage.trace import Chain, Hop
from pipelines.records import Pixels

if TYPE_CHECKING:  # rich is loaded only where there is a terminal
    from rich.console import Console
    from rich.text import Text

RAMP = " .:-=+*#%@"  # dark to bright, as on a dark terminal
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"

_COLUMNS = 80
_INDENT = " " * 8  # a SHA-256 ends in column 80


def show(chain: Chain, *, picture: bool) -> None:
    """Print a chain for people, with colours where the terminal has them."""
    console = _console()
    say(f"{_title(chain)}\n")
    if picture and chain.image is not None:
        if console is not None:
            console.print(in_colour(chain.image, console.width))
        else:
            say(f"{in_ascii(chain.image, shutil.get_terminal_size().columns)}\n")
    for hop in chain.hops:
        mark, style = ("holds", "green") if hop.holds else ("BROKEN", "bold red")
        first, *more = _lines(hop)
        if console is not None:
            console.print(f"{mark:6}", style=style, end="", highlight=False)
        else:
            say(f"{mark:6}", end="")
        say(f"  {hop.what:10}  {first}".rstrip())
        for line in more:
            say(f"{_INDENT}{line}")


def as_json(chain: Chain) -> str:
    """Return a chain as one JSON object."""
    hops = [
        {
            "what": hop.what,
            "url" if "://" in hop.path else "path": hop.path,
            "row": hop.row,
            "bytes": hop.bytes,
            "hashes": dict(hop.hashes),
            **hop.facts,
            "holds": hop.holds,
            "problem": hop.problem or None,
        }
        for hop in chain.hops
    ]
    said: dict[str, Any] = {"artefact": chain.artefact, **chain.facts, "holds": chain.holds}
    return json.dumps(said | {"hops": hops}, indent=1, ensure_ascii=False)


def in_ascii(image: Pixels, columns: int = 80) -> str:
    """Return an image as text: two characters a pixel, which makes about a square."""
    grey = _fitted(image, columns // 2) @ (LUMINANCE if image.shape[2] == 3 else (1.0,))
    levels = (grey * len(RAMP) / 256).astype(int)
    return "\n".join("".join(2 * RAMP[level] for level in row).rstrip() for row in levels)


def in_colour(image: Pixels, columns: int = 80) -> Text:
    """Return an image as half blocks: a character is two pixels, one above the other."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    rows = np.broadcast_to(fitted := _fitted(image, columns), (*fitted.shape[:2], 3))
    text = Text(no_wrap=True)
    for at in range(0, len(rows), 2):
        for pixels in zip(*rows[at : at + 2], strict=True):
            above, *below = (Color.from_rgb(*map(int, pixel)) for pixel in pixels)
            text.append("▀", Style(color=above, bgcolor=below[0] if below else None))
        text.append("\n")
    return text


def _fitted(image: Pixels, columns: int) -> Pixels:
    """Return every pixel of an image, or every second, third, … where it would be too wide."""
    step = -(-image.shape[1] // max(1, columns))
    return image[::step, ::step]


def _console() -> Console | None:
    """Return a terminal that can show colours and half blocks, if that is what stdout is."""
    if not sys.stdout.isatty() or "utf" not in (sys.stdout.encoding or "").lower():
        return None
    from rich.console import Console

    console = Console()
    return console if console.color_system and not console.no_color else None


def _title(chain: Chain) -> str:
    said = chain.facts
    if "datasets" in said:
        return f"of all datasets of the catalogue: {said['datasets']}"
    if "dataset" not in said:
        return f"an archive of {said['source']}"
    title = "/".join(said[key] for key in ("dataset", "split") if key in said)
    if "index" in said:
        title += f", record {said['index']:,}"
    if "label" in said:
        of_all = said["label"] is None
        title += ", all classes" if of_all else f": {said['class']} (label {said['label']})"
    if "coarse_label" in said:
        title += f", {said['coarse_class']} (coarse label {said['coarse_label']})"
    if "records" in said:
        title += f": {said['records']:,} records"
    return title


def _lines(hop: Hop) -> Iterator[str]:
    """Yield what there is to tell of a hop."""
    said = hop.facts
    yield "was in its place when it was verified" if hop.path == ALREADY_THERE else hop.path
    where = [f"row {hop.row:,}"] if hop.row is not None else []
    where += [f"key {said['key']}"] if "key" in said else []
    if "mean_intensity" in said:
        where += [f"{said['records']:,} records"]
        where += [f"mean intensity {said['mean_intensity']:.4f}, std {said['std_intensity']:.4f}"]
    if hop.bytes:
        what = f"{said['role']}: " if "role" in said else ""
        inside = ", decompressed" if hop.what == "member" else ""
        where.append(f"{what}bytes {hop.bytes[0]:,} to {hop.bytes[1]:,}{inside}")
    if "first" in said:
        where.append(
            f"{said['records']:,} records, the first {said['first']:,}, the last {said['last']:,}"
        )
    if where:
        yield ", ".join(where)
    if "retrieved" in said:
        yield f"retrieved {str(said['retrieved'])[:19].replace('T', ' ')} UTC"
    for name, digest in hop.hashes.items():
        yield f"{ {'md5': 'MD5', 'sha256': 'SHA-256'}[name]:8}{digest}"
    if hop.problem:
        # No word is cut: hashes and paths can be copied.
        width = _COLUMNS - len(_INDENT)
        yield from textwrap.wrap(
            plain(hop.problem), width, break_long_words=False, break_on_hyphens=False
        )
