"""The Dagster UI as a person uses it, in a real browser; screenshots are kept in build/screenshots.

Skipped where no Chromium is installed, unless IMAGESETS_TEST_BROWSER=1 says that there must be one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from assets.settings import ROOT
from tests.assets.project import Project, environment
from tests.assets.ui import free_port
from tests.browsing import QUIET, SCREENSHOTS, installed
from tests.waiting import until, within

PATIENCE_S = within(60)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser with a profile, as a person has: it keeps what it has compiled of the UI."""
    path = installed()
    expect.set_options(timeout=1000 * PATIENCE_S)  # pages of a busy machine take their time
    with sync_playwright() as playwright:
        # What moves on a page takes as much time as all the rest.
        browser = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=path,
            args=QUIET,
            viewport={"width": 1500, "height": 1400},
            reduced_motion="reduce",
        )
        yield browser
        browser.close()


@dataclass
class Ui:
    """A running UI of a project of its own, and a page that looks at it."""

    url: str
    page: Page

    def open(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    def keep(self, name: str) -> None:
        """Keep what the page looks like for people to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(500)  # until what moves has moved
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def materialize(self, group: str, result: str) -> None:
        """Click `Materialize all` in a group, and follow the run to its end."""
        self.open(f"/locations/imagesets/asset-groups/{group}")
        self.page.get_by_role("button", name="Materialize all").click()
        self.page.get_by_text("View", exact=True).click()
        expect(self.page.get_by_text(result, exact=True).first).to_be_visible()


@pytest.fixture(scope="module")
def ui(
    browser: BrowserContext, _published_once: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ui]:
    project = _published_once.copied_to(
        tmp_path_factory.mktemp("browser") / "project", "tiny_digits", "tiny_letters"
    )
    toml = project.publisher.toml("tiny_letters")
    counts = next(line for line in toml.read_text().splitlines() if line.startswith("counts"))
    numbers = [int(number) for number in counts.partition("[")[2].rstrip("]").split(",")]
    wrong = [numbers[0] + 1, numbers[1] - 1, *numbers[2:]]
    project.redeclare("tiny_letters", counts, f"counts = {wrong}")
    port = free_port()
    variables = {
        "IMAGESETS_DATA": str(project.data),
        "IMAGESETS_CATALOGUE": str(project.publisher.catalogue),
        "IMAGESETS_MIRROR": str(project.publisher.mirror),
        "IMAGESETS_OFFLINE": "1",
    }
    made = (ROOT / ".venv" / "installed").exists()
    command = [sys.executable, "-m", "assets", "ui", "--port", str(port)]
    process = subprocess.Popen(
        ["make", "-s", "ui", f"PORT={port}"] if made else command,
        cwd=ROOT,
        env=environment(**variables),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        answers(url)
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        yield Ui(url, page)
        page.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(within(30))


def answers(url: str) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    pytest.fail(f"{url} does not answer")


def test_a_dataset_is_materialized_by_clicking_and_its_group_lists_what_was_made(ui: Ui) -> None:
    ui.materialize("tiny_digits", "Success")
    ui.keep("run")
    ui.open("/locations/imagesets/asset-groups/tiny_digits")
    ui.keep("graph")
    # Arrows to what is made on request lead out of the picture; the list has all of the group.
    ui.open("/locations/imagesets/asset-groups/tiny_digits/list")
    for asset in ("archives", "train", "train_csv", "train_lmdb", "statistics", "croissant"):
        shown = ui.page.get_by_text(f"tiny_digits / {asset}", exact=True)
        expect(shown.first).to_be_visible()
    expect(ui.page.get_by_text("Materialized").first).to_be_visible()
    ui.keep("group")


def test_a_table_shows_its_columns_examples_at_once_and_more_on_a_click(ui: Ui) -> None:
    ui.open("/assets/tiny_digits/train")
    expect(ui.page.get_by_text("30 rows")).to_be_visible()
    expect(ui.page.get_by_text("Position of the record in its split, from 0.")).to_be_visible()
    expect(ui.page.get_by_text("fixed_size_binary[12]")).to_be_visible()
    strip = ui.page.locator("img[src^='data:image/svg']").first
    expect(strip).to_be_visible()
    expect(strip).to_have_js_property("complete", True)
    assert strip.evaluate("image => image.naturalHeight") >= 30
    ui.keep("table")
    ui.page.get_by_text("[Show Markdown]").first.click()
    image = ui.page.locator("img[src^='data:image/png']").first
    expect(image).to_be_visible()
    expect(image).to_have_js_property("complete", True)
    width, height = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert width > 100
    assert height > 50
    ui.keep("contact-sheet")


def test_statistics_show_the_classes_and_a_chart(ui: Ui) -> None:
    ui.open("/assets/tiny_digits/statistics")
    expect(ui.page.get_by_text("category", exact=True).first).to_be_visible()
    chart = ui.page.locator("img[src^='data:image/svg']").first
    expect(chart).to_be_visible()
    expect(chart).to_have_js_property("complete", True)
    assert chart.evaluate("image => image.naturalWidth") > 100
    means = ui.page.get_by_alt_text("mean image of each class, in train and test").first
    expect(means).to_be_visible()
    ui.keep("statistics")


# What is cut off does not depend on colours: every asset is seen once, one of them in the dark.
@pytest.mark.parametrize(
    ("asset", "theme"),
    [("train", "dark"), ("train_csv", "light"), ("statistics", "light"), ("archives", "light")],
)
def test_what_an_asset_tells_is_not_cut_off_on_a_small_screen(
    ui: Ui, asset: str, theme: Literal["light", "dark"]
) -> None:
    ui.page.set_viewport_size({"width": 1440, "height": 900})
    ui.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    try:
        ui.open(f"/assets/tiny_digits/{asset}")
        parts = ui.page.locator("code").filter(has_text=re.compile("^[0-9a-f]{32}$"))
        expect(parts.first).to_be_visible()
        parts.last.scroll_into_view_if_needed()
        ui.keep(f"{asset}-{theme}")
        cut = "part => part.getBoundingClientRect().right > document.body.clientWidth || " + (
            "part.getBoundingClientRect().right > "
            "part.closest('table').parentElement.getBoundingClientRect().right"
        )
        until(lambda: not any(parts.nth(at).evaluate(cut) for at in range(2)))
        expect(ui.page.get_by_text("made because")).to_be_visible()
        if asset == "train_csv":
            expect(ui.page.get_by_text("csv_header")).to_be_visible()
    finally:
        ui.page.set_viewport_size({"width": 1500, "height": 1400})
        ui.page.emulate_media(color_scheme="light", reduced_motion="reduce")


@pytest.mark.parametrize("theme", ["dark"])
def test_the_overview_stands_on_a_small_screen_and_archives_have_no_check_unanswered(
    ui: Ui, theme: Literal["light", "dark"]
) -> None:
    ui.page.set_viewport_size({"width": 1440, "height": 900})
    ui.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    try:
        ui.open("/assets/overview")
        row = ui.page.get_by_role("cell", name="tiny_digits", exact=True).locator("..")
        expect(row.get_by_text("up to date")).to_be_visible()
        cells = row.locator("td")
        expect(cells).to_have_count(6)
        right = "cell => cell.getBoundingClientRect().right"
        panel = "cell => cell.closest('table').parentElement.getBoundingClientRect().right"
        until(lambda: cells.last.evaluate(right) <= cells.last.evaluate(panel))
        expect(ui.page.get_by_text("Fails if more than 9 days").first).to_be_visible()
        ui.keep(f"overview-{theme}")
        ui.open("/assets/tiny_digits/archives?view=checks")
        expect(ui.page.get_by_text("Checks (1)")).to_be_visible()
        expect(ui.page.get_by_text("Passed").first).to_be_visible()
        ui.keep(f"archives-checks-{theme}")
        ui.open("/assets/tiny_digits/mirrors")
        nobody = ui.page.get_by_text("No materializations").first
        expect(nobody).to_be_visible()  # "Materialize all" was clicked, and looked at no mirror
    finally:
        ui.page.set_viewport_size({"width": 1500, "height": 1400})
        ui.page.emulate_media(color_scheme="light", reduced_motion="reduce")


def test_a_check_that_fails_says_what_was_expected_and_what_was_found(ui: Ui) -> None:
    ui.materialize("tiny_letters", "Failure")
    ui.keep("failed-run")
    ui.open("/assets/tiny_letters/train?view=checks")
    ui.page.get_by_text("class_counts_as_declared", exact=True).first.click()
    expect(ui.page.get_by_text("Failed").first).to_be_visible()
    expect(ui.page.get_by_text("expected", exact=True).first).to_be_visible()
    expect(ui.page.get_by_text("found", exact=True).first).to_be_visible()
    ui.keep("failed-check")
