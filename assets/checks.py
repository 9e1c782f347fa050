"""The expectations of `pipelines.statistics`, as asset checks that block whatever lies downstream.

Some checks only warn: of what the publishers' data is known to do, and people should know. Two
tell of every asset whether it is still intact. They block nothing: a build reads what it uses, and
makes again what changed.

Not here: what must hold (`pipelines.statistics.expectations`), or verification
(`running.integrity`). Here checks are declared to Dagster, and findings become its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from pipelines.building import Made
from pipelines.declarations import Dataset
from pipelines.statistics.expectations import (
    COUNTS,
    DUPLICATES,
    LEAKS,
    PUBLISHED,
    TABLE_CHECKS,
    TRAINING,
    Finding,
)
from pipelines.store import clock

BYTES, RECORDS = "bytes_as_recorded", "records_as_archived"
LAST_READ = "bytes last read"
SHOWN = 10  # parts that did not pass a check


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


def of_parts(parts: Mapping[str, Sequence[Made]]) -> list[dg.AssetCheckResult]:
    """Return what was found of the parts of an asset: a result of each check, whatever the parts.

    It fails where one of them fails, and says which. A whole asset is its one part, called "".
    """
    found: dict[str, dict[str, Finding]] = {}
    for part, made in parts.items():
        for finding in (finding for one in made for finding in one.findings):
            found.setdefault(finding.check_name, {})[part] = finding
    if [*parts] == [""]:
        return results(one[""] for one in found.values())
    return [_of_parts(name, findings) for name, findings in found.items()]


def _of_parts(name: str, findings: Mapping[str, Finding]) -> dg.AssetCheckResult:
    failed = {part: finding for part, finding in findings.items() if not finding.passed}
    blocks = any(finding.blocks for finding in failed.values()) or not failed
    lines = [f"{part}: {finding}" for part, finding in failed.items()]
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"and {len(lines) - SHOWN} more parts"]
    shown = _metadata(next(iter(failed.values()))) if len(failed) == 1 else {}
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=in_lines("\n".join(lines)) or None,
        metadata={"parts": len(findings), "parts that failed": len(failed), **shown},
    )


def with_unjudged(
    specs: Iterable[dg.AssetCheckSpec], found: Sequence[dg.AssetCheckResult]
) -> list[dg.AssetCheckResult]:
    """Return results, and one of each check that can't be judged yet: Dagster waits for all.

    While parts of a split are missing, figures that were published of the whole say nothing.
    """
    judged = {result.check_name for result in found}
    return [
        *found,
        *(
            dg.AssetCheckResult(
                check_name=spec.name,
                passed=True,
                severity=dg.AssetCheckSeverity.WARN,
                description="Not judged while parts are missing.",
            )
            for spec in specs
            if spec.name not in judged
        ),
    ]


def table_specs(key: dg.AssetKey, *, in_parts: bool = False) -> list[dg.AssetCheckSpec]:
    """Return the checks of a split's table; duplicates are looked for in all of its parts at once.

    So that is a check of the statistics where it comes in parts.
    """
    specs = [
        dg.AssetCheckSpec(name, asset=key, description=promise, blocking=True)
        for name, promise in TABLE_CHECKS.items()
    ]
    return specs if in_parts else [*specs, _duplicates(key)]


def _duplicates(key: dg.AssetKey) -> dg.AssetCheckSpec:
    promise = "No two records have the very same pixels. Only a warning."
    return dg.AssetCheckSpec(DUPLICATES, asset=key, description=promise)


def statistics_specs(key: dg.AssetKey, dataset: Dataset) -> list[dg.AssetCheckSpec]:
    """Return the checks of a dataset's statistics: those that there is something to hold to."""
    specs = []
    if dataset.mean and TRAINING in dataset.splits:
        promise = (
            "Mean and standard deviation of the training split, on the scale 0–1, are those "
            "published."
        )
        specs.append(dg.AssetCheckSpec(PUBLISHED, asset=key, description=promise, blocking=True))
    if dataset.is_in_parts:
        promise = f"{TABLE_CHECKS[COUNTS]} Judged once all parts are there."
        specs.append(dg.AssetCheckSpec(COUNTS, asset=key, description=promise, blocking=True))
        specs.append(_duplicates(key))
    if len(dataset.apart) > 1:
        promise = "No record has the very same pixels as one of another split. Only a warning."
        specs.append(dg.AssetCheckSpec(LEAKS, asset=key, description=promise))
    return specs


def integrity_specs(key: dg.AssetKey, *, is_compared: bool) -> list[dg.AssetCheckSpec]:
    """Return the checks of an asset's integrity: is there anything to compare it with?"""
    promise = (
        "Every file has the bytes that its provenance records. Told by the step that made them, "
        "and each time that `verify` or a refresh reads them all."
    )
    specs = [dg.AssetCheckSpec(BYTES, asset=key, description=promise)]
    if is_compared:
        promise = (
            "It holds what the publisher's archives hold, decoded again and compared record by "
            "record, and what the catalogue declares. Told by `verify --deep`, or the job `verify` "
            "with `deep: true`."
        )
        specs.append(dg.AssetCheckSpec(RECORDS, asset=key, description=promise))
    return specs


def as_made(asset: Sequence[str], made: Sequence[Made]) -> dg.AssetCheckEvaluation:
    """Return that an asset that is up to date has the bytes recorded, which were read for that."""
    read_s = min(clock.seconds(one.looked) for one in made)
    return integrity(asset, BYTES, [], len(made), read_s)


def integrity(
    asset: Sequence[str],
    name: str,
    broken: Sequence[str],
    number: int,
    read_s: float,
    *,
    warns: bool = False,
) -> dg.AssetCheckEvaluation:
    """Return what was found of an asset's integrity.

    Args:
        asset: its key.
        name: of the check.
        broken: a line for each artefact that is not intact.
        number: of artefacts that were looked at.
        read_s: when, in seconds since 1970.
        warns: whether it is only that nothing could be told.
    """
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=name,
        passed=not broken,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=in_lines("\n".join(broken)) or None,
        metadata={
            "files": number,
            "not intact": len(broken),
            LAST_READ: dg.MetadataValue.timestamp(read_s),
        },
    )


def _metadata(finding: Finding) -> dict[str, Any]:
    """Return what Dagster shows of a finding: what was expected and found stand side by side."""
    if isinstance(finding.expected, Mapping):
        rows = [
            {"class": name, "expected": number, "found": finding.found[name]}
            for name, number in finding.expected.items()
        ]
        return {"expected and found": as_table(rows)} if rows else {}
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


def in_lines(text: str) -> str:
    """Return a text whose lines stay lines where the UI takes it for Markdown."""
    return text.replace("\n", "  \n")


def as_table(rows: Sequence[Mapping[str, str | float | None]]) -> dg.TableMetadataValue:
    """Return rows, at least one, as a table for the UI."""
    types = {int: "int", float: "float"}
    columns = [
        dg.TableColumn(name, types.get(type(value), "string")) for name, value in rows[0].items()
    ]
    records = [dg.TableRecord(dict(row)) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
