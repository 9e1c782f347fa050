"""What became of assets, and which need nothing done: told without Dagster, and without a run.

Not here: making anything (`building`, `runs`), or whether one artefact is up to date
(`pipelines.lineage.status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.errors import ImagesetsError, MadeByNewer
from pipelines.lineage import findings, status
from pipelines.plan import AssetPath, Plan, Planned, Step
from pipelines.statistics.expectations import Finding
from pipelines.store import Provenance, Store, clock, layout
from pipelines.store.hashing import Sight

STATES = ("failed", "blocked", "made", "up to date")  # of an asset, the worst first


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an asset, or of a part of one.

    state: `made`, `up to date`, `failed`, or `blocked` by a failure before it.
    read_s: when the bytes were last read or written, in seconds since 1970.
    warnings: what its checks found that stops nobody.
    in_words: what people are told became of it, where it comes in parts.
    """

    asset: str
    state: str
    records: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()
    in_words: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the asset is there and passed its checks."""
        return self.state in ("made", "up to date")


@dataclass(frozen=True, slots=True)
class Sound:
    """An asset, or a part of one, that is up to date and passed its checks.

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


def of_assets(plan: Plan, found: Mapping[Step, Outcome]) -> list[Outcome]:
    """Return what became of whole assets, in the order of their steps."""
    by_asset: dict[AssetPath, list[Outcome]] = {}
    for (asset, _), outcome in found.items():
        by_asset.setdefault(asset, []).append(outcome)
    return [
        _of_parts(outcomes, len(parts)) if (parts := plan.parts(asset)) else outcomes[0]
        for asset, outcomes in by_asset.items()
    ]


def _of_parts(outcomes: Sequence[Outcome], declared: int) -> Outcome:
    """Return what became of an asset of parts: the worst that became of one."""
    states = [outcome.state for outcome in outcomes]
    counts = [f"{state} {states.count(state):,}" for state in STATES if state in states]
    return Outcome(
        outcomes[0].asset,
        min(states, key=STATES.index),
        records=sum(one.records for one in outcomes),
        size_bytes=sum(one.size_bytes for one in outcomes),
        seconds=sum(one.seconds for one in outcomes if one.state == "made"),
        read_s=min(one.read_s for one in outcomes),
        error="\n".join(dict.fromkeys(one.error for one in outcomes if one.error)),
        warnings=tuple(dict.fromkeys(said for one in outcomes for said in one.warnings)),
        in_words=f"{', '.join(counts)} of {declared:,} parts",
    )


def sound(store: Store, plan: Plan, wanted: Iterable[Planned]) -> dict[Step, Sound]:
    """Return what needs nothing done, asset by asset, or part by part, of artefacts in their order.

    What is made from an asset that is not sound is not so either: its checks block what follows.
    """
    wanted = tuple(wanted)
    needed = plan.with_shown(wanted)
    try:
        store = store.at_once([one.path for one in needed])
        states = status.states(store, needed)
    except MadeByNewer:
        return {}  # each step says of its own what it can't read
    steps: dict[Step, list[Planned]] = {}
    for planned in wanted:
        steps.setdefault(planned.step, []).append(planned)
    good: dict[Step, Sound] = {}
    for step, before in plan.steps_before(steps).items():
        if before <= good.keys():
            artefacts = steps[step]
            held = [states[one.path] for one in artefacts]
            known = tuple(state.provenance for state in held if state.provenance)
            sights = tuple(state.sight for state in held if state.sight)
            if all(state.is_up_to_date for state in held) and not any(
                store.is_folder and store.stat(layout.pending_lineage(one.path))  # to be settled
                for one in artefacts
            ):
                found = _found(store, artefacts[0], known)
                if found is not None and not any(finding.blocks for finding in found):
                    good[step] = Sound(tuple(artefacts), known, sights, tuple(found))
    return good


def _found(store: Store, planned: Planned, known: tuple[Provenance, ...]) -> list[Finding] | None:
    """Return what checks find of an asset; None where it can't be read."""
    if planned.subject is None:
        return []
    try:
        return findings.of(store, planned.subject.dataset, known[0])
    except (OSError, ImagesetsError):
        return None
