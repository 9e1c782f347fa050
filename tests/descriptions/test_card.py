"""The description `card`: what stands on the page is what was declared, counted and recorded."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from assets.settings import ROOT
from pipelines import tables
from pipelines.declarations import Reported
from pipelines.descriptions import _pages, benchmark, card, embedding, pictures
from pipelines.exports import huggingface
from pipelines.products import Inputs
from pipelines.progress import silent
from pipelines.store import layout
from tests import builders
from tests.builders import Array
from tests.descriptions.showing import published
from tests.exports.sets import AWKWARD

NAMES = ["zero", "a `b` <i>", "none", "お|x"]


def written(inputs: Inputs, goal: Path) -> Path:
    goal.mkdir(parents=True)
    card.write(inputs, goal, {}, silent)
    return goal


def declared(inputs: Inputs, **facts: Any) -> Inputs:
    """The same, of a dataset of which something else is declared."""
    subject = inputs.subject
    dataset = replace(subject.dataset, **facts)
    return replace(inputs, subjects=(replace(subject, dataset=dataset),))


def page(folder: Path) -> Element:
    """The page, parsed as browsers do, and refused where they had to guess."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    found: Element = parser.parse((folder / "index.html").read_text("utf-8"))
    for node in found.iter():
        node.tag = str(node.tag).removeprefix("{http://www.w3.org/2000/svg}")
    return found


def words(node: Element) -> str:
    return " ".join("".join(node.itertext()).split())


def section(root: Element, name: str) -> Element:
    return next(one for one in root.iter("section") if one.get("aria-labelledby") == name)


def rows(node: Element) -> Iterator[list[str]]:
    for row in node.iter("tr"):
        yield [words(cell) for cell in row]


def shown(image: Element) -> Array:
    data = (image.get("src") or "").removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def strip(images: Array) -> Array:
    """Images as they stand side by side on the page, without the columns between them."""
    return np.concatenate(list(images), axis=1)


def without_gaps(image: Array) -> Array:
    """An image on the page without what is transparent, and without its alpha."""
    return image[:, (image[..., -1] == 255).all(0), :-1]


@pytest.fixture(scope="module")
def arrays() -> dict[str, tuple[Array, Array]]:
    """None of class 2; records 3 and 7 of train are one image, which is in test too, as another."""
    train = builders.images(300, 12, 9), builders.labels(300, 2, 0)
    train[1][5:100] = 3
    train[0][7], train[1][7] = train[0][3], train[1][3]
    test = builders.images(40, 12, 9, seed=1), builders.labels(40, 2, 1)
    test[0][11], test[1][11] = train[0][3], 1 - train[1][3]
    return {"train": train, "test": test}


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, tuple[Array, Array]]
) -> Inputs:
    found = published(tmp_path_factory.mktemp("made") / "made", arrays, NAMES)
    return declared(
        found,
        description="Noise, *of no kind*, with <b>markup</b> and ![a picture](http://x.org/y.png).",
        quirks=("See `train[7]`, or [there](https://example.org/).",),
        first_label=1,
        reported=(
            Reported("k-NN", "A page", error_percent=0.8, url="https://example.org/", year=1998),
            Reported("humans", "B. & C.", accuracy=0.95),
        ),
    )


@pytest.fixture(scope="module")
def folder(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(inputs, tmp_path_factory.mktemp("card") / "card")


@pytest.fixture(scope="module")
def root(folder: Path) -> Element:
    return page(folder)


def test_the_page_asks_nobody_for_anything_and_says_so(root: Element) -> None:
    policies = [
        node.get("content")
        for node in root.iter("meta")
        if node.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [_pages.ALONE]
    assert "default-src 'none'; img-src data:;" in _pages.ALONE
    for node in root.iter():
        assert node.tag not in {"iframe", "object", "embed", "video", "audio", "base"}
        assert (node.get("src") or "data:").startswith("data:")
        assert node.tag == "a" or (node.get("href") or "#").startswith(("#", "data:"))
    assert all((link.get("href") or "").startswith(("#", "http")) for link in root.iter("a"))


def test_the_catalogues_words_may_hold_markdown_but_no_markup_and_no_pictures(
    root: Element,
) -> None:
    lead = next(node for node in root.iter("p") if node.get("class") == "lead")
    assert words(lead).startswith("Noise, of no kind, with <b>markup</b> and")
    assert [node.tag for node in lead.iter()][1:] in (["em"], ["em", "a"])
    quirks = [words(one) for one in section(root, "quirks").iter("li")]
    assert quirks == ["The publisher counts labels from 1.", "See train[7], or there."]


def test_samples_are_the_first_records_of_each_class(
    root: Element, arrays: dict[str, tuple[Array, Array]]
) -> None:
    images, labels = arrays["train"]
    items = [*section(root, "samples").iter("li")]
    assert len(items) == len(NAMES)
    for label, item in enumerate(items):
        assert words(item).startswith(f"{label}{NAMES[label]}")
        strips = [*item.iter("img")]
        chosen = np.flatnonzero(labels == label)[:10]
        assert len(strips) == (2 if len(chosen) else 0), "so many stand side by side on a phone"
        for image, some in zip(strips, (chosen[:5], chosen[5:]), strict=False):
            np.testing.assert_array_equal(without_gaps(shown(image)), strip(images[some]))
            told = (image.get("alt") or "").removeprefix("records ").replace(" and", ",")
            assert [int(index) for index in told.split(", ")] == some.tolist()
            height, width = shown(image).shape[:2]
            factor = int(image.get("width") or 0) / width
            assert factor == int(factor) == int(image.get("height") or 0) / height
    assert words(items[2]).endswith("no records")


def test_the_numbers_on_the_page_are_those_of_the_records(
    root: Element, arrays: dict[str, tuple[Array, Array]]
) -> None:
    counted = {split: np.bincount(of[1], minlength=4) for split, of in arrays.items()}
    head, *found, total = rows(section(root, "counts"))
    assert head == ["class", "label", "train", "test"]
    assert total == ["total", "", "300", "40"]
    assert found == [
        [" ".join(name.split()), str(label), *(str(of[label]) for of in counted.values())]
        for label, name in enumerate(NAMES)
    ]

    _, *found = rows(section(root, "intensities"))
    for split, at in (("train", 2), ("test", 6)):
        images, labels = arrays[split]
        for label, row in enumerate([*found[:-1], found[-1]]):
            mine = images if label == len(NAMES) else images[labels == label]
            if not len(mine):
                assert row[at : at + 4] == ["–"] * 4
                continue
            middle = np.quantile(mine.reshape(len(mine), -1).mean(1), [0.1, 0.9])
            told = [row[at], *row[at + 1].split("–"), row[at + 2], row[at + 3].rstrip("%")]
            expected = [mine.mean(), *middle, mine.std(), 100 * (mine > 0).mean()]
            assert [float(number) for number in told] == pytest.approx(expected, abs=0.051)
    everything = arrays["train"][0] / 255
    assert f"mean {everything.mean():.4f}; standard deviation {everything.std():.4f}" in words(
        section(root, "intensities")
    )


def test_mean_images_are_those_of_the_records(
    root: Element, arrays: dict[str, tuple[Array, Array]]
) -> None:
    found = [without_gaps(shown(image)) for image in section(root, "means").iter("img")]
    for label, image in enumerate(found):
        means = [
            np.rint(of[labels == label].mean(0))
            if (labels == label).any()
            else np.zeros((12, 9, 1))
            for of, labels in arrays.values()
        ]
        np.testing.assert_array_equal(image, strip(np.stack(means)))


def test_duplicates_are_pictures_with_their_labels_and_indices(
    root: Element, arrays: dict[str, tuple[Array, Array]]
) -> None:
    images, labels = arrays["train"]
    found = section(root, "duplicates")
    [group] = found.iter("li")
    assert words(group).startswith("Different labels, in several splits")
    records = [*group.iter("figure")]
    same, other = " ".join(NAMES[labels[3]].split()), NAMES[1 - labels[3]]
    assert [words(one) for one in records] == [
        f"{same}train 3",
        f"{same}train 7",
        f"{other}test 11",
    ]
    for one in records:
        [image] = one.iter("img")
        np.testing.assert_array_equal(without_gaps(shown(image)), images[3])
    assert list(rows(found))[1:] == [
        ["in train", "0", "0"],
        ["in test", "0", "0"],
        ["in several splits", "1", "1"],
    ]
    assert "All 340 images were compared byte by byte: 1 " in words(found)


def test_of_very_many_duplicates_some_are_shown_contradictions_first(tmp_path: Path) -> None:
    images = builders.images(500, 4, 4)
    images[250:] = images[:250]
    images[490:] = images[0]
    labels = np.zeros(500, np.uint8)
    labels[252:255] = 1
    found = published(tmp_path / "made", {"train": (images, labels)}, ["a", "b"])
    told = section(page(written(found, tmp_path / "card")), "duplicates")
    groups = [*told.iter("li")]
    assert len(groups) == 24
    differing = [words(one).startswith("Different labels") for one in groups]
    assert differing == [True] * 3 + [False] * 21
    large = next(one for one in groups if len([*one.iter("figure")]) > 2)
    assert len([*large.iter("figure")]) == 6
    assert "and 6 more records" in words(large)
    assert words(told).endswith("And 216 more images, which are not shown here.")
    assert list(rows(told))[1:] == [["in train", "240", "3"]]


def test_that_there_are_no_duplicates_is_said(tmp_path: Path) -> None:
    splits = {"train": (builders.images(9), np.zeros(9, np.uint8))}
    folder = written(published(tmp_path / "made", splits, ["a"]), tmp_path / "card")
    assert "None: all 9 images were compared" in words(section(page(folder), "duplicates"))
    assert "None: all 9 images were compared" in (folder / "README.md").read_text("utf-8")


def test_what_is_a_picture_is_told_in_words_too(root: Element) -> None:
    for image in root.iter("img"):
        assert image.get("alt") is not None
        assert image.get("width")
        assert image.get("height")
    charts = [*root.iter("svg")]
    assert len(charts) == 4, "a wide and a narrow one of counts, and of intensities"
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    for svg in charts:
        assert svg.get("role") == "img"
        told = {node.get("id"): words(node) for node in svg.iter() if node.tag in {"title", "desc"}}
        assert [told[name] for name in (svg.get("aria-labelledby") or "").split()]
    for name in ("counts", "intensities"):
        assert [*section(root, name).iter("details")], "the same as a table"


def test_a_chart_is_in_the_colours_of_the_page_and_styles_nothing_else(root: Element) -> None:
    for svg in root.iter("svg"):
        styles = " ".join(node.get("style") or "" for node in svg.iter())
        assert "var(--series-0)" in styles
        assert "#0072b2" not in styles
        assert "#767676" not in styles
        assert not [*svg.iter("style")]


def test_results_of_others_stand_with_their_sources_the_best_first(root: Element) -> None:
    _, *found = rows(section(root, "results"))
    assert found == [
        ["k-NN (1998)", "0.99200.8 % error", "A page"],
        ["humans", "0.950", "B. & C."],
    ]


def test_our_own_results_stand_beside_those_of_others(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "benchmark"
    folder.mkdir()
    how = {
        "tier": "full",
        "repeats": 1,
        "train": {"records": 200, "of": 300, "chosen": "somehow"},
        "test": {"records": 40},
    }
    kinds = ["classifier", "parameters", "repeats", "accuracy", "std", "converged", "predictions"]
    tried = [
        ("GaussianNB", "{}", 1, 0.5, None, True, ["a"]),
        ("MLPClassifier", '{"hidden_layer_sizes": 100}', 1, 0.97312, None, False, ["b"]),
        ("MLPClassifier", '{"hidden_layer_sizes": 10}', 1, 0.9, None, True, ["c"]),
    ]
    table = pa.Table.from_pylist([dict(zip(kinds, one, strict=True)) for one in tried])
    table = table.replace_schema_metadata({benchmark.METADATA_KEY: json.dumps(how).encode()})
    pq.write_table(table, folder / "results.parquet")
    paths = {**inputs.paths, "descriptions/shown/benchmark": folder}
    found = section(page(written(replace(inputs, paths=paths), tmp_path / "card")), "results")
    told = [row[:2] for row in rows(found)][1:]
    assert told == [
        ["k-NN (1998)", "0.99200.8 % error"],
        ["MLPClassifierhidden_layer_sizes=100; the best of 2 settings", "0.9731*"],
        ["humans", "0.950"],
        ["GaussianNB", "0.5000"],
    ]
    assert "to 200 of the 300 records of train" in words(found)


def test_pictures_and_maps_are_shown_where_they_were_made(inputs: Inputs, tmp_path: Path) -> None:
    made = {"pictures": pictures, "embedding": embedding}
    paths = dict(inputs.paths)
    for stage, module in made.items():
        (tmp_path / stage).mkdir()
        module.write(inputs, tmp_path / stage, {}, silent)
        paths[f"descriptions/shown/{stage}"] = tmp_path / stage
    folder = written(replace(inputs, paths=paths), tmp_path / "card")
    found = page(folder)
    for name, file in (("samples", "pictures/sprite.png"), ("map", "embedding/tsne.png")):
        images = [shown(image) for image in section(found, name).iter("img")]
        expected = np.asarray(Image.open(tmp_path / file))
        assert any(np.array_equal(image, expected) for image in images)
    text = (folder / "README.md").read_text("utf-8")
    assert "(../pictures/samples.png)" in text
    assert "(../embedding/tsne.png)" in text


def test_the_lines_that_load_the_table_do_so(inputs: Inputs, root: Element, tmp_path: Path) -> None:
    table = tmp_path / "data" / layout.table("shown", "train")
    table.parent.mkdir(parents=True)
    table.write_bytes(inputs.tables["train"].read_bytes())
    [lines] = [node for node in root.iter("pre") if node.get("id") == "load-table"]
    code = "".join(lines.itertext()) + "\nprint(images.shape, labels.sum())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    batch = tables.read(table)
    assert done.stdout.split("\n")[0] == f"{batch.images.shape} {batch.labels.sum()}"


def test_the_lines_of_the_library_load_the_first_split(root: Element) -> None:
    [lines] = [node for node in root.iter("pre") if node.get("id") == "load-library"]
    told = "".join(lines.itertext())
    assert 'train = imagesets.load("shown", "train")\n' in told


def test_the_lines_of_each_export_that_there_is_of_a_dataset_stand_there(root: Element) -> None:
    told = words(section(root, "loading"))
    assert 'pandas.read_csv("data/exports/shown/train.csv"' in told
    assert "--only huggingface" in told
    assert "python_batches" not in told, "which there is of CIFAR alone"


def test_archives_and_tables_stand_with_their_sizes_and_hashes(
    inputs: Inputs, root: Element, folder: Path
) -> None:
    files = words(section(root, "files"))
    text = (folder / "README.md").read_text("utf-8")
    for archive in inputs.subject.source.archives.values():
        assert archive.sha256 in files
        assert archive.md5 in files
        assert archive.sha256 in text
    of_tables = [known for known in inputs.known if known.path.startswith("tables/")]
    assert len(of_tables) == 2
    for known in of_tables:
        assert str(known.sha256) in files
        assert str(known.sha256) in text
        assert f"{known.size_bytes:,}" in files


def test_the_hub_and_the_card_say_the_same(inputs: Inputs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    huggingface.write(inputs, tmp_path / "hub", {}, silent)
    hub = (tmp_path / "hub/README.md").read_text("utf-8")
    here = (folder / "README.md").read_text("utf-8")
    source, dataset = inputs.subject.source, inputs.subject.dataset
    said = [dataset.description, *dataset.quirks, source.citation, source.acknowledgements]
    for words_ in (*said, "The publisher counts labels from 1.", "Licence: none stated"):
        assert words_
        assert words_.strip() in hub
        assert words_.strip() in here


def test_the_markdown_is_read_as_it_is_meant(folder: Path, root: Element) -> None:
    text = (folder / "README.md").read_text("utf-8")
    html = MarkdownIt("commonmark").enable("table").render(text)
    found = html5lib.parse(html, namespaceHTMLElements=False)
    counts = list(rows(next(found.iter("table"))))
    assert counts == list(rows(section(root, "counts")))
    assert [words(node) for node in found.iter("h2")] == [
        *("Counts", "Intensities", "Good to know", "Duplicates and leaks", "Results"),
        *("Loading it", "Licence and citation", "Files"),
    ]
    assert "\n\n\n" not in text


def test_where_all_classes_have_as_many_records_that_is_a_sentence(tmp_path: Path) -> None:
    labels = np.arange(40, dtype=np.uint8) % 20
    splits = {
        "train": (builders.images(40), labels),
        "test": (builders.images(20, seed=1), labels[:20]),
    }
    names = [f"class {number}" for number in range(20)]
    found = page(written(published(tmp_path / "made", splits, names), tmp_path / "card"))
    told = section(found, "counts")
    assert "Every class has as many records: 2 in train and 1 in test." in words(told)
    assert not [*told.iter("svg")]
    assert len(list(rows(told))) == 22


@pytest.mark.parametrize("shape", [(1, 1, 1), (96, 200, 3), (3, 64, 1)])
def test_images_of_any_size_and_a_single_class_make_a_page(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    splits = {"train": (builders.images(3, *shape), np.zeros(3, np.uint8))}
    found = page(written(published(tmp_path / "made", splits, ["one"]), tmp_path / "card"))
    for image in found.iter("img"):
        assert max(int(image.get("width") or 0), int(image.get("height") or 0)) < 700


def test_large_images_are_shown_smaller_where_there_is_no_room(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 200, 100, 3), np.uint8)
    splits = {"train": (images, np.arange(90, dtype=np.uint8) % 9)}
    inputs = published(tmp_path / "made", splits, [*"abcdefghi"])
    folder = written(inputs, tmp_path / "card")
    assert (folder / "index.html").stat().st_size <= card.MOST_BYTES
    for image in section(page(folder), "samples").iter("img"):
        height, width = shown(image).shape[:2]
        assert 60 < height <= 84
        assert width == 5 * round(height / 2) + 4


def test_names_of_any_letters_are_words_on_the_page(tmp_path: Path) -> None:
    names = ["</title><script>alert(1)</script>", "{{ title }}", *AWKWARD[:60]]
    labels = np.arange(len(names), dtype=np.uint8)
    splits = {"train": (builders.images(len(names), 4, 4), labels)}
    inputs = published(tmp_path / "made", splits, names)
    found = page(written(inputs, tmp_path / "card"))
    assert len([*found.iter("script")]) == 1
    items = [*section(found, "means").iter("li")]
    assert [words(item) for item in items] == [
        " ".join(f"{label}{name}".split())
        for label, name in enumerate(inputs.subject.dataset.classes)
    ]
    assert "{{ title }}" in words(found)


@pytest.mark.slow
def test_a_card_of_a_hundred_classes_of_noise_keeps_to_its_weight(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(1000) % 100).astype(np.uint8)
    images = random.integers(0, 256, (1000, 32, 32, 3), np.uint8)
    images[:100] = images[100:200]
    names = [f"a name of a class that takes a line or two {number}" for number in range(100)]
    splits = {"train": (images, labels), "test": (images[::-1], labels)}
    inputs = published(tmp_path / "made", splits, names)
    (tmp_path / "pictures").mkdir()
    pictures.write(inputs, tmp_path / "pictures", {}, silent)
    assert (tmp_path / "pictures/sprite.png").stat().st_size > 2_000_000
    paths = {**inputs.paths, "descriptions/shown/pictures": tmp_path / "pictures"}
    folder = written(replace(inputs, paths=paths), tmp_path / "card")
    assert 1_000_000 < (folder / "index.html").stat().st_size <= card.MOST_BYTES


def test_to_know_of_the_description_loads_neither_jinja_nor_matplotlib() -> None:
    code = (
        "import sys; from pipelines import products; products.known()['card']; "
        "print(*(name in sys.modules for name in ('jinja2', 'markdown_it', 'matplotlib', 'PIL')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"False"}
