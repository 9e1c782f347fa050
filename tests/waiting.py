"""How long tests wait for what would otherwise hang; where all goes well nobody waits so long.

IMAGESETS_TEST_PATIENCE is a factor: on a machine that has much else to do, tests want more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = float(os.environ.get("IMAGESETS_TEST_PATIENCE", "3"))


def within(seconds: float) -> float:
    """Return the bound of a wait that takes so many seconds at most where little else is done."""
    return seconds * PATIENCE


def until(condition: Callable[[], T], seconds: float = 60) -> T:
    """Return what a condition gives, once that is something."""
    deadline = time.monotonic() + within(seconds)
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it is not so after {within(seconds):g} s"
        time.sleep(0.05)
    return found
