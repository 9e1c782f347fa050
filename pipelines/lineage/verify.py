"""Verification: is every artefact still what it was made as, and what its archive says?

`shallow` and `deep` do the work. Not here: mending anything (the caller builds what `to_mend`
returns).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from ..declarations import Dataset
from ..plan import Plan, Step
from ..progress import Display
from ..store import Store, making, provenance
from . import deep as deeply
from . import shallow, status
from .shallow import Verdict


def verify(
    store: Store,
    plan: Plan,
    datasets: Sequence[Dataset],
    display: Display,
    *,
    deep: bool = False,
    parts: Collection[str] | None = None,
) -> list[Verdict]:
    """Return what became of those artefacts of some datasets that were ever made, all hashed anew.

    Of datasets that come in parts, of those `parts` alone, where any are named: what is made of
    others as well is left out.

    With `deep`, all that was made from whole archives is compared with them, record by record, but
    for what comes out otherwise elsewhere (`Planned.can_be_compared`). What
    is of all datasets is verified with all of them, since it shows whatever there is.
    """
    some = plan.of(datasets, parts=parts)
    if parts is not None:
        paths = {one.path for one in some}
        some = tuple(one for one in some if {*one.needs, *one.uses} <= paths)
    wanted = status.ever_made(store, some)
    there = [identity for one in wanted if (identity := store.stat(one.path))]
    total = sum(identity.size_bytes for identity in there)
    with (display if there else Display()).task("verify", total, "bytes") as advance:
        found = {verdict.path: verdict for verdict in shallow.verify(store, wanted, advance)}
    for dataset in datasets if deep else ():
        whole = {path for path, verdict in found.items() if verdict.is_whole}
        if not any(one.path in whole and one.subject for one in plan.of([dataset])):
            continue
        records = sum(split.records for split in dataset.splits.values())
        with display.task(f"verify --deep {dataset.name}", records, "records") as advance:
            compared = deeply.verify(store, plan, dataset, whole, advance)
        for verdict in compared:
            found[verdict.path] = replace(verdict, sha256=found[verdict.path].sha256, is_deep=True)
    for one in wanted if deep else ():
        is_comparable = one.is_of_catalogue and one.can_be_compared
        if is_comparable and one.path in found and found[one.path].is_whole:
            verdict = deeply.of_catalogue(store, plan, one, found)
            found[one.path] = replace(verdict, sha256=found[one.path].sha256, is_deep=True)
    return list(found.values())


def to_mend(store: Store, plan: Plan, verdicts: Iterable[Verdict]) -> list[Step]:
    """Return what to make so that all is whole again, in the order in which it is made.

    Those with artefacts that are not whole; what was made from bytes that have changed since; and,
    back to what is whole, what all of these are made from.
    """
    verdicts = list(verdicts)
    whole = {verdict.path for verdict in verdicts if verdict.is_whole}
    paths = {verdict.path for verdict in verdicts if not verdict.is_whole}
    for verdict in verdicts:
        if verdict.condition == "changed" and (known := provenance.latest(store, verdict.path)):
            paths |= {one.path for one in making.made_since(store, known)} & plan.artefacts.keys()
    needed = {plan.artefacts[path].step for path in paths}
    for planned in reversed(plan.artefacts.values()):  # exports before tables before archives
        if planned.step in needed:
            needed |= {plan.artefacts[path].step for path in planned.needs if path not in whole}
    return [step for step in plan.steps() if step in needed]
