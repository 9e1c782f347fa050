"""ARFF: attributes as Weka declares them, the class last, and back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ArtefactError
from pipelines.exports import _lines, arff
from pipelines.reading import opening
from tests import builders
from tests.builders import Array
from tests.exports import arrays
from tests.exports.arrays import Made

ODD = ["T-shirt/top", "Ankle boot", "it's", "a,b", "{x}", "50%", "?", 'say "x"', "ï", "plain_1.0"]


@given(
    records=st.one_of(
        builders.some_records(channels=1, classes=256),
        builders.some_records(channels=3, classes=256),
    ),
    batch=st.integers(1, 10),
    lines=st.integers(1, 10),
)
@settings(deadline=None, max_examples=40)
def test_the_records_are_those_of_another_writer_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: tuple[Array, Array], batch: int, lines: int
) -> None:
    folder = tmp_path_factory.mktemp("arff")
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        patch.setattr(_lines, "AT_ONCE", lines)
        made = arrays.made(folder, *records, classes=256)
        goal = made.write("arff", folder / "made", told.append)
    images, labels = records

    text = io.StringIO(newline="")
    rows = np.column_stack([images.reshape(len(images), -1), labels]).tolist()
    named = ([*pixels, f'"class {label}"'] for *pixels, label in rows)
    csv.writer(text, lineterminator="\n", quotechar="\0").writerows(named)
    assert goal.read_bytes().partition(b"@DATA\n")[2] == text.getvalue().encode()
    assert sum(told) == len(labels)
    arrays.same(made.read("arff", goal), made)


def test_attributes_are_every_pixel_then_the_class(tmp_path: Path) -> None:
    made = arrays.made(tmp_path / "m", builders.images(3, 1, 2), builders.labels(3, 5))

    text = made.write("arff", tmp_path / "made").read_text()

    assert text.partition("@DATA\n")[0] == (
        "@RELATION tiny_train\n\n"
        "@ATTRIBUTE pixel1 INTEGER\n"
        "@ATTRIBUTE pixel2 INTEGER\n"
        '@ATTRIBUTE class {"class 0","class 1","class 2","class 3","class 4"}\n\n'
    )


def test_names_are_quoted_where_they_must_be() -> None:
    assert list(map(arff.quoted, [*ODD, "a\\b"])) == [
        '"T-shirt/top"',
        '"Ankle boot"',
        '"it\'s"',
        '"a,b"',
        '"{x}"',
        '"50%"',
        '"?"',
        "'say \"x\"'",
        '"ï"',
        "plain_1.0",
        '"a\\\\b"',
    ]


@pytest.fixture
def odd(tmp_path: Path) -> Made:
    labels = np.arange(10, dtype=np.uint8)
    return arrays.made(tmp_path / "odd", builders.images(10), labels, classes=10, names=ODD)


def test_classes_of_any_name_come_back(odd: Made, tmp_path: Path) -> None:
    arrays.same(odd.read("arff", odd.write("arff", tmp_path / "made")), odd)


def test_pandas_reads_the_records(tmp_path: Path) -> None:
    made = arrays.colours(tmp_path / "colours")
    goal = made.write("arff", tmp_path / "made")

    found = pd.read_csv(goal, header=None, skiprows=2 + 36 + 3, quotechar='"')

    expected = made.images.reshape(40, -1)
    np.testing.assert_array_equal(found.iloc[:, :-1].to_numpy(), expected)
    assert found.iloc[:, -1].tolist() == [f"class {label}" for label in made.labels]


def test_every_line_is_found(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("arff", tmp_path / "made")
    lines = goal.read_bytes().partition(b"@DATA\n")[2].splitlines(keepends=True)

    for index in (0, 1, 20, 39):
        [stored] = made.read("arff", goal, index, index + 1)
        assert goal.read_bytes()[stored.start : stored.stop] == lines[index]
    with pytest.raises(ArtefactError, match="ends before record 40"):
        made.read("arff", goal, 40, 41)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "ends before record 0"),
        ("1,2,3\n", "expected 12 intensities and a class, found 2"),
        ("0," * 12 + '"class 1"', "expected the name of a class at the end of the line"),
        ("0," * 12 + "class 1\n", "expected the name of a class"),
        ("0," * 12 + '"class 9"\n', "expected the name of a class"),
        ("0," * 13 + '"class 1"\n', "expected the name of a class"),
        ("0," * 11 + '256,"class 1"\n', "expected integers 0 to 255, found b'256'"),
        ("0," * 11 + '?,"class 1"\n', "expected integers 0 to 255"),
        ("0," * 11 + ',"class 1"\n', "expected integers 0 to 255, found b''"),
        ("9" * 5000 + "\n", "expected 12 intensities"),
    ],
)
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, line: str, words: str) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("arff", tmp_path / "made")
    head, mark, _ = goal.read_text().partition("@DATA\n")
    goal.write_text(head + mark + line)

    with pytest.raises(ArtefactError) as caught:
        made.read("arff", goal, 0, 1)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tiny_train", "tiny_test", r"expected the line b'@RELATION tiny_train\\n', found"),
        ("pixel7 INTEGER", "pixel7 REAL", "expected the line b'@ATTRIBUTE pixel7 INTEGER"),
        ('"class 3","class 4"', '"class 4","class 3"', "expected the line b'@ATTRIBUTE class"),
    ],
)
def test_other_attributes_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("arff", tmp_path / "made")
    goal.write_text(goal.read_text().replace(old, new, 1))

    with pytest.raises(ArtefactError, match=words):
        made.read("arff", goal, 0, 1)
