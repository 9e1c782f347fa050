"""What other people's readers read from the exports is what the tables hold."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.readers import places
from tests.readers.places import At, Records
from tests.readers.readings import DATASETS, READINGS, Reading


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


def _compare(reading: Reading, at: At) -> None:
    if at.export not in places.exports():
        pytest.skip("no such export yet")
    read, table = _read(reading, at), at.table
    images, labels = table.images, table.labels.astype(np.int64)
    if at.dataset.startswith("emnist") and at.export in {"raw", "tfds"}:  # as published
        images, labels = images.transpose(0, 2, 1, 3), labels + 1
    order = np.arange(len(labels))
    if read.order == "by class":
        order = np.argsort(labels, kind="stable")
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


NOT_HERE = {"nvidia-dali-cuda120": "DALI takes 955 MB"}
SNIPPETS = [
    pytest.param(export, reader, id=f"{export}-{reader['name']}")
    for export, said in places.exports().items()
    for reader in said["read_by"]
]


@pytest.mark.parametrize(("export", "reader"), SNIPPETS)
def test_the_lines_that_are_shown_run(
    export: str, reader: dict[str, object], tmp_path: Path
) -> None:
    versions = [str(version).partition("==") for version in reader["versions"]]
    if not versions:
        pytest.skip("no package of Python's")
    for name, _, version in versions:
        if name in NOT_HERE:
            pytest.skip(NOT_HERE[name])
        installed = importlib.metadata.version("tensorflow-cpu" if name == "tensorflow" else name)
        assert version in {"", installed}
    wrong = {}
    for dataset in DATASETS:
        at = At(places.data(False), dataset, "test", export)
        try:
            path = at.path
        except AssertionError:
            continue
        lines = _filled(str(reader["code"]), path=path, dataset=dataset, split="test")
        done = subprocess.run(
            [sys.executable, "-c", _BEFORE.get(versions[0][0], "") + lines],
            env=os.environ | {"PYTHONPATH": str(places.ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return
        wrong[dataset] = f"{lines}\n{done.stderr}"
    pytest.fail("\n".join(f"{dataset}: {said}" for dataset, said in wrong.items()))


_BEFORE = {
    "torchvision": "from tests.readers.readings import torchvision; torchvision()\n",
    "python-mnist": "import sys; sys.path.insert(0, f'{sys.prefix}/python-mnist')\n",
}


def _filled(code: str, **values: object) -> str:
    for name, value in values.items():
        code = code.replace(f"{{{name}}}", str(value))
    return code
