"""The page of all datasets as people see it: wide and narrow, light and dark, and printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from pipelines.descriptions import index
from pipelines.progress import silent
from tests import browsing
from tests.browsing import SCREENSHOTS, Theme
from tests.builders import Array
from tests.descriptions.catalogues import Shown, catalogue, ran
from tests.waiting import within

WIDTHS = (1440, 768, 390)
ROWS = {
    "GaussianNB": {},
    "DecisionTreeClassifier": {"criterion": "entropy", "max_depth": 10},
    "RandomForestClassifier": {"criterion": "entropy", "max_depth": 100, "n_estimators": 100},
    "KNeighborsClassifier": {"n_neighbors": 5, "weights": "uniform"},
    "MLPClassifier": {"activation": "relu", "hidden_layer_sizes": [100], "max_iter": 10},
}


def stripes(classes: int, shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Pictures that differ from class to class, so that a mistaken place is seen."""
    labels = np.arange(4 * classes, dtype=np.uint8) % classes
    down, across = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin((across + label) * (label % 7 + 1) / 5 + down / 3) for label in labels]
    grey = (np.stack(waves) * 100 + 128).astype(np.uint8)[..., None]
    return np.repeat(grey, shape[2], axis=3), labels


def ten() -> dict[str, Shown]:
    """Ten datasets in all sizes, two of them absent, some with cards, records and a benchmark."""
    sizes = {"fashion": 10, "digits": 10, "letters": 26, "balanced": 47, "by_class": 62}
    tried = [
        ran(name, 0.5 + at / 12, name != "MLPClassifier", at / 9999 or None, **ROWS[name])
        for at, name in enumerate(ROWS)
    ]
    found = {
        name: Shown(
            {"train": stripes(classes, (28, 28, 1)), "test": stripes(classes, (28, 28, 1))},
            [f"class {number}" for number in range(classes)],
            made=("card", "train_records", "test_records")[: 3 if classes == 10 else 1],
            benchmark=tried if classes == 10 else tried[:3] if classes == 26 else (),
            facts={"title": f"A dataset of {classes} {name}", "description": "Words. " * 25},
        )
        for name, classes in sizes.items()
    }
    for name, classes in {"colours": 10, "hundred": 100}.items():
        splits = {split: stripes(classes, (32, 32, 3)) for split in ("train", "test")}
        found[name] = Shown(splits, [f"class {number}" for number in range(classes)])
    for name in ("absent", "an_absent_one_with_a_long_name", "other"):
        splits = {split: stripes(3, (28, 28, 1)) for split in ("train", "test")}
        found[name] = Shown(splits, "abc", has_tables=False)
    return found


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@pytest.fixture
def pages(lying: Path) -> dict[str, Path]:
    """The page of ten datasets, and that of a catalogue of which nothing is here."""
    shown = {"all": ten(), "nothing": {"absent": ten()["absent"]}}
    goals = {name: lying / name / "descriptions/index.html" for name in shown}
    for name, goal in goals.items():
        if not goal.exists():
            index.write(catalogue(lying / name, shown[name]), goal, {}, silent)
    return goals


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.launched() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser, width: int, theme: Theme) -> Iterator[BrowserContext]:
    size = {"width": width, "height": 900}
    with browser.new_context(viewport=size, color_scheme=theme) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    context.set_default_timeout(1000 * within(30))
    return context.new_page()


@pytest.mark.slow
# Colours don't depend on the width, nor places on the theme.
@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [
        ("all", 1440, "light"),
        ("all", 768, "dark"),
        ("all", 390, "dark"),
        ("nothing", 1440, "dark"),
        ("nothing", 390, "light"),
    ],
)
def test_the_page_keeps_the_rules_of_accessibility_asks_nobody_and_fits_its_window(
    pages: dict[str, Path], page: Page, name: str, width: int, theme: Theme
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(pages[name].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"index-{name}-{width}-{theme}.png", full_page=True)

    assert not browsing.scrolls_sideways(page)
    assert browsing.violations(page) == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pixels_of_pictures_are_shown_by_whole_factors_at_every_width(
    pages: dict[str, Path], page: Page
) -> None:
    page.goto(pages["all"].as_uri())
    factors = page.eval_on_selector_all(
        ".samples img",
        "all => all.map(one => one.getBoundingClientRect().width / one.naturalWidth)",
    )
    assert {*factors} <= {1, 2}
    assert len(factors) == 10 + 10 + 26 + 47 + 62 + 10 + 100


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark"])
@pytest.mark.parametrize("width", [1440])
def test_a_link_leads_to_the_page_that_was_made_and_the_best_is_starred(
    pages: dict[str, Path], page: Page
) -> None:
    page.goto(pages["all"].as_uri())
    best = page.locator("td .best")
    assert best.all_text_contents() == [
        *["0.8333 ± 0.0004 the best"] * 2,
        "0.6667 ± 0.0002 the best",
    ]
    assert "★" in best.first.evaluate("one => getComputedStyle(one, '::before').content")
    page.get_by_role("link", name="All records of test of A dataset of 10 digits").click()
    page.wait_for_url((pages["all"].parent / "digits/test_records/index.html").as_uri())


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark"])
@pytest.mark.parametrize("width", [1440])
def test_the_printed_page_is_light_and_as_wide_as_its_paper(
    pages: dict[str, Path], page: Page
) -> None:
    page.goto(pages["all"].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    margin = dict.fromkeys(("top", "right", "bottom", "left"), "15mm")
    page.pdf(path=SCREENSHOTS / "index-all.pdf", format="A4", margin=margin)

    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # A4 without its margins
    page.screenshot(path=SCREENSHOTS / "index-all-printed.png", full_page=True)

    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not browsing.scrolls_sideways(page)
