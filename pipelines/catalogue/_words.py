"""Names and words that reading a catalogue shares."""

from __future__ import annotations

import re
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]*")
VERSION = re.compile(r"[0-9a-z][0-9a-z.-]*")
NO_NAME_FOR_A_SPLIT = "a split is called train, test or the like; this name is taken or not allowed"


def shown(value: Any) -> str:
    """Return the beginning of what was found, as Python writes it."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # 0xfff… may have more digits than Python writes
        return "a number that is too large"
    except RecursionError:
        return "tables that are nested too deeply"
