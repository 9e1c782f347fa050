"""What other people's readers read from the exports is what the tables hold."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.readers import places
from tests.readers.places import At, Records
from tests.readers.readings import DATASETS, GREY, READINGS, Reading


def _cases(official: bool) -> list[object]:
    return [
        pytest.param(
            reading, dataset, split, id=f"{reading.export}-{reading.reader}-{dataset}-{split}"
        )
        for reading in READINGS
        for dataset in reading.datasets
        if not official or dataset in {"mnist", "fashion_mnist"}
        for split in ("train", "test")
        if not official or not (reading.options or (reading.slow and split == "train"))
    ]


@pytest.mark.parametrize(("reading", "dataset", "split"), _cases(official=False))
def test_small_copies_are_read_as_the_tables_hold_them(
    reading: Reading, dataset: str, split: str
) -> None:
    _compare(reading, At(places.data(False, reading.options), dataset, split, reading.export))


@pytest.mark.skipif(not places.MIRROR, reason="official archives: set IMAGESETS_MIRROR")
@pytest.mark.parametrize(("reading", "dataset", "split"), _cases(official=True))
def test_official_datasets_are_read_as_the_tables_hold_them(
    reading: Reading, dataset: str, split: str
) -> None:
    _compare(reading, At(places.data(True, reading.options), dataset, split, reading.export))


# EMNIST on its side, and letters from 1.
PUBLISHED = {"raw", "tfds", "array_record"}


def _compare(reading: Reading, at: At) -> None:
    read, table = _read(reading, at), at.table
    images, labels = table.images, table.labels.astype(np.int64)
    if at.dataset.startswith("emnist") and at.export in PUBLISHED:
        images, labels = images.transpose(0, 2, 1, 3), labels + 1
    order = np.arange(len(labels))
    if read.order == "by class":
        order = np.argsort(labels, kind="stable")
    elif read.order == "a sample":
        order = order[: len(read.labels)] * len(labels) // len(read.labels)
    images, labels = images[order], labels[order]
    assert f"{read.images.dtype} {read.labels.dtype}" == reading.dtypes
    found = np.asarray(read.images)
    if found.dtype == np.float32 and found.max() <= 1:  # scaled
        found = np.rint(found * 255)
    assert np.array_equal(found.reshape(images.shape), images)
    numbers = np.asarray(read.labels)
    if numbers.ndim == 2:  # one-hot
        assert (numbers.sum(axis=1) == 1).all()
        numbers = numbers.argmax(axis=1)
    assert np.array_equal(numbers, labels)
    if read.coarse is not None:
        assert np.array_equal(read.coarse, table.coarse[order])
    if read.classes is not None:
        assert list(read.classes) == table.classes


def _read(reading: Reading, at: At) -> Records:
    if not reading.apart:
        return reading.read(at)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(reading.read, (at,))


# Why lines are not run, by the package or the export that they are about.
NOT_RUN = {
    "nvidia-dali-cuda120": "DALI takes 955 MB",
    "python_batches": "these readers take nothing but the publisher's very bytes",
}
# What stands in lines that are about some datasets only.
ABOUT = {
    "FashionMNIST": ("fashion_mnist",),
    "fashion_mnist": ("fashion_mnist",),
    "MNIST/raw": ("mnist",),
    "datasets.MNIST": ("mnist",),
    "28 * 28": GREY,
    '("{dataset}", data_dir=': ("mnist", "fashion_mnist", "cifar10", "cifar100"),  # TFDS' names
}
SNIPPETS = [
    pytest.param(export, reader, id=f"{export}-{reader['name']}")
    for export, said in places.exports().items()
    for reader in said["read_by"]
]


@pytest.mark.parametrize(("export", "reader"), SNIPPETS)
def test_the_lines_that_are_shown_run(export: str, reader: dict[str, Any], tmp_path: Path) -> None:
    versions = dict(version.partition("==")[::2] for version in reader["versions"])
    reasons = [NOT_RUN[name] for name in (export, *versions) if name in NOT_RUN]
    if reasons or not versions:
        pytest.skip(*reasons or ["no package of Python's"])
    assert {name: version or _installed(name) for name, version in versions.items()} == {
        name: _installed(name) for name in versions
    }
    code = reader["code"]
    about = next((datasets for text, datasets in ABOUT.items() if text in code), DATASETS)
    lines = _before(versions)
    for dataset in about:
        at = At(places.data(False), dataset, "test", export)
        values = {"path": str(at.path), "dataset": dataset, "split": "test", "label": "uint8"}
        filled = code
        for name, value in values.items():
            filled = filled.replace(f"{{{name}}}", value)
        lines += filled + "\n"
    done = subprocess.run(
        [sys.executable, "-c", lines],
        env=os.environ | {"PYTHONPATH": str(places.ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"{lines}\n{done.stderr}"


def _installed(name: str) -> str:
    where = [*sys.path, f"{sys.prefix}/python-mnist"]
    known = {"tensorflow": "tensorflow-cpu"}.get(name, name)
    [found] = importlib.metadata.distributions(name=known, path=where)
    return found.version


def _before(versions: Collection[str]) -> str:
    if "torchvision" in versions:
        return "from tests.readers.readings import torchvision; torchvision()\n"
    if "python-mnist" in versions:
        return "import sys; sys.path.insert(0, f'{sys.prefix}/python-mnist')\n"
    return ""
