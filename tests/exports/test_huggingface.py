"""Hugging Face: the card as YAML has it, and Parquet as pyarrow, polars and DuckDB read it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import plan
from pipelines.errors import ArtefactError
from pipelines.exports import _png as png
from pipelines.exports import huggingface
from pipelines.reading import opening
from tests.exports import sets
from tests.exports.sets import AWKWARD, Set

CIFAR100 = {"huggingface": {"image": "img", "label": "fine_label"}}


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return sets.build(tmp_path_factory.mktemp("grey"), names=AWKWARD, shape=(5, 4, 1))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Set:
    folder = tmp_path_factory.mktemp("colour")
    return sets.build(folder, classes=100, coarse=20, shape=(32, 32, 3), readers=CIFAR100)


@pytest.fixture(params=["grey", "colour"])
def some(request: pytest.FixtureRequest) -> Set:
    found: Set = request.getfixturevalue(request.param)
    return found


def parquet(folder: Path, split: str) -> Path:
    return folder / "tiny" / f"{split}-00000-of-00001.parquet"


def names(some: Set) -> list[str]:
    return (
        ["img", "fine_label", "coarse_label"]
        if some.arrays["train"][2] is not None
        else [
            "image",
            "label",
        ]
    )


def pictures(files: list[bytes]) -> Any:
    opened = (np.asarray(Image.open(io.BytesIO(file))) for file in files)
    return np.stack([array if array.ndim == 3 else array[..., None] for array in opened])


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_readers_read_pictures_and_labels_in_order(
    some: Set, tmp_path: Path, split: str
) -> None:
    told: list[int] = []
    assert some.write("huggingface", tmp_path / "hf", advance=told.append) == {"records": 42}
    assert sum(told) == 42
    path, (images, *labels) = parquet(tmp_path / "hf", split), some.arrays[split]
    image, *columns = names(some)

    by_arrow = pq.read_table(path)
    assert by_arrow.column_names == [image, *columns]
    assert {str(by_arrow[name].type) for name in columns} == {"int64"}
    by_polars = pl.read_parquet(path)
    by_duckdb = duckdb.sql(f"SELECT {image}.bytes, {', '.join(columns)} FROM '{path}'").fetchall()

    for files in (
        [row["bytes"] for row in by_arrow[image].to_pylist()],
        by_polars[image].struct.field("bytes").to_list(),
        [row[0] for row in by_duckdb],
    ):
        np.testing.assert_array_equal(pictures(files), images)
    assert by_arrow[image].combine_chunks().field("path").null_count == len(images)
    for number, (name, expected) in enumerate(zip(columns, labels, strict=False), start=1):
        assert expected is not None
        assert by_arrow[name].to_pylist() == expected.tolist()
        assert by_polars[name].to_list() == expected.tolist()
        assert [row[number] for row in by_duckdb] == expected.tolist()


def test_files_say_themselves_what_is_a_picture_and_what_a_class(some: Set, tmp_path: Path) -> None:
    some.write("huggingface", tmp_path / "hf")
    image, *labels = names(some)
    classes = [some.subject.dataset.classes, some.subject.dataset.coarse_classes]

    for split in ("train", "test"):
        metadata = pq.read_schema(parquet(tmp_path / "hf", split)).metadata
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        assert features == {image: {"_type": "Image"}} | {
            label: {"names": list(known), "_type": "ClassLabel"}
            for label, known in zip(labels, classes, strict=False)
        }


def test_the_card_names_classes_splits_and_files_whatever_the_classes_are_called(
    some: Set, tmp_path: Path
) -> None:
    some.write("huggingface", tmp_path / "hf")
    readme = (tmp_path / "hf" / "README.md").read_text("utf-8")

    _, front, prose = readme.split("---\n", 2)
    said = yaml.safe_load(front)

    info, [config] = said["dataset_info"], said["configs"]
    dataset = some.subject.dataset
    image, *labels = info["features"]
    assert image == {"name": names(some)[0], "dtype": "image"}
    for label, name, classes in zip(
        labels, names(some)[1:], (dataset.classes, dataset.coarse_classes), strict=False
    ):
        known = {str(number): known for number, known in enumerate(classes)}
        assert label == {"name": name, "dtype": {"class_label": {"names": known}}}
    assert [(one["name"], one["num_examples"]) for one in info["splits"]] == [
        ("train", 30),
        ("test", 12),
    ]
    for one in info["splits"]:
        pixels, *numbers = some.arrays[one["name"]]
        columns = sum(number is not None for number in numbers)
        files = png.encode(pixels)
        assert one["num_bytes"] == sum(map(len, files)) + 8 * columns * len(pixels)
    assert info["dataset_size"] == sum(one["num_bytes"] for one in info["splits"])
    assert info["download_size"] == sum(
        parquet(tmp_path / "hf", split).stat().st_size for split in ("train", "test")
    )
    assert info["config_name"] == config["config_name"] == "tiny"
    assert config["default"] is True
    for files in config["data_files"]:
        [found] = (tmp_path / "hf").glob(files["path"])
        assert found == parquet(tmp_path / "hf", files["split"])
    assert said["license"] == "unknown"
    assert said["size_categories"] == ["n<1K"]
    assert "# Tiny" in prose
    assert "@misc{tiny}" in prose


@pytest.mark.parametrize(
    ("records", "category"),
    [
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (70_000, "10K<n<100K"),
        (814_255, "100K<n<1M"),
        (5_000_000_000, "1B<n<10B"),
    ],
)
def test_sizes_have_the_names_of_the_hub(records: int, category: str) -> None:
    assert huggingface._size_category(records) == category


@given(text=st.text(max_size=30))
@settings(deadline=None)
def test_any_text_can_stand_in_a_card(text: str) -> None:
    value = {"a": [text, 1, True], text: {"b": text}}

    assert yaml.safe_load(f"key: {huggingface._yaml(value)}\n") == {"key": value}


def test_the_hubs_own_names_stand_in_the_catalogue() -> None:
    datasets = plan.load(BUILT_IN_CATALOGUE).datasets

    assert huggingface._names(datasets["mnist"]) == ["image", "label"]
    assert huggingface._names(datasets["cifar10"]) == ["img", "label"]
    assert huggingface._names(datasets["cifar100"]) == ["img", "fine_label", "coarse_label"]


def test_row_groups_are_small_and_the_same_whatever_the_batches(
    grey: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "_GROUP_RECORDS", 8)
    grey.write("huggingface", tmp_path / "a")
    monkeypatch.setattr(opening, "BATCH_RECORDS", 3)
    monkeypatch.setattr(png, "RUN", 2)
    grey.write("huggingface", tmp_path / "b")

    path = parquet(tmp_path / "a", "train")
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        chunk = file.metadata.row_group(0).column(0)
        assert chunk.has_offset_index
    assert groups == [8, 8, 8, 6]
    assert path.read_bytes() == parquet(tmp_path / "b", "train").read_bytes()
    monkeypatch.undo()
    monkeypatch.setattr(huggingface, "_GROUP_BYTES", 7 * 20)
    grey.write("huggingface", tmp_path / "c")
    assert pq.ParquetFile(parquet(tmp_path / "c", "train")).num_row_groups == 5


@pytest.mark.parametrize("group", [1, 8, 10_000])
def test_records_are_read_back_with_the_chunk_that_holds_them(
    some: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(huggingface, "_GROUP_RECORDS", group)
    some.write("huggingface", tmp_path / "hf")

    for split in ("train", "test"):
        found = list(some.read("huggingface", tmp_path / "hf", split))
        sets.assert_same(found, some.arrays[split])
        for index, one in enumerate(found):
            assert one.file == f"tiny/{split}-00000-of-00001.parquet"
            assert (one.facts["row_group"], one.facts["row"]) == divmod(index, group)
            assert 4 <= one.start < one.stop <= (tmp_path / "hf" / one.file).stat().st_size
            [alone] = some.read("huggingface", tmp_path / "hf", split, index, index + 1)
            assert (alone.start, alone.facts) == (one.start, one.facts)
        with pytest.raises(ArtefactError, match=f"ends before record {len(found)}"):
            next(some.read("huggingface", tmp_path / "hf", split, len(found), len(found) + 1))


def images_of(files: list[bytes | None], path: str | None = None) -> pa.Array:
    return pa.array(
        [{"bytes": file, "path": path} for file in files],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", pa.array([1] * 30, pa.int32())),
        ("label", pa.array([-1] * 30, pa.int64())),
        ("label", pa.array([256] * 30, pa.int64())),
        ("label", pa.nulls(30, pa.int64())),
        ("image", images_of([None] * 30)),
        ("image", images_of([b"GIF89a"] * 30)),
        ("image", images_of([b"GIF89a"] * 30, "a.gif")),
        ("image", pa.nulls(30, images_of([]).type)),
        ("more", pa.array([1] * 30)),
    ],
)
def test_what_is_not_as_it_is_written_here_is_refused(
    grey: Set, tmp_path: Path, column: str, values: pa.Array
) -> None:
    grey.write("huggingface", tmp_path / "hf")
    path = parquet(tmp_path / "hf", "train")
    table = pq.read_table(path)
    columns = {name: table[name] for name in table.column_names} | {column: values}
    pq.write_table(pa.table(columns), path)

    with pytest.raises(ArtefactError, match=r"train-00000-of-00001.parquet.*expected"):
        next(grey.read("huggingface", tmp_path / "hf", "train"))


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.floats(0, 1) | st.none())
@settings(deadline=None, max_examples=150)
def test_damage_is_never_taken_for_another_record(
    grey: Set,
    tmp_path_factory: pytest.TempPathFactory,
    at: float,
    bit: int,
    cut: float | None,
) -> None:
    """Pages have checksums: what is read at all is right, but for what nobody reads."""
    folder = tmp_path_factory.mktemp("damaged") / "hf"
    grey.write("huggingface", folder)
    path = parquet(folder, "test")
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])

    try:
        found = list(grey.read("huggingface", folder, "test"))
    except ArtefactError:
        return
    sets.assert_same(found, grey.arrays["test"])


def test_a_file_that_is_missing_or_none_is_told_of(grey: Set, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(grey.read("huggingface", tmp_path, "train"))
    parquet(tmp_path, "train").parent.mkdir()
    for data in (b"", b"PAR1", b"no Parquet at all"):
        parquet(tmp_path, "train").write_bytes(data)
        with pytest.raises(ArtefactError, match="is damaged"):
            next(grey.read("huggingface", tmp_path, "train"))
