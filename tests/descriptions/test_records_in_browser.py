"""The page of records as people use it, in a real browser, from disk and as `browse` serves it."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from assets.command_line.browsing import Pages
from assets.serving import sites
from pipelines.descriptions import records
from pipelines.lineage import trace
from pipelines.products import Inputs, Subject
from pipelines.progress import silent
from pipelines.store import layout
from tests import builders
from tests.assets.project import Project
from tests.browsing import SCREENSHOTS, Theme, launched, scrolls_sideways, violations
from tests.builders import Array
from tests.descriptions.test_records import to_means, written
from tests.waiting import until, within

pytestmark = pytest.mark.slow

TRAIN, TEST = 2300, 20
DATASETS = ("tiny_digits", "tiny_letters", "tiny_colours")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

# Scrolls from the start by some pixels in each of many frames; how long each took, in ms.
FRAMES = """async ([step, count]) => {
  const list = document.getElementById("records"), times = [];
  list.scrollTop = 0;
  await new Promise((done) => requestAnimationFrame(function frame(now) {
    times.push(now);
    list.scrollTop = (list.scrollTop + step) % (list.scrollHeight - list.clientHeight);
    if (times.length < count) requestAnimationFrame(frame); else done();
  }));
  return times.slice(1).map((time, at) => time - times[at]);
}"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three datasets with pages of records: grey, grey and lying on their side, coloured."""
    folder = tmp_path_factory.mktemp("records")
    project = Project(builders.publish(folder / "published", TRAIN, TEST), folder / "data")
    made = project.build(*DATASETS, stages=("records",))
    assert all(outcome.is_good for outcome in made.values())
    return project


@pytest.fixture(scope="module")
def browser(project: Project) -> Iterator[Browser]:
    """A browser; it starts when all is built, since no run may start beside its event loop."""
    expect.set_options(timeout=1000 * within(30))
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def served(project: Project) -> Iterator[str]:
    """The address at which `browse` serves them."""
    pages = Pages(project.settings().store, project.plan())
    with sites.server(pages, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield sites.address("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


@dataclass
class View:
    """A page of records, and what it does."""

    page: Page
    asked: list[str]
    errors: list[str]

    @property
    def chosen(self) -> Locator:
        """The chosen record, as the list has it; the options of menus are others."""
        return self.page.locator("[role=option]")

    @property
    def option(self) -> str:
        """What the chosen record is called for those who don't see it."""
        return self.chosen.get_attribute("aria-label") or ""

    @property
    def index(self) -> int:
        """The index of the chosen record."""
        [digits] = re.findall(r"^Record ([\d,]+):", self.option)
        return int(digits.replace(",", ""))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.get_by_role("listbox").press(key)

    def walk(self, records: int) -> list[int]:
        """The indices of the chosen record and of those after it."""
        found = [self.index]
        while len(found) < records:
            self.press("ArrowRight")
            found.append(self.index)
        return found

    def choose(self, label: int | None = None, order: str | None = None) -> None:
        if label is not None:
            self.page.get_by_label("Class", exact=True).select_option(str(label))
        if order is not None:
            self.page.get_by_label("Order", exact=True).select_option(order)

    def jump(self, text: str) -> None:
        self.page.get_by_label("Record", exact=True).fill(text)
        self.page.get_by_role("button", name="Go").click()

    def says(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("#told")).to_have_text(text)

    def pictures(self, shape: tuple[int, int, int], count: int) -> Array:
        """The pictures that are really on the screen in a row, from that of the chosen record on.

        Each pixel is looked at in its middle, so that the frame of the chosen one does not matter.
        """
        expect(self.chosen).to_have_count(1)
        box = self.chosen.bounding_box()
        assert box is not None
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        screen = np.asarray(image)
        height, width, channels = shape
        rows = box["y"] + (np.arange(height) + 0.5) * box["height"] / height
        found = []
        for number in range(count):
            left = box["x"] + number * (box["width"] + 2)
            columns = left + (np.arange(width) + 0.5) * box["width"] / width
            found.append(screen[rows.astype(int)[:, None], columns.astype(int)])
        return np.stack(found)[..., :channels]

    def enlarged(self, shape: tuple[int, int, int]) -> Array:
        """The large picture of the chosen record, pixel by pixel."""
        png = self.page.locator("#large").screenshot()
        shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        height, width, channels = shape
        rows = (np.arange(height) + 0.5) * shown.shape[0] / height
        columns = (np.arange(width) + 0.5) * shown.shape[1] / width
        return shown[rows.astype(int)[:, None], columns.astype(int)][..., :channels]


def opened(browser: Browser, url: str, theme: Theme = "light", size: dict[str, int] = WIDE) -> View:
    """A page in a window of its own, once all that is in sight is drawn."""
    width, height = size["width"], size["height"]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(1000 * within(30))
    page = context.new_page()
    view = View(page, [], [])
    page.on("request", lambda request: view.asked.append(request.url))
    page.on("pageerror", lambda error: view.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector("[role=option]")
    drawn(view)
    return view


def drawn(view: View) -> None:
    """Wait until the sheets in sight are loaded, and drawn."""
    view.page.wait_for_load_state("networkidle")
    view.page.wait_for_timeout(250)


def shows(look: Callable[[], Array], expected: Array) -> None:
    """Hold what is on the screen against what has to be there, once it had the time to be drawn."""
    with contextlib.suppress(AssertionError):
        until(lambda: np.array_equal(look(), expected), 5)
    np.testing.assert_array_equal(look(), expected)


def records_of(project: Project, name: str) -> tuple[Array, Array]:
    dataset, split = name.split("/")
    images, labels, _ = project.publisher.splits[dataset, split]
    return images, labels


def from_disk(project: Project, name: str) -> str:
    return (project.data / f"descriptions/{name}_records/index.html").as_uri()


def test_labels_of_two_bytes_are_read_as_such(browser: Browser, tmp_path: Path) -> None:
    """More classes than a byte tells apart; the bytes that are named are those of their files."""
    values = np.sort(np.tile(np.arange(300, dtype=np.uint16), 2))
    tiny = builders.tiny(tmp_path, builders.images(600), values, classes=300)
    subject = Subject(tiny.source, tiny.dataset, (tiny.split,))
    lying = {layout.archive("tiny", name): tiny.archives / name for name in tiny.members}
    table = tiny.table(tmp_path / "train.parquet")
    goal = tmp_path / "train_records"
    goal.mkdir()
    records.write(Inputs((subject,), lying, (), {"train": table}), goal, {}, silent)

    view = opened(browser, (goal / "index.html").as_uri())
    view.jump("599")
    shown = view.option
    view.choose(label=256, order="index")

    assert "class 299 · class 299" in shown
    view.says(re.compile("^2 records of class 256"))
    assert view.index in (512, 513)
    expect(view.page.locator("body")).to_contain_text("class 256.npy")
    assert view.errors == []


@pytest.fixture(params=["from disk", "served"])
def digits(request: pytest.FixtureRequest, browser: Browser, project: Project) -> Iterator[View]:
    """The page of tiny_digits/train, in both ways that people open it."""
    url = from_disk(project, "tiny_digits/train")
    if request.param == "served":
        served = request.getfixturevalue("served")
        url = f"{served}/descriptions/tiny_digits/train_records/"
    view = opened(browser, url)
    yield view
    assert view.errors == []
    view.page.context.close()


# --- What is drawn --------------------------------------------------------------------------------


def test_the_first_records_are_really_drawn(digits: View, project: Project) -> None:
    images, labels = records_of(project, "tiny_digits/train")
    shows(lambda: digits.pictures((4, 3, 1), 12), images[:12])
    shows(lambda: digits.enlarged((4, 3, 1)), images[0])
    assert digits.option.startswith("Record 0: class ")
    digits.says("2,300 records, by index")
    assert f"({np.sum(labels == 1):,})" in digits.page.locator("#class option").all_inner_texts()[2]


def test_records_are_still_drawn_where_one_has_scrolled_to(digits: View, project: Project) -> None:
    images, _ = records_of(project, "tiny_digits/train")
    digits.press("End")
    drawn(digits)
    assert digits.index == TRAIN - 1
    shows(lambda: digits.pictures((4, 3, 1), 1)[0], images[-1])
    digits.press("PageUp", "ArrowUp", "ArrowLeft")
    drawn(digits)
    at = digits.index
    assert 1000 < at < TRAIN - 100
    shows(lambda: digits.pictures((4, 3, 1), 1)[0], images[at])
    digits.press("Home")
    drawn(digits)
    shows(lambda: digits.pictures((4, 3, 1), 12), images[:12])


@pytest.mark.parametrize("name", ["tiny_colours/train", "tiny_letters/test", "tiny_colours/test"])
def test_colours_letters_and_small_splits_are_drawn(
    browser: Browser, project: Project, name: str
) -> None:
    images, labels = records_of(project, name)
    view = opened(browser, from_disk(project, name))
    shows(lambda: view.pictures(images.shape[1:], 8), images[:8])
    view.press("End")
    drawn(view)
    shows(lambda: view.pictures(images.shape[1:], 1)[0], images[-1])
    shows(lambda: view.enlarged(images.shape[1:]), images[-1])
    facts = view.page.locator("#facts").inner_text()
    assert ("Coarse class" in facts) == name.startswith("tiny_colours")
    assert f"{labels[-1]}" in facts
    assert view.errors == []
    view.page.context.close()


def test_what_one_screen_shows_is_loaded_once_even_where_little_is_held(
    browser: Browser, project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "train_records"
    shutil.copytree(project.data / "descriptions/tiny_digits/train_records", folder)
    page = (folder / "index.html").read_text("utf-8")
    assert "400e6" in page
    (folder / "index.html").write_text(page.replace("400e6", "1"), "utf-8")
    images, labels = records_of(project, "tiny_digits/train")
    view = opened(browser, (folder / "index.html").as_uri())
    view.choose(order="farthest")
    drawn(view)
    order = np.argsort(to_means(images, labels), kind="stable")[::-1]
    assert len({*(order[:12] // 2000)}) == 2, "what is shown stands on both sheets"
    shows(lambda: view.pictures((4, 3, 1), 12), images[order[:12]])
    before = len(view.asked)
    view.press(*["ArrowRight"] * 10)
    drawn(view)
    assert len(view.asked) == before
    view.page.context.close()


# --- What people look for -------------------------------------------------------------------------


def test_one_goes_to_a_record_by_its_index(digits: View, project: Project) -> None:
    images, _ = records_of(project, "tiny_digits/train")
    for text, index in (("1234", 1234), ("2,299", 2299), ("train:7", 7)):
        digits.jump(text)
        drawn(digits)
        assert digits.index == index
        expect(digits.page.get_by_role("heading", level=2)).to_have_text(f"Record {index:,}")
        shows(lambda: digits.pictures((4, 3, 1), 1)[0], images[index])
        shows(lambda: digits.enlarged((4, 3, 1)), images[index])
    for text in ("2300", "first", "test:7", "-1"):
        digits.jump(text)
        digits.says(f"There is no record {text} here: train has records 0 to 2,299.")
        assert digits.index == 7


@pytest.mark.parametrize("hash_", ["#train:1234", "#1234", "#train%3A1234"])
def test_an_address_leads_to_a_record(browser: Browser, project: Project, hash_: str) -> None:
    images, _ = records_of(project, "tiny_digits/train")
    view = opened(browser, from_disk(project, "tiny_digits/train") + hash_)
    assert view.index == 1234
    shows(lambda: view.pictures((4, 3, 1), 1)[0], images[1234])
    view.press("ArrowRight")
    view.page.wait_for_url(re.compile("#train:1235$"))
    view.page.evaluate("location.hash = '#train:3'")
    expect(view.page.get_by_role("heading", level=2)).to_have_text("Record 3")
    view.page.evaluate("location.hash = '#test:5'")
    view.says(re.compile("There is no record test:5 here"))
    view.page.evaluate("location.hash = '#%'")
    view.says(re.compile("There is no record % here"))
    assert view.errors == []
    view.page.context.close()


def test_a_class_is_shown_alone_and_from_its_start(digits: View, project: Project) -> None:
    images, labels = records_of(project, "tiny_digits/train")
    of_class = np.flatnonzero(labels == 2)
    digits.press("End")
    digits.choose(label=2)
    drawn(digits)
    assert digits.page.evaluate("document.getElementById('records').scrollTop") == 0
    assert digits.walk(30) == of_class[:30].tolist()
    option = digits.chosen
    assert option.get_attribute("aria-setsize") == str(len(of_class))
    assert option.get_attribute("aria-posinset") == "30"
    digits.says(re.compile(rf"^{len(of_class)} records of class 2"))
    digits.press("Home")
    shows(lambda: digits.pictures((4, 3, 1), 12), images[of_class[:12]])
    other = int(np.flatnonzero(labels == 1)[5])
    digits.jump(str(other))
    assert digits.index == other
    digits.says("2,300 records, by index")


def test_the_nearest_and_the_farthest_are_those_that_numpy_finds(
    digits: View, project: Project
) -> None:
    images, labels = records_of(project, "tiny_digits/train")
    distances = to_means(images, labels)
    order = np.argsort(distances, kind="stable")
    digits.choose(order="nearest")
    assert digits.walk(25) == order[:25].tolist()
    digits.choose(order="farthest")
    assert digits.walk(25) == order[::-1][:25].tolist()
    drawn(digits)
    digits.choose(label=1)
    of_class = order[labels[order] == 1]
    assert digits.walk(25) == of_class[::-1][:25].tolist()
    at = digits.index
    facts = digits.page.locator("#facts").inner_text()
    assert f"{distances[at]:,.1f} from its class mean" in facts
    rank = of_class.tolist().index(at) + 1
    assert f"{rank} of {len(of_class)}, nearest first" in facts


@pytest.mark.parametrize("name", ["tiny_digits/train", "tiny_letters/train", "tiny_colours/train"])
def test_the_bytes_that_are_told_are_those_that_trace_verifies(
    browser: Browser, project: Project, name: str
) -> None:
    view = opened(browser, from_disk(project, name))
    settings = project.settings()
    for index in (0, 1151, TRAIN - 1):
        view.jump(str(index))
        command = view.page.locator("#trace").inner_text()
        assert command == f"python -m assets trace {name}:{index}"
        chain = trace.trace(settings.plan(), settings.store, command.rpartition(" ")[2])
        assert chain.holds
        expected = []
        for hop in (hop for hop in chain.hops if hop.what == "member"):
            assert hop.bytes is not None
            expected.append((f"{hop.bytes[0]:,} to {hop.bytes[1]:,}", hop.path))
        told = []
        for part in view.page.locator("#places dl").all():
            names, values = (part.locator(tag).all_inner_texts() for tag in ("dt", "dd"))
            facts = dict(zip(names, values, strict=True))
            told.append(
                (facts["Bytes"], f"{facts['Archive']}/{facts.get('Member', '')}".strip("/"))
            )
        assert len(told) == len(expected)
        for (span, member), (bytes_, path) in zip(told, expected, strict=True):
            assert (span, path.endswith(member)) == (bytes_, True)
    view.page.context.close()


# --- Keys, screen readers, small screens ----------------------------------------------------------


def test_everything_can_be_done_with_keys_alone(digits: View) -> None:
    page = digits.page
    focused = "document.activeElement.id || document.activeElement.textContent"
    found = []
    for _ in range(5):
        page.keyboard.press("Tab")
        found.append(page.evaluate(focused))
    assert found == ["class", "order", "index", "Go", "records"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    across = digits.index - 1
    assert across > 5
    chosen = page.evaluate(
        "document.getElementById('records').getAttribute('aria-activedescendant')"
    )
    assert digits.chosen.get_attribute("id") == chosen == f"record-{digits.index}"
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "name"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "records"
    page.keyboard.press("Home")
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").press("Enter")
    assert digits.index == 1
    page.get_by_role("button", name="Previous").press("Enter")
    assert digits.index == 0
    assert page.evaluate(focused) == "name", "a button that is disabled keeps no keyboard"


def test_a_click_chooses_the_record_under_it(digits: View) -> None:
    box = digits.chosen.bounding_box()
    assert box is not None
    x, y = box["x"] + 3.5 * (box["width"] + 2), box["y"] + box["height"] / 2
    digits.page.mouse.click(x, y)
    assert digits.index == 3


# Colours don't depend on the size, nor places on the theme.
@pytest.mark.parametrize(
    ("name", "size", "theme"),
    [
        ("tiny_digits/train", WIDE, "dark"),
        ("tiny_digits/train", PHONE, "light"),
        ("tiny_colours/test", PHONE, "dark"),
    ],
)
def test_it_breaks_no_rule_of_accessibility_asks_nobody_and_never_scrolls_sideways(
    browser: Browser, project: Project, name: str, theme: Theme, size: dict[str, int]
) -> None:
    view = opened(browser, from_disk(project, name), theme, size)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    kind = "wide" if size is WIDE else "phone"
    kept = f"records-{name.replace('/', '-')}-{kind}-{theme}"
    for state in ("", "-chosen"):
        if state:
            view.page.locator("#records").click(position={"x": 150, "y": 100})
            expect(view.page.get_by_role("heading", level=2)).to_be_visible()
            drawn(view)
        view.page.screenshot(path=SCREENSHOTS / f"{kept}{state}.png")
        assert not scrolls_sideways(view.page)
    assert violations(view.page) == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in view.asked)
    if size is PHONE:
        view.page.get_by_role("button", name="Close").click()
        expect(view.page.get_by_role("heading", level=2)).to_be_hidden()
    assert view.errors == []
    view.page.context.close()


@pytest.mark.parametrize("lost", ["records.js", "001.png"])
def test_a_file_that_is_lost_is_named(
    browser: Browser, project: Project, tmp_path: Path, lost: str
) -> None:
    folder = tmp_path / "train_records"
    shutil.copytree(project.data / "descriptions/tiny_digits/train_records", folder)
    (folder / lost).unlink()
    context = browser.new_context()
    context.set_default_timeout(1000 * within(30))
    page = context.new_page()
    page.goto(f"{(folder / 'index.html').as_uri()}#2100")
    expect(page.locator("#told")).to_contain_text(f"{lost}, which belongs beside this page,")
    context.close()


# --- Many -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array, Array]:
    """60,000 records of 28×28 pixels in 47 classes, of a few hundred patterns."""
    random = np.random.default_rng(0)
    patterns = builders.images(300, 28, 28) * (random.random((300, 28, 28, 1)) < 0.3)
    images = patterns[np.arange(60_000) % 300] // (1 + np.arange(60_000) % 7)[:, None, None, None]
    labels = builders.labels(60_000, 47)
    classes = [f"letter {number}" for number in range(47)]
    folder = tmp_path_factory.mktemp("many")
    return written(folder, images.astype(np.uint8), labels, classes), images, labels


def scrolls_smoothly(view: View, step: int) -> None:
    """Hold the slowest frame, but for 1 %, against two of sixty in a second.

    What else runs on this machine takes frames, too: each is as long as the quickest of many tries.
    """
    quickest = np.full(149, np.inf)

    def is_smooth() -> bool:
        quickest[:] = np.minimum(quickest, view.page.evaluate(FRAMES, [step, 150]))
        return bool(np.sort(quickest)[147] <= 34)

    until(is_smooth, 30)


def test_60000_records_scroll_at_60_frames_a_second(
    browser: Browser, many: tuple[Path, Array, Array]
) -> None:
    folder, images, labels = many
    view = opened(browser, (folder / "index.html").as_uri())
    view.says("60,000 records, by index")
    for step in (40, 700):  # as a wheel scrolls, and thrown over the whole split
        scrolls_smoothly(view, step)
    drawn(view)
    view.jump("59,999")
    drawn(view)
    shows(lambda: view.pictures((28, 28, 1), 1)[0], images[-1])
    view.choose(label=46, order="farthest")
    drawn(view)
    order = np.argsort(to_means(images, labels), kind="stable")[::-1]
    of_class = order[labels[order] == 46]
    shows(lambda: view.pictures((28, 28, 1), 12), images[of_class[:12]])
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    view.page.screenshot(path=SCREENSHOTS / "records-many.png")
    assert view.errors == []
    view.page.context.close()
