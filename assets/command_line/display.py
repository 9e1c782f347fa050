"""What a person sees while assets are made: progress bars on a terminal, plain lines in a log.

Not here: what is done. The Dagster UI shows its own progress, so there the display is silent.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines.declarations import CONTROLS
from pipelines.errors import ImagesetsError
from pipelines.progress import Display, Unit, Watch, size

if TYPE_CHECKING:  # rich is loaded only where there is a terminal
    from rich.progress import Progress, Task, TaskID


def plain(text: object) -> str:
    r"""Return text that does nothing to a screen but stand there, in as many lines as before.

    A server's answer, provenance or the name of a file may hold what a terminal takes for
    a command. Written as `\u001b` it still says what came, and JSON stays the same JSON.
    """
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def say(text: object = "", *, end: str = "\n", error: bool = False, flush: bool = False) -> None:
    """Print text for people: on stderr where it is an `error`, a warning or progress.

    Raises:
        ImagesetsError: it can't be written there.
        BrokenPipeError: nobody reads it.
    """
    try:
        # In one piece, newline included: several threads may have something to say.
        print(plain(text) + end, end="", file=sys.stderr if error else sys.stdout, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as refused:
        raise ImagesetsError(
            f"What is printed can't be written: {refused.strerror or refused}. Send it to a "
            "terminal, or to a file on a disk with space."
        ) from refused


class Lines(Display):
    """A line when a piece of work is done, and every ten seconds until then: for log files."""

    def __init__(self, every_s: float = 10.0) -> None:
        """Say how far long work is every so many seconds."""
        self._every_s = every_s

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        """Print how far it is, and what was done at the end."""
        watch = _Lines(label, total, unit, self._every_s)
        yield watch
        done = amount(watch.total or watch.done, unit)
        watch.say(f"{done} in {time.perf_counter() - watch.start:.2f} s")


class _Lines(Watch):
    def __init__(self, label: str, total: int, unit: Unit, every_s: float) -> None:
        self.start = self._said = time.perf_counter()
        self._label, self.total, self._unit, self._every_s = label, total, unit, every_s
        self.done, self._note = 0, ""

    def __call__(self, done: int) -> None:
        self.done += done
        if time.perf_counter() - self._said >= self._every_s:
            self._said = time.perf_counter()
            of_all = f" of {amount(self.total, self._unit)}" if self.total else ""
            self.say(f"{amount(self.done, self._unit)}{of_all}")

    def expect(self, total: int) -> None:
        self.total = total

    def note(self, text: str) -> None:
        self._note = f" ({text})"

    def say(self, text: str) -> None:
        say(f"{self._label}: {text}{self._note}", error=True, flush=True)


class Bars(Display):
    """A progress bar for each piece of work under way: for terminals."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._bars = _progress()
        self._lock = threading.Lock()
        self._under_way = 0

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        """Show a bar; it disappears when the work is done, and the summary stays."""
        with self._lock:
            self._under_way += 1
            if self._under_way == 1:
                self._bars.start()
        task = self._bars.add_task(plain(label), total=total or None, unit=unit, note="")
        try:
            yield _Bar(self._bars, task)
        finally:
            with self._lock:
                self._bars.refresh()  # so that even short work is seen done
                self._bars.remove_task(task)
                self._under_way -= 1
                if not self._under_way:
                    self._bars.stop()


class _Bar(Watch):
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self, done: int) -> None:
        self._bars.advance(self._task, done)

    def expect(self, total: int) -> None:
        self._bars.update(self._task, total=total)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=plain(f" ({text})"))


def _progress() -> Progress:
    """Return rich's bars, laid out to fit 80 columns."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            unit, total = task.fields["unit"], int(task.total or 0)
            completed = int(task.completed)
            done = size(completed) if unit == "bytes" else f"{completed:,}"
            rate = f"  {size(task.speed)}/s" if unit == "bytes" and task.speed else ""
            return Text(f"{done} of {amount(total, unit)}{rate}" if total else f"{done}{rate}")

    return Progress(
        TextColumn(
            "{task.description}{task.fields[note]}",
            markup=False,  # a name in square brackets is no colour
            table_column=Column(no_wrap=True, ratio=3),
        ),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        Amount(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )


def chosen() -> Display:
    """Return bars where people look at a terminal, lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()


def amount(number: int, unit: Unit) -> str:
    """Return for example `60,000 records` or `11.6 MB`."""
    return size(number) if unit == "bytes" else f"{number:,} records"


def columns(rows: Sequence[Sequence[str] | None], right: Collection[str]) -> str:
    """Return rows in columns, the first with their names; None draws a line.

    The columns that `right` names hold numbers, which stand to the right.
    """
    texts = [row for row in rows if row is not None]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [row or ["─" * width for width in widths] for row in rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, texts[0], strict=True)
        ).rstrip()
        for line in lines
    )


def last_read(seconds: float) -> str:
    """Return a sentence that says since when bytes are only known from having been read before."""
    when = datetime.fromtimestamp(seconds, UTC)
    return f"bytes last read {when:%Y-%m-%d %H:%M} UTC or later; verify reads them again"
