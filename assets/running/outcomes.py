"""What became of assets, and which need nothing done: told without Dagster, and without a run.

Not here: making anything (`building`, `runs`), or whether one artefact is up to date
(`pipelines.lineage.status`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.errors import ImagesetsError, MadeByNewer
from pipelines.lineage import findings, status
from pipelines.plan import AssetPath, Plan, Planned
from pipelines.statistics.expectations import Finding
from pipelines.store import Provenance, Store, clock, layout
from pipelines.store.hashing import Sight


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an asset.

    state: `made`, `up to date`, `failed`, or `blocked` by a failure before it.
    read_s: when the bytes were last read or written, in seconds since 1970.
    warnings: what its checks found that stops nobody.
    """

    asset: str
    state: str
    records: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the asset is there and passed its checks."""
        return self.state in ("made", "up to date")


@dataclass(frozen=True, slots=True)
class Sound:
    """An asset that is up to date and passed its checks.

    planned, known, sights: its artefacts, how each was made, and what was seen of its file.
    found: what its checks found.
    """

    planned: tuple[Planned, ...]
    known: tuple[Provenance, ...]
    sights: tuple[Sight, ...]
    found: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """What people are told of it."""
        return Outcome(
            "/".join(self.planned[0].asset),
            "up to date",
            records=sum(one.records or 0 for one in self.known),
            size_bytes=sum(one.size_bytes for one in self.known),
            read_s=min(clock.seconds(sight.looked) for sight in self.sights),
            warnings=tuple(warning(f.check_name, f) for f in self.found if not f.passed),
        )


def warning(check_name: str, found: object) -> str:
    """Return what people are told where a check merely warns."""
    return f"{check_name}: {found}."


def sound(store: Store, plan: Plan, wanted: Iterable[Planned]) -> dict[AssetPath, Sound]:
    """Return the assets that need nothing done, of artefacts in the order of a plan.

    What is made from an asset that is not sound is not so either: its checks block what follows.
    """
    wanted = tuple(wanted)
    try:
        states = status.states(store, plan.with_shown(wanted))
    except MadeByNewer:
        return {}  # each step says of its own what it can't read
    assets: dict[AssetPath, list[Planned]] = {}
    for planned in wanted:
        assets.setdefault(planned.asset, []).append(planned)
    good: dict[AssetPath, Sound] = {}
    for asset, parts in assets.items():
        needed = {plan.artefacts[path].asset for one in parts for path in (*one.needs, *one.uses)}
        if (needed & assets.keys()) <= good.keys():
            held = [states[one.path] for one in parts]
            known = tuple(state.provenance for state in held if state.provenance)
            sights = tuple(state.sight for state in held if state.sight)
            if all(state.is_up_to_date for state in held) and not any(
                store.is_folder and store.stat(layout.pending_lineage(one.path))  # to be settled
                for one in parts
            ):
                found = _found(store, parts[0], known)
                if found is not None and not any(finding.blocks for finding in found):
                    good[asset] = Sound(tuple(parts), known, sights, tuple(found))
    return good


def _found(store: Store, planned: Planned, known: tuple[Provenance, ...]) -> list[Finding] | None:
    """Return what checks find of an asset; None where it can't be read."""
    if planned.subject is None:
        return []
    try:
        return findings.of(store, planned.subject.dataset, known[0])
    except (OSError, ImagesetsError):
        return None
