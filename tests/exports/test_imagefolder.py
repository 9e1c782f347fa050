"""Image folder: the very zip that zipfile writes, and folders in the order of labels."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ArtefactError
from pipelines.exports import _png as png
from pipelines.exports import imagefolder
from tests.exports import sets
from tests.exports.sets import AWKWARD, Set


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return sets.build(tmp_path_factory.mktemp("grey"), names=AWKWARD)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Set:
    folder = tmp_path_factory.mktemp("colour")
    return sets.build(folder, classes=101, coarse=20, shape=(32, 32, 3))


@pytest.fixture(params=["grey", "colour"])
def some(request: pytest.FixtureRequest) -> Set:
    found: Set = request.getfixturevalue(request.param)
    return found


def contents(some: Set) -> dict[str, bytes]:
    """What must be in the zip, in this order."""
    classes = some.subject.dataset.classes
    found = {"classes.txt": "".join(f"{name}\n" for name in classes).encode()}
    digits = max(2, len(str(len(classes) - 1)))
    for split, (images, labels, _) in some.arrays.items():
        found |= {f"{split}/{label:0{digits}}/": b"" for label in range(len(classes))}
        files = zip(labels.tolist(), png.encode(images), strict=True)
        for index, (label, file) in enumerate(files):
            found[f"{split}/{label:0{digits}}/{index:05}.png"] = file
    return found


def test_the_zip_is_byte_for_byte_what_zipfile_writes(some: Set, tmp_path: Path) -> None:
    told: list[int] = []
    facts = some.write("imagefolder", tmp_path / "a.zip", advance=told.append)
    expected = io.BytesIO()
    with zipfile.ZipFile(expected, "w") as archive:
        for name, data in contents(some).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o40755 << 16 | 0x10 if name.endswith("/") else 0o100644 << 16
            archive.writestr(info, data)

    assert (tmp_path / "a.zip").read_bytes() == expected.getvalue()
    assert facts["records"] == sum(told) == 42
    assert facts["files"] == len(contents(some))


def test_pillow_reads_the_pictures_of_each_class(some: Set, tmp_path: Path) -> None:
    some.write("imagefolder", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "out")

    lines = (tmp_path / "out" / "classes.txt").read_bytes().decode().split("\n")
    assert tuple(lines[:-1]) == some.subject.dataset.classes
    for split, (images, labels, _) in some.arrays.items():
        folders = sorted(path.name for path in (tmp_path / "out" / split).iterdir())
        assert [int(name) for name in folders] == list(range(len(lines) - 1))
        for label, folder in enumerate(folders):
            files = sorted((tmp_path / "out" / split / folder).iterdir())
            assert [int(file.stem) for file in files] == np.flatnonzero(labels == label).tolist()
            for file in files:
                with Image.open(file) as picture:
                    found = np.asarray(picture)
                expected = images[int(file.stem)]
                np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("classes", [1, 10, 47, 62, 100, 101, 256])
def test_sorted_folders_number_the_classes_on_any_file_system(tmp_path: Path, classes: int) -> None:
    some = sets.build(tmp_path, classes=classes)
    some.write("imagefolder", tmp_path / "a.zip")

    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    folders = sorted({name.split("/")[1] for name in names if name.startswith("test/")})
    assert [int(folder) for folder in folders] == list(range(classes))
    assert len({name.lower() for name in names}) == len(names)


def test_records_are_read_back_from_where_they_are(some: Set, tmp_path: Path) -> None:
    some.write("imagefolder", tmp_path / "a.zip")
    data, expected = (tmp_path / "a.zip").read_bytes(), contents(some)

    for split, (images, labels, _) in some.arrays.items():
        found = list(some.read("imagefolder", tmp_path / "a.zip", split))
        sets.assert_same(found, (images, labels, None))
        for index, one in enumerate(found):
            assert data[one.start : one.stop] == expected[one.facts["member"]]
            [alone] = some.read("imagefolder", tmp_path / "a.zip", split, index, index + 1)
            assert (alone.start, alone.facts) == (one.start, one.facts)
        with pytest.raises(ArtefactError, match=f"has no record {len(labels)} of {split}"):
            next(some.read("imagefolder", tmp_path / "a.zip", split, len(labels), len(labels) + 1))


def test_a_zip_too_large_for_32_bits_is_zip64(
    some: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagefolder, "_is_wide", lambda _dataset: True)
    monkeypatch.setattr(imagefolder, "_MOST_16", 40)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 40)
    path = tmp_path / "a.zip"
    some.write("imagefolder", path)

    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {one.filename: archive.read(one) for one in archive.infolist()} == contents(some)
        assert {one.extract_version for one in archive.infolist()} == {45}
    for split, (images, labels, _) in some.arrays.items():
        found = list(some.read("imagefolder", path, split))
        sets.assert_same(found, (images, labels, None))


def test_more_files_than_16_bits_can_count_are_zip64(tmp_path: Path) -> None:
    """As MNIST's 70,000."""
    some = sets.build(tmp_path, shape=(1, 1, 1), records={"train": 65_535, "test": 2})
    path = tmp_path / "a.zip"
    some.write("imagefolder", path)

    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == list(contents(some))
        assert archive.testzip() is None
    images, labels, _ = some.arrays["train"]
    found = list(some.read("imagefolder", path, "train", 65_530, 65_535))
    sets.assert_same(found, (images[65_530:], labels[65_530:], None))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not here")
def test_unzip_finds_nothing_wrong(some: Set, tmp_path: Path) -> None:
    some.write("imagefolder", tmp_path / "a.zip")

    done = subprocess.run(
        ["unzip", "-t", "a.zip"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "No errors detected" in done.stdout


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.floats(0, 1) | st.none())
@settings(deadline=None, max_examples=150)
def test_damage_is_never_taken_for_another_record(
    grey: Set,
    tmp_path_factory: pytest.TempPathFactory,
    at: float,
    bit: int,
    cut: float | None,
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.zip"
    grey.write("imagefolder", path)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])

    try:
        found = list(grey.read("imagefolder", path, "test"))
    except ArtefactError:
        return
    sets.assert_same(found, grey.arrays["test"])


def test_a_file_that_is_missing_or_none_is_told_of(grey: Set, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(grey.read("imagefolder", tmp_path / "a.zip", "train"))
    for data in (b"", b"PK", bytes(100_000)):
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(ArtefactError, match="expected a zip that ends with a directory"):
            next(grey.read("imagefolder", tmp_path / "a.zip", "train"))
