"""The library's parts for PyTorch, TensorFlow and Grain, with these frameworks themselves."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines as imagesets
import pipelines.grain
import pipelines.tensorflow
import pipelines.torch
from tests.readers import places
from tests.readers.places import ROOT, At, Records
from tests.readers.readings import DATASETS

OFFICIAL = pytest.mark.skipif(not places.MIRROR, reason="official archives: set IMAGESETS_MIRROR")
SETS = [
    *(pytest.param((False, name), id=f"small-{name}") for name in DATASETS),
    *(
        pytest.param((True, name), id=f"official-{name}", marks=OFFICIAL)
        for name in ("mnist", "fashion_mnist")
    ),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A data folder for the official datasets, and one for small copies."""
    return {official: tmp_path_factory.mktemp("data") for official in (False, True)}


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, folders: dict[bool, Path], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Have the library find a dataset; return its name."""
    official, dataset = getattr(request, "param", (False, "mnist"))
    variables = {
        "IMAGESETS_DATA": str(folders[official]),
        "IMAGESETS_MIRROR": places.MIRROR if official else f"{places.small()}/mirror",
        "IMAGESETS_CATALOGUE": "" if official else f"{places.small()}/catalogue",
        "IMAGESETS_OFFLINE": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return str(dataset)


@pytest.fixture
def train(environment: str, folders: dict[bool, Path]) -> Records:
    """Return what the table holds of the training split, as pyarrow alone reads it."""
    folder = imagesets.path(environment, "train").parents[2]
    assert folder in folders.values()
    return At(folder, environment, "train", "").table


def first(images: Any) -> Any:
    """Return images with their channels first, as PyTorch wants them."""
    return np.moveaxis(np.asarray(images), -1, 1)


def in_some_order(images: Any, labels: Any) -> list[tuple[bytes, int]]:
    """Return records in an order of their own, to be compared with others."""
    pairs = zip(np.asarray(images), np.asarray(labels).tolist(), strict=True)
    return sorted((np.ascontiguousarray(image).tobytes(), label) for image, label in pairs)


each_set = pytest.mark.parametrize("environment", SETS, indirect=True)


# --- PyTorch ---------------------------------------------------------------------------------


@each_set
def test_a_dataset_for_pytorch_holds_what_the_table_does(environment: str, train: Records) -> None:
    from torch.utils.data import default_collate

    made = imagesets.torch.dataset(environment, "train")

    assert len(made) == len(train.labels)
    assert repr(made).startswith(
        f"<{len(made):,} records of {'×'.join(map(str, train.images.shape[1:]))}, "
    )
    images, labels = made.collate(made.__getitems__(range(len(made))))
    assert (str(images.dtype), str(labels.dtype)) == ("torch.uint8", "torch.int64")
    np.testing.assert_array_equal(images, first(train.images))
    np.testing.assert_array_equal(labels, train.labels)
    image, label = made[7]
    assert isinstance(label, int)
    assert label == train.labels[7]
    np.testing.assert_array_equal(image, first(train.images)[7])
    one_by_one = default_collate([made[at] for at in (5, 3, -1)])
    np.testing.assert_array_equal(one_by_one[0], images[[5, 3, -1]])
    np.testing.assert_array_equal(one_by_one[1], labels[[5, 3, -1]])


def loaders(made: Any, *methods: str) -> Iterator[Any]:
    """The ways to have an epoch: without workers, and with workers that are started so."""
    from torch.utils.data import DataLoader

    def loader(workers: int, method: str | None, collate: Any) -> Any:
        return DataLoader(
            made,
            batch_size=64,
            shuffle=True,
            num_workers=workers,
            multiprocessing_context=method,
            collate_fn=collate,
        )

    for collate in (None, made.collate):
        yield loader(0, None, collate)
        for method in methods:
            yield loader(2, method, collate)


@each_set
def test_every_epoch_has_every_record_once_whoever_loads_it(
    environment: str, train: Records
) -> None:
    expected = in_some_order(first(train.images), train.labels)
    methods = ["fork", "spawn"] if environment == "cifar100" else ["fork"]  # spawned ones are slow
    for loader in loaders(imagesets.torch.dataset(environment, "train"), *methods):
        batches = list(loader)

        assert len(batches) == -(-len(train.labels) // 64)
        images = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        assert not np.array_equal(labels, train.labels)
        assert in_some_order(images, labels) == expected


def scaled(image: Any) -> Any:
    """A transform that a spawned worker finds: not a function within a function."""
    return image.float().div(255)


def test_a_transform_is_given_each_image(environment: str, train: Records) -> None:
    expected = first(train.images).astype(np.float32) / np.float32(255)
    made = imagesets.torch.dataset(environment, "train", scaled)

    np.testing.assert_array_equal(made[3][0], expected[3])
    wanted = in_some_order(expected, train.labels)
    for loader in loaders(made, "spawn"):
        images, labels = (np.concatenate(parts) for parts in zip(*loader, strict=True))
        assert images.dtype == np.float32
        assert in_some_order(images, labels) == wanted


def test_a_dataset_is_pickled_as_a_path_and_maps_one_copy(environment: str, train: Records) -> None:
    made = imagesets.torch.dataset(environment, "train", scaled)
    kept = pickle.dumps(made)

    assert len(kept) < 500
    copied = pickle.loads(kept)
    assert copied.transform is scaled
    assert isinstance(copied.images.base, np.memmap) or isinstance(copied.images, np.memmap)
    assert not copied.images.flags.writeable
    np.testing.assert_array_equal(copied.images, train.images)


def test_what_pytorch_makes_of_a_dataset_works(environment: str, train: Records) -> None:
    from torch.utils.data import DataLoader, Subset, WeightedRandomSampler, random_split

    made = imagesets.torch.dataset(environment, "train")
    some, others = random_split(made, [100, len(made) - 100])
    assert len(some) + len(others) == len(made)
    [(images, labels)] = DataLoader(Subset(made, [9, 2]), 2)
    np.testing.assert_array_equal(images, first(train.images)[[9, 2]])
    np.testing.assert_array_equal(labels, train.labels[[9, 2]])
    drawn = DataLoader(some, 10, sampler=WeightedRandomSampler([1.0] * 100, 30))
    assert sum(len(labels) for _, labels in drawn) == 30
    assert sum(1 for _ in made) == len(made)


@each_set
def test_a_stream_gives_every_record_once_in_the_order_of_its_seed(
    environment: str, train: Records
) -> None:
    def stream(seed: int) -> tuple[Any, Any]:
        found = imagesets.torch.stream(environment, "train", buffer=100, seed=seed)
        images, labels = zip(*found, strict=True)
        assert str(images[0].dtype) == "torch.uint8"
        return np.stack(images), np.array(labels)

    images, labels = stream(0)
    assert in_some_order(images, labels) == in_some_order(first(train.images), train.labels)
    np.testing.assert_array_equal(images, stream(0)[0])
    assert not np.array_equal(images, stream(1)[0])


# --- TensorFlow ------------------------------------------------------------------------------


@each_set
def test_a_dataset_for_tensorflow_holds_what_the_table_does(
    environment: str, train: Records
) -> None:
    import tensorflow as tf

    made = imagesets.tensorflow.dataset(environment, "train")

    shape = train.images.shape[1:]
    assert made.element_spec == (tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((), tf.uint8))
    assert len(made) == len(train.labels)
    for _ in range(2):  # as often as one likes
        batches = list(made.batch(64).as_numpy_iterator())
        np.testing.assert_array_equal(np.concatenate([part[0] for part in batches]), train.images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in batches]), train.labels)
    shuffled = list(made.shuffle(1000, seed=0).batch(64).prefetch(2).as_numpy_iterator())
    images, labels = (np.concatenate(parts) for parts in zip(*shuffled, strict=True))
    assert not np.array_equal(labels, train.labels)
    assert in_some_order(images, labels) == in_some_order(train.images, train.labels)


def test_keras_is_fitted_to_it(environment: str, train: Records) -> None:
    import keras

    made = imagesets.tensorflow.dataset(environment, "train").batch(50)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input(train.images.shape[1:]), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)

    history = model.fit(made, epochs=2, verbose=0)

    assert len(history.history["loss"]) == 2


# --- Grain -----------------------------------------------------------------------------------


@each_set
def test_a_source_for_grain_holds_what_the_table_does(environment: str, train: Records) -> None:
    import grain

    source = imagesets.grain.source(environment, "train")

    assert isinstance(source, grain.sources.RandomAccessDataSource)
    rows = list(grain.MapDataset.source(source))
    np.testing.assert_array_equal([row["image"] for row in rows], train.images)
    np.testing.assert_array_equal([row["label"] for row in rows], train.labels)
    shuffled = list(grain.MapDataset.source(source).shuffle(seed=3).batch(64))
    images = np.concatenate([batch["image"] for batch in shuffled])
    labels = np.concatenate([batch["label"] for batch in shuffled])
    assert not np.array_equal(labels, train.labels)
    assert in_some_order(images, labels) == in_some_order(train.images, train.labels)


LOADER = """
import sys
import grain.python as grain
import imagesets.grain

if __name__ == "__main__":
    def loader(workers):
        source = imagesets.grain.source("mnist", "train")
        sampler = grain.IndexSampler(len(source), grain.NoSharding(), True, 1, seed=5)
        return grain.DataLoader(
            data_source=source, sampler=sampler, worker_count=workers,
            operations=[grain.Batch(10)],
        )
    for workers in (0, 2):
        batches = list(loader(workers))
        assert sum(len(batch["label"]) for batch in batches) == int(sys.argv[1])
    kept = iter(loader(0))
    next(kept)
    state = kept.get_state()
    after = [batch["label"].tolist() for batch in kept]
    resumed = iter(loader(0))
    resumed.set_state(state)
    assert [batch["label"].tolist() for batch in resumed] == after
    print("done")
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder to import from where the library has its own name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/imagesets").symlink_to(ROOT / "pipelines")
    return tmp_path / "site"


def run(installed: Path, code: str, *arguments: str) -> str:
    """What a script prints that imports the library by its name."""
    script = installed.parent / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        cwd=installed.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"{code}\n{done.stderr}"
    return done.stdout


def test_grains_loader_has_workers_and_goes_on_where_it_stopped(
    environment: str, train: Records, installed: Path
) -> None:
    assert run(installed, LOADER, str(len(train.labels))).split()[-1] == "done"


# --- all of them -----------------------------------------------------------------------------


def test_a_framework_is_imported_when_it_is_used_and_no_other(
    environment: str, installed: Path
) -> None:
    frameworks = "print(sorted({'torch', 'tensorflow', 'grain', 'jax', 'keras'} & {*sys.modules}))"
    code = [
        "import sys, imagesets.torch, imagesets.tensorflow, imagesets.grain",
        frameworks,
        "imagesets.grain.source('mnist', 'train')[0]",
        frameworks,
        "imagesets.torch.dataset('mnist', 'train')[0]",
        frameworks,
    ]
    assert run(installed, "\n".join(code)).splitlines() == ["[]", "[]", "['torch']"]


def _blocks() -> list[object]:
    text = (ROOT / "docs/library.md").read_text("utf-8")
    shown = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    named = {name: [b for b in shown if f"imagesets.{name}" in b] for name in FRAMEWORKS}
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name, blocks in named.items()
        for number, block in enumerate(blocks)
    ]


FRAMEWORKS = ("torch", "tensorflow", "grain")


@pytest.mark.parametrize("block", _blocks())
def test_the_lines_of_the_document_run(block: str, environment: str, installed: Path) -> None:
    assert environment == "mnist"
    indented = "".join(f"    {line}\n" for line in block.splitlines())
    run(installed, f'if __name__ == "__main__":\n{indented}')


def test_the_document_shows_every_framework() -> None:
    assert {str(one.id).partition("-")[0] for one in _blocks()} == {*FRAMEWORKS}  # type: ignore[attr-defined]
