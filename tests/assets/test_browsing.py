"""`browse`: what is served of a data folder, to whom, and what stands beside a card."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import html5lib
import pytest

from assets.command_line import serving
from assets.command_line.browsing import Pages
from assets.settings import PAGES_PORT, ROOT
from pipelines.store import layout
from tests import builders
from tests.assets.conftest import Command, Start
from tests.assets.project import Project, environment
from tests.waiting import within

pytestmark = pytest.mark.slow

CARD = "/descriptions/tiny_digits/card/"
RECORDS = "/descriptions/tiny_digits/train_records/"


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """What a person reads, in one line; the page must be HTML without a mistake."""
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        root = parser.parse(self.body.decode())
        main = [*root.iter("main"), *root.iter("aside")]
        return " ".join(" ".join(" ".join(part.itertext()) for part in main).split())


@dataclass(frozen=True)
class Browser:
    """What asks a server, byte by byte as it is told to."""

    port: int

    def ask(self, path: str, method: str = "GET", host: str | None = None) -> Said:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=within(30))
        try:
            connection.putrequest(method, path, skip_host=True)
            for name in [f"127.0.0.1:{self.port}"] if host is None else filter(None, [host]):
                connection.putheader("Host", name)
            connection.endheaders()
            answer = connection.getresponse()
            return Said(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()


@contextmanager
def served(project: Project) -> Iterator[Browser]:
    pages = Pages(project.settings().store, project.plan())
    with serving.server(pages, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Browser(server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def shown(_published_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which tiny_digits has pages; nobody may change it."""
    project = _published_once.copied_to(tmp_path_factory.mktemp("shown") / "project")
    made = project.build("tiny_digits", stages=("card", "pictures", "records"))
    assert all(outcome.is_good for outcome in made.values())
    return project


@pytest.fixture(scope="module")
def browser(shown: Project) -> Iterator[Browser]:
    with served(shown) as found:
        yield found


# --- Files ----------------------------------------------------------------------------------------


def test_every_file_that_was_made_for_people_is_served_as_it_is(
    shown: Project, browser: Browser
) -> None:
    types = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
    types |= {".png": "image/png", ".svg": "image/svg+xml", ".md": "text/plain; charset=utf-8"}
    folder = shown.data / "descriptions"
    names = builders.files_under(folder)
    assert {Path(name).suffix for name in names} == {*types}
    for name in names:
        said = browser.ask(f"/descriptions/{name}")
        assert said.status == 200
        assert said.headers["Content-Type"] == types[Path(name).suffix]
        assert said.headers["X-Content-Type-Options"] == "nosniff"
        if not name.endswith("card/index.html"):
            assert said.body == (folder / name).read_bytes()
    assert browser.ask(RECORDS).body == browser.ask(f"{RECORDS}index.html").body
    moved = browser.ask(RECORDS.rstrip("/"))
    assert (moved.status, moved.headers["Location"]) == (301, RECORDS)
    svg = browser.ask("/descriptions/tiny_digits/pictures/counts.svg")
    assert svg.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_head_tells_what_get_would_send_and_nothing_can_be_changed(browser: Browser) -> None:
    whole, head = browser.ask(f"{RECORDS}000.png"), browser.ask(f"{RECORDS}000.png", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.body))
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        said = browser.ask(RECORDS, method)
        assert (said.status, said.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/tables/tiny_digits/train.parquet",
        "/lineage/descriptions/tiny_digits/card.json",
        "/descriptions",
        "/descriptions/",
        "/descriptions/tiny_digits/",
        "/descriptions/tiny_digits/card/.hidden",
        "/descriptions/tiny_digits/card/../../../tables/tiny_digits/train.parquet",
        "/descriptions/tiny_digits/card/%2e%2e/%2e%2e/%2e%2e/tables/tiny_digits/train.parquet",
        "/descriptions/tiny_digits/card/..%2f..%2f..%2ftables%2ftiny_digits%2ftrain.parquet",
        "/descriptions/tiny_digits/card//etc/passwd",
        "//etc/passwd",
        "/descriptions/tiny_digits/card/%00",
        "/descriptions/tiny_digits/card/..\\..\\secret",
        "/made/nothing",
        "/made/../descriptions",
        "/<script>alert(1)</script>",
    ],
)
def test_nothing_else_can_be_asked_for(shown: Project, browser: Browser, path: str) -> None:
    (shown.data / "descriptions/tiny_digits/card/.hidden").write_text("not ours")
    try:
        said = browser.ask(path.replace("<", "%3C").replace(">", "%3E"))
    finally:
        (shown.data / "descriptions/tiny_digits/card/.hidden").unlink()
    assert said.status == 404
    assert "There is no such page" in said.text
    assert b"<script>alert" not in said.body


def test_a_link_that_leads_out_of_a_folder_is_not_followed(shown: Project, tmp_path: Path) -> None:
    project = shown.copied_to(tmp_path / "copy")
    sheet = project.data / RECORDS.strip("/") / "000.png"
    (tmp_path / "secret").write_text("secret")
    sheet.unlink()
    sheet.symlink_to(tmp_path / "secret")
    with served(project) as browser:
        assert browser.ask(f"{RECORDS}000.png").status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", ""]
)
def test_a_name_of_other_peoples_that_leads_here_is_refused(browser: Browser, host: str) -> None:
    said = browser.ask("/", host=host)
    assert said.status == 421
    assert b"ask for 127.0.0.1 or localhost" in said.body


@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "[::1]:8321", "127.0.0.1"])
def test_a_name_of_this_machine_is_answered(browser: Browser, host: str) -> None:
    said = browser.ask("/", host=host)
    assert said.status == 200
    assert said.headers["X-Frame-Options"] == "DENY"
    assert said.headers["Cross-Origin-Resource-Policy"] == "same-origin"


# --- What it tells --------------------------------------------------------------------------------


def test_the_first_page_leads_to_what_is_there_and_says_how_to_make_the_rest(
    browser: Browser,
) -> None:
    said = browser.ask("/")
    assert f'href="{CARD}"' in said.body.decode()
    assert f'href="{RECORDS}"' in said.body.decode()
    assert "python -m assets build --only index" in said.text
    [letters] = re.findall(r"python -m assets build tiny_letters( --only \w+)+", said.text)
    assert letters
    assert "--only records" in said.text
    for missing in re.findall(r"build tiny_digits((?: --only \w+)+)", said.text):
        assert not {"card", "records", "pictures"} & {*missing.split()}
    for path in re.findall(r'(?:href|src)="(/[^"]*)"', said.body.decode()):
        assert browser.ask(path).status == 200, path


def test_where_nothing_is_there_the_first_page_says_what_to_do(project: Project) -> None:
    with served(project) as browser:
        text = browser.ask("/").text
        assert "Nothing yet" in text
        assert "python -m assets build tiny_digits --only" in text
        said = browser.ask(CARD)
        assert said.status == 404
        assert "Build it: python -m assets build tiny_digits --only card" in said.text
    assert not project.data.exists(), "nothing is made"


def test_beside_a_card_stands_when_it_was_made_from_what_and_whether_that_is_verified(
    shown: Project, browser: Browser
) -> None:
    file = shown.data / CARD.strip("/") / "index.html"
    said = browser.ask(CARD)
    beside = said.text.partition("In this data folder")[2]
    assert re.search(r"Made 20\d\d-\d\d-\d\d \d\d:\d\d UTC, by Imagesets [\d.]+, card", beside)
    assert f"from {shown.publisher.mirror}/tiny_digits" in beside
    assert "verified: as declared; retrieved 20" in beside
    assert "whole; last read 20" in beside
    assert "In this data folder" not in file.read_text()
    assert said.body.count(b"<aside") == 1
    assert said.body.count(b"</body>") == 1


def test_a_card_whose_archive_was_changed_does_not_count_as_verified(
    shown: Project, tmp_path: Path
) -> None:
    project = shown.copied_to(tmp_path / "copy")
    with (project.data / "archives/tiny_digits/train-images.gz").open("ab") as file:
        file.write(b"x")
    with served(project) as browser:
        assert "not all whole" in browser.ask(CARD).text
        text = browser.ask("/made/tiny_digits").text
    row = re.search(r"train-images\.gz (.*?) train-labels\.gz", text)
    assert row
    assert "changed: " in row[1]


def test_how_all_of_a_dataset_came_to_be_is_told(shown: Project, browser: Browser) -> None:
    text = browser.ask("/made/tiny_digits").text
    for archive in ("train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"):
        assert f"{archive} {shown.publisher.mirror}/tiny_digits/{archive} 20" in text
    for asset in ("train", "test", "statistics", "card", "train_records"):
        assert re.search(rf"tiny_digits/{asset} 20\d\d-.* UTC Imagesets ", text), asset
    assert browser.ask("/made/tiny_letters").status == 200, "of which nothing is here"


def test_a_folder_without_a_page_is_shown_as_its_pictures(browser: Browser) -> None:
    said = browser.ask("/descriptions/tiny_digits/pictures/")
    for name in ("samples.png", "sprite.png", "means.png", "counts.svg"):
        assert f'src="{name}"' in said.body.decode()
    assert "Tiny digits as pictures: samples, mean images" in said.text


def test_the_ui_links_to_the_page_that_an_asset_made(shown: Project) -> None:
    from assets import metadata

    for path, planned in shown.plan().artefacts.items():
        facts = metadata._page(planned)
        assert bool(facts) == layout.is_for_people(path)
    [records] = metadata._page(shown.plan().named()["tiny_digits/train_records"]).values()
    link = f"[{RECORDS[1:]}](http://127.0.0.1:{PAGES_PORT}{RECORDS})"
    assert records.value == f"{link}\n\nwhile `python -m assets browse` runs"


# --- The command ----------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c_and_begins_with_a_card(
    shown: Project, forked: Start, tmp_path: Path
) -> None:
    running = forked("browse", "tiny_digits", "--port", "0", "--no-browser", *shown.options)
    try:
        end = time.monotonic() + within(30)
        while not (printed := running._out.read_text() if running._out.exists() else ""):
            assert time.monotonic() < end
            time.sleep(0.05)
        found = re.fullmatch(
            r"Browse: http://127\.0\.0\.1:(\d+)(\S+) \(stop with Ctrl-C\)\n", printed
        )
        assert found
        assert found[2] == CARD
        assert Browser(int(found[1])).ask(CARD).status == 200
    finally:
        running.send_signal(signal.SIGINT)
        ended = running.communicate()
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_begins_with_the_index_where_there_is_one_and_else_with_a_list(
    shown: Project, tmp_path: Path
) -> None:
    def start(project: Project, *names: str) -> str:
        pages = Pages(project.settings().store, project.plan())
        return pages.start(next(iter(pages.plan.declared.select(names)), None))

    assert start(shown) == "/"
    assert start(shown, "tiny_letters") == "/made/tiny_letters"
    project = shown.copied_to(tmp_path / "copy")
    assert all(o.is_good for o in project.build("tiny_digits", stages=("index",)).values())
    assert start(project) == "/descriptions/index.html"
    with served(project) as browser:
        assert browser.ask("/descriptions/index.html").status == 200


def test_a_port_that_is_taken_is_refused(project: Project, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = command("browse", "--no-browser", "--port", str(port), *project.options)
    assert (said.code, said.stdout) == (1, "")
    assert "Address already in use. Is it running already? Choose another port" in said.stderr
    assert "make ui" not in said.stderr


def test_a_dataset_that_does_not_exist_is_refused(project: Project, command: Command) -> None:
    said = command("browse", "tiny_digit", "--no-browser", "--port", "0", *project.options)
    assert said.code == 2
    assert "tiny_digits" in said.stderr


def test_dagster_is_not_imported(shown: Project) -> None:
    code = (
        "import sys; from pathlib import Path\nfrom assets.command_line import browsing, serving\n"
        "from assets.settings import Settings\nimport assets.commands.browse\n"
        "settings = Settings(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "pages = browsing.Pages(settings.store, settings.plan())\n"
        f"assert pages.answer({CARD!r}).status == pages.answer('/made/tiny_digits').status == 200\n"
        "print('dagster' in sys.modules)"
    )
    given = [str(shown.data), str(shown.publisher.catalogue)]
    done = subprocess.run(
        [sys.executable, "-c", code, *given],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_records_can_be_listed_verified_and_traced(
    shown: Project, command: Command, tmp_path: Path
) -> None:
    project = shown.copied_to(tmp_path / "copy")
    said = command("verify", "tiny_digits", *project.options)
    assert said.code == 0, said.stdout + said.stderr
    assert "descriptions/tiny_digits/train_records" in said.stdout or "whole" in said.stdout
    assert command("verify", "--deep", "tiny_digits", *project.options).code == 0
    said = command("trace", "tiny_digits/train_records", *project.options)
    assert said.code == 0, said.stdout + said.stderr
    assert "descriptions/tiny_digits/train_records" in said.stdout
    sheet = project.data / RECORDS.strip("/") / "000.png"
    sheet.write_bytes(sheet.read_bytes()[:-1] + b"x")
    said = command("verify", "tiny_digits", *project.options)
    assert said.code == 1
    assert "descriptions/tiny_digits/train_records" in said.stdout
    shutil.rmtree(project.data)
