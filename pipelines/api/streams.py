"""Streams: a split that exceeds memory, record by record, shuffled through a buffer.

Not here: what a framework makes of them (`torch`, `tensorflow`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import reading
from ..records import Pixels
from . import loading
from .mapped import UNLABELLED


def shuffled(dataset: str, split: str, *, buffer: int, seed: int) -> Iterator[tuple[Pixels, int]]:
    """Yield every record of a split once, in an order that `seed` decides.

    Args:
        dataset: one of `names()`.
        split: of it.
        buffer: how many records are held, from which the next one is drawn.
        seed: of numpy's PCG64.

    Yields:
        (image, uint8 of shape (height, width, channels); label, or −1 where there are none)

    Raises:
        ValueError: the buffer holds nothing.
    """
    if buffer < 1:
        raise ValueError(f"buffer is {buffer}; it must be 1 or more")
    path = loading.path(dataset, split)
    random = np.random.default_rng(seed)
    held: list[tuple[Pixels, int]] = []
    groups = _groups(path)
    for number in random.permutation(len(groups)):
        batch = reading.read(path, *groups[number])
        labels = batch.known_labels
        for at in random.permutation(len(batch)):
            one = batch.images[at], UNLABELLED if labels is None else int(labels[at])
            if len(held) < buffer:
                held.append(one)
                continue
            place = int(random.integers(buffer))
            yield held[place]
            held[place] = one
    for at in random.permutation(len(held)):
        yield held[at]


def _groups(path: Path) -> list[tuple[int, int]]:
    """Return the first record of each row group, and the one after its last."""
    sizes = []
    for table in reading.tables(path):
        footer = table.file.metadata
        sizes += [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    ends = np.cumsum(sizes)
    return [(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)]
