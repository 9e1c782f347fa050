"""Stages: the kinds of artefacts there are, by name, and what may be chosen of them.

Imports nothing heavy, for `--help` and settings. Not here: which artefacts of a stage there are, or
what they are made from (`pipelines.plan`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable

from . import products
from .declarations import Dataset, Source
from .errors import UnknownName, did_you_mean
from .products import Option, Product, Subject

BASIC = ("archives", "tables", "statistics")  # the stages that others are made from
OPTIONAL = "optional_archives"  # of a source, for what is made from them on request
PARTS = ("sums", "manifest")  # what a split that comes in parts has besides
DEFAULT = (*BASIC, *PARTS, "croissant", "csv", "lmdb")
"""The stages that are made, refreshed, locked and mirrored where nobody names any."""

# Level −1 reads an eighth to a third faster than level 1, and takes 5 to 11 % more room.
COMPRESSION = Option("compression_level", -1, "zstd's, of the tables: -7 to 22", -7, 22)


def known(named: Iterable[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Return what may be named of stages → the stages meant: each one, and `exports` for some.

    Those are the ones `named`, or else the default ones.
    """
    some = default_exports() if named is None else tuple(named)
    found = {stage: (stage,) for stage in (*BASIC, OPTIONAL)} | {"exports": some}
    found["tables"] = ("tables", "manifest")  # which makes one of its parts
    return found | {name: (name,) for name in products.known()}


def selected(names: Iterable[str], named: Iterable[str] | None = None) -> set[str]:
    """Return the stages that are meant, those of a default build where none is named.

    A default build makes the exports `named` instead of the default ones.

    Raises:
        UnknownName: with the nearest name that exists.
    """
    stages, names = known(named), list(names)
    for name in names:
        if name not in stages:
            raise UnknownName(
                f"There is no stage {name!r}.{did_you_mean(name, stages)} Known: "
                f"{', '.join(stages)}."
            )
    default = {stage for stage in DEFAULT if stage not in exports()} | {*stages["exports"]}
    return {stage for name in names for stage in stages[name]} or default


def default_exports() -> tuple[str, ...]:
    """Return the exports that are made where nobody names any."""
    return tuple(name for name in exports() if name in DEFAULT)


def named() -> list[str]:
    """Return all that a run may name to be made: where it was told what to make, it makes it."""
    return [OPTIONAL, *products.known()]


def exports() -> list[str]:
    """Return the exports there are."""
    return [name for name in products.known() if products.room_of(name) == "exports"]


def needs(name: str) -> tuple[str, ...]:
    """Return the stages that an export or a description is made from."""
    known = products.known()
    return known[name].needs if name in known else ()


def subject(product: Product, source: Source, dataset: Dataset) -> Subject:
    """Return what a product of a dataset is of: all its splits, or those with labels."""
    dataset = dataset.with_labels if product.needs_labels else dataset
    return Subject(source, dataset, tuple(dataset.splits.values()))


def applies(product: Product, source: Source, dataset: Dataset) -> bool:
    """Return whether there is a product of a dataset."""
    shown = subject(product, source, dataset).dataset
    if not shown.splits:
        return False
    if OPTIONAL in product.needs and not source.optional_archives:
        return False
    if dataset.is_in_parts and not product.is_made_of_parts:
        return False
    return product.applies(shown)


def options(stages: Collection[str] | None = None) -> dict[str, Option]:
    """Return what may be chosen of how things of some stages (or all) are made, by whole names."""
    return {
        f"{product.name}_{option.name}": option
        for product in products.known().values()
        for option in product.options
        if stages is None or product.name in stages
    } | {COMPRESSION.name: COMPRESSION}


@functools.cache
def reserved() -> re.Pattern[str]:
    """Return what no split may be called: other assets, and other record sets in its Croissant."""
    known = products.known().values()
    of_splits = "|".join(product.name for product in known if product.scope == "split")
    names = [product.name for product in known if product.scope != "split"]
    names = [*BASIC, OPTIONAL, *names, rf".*_({of_splits})", "splits", "(coarse_)?classes"]
    return re.compile("|".join(names))
