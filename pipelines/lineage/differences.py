"""Differences between a record as it stands somewhere and as it should be, in words.

Not here: deciding which of two is right.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import formats
from ..declarations import Dataset
from ..records import Batch
from ..store import Provenance, provenance


def of_decoders(made: Provenance, dataset: Dataset) -> str:
    """Return why pixels may differ that nobody changed: a table was made by other libraries.

    Nothing, where those that decide a dataset's records are here as they were there.
    """
    names = formats.named(dataset.format).libraries
    here, there = provenance.versions(names), made.run.versions
    others = [name for name in names if here.get(name) != there.get(name)]
    return ", ".join(
        f"it was made by {name} {there.get(name, 'that nobody recorded')}, and here is "
        f"{here.get(name, 'none')}"
        for name in others
    )


def of_record(found: Batch, expected: Batch) -> Iterator[tuple[str, str]]:
    """Yield (part, what was expected and what was found) of a record that should be another.

    Labels, coarse labels and what stands beside them are held against each other where both have
    them: an export may have fewer.
    """
    for part, one, other in (
        ("label", found.known_labels, expected.known_labels),
        ("coarse_label", found.coarse_labels, expected.coarse_labels),
    ):
        if one is not None and other is not None and one[0] != other[0]:
            yield part, f"{part.replace('_', ' ')}: expected {other[0]}, found {one[0]}"
    for name in found.extras.keys() & expected.extras.keys():
        if found.extras[name][0] != expected.extras[name][0]:
            wanted, there = expected.extras[name][0], found.extras[name][0]
            yield "label", f"{name}: expected {wanted}, found {there}"
    wrong = found.images[0] != expected.images[0]
    if wrong.any():
        at = tuple(int(number) for number in np.argwhere(wrong)[0])
        axes = ("row", "column", "channel")[: 2 + (wrong.shape[-1] > 1)]
        where = ", ".join(f"{axis} {number}" for axis, number in zip(axes, at, strict=False))
        yield (
            "pixels",
            f"pixel in {where}: expected intensity {expected.images[0][at]}, found "
            f"{found.images[0][at]} ({wrong.sum():,} of {wrong.size:,} differ)",
        )
