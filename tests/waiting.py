"""How long tests wait for what would otherwise hang; where all goes well nobody waits so long.

IMAGESETS_TEST_PATIENCE is a factor: on a machine that has much else to do, tests want more.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("IMAGESETS_TEST_PATIENCE", "3"))


def within(seconds: float) -> float:
    """Return the bound of a wait that takes so many seconds at most where little else is done."""
    return seconds * PATIENCE
