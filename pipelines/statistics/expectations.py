"""Expectations: what must hold of finished tables and statistics, whoever made them and when.

Each reads a finished file, holds it against the catalogue, and returns a `Finding`. Some
only warn: of what the publishers' data is known to do, and people had better know. Not here: what
bytes must hold before anything is made of them (their readers refuse those), or
showing what was found.

A new expectation is a function here that returns findings. Findings may be kept by the SHA-256 of
what was examined and `VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..declarations import Dataset, Split
from ..errors import TableError
from ..reading import numbers
from ..records import Labels

if TYPE_CHECKING:  # a third of the time of `list`, which looks at what was found before
    import polars as pl

    from .fingerprints import Fingerprints

VERSION = "1"  # raise when what is expected, or the words for what is found, can change
COUNTS = "class_counts_as_declared"
TABLE_CHECKS = {
    "records_as_declared": "The table has as many rows as the catalogue declares.",
    "index_complete": "The index runs from 0 without a gap or a repetition.",
    "labels_within_classes": "Every label stands for a class, and the class is the label's.",
    COUNTS: "Every class has as many records as the catalogue declares.",
}
DUPLICATES = "no_duplicates_within_split"
LEAKS = "no_leak_between_splits"
UNDECLARED = "nothing is declared of the classes"
SHOWN = 20  # groups of the same image, and records of each
PUBLISHED = "mean_and_std_as_published"
TOLERANCE = 0.00005  # published constants have four decimals
TRAINING = "train"  # the split whose constants are published


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check expected of an artefact, and what it found.

    warns: whether it merely warns; all others block.
    numbers: what else it counted, for people and for plots over time.
    rows: what else it found, as a table.
    """

    check_name: str
    passed: bool
    expected: Any
    found: Any
    warns: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[Mapping[str, str | int]] = ()

    @property
    def blocks(self) -> bool:
        """Whether nothing may be made of what it was found of."""
        return not (self.passed or self.warns)

    def __str__(self) -> str:
        """Return for example `expected 30, found 31`."""
        return f"expected {self.expected}, found {self.found}"


def of_table(path: Path, dataset: Dataset, split: Split) -> list[Finding]:
    """Hold a table against what the catalogue declares of its split, or of its part of one.

    Nothing is declared of the classes in a part that is so many records of a split. Where nothing
    is known of them, or there are no labels, the check says so and passes.
    """
    columns = ["index", "label", "class"]
    families = [("", dataset.classes, split.counts)]
    if dataset.coarse_classes:
        columns += ["coarse_label", "coarse_class"]
        families.append(("coarse_", dataset.coarse_classes, split.coarse_counts))
    with pq.ParquetFile(path) as file:  # `read_table` imports much more, to do the same
        found = file.read(columns)
    index = numbers(found["index"])
    within = True
    counted: dict[str, int] = {}
    declared: dict[str, int] = {}
    for prefix, classes, expected in families if split.labelled else ():
        labels = numbers(found[f"{prefix}label"])
        within &= all(
            label < len(classes) and classes[label] == name
            for label, name in _pairs(labels, found[f"{prefix}class"])
        )
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        # Only where there are two kinds of classes, each name says which it is of.
        names = [f"{prefix}class {name}" for name in classes] if len(families) > 1 else classes
        counted |= zip(names, counts, strict=False)  # a label outside has a number, but no name
        declared |= zip(names, expected or counts, strict=True)
    expected_index = np.arange(split.first, split.first + len(index))
    if not split.labelled:
        within = all(found[name].null_count == len(found) for name in ("label", "class"))
    findings = [
        _result("records_as_declared", split.records, len(found)),
        _result("index_complete", True, bool(np.array_equal(index, expected_index))),
        _result("labels_within_classes", True, within),
    ]
    if not split.counts and not split.is_part:
        return [*findings, Finding(COUNTS, True, UNDECLARED, counted)]
    differing = [name for name in declared if counted[name] != declared[name]]
    return [
        *findings,
        _result(
            COUNTS,
            {name: declared[name] for name in differing or declared},
            {name: counted[name] for name in differing or declared},
        ),
    ]


def _pairs(labels: Labels, names: pa.ChunkedArray) -> set[tuple[int, str | None]]:
    """Return which labels stand beside which names of classes."""
    if not pa.types.is_dictionary(names.type):  # something else wrote the table again
        names = names.cast(pa.string()).dictionary_encode()
    text = names.combine_chunks()
    indices = text.indices.fill_null(-1) if text.null_count else text.indices
    codes, known = np.from_dlpack(indices).astype(np.int64), text.dictionary
    both = labels.astype(np.int64) * (len(known) + 1) + codes + 1
    # Counting is quickest, and of many classes takes memory for each pair that there could be.
    found = np.flatnonzero(np.bincount(both)) if labels.itemsize == 1 else np.unique(both)
    pairs = (divmod(int(pair), len(known) + 1) for pair in found)
    return {(label, known[code - 1].as_py() if code else None) for label, code in pairs}


def of_statistics(path: Path, dataset: Dataset) -> list[Finding]:
    """Hold a dataset's statistics against published constants.

    Those of a split in parts are held against the declared counts too: of parts that are so many
    records of it, nobody else can. While parts are missing there is nothing to hold them to.

    Raises:
        TableError: they are none of ours.
    """
    constants = dataset.mean and TRAINING in dataset.splits
    if not constants and not dataset.is_in_parts:
        return []
    counted: dict[str, int] = {}
    declared: dict[str, int] = {}
    findings = []
    try:
        with pq.ParquetFile(path) as file:
            of_splits: dict[str, list[dict[str, Any]]] = {}
            for row in file.read().to_pylist():
                of_splits.setdefault(row["split"], []).append(row)
        for name, (*rows, total) in of_splits.items():
            split = dataset.splits[name]
            if split.divided and total["records"] != split.records:
                continue  # parts are missing
            if split.divided and split.counts:
                names = [f"{name} {row['class']}" for row in rows]
                counted |= zip(names, (row["records"] for row in rows), strict=True)
                declared |= zip(names, split.counts, strict=True)
            if constants and name == TRAINING:
                found = [
                    [value / 255 for value in total[f"channel_{figure}_intensity"]]
                    for figure in ("mean", "std")
                ]
                expected = [list(dataset.mean), list(dataset.std)]
                passed = bool(np.allclose(found, expected, rtol=0, atol=TOLERANCE))
                findings.append(_result(PUBLISHED, expected, np.round(found, 6).tolist(), passed))
    except (KeyError, ValueError, TypeError) as error:
        raise TableError(f"{path} holds no statistics of ours ({error}).") from error
    if dataset.is_in_parts:
        differing = [name for name in declared if counted[name] != declared[name]]
        findings.append(
            _result(
                COUNTS,
                {name: declared[name] for name in differing or declared},
                {name: counted[name] for name in differing or declared},
            )
        )
    return findings


def duplicates_within(path: Path, prints: Fingerprints) -> Finding:
    """Look for records of a table that have the very same pixels."""
    from . import duplicates

    return _of_groups(DUPLICATES, "every image once", duplicates.find([path], {path: prints}))


def leaks(paths: Sequence[Path], prints: Mapping[Path, Fingerprints]) -> list[Finding]:
    """Look for records of a dataset's tables that have the very same pixels in several splits."""
    from . import duplicates

    if len(paths) < 2:
        return []
    found = duplicates.across_splits(duplicates.find(paths, prints))
    return [_of_groups(LEAKS, "no image in two splits", found)]


def duplicates_in_parts(parts: Sequence[tuple[Path, Path]], splits: int) -> list[Finding]:
    """Look for records with the very same pixels in a dataset with splits that come in parts.

    Args:
        parts: (table, fingerprints) of each part that is there.
        splits: how many splits the dataset has.
    """
    from . import duplicates

    found = duplicates.find_in_parts(parts)
    findings = [_of_groups(DUPLICATES, "every image once", found)]
    if splits > 1:
        between = duplicates.across_splits(found)
        findings.append(_of_groups(LEAKS, "no image in two splits", between))
    return findings


def _of_groups(name: str, expected: str, found: pl.DataFrame) -> Finding:
    """Return a warning of groups of records with the same pixels, if there are any."""
    from . import duplicates

    groups = duplicates.by_group(found)
    numbers = {
        "groups": len(groups),
        "records": len(found),
        "of different classes": int((~groups["is_consistent"]).sum()),
    }
    rows = [
        {
            "records": _some(group["records"]),
            "classes": _some(group["classes"]),
            "one class": "yes" if group["is_consistent"] else "no",
        }
        for group in groups.head(SHOWN).rows(named=True)
    ]
    said = expected
    if rows:
        differing = numbers["of different classes"]
        said = (
            f"{len(groups):,} image(s) in {len(found):,} records, "
            f"{differing:,} of them with different classes"
        )
    return Finding(name, not len(groups), expected, said, True, numbers, tuple(rows))


def _some(names: Sequence[str]) -> str:
    left_out = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {left_out:,} more" if left_out > 0 else "")


def _result(name: str, expected: Any, found: Any, passed: bool | None = None) -> Finding:
    return Finding(name, expected == found if passed is None else passed, expected, found)
