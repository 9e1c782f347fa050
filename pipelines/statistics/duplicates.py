"""Duplicates: records whose pixels are the very same, within a split or across splits.

Not here: records that merely look alike, or what follows from what is found (`expectations`).

A fingerprint of 8 bytes tells which records may be the same; those few are read again and compared
by a hash of all their bytes. So memory does not grow with the pixels, no mere coincidence of
fingerprints is reported, and what is found does not depend on how they are computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import tables
from . import fingerprints
from .fingerprints import Fingerprints

UNLABELLED = "without a label"
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
    found, start = [], 0
    for path, part in prints.items():
        suspects = repeated.slice(start, len(part)).arg_true().to_numpy()
        found.append(_digests(path, suspects))
        start += len(part)
    return _grouped(found)


def find_in_parts(parts: Sequence[tuple[Path, Path]]) -> pl.DataFrame:
    """Return what `find` does of splits that come in parts; memory grows with what it finds alone.

    Args:
        parts: (table, fingerprints) of each part, in the order of the splits.

    Raises:
        TableError, ArtefactError: a path holds nothing of ours.
    """
    mapped = [fingerprints.mapped(prints) for _, prints in parts]
    suspects: dict[int, list[npt.NDArray[np.uint32]]] = {}
    for number, indices in fingerprints.repeated(mapped):
        suspects.setdefault(number, []).append(indices)
    found = []
    for number, some in sorted(suspects.items()):
        table = parts[number][0]
        here = np.sort(np.concatenate(some)) - np.uint32(tables.info(table).first)
        found.append(_digests(table, here))
    return _grouped(found)


def _grouped(found: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return records whose digests are the same, in groups."""
    return (
        pl.concat([pl.DataFrame(schema=_COLUMNS), *found])
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


def _digests(path: Path, suspects: npt.NDArray[np.uint32]) -> pl.DataFrame:
    """Return split, index, class and a digest of all pixels of some records of a table."""
    about = tables.info(path)
    labels: list[int] = []
    digests: list[bytes] = []
    first = 0
    for batch in tables.batches(path) if len(suspects) else ():
        low, high = np.searchsorted(suspects, (first, first + len(batch)))
        rows = suspects[low:high] - np.uint32(first)
        if batch.known_labels is not None:
            labels += batch.known_labels[rows].tolist()
        for row in rows.tolist():
            pixels = batch.images[row].tobytes()
            digests.append(hashlib.blake2b(pixels, digest_size=16).digest())
        first += len(batch)
    columns = {
        "split": [about.split.partition("/")[0]] * len(digests),
        "index": suspects.astype(np.uint32) + np.uint32(about.first),
        "class": [about.classes[label] for label in labels] or [UNLABELLED] * len(digests),
        "digest": digests,
    }
    return pl.DataFrame(columns, schema=_COLUMNS)
