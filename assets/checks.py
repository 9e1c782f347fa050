"""The expectations of `pipelines.statistics`, as asset checks that block whatever lies downstream.

Some checks only warn: of what the publishers' data is known to do, and people should know.

Not here: what must hold (`pipelines.statistics.expectations`). Here checks are declared to Dagster,
and findings become its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from pipelines.declarations import Dataset
from pipelines.statistics.expectations import (
    DUPLICATES,
    LEAKS,
    PUBLISHED,
    TABLE_CHECKS,
    TRAINING,
    Finding,
)


def results(findings: Iterable[Finding]) -> list[dg.AssetCheckResult]:
    """Return findings as Dagster wants them."""
    return [
        dg.AssetCheckResult(
            check_name=finding.check_name,
            passed=finding.passed,
            severity=(dg.AssetCheckSeverity.WARN if finding.warns else dg.AssetCheckSeverity.ERROR),
            description=None if finding.passed else str(finding),
            metadata=_metadata(finding),
        )
        for finding in findings
    ]


def table_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a split's table."""
    promise = "No two records have the very same pixels. Only a warning."
    return [
        *(
            dg.AssetCheckSpec(name, asset=key, description=promise, blocking=True)
            for name, promise in TABLE_CHECKS.items()
        ),
        dg.AssetCheckSpec(DUPLICATES, asset=key, description=promise),
    ]


def statistics_specs(key: dg.AssetKey, dataset: Dataset) -> list[dg.AssetCheckSpec]:
    """Return the checks of a dataset's statistics: those that there is something to hold to."""
    specs = []
    if dataset.mean and TRAINING in dataset.splits:
        promise = (
            "Mean and standard deviation of the training split, on the scale 0–1, are those "
            "published."
        )
        specs.append(dg.AssetCheckSpec(PUBLISHED, asset=key, description=promise, blocking=True))
    if len(dataset.splits) > 1:
        promise = "No record has the very same pixels as one of another split. Only a warning."
        specs.append(dg.AssetCheckSpec(LEAKS, asset=key, description=promise))
    return specs


def _metadata(finding: Finding) -> dict[str, Any]:
    """Return what Dagster shows of a finding: what was expected and found stand side by side."""
    if isinstance(finding.expected, Mapping):
        rows = [
            {"class": name, "expected": number, "found": finding.found[name]}
            for name, number in finding.expected.items()
        ]
        return {"expected and found": as_table(rows)}
    if isinstance(finding.expected, Sequence) and not isinstance(finding.expected, str):
        figures = zip(("mean", "std"), finding.expected, finding.found, strict=True)
        rows = [
            {"figure": figure, "channel": channel, "expected": one, "found": other}
            for figure, expected, found in figures
            for channel, (one, other) in enumerate(zip(expected, found, strict=True), 1)
        ]
        return {"expected and found": as_table(rows)}
    shown = {"expected": finding.expected, "found": finding.found, **finding.numbers}
    if finding.rows:
        shown["same images"] = as_table(finding.rows)
    return shown


def as_table(rows: Sequence[Mapping[str, str | float | None]]) -> dg.TableMetadataValue:
    """Return rows, at least one, as a table for the UI."""
    types = {int: "int", float: "float"}
    columns = [
        dg.TableColumn(name, types.get(type(value), "string")) for name, value in rows[0].items()
    ]
    records = [dg.TableRecord(dict(row)) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
