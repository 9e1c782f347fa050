"""Croissant documents, as another program reads them: mlcroissant, the format's own library."""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pytest

from pipelines import catalogue, tables
from pipelines.declarations import Dataset, Source
from pipelines.descriptions import croissant
from pipelines.products import Inputs, Subject
from pipelines.progress import silent
from pipelines.store import Input, layout
from tests import builders

# mlcroissant and its libraries use what rdflib and pandas deprecate.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{deprecated}")
    for deprecated in ("ConjunctiveGraph is deprecated", "The inplace keyword")
]

BUILT_IN = Path(__file__).parents[2] / "assets" / "catalogue"
NAMES = {
    "tiny_colours": ["rose", "ruby", "rust", "sky", "sea", "steel"],
    "tiny_digits": ["zero", "one", "two"],
    "tiny_letters": ["A", "B", "C", "D"],
}
SPLITS = [(dataset, split) for dataset in NAMES for split in ("train", "test")]


def test_an_address_of_an_archive_is_quoted(tmp_path: Path) -> None:
    """A space ends it for many who read it, and a # is no part of the path."""
    tiny = builders.tiny(
        tmp_path, builders.images(2), np.zeros(2, np.uint8), format="npy", classes=1
    )
    source = replace(tiny.source, mirrors=("https://example.org/full/",))

    [archive, _] = croissant.document(source, tiny.dataset)["distribution"]

    assert archive["name"] == "class 0.npy"
    assert archive["contentUrl"] == "https://example.org/full/class%200.npy"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let no connection be tried: mlcroissant may swallow the refusal, so it is remembered."""
    tried: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("a test of Croissant needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert tried == []


@pytest.fixture
def data(publisher: builders.Publisher, tmp_path: Path) -> Path:
    """A data folder with the tables and the documents of three tiny datasets."""
    folder = tmp_path / "data"
    for source in catalogue.load(publisher.catalogue).sources.values():
        for dataset in source.datasets.values():
            for split in dataset.splits.values():
                goal = folder / layout.table(dataset.name, split.name)
                tables.write(source, dataset, split, publisher.mirror / source.name, goal)
            known = inputs(dataset, folder)
            write(source, dataset, known, folder / f"lineage/{dataset.name}/croissant.json")
    return folder


def write(source: Source, dataset: Dataset, known: list[Input], goal: Path) -> None:
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    croissant.write(Inputs((subject,), {}, tuple(known), {}), goal, {}, silent)


def inputs(dataset: Dataset, data: Path) -> list[Input]:
    paths = [layout.table(dataset.name, split) for split in dataset.splits]
    contents = [(path, (data / path).read_bytes()) for path in paths]
    return [Input(path, hashlib.sha256(c).hexdigest(), len(c)) for path, c in contents]


def declared() -> list[tuple[Source, Dataset]]:
    """Every dataset of the built-in catalogue."""
    sources = catalogue.load(BUILT_IN).sources.values()
    return [(source, dataset) for source in sources for dataset in source.datasets.values()]


def with_tables(source: Source, dataset: Dataset, seed: str = "") -> dict[str, Any]:
    """A document with tables of made-up bytes, as a reader gets it: through JSON."""
    paths = [layout.table(dataset.name, split) for split in dataset.splits]
    known = [Input(p, hashlib.sha256((p + seed).encode()).hexdigest(), 1) for p in paths]
    found: dict[str, Any] = json.loads(json.dumps(croissant.document(source, dataset, known)))
    return found


def opened(data: Path, dataset: str) -> Any:
    return mlcroissant.Dataset(data / f"lineage/{dataset}/croissant.json")


@pytest.mark.parametrize(("source", "dataset"), declared(), ids=lambda x: x.name)
def test_every_document_is_valid_and_lacks_at_most_the_date(
    source: Source, dataset: Dataset
) -> None:
    issues = mlcroissant.Dataset(with_tables(source, dataset)).metadata.ctx.issues
    assert issues.errors == set()
    missing = "datePublished" if source.published is None else "nothing"
    assert [warning for warning in issues.warnings if missing not in warning] == []


@pytest.mark.parametrize(("source", "dataset"), declared(), ids=lambda x: x.name)
def test_a_document_has_all_that_the_specification_requires_and_is_known(
    source: Source, dataset: Dataset
) -> None:
    found = with_tables(source, dataset)
    required = {"@context", "@type", "conformsTo", "description", "license", "name", "url"}
    assert required | {"creator", "distribution", "version", "citeAs"} <= set(found)
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert found["citeAs"].startswith("@")


@pytest.mark.parametrize(("dataset", "split"), SPLITS)
def test_the_records_that_mlcroissant_reads_are_those_published(
    data: Path, publisher: builders.Publisher, dataset: str, split: str
) -> None:
    images, labels, coarse = publisher.splits[dataset, split]
    found = list(opened(data, dataset).records(split))
    assert [record[f"{split}/index"] for record in found] == list(range(len(images)))
    assert {record[f"{split}/split"] for record in found} == {split.encode()}
    assert [record[f"{split}/label"] for record in found] == labels.tolist()
    names = [NAMES[dataset][label].encode() for label in labels]
    assert [record[f"{split}/class"] for record in found] == names
    pixels = np.array([record[f"{split}/pixels"] for record in found]).reshape(images.shape)
    assert np.array_equal(pixels, images)
    if coarse is None:
        assert f"{split}/coarse_label" not in found[0]
    else:
        assert [record[f"{split}/coarse_label"] for record in found] == coarse.tolist()
        colours = [[b"red", b"blue"][label] for label in coarse]
        assert [record[f"{split}/coarse_class"] for record in found] == colours


def test_reading_records_warns_of_nothing(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = opened(data, "tiny_colours")
    caplog.clear()  # of the missing date
    assert len(list(document.records("train"))) == 30
    assert caplog.messages == []


def test_mlcroissant_refuses_a_table_that_is_not_the_one_described(data: Path) -> None:
    path = data / layout.table("tiny_digits", "train")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(mlcroissant.GenerationError) as refused:
        list(opened(data, "tiny_digits").records("train"))
    assert "Hash of downloaded file" in str(refused.value.__cause__)


def test_classes_and_splits_are_enumerations(data: Path) -> None:
    document = opened(data, "tiny_colours")
    assert [list(record.values()) for record in document.records("classes")] == [
        list(pair) for pair in enumerate(NAMES["tiny_colours"])
    ]
    assert [list(record.values()) for record in document.records("coarse_classes")] == [
        [0, "red"],
        [1, "blue"],
    ]
    assert list(document.records("splits")) == [
        {"splits/name": "train", "splits/url": "cr:TrainingSplit"},
        {"splits/name": "test", "splits/url": "cr:TestSplit"},
    ]


def test_a_split_of_another_name_is_listed_without_saying_what_it_is_for() -> None:
    source, dataset = declared()[0]
    other = replace(dataset.splits["test"], name="hard")
    dataset = replace(dataset, splits={"train": dataset.splits["train"], "hard": other})
    document = mlcroissant.Dataset(with_tables(source, dataset))
    assert list(document.records("splits")) == [{"splits/name": "train"}, {"splits/name": "hard"}]


def test_the_files_are_those_that_are_there(data: Path, publisher: builders.Publisher) -> None:
    described = {file.name: file for file in opened(data, "tiny_letters").metadata.file_objects}
    assert set(described) == {"letters.zip", "train.parquet", "test.parquet"}
    folder = (data / "lineage/tiny_letters/croissant.json").parent
    places = {
        "letters.zip": publisher.archive("tiny_letters", "letters.zip"),
        "train.parquet": folder / described["train.parquet"].content_url,
        "test.parquet": folder / described["test.parquet"].content_url,
    }
    for name, place in places.items():
        content = place.read_bytes()
        assert described[name].sha256 == hashlib.sha256(content).hexdigest()
        assert described[name].content_size == f"{len(content)} B"
    archive = places["letters.zip"].read_bytes()
    assert described["letters.zip"].md5 == hashlib.md5(archive).hexdigest()


def test_an_archive_is_where_its_first_mirror_serves_it() -> None:
    [source, dataset] = next(pair for pair in declared() if pair[1].name == "emnist_letters")
    [archive] = [f for f in with_tables(source, dataset)["distribution"] if "md5" in f]
    # As published: facts that others pin too (torchvision, tensorflow_datasets).
    assert archive["contentUrl"] == "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"
    assert archive["md5"] == "58c8d27c78d21e728a6bc7b3cc06412e"
    assert archive["contentSize"] == "561753746 B"
    assert archive["encodingFormat"] == "application/zip"


def test_the_licence_is_in_the_publishers_words_also_where_there_are_none() -> None:
    found = {
        dataset.name: with_tables(source, dataset)["license"] for source, dataset in declared()
    }
    assert found["fashion_mnist"]["name"] == "MIT (c) 2017 Zalando SE"
    assert found["mnist"]["name"] == "not stated"
    assert found["mnist"]["description"] == "The publisher states no licence."


def test_a_date_is_given_where_it_is_known() -> None:
    for source, dataset in declared():
        document = mlcroissant.Dataset(with_tables(source, dataset))
        published = document.metadata.date_published
        assert (published and published.date()) == source.published
    [fashion] = [source for source, _ in declared() if source.name == "fashion_mnist"]
    assert fashion.published == date(2017, 8, 31)


def test_equal_tables_have_equal_versions_and_others_do_not() -> None:
    source, dataset = declared()[0]
    once, again, other = (with_tables(source, dataset, seed)["version"] for seed in ("", "", "x"))
    assert once == again != other


def test_the_same_tables_in_another_folder_give_the_same_bytes(
    data: Path, publisher: builders.Publisher, tmp_path: Path
) -> None:
    path = "lineage/tiny_letters/croissant.json"
    source = catalogue.load(publisher.catalogue).sources["tiny_letters"]
    dataset = source.datasets["tiny_letters"]
    write(source, dataset, inputs(dataset, data), tmp_path / "elsewhere.json")
    assert (tmp_path / "elsewhere.json").read_bytes() == (data / path).read_bytes()
    assert str(tmp_path) not in (data / path).read_text()
