"""Which datasets a command is about, and what is said where there is nothing of them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from assets.settings import Settings
from pipelines import products, progress
from pipelines.declarations import Catalogue, Dataset, Source, version
from pipelines.errors import TableError, UnknownName, did_you_mean

if TYPE_CHECKING:  # numpy and Arrow take long to import
    from pipelines.plan import Plan, Planned

MOST_TOLD = 3  # of sources that nobody asked for


def selected(declared: Catalogue, names: Sequence[str]) -> Sequence[Dataset]:
    """Return the datasets of some names, of datasets or of sources; all, where there is none."""
    return declared.select(names) if names else tuple(declared.datasets.values())


def to_make(declared: Catalogue, names: Sequence[str]) -> Sequence[Dataset]:
    """Return the datasets of some names; where there is none, all that are made by default.

    Raises:
        UnknownName: no name is given, and all there is is made on request.
    """
    chosen = declared.select(names) if names else declared.by_default
    if not chosen:
        raise UnknownName(
            "All there is in this catalogue is made on request: name what you want. Known: "
            f"{', '.join(declared.datasets)}."
        )
    return chosen


def left_out(declared: Catalogue, names: Sequence[str], command: str) -> str:
    """Return what is said of sources that nobody named, and how to have them; "" of none.

    Nothing is said of versions that are not current: who wants one knows it.
    """
    apart = [one for one in declared.sources.values() if one.on_request and not version(one.name)]
    sources = apart if not names else []
    if not sources:
        return ""
    told = ", ".join(f"{source.name} ({size_of(source)})" for source in sources[:MOST_TOLD])
    if more := len(sources[MOST_TOLD:]):
        told += f" and {more} more, as `python -m assets list` shows them"
    return f"Left out, since made on request: {told}. Name it: {command} {sources[0].name}"


def size_of(source: Source) -> str:
    """Return how large the archives of a source are together, as far as that is declared."""
    known = [one.size_bytes for one in source.archives.values() if one.size_bytes is not None]
    if len(known) == len(source.archives):
        return progress.size(sum(known))
    return f"over {progress.size(sum(known))}" if known else "unknown"


def planned(
    plan: Plan, datasets: Sequence[Dataset], wanted: Collection[str]
) -> tuple[Planned, ...]:
    """Return what there can be of datasets, of some stages, with all that it needs.

    Raises:
        UnknownName: there can be nothing; it says of which datasets there can.
    """
    if found := plan.of(datasets, wanted):
        return found
    others = plan.declared.datasets.values()
    having = [other.name for other in others if plan.of([other], wanted)]
    raise UnknownName(
        f"There is no {' and no '.join(sorted(wanted))} of "
        f"{', '.join(dataset.name for dataset in datasets)}. "
        f"Datasets that have one: {', '.join(having) or 'none of this catalogue'}."
    )


def without_labels(datasets: Sequence[Dataset], wanted: Collection[str]) -> str:
    """Return what is said of stages that there are not of splits without labels; "" of none."""
    bare = [
        f"{dataset.name}/{split.name}"
        for dataset in datasets
        for split in dataset.splits.values()
        if not split.labelled
    ]
    known = products.known()
    lacking = [name for name in sorted(wanted) if name in known and known[name].needs_labels]
    if not bare or not lacking:
        return ""
    have = "has" if len(bare) == 1 else "have"
    need = "needs" if len(lacking) == 1 else "need"
    return f"{' and '.join(bare)} {have} no labels, which {', '.join(lacking)} {need}."


def parts(datasets: Sequence[Dataset], names: Sequence[str] | None) -> frozenset[str] | None:
    """Return the parts of datasets that are named; None, for all, where no names are given.

    Raises:
        UnknownName: there is no such part, or a dataset does not come in parts.
    """
    if names is None:
        return None
    if whole := [dataset.name for dataset in datasets if not dataset.is_in_parts]:
        named = f"{whole[0]} does"
        if len(whole) > 1:
            named = f"{whole[0]} and {len(whole) - 1} more do"
        raise UnknownName(
            f"{named} not come in parts: leave --parts out, or name a dataset that does before it."
        )
    known = dict.fromkeys(piece.key for dataset in datasets for piece in dataset.pieces)
    for name in names:
        if name not in known:
            some = [*known][:3]
            raise UnknownName(
                f"There is no part {name!r} of {', '.join(dataset.name for dataset in datasets)}."
                f"{did_you_mean(name, known)} There are {len(known):,}: {', '.join(some)}"
                f"{', …' if len(known) > len(some) else ''}. Names of datasets come before --parts."
            )
    return frozenset(names)


def not_built(
    settings: Settings, names: Sequence[str], parts: Sequence[str] | None = None
) -> TableError:
    """Return the refusal to tell of what was never made, or of no such parts."""
    what = f"of {', '.join(names)} " if names else ""
    some = ["--parts", *map(shlex.quote, parts)] if parts else []
    what = f"of {', '.join(parts)} {what}" if parts else what
    run = " ".join(["python -m assets build", *names, *some])
    return TableError(f"Nothing {what}is built in {settings.shown_data} yet. Run: {run}")
