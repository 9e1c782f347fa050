"""LMDB with the option `encoded`: PNGs for Caffe and DALI, read here by the libraries of others."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from pipelines import plan
from pipelines.errors import ArtefactError
from tests import builders
from tests.caffe import Datum, records
from tests.exports import exporting


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoded_datum_is_what_protobuf_writes_around_a_png_that_pillow_reads(
    tmp_path: Path, channels: int
) -> None:
    images, labels = builders.images(40, 7, 5, channels), builders.labels(40, 256)
    tiny = builders.tiny(tmp_path, images, labels, classes=256)
    goal = tmp_path / "train_lmdb" / "data.mdb"

    count = exporting.write("lmdb", tiny.table(tmp_path / "t.parquet"), goal, encoded=True)

    found = list(records(goal.parent))
    assert count == len(found) == 40
    for (key, datum), image, label, index in zip(found, images, labels, range(40), strict=True):
        assert key == f"{index:0{8 if channels == 1 else 5}d}"
        assert (datum.encoded, datum.label) == (True, label)
        assert (datum.height, datum.width, datum.channels) == image.shape
        shown = Image.open(io.BytesIO(datum.data))
        assert shown.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(shown).reshape(image.shape), image)
    with (
        lmdb.open(str(goal.parent), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        for (_, value), (_, datum) in zip(transaction.cursor(), found, strict=True):
            assert value == datum.SerializeToString(deterministic=True)


def test_encoded_records_are_read_back_whatever_their_size(tmp_path: Path) -> None:
    """Random pixels take more as a PNG than as they are, and here more than a page, too."""
    random = np.random.default_rng(0).integers(0, 256, (9, 90, 80, 1), np.uint8)
    labels = builders.labels(9, 5)
    tiny, goal = builders.tiny(tmp_path, random, labels), tmp_path / "db" / "data.mdb"
    exporting.write("lmdb", tiny.table(tmp_path / "t.parquet"), goal, encoded=True)

    for index in range(9):
        stored = exporting.read("lmdb", goal, index, (90, 80, 1))
        np.testing.assert_array_equal(stored.record.images[0], random[index])
        assert stored.record.labels.tolist() == [labels[index]]
        value = goal.read_bytes()[stored.start : stored.stop]
        assert Datum.FromString(value).encoded


@pytest.mark.parametrize("at", ["shape", "picture", "label", "end"])
def test_an_encoded_datum_that_is_damaged_is_refused(tmp_path: Path, at: str) -> None:
    tiny = builders.tiny(tmp_path, builders.images(1), builders.labels(1, 1), classes=1)
    goal = tmp_path / "db" / "data.mdb"
    exporting.write("lmdb", tiny.table(tmp_path / "t.parquet"), goal, encoded=True)
    stored = exporting.read("lmdb", goal, 0, (4, 3, 1))
    place = {
        "shape": stored.start + 1,
        "picture": (stored.start + stored.stop) // 2,
        "label": stored.stop - 4,  # the number of its field
        "end": stored.stop - 1,
    }[at]
    data = bytearray(goal.read_bytes())
    data[place] ^= 4

    goal.write_bytes(data)

    with pytest.raises(ArtefactError, match="key 00000000"):
        exporting.read("lmdb", goal, 0, (4, 3, 1))


def test_whether_images_are_encoded_is_only_said_where_they_are(
    publisher: builders.Publisher,
) -> None:
    """What was made before there was the option is still up to date."""
    declared = plan.load(publisher.catalogue)

    def parameters(encoded: bool) -> object:
        found = plan.of(declared, {"compression_level": -1, "lmdb_encoded": encoded})
        return found.artefacts["exports/tiny_digits/train_lmdb/data.mdb"].artefact().parameters

    plain, encoded = parameters(False), parameters(True)

    assert isinstance(plain, dict)
    assert [*plain] == ["key_digits", "about"]
    assert encoded == plain | {"encoded": True}
