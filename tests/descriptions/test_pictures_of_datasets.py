"""The description `pictures`: its files show the records, means and counts that there are."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from assets.settings import ROOT, Settings
from pipelines import catalogue
from pipelines.descriptions import _charts, pictures
from pipelines.products import Inputs
from pipelines.progress import silent
from pipelines.store import hashing
from tests import builders
from tests.builders import Array
from tests.descriptions.showing import published
from tests.descriptions.test_pictures import FASHION, places

SVG = "{http://www.w3.org/2000/svg}"


def drawn(inputs: Inputs, goal: Path) -> Path:
    goal.mkdir()
    pictures.write(inputs, goal, {}, silent)
    return goal


def shown(png: Path) -> Image.Image:
    return Image.open(io.BytesIO(png.read_bytes()))


def on_white(png: Path) -> Array:
    image = shown(png).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(page, image).convert("RGB"))


def words(svg: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.parse(svg).iter(f"{SVG}text")]


def thumbnails(sprite: Path) -> Array:
    """A sprite as (row, column, 28, 28, channels)."""
    found = np.atleast_3d(np.asarray(shown(sprite)))
    height, width, channels = found.shape
    cut = found.reshape(height // 28, 28, width // 28, 28, channels)
    return cut.transpose(0, 2, 1, 3, 4)


def uneven(records: int, classes: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).random(records) ** 2 * classes).astype(np.uint8)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, Path, Array, Array]:
    """Ten classes of 28×28, two splits: what it is drawn from and into, train's records."""
    folder = tmp_path_factory.mktemp("fashion")
    images, labels = builders.images(1500, 28, 28), uneven(1500, 10)
    test = builders.images(300, 28, 28, seed=1), uneven(300, 10, 1)
    inputs = published(folder / "made", {"train": (images, labels), "test": test}, FASHION)
    return inputs, drawn(inputs, folder / "pictures"), images, labels


def test_there_are_the_four_files_that_the_description_names(
    fashion: tuple[Inputs, Path, Array, Array],
) -> None:
    _, folder, _, _ = fashion
    expected = ["counts.svg", "means.png", "samples.png", "sprite.png"]
    assert builders.files_under(folder) == expected


def test_each_class_takes_three_rows_of_thirty_first_records_in_the_sprite(
    fashion: tuple[Inputs, Path, Array, Array],
) -> None:
    _, folder, images, labels = fashion

    sprite = shown(folder / "sprite.png")
    found = thumbnails(folder / "sprite.png")

    assert (sprite.size, sprite.mode) == ((840, 840), "L")
    for label in range(10):
        mine = images[labels == label][:90]
        block = found[3 * label : 3 * label + 3].reshape(90, 28, 28, 1)
        np.testing.assert_array_equal(block[: len(mine)], mine)
        assert not block[len(mine) :].any(), "what there is no record for stays empty"
    assert min(np.bincount(labels, minlength=10)) < 90 < max(np.bincount(labels, minlength=10))


def test_the_samples_are_the_first_ten_records_of_each_class_of_the_first_split(
    fashion: tuple[Inputs, Path, Array, Array],
) -> None:
    _, folder, images, labels = fashion
    sheet = on_white(folder / "samples.png")
    rows = []
    for label in range(10):
        mine = images[labels == label][:10]
        [(top, left)] = places(sheet, mine[0], 3)
        for number, image in enumerate(mine):
            x = left + 88 * number
            shown = sheet[top : top + 84 : 3, x : x + 84 : 3]
            assert (shown == image).all(), "sharp, and in its place"
        assert sheet.shape[1] == left + 10 * 88 - 4, "no more than ten"
        assert sheet[top : top + 84, :left].min() < 150, "its name stands before them"
        rows.append(top)
    assert rows == [88 * label for label in range(10)]


def test_the_first_split_of_each_dataset_that_is_built_in_is_train() -> None:
    datasets = catalogue.load(Settings().catalogue).by_default
    assert {next(iter(dataset.splits)) for dataset in datasets} == {"train"}


def test_means_are_those_of_the_records_in_a_column_for_each_split(
    fashion: tuple[Inputs, Path, Array, Array],
) -> None:
    inputs, folder, images, labels = fashion
    test, test_labels = builders.images(300, 28, 28, seed=1), uneven(300, 10, 1)
    sheet = on_white(folder / "means.png")
    for label in range(10):
        of_splits = images[labels == label], test[test_labels == label]
        means = [np.rint(one.astype(np.float64).mean(0)).astype(np.uint8) for one in of_splits]
        [(y, train)], [(below, right)] = (places(sheet, mean, 3) for mean in means)
        assert (y, train < right) == (below, True)
        assert sheet[:20, train : train + 84].min() < 150, "the split is named above its column"
        assert sheet[:20, right : right + 84].min() < 150
    assert len(inputs.subject.splits) == 2


def test_the_chart_holds_each_name_and_each_number_as_words(
    fashion: tuple[Inputs, Path, Array, Array],
) -> None:
    _, folder, _, labels = fashion
    found = words(folder / "counts.svg")
    numbers = [*np.bincount(labels, minlength=10), *np.bincount(uneven(300, 10, 1), minlength=10)]
    expected = [*FASHION, *(f"{number:,}" for number in numbers), "train", "test"]
    assert sorted(found) == sorted(expected)
    title = ElementTree.parse(folder / "counts.svg").find(f"{SVG}title")
    assert title is not None
    assert title.text == "Shown: records of each class"


def test_where_all_classes_have_as_many_records_the_chart_says_that_once(tmp_path: Path) -> None:
    labels = np.arange(40, dtype=np.uint8) % 20
    inputs = published(
        tmp_path / "made",
        {"train": (builders.images(40), labels), "test": (builders.images(20), labels[:20])},
        [f"class {number}" for number in range(20)],
    )
    found = words(drawn(inputs, tmp_path / "pictures") / "counts.svg")
    assert sorted(found) == sorted(["train", "test", "each of the 20 classes", "2", "1"])


@pytest.mark.parametrize(
    ("classes", "size"),
    [
        (1, (840, 84)),
        (10, (840, 840)),
        (47, (1680, 2016)),
        (62, (1680, 2604)),
        (100, (2520, 2856)),
        (256, (4200, 4368)),
    ],
)
def test_more_classes_stand_in_several_columns_of_a_sprite_that_is_about_square(
    tmp_path: Path, classes: int, size: tuple[int, int]
) -> None:
    labels = np.arange(classes, dtype=np.uint8)
    images = np.broadcast_to(labels[:, None, None, None], (classes, 28, 28, 1)).copy()
    names = [f"a name that takes a line or two {number}" for number in range(classes)]
    folder = drawn(
        published(tmp_path / "made", {"train": (images, labels)}, names), tmp_path / "pictures"
    )

    assert shown(folder / "sprite.png").size == size
    found = thumbnails(folder / "sprite.png")
    firsts = found[::3, ::30, 0, 0, 0]  # the first record of each block
    assert firsts.T.ravel()[:classes].tolist() == labels.tolist()
    sheet = shown(folder / "samples.png")
    assert max(sheet.size) < 4000


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (96, 96, 3), (3, 64, 1), (20, 7, 3)])
def test_images_of_any_size_keep_their_proportions_in_the_sprite(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    labels = np.array([0, 2, 0, 3], np.uint8)  # none of class 1
    images = np.full((4, *shape), 255, np.uint8)
    inputs = published(tmp_path / "made", {"train": (images, labels)}, [*"abcd"])
    folder = drawn(inputs, tmp_path / "pictures")

    found = thumbnails(folder / "sprite.png")
    assert found.shape[-1] == shape[2]
    height, width = (max(1, round(side * 28 / max(shape[:2]))) for side in shape[:2])
    for row, column, there in [(0, 0, 1), (0, 1, 1), (0, 2, 0), (3, 0, 0), (6, 0, 1), (9, 0, 1)]:
        lit = np.argwhere(found[row, column].max(-1) > 200)
        if not there:
            assert not found[row, column].any()
            continue
        low, high = lit.min(0), lit.max(0)
        assert (high - low + 1).tolist() == [height, width]
        assert (np.abs(low - (27 - high)) <= 1).all(), "in the middle"
    for name in ("samples.png", "means.png"):
        assert (on_white(folder / name) < 150).any()


def test_a_small_image_is_enlarged_by_a_whole_factor_pixel_by_pixel(tmp_path: Path) -> None:
    images, labels = builders.images(5, 14, 7, 3), np.zeros(5, np.uint8)
    inputs = published(tmp_path / "made", {"train": (images, labels)}, ["a"])
    found = thumbnails(drawn(inputs, tmp_path / "pictures") / "sprite.png")[0, :5, :, 7:21]
    np.testing.assert_array_equal(found, images.repeat(2, 1).repeat(2, 2))


def test_names_of_any_letters_are_words_and_neither_markup_nor_formulas(tmp_path: Path) -> None:
    names = ["a $x^2$ b", "<b>&", "お", "%", "_", "x" * 60]
    labels = np.array([0, 1, 2, 3, 4, 5, 5], np.uint8)
    inputs = published(tmp_path / "made", {"train": (builders.images(7), labels)}, names)
    found = words(drawn(inputs, tmp_path / "pictures") / "counts.svg")
    assert {*names[:-1]} <= {*found}
    assert any(word.startswith("xxx") for word in found)


def test_a_split_with_a_long_name_is_named_above_its_narrow_column(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1], np.uint8)
    splits = {"train": (images, labels), "unlabelled_extra": (images, labels)}
    folder = drawn(published(tmp_path / "made", splits, ["a", "b"]), tmp_path / "pictures")
    sheet = on_white(folder / "means.png")
    tiles = np.flatnonzero((sheet[-1] == 0).all(-1))
    gap = int(np.flatnonzero(np.diff(tiles) > 1)[0])  # between the two columns
    between = sheet[:20, tiles[gap] + 1 : tiles[gap + 1]]
    assert (between == 255).all(), "no head reaches into the next column"


def test_what_matplotlib_was_told_elsewhere_changes_nothing(
    fashion: tuple[Inputs, Path, Array, Array], tmp_path: Path
) -> None:
    inputs, folder, _, _ = fashion
    expected = hashing.sha256(folder)
    told = {"font.size": 20.0, "axes.facecolor": "red", "svg.fonttype": "path"}
    with mpl.rc_context(told):
        assert hashing.sha256(drawn(inputs, tmp_path / "again")) == expected
        assert mpl.rcParams["font.size"] == 20.0


def test_two_threads_that_draw_at_once_draw_the_same(
    fashion: tuple[Inputs, Path, Array, Array], tmp_path: Path
) -> None:
    inputs, folder, _, _ = fashion
    threads = [
        threading.Thread(target=drawn, args=(inputs, tmp_path / str(number))) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = hashing.sha256(folder)
    assert {hashing.sha256(tmp_path / str(number)) for number in range(4)} == {expected}


def test_a_person_sees_the_colours_of_the_chart_on_light_and_dark_pages() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for colour, least in [(_charts.INK, 4.0), *((one, 3.0) for one in _charts.SERIES[:2])]:
        for page in ("#ffffff", "#121417"):
            low, high = sorted((luminance(colour), luminance(page)))
            assert (high + 0.05) / (low + 0.05) >= least, (colour, page)


def test_to_know_of_the_description_loads_no_matplotlib() -> None:
    code = (
        "import sys; from pipelines import products; products.known()['pictures']; "
        "print('matplotlib' in sys.modules, 'PIL' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_sprite_of_the_publishers_records_is_theirs(
    name: str, mirror: Path, tmp_path: Path
) -> None:
    from tests.test_official import read_elsewhere

    if not (mirror / name / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip(f"the mirror has no {name}")
    images, labels = read_elsewhere(mirror / name, "test")
    inputs = published(tmp_path / "made", {"test": (images[..., None], labels)}, [*"0123456789"])
    folder = drawn(inputs, tmp_path / "pictures")

    sprite = thumbnails(folder / "sprite.png").reshape(10, 90, 28, 28)
    firsts = np.stack([images[labels == label][:90] for label in range(10)])
    np.testing.assert_array_equal(sprite, firsts)
