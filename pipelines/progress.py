"""Reports how far a long task is.

Not here: what the task is, or how its progress looks (bars on a terminal, lines in a log).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

Advance = Callable[[int], Any]
"""Called with how much was done since the last call (bytes or records); negative when undone."""

Unit = Literal["bytes", "records"]


class Watch:
    """Receives how far a task is; this one ignores it, for callers who show no progress."""

    def __call__(self, done: int) -> None:
        """Take how much was done since the last call, as every `Advance` does."""

    def expect(self, total: int) -> None:
        """Take how much there is in all, where nobody knew when the task began."""

    def note(self, text: str) -> None:
        """Take something worth showing beside the progress."""


silent = Watch()


class Display:
    """Shows tasks while they run; this one shows nothing, for callers who show no progress."""

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        """Show a task while the block runs; give the watch that receives how far it is.

        The total is 0 where it is not known yet.
        """
        yield silent


def by_share(advance: Advance, total: int) -> Callable[[float], None]:
    """Return what takes which share of a task is done, 0 to 1, and tells `advance` of its total."""
    told = 0

    def until(share: float) -> None:
        nonlocal told
        done = round(total * min(1.0, share))
        advance(done - told)
        told = done

    return until


def size(number: float) -> str:
    """Return a number of bytes as people read it, in powers of 1000."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        number /= 1000
        if number < 999.95 or unit == "TB":
            break
    return f"{number:.1f} {unit}"
