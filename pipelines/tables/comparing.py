"""TEMP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..declarations import Dataset, Source, Split
from ..records import Batch, Pixels
from . import reading


class Comparison:
    """A table that is held against decoded batches, one after the other."""

    def __init__(self, file: Path, source: Source, dataset: Dataset, split: Split) -> None:
        self._file, self._dataset, self._split = file, dataset, split
        self._schema = reading.arrow_schema(source, dataset, split)

    def compare(self, first: int, batch: Batch) -> str | None:
        if first == 0 and (why := self._misdescribed()):
            return why
        found = reading.to_arrow(self._file, first, first + len(batch))
        expected: dict[str, Any] = {
            "index": np.arange(first, first + len(batch), dtype=np.uint32),
            "label": batch.labels,
            "class": np.array(self._dataset.classes, object)[batch.labels],
        }
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
                    f"record {first + at:,}: {name} is {there[at]}, but the archive "
                    f"says {column[at]}"
                )
        images = found["image"].combine_chunks().to_numpy_ndarray().reshape(batch.images.shape)
        return _differing_pixels(first, batch.images, images)

    def _misdescribed(self) -> str | None:
        reading.info(self._file)  # refuses what is no table
        found, expected = pq.read_schema(self._file), self._schema
        if not found.equals(expected):
            return f"its columns are {_columns(found)}; expected {_columns(expected)}"
        return None if found.metadata == expected.metadata else "its metadata are of another table"

    def end(self) -> str | None:
        return _too_many(reading.info(self._file).records, self._split.records)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


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


def _too_many(found: int, expected: int) -> str | None:
    return f"it has {found:,} records, but the archive {expected:,}" if found != expected else None
