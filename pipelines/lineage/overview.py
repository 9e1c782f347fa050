"""The overview: of each dataset, whether it is well as far as is known, and since when.

It goes by what is kept beside the artefacts: their provenance, what was seen of their files when
they were last read, what checks found, and what mirrors gave at the last look. A file is read only
where somebody wrote to it since; so `last_read` says how old the knowledge is. Nothing is certified
that nobody looked at.

What is of all datasets is no dataset's, and left out: it shows what was there when it was made, and
lags behind after any build.

Not here: reading everything again (`shallow`), or where people (`assets`) and programs (`metrics`)
are shown it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from ..archives import looks
from ..archives.looks import Look
from ..declarations import Dataset, Source
from ..plan import Plan, Planned
from ..progress import size
from ..store import Store, clock
from ..store.state import State
from . import status

Standing = Literal[
    "up to date", "out of date", "incomplete", "damaged", "check failed", "not built"
]
"""`damaged`: something that was made is missing, was changed or has no provenance. `out of date`:
something would be made otherwise now. `incomplete`: something was not made yet. `not built`:
nothing but archives is here."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be: an artefact, or a check of one."""

    path: str
    condition: str
    why: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of a dataset.

    artefacts: how many there should be: what a build makes, and what else was ever made; of a
        source that is made on request, no more than what was ever made.
    up_to_date: how many of them are.
    size_bytes: of what was made of it, without the archives of its source.
    last_read: when the bytes that were last read longest ago were; None where there are none.
    last_made: when the youngest was made; None where there is none.
    making_s: how long it took to make what is here, one thing after the other.
    mirrors: of its source, at the last look; None where nobody knows.
    trouble: what is not as it should be, of what was ever made.
    parts: where it comes in parts, how many of them were ever asked for, and there are.
    """

    dataset: str
    source: str
    standing: Standing
    artefacts: int
    up_to_date: int
    size_bytes: int
    last_read: str | None
    last_made: str | None
    making_s: float
    mirrors: Look | None
    trouble: tuple[Trouble, ...]
    parts: str = ""

    @property
    def is_built(self) -> bool:
        """Whether anybody ever made it here."""
        return self.standing != "not built"

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do."""
        return self.standing == "up to date" and (self.mirrors is None or self.mirrors.is_well)

    @property
    def remedy(self) -> str:
        """What to do about its trouble, in a sentence."""
        if self.standing == "check failed":
            return "the data and the catalogue contradict each other; correct one of them"
        return f"python -m assets verify --repair {self.dataset} mends it"

    @property
    def in_words(self) -> dict[str, str]:
        """What people are shown of it at a glance, by the heads of the columns."""
        is_there = self.is_built or self.trouble
        return {
            "dataset": self.dataset,
            "state": f"{self.standing}, {self.parts}" if is_there and self.parts else self.standing,
            "artefacts": f"{self.up_to_date} of {self.artefacts}" if is_there else "",
            "size": size(self.size_bytes) if is_there else "",
            "last read": self.last_read[:10] if self.last_read else "",
            "mirrors": f"{self.mirrors.mirrors_alive} of {self.mirrors.mirrors}"
            if self.mirrors
            else "?",
        }


def asked(overviews: Iterable[Overview]) -> list[Overview]:
    """Return those that anybody ever asked for; that others are not built is no trouble."""
    return [one for one in overviews if one.is_built or one.trouble]


def of(
    store: Store, plan: Plan, datasets: Iterable[Dataset], stages: Collection[str]
) -> list[Overview]:
    """Return what is known of some datasets.

    Args:
        store: where everything lies.
        plan: all there can be.
        datasets: those to tell of.
        stages: what a build makes; what else was made is looked at, too.

    Raises:
        MadeByNewer: the provenance of something can only be read by a newer Imagesets.
    """
    datasets = list(datasets)
    store = store.at_once([one.path for one in plan.of(datasets)])
    return [_of(store, plan, dataset, stages) for dataset in datasets]


def archives_bytes(store: Store, plan: Plan, sources: Iterable[Source]) -> int:
    """Return the bytes of the archives that are here, each counted once."""
    paths = {one.path for source in sources for one in plan.archives_of(source)}
    store = store.at_once(paths)
    return sum(found.size_bytes for path in paths if (found := store.stat(path)))


def _of(store: Store, plan: Plan, dataset: Dataset, stages: Collection[str]) -> Overview:
    all_there_can_be = [one for one in plan.of([dataset]) if not one.is_of_catalogue]
    made = {one.path for one in status.ever_made(store, all_there_can_be)}
    on_request = plan.declared.source_of(dataset).on_request
    asked = () if on_request else status.asked_for(store, plan, [dataset], stages)
    wanted = _with_needs(all_there_can_be, made | {one.path for one in asked})
    own = {one.path for one in wanted if one.subject is not None}
    states = status.states(store, wanted)
    up_to_date = {path for path, state in states.items() if state.is_up_to_date}
    broken = [
        Trouble(path, state.condition, state.reason or "")
        for path, state in states.items()
        if path in made and not state.is_up_to_date
    ]
    failing = [
        Trouble(path, "check failed", f"{finding.check_name}: {finding.found}")
        for path, findings in status.failing(store, dataset, up_to_date).items()
        for finding in findings
    ]
    here = {path: state for path, state in states.items() if path in made and state.sight}
    known = [state.provenance for path, state in here.items() if path in own and state.provenance]
    looked = [state.sight.looked for state in here.values() if state.sight]
    return Overview(
        dataset.name,
        dataset.source,
        _standing(broken, failing, is_built=bool(made & own), lacks=bool({*states} - made)),
        len(states),
        len(up_to_date),
        sum(_size(state) for path, state in here.items() if path in own),
        min(looked, key=clock.seconds, default=None),
        max((one.run.ended for one in known), key=clock.seconds, default=None),
        sum(max(0.0, one.run.ended_s - clock.seconds(one.run.started)) for one in known),
        looks.last(store, dataset.source),
        (*broken, *failing),
        status.parts_in_words(asked, dataset),
    )


def _with_needs(ordered: Sequence[Planned], paths: Set[str]) -> list[Planned]:
    """Return the artefacts of some paths, and all that they are made from."""
    wanted = {*paths}
    for one in reversed(ordered):
        if one.path in wanted:
            wanted.update(one.needs)
    return [one for one in ordered if one.path in wanted]


def _standing(
    broken: Collection[Trouble], failing: Collection[Trouble], *, is_built: bool, lacks: bool
) -> Standing:
    if any(one.condition != "stale" for one in broken):
        return "damaged"
    if failing:
        return "check failed"
    if broken:
        return "out of date"
    if not is_built:
        return "not built"
    return "incomplete" if lacks else "up to date"


def _size(state: State) -> int:
    return state.sight.identity.size_bytes if state.sight else 0
