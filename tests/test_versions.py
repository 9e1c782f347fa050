"""Versions side by side: what a publisher released under the same names at another time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import plan
from pipelines.declarations import Catalogue
from pipelines.errors import CatalogueError, UnknownName
from tests import builders
from tests.builders import Publisher


@pytest.fixture
def versions(publisher: Publisher) -> Publisher:
    """tiny_digits with a version before the current one, of other records."""
    older = {
        "train": (builders.images(20, seed=7), builders.labels(20, 3, 7)),
        "test": (builders.images(9, seed=8), builders.labels(9, 3, 8)),
    }
    builders.add_version(publisher, "1", older)
    return publisher


def edit(publisher: Publisher, old: str, new: str, source: str = "tiny_digits@1") -> Path:
    path = publisher.toml(source)
    text = path.read_text("utf-8")
    assert old in text, f"the text to edit is gone: {old}"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return publisher.catalogue


def problems(publisher: Publisher) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        plan.load(publisher.catalogue)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


# --- the catalogue --------------------------------------------------------------------------------


def test_a_version_says_what_differs_and_takes_all_else_from_the_current_one(
    versions: Publisher,
) -> None:
    found = plan.load(versions.catalogue)

    assert [name for name in found.sources if "digits" in name] == ["tiny_digits", "tiny_digits@1"]
    older, current = found.datasets["tiny_digits@1"], found.datasets["tiny_digits"]
    assert (older.classes, older.image, older.format) == (
        current.classes,
        current.image,
        current.format,
    )
    assert {name: split.records for name, split in older.splits.items()} == {"train": 20, "test": 9}
    source = found.source_of(older)
    assert (source.name, source.licence, source.on_request) == ("tiny_digits@1", "not stated", True)
    assert source.archives != found.source_of(current).archives
    assert (source.title, older.title) == ("Tiny, version 1", "Tiny digits, version 1")


def test_what_was_found_of_the_current_records_is_not_said_of_an_older_version(
    versions: Publisher,
) -> None:
    edit(
        versions,
        'title = "Tiny digits"',
        'title = "Tiny digits"\nmean = [0.1]\nstd = [0.2]\nquirks = ["No record is twice in it."]',
        "tiny_digits",
    )
    edit(versions, "mirrors = []", "published = 2001-02-03\nmirrors = []", "tiny_digits")

    found = plan.load(versions.catalogue)

    older = found.datasets["tiny_digits@1"]
    assert (older.mean, older.std, older.quirks, found.source_of(older).published) == (
        (),
        (),
        (),
        None,
    )
    assert found.datasets["tiny_digits"].mean == (0.1,)


def test_the_name_of_a_source_stands_for_its_current_version_alone(versions: Publisher) -> None:
    found = plan.load(versions.catalogue)

    assert [one.name for one in found.select(["tiny_digits"])] == ["tiny_digits"]
    assert [one.name for one in found.select(["tiny_digits@1"])] == ["tiny_digits@1"]
    assert "tiny_digits@1" not in [one.name for one in found.by_default]


def test_a_version_that_there_is_none_of_is_told_with_those_that_there_are(
    versions: Publisher,
) -> None:
    found: Catalogue = plan.load(versions.catalogue)

    with pytest.raises(UnknownName) as refused:
        found.select(["tiny_digits@3"])

    assert str(refused.value) == (
        "There is no version 'tiny_digits@3'. Known: tiny_digits@1 and tiny_digits, the current "
        "one."
    )
    with pytest.raises(UnknownName, match=r"^There is no version 'tiny_letters@3'\. Known: tiny_l"):
        found.select(["tiny_letters@3"])
    with pytest.raises(UnknownName, match=r"^There is no dataset 'nothing@3'\. Known: "):
        found.select(["nothing@3"])


def test_bytes_of_another_version_are_known_by_its_archives(versions: Publisher) -> None:
    found = plan.load(versions.catalogue)
    archive = found.sources["tiny_digits@1"].archives["train-images.gz"]

    assert found.identify(archive.md5) == "tiny_digits@1/train-images.gz"


def test_a_version_of_nothing_is_a_mistake(versions: Publisher) -> None:
    versions.toml("tiny_digits").unlink()

    assert problems(versions) == [
        "tiny_digits@1.toml: there is no tiny_digits.toml, of which this would be a version"
    ]


@pytest.mark.parametrize(
    "name", ["tiny_digits@1@2", "tiny_digits@", "tiny_digits@One", "tiny_digits@-1"]
)
def test_a_version_is_called_so_that_it_can_be_a_folder(versions: Publisher, name: str) -> None:
    versions.toml("tiny_digits@1").rename(versions.catalogue / f"{name}.toml")

    [problem] = problems(versions)

    assert problem.startswith(f"{name}.toml: the file's name must be NAME@VERSION: ")


def test_a_version_of_a_dataset_that_is_not_there_is_a_mistake(versions: Publisher) -> None:
    path = versions.toml("tiny_digits@1")
    path.write_text(path.read_text().replace("datasets.tiny_digits", "datasets.tiny_digit"))

    assert (
        "tiny_digits@1.toml: datasets.tiny_digit: tiny_digits.toml declares no such dataset, of "
        "which this would be a version. Did you mean 'tiny_digits'?"
    ) in problems(versions)


def test_no_dataset_of_a_current_file_is_called_as_a_version(versions: Publisher) -> None:
    path = versions.toml("tiny_digits")
    path.write_text(path.read_text().replace("datasets.tiny_digits", 'datasets."tiny_digits@1"'))

    assert (
        "tiny_digits.toml: datasets.tiny_digits: a name is lower-case letters, digits and "
        "underscores"
    ) in problems(versions)


def test_a_version_is_always_made_on_request(versions: Publisher) -> None:
    edit(versions, "mirrors", "on_request = false\nmirrors")

    assert problems(versions) == [
        "tiny_digits@1.toml: on_request: what is not current is made on request, and can't be "
        "otherwise"
    ]


def test_a_version_says_itself_where_its_bytes_come_from(versions: Publisher) -> None:
    edit(versions, "mirrors = []", "")

    assert problems(versions) == ["tiny_digits@1.toml: mirrors: missing key"]


def test_a_mistake_in_the_current_file_is_told_once(versions: Publisher) -> None:
    edit(versions, 'classes = ["zero", "one", "two"]', 'clases = ["zero"]', "tiny_digits")
    edit(versions, "records = 20", 'records = "20"')

    told = problems(versions)

    assert sum("clases" in problem for problem in told) == 1
    assert any(problem.startswith("tiny_digits@1.toml: datasets") for problem in told)


def test_a_version_of_a_file_that_can_not_be_read_is_not_judged(versions: Publisher) -> None:
    versions.toml("tiny_digits").write_text("no toml")

    [problem] = problems(versions)

    assert problem.startswith("tiny_digits.toml: not readable as TOML")


def test_what_every_split_says_is_said_of_the_splits_of_a_version_too(versions: Publisher) -> None:
    edit(
        versions,
        'title = "Tiny digits"',
        'title = "Tiny digits"\neach_split.parts = 8',
        "tiny_digits",
    )

    older = plan.load(versions.catalogue).datasets["tiny_digits@1"]

    assert [one.parts for one in older.splits.values()] == [8, 8]
    assert [one.name for one in older.splits["train"].divided]


def test_a_version_may_have_the_splits_of_the_current_one(versions: Publisher) -> None:
    path = versions.toml("tiny_digits@1")
    text = path.read_text()
    path.write_text(text[: text.index("[datasets.tiny_digits.splits")] + "each_split.parts = 8\n")

    found = plan.load(versions.catalogue).datasets

    assert {name: one.records for name, one in found["tiny_digits@1"].splits.items()} == {
        name: one.records for name, one in found["tiny_digits"].splits.items()
    }
    assert [one.parts for one in found["tiny_digits@1"].splits.values()] == [8, 8]
    assert [one.parts for one in found["tiny_digits"].splits.values()] == [None, None]
