"""Cards as people see them: in a real browser, wide and narrow, light and dark, and printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from pipelines.descriptions import card
from pipelines.progress import silent
from tests import browsing
from tests.browsing import SCREENSHOTS, Theme
from tests.builders import Array
from tests.descriptions.showing import published
from tests.waiting import within

LONG = "Vehicles over 3.5 metric tons prohibited, number"
DATASETS = {
    "ten": ([*"0123456789"], (28, 28, 1)),
    "sixty-two": ([f"{LONG} {number}" for number in range(62)], (28, 28, 1)),
    "hundred": ([f"a_long_name_of_a_class_{number}" for number in range(100)], (32, 32, 3)),
}


def shapes(labels: Array, shape: tuple[int, int, int], seed: int) -> Array:
    """Soft shapes, alike within a class, as handwriting and photographs have them."""
    random = np.random.default_rng(seed)
    height, width, channels = shape
    coarse = np.random.default_rng(1).integers(0, 256, (256, 4, 4, channels)).astype(float)
    coarse = coarse[labels] + random.normal(0, 30, (len(labels), 4, 4, channels))
    images = [
        np.asarray(
            Image.fromarray(one.clip(0, 255).astype(np.uint8).squeeze()).resize((width, height), 3)
        )
        for one in coarse
    ]
    return np.stack(images).reshape(-1, *shape)


def made(folder: Path, names: list[str], shape: tuple[int, int, int]) -> Path:
    """The card of a dataset with duplicates, contradictions, quirks, and results of others."""
    splits = {}
    for seed, (split, records) in enumerate({"train": 2000, "test": 700}.items()):
        random = np.random.default_rng(seed)
        labels = np.sort(random.random(records) ** 1.3 * len(names)).astype(np.uint8)
        random.shuffle(labels)
        splits[split] = (shapes(labels, shape, seed), labels)
    train, test = splits["train"][0], splits["test"][0]
    test[:30] = train[:30]  # leaks, most of them with another label
    train[100:104] = train[99]
    inputs = published(folder / "made", splits, names)
    dataset = replace(
        inputs.subject.dataset,
        title=f"Shapes of {len(names)} kinds",
        description="Soft shapes, alike within a class; *none of them means anything*.",
        quirks=("Test begins with the first 30 images of train, as `test[:30]` shows.",),
    )
    subject = replace(inputs.subject, dataset=dataset)
    goal = folder / "card"
    goal.mkdir()
    card.write(replace(inputs, subjects=(subject,)), goal, {}, silent)
    return goal / "index.html"


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: made(tmp_path_factory.mktemp(name), *about) for name, about in DATASETS.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(1000 * within(30))
        yield context.new_page()


@pytest.mark.slow
# Many classes and long names are what may not fit: each is seen where it is narrowest.
@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("ten", 1440),
        ("ten", 390),
        ("sixty-two", 768),
        ("sixty-two", 390),
        ("hundred", 1440),
        ("hundred", 390),
    ],
)
def test_a_card_keeps_the_rules_of_accessibility_asks_nobody_and_fits_its_window(
    cards: dict[str, Path], page: Page, name: str, width: int
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.set_viewport_size({"width": width, "height": 900})
    page.goto(cards[name].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme in get_args(Theme):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=SCREENSHOTS / f"card-{name}-{width}-{theme}.png", full_page=True)
    assert not browsing.scrolls_sideways(page)

    # Themes differ in their colours alone; all is unfolded for the rules.
    assert browsing.violations(page, "color-contrast") == []
    page.emulate_media(color_scheme="light")
    assert browsing.violations(page) == []
    assert not browsing.scrolls_sideways(page)
    assert [url for url in asked if not url.startswith("data:")] == [cards[name].as_uri()]
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ten", "sixty-two"])
def test_a_printed_card_is_light_whole_and_as_wide_as_its_paper(
    cards: dict[str, Path], page: Page, name: str
) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(cards[name].as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.pdf(
        path=SCREENSHOTS / f"card-{name}.pdf",
        format="A4",
        margin=dict.fromkeys(("top", "right", "bottom", "left"), "15mm"),
    )

    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # A4 without its margins
    page.screenshot(path=SCREENSHOTS / f"card-{name}-printed.png", full_page=True)

    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not browsing.scrolls_sideways(page)
    assert page.get_by_role("button").count() == 0
    folded = page.locator("details td").first
    assert folded.is_visible(), "what is folded away is printed"
    assert page.locator(".folded pre").first.is_hidden(), "but for lines to be copied"


@pytest.mark.slow
def test_a_click_copies_the_citation_or_selects_it_where_that_is_refused(
    cards: dict[str, Path], page: Page
) -> None:
    page.goto(cards["ten"].as_uri())
    citation = page.locator("#citation").text_content()
    assert citation
    page.evaluate(
        "() => { navigator.clipboard.writeText = async text => { globalThis.copied = text } }"
    )
    page.get_by_role("button", name="Copy the citation").click()
    page.get_by_role("status").get_by_text("Copied.").wait_for()
    assert page.evaluate("copied") == citation

    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw Error() } }")
    page.get_by_role("button", name="Copy the citation").click()
    page.get_by_role("status").get_by_text("Selected").wait_for()
    assert page.evaluate("getSelection().toString()").strip() == citation.strip()
