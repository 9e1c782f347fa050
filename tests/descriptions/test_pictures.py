"""Pictures: read back with other eyes, they show the records, the names and the figures given."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import statistics
from pipelines.descriptions import _pictures
from pipelines.errors import TableError
from tests import builders
from tests.builders import Array

GREY_BYTES, COLOUR_BYTES = 60_000, 150_000  # what a run's records can bear, each time
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def seen(png: bytes) -> Array:
    """What a PNG shows on a white page, as (height, width, 3)."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    page = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(page, image.convert("RGBA")).convert("RGB"))


def places(sheet: Array, image: Array, factor: int) -> list[tuple[int, int]]:
    """Where an image stands on a sheet, `factor` times as large: (row, column) of its corner."""
    large = np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, 0).repeat(factor, 1)
    height, width, _ = np.subtract(sheet.shape, large.shape) + 1
    maybe = np.ones((height, width), bool)
    for y, x in np.ndindex(image.shape[:2]):
        there = sheet[factor * y :, factor * x :, 0][:height, :width]
        maybe &= there == image[y, x, 0]
    corners = [(int(y), int(x)) for y, x in np.argwhere(maybe)]
    tall, wide, _ = large.shape
    return [(y, x) for y, x in corners if (sheet[y : y + tall, x : x + wide] == large).all()]


def black_and_white(records: int, height: int, width: int, channels: int = 1) -> Array:
    random = np.random.default_rng(3)
    return random.integers(0, 2, (records, height, width, channels), np.uint8) * np.uint8(255)


def sheet_of(folder: Path, images: Array, labels: Array, classes: int) -> bytes:
    table = builders.tiny(folder, images, labels, classes=classes).table(folder / "table.parquet")
    return _pictures.sheet(_pictures.examples(table))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_the_first_records_of_each_class_upright_and_in_order(
    tmp_path: Path, channels: int
) -> None:
    images = black_and_white(60, 8, 7, channels)
    labels = np.random.default_rng(4).integers(0, 3, 60).astype(np.uint8)

    sheet = seen(sheet_of(tmp_path, images, labels, 3))

    rows = []
    for label in range(3):
        mine = images[labels == label]
        assert len(mine) > 10
        corners = []
        for image in mine[:10]:
            [corner] = places(sheet, image, 7)  # 8 × 7 pixels: as many as 56 allows
            corners.append(corner)
        assert not places(sheet, mine[10], 7)
        assert len({y for y, _ in corners}) == 1
        assert corners == sorted(corners)
        rows.append(corners[0])
        name = sheet[corners[0][0] : corners[0][0] + 56, : corners[0][1]]
        assert name.min() < 150, "no name stands before the examples"
    assert rows == sorted(rows)


def test_a_table_sorted_by_class_is_read_to_its_last_class(tmp_path: Path) -> None:
    images = black_and_white(40, 4, 4)
    sheet = seen(sheet_of(tmp_path, images, np.repeat(np.arange(4, dtype=np.uint8), 10), 4))
    assert len(places(sheet, images[39], 14)) == 1


def test_no_more_is_read_than_the_examples_take(tmp_path: Path) -> None:
    records = 4 * (4 << 20) // (64 * 64)  # four row groups
    images = np.zeros((records, 64, 64, 1), np.uint8)
    images[:] = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    labels = np.arange(records, dtype=np.uint8) % 5
    path = builders.tiny(tmp_path, images, labels).table(tmp_path / "table.parquet")
    whole = _pictures.sheet(_pictures.examples(path))

    last = pq.read_metadata(path).row_group(3).column(3)
    assert last.path_in_schema == "pixels"
    with path.open("r+b") as file:
        file.seek(last.data_page_offset)
        file.write(b"\xff" * last.total_compressed_size)

    assert _pictures.sheet(_pictures.examples(path)) == whole
    with pytest.raises(TableError, match="damaged"):
        statistics.summarise(path)


def test_a_class_without_records_has_an_empty_row(tmp_path: Path) -> None:
    images = black_and_white(4, 4, 4)
    sheet = seen(sheet_of(tmp_path, images, np.array([0, 2, 2, 0], np.uint8), 3))
    (above, _), (below, _) = places(sheet, images[0], 14)[0], places(sheet, images[1], 14)[0]
    assert below - above >= 2 * 56


@pytest.mark.parametrize(
    ("classes", "side", "channels", "most"),
    [
        (10, 28, 1, GREY_BYTES),
        (26, 28, 1, GREY_BYTES),
        (62, 28, 1, GREY_BYTES),
        (10, 32, 3, COLOUR_BYTES),
        (100, 32, 3, COLOUR_BYTES),
        (200, 64, 3, COLOUR_BYTES),
        (3, 300, 3, COLOUR_BYTES),
    ],
)
def test_a_sheet_is_small_and_its_examples_are_not(
    tmp_path: Path, classes: int, side: int, channels: int, most: int
) -> None:
    # Soft shapes as photographs and handwriting have them, under noise.
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (3 * classes, 4, 4, channels), np.uint8)
    large = np.stack(
        [
            np.asarray(Image.fromarray(image.squeeze()).resize((side, side), 3)).reshape(
                side, side, channels
            )
            for image in coarse
        ]
    )
    noise = random.integers(0, 24, large.shape)
    images = np.clip(large.astype(int) + noise, 0, 255).astype(np.uint8)
    if channels == 1:
        images[images < 128] = 0
    labels = np.tile(np.arange(classes, dtype=np.uint8), 3)

    png = sheet_of(tmp_path, images, labels, classes)

    assert len(png) <= most
    height, width, _ = seen(png).shape
    assert max(height, width) < 1800
    assert height * width >= 2 * classes * min(side, 28) ** 2


def test_mean_images_stand_behind_their_class_per_split(tmp_path: Path) -> None:
    images, labels = black_and_white(3, 8, 8), np.array([0, 1, 3], np.uint8)
    tiny = builders.tiny(tmp_path, images, labels, classes=4)  # and none of class 2
    statistics.write([tiny.table(tmp_path / "table.parquet")], tmp_path / "statistics.parquet")

    sheet = seen(_pictures.sheet(_pictures.means(tmp_path / "statistics.parquet")))

    # The mean of one image is that image.
    assert [len(places(sheet, image, 7)) for image in images] == [1, 1, 1]


def test_a_sheet_is_legible_on_a_white_page_and_on_a_black_one(tmp_path: Path) -> None:
    images = black_and_white(20, 8, 8)
    png = sheet_of(tmp_path, images, np.repeat(np.arange(2, dtype=np.uint8), 10), 2)

    image = Image.open(io.BytesIO(png)).convert("RGBA")
    sheet = np.asarray(image)

    assert sheet[0, 0, 3] == 0, "what is no image is transparent"
    seen_through = sheet[..., 3] == 0
    letters = sheet[:, : places(seen(png), images[0], 7)[0][1]][..., 3] > 200
    assert letters.any()
    assert (sheet[:, : letters.shape[1]][letters][:, :3] == 128).all(), "grey: seen on both"
    assert seen_through.any()


def test_the_columns_of_mean_images_say_which_split_they_are(tmp_path: Path) -> None:
    images = black_and_white(4, 8, 8)
    labels = np.array([0, 1, 0, 1], np.uint8)
    rows = _pictures.Rows(["a", "b"], [images[labels == label] for label in (0, 1)], (8, 8, 1))
    headed = replace(rows, heads=["train", "test"])

    without, sheet = seen(_pictures.sheet(rows)), seen(_pictures.sheet(headed))

    [(top, train)], [(_, test)] = (places(sheet, images[at], 7) for at in (0, 2))
    assert places(without, images[0], 7)[0][0] == 0
    assert top >= 15
    for left in (train, test):
        assert sheet[:top, left : left + 56].min() < 150, "a head stands above the column"
    assert (sheet[:top, :train] == 255).all()


def test_a_name_beside_low_images_is_whole() -> None:
    rows = _pictures.Rows(["Ag", "Ag"], [[np.zeros((1, 56, 1), np.uint8)]] * 2, (1, 56, 1))
    sheet = np.asarray(Image.open(io.BytesIO(_pictures.sheet(rows))).convert("RGBA"))[..., 3]
    names = sheet[:, : int(np.flatnonzero(sheet.all(0) | (sheet == 255).any(0))[-1]) - 56]
    inked = np.flatnonzero(names.any(1))
    first, second = np.split(inked, np.flatnonzero(np.diff(inked) > 1) + 1)
    assert len(first) == len(second)
    np.testing.assert_array_equal(names[first], names[second])


def test_a_long_name_takes_two_lines_and_makes_the_sheet_no_wider() -> None:
    image = [np.zeros((28, 28, 1), np.uint8)]
    widths = [
        seen(_pictures.sheet(_pictures.Rows([name], [image], (28, 28, 1)))).shape[1]
        for name in ("a name of two dozen let", "a name of two dozen let and many others more")
    ]
    assert widths[1] <= 1.1 * widths[0]
    assert _pictures.in_lines("Vehicles over 3.5 metric tons prohibited") == (
        "Vehicles over 3.5 metric\ntons prohibited"
    )
    assert _pictures.in_lines("x" * 60) == "x" * 24 + "\n" + "x" * 23 + "…"


def test_mean_images_are_in_columns_of_splits_and_black_where_there_are_none(
    tmp_path: Path,
) -> None:
    images, labels = black_and_white(2, 8, 8), np.array([0, 2], np.uint8)
    tiny = builders.tiny(tmp_path, images, labels, classes=3)
    statistics.write([tiny.table(tmp_path / "table.parquet")], tmp_path / "statistics.parquet")

    rows = _pictures.means(tmp_path / "statistics.parquet")

    assert rows.heads == [tiny.split.name]
    assert [len(of_class) for of_class in rows.images] == [1, 1, 1]
    assert (rows.images[0][0] == images[0]).all()
    assert (rows.images[2][0] == images[1]).all()
    assert not rows.images[1][0].any()


# --- strips ---------------------------------------------------------------------------------------


def strip_seen(text: str) -> tuple[Array, str]:
    """What a strip in markdown shows, and its caption."""
    link, _, caption = text.partition("\n\n")
    [svg] = re.fullmatch(r"!\[.*\]\(<data:image/svg\+xml,([^<>\n]*)>\)", link).groups()
    [image] = ElementTree.fromstring(unquote(svg))
    data = base64.b64decode(image.attrib["href"].removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), caption


@pytest.mark.parametrize("names", [FASHION, [f"class {n}" for n in range(47)], ["only"]])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (300, 200, 3)])
@pytest.mark.parametrize("heads", [[], ["train", "test"]])
def test_a_strip_is_short_enough_to_be_shown_at_once(
    names: list[str], shape: tuple[int, int, int], heads: list[str]
) -> None:
    random = np.random.default_rng(6)
    images = [list(random.integers(0, 256, (2, *shape), np.uint8)) for _ in names]

    text = _pictures.strip(_pictures.Rows(names, images, shape, heads), "a strip")

    assert len(text) < 1000  # Dagster's UI hides longer texts behind a button
    picture, caption = strip_seen(text)
    assert picture.size
    assert names[0] in caption
    assert names[-1] in caption or len(names) > 10
    assert all(head in caption for head in heads)


def test_a_strip_shows_the_first_image_of_each_class_in_order() -> None:
    images = [[np.full((28, 28, 1), 25 * label, np.uint8)] for label in range(10)]
    text = _pictures.strip(_pictures.Rows([*"0123456789"], images, (28, 28, 1)), "digits")

    picture, caption = strip_seen(text)

    tiles = np.stack(np.array_split(picture[..., 0].astype(float), 10, axis=1))
    assert tiles.mean((1, 2)) == pytest.approx(25 * np.arange(10), abs=6)
    assert caption == " · ".join("0123456789")


def test_a_class_without_images_is_black_in_a_strip_and_names_are_no_markdown() -> None:
    images = [[np.full((8, 8, 1), 255, np.uint8)], []]
    picture, caption = strip_seen(
        _pictures.strip(_pictures.Rows(["*a*", "b_"], images, (8, 8, 1)), "x")
    )
    assert picture[:, -2:].max() < 40
    assert caption == r"\*a\* · b\_"


# --- bars -----------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> tuple[list[str], list[npt.NDArray[np.float64]]]:
    """The texts of a chart, and for each series the bars as rows of (x, y, length)."""
    root = ElementTree.fromstring(svg)
    texts = [node.text or "" for node in root.iter(f"{SVG}text")]
    bars = [
        np.array(re.findall(r"M(\d+) (\d+)h(\d+)", node.attrib["d"]), float)
        for node in root.iter(f"{SVG}path")
    ]
    return texts, bars


def test_bars_are_as_long_as_their_values_on_one_scale() -> None:
    series = {"train": [5923.0, 6742, 0], "test": [980.0, 1135, 1032]}

    texts, bars = drawn(_pictures.bars(["zero", "one", "two"], series))

    assert texts == ["6,742", "zero", "one", "two", "train", "test"]
    assert len(bars) == 2
    for found, values in zip(bars, series.values(), strict=True):
        assert found[:, 2] / 300 == pytest.approx(np.array(values) / 6742, abs=0.002)
        assert len(set(found[:, 0])) == 1
        assert np.diff(found[:, 1]).min() > 0
    assert (bars[0][:, 1] != bars[1][:, 1]).all()


def test_names_may_hold_what_means_something_in_xml_or_in_a_url() -> None:
    names = ["<script>", "100 %", "a & b", "#", '), "x" \'', "c" * 40]
    svg = _pictures.bars(names, {"train": [1] * 6})

    assert drawn(svg)[0][1:-2] == names[:-1]
    assert drawn(svg)[0][-2].startswith("ccc")
    [link] = re.fullmatch(r"!\[x\]\(<(data:[^<>\n]*)>\)", _pictures.in_markdown(svg, "x")).groups()
    assert unquote(link) == f"data:image/svg+xml,{svg}"
    assert "#" not in link  # a browser would take the rest for a fragment


def test_bars_of_nothing_are_drawn_too() -> None:
    assert drawn(_pictures.bars(["a", "b"], {"train": [0, 0]}))[1][0][:, 2].tolist() == [0, 0]


def test_the_bars_of_ten_classes_are_short_enough_to_be_shown_at_once() -> None:
    svg = _pictures.bars(FASHION, {"train": [6000] * 10, "test": [1000] * 10})
    # Dagster's UI hides longer texts behind a button.
    assert len(_pictures.in_markdown(svg, "records of each class")) < 1000


def test_a_png_in_markdown_is_the_very_png() -> None:
    text = _pictures.in_markdown(b"\x89PNG any bytes", "a sheet")
    [data] = re.fullmatch(r"!\[a sheet\]\(data:image/png;base64,([\w+/=]+)\)", text).groups()
    assert base64.b64decode(data) == b"\x89PNG any bytes"


def test_a_path_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="Build the tables stage"):
        _pictures.examples(tmp_path / "nothing.parquet")


# --- the publishers' own files --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_sheet_of_the_publishers_records_is_small(
    name: str, mirror: Path, tmp_path: Path
) -> None:
    from tests.test_official import read_elsewhere

    if not (mirror / name / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip(f"the mirror has no {name}")
    images, labels = read_elsewhere(mirror / name, "test")
    png = sheet_of(tmp_path, images[..., None], labels, 10)
    assert len(png) <= GREY_BYTES
    sheet = seen(png)
    # The first test image, upright and twice as large: 7 in MNIST, an ankle boot in Fashion-MNIST.
    shown = [
        sheet[y : y + 56 : 2, x : x + 56 : 2, 0].astype(int)
        for y in range(0, sheet.shape[0] - 55, 58)
        for x in range(sheet.shape[1] - 55)
    ]
    half_a_step = 255 / (_pictures.GREYS - 1) / 2
    assert min(np.abs(part - images[0]).max() for part in shown) <= round(half_a_step)
