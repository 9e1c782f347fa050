"""Diff: what changed from one dataset to another, of versions or of any two of the same images.

Not here: how records are matched (`pipelines.statistics.changes`), or showing what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..declarations import Dataset
from ..errors import StaleInput, UnknownName, did_you_mean
from ..plan import Plan
from ..progress import Display
from ..statistics import changes
from ..statistics.changes import Changes
from ..store import Store
from . import status


def diff(
    plan: Plan,
    store: Store,
    before: Dataset,
    after: Dataset,
    display: Display,
    *,
    split: str | None = None,
    show: int = 10,
) -> Changes:
    """Return what became of the records of one dataset in another; `changes.between` tells how.

    Raises:
        UnknownName: their images are of different shapes, or neither has such a split.
        StaleInput: a table is not there, or not up to date.
        TableError: one is damaged.
    """
    if before.image != after.image:
        raise UnknownName(
            f"Images of {before.name} are of {before.image} pixels, those of {after.name} of "
            f"{after.image}: only datasets of images of one shape can be compared."
        )
    known = dict.fromkeys([*before.splits, *after.splits])
    if split is not None and split not in known:
        raise UnknownName(
            f"Neither {before.name} nor {after.name} has a split {split!r}."
            f"{did_you_mean(split, known)} Known: {', '.join(known)}."
        )
    tables, tables_after = (_tables(plan, store, one) for one in (before, after))
    records = sum(one.records for of in (before, after) for one in of.splits.values())
    with display.task(f"diff {before.name} {after.name}", records, "records") as advance:
        return changes.between(tables, tables_after, show, split, advance)


def _tables(plan: Plan, store: Store, dataset: Dataset) -> Mapping[str, Sequence[Path]]:
    """Return split → its table, or those of its parts: all of them, and up to date."""
    wanted = plan.of([dataset], ["tables"])
    found: dict[str, list[Path]] = {split: [] for split in dataset.splits}
    for path, state in status.states(store, wanted).items():
        planned = plan.artefacts[path]
        if planned.stage != "tables" or not planned.subject:
            continue
        if state.reason:
            raise StaleInput(f"{path} can't be compared: {state.reason}. {planned.remedy}")
        found[planned.subject.split.split].append(store.local(path))
    return found
