"""NPY: what numpy.save writes, for numpy.load to map."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ArtefactError
from tests import builders
from tests.exports import arrays


def test_the_bytes_are_those_of_numpy(tmp_path: Path) -> None:
    made = arrays.colours(tmp_path / "colours")
    goal = made.write("npy", tmp_path / "train_npy")

    assert builders.files_under(goal) == ["coarse_labels.npy", "images.npy", "labels.npy"]
    expected = made.expected(one_hot=False, flat=False, channels="none")
    for name, values in zip(("images", "labels", "coarse_labels"), expected, strict=True):
        file = io.BytesIO()
        np.save(file, values)
        assert (goal / f"{name}.npy").read_bytes() == file.getvalue()


def test_images_can_be_mapped(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("npy", tmp_path / "train_npy")

    images = np.load(goal / "images.npy", mmap_mode="r")

    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images[17], made.images[17, ..., 0])


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    for number, change in enumerate((lambda data: data + b"\0", lambda data: data[:-1])):
        goal = made.write("npy", tmp_path / str(number))
        file = goal / "labels.npy"
        file.write_bytes(change(file.read_bytes()))

        with pytest.raises(ArtefactError, match=r"labels\.npy: expected 168 bytes, found 16[79]"):
            made.read("npy", goal, 0, 1)


@pytest.mark.parametrize("wrong", ["objects", "fortran", "int16"])
def test_another_kind_of_array_is_refused(tmp_path: Path, wrong: str) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("npy", tmp_path / "train_npy")
    images = made.images[..., 0]
    other = {
        "objects": np.array([None] * 40, object),
        "fortran": np.asfortranarray(images),
        "int16": images.astype(np.int16),
    }
    np.save(goal / "images.npy", other[wrong])

    with pytest.raises(ArtefactError, match=r"expected pixels as uint8 .* in C order, found"):
        made.read("npy", goal, 0, 1)
