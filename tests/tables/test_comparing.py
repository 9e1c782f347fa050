"""Comparing: a table that differs from its archive is told by the first record that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.errors import TableError
from tests import builders
from tests.builders import Tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    labels = builders.labels(9, 3)
    return builders.tiny(tmp_path, builders.images(9), labels, labels % np.uint8(2))


def differences(tiny: Tiny, table: Path) -> list[str]:
    """Say what is found in a table, batch by batch and at its end."""
    comparison = tables.Comparison("t", table, tiny.source, tiny.dataset, tiny.split)
    found, first = [], 0
    for batch in tables.batches(tiny.table(table.with_name("right.parquet"))):
        found.append(comparison.compare(first, batch))
        first += len(batch)
    return [why for why in [*found, comparison.end()] if why]


def _column(name: str, change: Callable[[list[object]], object]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        change(values)
        at = table.schema.get_field_index(name)
        field = table.schema.field(name)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        return table.set_column(at, field, pa.array(values, kind).cast(field.type))

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table, []),
        (
            _column("label", lambda values: values.__setitem__(4, 200)),
            ["record 4: label is 200, but the archive says "],
        ),
        (
            _column("coarse_class", lambda values: values.__setitem__(8, "other")),
            ["record 8: coarse_class is other, but the archive says "],
        ),
        (
            _column("index", lambda values: values.__setitem__(0, 7)),
            ["record 0: index is 7, but the archive says 0"],
        ),
        (
            _column(
                "pixels", lambda values: values.__setitem__(5, bytes(5) + b"\7" + values[5][6:])
            ),
            ["record 5: pixel (row "],
        ),
        (
            lambda table: table.replace_schema_metadata(
                {
                    key: text.replace(b'"title"', b'"name"')
                    for key, text in table.schema.metadata.items()
                }
            ),
            ["its metadata are of another table"],
        ),
        (
            lambda table: table.append_column("more", pa.array(range(9))),
            ["its columns are index (uint32), "],
        ),
        (
            lambda table: pa.concat_tables([table, table.slice(8)]),
            ["it has 10 records, but the archive 9"],
        ),
    ],
    ids=["nothing", "label", "class", "index", "pixel", "metadata", "columns", "too many"],
)
def test_what_differs_is_told_by_where_it_stands(
    tiny: Tiny, tmp_path: Path, change: Callable[[pa.Table], pa.Table], words: list[str]
) -> None:
    table = tiny.table(tmp_path / "table.parquet")
    pq.write_table(change(pq.read_table(table)), table)

    found = differences(tiny, table)

    assert len(found) == len(words)
    assert all(why.startswith(word) for why, word in zip(found, words, strict=True)), found


def test_what_is_no_table_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"no")
    with pytest.raises(TableError):
        differences(tiny, tmp_path / "table.parquet")
