"""The publisher's files in other people's folders: the very bytes, read by others' rules."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipelines import plan, products
from pipelines.declarations import Archive, Member
from pipelines.errors import ArtefactError, CatalogueError, MemberError
from pipelines.exports import raw
from pipelines.products import Inputs, Stored, Subject
from pipelines.store import layout
from tests import builders
from tests.archives.test_members import still_open

READERS = {
    "tiny_digits": 'raw = { folder = "MNIST/raw" }',
    "tiny_letters": 'raw = { folder = "EMNIST/raw" }',
    "tiny_colours": """raw = { folder = "cifar-100-binary", classes = "fine.txt", \
coarse_classes = "coarse.txt" }""",
}


def made(publisher: builders.Publisher, name: str, goal: Path, named: bool = True) -> Subject:
    """Make the export of a dataset; return what it is of."""
    if named:
        with publisher.toml(name).open("a") as file:
            file.write(f"\n[datasets.{name}.readers]\n{READERS[name]}\n")
    declared = plan.load(publisher.catalogue)
    dataset = declared.datasets[name]
    source = declared.source_of(dataset)
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    lying = {
        layout.archive(source.name, archive): publisher.archive(source.name, archive)
        for archive in source.archives
    }
    goal.mkdir()
    told: list[int] = []
    raw.write(Inputs((subject,), lying, (), {}), goal, {}, told.append)
    assert sum(told) == subject.records
    return subject


def read(goal: Path, subject: Subject, split: str, index: int) -> Stored:
    part = Subject(subject.source, subject.dataset, (subject.dataset.splits[split],))
    return next(raw.read(goal, part, index, index + 1))


def test_records_of_more_files_than_may_be_open_are_read_back(tmp_path: Path) -> None:
    """A file for each class, without another header being read for each record."""
    values = np.sort(np.tile(np.arange(300, dtype=np.uint16), 2))
    tiny = builders.tiny(tmp_path, builders.images(600), values, classes=300)
    subject = Subject(tiny.source, tiny.dataset, (tiny.split,))
    lying = {layout.archive("tiny", name): tiny.archives / name for name in tiny.members}
    goal = tmp_path / "raw"
    goal.mkdir()
    raw.write(Inputs((subject,), lying, (), {}), goal, {}, lambda _records: None)
    most, found = 0, []

    for stored in raw.read(goal, subject, 0, 600):
        found.append(stored)
        most = max(most, len(still_open(goal)))

    assert np.concatenate([one.record.labels for one in found]).tolist() == values.tolist()
    images = np.concatenate([one.record.images for one in found])
    np.testing.assert_array_equal(images, builders.images(600))
    assert found[-1].file == "class 299.npy"
    assert most <= 16
    assert still_open(goal) == []


def unidx(data: bytes) -> Any:
    """An IDX file of bytes as numpy reads it by the homepage of MNIST: nothing of ours."""
    sides = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sides)


def test_files_are_there_as_published_and_unpacked_and_nothing_else(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    goal = tmp_path / "raw"
    made(publisher, "tiny_digits", goal)

    names = ["test-images", "test-labels", "train-images", "train-labels"]
    both = [f"MNIST/raw/{name}{end}" for name in names for end in ("", ".gz")]
    assert builders.files_under(goal) == both
    for name in names:
        packed = publisher.archive("tiny_digits", f"{name}.gz").read_bytes()
        assert (goal / f"MNIST/raw/{name}.gz").read_bytes() == packed
        assert (goal / f"MNIST/raw/{name}").read_bytes() == gzip.decompress(packed)
    pixels, labels, _ = publisher.splits["tiny_digits", "train"]
    found = unidx((goal / "MNIST/raw/train-images").read_bytes())
    np.testing.assert_array_equal(found, pixels[..., 0])
    np.testing.assert_array_equal(unidx((goal / "MNIST/raw/train-labels").read_bytes()), labels)


def test_bzip2_and_xz_are_unpacked_beside_too(tmp_path: Path) -> None:
    pixels, values = builders.images(9), builders.labels(9, 5)
    tiny = builders.tiny(tmp_path, pixels, values)
    packed = {
        "images.bz2": bz2.compress(tiny.members["images"]),
        "labels.xz": lzma.compress(tiny.members["labels"]),
    }
    for name, data in packed.items():
        (tiny.archives / name).write_bytes(data)
    split = replace(
        tiny.split,
        members={"images": (Member("images.bz2"),), "labels": (Member("labels.xz"),)},
    )
    dataset = replace(tiny.dataset, splits={"train": split})
    archives = {
        name: Archive(len(data), "", hashlib.sha256(data).hexdigest(), name=name)
        for name, data in packed.items()
    }
    subject = Subject(replace(tiny.source, archives=archives), dataset, (split,))
    goal = tmp_path / "raw"
    goal.mkdir()

    lying = {layout.archive("tiny", name): tiny.archives / name for name in packed}
    raw.write(Inputs((subject,), lying, (), {}), goal, {}, lambda _records: None)

    assert builders.files_under(goal) == ["images", "images.bz2", "labels", "labels.xz"]
    assert (goal / "images").read_bytes() == tiny.members["images"]
    assert (goal / "labels.xz").read_bytes() == packed["labels.xz"]
    [last] = raw.read(goal, subject, 8, 9)
    np.testing.assert_array_equal(last.record.images[0], pixels[-1])
    assert last.file == "images"


def test_no_file_is_a_link_to_an_archive(publisher: builders.Publisher, tmp_path: Path) -> None:
    """Whoever writes to it would damage the archive."""
    goal = tmp_path / "raw"
    made(publisher, "tiny_digits", goal)

    for name in builders.files_under(goal):
        assert not (goal / name).is_symlink()
        assert (goal / name).stat().st_nlink == 1


def test_letters_stay_on_their_side_and_count_from_1_but_are_read_upright(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    goal = tmp_path / "raw"
    subject = made(publisher, "tiny_letters", goal)
    pixels, labels, _ = publisher.splits["tiny_letters", "train"]

    folder = goal / "EMNIST/raw"
    stored = unidx((folder / "train-images").read_bytes())
    np.testing.assert_array_equal(stored, pixels[..., 0].transpose(0, 2, 1))
    np.testing.assert_array_equal(unidx((folder / "train-labels").read_bytes()), labels + 1)
    with zipfile.ZipFile(publisher.archive("tiny_letters", "letters.zip")) as archive:
        for name in ("train-images.gz", "test-labels.gz"):
            assert (folder / name).read_bytes() == archive.read(f"gzip/{name}")
    last = read(goal, subject, "train", len(labels) - 1)
    np.testing.assert_array_equal(last.record.images[0], pixels[-1])
    assert last.record.labels.tolist() == [labels[-1]]
    label = last.facts["labels"]
    assert (folder / "train-labels").read_bytes()[slice(*label["bytes"])] == bytes([labels[-1] + 1])
    assert label["file"] == "EMNIST/raw/train-labels"


def test_batches_come_out_of_a_tar_with_the_lists_of_classes_that_readers_want(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    goal = tmp_path / "raw"
    subject = made(publisher, "tiny_colours", goal)

    folder = goal / "cifar-100-binary"
    batches = ["test_1.bin", "test_2.bin", "train_1.bin", "train_2.bin"]
    assert builders.files_under(folder) == sorted([*batches, "fine.txt", "coarse.txt"])
    with tarfile.open(publisher.archive("tiny_colours", "colours.tar.gz")) as archive:
        for name in batches:
            member = archive.extractfile(f"bin/{name}")
            assert member is not None
            assert (folder / name).read_bytes() == member.read()
    assert (folder / "fine.txt").read_text().splitlines() == [*subject.dataset.classes]
    assert (folder / "coarse.txt").read_text().splitlines() == ["red", "blue"]
    pixels, fine, coarse = publisher.splits["tiny_colours", "train"]
    assert coarse is not None
    for index in (0, 14, 15, 29):
        stored = read(goal, subject, "train", index)
        np.testing.assert_array_equal(stored.record.images[0], pixels[index])
        assert stored.record.coarse_labels is not None
        assert stored.record.coarse_labels.tolist() == [coarse[index]]
        assert stored.record.labels.tolist() == [fine[index]]
        data = (goal / stored.file).read_bytes()[stored.start : stored.stop]
        assert data[:2] == bytes([coarse[index], fine[index]])


def test_a_dataset_whose_readers_name_no_folder_has_its_files_in_the_export_itself(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    made(publisher, "tiny_letters", tmp_path / "raw", named=False)

    assert "train-images" in builders.files_under(tmp_path / "raw")


@pytest.mark.parametrize(
    ("name", "archive"), [("tiny_digits", "train-images.gz"), ("tiny_letters", "letters.zip")]
)
def test_bytes_that_are_not_the_declared_ones_are_refused(
    publisher: builders.Publisher, tmp_path: Path, name: str, archive: str
) -> None:
    path = publisher.archive(name, archive)
    if name == "tiny_digits":  # sound, but packed another way
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=7))
    else:
        with zipfile.ZipFile(path) as old:
            members = {n: old.read(n) for n in old.namelist()}
        some = members["gzip/train-images.gz"]
        members["gzip/train-images.gz"] = some[:4] + b"time" + some[8:]  # in gzip's header
        path.write_bytes(builders.zipped(members))

    with pytest.raises(MemberError, match=r"train-images\.gz: .* declared, but it has"):
        made(publisher, name, tmp_path / "raw")


def test_a_member_that_is_not_there_is_named(publisher: builders.Publisher, tmp_path: Path) -> None:
    path = publisher.archive("tiny_colours", "colours.tar.gz")
    with tarfile.open(path) as archive:
        members = {m.name: cast(Any, archive.extractfile(m)).read() for m in archive}
    del members["bin/test_2.bin"]
    path.write_bytes(builders.tarred(members))

    with pytest.raises(MemberError, match=r"bin/test_2\.bin: the archive has no such member"):
        made(publisher, "tiny_colours", tmp_path / "raw")


def test_a_member_that_a_tar_holds_twice_is_refused(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    """The second one comes after all that is wanted."""
    path = publisher.archive("tiny_colours", "colours.tar.gz")
    file = io.BytesIO(gzip.decompress(path.read_bytes()))
    with tarfile.open(fileobj=file, mode="a") as archive:
        archive.addfile(tarfile.TarInfo("bin/train_1.bin"))
    path.write_bytes(builders.gz(file.getvalue()))

    with pytest.raises(MemberError, match=r"bin/train_1\.bin: the archive holds it twice"):
        made(publisher, "tiny_colours", tmp_path / "raw")


@pytest.mark.parametrize("name", ["tiny_digits", "tiny_colours"])
def test_a_file_that_is_cut_short_lacks_the_record(
    publisher: builders.Publisher, tmp_path: Path, name: str
) -> None:
    goal = tmp_path / "raw"
    subject = made(publisher, name, goal)
    stored = read(goal, subject, "test", 11)
    path = goal / stored.file
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ArtefactError, match="record 11 of test: expected bytes"):
        read(goal, subject, "test", 11)


def test_a_label_that_stands_for_no_class_is_refused(
    publisher: builders.Publisher, tmp_path: Path
) -> None:
    goal = tmp_path / "raw"
    subject = made(publisher, "tiny_digits", goal)
    path = goal / "MNIST/raw/test-labels"
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")

    with pytest.raises(ArtefactError, match=r"record 11 of test: .* has label 9"):
        read(goal, subject, "test", 11)


def test_files_of_one_name_can_not_lie_in_one_folder(publisher: builders.Publisher) -> None:
    toml = publisher.toml("tiny_letters")
    text = toml.read_text().replace("gzip/test-images.gz", "test/train-images.gz")
    toml.write_text(text)

    declared = plan.load(publisher.catalogue)

    assert not products.known()["raw"].applies(declared.datasets["tiny_letters"])
    assert products.known()["raw"].applies(declared.datasets["tiny_digits"])


@pytest.mark.parametrize("name", ["../out", "/out", "a//b", "."])
def test_a_folder_that_leads_out_of_the_export_is_refused(
    publisher: builders.Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(READERS, "tiny_digits", f'raw = {{ folder = "{name}" }}')

    with pytest.raises(CatalogueError, match="no plain path inside an export"):
        made(publisher, "tiny_digits", tmp_path / "raw")

    assert builders.files_under(tmp_path / "raw") == []


def test_what_decides_its_bytes_are_the_archives_and_the_names(
    publisher: builders.Publisher,
) -> None:
    found = plan.of(plan.load(publisher.catalogue), {"compression_level": -1})

    planned = found.artefacts["exports/tiny_colours/raw"]

    assert planned.needs == ("archives/tiny_colours/colours.tar.gz",)
    assert planned.artefact().parameters["folder"] == ""
