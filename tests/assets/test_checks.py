"""Asset checks: what Dagster is told of expectations before, and of their findings after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets import checks
from pipelines import catalogue
from pipelines.declarations import Dataset
from pipelines.statistics.expectations import Finding
from tests import builders

KEY = dg.AssetKey(["tiny_colours", "train"])


@pytest.fixture
def colours(tmp_path: Path) -> Dataset:
    published = builders.publish(tmp_path / "published")
    return catalogue.load(published.catalogue).datasets["tiny_colours"]


def test_checks_are_announced_and_all_but_warnings_as_blocking(colours: Dataset) -> None:
    specs = checks.table_specs(KEY)
    assert {spec.name for spec in specs if spec.blocking} == {
        "records_as_declared",
        "index_complete",
        "labels_within_classes",
        "class_counts_as_declared",
    }
    assert {spec.name for spec in specs if not spec.blocking} == {"no_duplicates_within_split"}
    assert all(spec.asset_key == KEY for spec in specs)
    [leaks] = checks.statistics_specs(KEY, colours)
    assert (leaks.name, leaks.blocking) == ("no_leak_between_splits", False)


def test_only_what_there_is_to_hold_statistics_to_is_announced(colours: Dataset) -> None:
    alone = replace(colours, splits={"train": colours.splits["train"]})
    assert checks.statistics_specs(KEY, alone) == []
    published = replace(alone, mean=(0.5,) * 3, std=(0.1,) * 3)
    [spec] = checks.statistics_specs(KEY, published)
    assert spec.blocking
    assert spec.name == "mean_and_std_as_published"


def test_what_was_expected_and_found_of_each_class_stands_side_by_side() -> None:
    counts = Finding("class_counts_as_declared", False, {"class rose": 8}, {"class rose": 7})

    told, also = checks.results([counts, Finding("records_as_declared", True, 30, 30)])

    [row] = told.metadata["expected and found"].records
    assert row.data == {"class": "class rose", "expected": 8, "found": 7}
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert also.passed
    assert (also.metadata["expected"].value, also.metadata["found"].value) == (30, 30)


def test_published_figures_and_those_found_stand_side_by_side_for_each_channel() -> None:
    published = Finding(
        "mean_and_std_as_published", True, [[0.5, 0.4], [0.2, 0.3]], [[0.51, 0.41], [0.21, 0.31]]
    )

    [told] = checks.results([published])

    table = told.metadata["expected and found"]
    assert [column.type for column in table.schema.columns] == ["string", "int", "float", "float"]
    assert [tuple(row.data.values()) for row in table.records] == [
        ("mean", 1, 0.5, 0.51),
        ("mean", 2, 0.4, 0.41),
        ("std", 1, 0.2, 0.21),
        ("std", 2, 0.3, 0.31),
    ]


def test_dagster_is_told_a_warning_with_what_else_was_counted() -> None:
    rows = [{"records": "train 0, test 1", "classes": "class 0", "one class": "yes"}]
    leak = Finding("leaks", False, "no image in two splits", "1", True, {"groups": 1}, rows)

    [told] = checks.results([leak])

    assert not told.passed
    assert told.severity is dg.AssetCheckSeverity.WARN
    assert told.metadata["groups"].value == 1
    assert [record.data for record in told.metadata["same images"].records] == rows
    assert told.description == "expected no image in two splits, found 1"


def test_a_table_of_rows_keeps_numbers_as_numbers() -> None:
    shown = checks.as_table([{"class": "zero", "found": 3}, {"class": "one", "found": 4}])
    assert [(column.name, column.type) for column in shown.schema.columns] == [
        ("class", "string"),
        ("found", "int"),
    ]
    assert [record.data["found"] for record in shown.records] == [3, 4]
