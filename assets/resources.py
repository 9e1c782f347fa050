"""What assets are given to work with: the store they write to, the web they fetch from.

Not here: any decision about an artefact (`pipelines`), or what people see (`display`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.display import Display, Unit
from pipelines import archives, lineage
from pipelines.archives import Identify
from pipelines.catalogue import Archive, Source
from pipelines.lineage import Artefact, Facts, Record
from pipelines.work import Advance

Build = Callable[[Path, Advance], Facts]
"""Writes an artefact to a path, telling how far it is; returns what it found out."""


@dataclass(frozen=True, slots=True)
class Made:
    """An artefact that is up to date now; `because` is None where it was so before."""

    record: Record
    because: str | None
    seconds: float


class Store(dg.ConfigurableResource[Any]):
    """The data folder."""

    data: str

    def path(self, relative: str) -> Path:
        """Return where an artefact lies."""
        return Path(self.data) / relative

    def inputs(self, *artefacts: Artefact) -> dict[str, str]:
        """Return path → SHA-256 of artefacts that another is made from; refuse stale ones."""
        return lineage.inputs(Path(self.data), artefacts)

    def make(
        self, artefact: Artefact, display: Display, total: int, unit: Unit, build: Build
    ) -> Made:
        """Bring an artefact up to date; if that takes `build`, show how far it is of `total`."""
        start = time.perf_counter()

        def build_on_display(goal: Path) -> Facts:
            with display.task(artefact.path, total, unit) as advance:
                return build(goal, advance)

        record, before = lineage.make(Path(self.data), artefact, build_on_display)
        return Made(record, before.reason, time.perf_counter() - start)


class Web(dg.ConfigurableResource[Any]):
    """Where archives come from."""

    mirror: str | None = None
    offline: bool = False

    def obtain(
        self, source: Source, archive: Archive, identify: Identify, goal: Path, advance: Advance
    ) -> Facts:
        """Make sure that an archive is at `goal`."""
        places = archives.places(source, archive, self.mirror, self.offline)
        return {"origin": archives.obtain(archive, goal, places, identify, advance, self.offline)}


def materialized(
    made: Sequence[Made],
    metadata: Mapping[str, Any] | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult[Any]:
    """Return what Dagster and people want to know of an asset's artefacts."""
    rebuilt = [m for m in made if m.because]
    records = sum(m.record.facts.get("records", 0) for m in made)
    version = "-".join(m.record.sha256 for m in made)
    return dg.MaterializeResult(
        metadata={
            "state": "made" if rebuilt else "up to date",
            "because": "; ".join(sorted({m.because for m in rebuilt if m.because}))
            or "nothing changed",
            "path": [m.record.path for m in made] if len(made) > 1 else made[0].record.path,
            "bytes": sum(m.record.size_bytes for m in made),
            "seconds": round(sum(m.seconds for m in made), 3),
            **({"dagster/row_count": records} if records else {}),
            **(metadata or {}),
        },
        data_version=dg.DataVersion(version),
        check_results=list(checks),
    )
