"""The time as provenance and notes of what was seen tell it: UTC, ISO 8601.

Not here: measuring how long something takes (`time.perf_counter`).
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(time: str) -> float:
    """Return a time that `now` gave, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
