"""As many classes as a label of one byte tells apart, and more, through every stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import numpy as np
import polars as pl
import pytest

import pipelines as imagesets
import pipelines.grain
from pipelines import products, stages, tables
from tests import builders
from tests.assets import project as projects
from tests.assets.conftest import Command


@pytest.mark.slow
def test_a_dataset_of_256_classes_and_256_coarse_ones_is_built_verified_and_traced(
    tmp_path: Path, command: Command
) -> None:
    """As many as a byte can tell apart: every class has records, the last one too."""
    labels = np.arange(256, dtype=np.uint8)
    images = builders.images(256, 4, 4, 3)
    tiny = builders.tiny(
        tmp_path, images, labels, coarse=labels[::-1], classes=256, coarse_classes=256
    )
    shutil.copytree(tiny.archives, tmp_path / "mirror" / "tiny")
    options = ["--data", str(tmp_path / "data"), "--catalogue", str(tmp_path / "catalogue")]

    said = command("build", *options, "--mirror", str(tmp_path / "mirror"))

    assert (said.code, set(projects.states(said.stdout).values())) == (0, {"made"}), said.stderr
    found = tables.read(tmp_path / "data/tables/tiny/train.parquet")
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.coarse_labels, labels[::-1])
    figures = pl.read_parquet(tmp_path / "data/statistics/tiny.parquet")
    assert figures["records"].to_list() == [1] * 256 + [256]
    *_, last = (tmp_path / "data/exports/tiny/train.csv").read_text().splitlines()
    assert last == ",".join(map(str, [255, *images[-1].ravel()]))
    with (
        lmdb.open(str(tmp_path / "data/exports/tiny/train_lmdb"), lock=False) as database,
        database.begin() as transaction,
    ):
        assert transaction.get(b"00255")[-3:] == b"\x28\xff\x01"  # field 5 is 255
    assert command("verify", "--deep", *options).code == 0
    for row in ("train:255", "statistics:train/255"):
        assert command("trace", f"tiny/{row}", "--no-picture", *options).code == 0


@pytest.mark.slow
def test_a_dataset_of_300_classes_is_built_exported_verified_and_traced(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file for each class, whose names have spaces, more than may be open at a time on macOS."""
    labels = np.sort(np.tile(np.arange(300, dtype=np.uint16), 2))
    images = builders.images(600, 4, 4)
    tiny = builders.tiny(tmp_path, images, labels, classes=300)
    shutil.copytree(tiny.archives, tmp_path / "mirror" / "tiny")
    data = tmp_path / "data"
    options = ["--data", str(data), "--catalogue", str(tmp_path / "catalogue")]
    named = [f"--only={name}" for name in ["tables", "statistics", "records", *exports(tiny)]]

    said = command("build", *options, "--mirror", str(tmp_path / "mirror"), *named)

    assert (said.code, set(projects.states(said.stdout).values())) == (0, {"made"}), said.stderr
    found = tables.read(data / "tables/tiny/train.parquet")
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels, strict=True)
    figures = pl.read_parquet(data / "statistics/tiny.parquet")
    assert figures["label"].to_list() == [*range(300), None]
    assert figures["records"].to_list() == [2] * 300 + [600]
    page = (data / "descriptions/tiny/train_records/index.html").read_text("utf-8")
    assert "unpacked(RECORDS.label, Uint16Array)" in page
    assert command("verify", "--deep", *options).code == 0
    for row in ("train:599", "statistics:train/299", "train_csv:599", "raw:train/599"):
        said = command("trace", f"tiny/{row}", "--no-picture", *options)
        assert (said.code, "class 299 (label 299)" in said.stdout) == (0, True), said.stdout
        assert "archives/tiny/class 299.npy" in said.stdout
    (data / "archives/tiny/class 299.npy").unlink()
    said = command("trace", "tiny/train:599", "--no-picture", *options)
    assert (said.code, "class 299 (label 299)" in said.stdout) == (1, True)
    broken = [line for line in said.stdout.splitlines() if line.startswith("BROKEN")]
    assert [line.split(maxsplit=2)[2] for line in broken] == ["archives/tiny/class 299.npy"] * 2
    assert "class 298" not in said.stdout, "no other class has to do with it"
    monkeypatch.setenv("IMAGESETS_DATA", str(data))
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(tmp_path / "catalogue"))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(tmp_path / "mirror"))
    held = imagesets.load("tiny")
    np.testing.assert_array_equal(held.labels, labels, strict=True)
    [first, *_] = imagesets.batches("tiny", records=512)
    np.testing.assert_array_equal(first.labels, labels[:512], strict=True)
    assert pipelines.grain.source("tiny")[599]["label"] == 299
    assert imagesets.table("tiny")["label"].to_pylist() == labels.tolist()


def exports(tiny: builders.Tiny) -> list[str]:
    """Every export that there is of a dataset."""
    known = products.known().items()
    found = [name for name, p in known if stages.applies(p, tiny.source, tiny.dataset)]
    return [name for name in found if products.room_of(name) == "exports"]
