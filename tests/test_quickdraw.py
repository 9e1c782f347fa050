"""Quick, Draw! as it is declared: 345 files of a class each, which nobody gets unasked."""

from __future__ import annotations

import pytest

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import archives, plan
from pipelines.declarations import Catalogue, Dataset, Source

HEADER_BYTES = 80  # as older NumPy wrote it; 128 today


@pytest.fixture(scope="module")
def built_in() -> Catalogue:
    return plan.load(BUILT_IN_CATALOGUE)


@pytest.fixture(scope="module")
def source(built_in: Catalogue) -> Source:
    return built_in.sources["quickdraw"]


@pytest.fixture(scope="module")
def dataset(source: Source) -> Dataset:
    return source.datasets["quickdraw"]


def test_it_has_as_many_files_bytes_and_drawings_as_published(
    source: Source, dataset: Dataset
) -> None:
    train = dataset.splits["train"]

    assert (len(source.archives), len(dataset.classes), list(dataset.splits)) == (
        *(345, 345),
        ["train"],
    )
    assert sum(archive.size_bytes for archive in source.archives.values()) == 39_534_220_144
    assert train.records == sum(train.counts) == 50_426_266
    counts = dict(zip(dataset.classes, train.counts, strict=True))
    assert min(counts.items(), key=lambda one: one[1]) == ("panda", 113_613)
    assert max(counts.items(), key=lambda one: one[1]) == ("snowman", 340_029)


def test_every_file_is_a_short_header_and_784_bytes_for_each_drawing(
    source: Source, dataset: Dataset
) -> None:
    train = dataset.splits["train"]
    sizes = {name: archive.size_bytes for name, archive in source.archives.items()}

    assert sizes == {
        f"{name}.npy": HEADER_BYTES + records * dataset.image.size_bytes
        for name, records in zip(dataset.classes, train.counts, strict=True)
    }


def test_each_class_is_the_file_of_its_name_in_the_publishers_order(
    source: Source, dataset: Dataset
) -> None:
    members = dataset.splits["train"].members["arrays"]

    assert [str(member) for member in members] == [f"{name}.npy" for name in dataset.classes]
    assert list(source.archives) == [str(member) for member in members]
    # Lines of its categories.txt, which is sorted by no rule that tells all of them.
    lines = {number: dataset.classes[number - 1] for number in (1, 17, 18, 67, 68, 309, 328, 345)}
    assert lines == {
        1: "aircraft carrier",
        17: "baseball",
        18: "baseball bat",
        67: "cello",
        68: "cell phone",
        309: "The Eiffel Tower",
        328: "t-shirt",
        345: "zigzag",
    }


@pytest.mark.parametrize(
    ("name", "size_bytes", "md5", "sha256"),  # of git-annex' keys, and of TensorFlow Datasets
    [
        ("The Eiffel Tower.npy", 105_684_064, "cc930593", "a2a85bfa"),
        ("aircraft carrier.npy", 91_339_216, "d0dd56f2", "59cfe8bd"),
        ("airplane.npy", 118_872_512, "460ca568", "88c5a880"),
    ],
)
def test_its_files_are_those_that_others_pin(
    source: Source, name: str, size_bytes: int, md5: str, sha256: str
) -> None:
    found = source.archives[name]

    assert (found.size_bytes, found.md5[:8], found.sha256[:8]) == (size_bytes, md5, sha256)
    assert len({one.sha256 for one in source.archives.values()}) == 345
    assert len({one.md5 for one in source.archives.values()}) == 345


def test_names_are_quoted_where_they_are_asked_for(source: Source) -> None:
    [place] = archives.places(source, source.archives["The Eiffel Tower.npy"], None, offline=False)

    assert place == (
        "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap/"
        "The%20Eiffel%20Tower.npy"
    )


def test_nobody_gets_it_who_names_nothing(built_in: Catalogue, source: Source) -> None:
    assert source.on_request
    assert "quickdraw" not in {dataset.source for dataset in built_in.by_default}
    assert len(built_in.by_default) == 10
    assert source.licence == "CC BY 4.0"
