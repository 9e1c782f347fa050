"""Archives of sources on request, each where a mirror has it: as others published their figures.

Publishers' repositories have some of their archives alone, which these tests do with. Not here: the
archives of default datasets (`test_official`), what the catalogue says of the others
(`test_sources`).
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import plan, tables
from pipelines.declarations import Catalogue, Dataset, Source, Split
from pipelines.records import Batch
from tests import builders


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return plan.load(BUILT_IN_CATALOGUE)


def archives(source: Source, split: Split, mirror: Path, *roles: str) -> Path:
    """The folder of a source's archives, those of some roles whole; skipped where one lacks."""
    folder = mirror / source.name
    for role in roles:
        for member in split.members[role]:
            path = folder / member.archive
            if not path.is_file():
                pytest.skip(f"the mirror has no {source.name}/{member.archive}")
            data, archive = path.read_bytes(), source.archives[member.archive]
            assert archive.md5 in (None, hashlib.md5(data).hexdigest())
            assert archive.sha256 in (None, hashlib.sha256(data).hexdigest())
    return folder


def decoded(source: Source, dataset: Dataset, split: Split, folder: Path) -> Batch:
    return Batch.joined([*tables.decoded(source, dataset, split, folder)])


@pytest.mark.parametrize(
    ("name", "key", "mean", "std"),
    [  # as the users of these datasets have them, of intensities from 0 to 1
        ("usps", "test", 0.25988, 0.30826),
        ("semeion", "all", 0.328625, 0.469713),
        ("kannada_mnist", "test", 0.072717, 0.225531),
        ("dig_mnist", "test", 0.112649, 0.286009),
    ],
)
def test_they_have_the_published_counts_and_intensities(
    known: Catalogue, mirror: Path, name: str, key: str, mean: float, std: float
) -> None:
    dataset = known.datasets[name]
    source, split = known.source_of(dataset), dataset.splits[key]
    folder = archives(source, split, mirror, *split.members)

    found = decoded(source, dataset, split, folder)

    digits = 5 if name == "usps" else 6
    assert np.bincount(found.labels).tolist() == [*split.counts]
    assert round(float((found.images / 255).mean()), digits) == mean
    assert round(float((found.images / 255).std()), digits) == std


@pytest.mark.parametrize(
    ("key", "writers"), [("train", 539), ("test", 535), ("test10k", 297), ("nist", None)]
)
def test_the_labels_of_qmnist_are_read_beside_images_made_up(
    known: Catalogue, mirror: Path, tmp_path: Path, key: str, writers: int | None
) -> None:
    dataset = known.datasets["qmnist"]
    source, split = known.source_of(dataset), dataset.splits[key]
    folder = archives(source, split, mirror, "labels")
    [labels], [images] = split.members["labels"], split.members["images"]
    (tmp_path / labels.archive).write_bytes((folder / labels.archive).read_bytes())
    records = split.rows.of if split.rows else split.records
    blank = struct.pack(">4I", 0x0803, records, 28, 28) + bytes(records * 784)
    is_xz = images.archive.endswith(".xz")
    packed = lzma.compress(blank, preset=0) if is_xz else gzip.compress(blank, 1)
    (tmp_path / images.archive).write_bytes(packed)

    found = decoded(source, dataset, split, tmp_path)

    assert np.bincount(found.labels).tolist() == [*split.counts]
    if writers is not None:
        assert len(np.unique(found.extras["writer"])) == writers
    old = mirror / "qmnist/qmnist-test-labels-idx1-ubyte.gz"
    if key == "test" and old.is_file():
        plain = np.frombuffer(gzip.decompress(old.read_bytes()), np.uint8, offset=8)
        np.testing.assert_array_equal(found.labels, plain)


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_the_labels_of_cifar_10_1_are_read_beside_images_made_up(
    known: Catalogue, mirror: Path, tmp_path: Path, version: str
) -> None:
    source = known.sources["cifar10_1"]
    [(dataset, split)] = [
        (dataset, split)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
        if version in str(split.members["labels"][0])
    ]
    folder = archives(source, split, mirror, "labels")
    [labels], [images] = split.members["labels"], split.members["images"]
    (tmp_path / labels.archive).write_bytes((folder / labels.archive).read_bytes())
    blank = builders.npy(np.zeros((split.records, 32, 32, 3), np.uint8))
    (tmp_path / images.archive).write_bytes(blank)

    found = decoded(source, dataset, split, tmp_path)

    assert np.bincount(found.labels).tolist() == [*split.counts]
    np.testing.assert_array_equal(found.labels, np.load(folder / labels.archive))


@pytest.mark.parametrize("name", ["omniglot_small1", "omniglot_small2"])
def test_the_drawings_of_omniglot_are_ink_or_paper_and_no_two_are_equal(
    known: Catalogue, mirror: Path, name: str
) -> None:
    dataset = known.datasets[name]
    source, split = known.source_of(dataset), dataset.splits["all"]
    folder = archives(source, split, mirror, "files")

    found = decoded(source, dataset, split, folder)

    with zipfile.ZipFile(folder / split.archives[0]) as archive:
        names = sorted(one for one in archive.namelist() if one.endswith(".png"))
        with archive.open(names[1234]) as file, Image.open(file) as image:
            drawn = np.asarray(image)  # of one bit: True is paper
    np.testing.assert_array_equal(found.images[1234, ..., 0], np.where(drawn, 255, 0))
    assert dataset.classes[int(found.labels[1234])] in names[1234]
    assert np.bincount(found.labels).tolist() == [20] * len(dataset.classes)
    assert np.unique(found.images).tolist() == [0, 255]
    assert len({image.tobytes() for image in found.images}) == split.records == len(names)
    assert 0.85 < (found.images == 255).mean() < 0.99  # paper
