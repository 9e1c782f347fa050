"""Wording: what is told of a dataset in words, wherever it is told; from its declaration alone.

Texts may hold markdown, as the catalogue does. Not here: what was counted in the records
(`pipelines.statistics`), or where something is told (`pipelines.exports`,
`pipelines.descriptions`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .declarations import Dataset, Source

NOT_STATED = "not stated"  # what the catalogue says where a publisher says nothing


def summary(dataset: Dataset) -> str:
    """Return for example `60,000 train and 10,000 test images of 28×28 in 10 classes.`."""
    splits = [f"{split.records:,} {split.name}" for split in dataset.splits.values()]
    return f"{' and '.join(splits)} images of {dataset.image} in {len(dataset.classes)} classes."


def quirks(dataset: Dataset) -> Iterator[str]:
    """Yield what surprises people who use a dataset, a sentence or two each."""
    if dataset.class_labels:
        order = ", ".join(map(str, dataset.class_labels))
        yield f"The publisher labels the classes, in this order, {order}."
    elif dataset.first_label:
        yield f"The publisher counts labels from {dataset.first_label}."
    yield from (quirk.strip() for quirk in dataset.quirks)


def restriction(source: Source, dataset: Dataset) -> str:
    """Return what the licence of a dataset forbids, a sentence; "" where nothing is declared."""
    return (dataset.restriction or source.restriction or "").strip()


def restrictions(source: Source, datasets: Iterable[Dataset]) -> list[str]:
    """Return what the licences of some datasets of a source forbid, a line each, with whose."""
    told: dict[str, list[str]] = {}
    for dataset in datasets:
        if forbids := restriction(source, dataset):
            told.setdefault(forbids, []).append(dataset.name)
    return [
        f"{source.name if len(names) == len(source.datasets) else ', '.join(names)}: {forbids}"
        for forbids, names in told.items()
    ]


def licence(source: Source, dataset: Dataset) -> str:
    """Return the licence in the publisher's words, or that there is none, and what it forbids."""
    stated = "none stated" if source.licence == NOT_STATED else source.licence.strip()
    return _and_forbids(stated, source, dataset)


def terms(source: Source, dataset: Dataset) -> str:
    """Return the licence as it is declared, and what it forbids."""
    return _and_forbids(source.licence, source, dataset)


def _and_forbids(stated: str, source: Source, dataset: Dataset) -> str:
    forbids = restriction(source, dataset).removesuffix(".")
    return f"{stated.removesuffix('.')}. {forbids}" if forbids else stated


def fenced(text: str, language: str = "") -> str:
    """Return text as a block of code in markdown, whatever it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def plain(text: str) -> str:
    """Return text of which markdown takes nothing for its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", text)
