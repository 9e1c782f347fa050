"""The pages of `browse` in a real browser: nobody is shut out, nobody else is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from assets.command_line.browsing import Pages
from assets.serving import sites
from tests.assets.project import Project
from tests.browsing import SCREENSHOTS, Theme, launched, scrolls_sideways, violations
from tests.waiting import within

pytestmark = pytest.mark.slow

PAGES = {
    "list": "/",
    "how": "/made/tiny_digits",
    "card": "/descriptions/tiny_digits/card/",
    "pictures": "/descriptions/tiny_digits/pictures/",
    "records": "/descriptions/tiny_digits/train_records/",
    "missing": "/descriptions/tiny_letters/card/",
}


@pytest.fixture(scope="module")
def served(_published_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = _published_once.copied_to(tmp_path_factory.mktemp("browse") / "project")
    made = project.build("tiny_digits", stages=("card", "pictures", "records"))
    assert all(outcome.is_good for outcome in made.values())
    pages = Pages(project.settings().store, project.plan())
    with sites.server(pages, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield sites.address("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(served: str) -> Iterator[Browser]:
    """A browser; it starts when all is built, since no run may start beside its event loop."""
    with launched() as found:
        yield found


# Colours don't depend on the width, nor places on the theme: each page is seen in both of both.
@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_breaks_no_rule_of_accessibility_and_asks_nobody_else(
    browser: Browser, served: str, name: str, width: int, theme: Theme
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_default_timeout(1000 * within(30))
    page, asked, errors = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{served}{PAGES[name]}", wait_until="networkidle")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"browse-{name}-{width}-{theme}.png", full_page=True)
    assert violations(page) == []
    assert not scrolls_sideways(page)
    assert {urlsplit(url).netloc for url in asked} <= {urlsplit(served).netloc, ""}
    assert errors == []
    context.close()


def test_what_stands_beside_a_card_hides_nothing_of_it(browser: Browser, served: str) -> None:
    for width in (1440, 1600, 1920, 1200, 390):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(1000 * within(30))
        page.goto(f"{served}{PAGES['card']}")
        card, aside = page.locator("main").bounding_box(), page.locator("aside").bounding_box()
        assert card is not None
        assert aside is not None
        is_right = aside["x"] >= card["x"] + card["width"] - 16  # its own padding
        is_below = aside["y"] >= card["y"] + card["height"]
        assert is_right if width >= 1440 else is_below
        page.close()
