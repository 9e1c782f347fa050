"""Expectations, each held against a table in which just that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines import catalogue, statistics, tables
from pipelines.declarations import Dataset, Source
from pipelines.statistics import expectations, fingerprints
from tests import builders

CHECKS = {
    "records_as_declared",
    "index_complete",
    "labels_within_classes",
    "class_counts_as_declared",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> builders.Publisher:
    return builders.publish(tmp_path_factory.mktemp("checks") / "published")


@pytest.fixture(scope="module")
def source(published: builders.Publisher) -> Source:
    """Colours have coarse classes: every check has two families of labels to hold."""
    return catalogue.load(published.catalogue).sources["tiny_colours"]


@pytest.fixture(scope="module")
def colours(source: Source) -> Dataset:
    return source.datasets["tiny_colours"]


@pytest.fixture(scope="module")
def table(
    published: builders.Publisher,
    source: Source,
    colours: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    goal = tmp_path_factory.mktemp("tables") / "train.parquet"
    archives = published.mirror / "tiny_colours"
    tables.write(source, colours, colours.splits["train"], archives, goal)
    return goal


def failed(results: list[expectations.Finding]) -> set[str]:
    return {result.check_name or "" for result in results if not result.passed}


def _row(number: int, **values: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change some values of one row."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        here = pl.int_range(pl.len()) == number
        return frame.with_columns(
            pl.when(here)
            .then(pl.lit(value))
            .otherwise(pl.col(name))
            .cast(frame[name].dtype)
            .alias(name)
            for name, value in values.items()
        )

    return change


def _rose(frame: pl.DataFrame) -> int:
    """The first row whose class is `rose`, 0, of the coarse class `red`, 0."""
    return frame["label"].to_list().index(0)


BROKEN: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], set[str]]] = {
    "nothing": (lambda frame: frame, set()),
    "the last row is missing": (
        lambda frame: frame.head(-1),
        {"records_as_declared", "class_counts_as_declared"},
    ),
    "a row stands there twice": (
        lambda frame: pl.concat([frame, frame.tail(1)]),
        {"records_as_declared", "index_complete", "class_counts_as_declared"},
    ),
    "an index is repeated": (_row(5, index=4), {"index_complete"}),
    "rows are in another order": (lambda frame: frame.reverse(), {"index_complete"}),
    "the index starts at 1": (
        lambda frame: frame.with_columns(pl.col("index") + 1),
        {"index_complete"},
    ),
    "a class has another label's name": (
        lambda frame: _row(_rose(frame), **{"class": "sky"})(frame),
        {"labels_within_classes"},
    ),
    "a label stands for no class": (
        lambda frame: _row(_rose(frame), label=6)(frame),
        {"labels_within_classes", "class_counts_as_declared"},
    ),
    "a record has changed its class": (
        lambda frame: _row(_rose(frame), label=1, **{"class": "ruby"})(frame),
        {"class_counts_as_declared"},
    ),
    "a coarse class has another name": (
        lambda frame: _row(_rose(frame), coarse_class="blue")(frame),
        {"labels_within_classes"},
    ),
    "a coarse label stands for no class": (
        lambda frame: _row(_rose(frame), coarse_label=2)(frame),
        {"labels_within_classes", "class_counts_as_declared"},
    ),
    "a record has changed its coarse class": (
        lambda frame: _row(_rose(frame), coarse_label=1, coarse_class="blue")(frame),
        {"class_counts_as_declared"},
    ),
    "there is no row": (
        lambda frame: frame.clear(),
        {"records_as_declared", "class_counts_as_declared"},
    ),
}


@pytest.mark.parametrize(("broken", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_table_fails_just_the_checks_that_it_breaks(
    table: Path,
    colours: Dataset,
    tmp_path: Path,
    broken: Callable[[pl.DataFrame], pl.DataFrame],
    expected: set[str],
) -> None:
    path = tmp_path / "broken.parquet"
    broken(pl.read_parquet(table)).write_parquet(path)
    results = expectations.of_table(path, colours, colours.splits["train"])
    assert {result.check_name for result in results} == CHECKS
    assert failed(results) == expected


def test_a_check_tells_what_it_expected_and_what_it_found(
    table: Path, colours: Dataset, published: builders.Publisher
) -> None:
    _, labels, coarse = published.splits["tiny_colours", "train"]
    assert coarse is not None
    right = builders.counts(labels, 6), builders.counts(coarse, 2)
    wrong = tuple(reversed(right[0]))
    assert list(wrong) != right[0]
    split = replace(colours.splits["train"], counts=wrong, records=31)
    results = expectations.of_table(table, colours, split)
    told = {
        result.check_name: (result.expected, result.found)
        for result in results
        if not result.passed
    }
    assert told == {
        "records_as_declared": (31, 30),
        "class_counts_as_declared": tuple(
            {
                f"class {name}": number
                for name, number, other in zip(colours.classes, *numbers, strict=True)
                if number != other
            }
            for numbers in ((wrong, right[0]), (right[0], wrong))
        ),
    }, "only the classes that differ are named"


class TestSameImages:
    """Records with the very same pixels are told of, and stop nobody."""

    @pytest.fixture
    @staticmethod
    def tables_of_repeated(tmp_path: Path) -> list[Path]:
        """Train has an image 30 times and one twice under two labels; test has these two too."""
        images, paths = builders.images(3, seed=1), []
        for split, picked, labels in (
            ("train", [0] * 30 + [1, 1, 2], [0] * 30 + [1, 3, 4]),
            ("test", [0, 1], [0, 2]),
        ):
            tiny = builders.tiny(tmp_path / split, images[picked], np.array(labels, np.uint8))
            tiny = replace(tiny, split=replace(tiny.split, name=split))
            paths.append(tiny.table(tmp_path / f"{split}.parquet"))
        return paths

    def test_groups_are_counted_and_the_first_are_shown(
        self, tables_of_repeated: list[Path]
    ) -> None:
        train, _ = tables_of_repeated
        found = expectations.duplicates_within(train, fingerprints.of_table(train))
        assert not found.passed
        assert found.warns
        assert found.numbers == {"groups": 2, "records": 32, "of different classes": 1}
        first, second = found.rows
        assert str(first["records"]).startswith("train 0, train 1, train 2, ")
        assert str(first["records"]).endswith(", train 19 and 10 more")
        assert (first["classes"], first["one class"]) == ("class 0", "yes")
        assert second == {
            "records": "train 30, train 31",
            "classes": "class 1, class 3",
            "one class": "no",
        }
        assert str(found) == (
            "expected every image once, found 2 image(s) in 32 records, 1 of them with different "
            "classes"
        )

    def test_leaks_are_what_is_the_same_in_two_splits(self, tables_of_repeated: list[Path]) -> None:
        [found] = expectations.leaks(tables_of_repeated, {})
        assert found.numbers == {"groups": 2, "records": 34, "of different classes": 1}
        assert found.rows[1]["records"] == "train 30, train 31, test 1"

    def test_what_is_the_same_in_one_split_alone_is_no_leak(
        self, tables_of_repeated: list[Path], tmp_path: Path
    ) -> None:
        train, _ = tables_of_repeated
        tiny = builders.tiny(
            tmp_path / "other", builders.images(3, seed=2), np.arange(3, dtype="u1")
        )
        tiny = replace(tiny, split=replace(tiny.split, name="test"))
        [found] = expectations.leaks([train, tiny.table(tmp_path / "other.parquet")], {})
        assert found.passed
        assert found.numbers == {"groups": 0, "records": 0, "of different classes": 0}

    def test_where_all_are_different_all_is_well(self, table: Path) -> None:
        found = expectations.duplicates_within(table, fingerprints.of_table(table))
        assert found.passed
        assert found.numbers == {"groups": 0, "records": 0, "of different classes": 0}
        assert not found.rows

    def test_a_dataset_of_one_split_can_not_leak(self, table: Path) -> None:
        assert expectations.leaks([table], {}) == []


class TestPublishedConstants:
    """Mean and standard deviation of the training split, per channel, on the scale 0–1."""

    @pytest.fixture(scope="class")
    @staticmethod
    def path(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        goal = tmp_path_factory.mktemp("statistics") / "colours.parquet"
        statistics.write([table], goal)
        return goal

    @pytest.fixture(scope="class")
    @staticmethod
    def published_dataset(colours: Dataset, published: builders.Publisher) -> Dataset:
        """The dataset, with constants as publishers print them: four decimals."""
        images = published.splits["tiny_colours", "train"][0] / 255
        mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
        return replace(
            colours, mean=tuple(np.round(mean, 4).tolist()), std=tuple(np.round(std, 4).tolist())
        )

    def test_constants_with_four_decimals_pass(
        self, path: Path, published_dataset: Dataset
    ) -> None:
        [result] = expectations.of_statistics(path, published_dataset)
        assert result.check_name == "mean_and_std_as_published"
        assert result.passed

    @pytest.mark.parametrize("figure", ["mean", "std"])
    @pytest.mark.parametrize("channel", [0, 1, 2])
    @pytest.mark.parametrize("off", [0.0001, -0.0001])
    def test_one_in_the_fourth_decimal_of_one_channel_fails(
        self, path: Path, published_dataset: Dataset, figure: str, channel: int, off: float
    ) -> None:
        values = list(getattr(published_dataset, figure))
        values[channel] += off
        [result] = expectations.of_statistics(
            path, replace(published_dataset, **{figure: tuple(values)})
        )
        assert not result.passed
        expected = result.expected
        assert isinstance(expected, list)
        assert values in expected

    def test_constants_are_those_of_the_training_split_wherever_its_rows_stand(
        self,
        table: Path,
        published: builders.Publisher,
        source: Source,
        published_dataset: Dataset,
        tmp_path: Path,
    ) -> None:
        test, goal = tmp_path / "test.parquet", tmp_path / "statistics.parquet"
        archives, split = published.mirror / "tiny_colours", published_dataset.splits["test"]
        tables.write(source, published_dataset, split, archives, test)
        statistics.write([test, table], goal)
        assert pl.read_parquet(goal)["split"][0] == "test"
        assert not failed(expectations.of_statistics(goal, published_dataset))

    def test_constants_of_the_channels_in_another_order_fail(
        self, path: Path, published_dataset: Dataset
    ) -> None:
        swapped = replace(published_dataset, mean=published_dataset.mean[::-1])
        assert swapped != published_dataset
        assert failed(expectations.of_statistics(path, swapped)) == {"mean_and_std_as_published"}

    def test_where_none_are_published_nothing_is_expected(
        self, path: Path, colours: Dataset
    ) -> None:
        assert expectations.of_statistics(path, colours) == []
