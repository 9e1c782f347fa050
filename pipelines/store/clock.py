"""The time as provenance and notes of what was seen tell it: UTC, ISO 8601.

Not here: measuring how long something takes (`time.perf_counter`).
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time."""
    return told(datetime.now(UTC).timestamp())


def told(seconds: float) -> str:
    """Return a time of seconds since 1970 as `now` gives it."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def seconds(time: str) -> float:
    """Return a time that `now` gave, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
