"""Trace: statistics, or a row of them, by adding up the records again.

Not here: computing the figures (`pipelines.statistics`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import statistics, tables
from ..declarations import Dataset, Split
from ..errors import (
    FormatError,
    MemberError,
    TableError,
    UnknownName,
    did_you_mean,
)
from ..records import Batch, Pixels
from .hops import Facts, Found, Way, blamed, hop_of, number_of
from .trace_whole import table_and_members, there, whole_file


def figures(way: Way, row: str | None) -> Found:
    """Trace statistics, or a row of them, by adding up the records again."""
    splits = way.splits
    layout = [(split, at) for split in splits for at in range(_rows_of(way.dataset, split))]
    if row is None:
        wanted, hop = range(len(layout)), whole_file(way.plan, way.store, way.target)
    else:
        number = _rownumber_of(way, row)
        wanted, hop = range(number, number + 1), hop_of("statistics", way.target, number)
    facts: Facts = {}
    image, hops, problems = None, [], []
    try:
        found = pq.read_table(way.here).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        found, problems = [], [f"not readable as Parquet: {error}"]
    split_rows = {split.name: [n for n in wanted if layout[n][0] is split] for split in splits}
    needed = [split for split in splits if split_rows[split.name]]
    pieces = {split.name: there(way, split) for split in needed}
    names = [name for split in needed for piece in pieces[split.name] for name in piece.archives]
    sources = way.archives(names)
    for split in needed:
        parts = {piece.name: table_and_members(way, piece) for piece in pieces[split.name]}
        [*others, (table, *stored)] = parts.values()
        try:
            holding = [part[0].holds for part in parts.values()]
            from_tables = all(holding) or not all(source.holds for source in sources)
            with contextlib.closing(_records(way, pieces[split.name], from_tables)) as batches:
                rows, spans = _added_up(way, split, batches)
        except (TableError, MemberError, FormatError, IndexError) as error:
            problems.append(f"the records of {split.name} can't be added up again: {error}")
        else:
            for number in split_rows[split.name]:
                at = layout[number][1]
                problems.append(_figures(found, number, rows[at]))
                if row is not None:
                    table = replace(table, facts=spans[at])
                    hop = replace(hop, facts=_some_figures(found, number))
                    facts = {k: rows[at][k] for k in ("split", "label", "class", "records")}
                    image = _mean_image(way.dataset, rows[at])
        hops += [*(hop for part in others for hop in part), table, *stored]
    return facts, image, (blamed(hop, *problems), *hops, *sources)


def _records(way: Way, pieces: Iterable[Split], from_tables: bool) -> Generator[tuple[int, Batch]]:
    """Yield the batches of a split, or its parts, each with the index of its first record."""
    for piece in pieces:
        if from_tables:
            batches = tables.batches(way.table(piece).at(way.store))
        else:
            batches = tables.decoded(way.source, way.dataset, piece, way.folder)
        index = piece.first
        with contextlib.closing(batches):
            for batch in batches:
                yield index, batch
                index += len(batch)


def _added_up(
    way: Way, split: Split, batches: Iterable[tuple[int, Batch]]
) -> tuple[list[Facts], list[Facts]]:
    """Return the rows of a split's statistics, and of which records each of them tells."""
    dataset = way.dataset
    first, last = None, -1
    about = tables.declared(way.source, dataset, split)
    sums = statistics.nothing_of(about)
    spans: list[Facts] = [{} for _ in range(_rows_of(dataset, split) - 1)]
    for index, batch in batches:
        statistics.add(sums, batch)
        for label in np.unique(batch.labels) if split.labelled else ():
            [at] = np.nonzero(batch.labels == label)
            spans[label].setdefault("first", index + int(at[0]))
            spans[label]["last"] = index + int(at[-1])
        first = index if first is None else first
        last = index + len(batch) - 1
    rows = statistics.rows(about, sums).to_pylist()
    spans.append({"first": first or 0, "last": last})
    return rows, [{"records": r["records"]} | span for r, span in zip(rows, spans, strict=True)]


def _rows_of(dataset: Dataset, split: Split) -> int:
    """Return how many rows statistics have of a split: one for each class, one for all of them."""
    return (len(dataset.classes) if split.labelled else 0) + 1


def _some_figures(found: list[Facts], number: int) -> Facts:
    """Return the figures of a row that are worth showing, as they stand there."""
    row = found[number] if number < len(found) else {}
    names = ("records", "mean_intensity", "std_intensity")
    return {name: row[name] for name in names if row.get(name) is not None}


def _mean_image(dataset: Dataset, row: Facts) -> Pixels | None:
    if row["mean_image"] is None:
        return None
    means = np.array(row["mean_image"], np.float32).reshape(dataset.image.shape)
    return np.rint(means).astype(np.uint8)


def _rownumber_of(way: Way, text: str) -> int:
    """Return which row is meant by its number, or by `SPLIT/LABEL`, `SPLIT/CLASS`, `SPLIT/total`.

    Raises:
        ArtefactError: there is no such row.
        UnknownName: there is no such split or class.
    """
    classes = way.dataset.classes
    splits = [split.name for split in way.splits]
    sizes = [_rows_of(way.dataset, split) for split in way.splits]
    name, slash, which = text.partition("/")
    if not slash and name not in splits:
        return number_of(text, f"{way.dataset.name}/statistics has rows", sum(sizes))
    if name not in splits:
        raise UnknownName(
            f"{way.dataset.name} has no split {name!r}.{did_you_mean(name, splits)} "
            f"Known: {', '.join(splits)}."
        )
    at = splits.index(name)
    if not way.splits[at].labelled:
        classes = ()
    known = {str(label): label for label in range(len(classes))}
    known |= {name: label for label, name in enumerate(classes) if name not in known}
    known |= {"": len(classes), "total": len(classes)}
    if which not in known:
        labels = f"one, its label 0 to {len(classes) - 1}, or " if classes else ""
        raise UnknownName(
            f"{way.dataset.name} has no class {which!r}.{did_you_mean(which, known)} Name "
            f"{labels}total."
        )
    return sum(sizes[:at]) + known[which]


def _figures(found: list[Facts], number: int, expected: Facts) -> str:
    """Return where a row of statistics differs from what it should be."""
    row = found[number] if number < len(found) else {}
    wrong = [
        f"{name}: expected {figure!s:.40}, found {row.get(name)!s:.40}"
        for name, figure in expected.items()
        if row.get(name) != figure
    ]
    return f"row {number}, {', '.join(wrong)}" if wrong else ""
