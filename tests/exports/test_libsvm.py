"""LIBSVM: the lines that scikit-learn writes, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ArtefactError
from pipelines.exports import libsvm
from pipelines.reading import opening
from tests import builders
from tests.builders import Array
from tests.exports import arrays
from tests.exports.arrays import Made


def written_elsewhere(images: Array, labels: Array, value: str = "%d", share: int = 1) -> bytes:
    """As scikit-learn's _svmlight_format_fast.pyx: `label`, a blank, fields joined by blanks."""
    lines = []
    for image, label in zip(images.reshape(len(images), -1).tolist(), labels, strict=True):
        fields = (f"{n}:{value % (v / share)}" for n, v in enumerate(image, 1) if v)
        lines.append(f"{label} {' '.join(fields)}\n")
    return "".join(lines).encode()


@given(
    records=st.one_of(
        builders.some_records(channels=1, classes=256),
        builders.some_records(channels=3, classes=256),
    ),
    scale=st.booleans(),
    batch=st.integers(1, 10),
    block=st.integers(1, 200),
)
@settings(deadline=None, max_examples=60)
def test_the_bytes_are_those_of_another_writer_and_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    records: tuple[Array, Array],
    scale: bool,
    batch: int,
    block: int,
) -> None:
    folder = tmp_path_factory.mktemp("libsvm")
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        patch.setattr(libsvm, "_BLOCK_PIXELS", block)
        made = arrays.made(folder, *records, classes=256)
        goal = made.write("libsvm", folder / "made", told.append, scale=scale)

    assert sum(told) == len(records[1])
    form = ("%.6g", 255) if scale else ("%d", 1)
    assert goal.read_bytes() == written_elsewhere(*records, *form)
    if set(np.unique(records[0])) - {0, 1, 255}:  # otherwise a 1 may be either
        arrays.same(made.read("libsvm", goal), made)


def test_scikit_learn_wrote_these_bytes(tmp_path: Path) -> None:
    """Printed by dump_svmlight_file(…, zero_based=False) of scikit-learn 1.9.1."""
    images = np.zeros((4, 1, 5, 1), np.uint8)
    images[1, 0, 1], images[1, 0, 4], images[3, 0, 0] = 3, 255, 1
    made = arrays.made(tmp_path / "m", images, np.array([5, 0, 9, 250], np.uint8), classes=256)

    goal = made.write("libsvm", tmp_path / "made")

    assert goal.read_bytes() == b"5 \n0 2:3 5:255\n9 \n250 1:1\n"
    arrays.same(made.read("libsvm", goal), made)


def test_a_share_of_255_has_six_digits(tmp_path: Path) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    made = arrays.made(tmp_path / "m", every, np.zeros(256, np.uint8))

    goal = made.write("libsvm", tmp_path / "made", scale=True)

    lines = goal.read_text().splitlines()
    assert [lines[value] for value in (0, 1, 18, 254, 255)] == [
        "0 ",
        "0 1:0.00392157",
        "0 1:0.0705882",
        "0 1:0.996078",
        "0 1:1",
    ]
    arrays.same(made.read("libsvm", goal), made)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 50, 1 << 20])
def test_whether_values_are_shares_is_told_by_the_first_that_is_not_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, scale: bool
) -> None:
    monkeypatch.setattr(libsvm, "_CHUNK_BYTES", chunk)
    images = np.full((30, 2, 2, 1), 255 if scale else 1, np.uint8)
    images[25, 0, 0] = 13
    made = arrays.made(tmp_path / "m", images, np.zeros(30, np.uint8))

    arrays.same(made.read("libsvm", made.write("libsvm", tmp_path / "made", scale=scale)), made)


def test_every_line_is_found(tmp_path: Path) -> None:
    made = arrays.colours(tmp_path / "colours")
    goal = made.write("libsvm", tmp_path / "made")
    lines = goal.read_bytes().splitlines(keepends=True)

    for index in (0, 1, 20, 39):
        [stored] = made.read("libsvm", goal, index, index + 1)
        assert goal.read_bytes()[stored.start : stored.stop] == lines[index]
        np.testing.assert_array_equal(stored.record.images[0], made.images[index], strict=True)
    with pytest.raises(ArtefactError, match="ends before record 40"):
        made.read("libsvm", goal, 40, 41)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return arrays.grey(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "ends before record 1"),
        ("3 1:1", "expected a line that ends"),
        ("3\n", "expected a label 0 to 255 and a blank"),
        ("256 1:1\n", "expected a label 0 to 255"),
        ("03 1:1\n", "expected a label 0 to 255"),
        ("-1 1:1\n", "expected a label 0 to 255"),
        ("x 1:1\n", "expected a label 0 to 255"),
        ("3 13:1\n", "expected numbers that rise to at most 12"),
        ("3 0:1\n", "expected numbers that rise"),
        ("3 01:1\n", "expected numbers that rise"),
        ("3 2:1 2:1\n", "expected numbers that rise"),
        ("3 2:1 1:1\n", "found b'1:1' after 2"),
        ("3 1:1  2:1\n", "expected numbers that rise"),
        ("3 1:1 \n", "expected numbers that rise"),
        ("3 1\n", "expected numbers that rise"),
        ("3 1:0\n", "expected an intensity that is not 0"),
        ("3 1:256\n", "expected an intensity"),
        ("3 1:0.5\n", "expected an intensity"),
        ("3 1:1 # 2\n", "expected numbers that rise"),
        ("9" * 5000 + " 1:1\n", "expected a l"),
    ],
)
def test_a_line_that_is_no_record_is_refused(
    small: Made, tmp_path: Path, line: str, words: str
) -> None:
    (tmp_path / "wrong").write_text("3 1:1 2:17\n" + line)

    with pytest.raises(ArtefactError) as caught:
        small.read("libsvm", tmp_path / "wrong", 1, 2)

    assert words in str(caught.value)
    assert "wrong" in str(caught.value)
