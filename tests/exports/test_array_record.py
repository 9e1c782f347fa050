"""ArrayRecord: read by its own library, and every record found where it says that it is."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

from pipelines import plan, tables
from pipelines.errors import ArtefactError
from pipelines.exports import array_record
from pipelines.products import Inputs, Subject
from tests import builders, tensorflow

PNG = b"\x89PNG\r\n"
library = pytest.importorskip("array_record.python.array_record_module")


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def made(publisher: builders.Publisher, name: str, goal: Path, shard_records: int) -> Subject:
    dataset = plan.load(publisher.catalogue).datasets[name]
    source = plan.load(publisher.catalogue).source_of(dataset)
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    found = {}
    for split in subject.splits:
        found[split.name] = goal.parent / f"{split.name}.parquet"
        archives = publisher.mirror / source.name
        tables.write(source, dataset, split, archives, found[split.name])
    told: list[int] = []
    inputs = Inputs((subject,), {}, (), found)
    array_record.write(inputs, goal, {"shard_records": shard_records}, told.append)
    assert sum(told) == subject.records
    return subject


def part(subject: Subject, split: str) -> Subject:
    return Subject(subject.source, subject.dataset, (subject.dataset.splits[split],))


def test_its_own_library_reads_the_examples_in_any_order(tmp_path: Path, goal: Path) -> None:
    publisher = builders.publish(tmp_path / "published", train=30, test=12)
    made(publisher, "tiny_colours", goal, 20)
    _, fine, coarse = publisher.splits["tiny_colours", "train"]
    assert coarse is not None

    folder = goal / "tiny_colours/1.0.0"
    reader = library.ArrayRecordReader(
        str(folder / "tiny_colours-train.array_record-00001-of-00002")
    )

    assert reader.num_records() == 10
    assert "group_size:1," in reader.writer_options_string()
    for at in (9, 0, 4):
        values = tensorflow.features(reader.read([at])[0])
        assert (values["label"], values["coarse_label"]) == (fine[20 + at], coarse[20 + at])
    assert '"fileFormat": "array_record"' in (folder / "dataset_info.json").read_text()


def test_every_record_is_read_back_from_its_chunk_over_several_blocks(
    tmp_path: Path, goal: Path
) -> None:
    """1,500 records of 100 bytes and more: files of several blocks of 65,536 bytes."""
    publisher = builders.publish(tmp_path / "published", train=1500, test=3)
    subject = made(publisher, "tiny_letters", goal, 1000)
    pixels, labels, _ = publisher.splits["tiny_letters", "train"]

    stored = list(array_record.read(goal, part(subject, "train"), 0, 1500))

    images = np.concatenate([one.record.images for one in stored])
    np.testing.assert_array_equal(images, pixels)
    assert [int(one.record.labels[0]) for one in stored] == labels.tolist()
    for one, two in itertools.pairwise(stored):
        crosses = one.start // 65_536 < one.stop // 65_536  # and has 24 bytes of the block in it
        data = (goal / one.file).read_bytes()[one.start : one.stop]
        label = int(one.record.labels[0])
        assert crosses or (PNG in data and data.endswith(bytes([label])))
        if one.file == two.file:
            assert 0 <= two.start - one.stop <= 24


@pytest.mark.parametrize("at", ["length", "data"])
def test_a_bit_that_flips_is_told_with_the_record(tmp_path: Path, goal: Path, at: str) -> None:
    publisher = builders.publish(tmp_path / "published")
    subject = made(publisher, "tiny_digits", goal, 1000)
    stored = next(array_record.read(goal, part(subject, "train"), 17, 18))
    path = goal / stored.file
    data = bytearray(path.read_bytes())
    data[stored.start + (9 if at == "length" else 70)] ^= 1

    path.write_bytes(data)

    with pytest.raises(ArtefactError, match=f"record 17 from byte {stored.start:,}: "):
        next(array_record.read(goal, part(subject, "train"), 17, 18))


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, goal: Path) -> None:
    publisher = builders.publish(tmp_path / "published")
    subject = made(publisher, "tiny_digits", goal, 1000)
    stored = next(array_record.read(goal, part(subject, "train"), 17, 18))
    path = goal / stored.file
    path.write_bytes(path.read_bytes()[: stored.start])

    with pytest.raises(ArtefactError, match="record 17 "):
        next(array_record.read(goal, part(subject, "train"), 17, 18))


def test_a_disk_that_is_full_is_told() -> None:
    with (
        pytest.raises(OSError, match="No space left on device"),
        array_record._appended(Path("/dev/full")) as append,
    ):
        append([gzip.compress(bytes(range(256)) * 9) for _ in range(3000)])
