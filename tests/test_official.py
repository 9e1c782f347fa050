"""The publishers' own archives, where a mirror has them: every figure is one that others published.

Counts, hashes and constants were taken from the publishers' pages and files and from other
libraries, not from what this project makes of them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from pipelines import archives, catalogue, plan, statistics, tables
from pipelines.declarations import Archive, Catalogue, Source
from pipelines.errors import WrongBytes
from pipelines.lineage import trace
from pipelines.statistics import duplicates
from pipelines.store import Folder, clock, layout, making
from tests import builders, caffe, parts
from tests.builders import Array
from tests.exports import exporting

BUILT_IN = Path(__file__).parent.parent / "assets" / "catalogue"

SPLITS = [(name, split) for name in ("mnist", "fashion_mnist") for split in ("train", "test")]
PREFIX = {"train": "train", "test": "t10k"}

COUNTS = {
    ("mnist", "train"): [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    ("mnist", "test"): [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ("fashion_mnist", "train"): [6000] * 10,
    ("fashion_mnist", "test"): [1000] * 10,
}

# SHA-256 of all pixels one after the other, and of all labels.
HASHES = {
    ("mnist", "train"): (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    ("mnist", "test"): (
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    ("fashion_mnist", "train"): (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    ("fashion_mnist", "test"): (
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}

# Mean and population standard deviation of all intensities, scaled to 0–1.
MOMENTS = {
    ("mnist", "train"): (0.1306604762738429, 0.30810780385646264),
    ("mnist", "test"): (0.13251460584233696, 0.3104802479305351),
    ("fashion_mnist", "train"): (0.2860405969887955, 0.35302424451492254),
    ("fashion_mnist", "test"): (0.2868492807122849, 0.35244415324744),
}
PUBLISHED = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}

PIXEL_SUMS = {
    ("mnist", "train"): 1_567_298_545,
    ("mnist", "test"): 264_923_200,
    ("fashion_mnist", "train"): 3_431_114_169,
    ("fashion_mnist", "test"): 573_469_082,
}


def read_elsewhere(folder: Path, split: str) -> tuple[Array, Array]:
    """Images (records, 28, 28) and labels, with gzip and numpy alone."""
    prefix = folder / PREFIX[split]
    with gzip.open(f"{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(f"{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue.load(BUILT_IN)


def build(known: Catalogue, name: str, mirror: Path, data: Path) -> None:
    """Fetch a dataset's archives from the mirror and make all that is made of them."""
    dataset = known.datasets[name]
    source = known.source_of(dataset)
    for archive in source.archives.values():
        places = archives.places(source, archive, str(mirror), offline=True)
        if not Path(places[0]).exists():
            pytest.skip(f"the mirror has no {source.name}/{archive.name}")
        archives.obtain(archive, data / source.name / archive.name, places, known.identify)
    made = []
    for split in dataset.splits.values():
        table = data / f"{name}_{split.name}.parquet"
        tables.write(source, dataset, split, data / source.name, table)
        exporting.write("csv", table, table.with_suffix(".csv"))
        exporting.write("lmdb", table, data / f"{name}_{split.name}_lmdb" / "data.mdb")
        made.append(table)
    statistics.write(made, data / f"{name}_statistics.parquet")


@pytest.fixture(scope="module")
def data(known: Catalogue, mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST and Fashion-MNIST, built from the built-in catalogue."""
    folder = tmp_path_factory.mktemp("official")
    for name in ("mnist", "fashion_mnist"):
        build(known, name, mirror, folder)
    return folder


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_a_table_holds_the_publishers_records(
    data: Path, mirror: Path, name: str, split: str
) -> None:
    images, labels = read_elsewhere(mirror / name, split)

    found = tables.read(data / f"{name}_{split}.parquet")

    for at in (0, -1):
        assert found.images[at, ..., 0].tolist() == images[at].tolist()
        assert found.labels[at] == labels[at]
    np.testing.assert_array_equal(found.images[..., 0], images, strict=True)
    np.testing.assert_array_equal(found.labels, labels, strict=True)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_pixels_and_labels_have_the_known_hashes(data: Path, name: str, split: str) -> None:
    pixels, labels = hashlib.sha256(), hashlib.sha256()

    for batch in tables.batches(data / f"{name}_{split}.parquet"):
        pixels.update(batch.images)
        labels.update(batch.labels)

    assert (pixels.hexdigest(), labels.hexdigest()) == HASHES[name, split]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_the_statistics_are_the_published_ones(data: Path, name: str, split: str) -> None:
    rows = pl.read_parquet(data / f"{name}_statistics.parquet").filter(pl.col("split") == split)

    *classes, whole = rows.rows(named=True)

    assert [row["records"] for row in classes] == COUNTS[name, split]
    assert whole["records"] == sum(COUNTS[name, split])
    assert (whole["min_intensity"], whole["max_intensity"]) == (0, 255)
    pixels = whole["records"] * 28 * 28
    assert round(whole["mean_intensity"] * pixels) == PIXEL_SUMS[name, split]
    found = whole["mean_intensity"] / 255, whole["std_intensity"] / 255
    assert found == pytest.approx(MOMENTS[name, split], rel=1e-12)
    if split == "train":
        assert tuple(round(value, 4) for value in found) == PUBLISHED[name]


def test_the_classic_table_of_mnist_is_that_of_its_publisher(data: Path) -> None:
    assert statistics.counts_as_rows(data / "mnist_statistics.parquet") == [
        ["category", "train", "test"],
        ["0", "5,923", "980"],
        ["1", "6,742", "1,135"],
        ["2", "5,958", "1,032"],
        ["3", "6,131", "1,010"],
        ["4", "5,842", "982"],
        ["5", "5,421", "892"],
        ["6", "5,918", "958"],
        ["7", "6,265", "1,028"],
        ["8", "5,851", "974"],
        ["9", "5,949", "1,009"],
        ["total", "60,000", "10,000"],
    ]


def test_the_csv_of_mnist_is_what_another_writer_makes_of_the_publishers_files(
    data: Path, mirror: Path
) -> None:
    images, labels = read_elsewhere(mirror / "mnist", "test")
    text = io.StringIO(newline="")
    fields = np.column_stack([labels, images.reshape(-1, 784)])
    csv.writer(text, lineterminator="\n").writerows(fields.tolist())

    assert (data / "mnist_test.csv").read_bytes() == text.getvalue().encode()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_pandas_and_duckdb_read_the_csv(data: Path, mirror: Path, name: str) -> None:
    images, labels = read_elsewhere(mirror / name, "test")
    path = data / f"{name}_test.csv"

    frame = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()

    np.testing.assert_array_equal(frame[:, 0], labels)
    np.testing.assert_array_equal(frame[:, 1:], images.reshape(-1, 784))
    with duckdb.connect() as database:
        found = database.execute(
            "select column000, count(*) from read_csv(?, header = false) group by 1 order by 1",
            [str(path)],
        ).fetchall()
    assert found == list(enumerate(COUNTS[name, "test"]))


def test_duckdb_counts_the_classes_of_a_table(data: Path) -> None:
    with duckdb.connect() as database:
        found = database.execute(
            "select class, count(*) from read_parquet(?) group by all order by all",
            [str(data / "mnist_train.parquet")],
        ).fetchall()

    assert found == [(str(n), count) for n, count in enumerate(COUNTS["mnist", "train"])]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_caffe_reads_the_lmdb(data: Path, mirror: Path, name: str, split: str) -> None:
    images, labels = read_elsewhere(mirror / name, split)

    keys, found, found_labels = caffe.read(data / f"{name}_{split}_lmdb")

    assert keys == [f"{number:08d}" for number in range(len(labels))]
    np.testing.assert_array_equal(found[..., 0], images)
    assert found_labels == labels.tolist()


def test_a_second_build_makes_the_same_bytes(
    known: Catalogue, data: Path, mirror: Path, tmp_path: Path
) -> None:
    build(known, "mnist", mirror, tmp_path)

    made = [path for path in builders.files_under(tmp_path) if not path.startswith("mnist/")]
    assert len(made) == 7
    for path in made:
        assert (tmp_path / path).read_bytes() == (data / path).read_bytes(), path


def test_mnists_bytes_under_fashion_mnists_name_are_recognised(
    known: Catalogue, mirror: Path
) -> None:
    """The four names are the same in both: this is how the two get mixed up."""
    wanted = known.sources["fashion_mnist"].archives["t10k-images-idx3-ubyte.gz"]

    with pytest.raises(WrongBytes) as caught:
        archives.verify(mirror / "mnist" / "t10k-images-idx3-ubyte.gz", wanted, known.identify)

    for words in (
        "9fb629c4189551a2d022fa330f9573f3",
        "declares 4,422,102 bytes with MD5 bef4ecab320f06d8554ea6380940ec79",
        "Those bytes are mnist/t10k-images-idx3-ubyte.gz",
    ):
        assert words in str(caught.value)


TRACED = {"train": 8, "test": 18}  # random rows of each dataset, beside the first and the last


@pytest.fixture(scope="module")
def laid_out(
    known: Catalogue, data: Path, mirror: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same files where a data folder has them, and records of where the archives came from."""
    folder = tmp_path_factory.mktemp("laid_out")
    for name, split in SPLITS:
        for here, there in (
            (f"{name}_{split}.parquet", layout.table(name, split)),
            (f"{name}_{split}.csv", f"exports/{name}/{split}.csv"),
            (f"{name}_{split}_lmdb/data.mdb", f"exports/{name}/{split}_lmdb/data.mdb"),
        ):
            (folder / there).parent.mkdir(parents=True, exist_ok=True)
            (folder / there).symlink_to(data / here)
    for name in ("mnist", "fashion_mnist"):
        for archive in known.sources[name].archives.values():
            record_archive(folder, known.sources[name], archive, mirror / name / archive.name)
    return folder


def record_archive(data: Path, source: Source, archive: Archive, origin: Path) -> None:
    def copy(goal: Path) -> dict[str, str]:
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(origin, goal)
        return {"origin": str(origin), "retrieved": clock.now()}

    making.make(Folder(data), archives.artefact(source, archive), copy)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_random_rows_are_traced_to_the_publishers_bytes(
    known: Catalogue, laid_out: Path, mirror: Path, name: str, split: str
) -> None:
    images, labels = read_elsewhere(mirror / name, split)
    prefix = PREFIX[split]
    random = np.random.default_rng(len(name) + len(split))
    everything = plan.of(known, {"compression_level": -1})
    starts = (f"{name}/{split}", f"{name}/{split}_csv", f"{name}/{split}_lmdb")
    rows = [0, len(labels) - 1, *random.integers(0, len(labels), TRACED[split])]
    for number, index in enumerate(rows):
        chain = trace.trace(everything, Folder(laid_out), f"{starts[number % 3]}:{index}")

        assert [hop.problem for hop in chain.hops if not hop.holds] == []
        assert chain.image is not None
        np.testing.assert_array_equal(chain.image[..., 0], images[index], strict=True)
        assert chain.facts["label"] == labels[index]
        members = [(hop.path, hop.bytes) for hop in chain.hops if hop.what == "member"]
        start = 16 + 784 * index
        assert members == [
            (f"archives/{name}/{prefix}-images-idx3-ubyte.gz", (start, start + 784)),
            (f"archives/{name}/{prefix}-labels-idx1-ubyte.gz", (8 + index, 9 + index)),
        ]


# --- EMNIST ---------------------------------------------------------------------------------------

# The official members of the test split of emnist_mnist: bytes and SHA-256.
EMNIST = {
    "emnist-mnist-test-images-idx3-ubyte.gz": (
        2_484_884,
        "b25640fa9e356c618132f5df347c95ef5bae6d9c2596be1de40f7e0ae1c3eac6",
    ),
    "emnist-mnist-test-labels-idx1-ubyte.gz": (
        5_144,
        "bcc5385d38f083dba046f5f756e99b32f5ea7fad122c6243c71c2239873065ca",
    ),
}

DECLARED = """
[datasets.emnist_mnist]
title = "EMNIST MNIST"
format = "idx"
image = { height = 28, width = 28, channels = 1 }
orientation = "transposed"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[datasets.emnist_mnist.splits.test]
records = 10_000
counts = [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]
images = "gzip.zip/gzip/emnist-mnist-test-images-idx3-ubyte.gz"
labels = "gzip.zip/gzip/emnist-mnist-test-labels-idx1-ubyte.gz"
"""


@pytest.fixture(scope="module")
def emnist(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test split of emnist_mnist, from a zip of the official members."""
    folder = tmp_path_factory.mktemp("emnist")
    found = [mirror / "emnist" / name for name in EMNIST]
    if not all(path.exists() for path in found):
        pytest.skip("the mirror has no members of EMNIST")
    packed = builders.zipped({f"gzip/{path.name}": path.read_bytes() for path in found})
    (folder / "gzip.zip").write_bytes(packed)
    facts = "".join(
        f'\n[members."gzip.zip/gzip/{name}"]\nbytes = {size}\nsha256 = "{sha256}"\n'
        for name, (size, sha256) in EMNIST.items()
    )
    (folder / "emnist.toml").write_text(builders.declare({"gzip.zip": packed}) + DECLARED + facts)
    known = catalogue.load(folder)
    dataset = known.datasets["emnist_mnist"]
    table = folder / "test.parquet"
    tables.write(known.sources["emnist"], dataset, dataset.splits["test"], folder, table)
    return table


def test_emnist_is_turned_upright(emnist: Path, mirror: Path) -> None:
    with gzip.open(mirror / "emnist" / "emnist-mnist-test-images-idx3-ubyte.gz") as file:
        stored = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)

    found = tables.read(emnist)

    for at in (0, 1, 5_000, -1):
        assert found.images[at, ..., 0].tolist() == [list(row) for row in stored[at].T]
    np.testing.assert_array_equal(found.images[..., 0], np.swapaxes(stored, 1, 2))
    ones = found.images[found.labels == 1][..., 0].mean(axis=0)
    rows, columns = (ones.sum(axis=axis) > 0.2 * ones.sum(axis=axis).max() for axis in (1, 0))
    assert rows.sum() > columns.sum()  # a 1 is taller than it is wide


def test_emnist_has_the_known_counts_and_moments(emnist: Path, tmp_path: Path) -> None:
    statistics.write([emnist], tmp_path / "statistics.parquet")

    *classes, whole = pl.read_parquet(tmp_path / "statistics.parquet").rows(named=True)

    assert [row["records"] for row in classes] == [1000] * 10
    assert whole["mean_intensity"] / 255 == pytest.approx(0.17345932472989195, rel=1e-12)
    assert whole["std_intensity"] / 255 == pytest.approx(0.331681061626976, rel=1e-12)


def test_random_rows_of_emnist_are_traced_to_the_publishers_bytes(
    emnist: Path, mirror: Path, tmp_path: Path
) -> None:
    known = catalogue.load(emnist.parent)
    source = known.sources["emnist"]
    record_archive(tmp_path, source, source.archives["gzip.zip"], emnist.with_name("gzip.zip"))
    with gzip.open(mirror / "emnist" / "emnist-mnist-test-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(mirror / "emnist" / "emnist-mnist-test-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)

    for index in [0, 9_999, *np.random.default_rng(0).integers(0, 10_000, 18)]:
        chain = trace.trace(
            plan.of(known, {"compression_level": -1}), Folder(tmp_path), f"{emnist}:{index}"
        )

        assert [hop.problem for hop in chain.hops if not hop.holds] == []
        assert chain.image is not None
        np.testing.assert_array_equal(chain.image[..., 0], images[index].T, strict=True)
        assert chain.facts["label"] == labels[index]


EMNIST_LABELS = [
    (name, split)
    for name in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    for split in ("train", "test")
]


@pytest.mark.parametrize(("name", "split"), EMNIST_LABELS)
def test_the_labels_of_emnist_are_those_that_the_catalogue_declares(
    known: Catalogue, mirror: Path, name: str, split: str
) -> None:
    path = mirror / "emnist" / f"emnist-{name}-{split}-labels-idx1-ubyte.gz"
    if not path.exists():
        pytest.skip(f"the mirror has no {path.name}")
    dataset = known.datasets[f"emnist_{name}"]
    declared = dataset.splits[split]
    [member] = declared.members["labels"]
    packed = path.read_bytes()

    labels = np.frombuffer(gzip.decompress(packed), np.uint8, offset=8)

    assert member.facts is not None
    assert member.facts.size_bytes == len(packed)
    assert member.facts.sha256 == hashlib.sha256(packed).hexdigest()
    assert len(labels) == declared.records
    assert labels.min() == dataset.first_label
    assert np.bincount(labels)[dataset.first_label :].tolist() == list(declared.counts)


@pytest.mark.parametrize("name", ["byclass", "bymerge", "balanced", "letters", "digits", "mnist"])
def test_the_classes_of_emnist_are_those_of_its_mapping(
    known: Catalogue, mirror: Path, name: str
) -> None:
    path = mirror / "emnist" / f"emnist-{name}-mapping.txt"
    if not path.exists():
        pytest.skip(f"the mirror has no {path.name}")
    dataset = known.datasets[f"emnist_{name}"]

    lines = [list(map(int, line.split())) for line in path.read_text().splitlines() if line]

    assert [label for label, *_ in lines] == [
        dataset.first_label + number for number in range(len(dataset.classes))
    ]
    assert [chr(code) for _, code, *_ in lines] == list(dataset.classes)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_no_two_images_are_the_same(data: Path, name: str) -> None:
    # So counted by others too; Fashion-MNIST's release of 2017-08-26 had 44 pairs and 10 leaks.
    paths = [data / f"{name}_{split}.parquet" for split in ("train", "test")]

    assert duplicates.find(paths).is_empty()


# CIFAR-100's byte-identical images as others have counted them, and how many of these pairs are
# labelled in two ways: within train, within test, and of a test image with one of train.
SAME_IN_TRAIN = {
    (4348, 30931),
    (8393, 36874),
    (8599, 22657),
    (9012, 31128),
    (16646, 31828),
    (17688, 41874),
    (18461, 46752),
    (20635, 32666),
    (23947, 33638),
    (25218, 46851),
    (27737, 47636),
    (28293, 41860),
    (30418, 47806),
    (31227, 34187),
}
SAME_IN_TEST = {(3438, 7715), (4654, 6709)}
LEAKED = {
    (1100, 24083),
    (1357, 32205),
    (2615, 28538),
    (2996, 30697),
    (3499, 28189),
    (3932, 21619),
    (4716, 29363),
    (5564, 25390),
    (6526, 37654),
    (9524, 15597),
}


def test_the_duplicates_of_cifar100_are_the_known_ones(
    known: Catalogue, mirror: Path, tmp_path: Path
) -> None:
    dataset = known.datasets["cifar100"]
    source = known.source_of(dataset)
    if not (mirror / "cifar100" / "cifar-100-binary.tar.gz").exists():
        pytest.skip("the mirror has no cifar100/cifar-100-binary.tar.gz")
    test, train = (tmp_path / f"{split}.parquet" for split in ("test", "train"))
    for path in (test, train):
        tables.write(source, dataset, dataset.splits[path.stem], mirror / "cifar100", path)

    for paths, pairs, in_two_ways in (
        ([train], SAME_IN_TRAIN, 9),
        ([test], SAME_IN_TEST, 2),
        ([test, train], LEAKED, 6),
    ):
        found = duplicates.find(paths)
        groups = duplicates.across_splits(found) if len(paths) > 1 else found
        assert {tuple(group) for group in groups.group_by("group").agg("index")["index"]} == pairs
        assert (~duplicates.by_group(groups)["is_consistent"]).sum() == in_two_ways


@pytest.mark.parametrize("by", ['"members"', "7000"])
def test_a_split_in_parts_of_its_pixels_has_the_figures_of_mnist(
    data: Path, tmp_path: Path, by: str
) -> None:
    """A source in parts whose bytes others know: MNIST's digits, an NPY file for each."""
    whole = tables.read(data / "mnist_train.parquet")
    digits = [whole.images[whole.labels == digit].reshape(-1, 784) for digit in range(10)]
    published = parts.publish_images(tmp_path, digits, [str(digit) for digit in range(10)], by)
    store = Folder(tmp_path / "data")
    made = published.build(store)

    in_order = np.concatenate(digits)
    found = tables.read(store.local("tables/drawings/train.json"))
    assert np.array_equal(found.images.reshape(-1, 784), in_order)
    rows = pl.read_parquet(store.local("statistics/drawings.parquet"))
    assert rows["records"].to_list() == [*COUNTS["mnist", "train"], 60_000]
    mean, std = rows.select("mean_intensity", "std_intensity").row(-1)
    assert (mean / 255, std / 255) == pytest.approx(MOMENTS["mnist", "train"], rel=1e-12)
    assert all(finding.passed for one in made.values() for finding in one.findings)
    assert trace.trace(published.plan, store, "drawings/train:54321").holds
