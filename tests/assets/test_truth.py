"""The judge of other tests is judged: all that was built is right, all that was damaged is not.

Every `hold_…` is shown something else than what was published, too: one that looks at nothing would
call everything right.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import statistics
from tests import builders
from tests.assets import truth
from tests.assets.project import DATASETS, Project
from tests.builders import Array

TABLE = "tables/tiny_colours/train.parquet"
STATISTICS = "statistics/tiny_colours.parquet"
LMDB = "exports/tiny_colours/train_lmdb/data.mdb"
KINDS = (
    "archives/tiny_colours/colours.tar.gz",
    TABLE,
    STATISTICS,
    "exports/tiny_colours/train.csv",
    LMDB,
    "lineage/tiny_colours/croissant.json",
)
DATASET = {
    "classes": ["rose", "ruby", "rust", "sky", "sea", "steel"],
    "coarse_classes": ["red", "blue"],
}


def test_everything_that_was_built_is_right_and_nothing_is_forgotten(built: Project) -> None:
    found = truth.states(built)
    assert set(found.values()) == {"right"}
    assert {*found} == {
        path
        for path in built.snapshot()
        if not path.endswith(".lineage.json")
        and (not path.startswith("lineage/") or path.endswith("/croissant.json"))
    }


def test_what_was_not_made_is_missing_and_all_else_is_right(project: Project) -> None:
    assert set(truth.states(project).values()) == {"missing"}
    project.build("tiny_digits", stages=["tables"])
    right = {path for path, state in truth.states(project).items() if state == "right"}
    assert right == {path for path in project.snapshot() if not path.startswith("lineage/")}
    assert right


def test_a_csv_is_right_with_a_header_or_without_but_never_both(built: Project) -> None:
    csvs = {path for path in truth.states(built) if path.endswith(".csv")}
    found = truth.states(built, csv_header=True)
    assert {path for path, state in found.items() if state == "wrong"} == csvs
    built.build(csv_header=True)
    assert set(truth.states(built, csv_header=True).values()) == {"right"}


def test_what_is_right_moves_on_with_what_is_declared_and_published(built: Project) -> None:
    before = truth.bytes_of(built)
    built.redeclare("tiny_letters", '"A"', '"Alpha"')
    wrong = {path for path, state in truth.states(built).items() if state == "wrong"}
    assert wrong == {
        "tables/tiny_letters/train.parquet",
        "tables/tiny_letters/test.parquet",
        "statistics/tiny_letters.parquet",
        "lineage/tiny_letters/croissant.json",
    }
    built.build()
    assert set(truth.states(built).values()) == {"right"}
    built.redeclare("tiny_letters", '"Alpha"', '"A"')
    assert truth.bytes_of(built) is before


def test_a_publisher_whose_archives_hold_other_records_than_it_says_is_no_measure(
    project: Project,
) -> None:
    images, labels, coarse = project.publisher.splits["tiny_digits", "test"]
    other = images.copy()
    other[-1, -1, -1, -1] ^= 1
    splits = {**project.publisher.splits, ("tiny_digits", "test"): (other, labels, coarse)}
    lying = replace(project, publisher=replace(project.publisher, splits=splits))
    with pytest.raises(AssertionError, match=r"tables/tiny_digits/test\.parquet"):
        truth.states(lying)


# --- damage ---------------------------------------------------------------------------------------


def _other_bytes(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _one_byte_more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "half of it": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a byte less": lambda path: os.truncate(path, path.stat().st_size - 1),
    "a byte more": _one_byte_more,
    "gigabytes more": lambda path: os.truncate(path, 1 << 32),  # a hole: takes no room
    "other bytes": _other_bytes,
    "a folder": _instead(lambda path: path.mkdir()),
    "a folder with something in it": _instead(lambda path: (path / "x").mkdir(parents=True)),
    "a pipe": _instead(os.mkfifo),
    "a link to nowhere": _instead(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_every_kind_to_an_artefact_of_every_kind_is_wrong(
    built: Project, kind: str
) -> None:
    for path in KINDS:
        DAMAGE[kind](built.data / path)
    found = truth.states(built)
    assert {path for path, state in found.items() if state == "wrong"} == {*KINDS}
    assert "missing" not in found.values()


def test_what_was_removed_is_missing(built: Project) -> None:
    shutil.rmtree(built.data / "exports/tiny_colours")
    (built.data / TABLE).unlink()
    (built.data / "statistics/tiny_colours.parquet").unlink()
    found = truth.states(built)
    missing = {path for path, state in found.items() if state == "missing"}
    assert missing == {
        TABLE,
        STATISTICS,
        *(path for path in found if path.startswith("exports/tiny_colours/")),
    }
    assert {*found.values()} == {"missing", "right"}
    (built.data / "exports/tiny_colours").write_bytes(b"a file where a folder was")
    assert truth.states(built) == found


@pytest.mark.parametrize("path", KINDS)
def test_one_changed_bit_anywhere_is_wrong(built: Project, path: str) -> None:
    goal = built.data / path
    whole = goal.read_bytes()
    chance = random.Random(path)
    for at in {0, len(whole) - 1, *chance.sample(range(len(whole)), 50)}:
        changed = whole[at] ^ (1 << chance.randrange(8))
        goal.write_bytes(whole[:at] + bytes([changed]) + whole[at + 1 :])
        assert truth.states(built)[path] == "wrong", at
    goal.write_bytes(whole)
    assert truth.states(built)[path] == "right"


# --- each look at a value -------------------------------------------------------------------------

Arrays = tuple[Array, Array, Array]


def _passes(look: Callable[[], object]) -> bool:
    try:
        look()
    except AssertionError:
        return False
    return True


@pytest.fixture
def arrays(built: Project) -> Arrays:
    images, labels, coarse = built.publisher.splits["tiny_colours", "train"]
    assert coarse is not None
    return images.copy(), labels.copy(), coarse.copy()


@pytest.mark.parametrize("which", ["images", "labels", "coarse"])
def test_another_value_than_the_last_of_an_array_is_noticed_in_a_table(
    built: Project, arrays: Arrays, which: str
) -> None:
    path = built.data / TABLE
    about = _about(path)
    truth.hold_table(path, DATASET, about, *arrays)
    arrays[("images", "labels", "coarse").index(which)].reshape(-1)[-1] ^= 1
    with pytest.raises(AssertionError, match=r"train\.parquet"):
        truth.hold_table(path, DATASET, about, *arrays)


@pytest.mark.parametrize("key", ["classes", "coarse_classes"])
def test_other_classes_are_noticed_in_a_table(built: Project, arrays: Arrays, key: str) -> None:
    path = built.data / TABLE
    other = DATASET | {key: [name.upper() for name in DATASET[key]]}
    with pytest.raises(AssertionError, match=key.removesuffix("es")):
        truth.hold_table(path, other, _about(path), *arrays)


def _about(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"imagesets"])
    return found


def test_other_columns_types_and_metadata_are_noticed_in_a_table(
    built: Project, arrays: Arrays
) -> None:
    path = built.data / TABLE
    about, table = _about(path), pq.read_table(path)
    at = table.schema.get_field_index("label")
    forged = {
        "a column less": table.drop_columns(["coarse_class"]),
        "a column more": table.append_column("more", table["label"]),
        "another order": table.select([*reversed(table.column_names)]),
        "another type": table.set_column(at, "label", table["label"].cast(pa.uint16())),
        "records in another order": table.take([*range(1, len(table)), 0]),
        "a record less": table.slice(0, len(table) - 1),
    }
    for name, other in forged.items():
        pq.write_table(other, path)
        assert not _passes(lambda: truth.hold_table(path, DATASET, about, *arrays)), name
    pq.write_table(table, path)
    truth.hold_table(path, DATASET, about, *arrays)
    with pytest.raises(AssertionError, match=r"train\.parquet"):
        truth.hold_table(path, DATASET, about | {"split": "test"}, *arrays)


@pytest.mark.parametrize("which", [0, 1])
def test_another_value_than_the_last_of_an_array_is_noticed_in_exports(
    built: Project, arrays: Arrays, which: int
) -> None:
    csv, lmdb = built.data / "exports/tiny_colours/train.csv", (built.data / LMDB).parent
    images, labels, _ = arrays
    truth.hold_csv(csv, images, labels, header=False)
    truth.hold_lmdb(lmdb, images, labels, 5)
    (images, labels)[which].reshape(-1)[-1] ^= 1
    with pytest.raises(AssertionError, match=r"train\.csv"):
        truth.hold_csv(csv, images, labels, header=False)
    with pytest.raises(AssertionError, match="train_lmdb"):
        truth.hold_lmdb(lmdb, images, labels, 5)


def test_other_keys_are_noticed_in_a_database(built: Project, arrays: Arrays) -> None:
    with pytest.raises(AssertionError, match="train_lmdb"):
        truth.hold_lmdb((built.data / LMDB).parent, *arrays[:2], 8)


def test_every_figure_that_the_product_defines_is_looked_at(built: Project) -> None:
    """A figure that is off by little more than can come of rounding is wrong."""
    path = built.data / STATISTICS
    splits = {name: built.publisher.splits["tiny_colours", name][:2] for name in ("train", "test")}
    classes = DATASET["classes"]
    truth.hold_statistics(path, "tiny_colours", classes, splits)
    table = pq.read_table(path)
    assert table.column_names == [*statistics.COLUMNS]
    rows = table.to_pylist()
    for name in statistics.COLUMNS:
        for number in (0, len(rows) - 1):
            changed = [dict(row) for row in rows]
            value = changed[number][name]
            null = 0 if name == "label" else "all"  # what may stand where there is no class
            changed[number][name] = null if value is None else _next(value)
            pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), path)
            assert not _passes(
                lambda: truth.hold_statistics(path, "tiny_colours", classes, splits)
            ), f"{name} of row {number}"
    pq.write_table(table.slice(1), path)
    with pytest.raises(AssertionError, match=r"tiny_colours\.parquet"):
        truth.hold_statistics(path, "tiny_colours", classes, splits)


def _next(value: Any) -> Any:
    """Another value of the same kind, as near as may matter."""
    if isinstance(value, str):
        return value + "!"
    if isinstance(value, list):
        return [*value[:-1], _next(value[-1])]
    if isinstance(value, int):
        return value + 1 if value < 255 else value - 1
    is_single = value == np.float32(value)
    return float(np.nextafter(np.float32(value), np.float32(999))) if is_single else value + 1e-9


def test_statistics_of_a_class_without_records_are_held_too(tmp_path: Path) -> None:
    images, labels = builders.images(4), np.array([0, 0, 2, 2], np.uint8)
    tiny = builders.tiny(tmp_path, images, labels, classes=3)
    goal = tmp_path / "statistics.parquet"
    statistics.write([tiny.table(tmp_path / "table.parquet")], goal)
    names = ["class 0", "class 1", "class 2"]
    truth.hold_statistics(goal, "tiny", names, {"train": (images, labels)})
    with pytest.raises(AssertionError, match=r"statistics\.parquet"):
        truth.hold_statistics(goal, "tiny", names, {"train": (images, labels[::-1])})


def test_a_croissant_document_of_other_tables_is_noticed(built: Project) -> None:
    for dataset in DATASETS:
        truth.hold_croissant(built.data, dataset, ["train", "test"])
    with (built.data / TABLE).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(AssertionError, match=r"train\.parquet"):
        truth.hold_croissant(built.data, "tiny_colours", ["train", "test"])
    with pytest.raises(AssertionError, match="tiny_digits"):
        truth.hold_croissant(built.data, "tiny_digits", ["test"])
