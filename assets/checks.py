"""What must hold of each asset, as asset checks that block whatever lies downstream.

Not here: what bytes must hold before anything is made of them (`pipelines` refuses those). A check
reads the finished artefact and holds it against the catalogue, whether it was made now or before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.catalogue import Dataset, Split

if TYPE_CHECKING:  # `list` looks at findings too, and need not wait for Dagster
    import dagster as dg

TABLE_CHECKS = {
    "records_as_declared": "The table has as many rows as the catalogue declares.",
    "index_complete": "The index runs from 0 without a gap or a repetition.",
    "labels_within_classes": "Every label stands for a class, and the class is the label's.",
    "class_counts_as_declared": "Every class has as many records as the catalogue declares.",
}
PUBLISHED = "mean_and_std_as_published"
TOLERANCE = 0.00005  # published constants have four decimals
TRAINING = "train"  # the split whose constants are published


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check expected of an artefact, and what it found."""

    check_name: str
    passed: bool
    expected: Any
    found: Any


def results(findings: Iterable[Finding]) -> list[dg.AssetCheckResult]:
    """Return findings as Dagster wants them."""
    import dagster as dg

    return [
        dg.AssetCheckResult(
            check_name=finding.check_name,
            passed=finding.passed,
            metadata={"expected": finding.expected, "found": finding.found},
        )
        for finding in findings
    ]


def table_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a split's table."""
    import dagster as dg

    return [
        dg.AssetCheckSpec(name, asset=key, description=promise, blocking=True)
        for name, promise in TABLE_CHECKS.items()
    ]


def statistics_specs(key: dg.AssetKey, dataset: Dataset) -> list[dg.AssetCheckSpec]:
    """Return the checks of a dataset's statistics: one, where constants are published."""
    import dagster as dg

    if not dataset.mean or TRAINING not in dataset.splits:
        return []
    promise = (
        "Mean and standard deviation of the training split, on the scale 0–1, are those published."
    )
    return [dg.AssetCheckSpec(PUBLISHED, asset=key, description=promise, blocking=True)]


def of_table(path: Path, dataset: Dataset, split: Split) -> list[Finding]:
    """Hold a table against what the catalogue declares of its split."""
    columns = ["index", "label", "class"]
    families = [("", dataset.classes, split.counts)]
    if dataset.coarse_classes:
        columns += ["coarse_label", "coarse_class"]
        families.append(("coarse_", dataset.coarse_classes, split.coarse_counts))
    found = pl.read_parquet(path, columns=columns)
    index = found["index"].to_numpy()
    within = True
    counted: dict[str, int] = {}
    declared: dict[str, int] = {}
    for prefix, classes, expected in families:
        pairs = found.select(f"{prefix}label", pl.col(f"{prefix}class").cast(pl.String)).unique()
        within &= all(
            label < len(classes) and classes[label] == name for label, name in pairs.rows()
        )
        numbers = np.bincount(found[f"{prefix}label"], minlength=len(classes)).tolist()
        # Only where there are two kinds of classes, each name says which it is of.
        names = [f"{prefix}class {name}" for name in classes] if len(families) > 1 else classes
        counted |= zip(names, numbers, strict=False)  # a label outside has a number, but no name
        declared |= zip(names, expected, strict=True)
    differing = [name for name in declared if counted[name] != declared[name]]
    return [
        _result("records_as_declared", split.records, len(found)),
        _result("index_complete", True, bool(np.array_equal(index, np.arange(len(index))))),
        _result("labels_within_classes", True, within),
        _result(
            "class_counts_as_declared",
            {name: declared[name] for name in differing or declared},
            {name: counted[name] for name in differing or declared},
        ),
    ]


def of_statistics(path: Path, dataset: Dataset) -> list[Finding]:
    """Hold a dataset's statistics against published constants."""
    if not dataset.mean or TRAINING not in dataset.splits:
        return []
    row = pl.read_parquet(path).filter(pl.col("label").is_null(), split=TRAINING).row(0, named=True)
    found = [
        [value / 255 for value in row[f"channel_{figure}_intensity"]] for figure in ("mean", "std")
    ]
    expected = [list(dataset.mean), list(dataset.std)]
    passed = bool(np.allclose(found, expected, rtol=0, atol=TOLERANCE))
    return [_result(PUBLISHED, expected, np.round(found, 6).tolist(), passed)]


def _result(name: str, expected: Any, found: Any, passed: bool | None = None) -> Finding:
    return Finding(name, expected == found if passed is None else passed, expected, found)
