"""Every reader, with the lines that people write for it; each returns what it read, in order.

To add one: a function here under `@reads`, and what it needs in requirements-readers.in.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.readers.places import At, Records

DATASETS = ("mnist", "fashion_mnist", "emnist_letters", "cifar10", "cifar100")
GREY, COLOURED = DATASETS[:3], DATASETS[3:]


@dataclass(frozen=True)
class Reading:
    """A reader of an export.

    dtypes: of images and labels, as it returns them.
    options: of the export, as environment variables without `IMAGESETS_`.
    apart: it can't be imported beside the others.
    slow: on official datasets it reads test only.
    """

    read: Callable[[At], Records]
    export: str
    reader: str
    dtypes: str
    datasets: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    apart: bool
    slow: bool


READINGS: list[Reading] = []


def reads(
    export: str,
    reader: str,
    dtypes: str = "uint8 int64",
    datasets: tuple[str, ...] = DATASETS,
    apart: bool = False,
    slow: bool = False,
    **options: str,
) -> Callable[[Callable[[At], Records]], Callable[[At], Records]]:
    """Enter a function into the table of readings."""

    def entered(read: Callable[[At], Records]) -> Callable[[At], Records]:
        chosen = tuple(sorted(options.items()))
        READINGS.append(Reading(read, export, reader, dtypes, datasets, chosen, apart, slow))
        return read

    return entered


def _pixels(pictures: Any) -> Any:
    """Return the pixels of pictures: PNG files in bytes, or Pillow's images."""
    from PIL import Image

    opened = (Image.open(io.BytesIO(p)) if isinstance(p, bytes) else p for p in pictures)
    return np.stack([np.asarray(picture) for picture in opened])


def _numpy(pairs: Any) -> Records:
    """Return records from pairs of image and label."""
    images, labels = zip(*pairs, strict=True)
    return Records(np.stack(images), np.array(labels))


# --- the publisher's files -------------------------------------------------------------------


@functools.cache
def torchvision() -> Any:
    """Torchvision, also beside a torch without CUDA.

    The registries' builds of torchvision for Linux are for CUDA. Its operators do not load without,
    which datasets never call; but two of them must exist for its import to go through.
    """
    import torch
    from torch import library

    if torch.version.cuda is None and sys.platform == "linux":
        operators = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision.operators = operators  # they would be undone with it
    importlib.import_module("torchvision.datasets")
    return sys.modules["torchvision"]


@reads("raw", "torchvision", datasets=GREY)
def torchvision_raw(at: At) -> Records:
    known = torchvision().datasets
    made = {
        "mnist": known.MNIST,
        "fashion_mnist": known.FashionMNIST,
        "emnist_letters": functools.partial(known.EMNIST, split="letters"),
    }[at.dataset](at.path, train=at.is_train, download=False)
    image, label = made[3]
    assert (np.asarray(image) == made.data[3].numpy()).all()
    assert label == made.targets[3]
    classes = made.classes if at.dataset == "fashion_mnist" else None
    return Records(made.data.numpy(), made.targets.numpy(), classes=classes)


def _raw(at: At) -> str:
    names = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "emnist_letters": "EMNIST"}
    return str(at.path / names[at.dataset] / "raw")


@contextlib.contextmanager
def _only(name: str, folder: Path | None) -> Iterator[Any]:
    """Import one of two packages that have the same name."""
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[module]
    if folder:
        sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        if folder:
            sys.path.remove(str(folder))


@reads("raw", "python-mnist 0.7", "int64 uint8", datasets=("mnist", "fashion_mnist"))
def python_mnist(at: At) -> Records:
    with _only("mnist", Path(sys.prefix) / "python-mnist") as mnist:
        for zipped in (True, False):
            loader = mnist.MNIST(_raw(at), return_type="numpy", gz=zipped)
            images, labels = loader.load_training() if at.is_train else loader.load_testing()
    return Records(images, np.asarray(labels))


@reads("raw", "python-mnist 0.7, upright", "int64 uint8", datasets=("emnist_letters",))
def python_mnist_emnist(at: At) -> Records:
    with _only("mnist", Path(sys.prefix) / "python-mnist") as mnist:
        loader = mnist.MNIST(_raw(at), return_type="numpy")
        loader.select_emnist("letters")
        images, labels = loader.load_training() if at.is_train else loader.load_testing()
    upright = np.asarray(images).reshape(-1, 28, 28)
    return Records(upright.transpose(0, 2, 1), np.asarray(labels))  # on its side again


@reads("raw", "mnist 0.2.2", "uint8 uint8", datasets=("mnist", "fashion_mnist"))
def mnist_package(at: At) -> Records:
    with _only("mnist", None) as mnist:
        mnist.temporary_dir = lambda: _raw(at)
        if at.is_train:
            return Records(mnist.train_images(), mnist.train_labels())
        return Records(mnist.test_images(), mnist.test_labels())


def _four(at: At) -> tuple[Path, Path]:
    """Return the files of images and labels, unpacked."""
    folder, prefix = {
        "mnist": ("MNIST/raw", ""),
        "fashion_mnist": ("FashionMNIST/raw", ""),
        "emnist_letters": ("EMNIST/raw", "emnist-letters-"),
    }[at.dataset]
    split = "test" if prefix and not at.is_train else "train" if at.is_train else "t10k"
    begin = at.path / folder / f"{prefix}{split}"
    return Path(f"{begin}-images-idx3-ubyte"), Path(f"{begin}-labels-idx1-ubyte")


@reads("raw", "mlxtend 0.25.0", "uint8 uint8", datasets=GREY)
def mlxtend(at: At) -> Records:
    from mlxtend.data import loadlocal_mnist

    images, labels = _four(at)
    return Records(*loadlocal_mnist(images_path=str(images), labels_path=str(labels)))


@reads("raw", "mnist_reader (Zalando's)", "uint8 uint8", datasets=GREY)
def zalando(at: At) -> Records:
    """Our own lines, after what theirs does: .gz only, behind headers of 8 and 16 bytes."""
    images, labels = (Path(f"{path}.gz") for path in _four(at))
    with gzip.open(labels) as file:
        numbers = np.frombuffer(file.read(), np.uint8, offset=8)
    with gzip.open(images) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(len(numbers), 784)
    return Records(pixels, numbers)


@reads("raw", "read_data_sets (TensorFlow 1)", "float32 float64", datasets=("mnist",))
def read_data_sets(at: At) -> Records:
    """Our own lines, after what theirs does; TensorFlow 1 runs on no Python of today."""
    images, labels = (Path(f"{path}.gz") for path in _four(at))
    with gzip.open(images) as file:
        magic, records, rows, columns = np.frombuffer(file.read(16), ">u4").tolist()
        assert magic == 2051
        pixels = np.frombuffer(file.read(records * rows * columns), np.uint8)
    with gzip.open(labels) as file:
        assert np.frombuffer(file.read(8), ">u4").tolist() == [2049, records]
        numbers = np.frombuffer(file.read(records), np.uint8)
    one_hot = np.zeros((records, 10))
    one_hot.flat[np.arange(records) * 10 + numbers.ravel()] = 1
    scaled = pixels.reshape(records, rows * columns).astype(np.float32) * np.float32(1 / 255)
    return Records(scaled, one_hot)


@reads("raw", "keras 3.15.1", "uint8 uint8", datasets=("fashion_mnist",))
def keras_fashion(at: At) -> Records:
    import keras

    folder = Path(os.environ["KERAS_HOME"]) / "datasets" / "fashion-mnist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in (at.path / "FashionMNIST/raw").glob("*.gz"):
        shutil.copy(path, folder)
    train, test = keras.datasets.fashion_mnist.load_data()
    return Records(*(train if at.is_train else test))


@reads("python_batches", "torchvision", datasets=COLOURED)
def torchvision_cifar(at: At) -> Records:
    known = torchvision().datasets
    official = known.CIFAR10 if at.dataset == "cifar10" else known.CIFAR100

    class Small(official):  # type: ignore[misc,valid-type]
        """The same for other records: it compares no MD5."""

        train_list = tuple((name, None) for name, _ in official.train_list)
        test_list = tuple((name, None) for name, _ in official.test_list)
        meta = official.meta | {"md5": None}

    made = Small(at.path, train=at.is_train, download=False)
    return Records(made.data, np.array(made.targets), classes=made.classes)


@reads("raw", "the layout that candle and MLDatasets.jl read", "uint8 uint8", datasets=COLOURED)
def cifar_binary(at: At) -> Records:
    """Our own lines: those are no readers in Python."""
    ten = at.dataset == "cifar10"
    folder = at.path / ("cifar-10-batches-bin" if ten else "cifar-100-binary")
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if ten else ["train.bin"]
    if not at.is_train:
        names = ["test_batch.bin"] if ten else ["test.bin"]
    width = 3073 if ten else 3074
    rows = np.concatenate([np.fromfile(folder / n, np.uint8).reshape(-1, width) for n in names])
    images = rows[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    texts = "batches.meta.txt" if ten else "fine_label_names.txt"
    classes = (folder / texts).read_text().split()
    return Records(images, rows[:, -3073], None if ten else rows[:, 0], classes)


# --- Hugging Face ----------------------------------------------------------------------------


def _columns(at: At) -> tuple[str, str]:
    return {"cifar10": ("img", "label"), "cifar100": ("img", "fine_label")}.get(
        at.dataset, ("image", "label")
    )


def _hub(at: At, found: Any) -> Records:
    image, label = _columns(at)
    coarse = found["coarse_label"] if at.dataset == "cifar100" else None
    return Records(
        _pixels(found[image]),
        np.array(found[label]),
        coarse and np.array(coarse),
        found.features[label].names,
    )


@reads("huggingface", "datasets 5.2.0")
def datasets_folder(at: At) -> Records:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        everything = datasets.load_dataset(str(at.path), cache_dir=cache)
        assert sorted(everything) == ["test", "train"]
        return _hub(at, everything[at.split])


@reads("huggingface", "datasets 5.2.0, streaming")
def datasets_streaming(at: At) -> Records:
    import datasets

    stream = datasets.load_dataset(str(at.path), split=at.split, streaming=True)
    image, label = _columns(at)
    rows = list(stream)
    coarse = [row["coarse_label"] for row in rows] if at.dataset == "cifar100" else None
    return Records(
        _pixels(row[image] for row in rows),
        np.array([row[label] for row in rows]),
        coarse and np.array(coarse),
        stream.features[label].names,
    )


def _parquet(at: At) -> str:
    [found] = at.path.rglob(f"{at.split}-*.parquet")
    return str(found)


@reads("huggingface", "datasets 5.2.0, from_parquet")
def datasets_from_parquet(at: At) -> Records:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        return _hub(at, datasets.Dataset.from_parquet(_parquet(at), cache_dir=cache))


@reads("huggingface", "pandas 3.1.1")
def pandas_parquet(at: At) -> Records:
    import pandas as pd

    image, label = _columns(at)
    frame = pd.read_parquet(_parquet(at))
    return Records(_pixels(picture["bytes"] for picture in frame[image]), frame[label].to_numpy())


@reads("huggingface", "polars 2.1.0")
def polars_parquet(at: At) -> Records:
    import polars as pl

    image, label = _columns(at)
    frame = pl.read_parquet(_parquet(at))
    return Records(_pixels(frame[image].struct.field("bytes")), frame[label].to_numpy())


@reads("huggingface", "duckdb 2.0.0")
def duckdb_parquet(at: At) -> Records:
    import duckdb

    image, label = _columns(at)
    found = duckdb.sql(f"SELECT {image}.bytes, {label} FROM '{_parquet(at)}'").fetchall()
    pictures, labels = zip(*found, strict=True)
    return Records(_pixels(pictures), np.array(labels))


# --- TensorFlow Datasets ---------------------------------------------------------------------


def _tfds_name(at: At) -> str:
    return at.dataset.replace("emnist_", "emnist/")


def _tfds(at: At, builder: Any, found: Any) -> Records:
    rows = list(found.as_numpy_iterator())
    coarse = [row["coarse_label"] for row in rows] if at.dataset == "cifar100" else None
    names = builder.info.features["label"].names
    if "id" in rows[0]:
        assert [row["id"].decode() for row in rows] == [
            f"{at.split}_{number:05}" for number in range(len(rows))
        ]
    return Records(
        np.stack([row["image"] for row in rows]),
        np.array([row["label"] for row in rows]),
        coarse and np.array(coarse),
        names if at.dataset != "emnist_letters" else None,
    )


@reads("tfds", "tensorflow-datasets 4.9.10, load")
def tfds_load(at: At) -> Records:
    import tensorflow_datasets as tfds

    found = tfds.load(_tfds_name(at), data_dir=at.path, download=False, split=at.split)
    return _tfds(at, tfds.builder(_tfds_name(at), data_dir=at.path), found)


@reads("tfds", "tensorflow-datasets 4.9.10, load as_supervised", slow=True)
def tfds_supervised(at: At) -> Records:
    import tensorflow_datasets as tfds

    found = tfds.load(
        _tfds_name(at), data_dir=at.path, download=False, split=at.split, as_supervised=True
    )
    return _numpy(found.as_numpy_iterator())


def _version(at: At) -> Path:
    [info] = at.path.rglob("dataset_info.json")
    return info.parent


@reads("tfds", "tensorflow-datasets 4.9.10, builder_from_directory", slow=True)
def tfds_folder(at: At) -> Records:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(_version(at))
    assert builder.info.splits[at.split].num_examples == len(at.table.labels)
    assert len(list(builder.as_dataset(split=at.split, as_supervised=True).take(3))) == 3
    return _tfds(at, builder, builder.as_dataset(split=at.split))


def _shards(at: At, kind: str) -> list[str]:
    return sorted(str(path) for path in _version(at).glob(f"*-{at.split}.{kind}-*"))


@reads("tfds", "tensorflow 2.21.0, tf.data")
def tf_data(at: At) -> Records:
    import tensorflow as tf

    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    stream = tf.data.TFRecordDataset(_shards(at, "tfrecord")).map(
        lambda record: tf.io.parse_single_example(record, features)
    )
    rows = list(stream.as_numpy_iterator())
    images = [tf.io.decode_png(row["image"]).numpy() for row in rows]
    return Records(np.stack(images), np.array([row["label"] for row in rows]))


@reads("tfds", "tfrecord 1.14.6", apart=True)
def tfrecord_loader(at: At) -> Records:
    from tfrecord.reader import tfrecord_loader

    described = {"image": "byte", "label": "int"}
    rows = [
        row for path in _shards(at, "tfrecord") for row in tfrecord_loader(path, None, described)
    ]
    labels = np.concatenate([row["label"] for row in rows])
    return Records(_pixels(bytes(row["image"]) for row in rows), labels.astype(np.int64))


@reads("array_record", "tensorflow-datasets 4.9.10, data_source")
def tfds_data_source(at: At) -> Records:
    import tensorflow_datasets as tfds

    rows = list(tfds.data_source(_tfds_name(at), data_dir=at.path, download=False, split=at.split))
    return _numpy((row["image"], row["label"]) for row in rows)


@reads("array_record", "grain 0.2.18 and array-record 0.8.6")
def grain(at: At) -> Records:
    import grain
    import tensorflow as tf

    source = grain.sources.ArrayRecordDataSource(_shards(at, "array_record"))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    made = grain.MapDataset.source(source)
    rows = [tf.io.parse_single_example(record, features) for record in made]
    images = [tf.io.decode_png(row["image"]).numpy() for row in rows]
    return Records(np.stack(images), np.array([row["label"].numpy() for row in rows]))


# --- arrays ----------------------------------------------------------------------------------


# Option → how images are turned back to those of a table.
_FORMS: dict[str, dict[str, str]] = {
    "": {},
    ", channels first, one-hot": {"CHANNELS": "first", "ONE_HOT": "1"},
    ", channels last": {"CHANNELS": "last"},
    ", flat": {"FLAT": "1"},
}


def reads_arrays(export: str, reader: str) -> Callable[[Any], Any]:
    """Enter a function that returns arrays by their names, with every option that arrays have."""

    def entered(read: Callable[[At], dict[str, Any]]) -> Callable[[At], dict[str, Any]]:
        for form, options in _FORMS.items():
            made = functools.partial(_arrays, read, options)
            named = {f"{export.upper()}_{name}": value for name, value in options.items()}
            dtypes = "uint8 float64" if "ONE_HOT" in options else "uint8 uint8"
            reads(export, reader + form, dtypes, **named)(made)
        return read

    return entered


def _arrays(read: Callable[[At], dict[str, Any]], options: dict[str, str], at: At) -> Records:
    found, table = read(at), at.table.images
    images, channels = found["images"], options.get("CHANNELS", "none")
    if "FLAT" in options:
        assert images.shape == (len(table), table[0].size)
    elif channels == "first":
        images = images.transpose(0, 2, 3, 1)
        assert images.shape == table.shape
    elif channels == "none" and table.shape[-1] == 1:
        assert images.shape == table.shape[:-1]
    else:
        assert images.shape == table.shape
    coarse = found.get("coarse_labels")
    assert (coarse is not None) == (at.dataset == "cifar100")
    if coarse is not None and "ONE_HOT" in options:
        coarse = coarse.argmax(axis=1)
    return Records(images, found["labels"], coarse)


@reads_arrays("npz", "numpy 2.4.6")
def npz(at: At) -> dict[str, Any]:
    with np.load(at.path, allow_pickle=False) as file:
        found = dict(file)
    names = {f"x_{at.split}": "images", f"y_{at.split}": "labels"}
    names |= {f"y_coarse_{at.split}": "coarse_labels"}
    return {names[name]: array for name, array in found.items() if name in names}


@reads_arrays("npy", "numpy 2.4.6, mmap_mode")
def npy(at: At) -> dict[str, Any]:
    found = {path.stem: np.load(path, mmap_mode="r") for path in at.path.glob("*.npy")}
    assert isinstance(found["images"], np.memmap)
    return found


@reads_arrays("safetensors", "safetensors 0.8.0, numpy")
def safetensors_numpy(at: At) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(at.path))


@reads_arrays("safetensors", "safetensors 0.8.0, torch")
def safetensors_torch(at: At) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor.numpy() for name, tensor in load_file(at.path).items()}


@reads_arrays("hdf5", "h5py 3.14.0")
def hdf5(at: At) -> dict[str, Any]:
    import h5py

    with h5py.File(at.path) as file:
        return {name: array[:] for name, array in file.items()}


# --- streams and pictures --------------------------------------------------------------------


@reads("webdataset", "webdataset 1.0.2")
def webdataset(at: At) -> Records:
    import webdataset as wds

    shards = sorted(map(str, at.path.glob("*.tar")))
    kind = "l8" if at.dataset in GREY else "rgb8"
    return _numpy(wds.WebDataset(shards, shardshuffle=False).decode(kind).to_tuple("png", "cls"))


@reads("webdataset", "datasets 5.2.0, webdataset")
def webdataset_by_datasets(at: At) -> Records:
    import datasets

    shards = sorted(map(str, at.path.glob("*.tar")))
    rows = list(
        datasets.load_dataset(
            "webdataset", data_files={at.split: shards}, split=at.split, streaming=True
        )
    )
    return Records(_pixels(row["png"] for row in rows), np.array([row["cls"] for row in rows]))


@contextlib.contextmanager
def _unzipped(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        [texts] = Path(folder).rglob("classes.txt")
        yield texts.parent


def _grey(images: Any, at: At) -> Any:
    """Return one channel of the three that a reader made of a grey picture."""
    if at.dataset in COLOURED:
        return images
    assert (images == images[..., :1]).all()
    return images[..., 0]


def _by_class(images: Any, labels: Any) -> Records:
    return Records(images, labels, order="by class")


@reads("imagefolder", "torchvision, ImageFolder")
def torchvision_folder(at: At) -> Records:
    with _unzipped(at.path) as folder:
        found = torchvision().datasets.ImageFolder(folder / at.split)
        names = (folder / "classes.txt").read_text("utf-8").splitlines()
        assert [name.partition(" ")[0] for name in names] == found.classes or len(names) == len(
            found.classes
        )
        images = _grey(_pixels(image for image, _ in found), at)
        return _by_class(images, np.array(found.targets))


@reads("imagefolder", "keras 3.15.1", "float32 int32", slow=True)
def keras_folder(at: At) -> Records:
    import keras

    grey = at.dataset in GREY
    side = 28 if grey else 32
    with _unzipped(at.path) as folder:
        found = keras.utils.image_dataset_from_directory(
            folder / at.split,
            color_mode="grayscale" if grey else "rgb",
            image_size=(side, side),
            batch_size=None,
            shuffle=False,
        )
        record = _numpy(found.as_numpy_iterator())
    return _by_class(record.images, record.labels)


@reads("imagefolder", "datasets 5.2.0, imagefolder", slow=True)
def imagefolder_by_datasets(at: At) -> Records:
    import datasets

    with _unzipped(at.path) as folder, tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset(
            "imagefolder", data_dir=str(folder / at.split), split="train", cache_dir=cache
        )
        return _by_class(_pixels(found["image"]), np.array(found["label"]))


# --- text ------------------------------------------------------------------------------------


@reads("libsvm", "scikit-learn 1.9.1", "float64 float64")
def libsvm(at: At) -> Records:
    from sklearn.datasets import load_svmlight_file

    size = 784 if at.dataset in GREY else 3072
    images, labels = load_svmlight_file(str(at.path), n_features=size)
    return Records(images.toarray(), labels)


@reads("arff", "scipy 1.17.1", "float64 int64", slow=True)
def arff_by_scipy(at: At) -> Records:
    from scipy.io import arff

    rows, meta = arff.loadarff(at.path)
    *pixels, last = meta.names()
    classes = list(meta[last][1])
    labels = [classes.index(name.decode()) for name in rows[last]]
    images = np.stack([rows[name] for name in pixels], axis=1)
    return Records(images, np.array(labels), classes=classes)


@reads("arff", "liac-arff 2.5.0", "float64 int64", slow=True)
def liac_arff(at: At) -> Records:
    import arff

    with at.path.open(encoding="utf-8") as file:
        found = arff.load(file)
    classes = found["attributes"][-1][1]
    images = np.array([row[:-1] for row in found["data"]], np.float64)
    labels = np.array([classes.index(row[-1]) for row in found["data"]])
    return Records(images, labels, classes=classes)


def _csv(table: Any) -> Records:
    return Records(table[:, 1:], table[:, 0])


@reads("csv", "pandas 3.1.1", "int64 int64")
def csv_by_pandas(at: At) -> Records:
    import pandas as pd

    return _csv(pd.read_csv(at.path, header=None).to_numpy())


@reads("csv", "polars 2.1.0", "int64 int64")
def csv_by_polars(at: At) -> Records:
    import polars as pl

    return _csv(pl.read_csv(at.path, has_header=False).to_numpy())


@reads("csv", "numpy 2.4.6, loadtxt", "uint8 uint8")
def csv_by_numpy(at: At) -> Records:
    return _csv(np.loadtxt(at.path, np.uint8, delimiter=","))


@reads("csv", "duckdb 2.0.0, with its header", "int64 int64", CSV_HEADER="1")
def csv_by_duckdb(at: At) -> Records:
    import duckdb

    found = duckdb.read_csv(str(at.path))
    assert found.columns[:2] == ["label", "pixel1"]
    return _csv(found.to_arrow_table().to_pandas().to_numpy())


# --- Caffe and TensorBoard -------------------------------------------------------------------


def _datums(at: At) -> list[Any]:
    from tests import caffe

    found = list(caffe.records(at.path.parent))
    assert [int(key) for key, _ in found] == list(range(len(found)))
    return [datum for _, datum in found]


@reads("lmdb", "lmdb 3.0.0 and protobuf 7.36.2")
def lmdb(at: At) -> Records:
    datums = _datums(at)
    images = [
        np.frombuffer(one.data, np.uint8).reshape(one.channels, one.height, one.width)
        for one in datums
    ]
    return Records(np.stack(images).transpose(0, 2, 3, 1), np.array([one.label for one in datums]))


@reads("lmdb", "lmdb 3.0.0 and protobuf 7.36.2, encoded", LMDB_ENCODED="1")
def lmdb_encoded(at: At) -> Records:
    datums = _datums(at)
    assert all(one.encoded for one in datums)
    return Records(_pixels(one.data for one in datums), np.array([one.label for one in datums]))


@reads("projector", "tensorboard 2.21.0", "uint8 int64")
def projector(at: At) -> Records:
    from PIL import Image
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(logdir=str(at.path), host="127.0.0.1", port=0)
    url = board.launch() + "data/plugin/projector/"
    [run] = json.loads(_got(url + "runs"))
    [about] = json.loads(_got(f"{url}info?run={run}"))["embeddings"]
    name = urllib.parse.quote(about["tensorName"])
    of = f"run={run}&name={name}"
    lines = _got(f"{url}metadata?{of}").decode().splitlines()
    tensors = np.frombuffer(_got(f"{url}tensor?{of}"), np.float32).reshape(len(lines), -1)
    sprite = np.asarray(Image.open(io.BytesIO(_got(f"{url}sprite_image?{of}"))))
    height, width = about["sprite"]["singleImageDim"][::-1]
    row = sprite.shape[1] // width
    assert row == math.ceil(len(lines) ** 0.5)
    cut = [
        sprite[at // row * height :, at % row * width :][:height, :width]
        for at in range(len(lines))
    ]
    images = np.stack(cut)
    assert np.array_equal(tensors, images.reshape(len(lines), -1))
    names = at.table.classes
    return Records(images, np.array([names.index(line) for line in lines]), order="a sample")


def _got(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())
