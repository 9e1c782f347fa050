"""Reports how much of a long task is done.

Not here: showing it, which is for whoever starts the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Advance = Callable[[int], Any]
"""Called with how much was done since the last call (bytes or records); negative when undone."""


class Watch:
    """An `Advance` that can show a note too. This one does nothing; those that show override it."""

    def __call__(self, done: int) -> None:
        """Report how much was done since the last call."""

    def note(self, text: str) -> None:
        """Report something worth showing beside the progress."""


silent = Watch()  # for callers who show no progress
