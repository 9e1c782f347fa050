"""A split whose publisher gives no labels, beside one that has them."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines as imagesets
from pipelines import products, stages, statistics, tables
from pipelines.api import loading, mapped, streams
from pipelines.errors import NoLabels, TableError, UnknownName
from pipelines.lineage import trace, verify
from pipelines.progress import Display
from pipelines.store import Folder, Store, layout
from tests import builders, published
from tests.published import Published

IMAGES = {
    "train": builders.images(20, 4, 3, seed=1),
    "unlabeled": builders.images(35, 4, 3, seed=2),
}
IMAGES["unlabeled"][7] = IMAGES["train"][3]  # found as a leak, without labels too
IMAGES["unlabeled"][8] = IMAGES["unlabeled"][9]
LABELS = builders.labels(20, 3, 1)
TOML = f"""
[datasets.pages]
title = "Pages"
format = "numpy"
image = {{ height = 4, width = 3, channels = 1 }}
classes = ["zero", "one", "two"]

[datasets.pages.splits.train]
records = 20
counts = {builders.counts(LABELS, 3)}
images = "pages.npz/train_images.npy"
labels = "pages.npz/train_labels.npy"

[datasets.pages.splits.unlabeled]
records = 35
labelled = false
images = "pages.npz/unlabeled_images.npy"
"""
UNLABELED = layout.table("pages", "unlabeled")


def publish(folder: Path, toml: str = TOML) -> Published:
    members = {f"{split}_images.npy": builders.npy(pixels) for split, pixels in IMAGES.items()}
    members["train_labels.npy"] = builders.npy(LABELS[:, None])
    return published.publish(folder, "pages", {"pages.npz": builders.zipped(members)}, toml)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Store]:
    folder = tmp_path_factory.mktemp("pages")
    found, store = publish(folder), Folder(folder / "data")
    found.build(store, [*published.BASIC, "csv", "npy", "safetensors", "croissant"])
    return found, store


@pytest.fixture
def library(pages: tuple[Published, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESETS_DATA", str(pages[1].place("")))
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(pages[0].catalogue))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(pages[0].mirror))


def test_its_table_has_nulls_where_labels_would_be(pages: tuple[Published, Store]) -> None:
    path = pages[1].local(UNLABELED)
    found, other = pl.read_parquet(path), pl.read_parquet(path.with_name("train.parquet"))

    assert found["label"].null_count() == found["class"].null_count() == 35
    assert found["index"].to_list() == list(range(35))
    assert found.schema == other.schema  # so that both can be read as one
    batch = tables.read(path)
    np.testing.assert_array_equal(batch.images, IMAGES["unlabeled"])
    assert batch.known_labels is None
    assert sum(map(len, tables.batches(path, 3, 30))) == 27


def test_asking_for_its_labels_says_that_there_are_none(pages: tuple[Published, Store]) -> None:
    path = pages[1].local(UNLABELED)

    with pytest.raises(NoLabels, match="pages/unlabeled has no labels"):
        tables.labels(path)
    with pytest.raises(NoLabels, match="have no labels"):
        _ = tables.read(path).labels


def test_a_table_with_labels_where_none_are_declared_is_refused(
    pages: tuple[Published, Store], tmp_path: Path
) -> None:
    with_labels = pq.read_table(pages[1].local(layout.table("pages", "train")))
    said = pq.read_schema(pages[1].local(UNLABELED)).metadata
    pq.write_table(with_labels.replace_schema_metadata(said), tmp_path / "forged.parquet")

    with pytest.raises(TableError, match="expected no value in any row of column 'label'"):
        tables.to_arrow(tmp_path / "forged.parquet")


def test_its_statistics_are_one_row(pages: tuple[Published, Store]) -> None:
    path = pages[1].local(layout.statistics("pages"))
    found = pl.read_parquet(path).filter(pl.col("split") == "unlabeled")

    assert found.select("label", "class", "records").rows() == [(None, None, 35)]
    assert found["mean_intensity"][0] == pytest.approx(IMAGES["unlabeled"].mean())
    assert statistics.counts(path).rows()[-1] == ("total", 20, 35)
    assert statistics.counts_as_rows(path)[1] == ["zero", str((LABELS == 0).sum()), ""]


def test_what_needs_labels_is_made_of_the_other_split(pages: tuple[Published, Store]) -> None:
    made = {one.path for one in pages[0].plan.artefacts.values()}

    assert "exports/pages/train.csv" in made
    assert "exports/pages/unlabeled.csv" not in made
    assert "exports/pages/unlabeled_npy" in made


@pytest.mark.parametrize(
    "name", [name for name, one in products.known().items() if one.scope != "whole"]
)
def test_whatever_there_is_of_such_a_dataset_can_be_made(
    pages: tuple[Published, Store], name: str
) -> None:
    found, store = pages
    product = products.known()[name]
    if product.lacking or not stages.applies(product, found.source, found.dataset):
        pytest.skip(product.lacking or "there is none of such a dataset")

    made = [one for one in found.build(store, [name]).values() if one.provenance.stage == name]

    assert made
    assert any("unlabeled" in one.provenance.path for one in made) == (
        product.scope == "split" and not product.needs_labels
    )


def test_it_is_verified_deeply_and_found_broken(tmp_path: Path) -> None:
    found, store = publish(tmp_path), Folder(tmp_path / "data")
    found.build(store, [*published.BASIC, "npy", "safetensors"])

    def conditions() -> dict[str, str]:
        verdicts = verify.verify(store, found.plan, [found.dataset], Display(), deep=True)
        return {one.path: one.condition for one in verdicts}

    assert {*conditions().values()} == {"whole"}
    images = store.local("exports/pages/unlabeled_npy") / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"!")
    table = store.local(UNLABELED)
    table.write_bytes(table.read_bytes().replace(b"PAR1", b"PAR2"))
    broken = {path for path, condition in conditions().items() if condition != "whole"}
    assert broken >= {UNLABELED, "exports/pages/unlabeled_npy"}
    assert layout.table("pages", "train") not in broken


def test_a_table_is_held_against_the_archive_record_by_record(
    pages: tuple[Published, Store], tmp_path: Path
) -> None:
    found, store = pages
    table = pq.read_table(store.local(UNLABELED))
    pixels = table["pixels"].to_pylist()
    pixels[4] = bytes(12)
    at = table.schema.get_field_index("pixels")
    column = pa.array(pixels, table.schema.field(at).type)
    forged = table.set_column(at, table.schema.field(at), column)
    pq.write_table(forged, tmp_path / "forged.parquet")
    comparison = tables.Comparison(
        *(UNLABELED, tmp_path / "forged.parquet", found.source, found.dataset),
        found.dataset.splits["unlabeled"],
    )

    said = comparison.compare(0, tables.read(store.local(UNLABELED)))

    assert said is not None
    assert "record 4" in said


def test_its_records_are_traced(pages: tuple[Published, Store]) -> None:
    chain = trace.trace(pages[0].plan, pages[1], "pages/unlabeled:7")

    assert chain.holds
    assert (chain.facts["label"], chain.facts["class"]) == (None, None)
    np.testing.assert_array_equal(chain.image, IMAGES["unlabeled"][7])
    for row in ("unlabeled/total", "train/one", "4"):
        assert trace.trace(pages[0].plan, pages[1], f"pages/statistics:{row}").holds
    with pytest.raises(UnknownName, match=r"no class 'one'\. Name total"):
        trace.trace(pages[0].plan, pages[1], "pages/statistics:unlabeled/one")


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_mlcroissant_reads_what_describes_it(pages: tuple[Published, Store]) -> None:
    described = mlcroissant.Dataset(str(pages[1].local("lineage/pages/croissant.json")))

    assert {one.name for one in described.metadata.record_sets} >= {"train", "unlabeled"}


def test_a_split_without_labels_is_loaded(library: None) -> None:
    found = imagesets.load("pages", "unlabeled")

    assert (len(found), found.known_labels) == (35, None)
    with pytest.raises(NoLabels, match="pages/unlabeled has no labels"):
        _ = found.labels
    assert [len(some) for some in loading.batches("pages", "unlabeled", records=30)] == [30, 5]
    of_arrays = mapped.Mapped(imagesets.arrays("pages", "unlabeled"))
    assert of_arrays.labels.tolist() == [-1] * 35
    assert {label for _, label in streams.shuffled("pages", "unlabeled", buffer=8, seed=0)} == {-1}


def test_the_same_images_are_found_without_labels(pages: tuple[Published, Store]) -> None:
    from pipelines.statistics import duplicates, fingerprints

    paths = [pages[1].local(layout.table("pages", split)) for split in IMAGES]
    prints = {path: fingerprints.of_table(path) for path in paths}
    groups = duplicates.by_group(duplicates.find(paths, prints))

    found = {tuple(group) for group in groups["records"].to_list()}
    assert found == {("train 3", "unlabeled 7"), ("unlabeled 8", "unlabeled 9")}


def test_no_counts_can_be_declared_of_it(tmp_path: Path) -> None:
    wrong = TOML.replace("labelled = false", "labelled = false\ncounts = [35, 0, 0]")

    with pytest.raises(Exception, match="counts: a split without labels has none"):
        _ = publish(tmp_path, wrong).declared


def test_its_metadata_say_so(pages: tuple[Published, Store]) -> None:
    said = json.loads(pq.read_schema(pages[1].local(UNLABELED)).metadata[b"imagesets"])

    assert said["labelled"] is False
    assert tables.info(pages[1].local(UNLABELED)).labelled is False
