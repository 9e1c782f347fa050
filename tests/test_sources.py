"""The sources made on request: as published, and built of small members that are laid out alike.

Figures were taken from the publishers' pages and files and from other libraries; nothing here is
read off the catalogue. What their own archives hold is looked at in `test_official_sources`.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import itertools
import lzma
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import plan, wording
from pipelines.declarations import Archive, Catalogue, Dataset, Member, Source, Split
from pipelines.errors import CatalogueError, UnknownName
from pipelines.lineage import trace, verify
from pipelines.progress import Display
from pipelines.store import Folder, layout
from tests import builders, published

Array = npt.NDArray[Any]

ARCHIVES: dict[str, tuple[int | None, str | None, str | None]] = {
    "kmnist/train-images-idx3-ubyte.gz": (
        18_165_135,
        "bdb82020997e1d708af4cf47b453dcf7",
        "51467d22",
    ),
    "kmnist/train-labels-idx1-ubyte.gz": (
        29_497,
        "e144d726b3acfaa3e44228e80efcd344",
        "e38f9ebc",
    ),
    "kmnist/t10k-images-idx3-ubyte.gz": (
        3_041_136,
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "edd7a857",
    ),
    "kmnist/t10k-labels-idx1-ubyte.gz": (
        5_120,
        "7320c461ea6c1c855c0b718fb2a4b134",
        "20bb9a0e",
    ),
    "kannada_mnist/X_kannada_MNIST_train-idx3-ubyte.gz": (
        None,
        "db2cd247b479801b3a882ab980b340c3",
        None,
    ),
    "kannada_mnist/y_kannada_MNIST_train-idx1-ubyte.gz": (
        199,
        "f1f06031670554894b697988b906b036",
        "ef11e1d3",
    ),
    "kannada_mnist/X_kannada_MNIST_test-idx3-ubyte.gz": (
        1_120_203,
        "8682876e8fbc8cd0e7bb07fc2f502335",
        "4628f3fa",
    ),
    "kannada_mnist/y_kannada_MNIST_test-idx1-ubyte.gz": (
        103,
        "b426d27d50a5fd8411b9e5838868be4b",
        "645db590",
    ),
    "kannada_mnist/X_dig_MNIST-idx3-ubyte.gz": (
        1_395_287,
        "d224f44185e453487ad5af34e201a87c",
        "abda37c5",
    ),
    "kannada_mnist/y_dig_MNIST-idx1-ubyte.gz": (
        92,
        "9f9e1a4ecb080d70c5953eed2d8121f0",
        "321fa413",
    ),
    "qmnist/qmnist-train-images-idx3-ubyte.gz": (
        9_704_059,
        "ed72d4157d28c017586c42bc6afe6370",
        "9e26a7bf",
    ),
    "qmnist/qmnist-train-labels-idx2-int.gz": (
        463_024,
        "0058f8dd561b90ffdd0f734c6a30e5e4",
        "2c05dc77",
    ),
    "qmnist/qmnist-test-images-idx3-ubyte.gz": (
        9_742_279,
        "1394631089c404de565df7b7aeaf9412",
        "43fc22bf",
    ),
    "qmnist/qmnist-test-labels-idx2-int.gz": (
        526_800,
        "5b5b05890a5e13444e108efe57b788aa",
        "9fbcbe59",
    ),
    "qmnist/xnist-images-idx3-ubyte.xz": (
        51_325_860,
        "7f124b3b8ab81486c9d8c2749c17f834",
        "f0755539",
    ),
    "qmnist/xnist-labels-idx2-int.xz": (
        958_144,
        "5ed0e788978e45d4a8bd4b7caec3d79d",
        "db042968",
    ),
    "svhn/train_32x32.mat": (
        182_040_794,
        "e26dedcc434d2e4c54c9b2d4a06d8373",
        "435e94d6",
    ),
    "svhn/test_32x32.mat": (
        64_275_384,
        "eb5a983be6a315427106f1b164d9cef3",
        "cdce80df",
    ),
    "svhn/extra_32x32.mat": (
        1_329_278_602,
        "a93ce644f1a588dc4d68dda5feec44a7",
        "a133a4be",
    ),
    "usps/usps.bz2": (
        6_579_383,
        "ec16c51db3855ca6c91edd34d0e9b197",
        "3771e9dd",
    ),
    "usps/usps.t.bz2": (
        1_831_726,
        "8ea070ee2aca1ac39742fdd1ef5ed118",
        "a9c0164e",
    ),
    "stl10/stl10_binary.tar.gz": (
        2_640_397_119,
        "91f7769df0f17e558f3565bffb0c7dfb",
        "f31fd992",
    ),
    "cifar10_c/CIFAR-10-C.tar": (
        2_918_471_680,
        "56bf5dcef84df0e2308c6dcbcbbd8499",
        "c72763e1",
    ),
    "cifar10_1/cifar10.1_v4_data.npy": (
        6_208_640,
        None,
        "5aaedc26",
    ),
    "cifar10_1/cifar10.1_v4_labels.npy": (
        8_212,
        "6b7b8e6d26b5addd368440d9e0a24ead",
        "1f954430",
    ),
    "cifar10_1/cifar10.1_v6_data.npy": (
        6_144_128,
        None,
        "2997188e",
    ),
    "cifar10_1/cifar10.1_v6_labels.npy": (
        8_128,
        "09a97fb7c430502fcbd69d95093a3f85",
        "ae40beda",
    ),
    "semeion/semeion.data": (
        2_889_702,
        "cb545d371d2ce14ec121470795a77432",
        "f43228ae",
    ),
    "pathmnist/pathmnist.npz": (
        205_615_438,
        "a8b06965200029087d5bd730944a56c1",
        "81823f52",
    ),
    "pathmnist_64/pathmnist_64.npz": (
        None,
        "55aa9c1e0525abe5a6b9d8343a507616",
        None,
    ),
    "pathmnist_128/pathmnist_128.npz": (
        None,
        "ac42d08fb904d92c244187169d1fd1d9",
        None,
    ),
    "pathmnist_224/pathmnist_224.npz": (
        None,
        "2c51a510bcdc9cf8ddb2af93af1eadec",
        None,
    ),
    "dermamnist/dermamnist.npz": (
        None,
        "0744692d530f8e62ec473284d019b0c7",
        "1a309fec",
    ),
    "dermamnist_64/dermamnist_64.npz": (
        None,
        "b70a2f5635c6199aeaa28c31d7202e1f",
        None,
    ),
    "dermamnist_128/dermamnist_128.npz": (
        None,
        "2defd784463fa5243564e855ed717de1",
        None,
    ),
    "dermamnist_224/dermamnist_224.npz": (
        None,
        "8974907d8e169bef5f5b96bc506ae45d",
        None,
    ),
    "bloodmnist/bloodmnist.npz": (
        None,
        "7053d0359d879ad8a5505303e11de1dc",
        "062023e1",
    ),
    "bloodmnist_64/bloodmnist_64.npz": (
        None,
        "2b94928a2ae4916078ca51e05b6b800b",
        None,
    ),
    "bloodmnist_128/bloodmnist_128.npz": (
        None,
        "adace1e0ed228fccda1f39692059dd4c",
        None,
    ),
    "bloodmnist_224/bloodmnist_224.npz": (
        None,
        "b718ff6835fcbdb22ba9eacccd7b2601",
        None,
    ),
    "retinamnist/retinamnist.npz": (
        None,
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        None,
    ),
    "retinamnist_64/retinamnist_64.npz": (
        None,
        "afda852cc34dcda56f86ad2b2457dbcc",
        None,
    ),
    "retinamnist_128/retinamnist_128.npz": (
        None,
        "e48e916a24454daf90583d4e6efb1a18",
        None,
    ),
    "retinamnist_224/retinamnist_224.npz": (
        None,
        "eae7e3b6f3fcbda4ae613ebdcbe35348",
        None,
    ),
    "organamnist/organamnist.npz": (None, "68e3f8846a6bd62f0c9bf841c0d9eacc", None),
    "organcmnist/organcmnist.npz": (None, "b9ceb9546e10131b32923c5bbeaea2b1", None),
    "organsmnist/organsmnist.npz": (None, "9ab87b696fb54e2a387ebe992d6ed5f1", None),
    "breastmnist/breastmnist.npz": (
        559_580,
        "750601b1f35ba3300ea97c75c52ff8f6",
        "3a22d2a4",
    ),
    "breastmnist_64/breastmnist_64.npz": (
        None,
        "742edef2a1fd1524b2efff4bd7ba9364",
        None,
    ),
    "breastmnist_128/breastmnist_128.npz": (
        None,
        "363e4b3f8d712e9b5de15470a2aaadf1",
        None,
    ),
    "breastmnist_224/breastmnist_224.npz": (
        None,
        "b56378a6eefa9fed602bb16d192d4c8b",
        None,
    ),
    "pneumoniamnist/pneumoniamnist.npz": (
        4_170_669,
        "28209eda62fecd6e6a2d98b1501bb15f",
        "e1792d3f",
    ),
    "pneumoniamnist_64/pneumoniamnist_64.npz": (
        None,
        "8f4eceb4ccffa70c672198ea285246c6",
        None,
    ),
    "pneumoniamnist_128/pneumoniamnist_128.npz": (
        None,
        "05b46931834c231683c68f40c47b2971",
        None,
    ),
    "pneumoniamnist_224/pneumoniamnist_224.npz": (
        None,
        "d6a3c71de1b945ea11211b03746c1fe1",
        None,
    ),
}

RECORDS: dict[str, dict[str, tuple[int, list[int]]]] = {
    "kmnist": {
        "train": (60_000, [6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000]),
        "test": (10_000, [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]),
    },
    "qmnist": {
        "train": (60_000, [5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949]),
        "test": (60_000, [5_952, 6_791, 6_026, 6_084, 5_780, 5_454, 5_957, 6_231, 5_890, 5_835]),
        "test10k": (10_000, [980, 1_135, 1_032, 1_010, 982, 892, 958, 1_028, 974, 1_009]),
        "test50k": (50_000, [4_972, 5_656, 4_994, 5_074, 4_798, 4_562, 4_999, 5_203, 4_916, 4_826]),
        "nist": (
            402_953,
            [40_363, 44_704, 40_072, 41_112, 39_154, 36_606, 39_937, 41_893, 39_579, 39_533],
        ),
    },
    "svhn": {
        "train": (73_257, [4_948, 13_861, 10_585, 8_497, 7_458, 6_882, 5_727, 5_595, 5_045, 4_659]),
        "test": (26_032, [1_744, 5_099, 4_149, 2_882, 2_523, 2_384, 1_977, 2_019, 1_660, 1_595]),
        "extra": (531_131, []),
    },
    "usps": {
        "train": (7_291, [1_194, 1_005, 731, 658, 652, 556, 664, 645, 542, 644]),
        "test": (2_007, [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]),
    },
    "stl10": {
        "train": (5_000, [500, 500, 500, 500, 500, 500, 500, 500, 500, 500]),
        "test": (8_000, [800, 800, 800, 800, 800, 800, 800, 800, 800, 800]),
        "unlabeled": (100_000, []),
    },
    "semeion": {
        "all": (1_593, [161, 162, 159, 159, 161, 159, 161, 158, 155, 158]),
    },
    "kannada_mnist": {
        "train": (60_000, [6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000, 6_000]),
        "test": (10_000, [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]),
    },
    "dig_mnist": {
        "test": (10_240, [1_024, 1_024, 1_024, 1_024, 1_024, 1_024, 1_024, 1_024, 1_024, 1_024]),
    },
    "cifar10_1_v4": {
        "test": (2_021, [208, 212, 202, 212, 204, 218, 192, 210, 161, 202]),
    },
    "cifar10_1_v6": {
        "test": (2_000, [200, 200, 200, 200, 200, 200, 200, 200, 200, 200]),
    },
    "pathmnist": {
        "train": (89_996, [9_366, 9_509, 10_360, 10_401, 8_006, 12_182, 7_886, 9_401, 12_885]),
        "val": (10_004, [1_041, 1_057, 1_152, 1_156, 890, 1_354, 877, 1_045, 1_432]),
        "test": (7_180, [1_338, 847, 339, 634, 1_035, 592, 741, 421, 1_233]),
    },
    "dermamnist": {
        "train": (7_007, [228, 359, 769, 80, 779, 4_693, 99]),
        "val": (1_003, [33, 52, 110, 12, 111, 671, 14]),
        "test": (2_005, [66, 103, 220, 23, 223, 1_341, 29]),
    },
    "bloodmnist": {
        "train": (11_959, [852, 2_181, 1_085, 2_026, 849, 993, 2_330, 1_643]),
        "val": (1_712, [122, 312, 155, 290, 122, 143, 333, 235]),
        "test": (3_421, [244, 624, 311, 579, 243, 284, 666, 470]),
    },
    "retinamnist": {
        "train": (1_080, [486, 128, 206, 194, 66]),
        "val": (120, [54, 12, 28, 20, 6]),
        "test": (400, [174, 46, 92, 68, 20]),
    },
    "breastmnist": {
        "train": (546, [147, 399]),
        "val": (78, [21, 57]),
        "test": (156, [42, 114]),
    },
    "pneumoniamnist": {
        "train": (4_708, [1_214, 3_494]),
        "val": (524, [135, 389]),
        "test": (624, [234, 390]),
    },
    # How many are of each class is not known.
    "organamnist": {"train": (34_561, []), "val": (6_491, []), "test": (17_778, [])},
    "organcmnist": {"train": (12_975, []), "val": (2_392, []), "test": (8_216, [])},
    "organsmnist": {"train": (13_932, []), "val": (2_452, []), "test": (8_827, [])},
}


# Of each: channels, height and width; the first class and the last; and what of it is not as usual.
SHAPES = {
    "kmnist": ("28×28", "o", "wo"),
    "kannada_mnist": ("28×28", "0", "9"),
    "dig_mnist": ("28×28", "0", "9"),
    "qmnist": ("28×28", "0", "9"),
    "svhn": ("32×32×3", "0", "9"),
    "usps": ("16×16", "0", "9"),
    "stl10": ("96×96×3", "airplane", "truck"),
    "cifar10_1_v4": ("32×32×3", "airplane", "truck"),
    "cifar10_1_v6": ("32×32×3", "airplane", "truck"),
    "cifar10_c": ("32×32×3", "airplane", "truck"),
    "semeion": ("16×16", "0", "9"),
    "pathmnist": ("28×28×3", "adipose", "colorectal adenocarcinoma epithelium"),
    "dermamnist": (
        "28×28×3",
        "actinic keratoses and intraepithelial carcinoma",
        "vascular lesions",
    ),
    "bloodmnist": ("28×28×3", "basophil", "platelet"),
    "retinamnist": ("28×28×3", "0", "4"),
    "breastmnist": ("28×28", "malignant", "normal, benign"),
    "pneumoniamnist": ("28×28", "normal", "pneumonia"),
    "organamnist": ("28×28", "bladder", "spleen"),
    "organcmnist": ("28×28", "bladder", "spleen"),
    "organsmnist": ("28×28", "bladder", "spleen"),
}
MEDMNIST = (
    *("pathmnist", "dermamnist", "bloodmnist", "retinamnist", "breastmnist", "pneumoniamnist"),
)

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression", "gaussian_blur", "saturate"),
    *("spatter", "speckle_noise"),
)

# Where the records of a split stand; of those that are told apart by their names alone, one.
MEMBERS = {
    "kmnist/test": ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
    "kannada_mnist/train": [
        "X_kannada_MNIST_train-idx3-ubyte.gz",
        "y_kannada_MNIST_train-idx1-ubyte.gz",
    ],
    "dig_mnist/test": ["X_dig_MNIST-idx3-ubyte.gz", "y_dig_MNIST-idx1-ubyte.gz"],
    "qmnist/train": ["qmnist-train-images-idx3-ubyte.gz", "qmnist-train-labels-idx2-int.gz"],
    "qmnist/test50k": ["qmnist-test-images-idx3-ubyte.gz", "qmnist-test-labels-idx2-int.gz"],
    "qmnist/nist": ["xnist-images-idx3-ubyte.xz", "xnist-labels-idx2-int.xz"],
    "svhn/extra": ["extra_32x32.mat", "extra_32x32.mat"],
    "usps/test": ["usps.t.bz2"],
    "stl10/test": [
        "stl10_binary.tar.gz/stl10_binary/test_X.bin",
        "stl10_binary.tar.gz/stl10_binary/test_y.bin",
    ],
    "stl10/fold_10": [
        "stl10_binary.tar.gz/stl10_binary/train_X.bin",
        "stl10_binary.tar.gz/stl10_binary/train_y.bin",
    ],
    "stl10/unlabeled": ["stl10_binary.tar.gz/stl10_binary/unlabeled_X.bin"],
    "cifar10_1_v4/test": ["cifar10.1_v4_data.npy", "cifar10.1_v4_labels.npy"],
    "cifar10_1_v6/test": ["cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"],
    "cifar10_c/fog_2": [
        "CIFAR-10-C.tar/CIFAR-10-C/fog.npy",
        "CIFAR-10-C.tar/CIFAR-10-C/labels.npy",
    ],
    "semeion/all": ["semeion.data"],
    "pathmnist/val": ["pathmnist.npz/val_images.npy", "pathmnist.npz/val_labels.npy"],
    "bloodmnist_224/test": [
        "bloodmnist_224.npz/test_images.npy",
        "bloodmnist_224.npz/test_labels.npy",
    ],
}


@pytest.fixture(scope="module")
def built_in() -> Catalogue:
    return plan.load(BUILT_IN_CATALOGUE)


def on_request() -> Iterator[Dataset]:
    """The datasets made on request, but Quick, Draw! and images, which have tests of their own."""
    known = plan.load(BUILT_IN_CATALOGUE)
    for dataset in known.datasets.values():
        if known.source_of(dataset).on_request and not (
            dataset.is_in_parts or dataset.format == "images"
        ):
            yield dataset


NAMES = [dataset.name for dataset in on_request() if "@" not in dataset.name]
VERSIONS = [dataset.name for dataset in on_request() if "@" in dataset.name]

# Of versions that are not current: files, their hashes (of each as much as makes it out), records.
OLDER = {
    "fashion_mnist@1": (
        ("e875a300", "8915284f", "0ecc63ba", "9171a271"),
        {"train": 60_000, "test": 10_000},
    ),
    "fashion_mnist@2": (
        ("95c6f534", "c25fcebc", "1612d727", "db06173b"),
        {"train": 60_000, "test": 10_000},
    ),
    "organamnist@2.2.3": (("866b832e",), {"train": 34_581, "val": 6_491, "test": 17_778}),
    "organcmnist@2.2.3": (("0afa5834",), {"train": 13_000, "val": 2_392, "test": 8_268}),
    "organsmnist@2.2.3": (("e5c39f1a",), {"train": 13_940, "val": 2_452, "test": 8_829}),
}


# --- as published ---------------------------------------------------------------------------------


def test_there_are_figures_of_every_dataset_that_is_declared() -> None:
    sizes = {f"{name}_{size}" for name in MEDMNIST for size in (64, 128, 224)}

    assert {*NAMES} == {*RECORDS, "cifar10_c"} | sizes


def test_older_versions_are_what_their_publishers_repositories_tell(built_in: Catalogue) -> None:
    found = {}
    for name in VERSIONS:
        dataset = built_in.datasets[name]
        source = built_in.source_of(dataset)
        hashes = tuple((one.md5 or one.git_blob or "")[:8] for one in source.archives.values())
        found[name] = (hashes, {key: one.records for key, one in dataset.splits.items()})

    assert found == OLDER


def test_their_archives_are_those_that_others_pin(built_in: Catalogue) -> None:
    found = {
        f"{source.name}/{archive.name}": (
            archive.size_bytes,
            archive.md5,
            archive.sha256 and archive.sha256[:8],
        )
        for source in built_in.sources.values()
        if {*source.datasets} & {*NAMES}
        for archive in source.archives.values()
    }

    assert found == ARCHIVES


@pytest.mark.parametrize("name", RECORDS)
def test_they_have_the_published_records(built_in: Catalogue, name: str) -> None:
    splits = built_in.datasets[name].splits

    found = {key: (split.records, [*split.counts]) for key, split in splits.items()}

    assert {key: found[key] for key in RECORDS[name]} == RECORDS[name]
    assert {key for key in found if not key.startswith("fold_")} == {*RECORDS[name]}


@pytest.mark.parametrize("name", SHAPES)
def test_they_have_the_published_shapes_and_classes(built_in: Catalogue, name: str) -> None:
    dataset = built_in.datasets[name]

    assert (str(dataset.image), dataset.classes[0], dataset.classes[-1]) == SHAPES[name]


def test_the_folds_of_stl_10_are_ten_draws_of_1000_records_of_train(built_in: Catalogue) -> None:
    splits = built_in.datasets["stl10"].splits
    folds = [splits[f"fold_{number}"] for number in range(1, 11)]

    assert [fold.rows and fold.rows.line for fold in folds] == [*range(1, 11)]
    assert {(fold.records, fold.rows and fold.rows.of) for fold in folds} == {(1_000, 5_000)}
    assert {str(fold.rows and fold.rows.member) for fold in folds} == {
        "stl10_binary.tar.gz/stl10_binary/fold_indices.txt"
    }


def test_cifar_10_c_has_19_corruptions_at_five_severities(built_in: Catalogue) -> None:
    splits = built_in.datasets["cifar10_c"].splits
    wanted = {f"{name}_{1 + at}": (name, 10_000 * at) for name in CORRUPTIONS for at in range(5)}

    assert {*splits} == {*wanted}
    for key, (name, first) in wanted.items():
        split = splits[key]
        [images] = split.members["images"]
        assert images.path == f"CIFAR-10-C/{name}.npy"
        assert split.rows
        assert (split.rows.first, split.rows.of, split.records) == (first, 50_000, 10_000)
        assert split.counts == (1_000,) * 10


def test_qmnist_has_its_parts_of_test_and_the_columns_of_its_readme(built_in: Catalogue) -> None:
    dataset = built_in.datasets["qmnist"]
    rows = {name: split.rows and split.rows.first for name, split in dataset.splits.items()}

    assert rows == {"train": None, "test": None, "test10k": 0, "test50k": 10_000, "nist": None}
    assert [*dataset.columns] == [
        *("label", "hsf_series", "writer", "writer_digit"),
        *("nist_class", "nist_index", "duplicate_of", "unused"),
    ]


@pytest.mark.parametrize("name", MEMBERS)
def test_records_stand_where_their_publishers_put_them(built_in: Catalogue, name: str) -> None:
    dataset, _, split = name.partition("/")
    members = built_in.datasets[dataset].splits[split].members

    assert [str(member) for some in members.values() for member in some] == MEMBERS[name]


def test_labels_are_the_publishers(built_in: Catalogue) -> None:
    """SVHN's 10 is digit 0, but USPS's is digit 9, and STL-10's is truck."""
    datasets = built_in.datasets

    assert datasets["svhn"].class_labels == (10, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    first = {name for name in NAMES if datasets[name].first_label}
    assert first == {"usps", "stl10"}
    assert {name for name in NAMES if datasets[name].orientation == "transposed"} == {"stl10"}


def test_constants_are_given_where_they_can_be_trusted_alone(built_in: Catalogue) -> None:
    constants = {name: built_in.datasets[name] for name in NAMES if built_in.datasets[name].mean}

    assert [*constants] == ["usps"]
    assert (constants["usps"].mean, constants["usps"].std) == ((0.2469,), (0.2989,))


def test_nobody_gets_any_of_them_who_names_nothing(built_in: Catalogue) -> None:
    assert not {*NAMES} & {dataset.name for dataset in built_in.by_default}
    assert len(built_in.by_default) == 10


def test_who_wants_one_set_of_medmnist_needs_no_archive_of_another(built_in: Catalogue) -> None:
    sizes = [f"{name}_224" for name in MEDMNIST]

    assert [one.name for one in built_in.select(["medmnist"])] == [*MEDMNIST]
    assert [one.name for one in built_in.select(["medmnist_224"])] == sizes
    source = built_in.source_of(built_in.datasets["breastmnist"])
    assert (source.name, [*source.archives]) == ("breastmnist", ["breastmnist.npz"])


def test_a_larger_size_is_like_the_small_one_but_for_its_image_and_its_archive(
    built_in: Catalogue,
) -> None:
    small, large = built_in.datasets["breastmnist"], built_in.datasets["breastmnist_64"]

    assert str(large.image) == "64×64"
    assert (large.classes, large.quirks) == (small.classes, small.quirks)
    for name, split in large.splits.items():
        assert (split.records, split.counts) == (
            small.splits[name].records,
            small.splits[name].counts,
        )
        assert split.archives == ("breastmnist_64.npz",)
    licences = {built_in.source_of(one).licence for one in (small, large)}
    assert licences == {"CC BY 4.0, DermaMNIST CC BY-NC 4.0"}


def test_what_licences_forbid_is_declared(built_in: Catalogue) -> None:
    forbidden = {
        name: forbids.partition(":")[0]
        for name in NAMES
        for dataset in [built_in.datasets[name]]
        if (forbids := wording.restriction(built_in.source_of(dataset), dataset))
    }
    derma = [name for name in NAMES if name.startswith("dermamnist")]

    assert forbidden == {
        "kmnist": "Share alike",
        "svhn": "For non-commercial use only.",
        **dict.fromkeys(derma, "CC BY-NC 4.0, unlike the other sets"),
    }
    assert len(derma) == 4


# --- built of small members -----------------------------------------------------------------------

FEW = 12  # records of the smallest split


@dataclass(frozen=True)
class Records:
    """What a split should have: labels counted from 0, as the table has them."""

    images: Array
    labels: Array
    extras: Mapping[str, Array]

    def at(self, rows: Array) -> Records:
        extras = {name: values[rows] for name, values in self.extras.items()}
        return Records(self.images[rows], self.labels[rows], extras)


@dataclass(frozen=True)
class Cut(published.Published):
    """A built-in dataset whose archives are small, and what its splits should have."""

    known: Catalogue
    wanted: Mapping[str, Records]

    @property
    def declared(self) -> Catalogue:
        return self.known


def of_publisher(dataset: Dataset, labels: Array) -> Array:
    """Labels as the publisher writes them."""
    known = dataset.class_labels or range(dataset.first_label, dataset.first_label + 256)
    return np.array(known)[labels]


def as_idx(dataset: Dataset, records: Records) -> dict[str, bytes]:
    labels = of_publisher(dataset, records.labels)
    if dataset.columns:
        columns = [records.extras.get(name, labels) for name in dataset.columns]
        rows = np.stack(columns, axis=1).astype(">i4")
        written = struct.pack(">4B2I", 0, 0, 0x0C, 2, *rows.shape) + rows.tobytes()
    else:
        written = builders.idx(labels.astype(np.uint8))
    return {"images": builders.idx(records.images[..., 0]), "labels": written}


def as_numpy(dataset: Dataset, records: Records) -> dict[str, bytes]:
    images = records.images if dataset.image.channels == 3 else records.images[..., 0]
    labels = of_publisher(dataset, records.labels)
    is_npz = "val" in dataset.splits
    stored = labels.astype(np.uint8)[:, np.newaxis] if is_npz else labels.astype("<i4")
    return {"images": builders.npy(images), "labels": builders.npy(stored)}


def as_planes(dataset: Dataset, records: Records) -> dict[str, bytes]:
    images = records.images.transpose(0, 3, 2, 1)
    labels = of_publisher(dataset, records.labels).astype(np.uint8)
    return {"images": images.tobytes(), "labels": labels.tobytes()}


def as_text(dataset: Dataset, records: Records) -> dict[str, bytes]:
    pixels, labels = records.images.reshape(len(records.images), -1), records.labels
    lines = []
    for row, label, said in zip(pixels, labels, of_publisher(dataset, labels), strict=True):
        if dataset.numbers and dataset.numbers.layout == "libsvm":
            values = np.minimum(row / 127.5 - 1 + 1e-6, 1)  # a little above: what is cut is cut
            numbers = [f"{at}:{value:.6f}" for at, value in enumerate(values, 1)]
            lines.append(f"{said} {' '.join(numbers)} \n")
        else:
            one_hot = [str(int(number == label)) for number in range(len(dataset.classes))]
            numbers = [f"{value / 255:.4f}" for value in row]
            lines.append(f"{' '.join((*numbers, *one_hot))} \r\n")
    return {"lines": "".join(lines).encode()}


def as_mat5(dataset: Dataset, records: Records) -> dict[str, bytes]:
    import scipy.io

    file = io.BytesIO()
    labels = of_publisher(dataset, records.labels).astype(np.uint8)[:, np.newaxis]
    arrays = {"X": records.images.transpose(1, 2, 3, 0), "y": labels}
    scipy.io.savemat(file, arrays, do_compression=True)
    return dict.fromkeys(("images", "labels"), file.getvalue())


WRITTEN: dict[str, Callable[[Dataset, Records], dict[str, bytes]]] = {
    "idx": as_idx,
    "numpy": as_numpy,
    "planes": as_planes,
    "text": as_text,
    "mat5": as_mat5,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": builders.gz,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def packed(name: str, members: Mapping[str, bytes]) -> bytes:
    """An archive of members, by what its name ends in; or the one member that it is."""
    if [*members] == [""]:
        return PACKED.get(Path(name).suffix, bytes)(members[""])
    if name.endswith((".zip", ".npz")):
        return builders.zipped(members)
    tar = builders.tarred(members)
    return tar if name.endswith(".gz") else gzip.decompress(tar)


def cut(dataset: Dataset, source: Source, folder: Path) -> Cut:
    """Publish archives of a source that hold few records, laid out as declared, of one dataset."""
    random = np.random.default_rng(len(dataset.name))
    splits, wanted = dict[str, Split](), dict[str, Records]()
    stored = dict[Member, bytes]()
    lists = dict[Member, dict[int, Array]]()
    labels: Array | None = None
    by_images = functools.partial(sorted, key=pixels_of)
    for _, some in itertools.groupby(by_images(dataset.splits.values()), pixels_of):
        group = [*some]
        sizes = [
            n
            for s in group
            for n in (s.records, *((s.rows.of, s.rows.first or 0) if s.rows else ()))
        ]
        unit = math.gcd(*sizes)
        whole = max(sizes) // unit * FEW
        if labels is None or len(labels) != whole or dataset.name != "cifar10_c":
            labels = random.integers(0, len(dataset.classes), whole)
        held = Records(
            pixels(random, dataset, whole),
            labels,
            {name: random.integers(0, 1000, whole) for name in dataset.extras},
        )
        for split in group:
            for role, data in WRITTEN[dataset.format](dataset, held).items():
                stored |= dict.fromkeys(split.members.get(role, ()), data)
            records, rows = split.records // unit * FEW, split.rows
            its = np.arange(whole)
            if rows and rows.member and rows.line:
                its = np.sort(random.permutation(whole)[:records])
                lists.setdefault(rows.member, {})[rows.line] = its
                rows = replace(rows, of=whole)
            elif rows:
                first = (rows.first or 0) // unit * FEW
                its, rows = its[first : first + records], replace(rows, of=whole, first=first)
            wanted[split.name] = held.at(its)
            counts = np.bincount(wanted[split.name].labels, minlength=len(dataset.classes))
            splits[split.name] = replace(
                split,
                records=records,
                counts=tuple(counts.tolist()) if split.counts else (),
                rows=rows,
            )
    for member, lines in lists.items():
        text = "".join(f"{' '.join(map(str, lines[line]))} \n" for line in sorted(lines))
        stored[member] = text.encode()
    small = replace(
        dataset, splits={name: splits[name] for name in dataset.splits}, mean=(), std=()
    )
    archives = dict[str, Archive]()
    (folder / source.name).mkdir(parents=True)
    for name in dict.fromkeys(member.archive for member in stored):
        data = packed(name, {m.path: stored[m] for m in stored if m.archive == name})
        (folder / source.name / name).write_bytes(data)
        archives[name] = facts(source.archives[name], data)
    made = replace(source, archives=archives, datasets={dataset.name: small})
    return Cut(folder, folder, dataset.name, Catalogue({source.name: made}), wanted)


def pixels_of(split: Split) -> str:
    return str(split.members.get("images") or next(iter(split.members.values())))


def pixels(random: np.random.Generator, dataset: Dataset, records: int) -> Array:
    some = random.integers(0, 256, (records, *dataset.image.shape)).astype(np.uint8)
    is_exact = dataset.numbers is not None and dataset.numbers.rule == "exact"
    return (some > 127).astype(np.uint8) * np.uint8(255) if is_exact else some


def facts(archive: Archive, data: bytes) -> Archive:
    """An archive of other bytes, of which as much is known as of the publisher's."""
    return replace(
        archive,
        size_bytes=archive.size_bytes and len(data),
        md5=archive.md5 and hashlib.md5(data).hexdigest(),
        sha256=archive.sha256 and hashlib.sha256(data).hexdigest(),
        git_blob=archive.git_blob and hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
    )


@pytest.mark.parametrize("name", [*NAMES, *VERSIONS])
def test_it_is_built_verified_and_traced_as_it_is_declared(
    built_in: Catalogue, name: str, tmp_path: Path
) -> None:
    dataset = built_in.datasets[name]
    small = cut(dataset, built_in.source_of(dataset), tmp_path / "mirror")
    store = Folder(tmp_path / "data")

    made = small.build(store)

    assert all(one.is_sound for one in made.values())
    for key, wanted in small.wanted.items():
        is_labelled = dataset.splits[key].labelled
        table = pl.read_parquet(store.local(layout.table(name, key)))
        found = np.frombuffer(b"".join(table["pixels"].to_list()), np.uint8)
        np.testing.assert_array_equal(found.reshape(wanted.images.shape), wanted.images)
        labels = wanted.labels.tolist() if is_labelled else [None] * len(table)
        assert table["label"].to_list() == labels
        for column, values in wanted.extras.items():
            np.testing.assert_array_equal(table[column].to_numpy(), values)
    for key in [*small.wanted][:20]:
        chain = trace.trace(small.plan, store, f"{name}/{key}:7")
        assert chain.holds, [hop.problem for hop in chain.hops]
        np.testing.assert_array_equal(chain.image, small.wanted[key].images[7])
    verdicts = verify.verify(store, small.plan, [small.dataset], Display(), deep=True)
    assert {verdict.condition for verdict in verdicts} == {"whole"}
    assert sum("tables/" in verdict.path for verdict in verdicts) == len(dataset.splits)


# --- files and datasets that are like others, and datasets that are apart -------------------------

SHEETS = """
title = "Sheets"
homepage = "https://example.org/"
citation = "@misc{sheets}"
licence = "L"
acknowledgements = "Made up."
mirrors = []
apart = true

[archives]
"one.npz" = { md5 = "00000000000000000000000000000001" }
"two.npz" = { md5 = "00000000000000000000000000000002" }

[defaults]
format = "numpy"
image = { height = 4, width = 4, channels = 1 }
each_split = { images = "{dataset}.npz/{split}_x.npy", labels = "{dataset}.npz/{split}_y.npy" }

[datasets.one]
title = "One"
classes = ["a", "b"]
splits = { train = { records = 3 }, test = { records = 2 } }
mean = [0.5]
std = [0.1]

[datasets.two]
like = "one"
title = "Two"
"""
LARGE = """
like = "sheets"
title = "Large sheets"

[archives]
"one_large.npz" = { md5 = "00000000000000000000000000000003" }

[datasets.one_large]
like = "one"
title = "One, large"
image = { height = 8, width = 8, channels = 1 }
"""


def declared(folder: Path, sheets: str = SHEETS, large: str = LARGE) -> Catalogue:
    (folder / "sheets.toml").write_text(sheets)
    (folder / "a_large.toml").write_text(large)
    return plan.load(folder)


def test_what_is_like_another_says_what_differs(tmp_path: Path) -> None:
    found = declared(tmp_path)

    two, large = found.datasets["two"], found.datasets["one_large"]
    assert (two.title, two.classes, two.mean) == ("Two", ("a", "b"), ())
    assert [str(member) for member in two.splits["test"].members["labels"]] == [
        "two.npz/test_y.npy"
    ]
    assert (large.title, str(large.image), large.classes) == ("One, large", "8×8", ("a", "b"))
    assert large.splits["train"].archives == ("one_large.npz",)
    source = found.source_of(large)
    assert (source.title, source.licence, source.apart) == ("Large sheets", "L", True)
    assert [*source.archives] == ["one_large.npz"]


def test_datasets_that_are_apart_are_sources_that_go_by_their_file_together(tmp_path: Path) -> None:
    found = declared(tmp_path)

    assert {name: [*source.archives] for name, source in found.sources.items()} == {
        "one": ["one.npz"],
        "two": ["two.npz"],
        "one_large": ["one_large.npz"],
    }
    assert [one.name for one in found.select(["sheets"])] == ["one", "two"]
    assert [one.name for one in found.select(["a_large"])] == ["one_large"]
    with pytest.raises(UnknownName, match="Did you mean 'sheets'"):
        found.select(["sheet"])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            'like = "sheets"',
            'like = "sheet"',
            "a_large.toml: like: there is nothing called 'sheet'",
        ),
        ('like = "sheets"', "like = 3", "a_large.toml: like: there is nothing called 3"),
        ('like = "sheets"', 'like = "../sheets"', "there is nothing called '../sheets'"),
        ('like = "one"', 'like = "on"', "datasets.one_large.like: .* 'on'. Did you mean 'one'"),
        ('like = "one"', 'like = "two"', "two is like another one itself; name 'one'"),
        ('like = "one"', 'lke = "one"', "datasets.one_large.lke: unknown key. Did you mean 'like'"),
    ],
)
def test_what_nothing_can_be_like_is_refused(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in LARGE
    with pytest.raises(CatalogueError, match=said):
        declared(tmp_path, large=LARGE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "[archives]",
            '[archives]\n"six.npz" = { md5 = "00000000000000000000000000000006" }',
            "each archive has to be read by one dataset, and none read.s. six.npz",
        ),
        (
            'title = "Two"',
            'title = "Two"\neach_split = { images = "one.npz/x", labels = "one.npz/y" }',
            "each archive has to be read by one dataset, and 2 read.s. one.npz",
        ),
    ],
)
def test_archives_that_are_not_of_one_dataset_keep_them_from_being_apart(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in SHEETS
    with pytest.raises(CatalogueError, match=said):
        declared(tmp_path, SHEETS.replace(before, after))
