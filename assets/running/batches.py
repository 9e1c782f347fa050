"""Batches: what is to be made, cut into runs that Dagster can record.

A run is of whole assets and, of assets in parts, of all their parts from one to another: Dagster
would call parts between them materialized, too. So there is a run for each stretch of parts next to
each other of which the same assets are to be made. What is made from parts comes in the last run.

Not here: starting runs (`runs`, `refresh`), or what parts are to Dagster (`assets.partitions`).
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.plan import AssetPath, Plan, Step


@dataclass(frozen=True, slots=True)
class Batch:
    """What one run makes.

    steps: in an order in which they can be made.
    parts: which parts of the assets that come in parts; none where there is no such asset.
    """

    steps: tuple[Step, ...]
    parts: tuple[str, ...] = ()

    @property
    def assets(self) -> list[AssetPath]:
        """Its assets, each once."""
        return list(dict.fromkeys(asset for asset, _ in self.steps))

    def without(self, steps: Collection[Step]) -> Batch:
        """Return the same without some steps."""
        rest = tuple(step for step in self.steps if step not in steps)
        return Batch(rest, self.parts if any(part for _, part in rest) else ())


def of(plan: Plan, steps: Sequence[Step]) -> list[Batch]:
    """Return steps in batches, one after the other."""
    whole = [step for step in steps if not step[1]]
    groups = _stretches(plan, [step for step in steps if step[1]])
    if not groups:
        return [Batch(tuple(steps))] if steps else []
    before = _before(plan, steps)
    in_parts = [step for step in steps if step[1]]
    first = {one for step in in_parts for one in before[step]}
    last = {step for step in whole if step not in first}
    order = {step: number for number, step in enumerate(steps)}
    found = []
    for number, (parts, members) in enumerate(groups):
        mine = {*members}
        if number == 0:
            mine |= {step for step in whole if step in first}
        if number == len(groups) - 1:
            mine |= last
        found.append(Batch(tuple(sorted(mine, key=order.__getitem__)), parts))
    return found


def blocked(plan: Plan, steps: Sequence[Step], bad: Collection[Step]) -> list[Step]:
    """Return those of some steps, in their order, that need what went wrong in a run before."""
    found = {*bad}
    for step, needed in plan.steps_before([*bad, *steps]).items():
        if needed & found:
            found.add(step)
    return [step for step in steps if step in found]


def _stretches(plan: Plan, steps: Sequence[Step]) -> list[tuple[tuple[str, ...], list[Step]]]:
    """Return (parts next to each other, what is to be made of each of them)."""
    of_keys: dict[tuple[str, ...], dict[str, list[AssetPath]]] = {}
    for asset, part in steps:
        of_keys.setdefault(plan.parts(asset), {}).setdefault(part, []).append(asset)
    found = []
    for keys, wanted in of_keys.items():
        each = ((tuple(wanted.get(key, ())), key) for key in keys)
        for assets, stretch in itertools.groupby(each, operator.itemgetter(0)):
            if assets:
                parts = tuple(key for _, key in stretch)
                found.append((parts, [(asset, part) for part in parts for asset in assets]))
    return found


def _before(plan: Plan, steps: Sequence[Step]) -> Mapping[Step, set[Step]]:
    """Return step → all of `steps` that must be made before it, however far up."""
    found = dict[Step, set[Step]]()
    near = plan.steps_before(steps)
    for step in steps:  # in an order in which they can be made
        found[step] = near[step].union(*(found[one] for one in near[step]))
    return found
