"""WebDataset: tar files as tarfile writes and reads them, shard by shard."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ArtefactError
from pipelines.exports import _png as png
from pipelines.reading import opening
from tests import builders
from tests.exports import sets


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> sets.Set:
    return sets.build(tmp_path_factory.mktemp("grey"), classes=256)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> sets.Set:
    folder = tmp_path_factory.mktemp("colour")
    return sets.build(folder, classes=100, coarse=20, shape=(32, 32, 3))


def by_tarfile(names: list[str], contents: list[bytes]) -> bytes:
    """A tar file as the standard library makes it, of nobody's, from 1970."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in zip(names, contents, strict=True):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 7, 10, 29, 30, 31, 10_000])
def test_shards_are_byte_for_byte_what_tarfile_writes(
    grey: sets.Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(opening, "BATCH_RECORDS", 13)
    told: list[int] = []
    facts = grey.write(
        "webdataset", tmp_path / "w", "train", advance=told.append, shard_records=size
    )
    images, labels, _ = grey.arrays["train"]
    files = png.encode(images)

    starts = range(0, 30, size)
    for shard, start in enumerate(starts):
        rows = range(start, min(30, start + size))
        names = [f"{row:08d}.{kind}" for row in rows for kind in ("png", "cls")]
        contents = [part for row in rows for part in (files[row], b"%d" % labels[row])]
        found = (tmp_path / "w" / f"tiny-train-{shard:06d}.tar").read_bytes()
        assert found == by_tarfile(names, contents)
    assert facts == {"records": 30, "shards": len(starts)}
    assert sum(told) == 30
    assert len(builders.files_under(tmp_path / "w")) == len(starts)


@pytest.mark.parametrize("split", ["train", "test"])
def test_tarfile_and_pillow_read_pictures_and_both_labels(
    colour: sets.Set, tmp_path: Path, split: str
) -> None:
    colour.write("webdataset", tmp_path / "w", split)
    images, labels, coarse = colour.arrays[split]
    assert coarse is not None

    with tarfile.open(tmp_path / "w" / f"tiny-{split}-000000.tar") as archive:
        found = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    assert len(found) == 3 * len(labels)
    for index, image in enumerate(images):
        with Image.open(io.BytesIO(found[f"{index:08d}.png"])) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)
        assert int(found[f"{index:08d}.cls"]) == labels[index]
        assert int(found[f"{index:08d}.coarse.cls"]) == coarse[index]


@pytest.mark.parametrize("size", [1, 7, 30, 10_000])
def test_records_are_read_back_from_where_they_are(
    grey: sets.Set, tmp_path: Path, size: int
) -> None:
    grey.write("webdataset", tmp_path / "w", "train", shard_records=size)

    found = list(grey.read("webdataset", tmp_path / "w", "train"))

    sets.assert_same(found, grey.arrays["train"])
    files = png.encode(grey.arrays["train"][0])
    for index, one in enumerate(found):
        assert one.file == f"tiny-train-{index // size:06d}.tar"
        assert one.facts == {"member": f"{index:08d}.png"}
        assert (tmp_path / "w" / one.file).read_bytes()[one.start : one.stop] == files[index]
        [alone] = grey.read("webdataset", tmp_path / "w", "train", index, index + 1)
        assert (alone.start, alone.file) == (one.start, one.file)


def test_coarse_labels_are_read_back(colour: sets.Set, tmp_path: Path) -> None:
    colour.write("webdataset", tmp_path / "w", "test", shard_records=5)

    found = list(colour.read("webdataset", tmp_path / "w", "test"))

    sets.assert_same(found, colour.arrays["test"])


@pytest.mark.parametrize("size", [7, 30, 10_000])
def test_a_record_after_the_last_one_is_refused(grey: sets.Set, tmp_path: Path, size: int) -> None:
    grey.write("webdataset", tmp_path / "w", "train", shard_records=size)

    with pytest.raises(ArtefactError):
        next(grey.read("webdataset", tmp_path / "w", "train", 30, 31))


def test_a_shard_that_is_missing_is_noticed(grey: sets.Set, tmp_path: Path) -> None:
    for missing in range(5):
        grey.write("webdataset", tmp_path / f"{missing}", "train", shard_records=7)
        (tmp_path / f"{missing}" / f"tiny-train-{missing:06d}.tar").unlink()
        with pytest.raises(ArtefactError):
            list(grey.read("webdataset", tmp_path / f"{missing}", "train"))


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.floats(0, 1) | st.none())
@settings(deadline=None, max_examples=150)
def test_damage_is_another_record_or_a_refusal(
    grey: sets.Set,
    tmp_path_factory: pytest.TempPathFactory,
    at: float,
    bit: int,
    cut: float | None,
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "w"
    grey.write("webdataset", folder, "test", shard_records=5)
    shard = folder / "tiny-test-000001.tar"
    data = bytearray(shard.read_bytes())
    end = 5 * 4 * 512  # zeros follow, which nobody reads
    data[int(at * end)] ^= 1 << bit
    shard.write_bytes(data if cut is None else data[: int(cut * end)])

    try:
        found = list(grey.read("webdataset", folder, "test"))
    except ArtefactError:
        return
    with pytest.raises(AssertionError):
        sets.assert_same(found, grey.arrays["test"])


def test_an_empty_folder_is_refused(grey: sets.Set, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(ArtefactError, match="no tar file with record 0"):
        next(grey.read("webdataset", tmp_path / "w", "train"))
    with pytest.raises(FileNotFoundError):
        next(grey.read("webdataset", tmp_path / "x", "train"))
