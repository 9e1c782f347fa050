"""Spread: some records of a split that stand for all, chosen by a rule and not by chance.

All records are sorted by class, those of a class staying in their order, and taken at even steps.
So each class keeps its share, and each part of the split is seen: the order of many is not random.

Not here: what is done with them (`embedding`, `benchmark`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..records import Labels, Pixels

RULE = "evenly spaced, after a stable sort by class"


def chosen(labels: Labels, most: int) -> npt.NDArray[np.intp]:
    """Return which records are taken, at most so many: their indices, ascending."""
    import numpy as np

    some = min(most, len(labels))
    order = np.argsort(labels, kind="stable")
    return np.sort(order[np.arange(some) * len(labels) // max(1, some)])


def pixels(table: Path, indices: npt.NDArray[np.intp]) -> Pixels:
    """Read some records of a table.

    Args:
        table: of one split.
        indices: of the records, ascending.

    Returns:
        uint8 array of shape (records, height · width · channels).

    Raises:
        TableError: no table of ours.
    """
    import numpy as np

    from .. import tables

    found = np.empty((len(indices), tables.info(table).record_bytes), np.uint8)
    first = 0
    for batch in tables.batches(table):
        start, stop = np.searchsorted(indices, (first, first + len(batch)))
        rows = batch.images.reshape(len(batch), -1)
        found[start:stop] = rows[indices[start:stop] - first]
        first += len(batch)
    return found
