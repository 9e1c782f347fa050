"""As many classes as a label can tell apart, through every stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import numpy as np
import polars as pl
import pytest

from pipelines import tables
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
