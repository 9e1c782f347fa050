"""Progress of what a library call fetches and decodes: a line on a terminal, and silence elsewhere.

Not here: bars with all their colours (the command line has them).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from ..progress import Display, Unit, Watch, size

EVERY_S = 0.1


def display() -> Display:
    """Return what shows progress where somebody sees it."""
    return _Lines() if sys.stderr is not None and sys.stderr.isatty() else Display()


class _Lines(Display):
    """One line, written over, that says how far the task is that was last heard of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        """Show how far a task is while the block runs."""
        watch = _Line(self._lock, label, total)
        try:
            yield watch
        finally:
            watch.clear()


class _Line(Watch):
    def __init__(self, lock: threading.Lock, label: str, total: int) -> None:
        self._lock, self._label, self._total = lock, label, total
        self._done, self._shown_at = 0, 0.0

    def __call__(self, done: int) -> None:
        self._done += done
        if time.monotonic() - self._shown_at > EVERY_S:
            self._shown_at = time.monotonic()
            self._write(f"{self._label}: {self._how_far()}")

    def expect(self, total: int) -> None:
        self._total = total

    def _how_far(self) -> str:
        if not self._total:
            return size(self._done)
        return f"{min(100, 100 * self._done // self._total)} %"

    def clear(self) -> None:
        if self._shown_at:
            self._write("")

    def _write(self, text: str) -> None:
        with self._lock:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
