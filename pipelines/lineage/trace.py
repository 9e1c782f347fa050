"""Trace: from a row of any artefact back to the publisher's bytes, every hop verified by reading.

Not here: making anything, or showing what was found (`assets.command_line.tracing`).

A record stands in several places: in an export, in the table, in members of archives. The
publisher's bytes decide: where the archives are those declared, every place is held against what
their members say, otherwise against the table. So the hop that does not hold is the one to blame.
"""

from __future__ import annotations

from ..errors import ArtefactError
from ..plan import Plan
from ..store import Store
from . import targets, trace_figures, trace_record, trace_whole
from .hops import Chain, Hop, Way, archive

__all__ = ["Chain", "Hop", "trace"]


def trace(plan: Plan, store: Store, text: str) -> Chain:
    """Trace `ARTEFACT` or `ARTEFACT:ROW`.

    Args:
        plan: all there can be of the catalogue.
        store: where everything lies.
        text: a path below the data folder, a name such as `mnist/train`, or the path of a copy.

    Raises:
        UnknownName: there is no such artefact.
        ArtefactError: the artefact is not there, or has no such row.
    """
    target, row = targets.find(plan, store, text)
    planned, here = target.planned, target.at(store)
    if not planned.is_at(here):
        raise ArtefactError(f"{here} is not there. {planned.remedy}")
    if planned.is_archive:
        if row is not None:
            raise ArtefactError(
                f"An archive has no rows; {row!r} was asked for. Name a record, DATASET/SPLIT:INDEX"
            )
        name = planned.path.rpartition("/")[2]
        hops = archive(plan, store, planned.source, name)
        return Chain(text, {"source": planned.source.name}, None, hops)
    if row is not None and not (planned.holds_records or planned.stage == "statistics"):
        raise ArtefactError(
            f"{planned.path} has no rows; {row!r} was asked for. Name a record, DATASET/SPLIT:INDEX"
        )
    subject = planned.subject
    if subject is None:
        return Chain(text, *trace_whole.of_catalogue(plan, store, target))
    way = Way(plan, store, target, subject.source, subject.dataset, subject.splits)
    if planned.stage == "statistics":
        facts, image, found = trace_figures.figures(way, row)
    elif row is None:
        facts, image, found = trace_whole.whole(way)
    else:
        facts, image, found = trace_record.record(way, row)
    return Chain(text, {"dataset": subject.dataset.name} | facts, image, found)
