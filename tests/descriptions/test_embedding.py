"""The description `embedding`: the right records at the right places, the same ones again."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image
from threadpoolctl import threadpool_info

from assets.settings import ROOT
from pipelines import products
from pipelines.descriptions import _machine, _maps, _projection, _spread, embedding
from pipelines.products import Inputs
from pipelines.progress import silent
from pipelines.store import hashing
from tests import builders
from tests.builders import Array
from tests.descriptions.showing import published

RECORDS = 600  # enough for blocks that linear algebra shares between threads
FILES = ["pca.parquet", "pca.png", "tsne.parquet", "tsne.png"]


def islands(records: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Images of which each class has a pattern of its own, with a little noise."""
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 2, (classes, 8, 8, 1)) * 200
    labels = random.integers(0, classes, records).astype(np.uint8)
    images = patterns[labels] + random.integers(0, 40, (records, 8, 8, 1))
    return images.astype(np.uint8), labels


def made(inputs: Inputs, goal: Path) -> Path:
    goal.mkdir()
    embedding.write(inputs, goal, {}, silent)
    return goal


def places(parquet: Path) -> npt.NDArray[np.float32]:
    found = pq.read_table(parquet)
    return np.column_stack([found["x"].to_numpy(), found["y"].to_numpy()])


def of(folder: Path, images: Array, labels: Array, classes: int) -> Inputs:
    names = [f"class {number}" for number in range(classes)]
    return published(folder, {"train": (images, labels), "test": (images, labels)}, names)


# --- which records --------------------------------------------------------------------------------


def test_records_are_evenly_spaced_after_a_stable_sort_by_class() -> None:
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0, 2, 2], np.uint8)
    # Sorted: 1 3 5 7 | 0 2 4 6 | 8 9; every second of them.
    assert _spread.chosen(labels, 5).tolist() == [0, 1, 4, 5, 8]
    assert _spread.chosen(labels, 99).tolist() == list(range(10))
    assert _spread.chosen(labels[:0], 5).tolist() == []


def test_each_class_keeps_its_share_whatever_the_order_of_records() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(6000) ** 2 * 10).astype(np.uint8)
    for some in (labels, np.sort(labels), labels[::-1].copy()):
        chosen = _spread.chosen(some, 1000)
        assert len({*chosen.tolist()}) == 1000
        assert (np.diff(chosen) > 0).all()
        share = np.bincount(some[chosen], minlength=10) - np.bincount(some, minlength=10) / 6
        assert np.abs(share).max() <= 1


def test_the_chosen_records_of_a_table_are_read_from_all_its_parts(tmp_path: Path) -> None:
    images, labels = builders.images(300, 5, 4, 3), builders.labels(300, 4)
    table = of(tmp_path, images, labels, 4).tables["train"]
    some = np.array([0, 7, 150, 299])
    np.testing.assert_array_equal(_spread.pixels(table, some), images.reshape(300, -1)[some])


# --- where they are -------------------------------------------------------------------------------


def test_a_folder_holds_both_maps_as_tables_and_as_pictures(tmp_path: Path) -> None:
    images, labels = islands(120, 3)
    folder = made(of(tmp_path / "x", images, labels, 3), tmp_path / "goal")
    assert builders.files_under(folder) == FILES
    for name in ("pca", "tsne"):
        found = pq.read_table(folder / f"{name}.parquet")
        types = {"index": "uint32", "label": "uint8", "x": "float", "y": "float"}
        assert {field.name: str(field.type) for field in found.schema} == types
        assert found["index"].to_pylist() == list(range(120))
        assert found["label"].to_pylist() == labels.tolist()
        assert np.isfinite(places(folder / f"{name}.parquet")).all()
        said = json.loads(found.schema.metadata[b"embedding"])
        assert (said["split"], said["records"], said["of"]) == ("train", 120, 120)
        picture = Image.open(io.BytesIO((folder / f"{name}.png").read_bytes()))
        assert (picture.size, picture.mode) == ((900, 900), "RGBA")
        assert picture.getpixel((0, 0)) == (255, 255, 255, 0), "nothing is behind it"
        assert "Software" not in picture.info


def test_of_many_records_ten_thousand_are_shown_and_the_rule_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MOST", 50)
    images, labels = islands(120, 3)
    inputs = of(tmp_path / "x", images, labels, 3)
    folder = made(inputs, tmp_path / "goal")
    found = pq.read_table(folder / "pca.parquet")
    assert found["index"].to_pylist() == _spread.chosen(labels, 50).tolist()
    said = embedding.settings(inputs.subject)
    expected = {"split": "train", "records": 50, "of": 120, "chosen": _spread.RULE}
    assert said["pca"].items() >= expected.items()
    assert said["tsne"] | {"perplexity": 16.333, "components": 50} == said["tsne"]


def test_principal_components_are_those_of_another_library() -> None:
    from sklearn.decomposition import PCA

    for records, width in ((200, 30), (20, 90)):  # both ways to compute them
        pixels = builders.images(records, width, 1).reshape(records, width)
        found = _projection.components(pixels)
        kept = min(50, records - 1, width)
        method = PCA(kept, svd_solver="full")
        theirs = method.fit_transform(pixels.astype(np.float64) / 255)
        axes = method.components_
        theirs *= np.sign(axes[np.arange(kept), np.abs(axes).argmax(1)])
        np.testing.assert_allclose(found[:, :kept], theirs, atol=1e-5)
        assert found.dtype == np.float32
        assert not found[:, kept:].any()


def test_neighbours_of_one_class_stay_together(tmp_path: Path) -> None:
    images, labels = islands(300, 5)
    folder = made(of(tmp_path / "x", images, labels, 5), tmp_path / "goal")
    found = places(folder / "tsne.parquet")
    away = np.linalg.norm(found[:, None] - found[None], axis=-1)
    nearest = np.argsort(away, axis=1)[:, 1:6]
    assert (labels[nearest] == labels[:, None]).mean() > 0.99


@pytest.mark.parametrize("records", [1, 2, 3, 4, 5, 9, 40])
def test_few_records_have_a_map_too(tmp_path: Path, records: int) -> None:
    images, labels = builders.images(records), np.zeros(records, np.uint8)
    folder = made(of(tmp_path / "x", images, labels, 2), tmp_path / "goal")
    found = places(folder / "tsne.parquet")
    assert np.isfinite(found).all()
    if records < 4:
        np.testing.assert_array_equal(found, places(folder / "pca.parquet"))


def test_the_perplexity_is_30_or_a_third_of_the_other_records() -> None:
    found = [_projection.perplexity(records) for records in (4, 31, 91, 92, 10_000)]
    assert found == [1, 10, 30, 30, 30]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 1, 3), (7, 7, 3)])
def test_images_of_any_size_and_records_that_are_all_alike_have_a_map(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    labels = np.zeros(30, np.uint8)
    for name, images in {
        "alike": np.full((30, *shape), 85, np.uint8),
        "two": np.repeat(np.array([0, 255], np.uint8), 15)[:, None, None, None]
        * np.ones(shape, np.uint8),
    }.items():
        folder = made(of(tmp_path / name, images, labels, 1), tmp_path / f"{name} goal")
        for parquet in ("pca.parquet", "tsne.parquet"):
            found = places(folder / parquet)
            assert np.isfinite(found).all()
            assert found.any() == (name == "two")


def test_all_records_are_told_of_as_done_bit_by_bit(tmp_path: Path) -> None:
    images, labels = islands(60, 3)
    goal = tmp_path / "goal"
    goal.mkdir()
    told: list[int] = []
    embedding.write(of(tmp_path / "x", images, labels, 3), goal, {}, told.append)
    assert sum(told) == 120, "of both splits"
    assert len([some for some in told if some]) > 10


# --- how they are drawn ---------------------------------------------------------------------------


def drawn(goal: Path, classes: list[str], records: int = 400) -> Image.Image:
    random = np.random.default_rng(0)
    labels = random.integers(0, len(classes), records).astype(np.uint8)
    points = random.normal(size=(records, 2)).astype(np.float32) + labels[:, None]
    _maps.draw(points, labels, classes, goal)
    return Image.open(io.BytesIO(goal.read_bytes()))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 10, 11, 62, 256])  # on one map, and on one each
def test_any_number_of_classes_is_drawn_as_wide_as_a_page(tmp_path: Path, classes: int) -> None:
    picture = drawn(tmp_path / "map.png", [f"a class with a name {n}" for n in range(classes)])
    assert picture.width == 900
    assert 700 < picture.height < 1500
    assert (tmp_path / "map.png").stat().st_size < 500_000


def test_up_to_ten_classes_have_a_colour_each_and_more_are_shown_against_grey(
    tmp_path: Path,
) -> None:
    def seen(picture: Image.Image) -> set[str]:
        found = np.asarray(picture)
        some = np.unique(found[found[..., 3] == 255][:, :3], axis=0)
        return {"#" + bytes(one).hex() for one in some}

    ten = seen(drawn(tmp_path / "ten.png", [*"0123456789"]))
    assert {*_maps.COLOURS} <= ten
    more = seen(drawn(tmp_path / "more.png", [*"0123456789a"]))
    assert not {*_maps.COLOURS} & more


def test_the_ten_colours_are_petroffs() -> None:
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    assert [*_maps.COLOURS] == [to_hex(one) for one in mpl.color_sequences["petroff10"]]


def test_names_that_would_cover_each_other_move_apart() -> None:
    random = np.random.default_rng(0)
    corners = random.random((10, 2)) * 60
    boxes = [(x, x + 80, y, y + 20) for x, y in corners]
    shifts = _maps.apart(boxes)
    moved = [(y + shift) for (_, _, y, _), shift in zip(boxes, shifts, strict=True)]
    assert np.diff(np.sort(moved)).min() >= 19
    assert _maps.apart([(0, 1, 0, 1), (2, 3, 0, 1), (0, 1, 5, 6)]) == [0, 0, 0]


def test_names_are_words_whatever_letters_they_have(tmp_path: Path) -> None:
    drawn(tmp_path / "few.png", ["$x^2$", "\\alpha", "お", "x" * 300, "%", "a\\b"])
    drawn(tmp_path / "many.png", ["$x^2$", "お", "x" * 300, *(f"_{n}" for n in range(20))])


# --- the same again -------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_process_with_more_threads_makes_the_same_bytes(tmp_path: Path) -> None:
    images, labels = islands(RECORDS, 4)
    inputs = of(tmp_path / "x", images, labels, 4)
    expected = hashing.sha256(made(inputs, tmp_path / "here"))
    code = (
        "import sys; from pathlib import Path; from tests.descriptions import test_embedding as t\n"
        "from pipelines.store import hashing\n"
        "inputs = t.of(Path(sys.argv[1]) / 'y', *t.islands(t.RECORDS, 4), 4)\n"
        "print(hashing.sha256(t.made(inputs, Path(sys.argv[1]) / 'there')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "3", "OPENBLAS_NUM_THREADS": "3"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_libraries_are_held_to_one_thread_in_one_block_at_a_time() -> None:
    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info()}

    found: list[set[int]] = []

    def hold() -> None:
        with _machine.one_thread("openTSNE"):
            found.append(threads())
            time.sleep(0.01)
            found.append(threads())

    blocks = [threading.Thread(target=hold) for _ in range(4)]
    for block in blocks:
        block.start()
    for block in blocks:
        block.join()
    assert found == [{1}] * 8


def test_the_declaration_says_that_it_depends_on_the_machine() -> None:
    product = products.known()["embedding"]
    assert (product.reproducible, product.extra) == ("one machine", "embedding")
    assert product.requires == ("matplotlib", "openTSNE")


def test_to_know_of_the_description_loads_none_of_its_libraries() -> None:
    code = (
        "import sys; from pipelines import products; products.known()['embedding']; "
        "print([name for name in ('openTSNE', 'sklearn', 'scipy', 'matplotlib') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]"]


def test_where_nobody_waits_any_more_it_ends_in_the_middle(tmp_path: Path) -> None:
    class NobodyWaits(Exception):
        pass

    told: list[int] = []

    def advance(done: int) -> None:
        told.append(done)
        if sum(told) > 60:
            raise NobodyWaits

    goal = tmp_path / "goal"
    goal.mkdir()
    with pytest.raises(NobodyWaits):
        embedding.write(of(tmp_path / "x", *islands(60, 3), 3), goal, {}, advance)
    assert sum(told) < 110
    assert builders.files_under(goal) == []
