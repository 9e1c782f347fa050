"""TFDS: its folder, read by TFRecord's rules, Google's protobuf and Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import plan, tables
from pipelines.errors import ArtefactError
from pipelines.exports import _examples, tfds
from pipelines.products import Inputs, Stored, Subject
from tests import builders, tensorflow

READERS = {
    "tiny_digits": 'tfds = { name = "mnist", version = "3.0.1" }',
    "tiny_letters": """tfds = { name = "emnist", config = "letters", version = "3.1.0", \
as_published = true }""",
    "tiny_colours": 'tfds = { name = "cifar100", version = "3.0.2", id = true }',
}


def declared(publisher: builders.Publisher, name: str, named: bool = True) -> Subject:
    if named:
        with publisher.toml(name).open("a") as file:
            file.write(f"\n[datasets.{name}.readers]\n{READERS[name]}\n")
    catalogue = plan.load(publisher.catalogue)
    dataset = catalogue.datasets[name]
    return Subject(catalogue.source_of(dataset), dataset, tuple(dataset.splits.values()))


def made(
    publisher: builders.Publisher, subject: Subject, goal: Path, shard_records: int = 1000
) -> Path:
    """Make the export; return the folder of the version."""
    folder = goal.parent / "tables"
    found = {}
    for split in subject.splits:
        found[split.name] = folder / f"{split.name}.parquet"
        archives = publisher.mirror / subject.source.name
        tables.write(subject.source, subject.dataset, split, archives, found[split.name])
    goal.mkdir()
    told: list[int] = []
    inputs = Inputs((subject,), {}, (), found)
    tfds.write(inputs, goal, {"shard_records": shard_records}, told.append)
    assert sum(told) == subject.records
    return goal / _examples.Form.of(subject.dataset).folder


def read(goal: Path, subject: Subject, split: str, index: int) -> Stored:
    part = Subject(subject.source, subject.dataset, (subject.dataset.splits[split],))
    return next(tfds.read(goal, part, index, index + 1))


def shown(png: bytes) -> Any:
    found = np.asarray(Image.open(io.BytesIO(png)))
    return found[..., np.newaxis] if found.ndim == 2 else found


def about(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    info, features = (
        json.loads((folder / name).read_text()) for name in ("dataset_info.json", "features.json")
    )
    return info, features["featuresDict"]["features"]


def test_it_lies_where_tfds_looks_for_its_own_version(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    made(publisher, declared(publisher, "tiny_digits"), tmp_path / "tfds")

    assert builders.files_under(tmp_path / "tfds") == [
        "mnist/3.0.1/dataset_info.json",
        "mnist/3.0.1/features.json",
        "mnist/3.0.1/label.labels.txt",
        "mnist/3.0.1/mnist-test.tfrecord-00000-of-00001",
        "mnist/3.0.1/mnist-train.tfrecord-00000-of-00001",
    ]


def test_tfds_is_told_of_splits_files_sizes_and_classes(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    folder = made(publisher, declared(publisher, "tiny_digits"), tmp_path / "tfds")
    info, features = about(folder)

    assert (info["name"], info["version"], info["fileFormat"]) == ("mnist", "3.0.1", "tfrecord")
    lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
    assert lengths == {"train": ["30"], "test": ["12"]}
    for split in info["splits"]:
        path = folder / f"mnist-{split['name']}.tfrecord-00000-of-00001"
        assert int(split["numBytes"]) == sum(map(len, tensorflow.records(path)))
    keys = [item["featureKey"] for item in info["supervisedKeys"]["tuple"]["items"]]
    assert keys == ["image", "label"]
    assert features["image"]["image"]["shape"] == {"dimensions": ["4", "3", "1"]}
    assert features["label"]["classLabel"] == {"numClasses": "3"}
    assert (folder / "label.labels.txt").read_text().splitlines() == ["zero", "one", "two"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_record_is_byte_for_byte_what_protobuf_writes(
    publisher: builders.Publisher, tmp_path: Path, split: str
) -> None:
    subject = declared(publisher, "tiny_colours")
    folder = made(publisher, subject, tmp_path / "tfds")
    pixels, fine, coarse = publisher.splits["tiny_colours", split]
    assert coarse is not None

    found = tensorflow.records(folder / f"cifar100-{split}.tfrecord-00000-of-00001")

    assert len(found) == len(fine)
    for index, data in enumerate(found):
        values = tensorflow.features(data)
        np.testing.assert_array_equal(shown(values["image"]), pixels[index], strict=True)
        expected = {
            "id": f"{split}_{index:05d}".encode(),
            "label": int(fine[index]),
            "coarse_label": int(coarse[index]),
            "image": values["image"],
        }
        assert values == expected
        assert data == tensorflow.example(expected)


@pytest.mark.parametrize("size", [1, 100, 127, 128, 129, 16_000, 16_383, 16_384, 70_000])
def test_an_example_of_any_size_is_what_protobuf_writes(size: int) -> None:
    """A length takes one, two or three bytes."""
    png = bytes(size)
    encode = _examples.encoder("train", has_id=True)

    features = {"image": png, "label": 255, "coarse_label": 128, "id": b"train_700000"}

    assert encode(700_000, png, 255, 128) == tensorflow.example(features)


def test_letters_are_as_published_for_those_who_turn_them_upright(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    """TFDS keeps them so, and has names for 37 classes: with other names it refuses the folder."""
    subject = declared(publisher, "tiny_letters")
    folder = made(publisher, subject, tmp_path / "tfds")
    pixels, labels, _ = publisher.splits["tiny_letters", "train"]

    found = tensorflow.records(folder / "emnist-train.tfrecord-00000-of-00001")

    assert folder == tmp_path / "tfds/emnist/letters/3.1.0"
    assert about(folder)[0]["configName"] == "letters"
    assert about(folder)[1]["label"]["classLabel"] == {"numClasses": "5"}
    assert not (folder / "label.labels.txt").exists()
    for index, data in enumerate(found):
        values = tensorflow.features(data)
        np.testing.assert_array_equal(shown(values["image"]), pixels[index].transpose(1, 0, 2))
        assert values["label"] == labels[index] + 1
    stored = read(tmp_path / "tfds", subject, "train", 29)
    np.testing.assert_array_equal(stored.record.images[0], pixels[29])
    assert stored.record.labels.tolist() == [labels[29]]


def test_a_dataset_that_tfds_does_not_have_is_upright_under_its_own_name(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    folder = made(publisher, declared(publisher, "tiny_letters", named=False), tmp_path / "tfds")
    pixels, labels, _ = publisher.splits["tiny_letters", "test"]

    assert folder == tmp_path / "tfds/tiny_letters/1.0.0"
    found = tensorflow.records(folder / "tiny_letters-test.tfrecord-00000-of-00001")
    values = tensorflow.features(found[5])
    np.testing.assert_array_equal(shown(values["image"]), pixels[5])
    assert values["label"] == labels[5]
    assert (folder / "label.labels.txt").read_text().splitlines() == ["A", "B", "C", "D"]


def test_a_large_split_has_several_files_of_as_many_records_each(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    subject = declared(publisher, "tiny_digits")
    folder = made(publisher, subject, tmp_path / "tfds", shard_records=7)
    pixels, labels, _ = publisher.splits["tiny_digits", "train"]

    assert about(folder)[0]["splits"][0]["shardLengths"] == ["7", "7", "7", "7", "2"]
    paths = [folder / f"mnist-train.tfrecord-{n:05d}-of-00005" for n in range(5)]
    found = [tensorflow.features(data) for path in paths for data in tensorflow.records(path)]
    assert [values["label"] for values in found] == labels.tolist()
    part = Subject(subject.source, subject.dataset, (subject.dataset.splits["train"],))
    some = list(tfds.read(tmp_path / "tfds", part, 5, 22))
    images = np.concatenate([stored.record.images for stored in some])
    np.testing.assert_array_equal(images, pixels[5:22])
    names = [Path(stored.file).name for stored in some]
    assert [names.count(path.name) for path in paths] == [2, 7, 7, 1, 0]
    for stored in some:
        path = tmp_path / "tfds" / stored.file
        frame = path.read_bytes()[stored.start : stored.stop]
        (tmp_path / "frame").write_bytes(frame)
        [data] = tensorflow.records(tmp_path / "frame")
        assert tensorflow.features(data)["label"] == stored.record.labels[0]


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (0, "the checksum of its length is wrong"),
        (9, "the checksum of its length is wrong"),
        (60, "its checksum is wrong"),
        (-1, "its checksum is wrong"),
    ],
)
def test_a_bit_that_flips_is_told_with_the_record(
    publisher: builders.Publisher, tmp_path: Path, offset: int, words: str
) -> None:
    subject = declared(publisher, "tiny_digits")
    folder = made(publisher, subject, tmp_path / "tfds")
    stored = read(tmp_path / "tfds", subject, "train", 17)
    path = folder / "mnist-train.tfrecord-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[(stored.stop if offset < 0 else stored.start) + offset] ^= 1

    path.write_bytes(data)

    assert read(tmp_path / "tfds", subject, "train", 16).record.images.any()
    with pytest.raises(ArtefactError, match=f"record 17 from byte {stored.start:,}: {words}"):
        read(tmp_path / "tfds", subject, "train", 17)


def test_a_file_that_is_cut_short_lacks_the_record(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    subject = declared(publisher, "tiny_digits")
    folder = made(publisher, subject, tmp_path / "tfds")
    stored = read(tmp_path / "tfds", subject, "train", 29)
    path = folder / "mnist-train.tfrecord-00000-of-00001"

    for end, words in ((stored.stop - 1, "the file ends early"), (stored.start, "ends before it")):
        path.write_bytes(path.read_bytes()[:end])
        with pytest.raises(ArtefactError, match=f"record 29 .*{words}"):
            read(tmp_path / "tfds", subject, "train", 29)


def framed(data: bytes) -> bytes:
    masked = tfds._checksum()
    length = len(data).to_bytes(8, "little")
    sums = (masked(part).to_bytes(4, "little") for part in (length, data))
    return length + next(sums) + data + next(sums)


@pytest.mark.parametrize("wrong", ["no message", "another label", "no image", "more", "no PNG"])
def test_what_is_no_example_of_a_record_is_refused(
    publisher: builders.Publisher, tmp_path: Path, wrong: str
) -> None:
    subject = declared(publisher, "tiny_digits")
    folder = made(publisher, subject, tmp_path / "tfds")
    path = folder / "mnist-test.tfrecord-00000-of-00001"
    first, *others = tensorflow.records(path)
    values = tensorflow.features(first)
    data = {
        "no message": b"\xff" * 40,
        "another label": tensorflow.example(values | {"label": 3}),
        "no image": tensorflow.example({"label": 1}),
        "more": tensorflow.example(values | {"other": 1}),
        "no PNG": tensorflow.example(values | {"image": b"GIF89a"}),
    }[wrong]

    path.write_bytes(b"".join(map(framed, [data, *others])))

    with pytest.raises(ArtefactError, match="record 0: expected"):
        read(tmp_path / "tfds", subject, "test", 0)
    assert read(tmp_path / "tfds", subject, "test", 1).record.images.any()


@pytest.mark.parametrize("text", ["", "{}", '{"splits": [{"name": "test"}]}', "[1]"])
def test_a_folder_that_does_not_tell_of_its_files_is_refused(
    publisher: builders.Publisher, tmp_path: Path, text: str
) -> None:
    subject = declared(publisher, "tiny_digits")
    folder = made(publisher, subject, tmp_path / "tfds")
    (folder / "dataset_info.json").write_text(text)

    with pytest.raises(ArtefactError, match=r"dataset_info\.json: expected how many records"):
        read(tmp_path / "tfds", subject, "test", 0)


def test_what_decides_its_bytes_are_tables_names_and_the_records_of_a_file(
    publisher: builders.Publisher,
) -> None:
    subject = declared(publisher, "tiny_letters")
    options = {"compression_level": -1, "tfds_shard_records": 5}
    found = plan.of(plan.load(publisher.catalogue), options)

    planned = found.artefacts["exports/tiny_letters/tfds"]

    parameters = planned.artefact().parameters
    assert planned.needs == tuple(f"tables/tiny_letters/{s}.parquet" for s in ("train", "test"))
    assert parameters["folder"] == "emnist/letters/3.1.0"
    assert (parameters["transposed"], parameters["first_label"]) == (True, 1)
    assert parameters["shard_records"] == 5
    assert parameters["classes"] == subject.dataset.classes
