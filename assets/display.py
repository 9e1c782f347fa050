"""What a person sees while assets are made: progress bars on a terminal, plain lines in a log.

Not here: what is done. The Dagster UI shows its own progress, so there the display is silent.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Literal

from pipelines.work import Advance, unwatched

Unit = Literal["bytes", "records"]


class Display:
    """The silent display, and what the others do."""

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Advance]:
        """Show one piece of work while the block runs; give the way to say how far it is."""
        yield unwatched


class Lines(Display):
    """A line when a piece of work is done, and every ten seconds until then: for log files."""

    def __init__(self, every_s: float = 10.0) -> None:
        """Say how far long work is every so many seconds."""
        self._every_s = every_s

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Advance]:
        """Print how far it is, and what was done at the end."""
        start = said = time.perf_counter()
        done = 0

        def advance(more: int) -> None:
            nonlocal done, said
            done += more
            if time.perf_counter() - said >= self._every_s:
                said = time.perf_counter()
                self._say(f"{label}: {amount(done, unit)} of {amount(total, unit)}")

        yield advance
        self._say(f"{label}: {amount(total, unit)} in {time.perf_counter() - start:.2f} s")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bars(Display):
    """A progress bar for each piece of work: for terminals."""

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Advance]:
        """Show a bar; it disappears when the work is done, and the summary stays."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        def fixed() -> Column:
            return Column(no_wrap=True)

        amounts = (
            (DownloadColumn(table_column=fixed()), TransferSpeedColumn(table_column=fixed()))
            if unit == "bytes"
            else (MofNCompleteColumn(table_column=fixed()),)
        )
        bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=3)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            *amounts,
            TimeRemainingColumn(table_column=fixed()),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        with bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.advance(task, done)


def chosen() -> Display:
    """Return bars where people look at a terminal, lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()


def amount(number: int, unit: Unit) -> str:
    """Return for example `60,000 records` or `11.6 MB`."""
    return size(number) if unit == "bytes" else f"{number:,} records"


def size(number: float) -> str:
    """Return a number of bytes as people read it, in powers of 1000."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        number /= 1000
        if number < 999.95 or unit == "TB":
            break
    return f"{number:.1f} {unit}"
