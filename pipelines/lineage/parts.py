"""Parts: which parts of a split something was made from, as its inputs tell.

Not here: making a whole of them (`pipelines.parts`, `pipelines.statistics`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .. import tables
from ..declarations import Dataset, Split
from ..products import Subject
from ..statistics.sums import FILE
from ..store import Store, layout


def among(dataset: Dataset, split: Split, inputs: Collection[str]) -> list[Split]:
    """Return the parts of a split of which tables or sums are among some paths."""
    name = dataset.name
    return [
        piece
        for piece in split.pieces
        if layout.table(name, piece.name) in inputs or layout.sums(name, piece.name) in inputs
    ]


def records(subject: Subject, inputs: Collection[str]) -> int:
    """Return how many records what is made from some paths has to do with."""
    if not subject.dataset.is_in_parts:
        return subject.records
    splits = subject.splits
    return sum(one.records for split in splits for one in among(subject.dataset, split, inputs))


def sums(
    store: Store, subject: Subject, inputs: Collection[str]
) -> list[tuple[tables.Info, list[Path]]]:
    """Return what there is to know of each split, and where the sums of its parts lie."""
    found = []
    for split in subject.splits:
        pieces = among(subject.dataset, split, inputs)
        paths = [layout.sums(subject.dataset.name, piece.name) for piece in pieces]
        if paths:
            about = tables.declared(subject.source, subject.dataset, split)
            found.append((about, [store.local(path) / FILE for path in paths]))
    return found
