"""Archives of the sources on request, where a mirror has them: read by hand here, and by us.

Skipped archive by archive: few of these can be had everywhere. Counts and constants were taken from
the publishers' files by other code (numpy, bz2, gzip, struct) or from their pages.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import archives, plan, tables
from pipelines.declarations import Catalogue, Dataset, Split
from pipelines.formats import named
from pipelines.records import Batch
from tests import builders

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def built_in() -> Catalogue:
    return plan.load(BUILT_IN_CATALOGUE)


def verified(built_in: Catalogue, mirror: Path, dataset: Dataset, *names: str) -> Path:
    """The folder of a source's archives, some of which were verified; skips where one is not."""
    source = built_in.source_of(dataset)
    for name in names:
        path = mirror / source.name / name
        if not path.exists():
            pytest.skip(f"the mirror has no {source.name}/{name}")
        archives.verify(path, source.archives[name], built_in.identify)
    return mirror / source.name


def table(
    built_in: Catalogue, mirror: Path, folder: Path, name: str, key: str
) -> tuple[pl.DataFrame, Array]:
    """The table of a split, written from the publisher's archives, and its images."""
    dataset = built_in.datasets[name]
    split = dataset.splits[key]
    published = verified(built_in, mirror, dataset, *split.archives)
    goal = folder / "split.parquet"
    tables.write(built_in.source_of(dataset), dataset, split, published, goal)
    found = pl.read_parquet(goal)
    pixels = np.frombuffer(b"".join(found["pixels"].to_list()), np.uint8)
    return found, pixels.reshape(len(found), *dataset.image.shape)


# Mean and population deviation of all intensities, from 0 to 1.
MOMENTS = {
    ("kannada_mnist", "test"): (0.072717, 0.225531),
    ("dig_mnist", "test"): (0.112649, 0.286009),
    ("semeion", "all"): (0.328625, 0.469713),
    ("usps", "test"): (0.25988, 0.30826),
}


@pytest.mark.parametrize(("name", "key"), MOMENTS)
def test_a_split_has_the_published_counts_and_intensities(
    built_in: Catalogue, mirror: Path, tmp_path: Path, name: str, key: str
) -> None:
    found, images = table(built_in, mirror, tmp_path, name, key)

    counts = np.bincount(found["label"].to_numpy(), minlength=10).tolist()
    assert counts == [*built_in.datasets[name].splits[key].counts]
    moments = images.mean() / 255, images.std() / 255
    assert moments == pytest.approx(MOMENTS[name, key], abs=5e-6)
    assert len(found["pixels"].unique()) == len(found), "no two are the same"


@pytest.mark.parametrize(
    ("name", "key", "prefix"),
    [("kannada_mnist", "test", "kannada_MNIST_test"), ("dig_mnist", "test", "dig_MNIST")],
)
def test_kannada_digits_are_those_of_the_files(
    built_in: Catalogue, mirror: Path, tmp_path: Path, name: str, key: str, prefix: str
) -> None:
    found, images = table(built_in, mirror, tmp_path, name, key)
    folder = mirror / "kannada_mnist"
    pixels = gzip.decompress((folder / f"X_{prefix}-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"y_{prefix}-idx1-ubyte.gz").read_bytes())

    assert images.tobytes() == pixels[16:]
    assert found["label"].to_numpy().astype(np.uint8).tobytes() == labels[8:]
    assert found["label"].to_list()[:20] == [*range(10)] * 2


def test_semeion_is_as_numpy_reads_it(built_in: Catalogue, mirror: Path, tmp_path: Path) -> None:
    found, images = table(built_in, mirror, tmp_path, "semeion", "all")
    rows = np.loadtxt(mirror / "semeion" / "semeion.data")

    np.testing.assert_array_equal(images.reshape(-1, 256), rows[:, :256] * 255)
    np.testing.assert_array_equal(found["label"].to_numpy(), rows[:, 256:].argmax(axis=1))


def test_usps_is_what_torchvision_makes_of_it(
    built_in: Catalogue, mirror: Path, tmp_path: Path
) -> None:
    """As torchvision/datasets/usps.py has it: float32, (x + 1) / 2 · 255, cut to uint8."""
    import bz2

    found, images = table(built_in, mirror, tmp_path, "usps", "test")
    lines = bz2.decompress((mirror / "usps" / "usps.t.bz2").read_bytes()).split(b"\n")
    rows = [line.split() for line in lines if line]
    values = np.array(
        [[float(one.partition(b":")[2]) for one in row[1:]] for row in rows], np.float32
    )

    expected = ((values + 1) / 2 * 255).astype(np.uint8)
    np.testing.assert_array_equal(images.reshape(-1, 256), expected)
    assert found["label"].to_list() == [int(row[0]) - 1 for row in rows]


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("train", "qmnist-train-labels-idx2-int.gz"),
        ("test", "qmnist-test-labels-idx2-int.gz"),
        ("nist", "xnist-labels-idx2-int.xz"),
    ],
)
def test_qmnists_labels_have_the_published_counts_and_columns(
    built_in: Catalogue, mirror: Path, key: str, file: str
) -> None:
    """Its images are nowhere at hand, so that the format reads the labels alone."""
    dataset = built_in.datasets["qmnist"]
    path = verified(built_in, mirror, dataset, file) / file
    data = (lzma if file.endswith(".xz") else gzip).decompress(path.read_bytes())
    split = dataset.splits[key]

    assert struct.unpack(">4B2I", data[:12]) == (0, 0, 0x0C, 2, split.records, 8)
    rows = np.frombuffer(data, ">i4", offset=12).reshape(-1, 8)
    assert np.bincount(rows[:, 0]).tolist() == [*split.counts]
    for at in (0, 1, split.records - 1):
        assert located(built_in, dataset, split, path.parent, at) == rows[at].tolist()
    writer, code, unused = ([*dataset.columns].index(x) for x in ("writer", "nist_class", "unused"))
    assert (rows[:, code] == 30 + rows[:, 0]).all()
    assert not rows[:, unused].any()
    assert key == "nist" or len(np.unique(rows[:, writer])) == {"train": 539, "test": 535}[key]
    repeats = [*dataset.columns].index("duplicate_of")
    expected = [95_988, 158_235, 223_125] if key == "nist" else []
    assert np.flatnonzero(rows[:, repeats]).tolist() == expected


def located(
    built_in: Catalogue, dataset: Dataset, split: Split, folder: Path, index: int
) -> list[int]:
    """The integers of a record's label, from where the format says that they stand."""
    places = named(dataset.format).locate(dataset, split, index, _no_members())
    [place] = [one for one in places if one.role == "labels"]
    data = (folder / place.member.archive).read_bytes()
    unpacked = (lzma if place.member.archive.endswith(".xz") else gzip).decompress(data)
    return np.frombuffer(unpacked[place.start : place.stop], ">i4").tolist()


def _no_members() -> Any:
    from pipelines.records import Members

    def unasked(member: object) -> Any:
        raise AssertionError(f"{member} need not be read")

    return Members(unasked, unasked)


def test_kmnists_labels_of_train_are_balanced(built_in: Catalogue, mirror: Path) -> None:
    dataset, file = built_in.datasets["kmnist"], "train-labels-idx1-ubyte.gz"
    path = verified(built_in, mirror, dataset, file) / file
    labels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=8)

    assert np.bincount(labels).tolist() == [6_000] * 10


def decoded(dataset: Dataset, split: Split, built_in: Catalogue, folder: Path) -> Batch:
    return Batch.joined([*tables.decoded(built_in.source_of(dataset), dataset, split, folder)])


@pytest.mark.parametrize(
    ("key", "writers"), [("train", 539), ("test", 535), ("test10k", 297), ("nist", None)]
)
def test_the_labels_of_qmnist_are_read_beside_images_made_up(
    built_in: Catalogue, mirror: Path, tmp_path: Path, key: str, writers: int | None
) -> None:
    dataset = built_in.datasets["qmnist"]
    split = dataset.splits[key]
    [labels], [images] = split.members["labels"], split.members["images"]
    folder = verified(built_in, mirror, dataset, labels.archive)
    (tmp_path / labels.archive).write_bytes((folder / labels.archive).read_bytes())
    records = split.rows.of if split.rows else split.records
    blank = struct.pack(">4I", 0x0803, records, 28, 28) + bytes(records * 784)
    is_xz = images.archive.endswith(".xz")
    packed = lzma.compress(blank, preset=0) if is_xz else gzip.compress(blank, 1)
    (tmp_path / images.archive).write_bytes(packed)

    found = decoded(dataset, split, built_in, tmp_path)

    assert np.bincount(found.labels).tolist() == [*split.counts]
    if writers is not None:
        assert len(np.unique(found.extras["writer"])) == writers
    old = mirror / "qmnist/qmnist-test-labels-idx1-ubyte.gz"
    if key == "test" and old.is_file():
        plain = np.frombuffer(gzip.decompress(old.read_bytes()), np.uint8, offset=8)
        np.testing.assert_array_equal(found.labels, plain)


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_the_labels_of_cifar_10_1_are_read_beside_images_made_up(
    built_in: Catalogue, mirror: Path, tmp_path: Path, version: str
) -> None:
    source = built_in.sources["cifar10_1"]
    [(dataset, split)] = [
        (dataset, split)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
        if version in str(split.members["labels"][0])
    ]
    [labels], [images] = split.members["labels"], split.members["images"]
    folder = verified(built_in, mirror, dataset, labels.archive)
    (tmp_path / labels.archive).write_bytes((folder / labels.archive).read_bytes())
    blank = builders.npy(np.zeros((split.records, 32, 32, 3), np.uint8))
    (tmp_path / images.archive).write_bytes(blank)

    found = decoded(dataset, split, built_in, tmp_path)

    assert np.bincount(found.labels).tolist() == [*split.counts]
    np.testing.assert_array_equal(found.labels, np.load(folder / labels.archive))


@pytest.mark.parametrize("name", ["omniglot_small1", "omniglot_small2"])
def test_the_drawings_of_omniglot_are_ink_or_paper_and_no_two_are_equal(
    built_in: Catalogue, mirror: Path, name: str
) -> None:
    dataset = built_in.datasets[name]
    split = dataset.splits["all"]
    folder = verified(built_in, mirror, dataset, *split.archives)

    found = decoded(dataset, split, built_in, folder)

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
