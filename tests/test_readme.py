"""The README's snippets and commands, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipelines
from pipelines import catalogue, tables
from tests import builders

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

MNIST_LIKE = """
[datasets.mnist]
title = "Like MNIST"
format = "idx"
image = { height = 28, width = 28, channels = 1 }
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/tables/mnist, of random images in MNIST's shape."""
    folder = tmp_path_factory.mktemp("project")
    archives, toml = {}, MNIST_LIKE
    for split, records in {"train": 200, "test": 50}.items():
        labels = builders.labels(records, 10)
        archives[f"{split}-images.gz"] = builders.gz(
            builders.idx(builders.images(records, 28, 28)[..., 0])
        )
        archives[f"{split}-labels.gz"] = builders.gz(builders.idx(labels))
        toml += f"""
[datasets.mnist.splits.{split}]
records = {records}
counts = {builders.counts(labels, 10)}
images = "{split}-images.gz"
labels = "{split}-labels.gz"
"""
    (folder / "mnist").mkdir()
    for name, data in archives.items():
        (folder / name).write_bytes(data)
        (folder / "mnist" / name).write_bytes(data)
    (folder / "catalogue").mkdir()
    (folder / "catalogue" / "mnist.toml").write_text(builders.declare(archives) + toml)
    source = catalogue.load(folder / "catalogue").sources["mnist"]
    dataset = source.datasets["mnist"]
    for split in dataset.splits.values():
        goal = folder / "data" / "tables" / "mnist" / f"{split.name}.parquet"
        tables.write(source, dataset, split, folder, goal)
    return folder


def test_the_readme_is_short_and_shows_how_five_libraries_read_the_tables() -> None:
    assert len(README.splitlines()) <= 120
    text = "".join(SNIPPETS)
    for library in ("imagesets", "polars", "pyarrow", "duckdb", "pandas"):
        assert f"import {library}" in text


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split()[1].split(".")[0])
def test_a_snippet_of_the_readme_runs(
    snippet: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setitem(sys.modules, "imagesets", pipelines)  # as its wheel is called
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(project / "catalogue"))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(project))
    monkeypatch.setenv("IMAGESETS_DATA", str(project / "cache"))
    found: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), found)
    batch = tables.read(project / "data/tables/mnist/train.parquet")
    held = {"images", "first", "train"} & {*found}
    assert held or "print(" in snippet, "a snippet that gives nothing to look at"
    if isinstance(images := found.get("images"), np.ndarray):
        assert np.array_equal(images, batch.images)
        assert np.array_equal(np.asarray(found["labels"]), batch.labels)
    if "first" in found:
        assert np.array_equal(np.asarray(found["first"]), batch.images[0, ..., 0])
    if "train" in found:
        train = found["train"]
        assert np.array_equal(train.images, batch.images)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("command", re.findall(r"python -m assets (\w+)", README))
def test_a_command_of_the_readme_exists(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assets", command, "--help"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", re.findall(r"^ +make (\w+)", README, re.MULTILINE))
def test_a_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
