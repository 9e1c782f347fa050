"""Index: one page over all datasets of the catalogue, with a picture and a line of each.

It shows a few records of each class where a dataset's table is there, and else says the command
that makes it; it leads to the cards and the pages of records that are there; and it holds what
classic classifiers reach on the datasets against one another, where that was tried. The records are
the first of each class in the split that is declared first, as on the cards. It is one file, opens
from disk, asks nobody for anything, and does not depend on when or where it was made.

Not here: what a page looks like (`_pages`), or what stands on a card (`card`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import products, wording
from ..products import Choices, Inputs, Product, Subject
from ..progress import Advance
from ..store import Facts, layout, writing
from . import benchmark

if TYPE_CHECKING:
    from ..records import Pixels

_FEW, _SEVERAL = 12, 30  # classes of which four and two records are shown; of more, one
_LARGEST = 64  # pixels of an image's longer side: most kept
_SMALL, _LARGE = 28, 56  # pixels that an image takes on a page, as nearly as whole factors give

Values = dict[str, Any]


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the page of all datasets.

    Raises:
        TableError: a table that is shown is none of ours.
        StorageError: the file can't be written.
    """
    from . import _pages

    shown = []
    for subject in inputs.subjects:
        shown.append(_declared(subject) | _found(inputs, subject))
        advance(subject.records)
    here = [one for one in shown if one["pictures"]]
    absent = [one for one in shown if not one["pictures"]]
    page = _pages.render("index.html", here=here, absent=absent, results=_results(inputs))
    with writing.atomic(goal) as partial:
        partial.write_bytes(page.encode())
    return {}


def _declared(subject: Subject) -> Values:
    """Return what is known before anything is there, in JSON's types."""
    dataset = subject.dataset
    return {
        "name": dataset.name,
        "title": dataset.title,
        "description": (dataset.description or "").strip(),
        "classes": list(dataset.classes),
        "splits": [[split.name, split.records] for split in subject.splits],
        "image": str(dataset.image),
        "is_grey": dataset.image.channels == 1,
        "licence": wording.licence(subject.source, subject.dataset),
    }


def _found(inputs: Inputs, subject: Subject) -> Values:
    """Return what there is of a dataset: pictures of its records, and where to read on."""
    first = layout.table(subject.dataset.name, subject.splits[0].name)
    there = first in inputs.paths
    return {
        "split": subject.splits[0].name,
        "is_narrow": len(subject.dataset.classes) <= _FEW,
        "is_large": len(subject.dataset.classes) <= _SEVERAL,
        "pictures": list(_pictures(inputs.paths[first], subject)) if there else [],
        "card": next(_pages_of(inputs, subject, "card"), None),
        "records": [
            [split.name, page]
            for split in subject.splits
            for page in _pages_of(
                inputs, Subject(subject.source, subject.dataset, (split,)), "records"
            )
        ],
    }


def _pages_of(inputs: Inputs, subject: Subject, stage: str) -> Iterator[str]:
    """Yield where the page of a description begins, as seen from this one, if it was made."""
    product = products.known().get(stage)
    if product and (path := product.path(subject)) in inputs.paths:
        yield f"{path.removeprefix('descriptions/')}/index.html"


def _pictures(table: Path, subject: Subject) -> Iterator[Values]:
    """Yield of each class its first records, one above the other."""
    from . import _pages
    from ._pictures import first_of_each

    dataset = subject.dataset
    classes = len(dataset.classes)
    each = 4 if classes <= _FEW else 2 if classes <= _SEVERAL else 1
    columns: list[list[Pixels]] = [[] for _ in dataset.classes]
    for one in first_of_each(table, each):
        columns[one.label].append(one.image)
    side = _LARGE if classes <= _SEVERAL else _SMALL
    for name, images in zip(dataset.classes, columns, strict=True):
        if images:
            png, width, height = _column(images, side)
            yield {"class": name, "src": _pages.data_uri(png), "width": width, "height": height}


def _column(images: list[Pixels], side: int) -> tuple[bytes, int, int]:
    """Return a PNG of images, one above the other, and how large it is shown."""
    import io

    import numpy as np
    from PIL import Image

    whole = np.concatenate(images)
    picture = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    longer = max(images[0].shape[:2])
    if longer > _LARGEST:
        picture = picture.resize(
            (
                max(1, round(picture.width * _LARGEST / longer)),
                max(len(images), round(picture.height * _LARGEST / longer)),
            ),
            Image.Resampling.BOX,
        )
        longer = _LARGEST
    factor = max(1, round(side / longer))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue(), picture.width * factor, picture.height * factor


def _results(inputs: Inputs) -> Values:
    """Return what classifiers reach: a row for the same one with the same settings everywhere.

    The rows stand in the order of their mean accuracy, the best first; a dataset that was not tried
    with one counts for nothing there. What looks the same is equally good.
    """
    rows: dict[tuple[str, str], dict[str, Values]] = {}
    datasets = []
    for subject in inputs.subjects:
        if (folder := _benchmark(inputs, subject)) is None:
            continue
        name, found = subject.dataset.name, benchmark.results(folder)
        train = benchmark.about(folder)["train"]
        datasets.append({"name": name, "title": subject.dataset.title, "train": train["records"]})
        best = max(_shown(one.accuracy) for one in found)
        for one in found:
            accuracy = _shown(one.accuracy)
            rows.setdefault((one.classifier, one.text), {})[name] = {
                "exact": one.accuracy,
                "accuracy": accuracy,
                "std": None if one.std is None else _shown(one.std),
                "best": accuracy == best,
                "converged": one.converged,
            }

    def mean(cells: dict[str, Values]) -> float:
        return statistics.fmean(cell["exact"] for cell in cells.values())

    ordered = sorted(rows.items(), key=lambda one: (-mean(one[1]), one[0]))
    return {
        "datasets": datasets,
        "rows": [
            {
                "classifier": classifier,
                "parameters": parameters,
                "cells": [cells.get(one["name"]) for one in datasets],
            }
            for (classifier, parameters), cells in ordered
        ],
        "stopped": any(not c["converged"] for cells in rows.values() for c in cells.values()),
    }


def _shown(share: float) -> str:
    return f"{share:.4f}"


def _benchmark(inputs: Inputs, subject: Subject) -> Path | None:
    """Return where a dataset's benchmark lies, if it was made."""
    return inputs.paths.get(benchmark.DESCRIPTION.path(subject))


def _parameters(subject: Subject, _chosen: Choices) -> dict[str, Any]:
    from . import _pages

    return _declared(subject) | {"looks": _pages.looks("index.html")}


DESCRIPTION = Product(
    name="index",
    title="on one page: a picture and a line of each, and classic classifiers side by side.",
    scope="catalogue",
    files="descriptions/index.html",
    code_version="1",
    write=write,
    needs=(),
    uses=("tables", "card", "records", "benchmark"),
    parameters=_parameters,
    reproducible="same libraries",
    kind="html",
    libraries=("jinja2", "markdown-it-py", "numpy", "pillow", "polars", "pyarrow"),
    extra="cards",
    requires=("jinja2", "markdown-it-py"),
)
