"""A real browser that looks at pages: without one tests are skipped, unless there has to be one.

IMAGESETS_TEST_BROWSER=1 says that there has to. What pages look like is kept in build/screenshots,
for people to look at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from assets.settings import ROOT

# The first is Chromium without a window, which takes a third of the time.
BROWSERS = (
    *("chromium-headless-shell", "chromium", "chromium-browser"),
    *("google-chrome", "google-chrome-stable"),
)
SCREENSHOTS = ROOT / "build" / "screenshots"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Theme = Literal["light", "dark"]


def installed() -> str:
    """The browser; skips where there is none, and fails where there has to be one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found:
        return found
    why = f"no browser is installed (looked for {', '.join(BROWSERS)}): apt-get install chromium"
    if os.environ.get("IMAGESETS_TEST_BROWSER") == "1":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that starts with nothing, for each page anew."""
    path = installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


def violations(page: Page, *rules: str) -> list[tuple[str, str]]:
    """Which of axe-core's rules (all, by default) a page breaks, and where; all is unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    # Not by a script element, which the page's own policy would refuse.
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    options = {"resultTypes": ["violations"]} | ({"runOnly": [*rules]} if rules else {})
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]]


def scrolls_sideways(page: Page) -> bool:
    """Whether a page is wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
