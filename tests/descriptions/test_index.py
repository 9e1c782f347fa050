"""The page of all datasets: what it shows of those that are here, and of those that are not."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
from PIL import Image

from pipelines import plan, stages
from pipelines.descriptions import index
from pipelines.products import Inputs
from pipelines.progress import silent
from tests import builders
from tests.builders import Array
from tests.descriptions.catalogues import Shown, catalogue, ran

DEFAULTS = {name: option.default for name, option in stages.options().items()}


def noise(
    records: int, classes: int, shape: tuple[int, int, int], seed: int = 0
) -> tuple[Array, Array]:
    """Images of noise, and labels of all classes in no order."""
    labels = builders.labels(records, classes)
    np.random.default_rng(seed).shuffle(labels)
    return np.random.default_rng(seed).integers(0, 256, (records, *shape), np.uint8), labels


def both(classes: int, shape: tuple[int, int, int]) -> dict[str, tuple[Array, Array]]:
    return {
        "train": noise(8 * classes, classes, shape),
        "test": noise(2 * classes, classes, shape, 1),
    }


def written(inputs: Inputs, goal: Path) -> tuple[str, Element]:
    """The page, and what it says to a parser that forgives nothing."""
    index.write(inputs, goal, {}, silent)
    text = goal.read_text("utf-8")
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return text, parser.parse(text)


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def section(page: Element, name: str) -> Element:
    [found] = [one for one in page.iter("section") if one.get("id") == name]
    return found


def pictures(part: Element) -> list[tuple[Array, Element]]:
    shown = []
    for one in part.iter("img"):
        png = base64.b64decode(str(one.get("src")).removeprefix("data:image/png;base64,"))
        shown.append((np.asarray(Image.open(io.BytesIO(png))), one))
    return shown


def test_the_first_records_of_each_class_are_shown_as_they_are(tmp_path: Path) -> None:
    few, many, hundred = both(3, (28, 28, 1)), both(26, (28, 28, 1)), both(40, (32, 32, 3))
    inputs = catalogue(
        tmp_path,
        {
            "few": Shown(few, "abc"),
            "many": Shown(many, [*"abcdefghijklmnopqrstuvwxyz"]),
            "very_many": Shown(hundred, [f"class {n}" for n in range(40)]),
        },
    )
    _, page = written(inputs, tmp_path / "index.html")
    for name, splits, each, shown_at in (
        ("few", few, 4, (56, 4 * 56)),
        ("many", many, 2, (56, 2 * 56)),
        ("very_many", hundred, 1, (32, 32)),
    ):
        images, labels = splits["train"]
        found = pictures(section(page, name))
        assert len(found) == len({*labels.tolist()})
        for label, (shown, element) in enumerate(found):
            first = images[labels == label][:each]
            np.testing.assert_array_equal(shown, np.concatenate(first).squeeze())
            assert (int(element.get("width", 0)), int(element.get("height", 0))) == shown_at
            assert (
                element.get("title")
                == inputs.subjects[["few", "many", "very_many"].index(name)].dataset.classes[label]
            )


def test_large_images_are_made_smaller_and_keep_their_proportions(tmp_path: Path) -> None:
    shown = {"large": Shown(both(2, (50, 200, 3)), "ab")}
    _, page = written(catalogue(tmp_path, shown), tmp_path / "index.html")
    for image, element in pictures(section(page, "large")):
        assert image.shape == (64, 64, 3), "four of 16 × 64 pixels, one above the other"
        assert (element.get("width"), element.get("height")) == ("64", "64")


def test_a_line_says_how_many_records_how_large_of_how_many_classes_and_whose(
    tmp_path: Path,
) -> None:
    facts = {"description": "Some *noise*, and <nothing> else.", "title": "Noise & <more>"}
    shown = {"noise": Shown(both(3, (28, 28, 1)), "abc", facts=facts)}
    _, page = written(catalogue(tmp_path, shown), tmp_path / "index.html")
    part = section(page, "noise")
    assert [words(one) for one in part.iter("h3")] == ["Noise & <more>"]
    said = words(part)
    assert "Some noise, and <nothing> else." in said
    assert "24 train + 6 test 28×28, grey 3 classes licence: " in said
    assert [words(one) for one in part.iter("em")] == ["noise"]


def test_what_is_not_here_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    shown = {
        "here": Shown(both(3, (28, 28, 1)), "abc"),
        "elsewhere": Shown(both(3, (28, 28, 1)), "abc", has_tables=False),
    }
    _, page = written(catalogue(tmp_path, shown), tmp_path / "index.html")
    assert [one.get("id") for one in page.iter("section")] == ["here"]
    [others] = [one for one in page.iter("table") if one.get("class") == "others"]
    _, row = others.iter("tr")
    cells = [words(cell) for cell in row]
    assert cells[:5] == ["elsewhere", "elsewhere", "24 train + 6 test", "28×28", "3"]
    commands = [words(one) for one in page.iter("code")]
    assert "python -m assets build elsewhere --only card --only index" in commands
    assert "python -m assets build here --only card --only index" in commands, "it has no card yet"
    assert "python -m assets build here --only benchmark --only index" in commands

    nothing = {"elsewhere": shown["elsewhere"]}
    _, page = written(catalogue(tmp_path / "b", nothing), tmp_path / "other.html")
    assert "1 dataset of images" in words(page)
    assert "Nothing is here yet." in words(page)
    commands = {words(one) for one in page.iter("code")} - {"elsewhere"}
    assert all("build elsewhere --only" in one for one in commands), "no other is declared"
    assert not list(page.iter("img"))


def test_it_leads_to_the_cards_and_records_that_are_there_and_to_no_others(tmp_path: Path) -> None:
    splits = both(3, (28, 28, 1))
    shown = {
        "bare": Shown(splits, "abc"),
        "whole": Shown(splits, "abc", made=("card", "train_records", "test_records")),
        "half": Shown(splits, "abc", made=("test_records",)),
    }
    inputs = catalogue(tmp_path, shown)
    _, page = written(inputs, tmp_path / "descriptions/index.html")
    links = {
        name: {words(one): str(one.get("href")) for one in section(page, name).iter("a")}
        for name in shown
    }
    assert links == {
        "bare": {},
        "half": {"All records of test of half": "half/test_records/index.html"},
        "whole": {
            "whole": "whole/card/index.html",
            "Card of whole": "whole/card/index.html",
            "as Markdown, that of whole": "whole/card/README.md",
            "All records of train of whole": "whole/train_records/index.html",
            "All records of test of whole": "whole/test_records/index.html",
        },
    }
    for targets in links.values():
        for target in targets.values():
            assert (tmp_path / "descriptions" / target).is_file()


TREE = {"criterion": "entropy", "max_depth": 10}


def test_classifiers_stand_side_by_side_and_the_best_of_each_dataset_is_marked_in_words(
    tmp_path: Path,
) -> None:
    splits = both(3, (28, 28, 1))
    shown = {
        "one": Shown(
            splits,
            "abc",
            benchmark=[
                ran("Bayes", 0.5),
                ran("Tree", 0.81234, **TREE),
                ran("Tree", 0.8, std=0.0123, max_depth=50),
                ran("Network", 0.91, converged=False),
            ],
        ),
        "other": Shown(splits, "abc", benchmark=[ran("Bayes", 0.6), ran("Tree", 0.95, **TREE)]),
        "untried": Shown(splits, "abc"),
    }
    _, page = written(catalogue(tmp_path, shown), tmp_path / "index.html")
    [table] = page.iter("table")
    head, *rows = [[words(cell) for cell in row] for row in table.iter("tr")]
    assert head == ["Classifier", "one24 of train", "other24 of train"]
    assert [row[1:] for row in rows] == [
        ["0.9100 the best†", "–not tried"],
        ["0.8123", "0.9500 the best"],
        ["0.8000 ± 0.0123", "–not tried"],
        ["0.5000", "0.6000"],
    ], "by mean accuracy; the same settings stand in one row"
    assert rows[1][0] == "Treecriterion='entropy', max_depth=10"
    assert "† Stopped" in words(page)


def test_ten_datasets_of_noise_weigh_less_than_three_megabytes(tmp_path: Path) -> None:
    shapes = {"a": (100, (32, 32, 3)), "b": (10, (32, 32, 3)), "c": (62, (28, 28, 1))}
    shapes |= {f"d{n}": (47, (28, 28, 1)) for n in range(3)} | {"e": (26, (28, 28, 1))}
    shapes |= {f"f{n}": (10, (28, 28, 1)) for n in range(3)}
    shown = {
        name: Shown(both(classes, shape), [f"class {n}" for n in range(classes)])
        for name, (classes, shape) in shapes.items()
    }
    text, page = written(catalogue(tmp_path, shown), tmp_path / "index.html")
    assert len(list(page.iter("section"))) == 10
    assert len(text.encode()) < 3_000_000
    outside = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', text)
    assert outside == [], "it asks nobody for anything"


def test_the_order_in_which_datasets_are_declared_decides_nothing(tmp_path: Path) -> None:
    publisher = builders.publish(tmp_path)
    declared = plan.load(publisher.catalogue)
    backwards = type(declared)(dict(reversed(declared.sources.items())))
    for one in (declared, backwards):
        found = plan.of(one, DEFAULTS).artefacts["descriptions/index.html"]
        names = [subject.dataset.name for subject in found.subjects]
        assert names == ["tiny_colours", "tiny_digits", "tiny_letters"]
