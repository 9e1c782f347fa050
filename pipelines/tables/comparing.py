"""Comparing: a finished table held against records that were decoded again.

Not here: decoding, or what follows from a difference (`pipelines.lineage` does both).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..declarations import Dataset, Source, Split
from ..reading import info, opened, to_arrow
from ..records import Batch, Pixels
from .about import arrow_schema

_SLIGHT = 4  # levels of 255, on average over an image; right decoders of JPEG differ by less


class Comparison:
    """Holds the table at `file` against the batches of its split, one after the other.

    `path` is what the table is called in the data folder.
    is_slight: whether what `compare` found last was in the pixels alone, and so little that another
        decoder of the same JPEG may have made them.
    """

    is_slight = False

    def __init__(
        self, path: str, file: Path, source: Source, dataset: Dataset, split: Split
    ) -> None:
        """Read nothing yet."""
        self.path, self._file, self._dataset, self._split = path, file, dataset, split
        self._schema = arrow_schema(source, dataset, split)

    def compare(self, first: int, batch: Batch) -> str | None:
        """Return what differs between these records and the table's, from its row `first` on.

        Raises:
            TableError: it is no table of ours, or has no such rows.
        """
        self.is_slight = False
        if first == 0 and (why := self._misdescribed()):
            return why
        found = to_arrow(self._file, first, first + len(batch))
        index = self._split.first + first
        expected: dict[str, Any] = {
            "index": np.arange(index, index + len(batch), dtype=np.uint32),
        }
        if batch.known_labels is not None:
            expected["label"] = batch.known_labels
            expected["class"] = np.array(self._dataset.classes, object)[batch.known_labels]
        expected |= batch.extras
        if batch.coarse_labels is not None:
            expected["coarse_label"] = batch.coarse_labels
            names = np.array(self._dataset.coarse_classes, object)
            expected["coarse_class"] = names[batch.coarse_labels]
        for name, column in expected.items():
            there = found[name]
            if pa.types.is_dictionary(there.type):
                there = there.cast(pa.string())
            differs = column != there.to_numpy(zero_copy_only=False)
            if differs.any():
                at = int(differs.argmax())
                return (
                    f"record {index + at:,}: {name} is {there[at]}, but the archive "
                    f"says {column[at]}"
                )
        images = found["image"].combine_chunks().to_numpy_ndarray().reshape(batch.images.shape)
        why = _differing_pixels(index, batch.images, images)
        self.is_slight = why is not None and _is_slight(batch.images, images)
        return why

    def _misdescribed(self) -> str | None:
        found, expected = opened(self._file).file.schema_arrow, self._schema
        if not found.equals(expected):
            return f"its columns are {_columns(found)}; expected {_columns(expected)}"
        return None if found.metadata == expected.metadata else "its metadata are of another table"

    def end(self) -> str | None:
        """Return what the table has beyond the last record."""
        found, expected = info(self._file).records, self._split.records
        if found == expected:
            return None
        return f"it has {found:,} records, but the archive {expected:,}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _is_slight(expected: Pixels, found: Pixels) -> bool:
    """Whether images are nearly those that they should be, each of them."""
    off = np.abs(expected.astype(np.int16) - found).reshape(len(expected), -1)
    return bool(off.mean(axis=1).max(initial=0) < _SLIGHT)


def _differing_pixels(first: int, expected: Pixels, found: Pixels) -> str | None:
    if np.array_equal(expected, found):
        return None
    differs = (expected != found).reshape(len(expected), -1)
    at = int(differs.any(axis=1).argmax())
    y, x, channel = np.unravel_index(int(differs[at].argmax()), expected.shape[1:])
    return (
        f"record {first + at:,}: pixel (row {y}, column {x}, channel {channel}) is "
        f"{found[at, y, x, channel]}, but the archive says {expected[at, y, x, channel]}"
    )
