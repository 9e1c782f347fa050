"""The overview as OpenMetrics, the text that Prometheus and others read.

Every metric is a gauge: a number as it is now. What nobody knows has no sample, so that an absent
number is never taken for a good one. A new metric is a row of `_FAMILIES`.

Not here: finding anything out (`overview`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..store import clock
from .overview import Overview

Value = float | int | None


class _Family(NamedTuple):
    """A metric: its name, which ends in its unit, what it tells, and of whom it tells what."""

    name: str
    unit: str
    help: str
    of: Callable[[Overview], Value]
    per: str = "dataset"


_FAMILIES = (
    _Family("artefacts", "", "Artefacts that there should be.", lambda o: _built(o, o.artefacts)),
    _Family(
        "artefacts_up_to_date",
        "",
        "Artefacts that are up to date.",
        lambda o: _built(o, o.up_to_date),
    ),
    _Family(
        "artefacts_in_trouble",
        "",
        "Artefacts that were made and are not as they should be, and failed checks.",
        lambda o: _built(o, len(o.trouble)),
    ),
    _Family(
        "up_to_date",
        "",
        "Whether a dataset is whole and up to date, as far as is known.",
        lambda o: _built(o, int(o.standing == "up to date")),
    ),
    _Family(
        "size_bytes",
        "bytes",
        "Size of what was made of a dataset, without archives.",
        lambda o: _built(o, o.size_bytes),
    ),
    _Family(
        "making_seconds",
        "seconds",
        "How long it took to make what is here, one thing after the other.",
        lambda o: o.making_s if o.last_made else None,
    ),
    _Family(
        "last_made_timestamp_seconds",
        "seconds",
        "When something of a dataset was last made.",
        lambda o: _time(o.last_made),
    ),
    _Family(
        "last_read_timestamp_seconds",
        "seconds",
        "When the bytes that were last read longest ago were.",
        lambda o: _time(o.last_read),
    ),
    _Family(
        "mirrors",
        "",
        "Mirrors of a source at the last look.",
        lambda o: o.mirrors.mirrors if o.mirrors else None,
        "source",
    ),
    _Family(
        "mirrors_alive",
        "",
        "Mirrors that gave every archive at the last look.",
        lambda o: o.mirrors.mirrors_alive if o.mirrors else None,
        "source",
    ),
    _Family(
        "mirror_places_wrong",
        "",
        "Files that a mirror serves with other bytes than are declared.",
        lambda o: o.mirrors.places_wrong if o.mirrors else None,
        "source",
    ),
    _Family(
        "mirrors_looked_timestamp_seconds",
        "seconds",
        "When the mirrors of a source were last looked at.",
        lambda o: _time(o.mirrors.looked if o.mirrors else None),
        "source",
    ),
)


def text(overviews: Sequence[Overview], archives_bytes: int) -> str:
    """Return the metrics of some datasets, and of the archives that are here."""
    lines = []
    for family in _FAMILIES:
        samples = dict(_samples(family, overviews))
        if samples:
            lines += _head(family.name, family.unit, family.help)
            lines += [f"imagesets_{family.name}{{{on}}} {found}" for on, found in samples.items()]
    lines += _head("archives_bytes", "bytes", "Size of the archives that are here.")
    lines += [f"imagesets_archives_bytes {archives_bytes}", "# EOF"]
    return "\n".join(lines)


def _samples(family: _Family, overviews: Iterable[Overview]) -> Iterable[tuple[str, float]]:
    for overview in overviews:
        if (found := family.of(overview)) is not None:
            source = f'source="{_escaped(overview.source)}"'
            dataset = f'dataset="{_escaped(overview.dataset)}",'
            yield (source if family.per == "source" else dataset + source), found


def _head(name: str, unit: str, help_: str) -> list[str]:
    lines = [f"# TYPE imagesets_{name} gauge", f"# HELP imagesets_{name} {_escaped(help_)}"]
    return [lines[0], *([f"# UNIT imagesets_{name} {unit}"] if unit else []), lines[1]]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _built(overview: Overview, number: int) -> int | None:
    """Return a number of a dataset that was made, or has trouble; of another nobody wants any."""
    return number if overview.is_built or overview.trouble else None


def _time(moment: str | None) -> float | None:
    return clock.seconds(moment) if moment else None
