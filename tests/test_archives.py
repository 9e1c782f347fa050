"""Archives: the right bytes from the first place that has them, and no others under that name."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines import archives, catalogue, files
from pipelines.catalogue import Archive, Catalogue
from pipelines.errors import ArchiveUnavailable, StorageError, WrongBytes
from tests import builders

DATA = os.urandom(700_000)  # more than two pieces
PAGE = b"""<!DOCTYPE html>
<html><head><title>404 &ndash; Not
  found</title></head><body>Sorry.</body></html>"""

Answer = Callable[[BaseHTTPRequestHandler], None]


def declared(data: bytes, name: str = "images.gz") -> Archive:
    return Archive(
        size_bytes=len(data),
        md5=hashlib.md5(data).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
        name=name,
    )


def answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    """An answer of a server; a header with an empty value is left out."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body)

    return send


class Server(ThreadingHTTPServer):
    """Answers each path as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str, reply: Answer) -> str:
        self.answers[path] = reply
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may hang up on wrong bytes."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answers.get(self.path, answer(PAGE, 404))(self)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "data" / "archives" / "digits" / "images.gz"


def nothing_but(folder: Path, *names: str) -> bool:
    return [Path(name).name for name in builders.files_under(folder)] == sorted(names)


# --- from a server --------------------------------------------------------------------------------


def test_the_right_bytes_are_fetched(server: Server, goal: Path, tmp_path: Path) -> None:
    url = server.url("/digits/images.gz", answer(DATA))
    told: list[int] = []

    origin = archives.obtain(declared(DATA), goal, [url], advance=told.append)

    assert origin == url
    assert goal.read_bytes() == DATA
    assert nothing_but(tmp_path, "images.gz")
    assert len(told) > 1
    assert sum(told) == len(DATA)


def test_the_server_is_told_who_asks_and_that_the_bytes_must_come_as_they_are(
    server: Server, goal: Path
) -> None:
    archives.obtain(declared(DATA), goal, [server.url("/images.gz", answer(DATA))])

    [(path, headers)] = server.asked
    assert path == "/images.gz"
    assert headers["User-Agent"].startswith("imagesets/")
    assert headers["Accept-Encoding"] == "identity"


def test_an_archive_that_ends_in_gz_is_kept_packed_whatever_the_server_calls_it(
    server: Server, goal: Path
) -> None:
    packed = gzip.compress(b"pixels" * 1000)
    reply = answer(packed, **{"Content-Encoding": "gzip", "Content-Type": "application/x-gzip"})

    archives.obtain(declared(packed), goal, [server.url("/images.gz", reply)])

    assert goal.read_bytes() == packed


def test_an_answer_without_a_length_is_read_to_its_end(server: Server, goal: Path) -> None:
    url = server.url("/images.gz", answer(DATA, **{"Content-Length": ""}))

    archives.obtain(declared(DATA), goal, [url])

    assert goal.read_bytes() == DATA


def test_a_redirection_is_followed(server: Server, goal: Path) -> None:
    there = server.url("/there", answer(DATA))
    here = server.url("/here", answer(b"", 302, Location=there))

    assert archives.obtain(declared(DATA), goal, [here]) == here
    assert goal.read_bytes() == DATA


def _cut_short(request: BaseHTTPRequestHandler) -> None:
    answer(DATA[:-1000], **{"Content-Length": str(len(DATA))})(request)
    request.close_connection = True


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


WRONG = [
    ("404", answer(PAGE, 404), ["HTTP 404 Not Found"]),
    ("403", answer(PAGE, 403), ["HTTP 403 Forbidden"]),
    ("500", answer(b"", 500), ["HTTP 500 Internal Server Error"]),
    ("503 with the right bytes", answer(DATA, 503), ["HTTP 503 Service Unavailable"]),
    ("206", answer(DATA[:10], 206), ["HTTP 206"]),
    ("a page", answer(PAGE), ["HTML page titled '404 – Not found'", "MD5", f"{len(PAGE):,} bytes"]),
    ("a page without title", answer(b"<html><p>sorry"), ["an HTML page."]),
    ("nothing", answer(b""), ["0 bytes", "nothing arrived"]),
    ("wrong bytes", answer(DATA[::-1]), [hashlib.md5(DATA[::-1]).hexdigest(), "declares 700,000"]),
    ("other gzip", answer(gzip.compress(b"x")), ["look like gzip, but another or a cut file"]),
    ("other zip", answer(b"PK\3\4"), ["look like zip, but another or a cut file"]),
    ("too many bytes", answer(DATA + b"!"), ["more than the declared 700,000 bytes"]),
    ("too few bytes", answer(DATA[:-1]), ["699,999 bytes with MD5"]),
    ("a cut connection", _cut_short, ["IncompleteRead"]),
    ("no answer", _hang_up, ["ConnectionError"]),
    ("a circle", lambda r: answer(b"", 302, Location=r.path)(r), ["TooManyRedirects"]),
]


@pytest.mark.parametrize(
    ("reply", "words"), [pytest.param(*case, id=what) for what, *case in WRONG]
)
def test_a_mirror_without_the_right_bytes_is_told_and_leaves_no_file(
    server: Server, goal: Path, tmp_path: Path, reply: Answer, words: list[str]
) -> None:
    url = server.url("/digits/images.gz", reply)
    told: list[int] = []

    with pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(declared(DATA), goal, [url], advance=told.append)

    text = str(caught.value)
    for word in [f"{url}: ", *words]:
        assert word in text
    assert f"images.gz (700,000 bytes, MD5 {hashlib.md5(DATA).hexdigest()})" in text
    assert f"Put the file at {goal} yourself" in text
    assert "IMAGESETS_MIRROR" in text
    assert builders.files_under(tmp_path) == []
    assert sum(told) == 0


@pytest.mark.parametrize("reply", [pytest.param(case[1], id=case[0]) for case in WRONG])
def test_a_mirror_with_wrong_bytes_is_skipped(
    server: Server, goal: Path, tmp_path: Path, reply: Answer
) -> None:
    first = server.url("/first/images.gz", reply)
    second = server.url("/second/images.gz", answer(DATA))
    third = server.url("/third/images.gz", answer(DATA))
    told: list[int] = []

    origin = archives.obtain(declared(DATA), goal, [first, second, third], advance=told.append)

    assert origin == second
    assert goal.read_bytes() == DATA
    assert nothing_but(tmp_path, "images.gz")
    assert sum(told) == len(DATA)
    assert "/third/images.gz" not in [path for path, _ in server.asked]


def test_a_server_that_never_ends_is_left_after_the_declared_bytes(
    server: Server, goal: Path
) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        for _ in range(100_000):
            request.wfile.write(bytes(10_000))
            sent += 10_000

    with pytest.raises(ArchiveUnavailable, match="more than the declared 700,000 bytes"):
        archives.obtain(declared(DATA), goal, [server.url("/images.gz", endless)])

    assert sent < 100_000 * 10_000


def test_a_refused_connection_is_told_and_the_next_mirror_tried(server: Server, goal: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, but nobody listens
        dead = f"http://127.0.0.1:{held.getsockname()[1]}/images.gz"

        with pytest.raises(ArchiveUnavailable, match=r"ConnectionError.*[Rr]efused"):
            archives.obtain(declared(DATA), goal, [dead])
        live = server.url("/images.gz", answer(DATA))
        assert archives.obtain(declared(DATA), goal, [dead, live]) == live


def test_every_attempt_is_listed(server: Server, goal: Path, tmp_path: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"old and wrong")
    folder = tmp_path / "mirror" / "images.gz"
    urls = [server.url("/a", answer(PAGE)), server.url("/b", answer(b"", 404))]

    with pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(declared(DATA), goal, [str(folder), *urls])

    lines = str(caught.value).splitlines()
    assert [
        line.strip().startswith(f"{place}: ")
        for line, place in zip(lines[1:5], [goal, folder, *urls], strict=True)
    ] == [True] * 4
    assert "no such file" in lines[2]
    assert goal.read_bytes() == b"old and wrong"


def test_a_connection_has_timeouts(
    server: Server, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(0 < seconds <= 300 for seconds in archives.TIMEOUTS_S)
    silent = threading.Event()
    monkeypatch.setattr(archives, "TIMEOUTS_S", (5.0, 0.05))
    url = server.url("/images.gz", lambda _request: silent.wait(30) and None)

    with pytest.raises(ArchiveUnavailable, match=r"ReadTimeout"):
        archives.obtain(declared(DATA), goal, [url])
    silent.set()


# --- from a folder --------------------------------------------------------------------------------


def test_the_right_bytes_are_copied_from_a_folder(goal: Path, tmp_path: Path) -> None:
    place = tmp_path / "mirror.gz"
    place.write_bytes(DATA)

    assert archives.obtain(declared(DATA), goal, [str(place)]) == str(place)
    assert goal.read_bytes() == DATA
    assert place.read_bytes() == DATA


@pytest.mark.parametrize("what", ["nothing", "a folder"])
def test_a_folder_without_the_file_is_told(goal: Path, tmp_path: Path, what: str) -> None:
    if what == "a folder":
        (tmp_path / "mirror.gz").mkdir()

    with pytest.raises(ArchiveUnavailable, match=rf"{tmp_path}/mirror\.gz: (no such|IsADirectory)"):
        archives.obtain(declared(DATA), goal, [str(tmp_path / "mirror.gz")])


# --- a file that is already there -----------------------------------------------------------------


def test_a_right_file_is_kept_and_nobody_is_asked(server: Server, goal: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(DATA)
    os.utime(goal, ns=(5_000_000_000, 5_000_000_000))
    inode = goal.stat().st_ino

    origin = archives.obtain(declared(DATA), goal, [server.url("/images.gz", answer(DATA))])

    assert origin == str(goal)
    assert server.asked == []
    assert (goal.stat().st_ino, goal.stat().st_mtime_ns) == (inode, 5_000_000_000)


def test_a_wrong_file_is_replaced_by_the_right_bytes(server: Server, goal: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(DATA[:-1] + b"?")  # the right size, and wrong all the same
    url = server.url("/images.gz", answer(DATA))

    assert archives.obtain(declared(DATA), goal, [url]) == url
    assert goal.read_bytes() == DATA


def test_a_wrong_file_is_not_replaced_by_other_wrong_bytes(server: Server, goal: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"wrong")

    with pytest.raises(ArchiveUnavailable, match=r"images\.gz: 5 bytes with MD5"):
        archives.obtain(declared(DATA), goal, [server.url("/images.gz", answer(PAGE))])

    assert goal.read_bytes() == b"wrong"


def test_a_folder_in_the_place_of_an_archive_is_named(goal: Path, tmp_path: Path) -> None:
    goal.mkdir(parents=True)
    place = tmp_path / "mirror.gz"
    place.write_bytes(DATA)

    with pytest.raises(StorageError, match=r"images\.gz can't be written.*folder is in the way"):
        archives.obtain(declared(DATA), goal, [str(place)])


def test_a_file_in_the_place_of_the_data_folder_is_named(goal: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"precious")
    place = tmp_path / "mirror.gz"
    place.write_bytes(DATA)

    with pytest.raises(StorageError, match=r"images\.gz can't be written.*--data"):
        archives.obtain(declared(DATA), goal, [str(place)])

    assert (tmp_path / "data").read_bytes() == b"precious"


# --- which bytes are right ------------------------------------------------------------------------


def test_a_file_is_held_against_its_declaration(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(DATA)

    archives.verify(tmp_path / "images.gz", declared(DATA))


def test_another_datasets_bytes_are_recognised(publisher: builders.Publisher) -> None:
    """MNIST and Fashion-MNIST have the same four file names: only the hash tells whose they are."""
    known = catalogue.load(publisher.catalogue)
    wanted = known.sources["tiny_digits"].archives["train-images.gz"]
    other = publisher.archive("tiny_letters", "letters.zip")

    with pytest.raises(WrongBytes) as caught:
        archives.verify(other, wanted, known.identify)

    text = str(caught.value)
    assert f"with MD5 {hashlib.md5(other.read_bytes()).hexdigest()}" in text
    assert f"declares {wanted.size_bytes:,} bytes with MD5 {wanted.md5}" in text
    assert "Those bytes are tiny_letters/letters.zip" in text


def test_another_datasets_bytes_are_recognised_while_they_are_fetched(
    publisher: builders.Publisher, goal: Path
) -> None:
    known = catalogue.load(publisher.catalogue)
    wanted = known.sources["tiny_digits"].archives["train-images.gz"]
    other = publisher.archive("tiny_digits", "test-images.gz")

    with pytest.raises(ArchiveUnavailable, match=r"bytes are tiny_digits/test-images\.gz"):
        archives.obtain(wanted, goal, [str(other)], known.identify)
    assert not goal.exists()


def test_the_md5_alone_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(DATA)
    forged = replace(declared(DATA), sha256="0" * 64)

    with pytest.raises(WrongBytes) as caught:
        archives.verify(tmp_path / "images.gz", forged)

    assert f"SHA-256 is {hashlib.sha256(DATA).hexdigest()}" in str(caught.value)
    assert f"declares {'0' * 64}" in str(caught.value)
    assert "forgery" in str(caught.value)


def test_the_declared_size_counts_too(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(DATA)

    with pytest.raises(WrongBytes, match="700,000 bytes, 700,001 declared"):
        archives.verify(tmp_path / "images.gz", replace(declared(DATA), size_bytes=700_001))


# --- where to look --------------------------------------------------------------------------------


@pytest.fixture
def known(publisher: builders.Publisher) -> Catalogue:
    toml = publisher.toml("tiny_letters")
    toml.write_text(
        toml.read_text().replace(
            "mirrors = []", 'mirrors = ["http://a.example/x/", "https://b.example/"]'
        )
    )
    return catalogue.load(publisher.catalogue)


@pytest.mark.parametrize(
    ("mirror", "offline", "places"),
    [
        (None, False, ["http://a.example/x/letters.zip", "https://b.example/letters.zip"]),
        (None, True, []),
        (
            "/a/folder",
            False,
            [
                "/a/folder/tiny_letters/letters.zip",
                "http://a.example/x/letters.zip",
                "https://b.example/letters.zip",
            ],
        ),
        ("/a/folder/", True, ["/a/folder/tiny_letters/letters.zip"]),
        ("https://c.example/m/", True, []),
        (
            "https://c.example/m",
            False,
            [
                "https://c.example/m/tiny_letters/letters.zip",
                "http://a.example/x/letters.zip",
                "https://b.example/letters.zip",
            ],
        ),
    ],
)
def test_the_users_mirror_comes_first_and_offline_means_no_url(
    known: Catalogue, mirror: str | None, offline: bool, places: list[str]
) -> None:
    source = known.sources["tiny_letters"]

    found = archives.places(source, source.archives["letters.zip"], mirror, offline)

    assert found == places


@pytest.mark.parametrize("mirror", [None, "https://c.example/m/", "/nowhere"])
def test_offline_no_socket_is_opened(
    known: Catalogue, goal: Path, monkeypatch: pytest.MonkeyPatch, mirror: str | None
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a socket is opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    source = known.sources["tiny_letters"]
    archive = source.archives["letters.zip"]

    candidates = archives.places(source, archive, mirror, offline=True)
    with pytest.raises(ArchiveUnavailable, match=r"offline, and no mirror folder|no such file"):
        archives.obtain(archive, goal, candidates, offline=True)


def test_what_decides_an_archives_bytes_is_its_declaration(known: Catalogue) -> None:
    source = known.sources["tiny_letters"]
    archive = source.archives["letters.zip"]

    found = archives.artefact(source, archive)

    assert found.path == files.archive("tiny_letters", "letters.zip")
    assert found.parameters == {
        "bytes": archive.size_bytes,
        "md5": archive.md5,
        "sha256": archive.sha256,
    }
    assert found.inputs == {}
