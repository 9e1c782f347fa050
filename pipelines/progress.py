"""How long work proceeds: on two cores where there are two, and telling how far it is.

Not here: what the work is. The libraries that do it (isal, hashlib, Arrow, numpy) release the GIL,
so plain threads are enough, and results never depend on which thread was faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Advance = Callable[[int], Any]
"""Called with how much was done since the last call (bytes or records); negative when undone."""


class Watch:
    """Somebody who watches a piece of work; this one looks away."""

    def __call__(self, done: int) -> None:
        """Learn how much was done since the last call: be an `Advance`."""

    def note(self, text: str) -> None:
        """Learn something worth showing beside the progress."""


silent = Watch()
