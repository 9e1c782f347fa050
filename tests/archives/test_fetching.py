"""Archives: the right bytes from the first place that has them, and no others under that name.

Places are folders here; what may go wrong with servers is in `test_resuming` and `test_web`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from pipelines import archives, catalogue
from pipelines.archives import growing, probes
from pipelines.declarations import Archive, Catalogue
from pipelines.errors import ArchiveUnavailable, StorageError, WrongBytes
from pipelines.progress import Watch
from pipelines.store import layout
from tests import builders, servers

DATA = builders.gz(np.random.default_rng(0).bytes(700_000))  # more than two pieces
PAGE = b"""<!DOCTYPE html>
<html><head><title>404 &ndash; Not
  found</title></head><body>Sorry.</body></html>"""


def declared(data: bytes, name: str = "images.gz") -> Archive:
    return Archive(
        size_bytes=len(data),
        md5=hashlib.md5(data).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
        name=name,
    )


class Told(list[int], Watch):
    """Everything that was told of the progress."""

    def __call__(self, done: int) -> None:
        self.append(done)


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "data" / "archives" / "digits" / "images.gz"


# --- from a folder --------------------------------------------------------------------------------


def test_the_right_bytes_are_copied_from_a_folder(goal: Path, tmp_path: Path) -> None:
    place = tmp_path / "mirror.gz"
    place.write_bytes(DATA)

    assert archives.obtain(declared(DATA), goal, [str(place)]) == str(place)
    assert goal.read_bytes() == DATA
    assert place.read_bytes() == DATA


def test_progress_adds_up_to_the_bytes_that_are_kept(goal: Path, tmp_path: Path) -> None:
    places = [tmp_path / "damaged.gz", tmp_path / "cut.gz", tmp_path / "right.gz"]
    for place, data in zip(places, [DATA[:-1] + b"?", DATA[:-1], DATA], strict=True):
        place.write_bytes(data)
    told = Told()

    archives.obtain(declared(DATA), goal, list(map(str, places)), watch=told)

    assert len(told) > 3 * 2
    assert sum(told) == len(DATA)


@pytest.mark.parametrize("what", ["nothing", "a folder"])
def test_a_folder_without_the_file_is_told(goal: Path, tmp_path: Path, what: str) -> None:
    if what == "a folder":
        (tmp_path / "mirror.gz").mkdir()

    with pytest.raises(ArchiveUnavailable, match=rf"{tmp_path}/mirror\.gz: (no such|IsADirectory)"):
        archives.obtain(declared(DATA), goal, [str(tmp_path / "mirror.gz")])


INSTEAD = {
    "a page": (PAGE, f"{len(PAGE):,} bytes with MD5 .*an HTML page titled '404 – Not found'"),
    "a page without a title": (b"\n <html><p>sorry", r": an HTML page\."),
    "an XML error": (b"<?xml version='1.0'?>\n<Error>Denied", "an error document, .*<Error>Denied"),
    "a JSON error": (b'{"error": "gone"}', "an error document, .*gone"),
    "nothing": (b"", "0 bytes with MD5 d41d8cd98f00b204e9800998ecf8427e.*nothing arrived"),
    "another gzip": (gzip.compress(b"x" * 10**6, 0), "damaged on the way, or another file"),
    "a zip": (b"PK\3\4", "They look like zip"),
    "bzip2": (b"BZh91AY", "They look like bzip2"),
    "an array": (b"\x93NUMPY\1\0", "They look like NPY"),
    "unpacked IDX": (b"\0\0\x08\3\0\0", "They look like unpacked IDX"),
    "who knows what": (b"\xca\xfe\xba\xbe", "no gzip file begins with cafebabe"),
    "a cut file": (DATA[:-1], f"{len(DATA) - 1:,} bytes with MD5 .*: cut short"),
    "a damaged file": (DATA[:-1] + b"?", "damaged on the way"),
    "a longer file": (DATA + b"!", f"{len(DATA) + 1:,} bytes with MD5 "),
}


@pytest.mark.parametrize(("data", "words"), INSTEAD.values(), ids=INSTEAD)
def test_what_is_there_instead_is_told_and_leaves_no_file(
    goal: Path, tmp_path: Path, data: bytes, words: str
) -> None:
    place = tmp_path / "mirror.gz"
    place.write_bytes(data)

    with pytest.raises(ArchiveUnavailable, match=words) as caught:
        archives.obtain(declared(DATA), goal, [str(place)])

    text = str(caught.value)
    assert f"{place}: " in text
    assert f"images.gz ({len(DATA):,} bytes, MD5 {hashlib.md5(DATA).hexdigest()})" in text
    assert f"Put the file at {goal} yourself" in text
    assert "IMAGESETS_MIRROR" in text
    assert builders.files_under(tmp_path) == ["mirror.gz"]


@pytest.mark.parametrize("name", ["a.bz2", "a.xz", "a.npz", "a.npy", "a.mat", "semeion.data"])
def test_a_page_is_recognised_in_the_place_of_every_kind_of_archive(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(PAGE)

    with pytest.raises(ArchiveUnavailable, match="an HTML page titled '404 – Not found'"):
        archives.obtain(declared(DATA, name), tmp_path / "data" / name, [str(tmp_path / name)])


@pytest.mark.parametrize("name", ["a.bz2", "a.xz", "a.npz"])
def test_a_server_that_announces_the_right_length_of_another_kind_of_file_is_left(
    tmp_path: Path, name: str
) -> None:
    with (
        servers.serving(DATA) as server,
        pytest.raises(
            ArchiveUnavailable, match=r"not the file that is declared\. They look like gzip"
        ),
    ):
        archives.obtain(declared(DATA, name), tmp_path / name, [f"{server.url}{name}"])


def test_every_attempt_is_listed(goal: Path, tmp_path: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"old and wrong")
    empty, page = tmp_path / "empty" / "images.gz", tmp_path / "page.gz"
    page.write_bytes(PAGE)

    with pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(declared(DATA), goal, [str(empty), str(page)])

    _, *attempts, _ = str(caught.value).splitlines()
    for attempt, place in zip(attempts, [goal, empty, page], strict=True):
        assert attempt.startswith(f"  {place}: ")
    assert "no such file" in attempts[1]
    assert goal.read_bytes() == b"old and wrong"


# --- a file that is already there -----------------------------------------------------------------


def test_a_right_file_is_kept_and_nobody_is_asked(goal: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(DATA)
    os.utime(goal, ns=(5_000_000_000, 5_000_000_000))
    inode = goal.stat().st_ino

    origin = archives.obtain(declared(DATA), goal, ["/nobody/has/it"])

    assert origin == archives.ALREADY_THERE
    assert (goal.stat().st_ino, goal.stat().st_mtime_ns) == (inode, 5_000_000_000)
    assert builders.files_under(goal.parent) == ["images.gz"]


def test_a_wrong_file_is_replaced_by_the_right_bytes(goal: Path, tmp_path: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(DATA[:-1] + b"?")  # the right size, and wrong all the same
    place = tmp_path / "mirror.gz"
    place.write_bytes(DATA)

    assert archives.obtain(declared(DATA), goal, [str(place)]) == str(place)
    assert goal.read_bytes() == DATA


def test_a_wrong_file_is_not_replaced_by_other_wrong_bytes(goal: Path, tmp_path: Path) -> None:
    goal.parent.mkdir(parents=True)
    goal.write_bytes(b"wrong")
    place = tmp_path / "mirror.gz"
    place.write_bytes(PAGE)

    with pytest.raises(ArchiveUnavailable, match=r"images\.gz: 5 bytes with MD5"):
        archives.obtain(declared(DATA), goal, [str(place)])

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


# --- what may be in the place of a staged file ----------------------------------------------------


@pytest.mark.parametrize(
    "what",
    ["link", "hard link", "dangling link", "link to itself", "link to a folder", "pipe"],
)
@pytest.mark.parametrize("which", ["staged", "note"])
@pytest.mark.parametrize("kind", ["a folder", "a server"])
def test_what_is_in_the_place_of_a_staged_file_is_not_written_through(
    goal: Path, tmp_path: Path, what: str, which: str, kind: str
) -> None:
    goal.parent.mkdir(parents=True)
    place = layout.staged(goal) if which == "staged" else growing.note(layout.staged(goal))
    precious = tmp_path / "precious"
    precious.write_bytes(DATA[:100])  # of the archive, even: it would be gone on with
    if what == "hard link":
        place.hardlink_to(precious)
    elif what == "pipe":
        os.mkfifo(place)
    else:
        targets = {"dangling link": tmp_path / "nothing", "link to itself": place}
        targets |= {"link": precious, "link to a folder": tmp_path}
        place.symlink_to(targets[what])
    (tmp_path / "mirror.gz").write_bytes(DATA)

    with servers.serving(DATA, servers.cut(50_000), servers.good()) as server:
        mirror = str(tmp_path / "mirror.gz") if kind == "a folder" else f"{server.url}images.gz"
        archives.obtain(declared(DATA), goal, [mirror])

    assert goal.read_bytes() == DATA
    assert not goal.is_symlink()
    assert precious.read_bytes() == DATA[:100]
    assert not (tmp_path / "nothing").exists()
    assert (goal.stat().st_mode & 0o777) == (tmp_path / "mirror.gz").stat().st_mode & 0o777
    if which == "staged" or kind == "a server":
        assert builders.files_under(goal.parent) == ["images.gz"]


def test_a_folder_in_the_place_of_a_staged_file_is_named(goal: Path, tmp_path: Path) -> None:
    layout.staged(goal).mkdir(parents=True)
    (tmp_path / "mirror.gz").write_bytes(DATA)

    with pytest.raises(StorageError, match=r"images\.gz can't be written.*folder is in the way"):
        archives.obtain(declared(DATA), goal, [str(tmp_path / "mirror.gz")])


# --- which bytes are right ------------------------------------------------------------------------


def test_a_file_is_held_against_its_declaration(tmp_path: Path) -> None:
    path, archive = tmp_path / "images.gz", declared(DATA)
    path.write_bytes(DATA)
    archives.verify(path, archive)

    others = {"md5": "0" * 32, "sha256": "0" * 64, "size_bytes": len(DATA) - 1}
    for key, value in others.items():
        with pytest.raises(WrongBytes, match=str(value) if key != "size_bytes" else f"{value:,}"):
            archives.verify(path, replace(archive, **{key: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, len(DATA) // 2, len(DATA) - 1])
def test_a_file_with_one_other_byte_is_another_file(tmp_path: Path, at: int) -> None:
    data = bytearray(DATA)
    data[at] ^= 1
    (tmp_path / "images.gz").write_bytes(data)

    with pytest.raises(WrongBytes, match=hashlib.md5(data).hexdigest()):
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

    with pytest.raises(WrongBytes, match=f"{len(DATA):,} bytes, {len(DATA) + 1:,} declared"):
        archives.verify(tmp_path / "images.gz", replace(declared(DATA), size_bytes=len(DATA) + 1))


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


NAMES = [
    "The Eiffel Tower.npy",
    "images #1.gz",
    "a?b%20c.gz",
    "a+b&c=d;e.gz",
    "bilder ä.gz",
    "(1) [2] {3}~.gz",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["declared", "http", "folder", "object store"])
def test_an_archive_is_found_by_its_name_whatever_characters_it_has(
    known: Catalogue, goal: Path, tmp_path: Path, kind: str, name: str
) -> None:
    root = tmp_path / "mirror"
    (root / "tiny_letters").mkdir(parents=True)
    (root / "tiny_letters" / name).write_bytes(DATA)
    archive = declared(DATA, name)

    def unquoted(handler: servers.Handler, _data: bytes) -> None:
        handler.path = unquote(urlsplit(handler.path).path)
        servers.folder(root)(handler, b"")

    with servers.serving(b"", unquoted) as server:
        mirrors = {"http": server.url, "folder": str(root), "object store": root.as_uri()}
        source = replace(
            known.sources["tiny_letters"],
            mirrors=(f"{server.url}tiny_letters/",) if kind == "declared" else (),
        )
        [place] = archives.places(source, archive, mirrors.get(kind), offline=False)
        assert probes.look([place])[place].size_bytes == len(DATA)
        assert archives.obtain(archive, goal, [place]) == place

    assert goal.read_bytes() == DATA
    assert place.endswith(name) == (kind == "folder")


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

    assert found.path == layout.archive("tiny_letters", "letters.zip")
    assert found.parameters == {
        "bytes": archive.size_bytes,
        "md5": archive.md5,
        "sha256": archive.sha256,
    }
    assert found.inputs == ()
