"""Duplicates: records whose pixels are the very same, within a split or across splits.

Not here: records that merely look alike, or what follows from what is found (`expectations`).

A fingerprint of 8 bytes tells which records may be the same; those few are read again and compared
by a hash of all their bytes. So memory does not grow with the pixels, no mere coincidence of
fingerprints is reported, and what is found does not depend on how they are computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import tables
from . import fingerprints
from .fingerprints import Fingerprints

_COLUMNS = {"split": pl.String, "index": pl.UInt32, "class": pl.String, "digest": pl.Binary}


def find(
    paths: Iterable[Path], known: Mapping[Path, Fingerprints] = MappingProxyType({})
) -> pl.DataFrame:
    """Return every record that has the same pixels as another record of the tables given.

    Args:
        paths: tables of one dataset.
        known: the fingerprints of some of them, which then need not be read for that.

    Returns:
        the columns `group` (0, 1, … in the order in which the first of each is met; records of one
        group are the same), `split`, `index` and `class`; the rows are sorted by group.

    Raises:
        TableError: a path holds no table of ours.
    """
    prints = {path: known[path] if path in known else fingerprints.of_table(path) for path in paths}
    repeated = pl.Series(np.concatenate([np.empty(0, np.uint64), *prints.values()])).is_duplicated()
    rows: list[tuple[Any, ...]] = []
    start = 0
    for path, part in prints.items():
        suspects = repeated.slice(start, len(part)).arg_true().to_numpy()
        rows += _digests(path, suspects)
        start += len(part)
    return _grouped(rows)


def find_in_parts(parts: Sequence[tuple[Path, Path]]) -> pl.DataFrame:
    """Return what `find` does of splits that come in parts, in memory that does not grow.

    Args:
        parts: (table, fingerprints) of each part, in the order of the splits.

    Raises:
        TableError, ArtefactError: a path holds nothing of ours.
    """
    mapped = [fingerprints.mapped(prints) for _, prints in parts]
    suspects: dict[int, list[int]] = {}
    for number, index in fingerprints.repeated(mapped):
        suspects.setdefault(number, []).append(index)
    rows: list[tuple[Any, ...]] = []
    for number, indices in sorted(suspects.items()):
        table = parts[number][0]
        here = np.sort(np.array(indices, np.uint32)) - np.uint32(tables.info(table).first)
        rows += _digests(table, here)
    return _grouped(rows)


def _grouped(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Return records whose digests are the same, in groups."""
    return (
        pl.DataFrame(rows, schema=_COLUMNS, orient="row")
        .filter(pl.col("digest").is_duplicated())
        .with_row_index("met")
        .with_columns(group=pl.col("met").first().over("digest").rank("dense") - 1)
        .sort("group", maintain_order=True)
        .select("group", "split", "index", "class")
    )


def across_splits(found: pl.DataFrame) -> pl.DataFrame:
    """Return of what `find` returned the groups that have records of more than one split."""
    return found.filter(pl.col("split").n_unique().over("group") > 1)


def by_group(found: pl.DataFrame) -> pl.DataFrame:
    """Return of what `find` returned one row per group.

    The columns are `group`, `records` (for example `["train 4348", "train 30931"]`), `classes`
    (each once, as met) and `is_consistent` (whether all records are of one class).
    """
    return found.group_by("group", maintain_order=True).agg(
        records=pl.format("{} {}", "split", "index"),
        classes=pl.col("class").unique(maintain_order=True),
        is_consistent=pl.col("class").n_unique() == 1,
    )


def _digests(path: Path, suspects: npt.NDArray[np.uint32]) -> Iterator[tuple[Any, ...]]:
    """Yield (split, index, class, digest of all pixels) of some records of a table."""
    if not len(suspects):
        return
    about = tables.info(path)
    first, split = 0, about.split.partition("/")[0]
    for batch in tables.batches(path):
        low, high = np.searchsorted(suspects, (first, first + len(batch)))
        for row in suspects[low:high].tolist():
            digest = hashlib.blake2b(batch.images[row - first].tobytes(), digest_size=16).digest()
            yield split, about.first + row, about.classes[batch.labels[row - first]], digest
        first += len(batch)
