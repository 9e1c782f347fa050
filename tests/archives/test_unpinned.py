"""Archives of which not everything is declared: one hash decides, and the rest is measured."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import archives, plan
from pipelines.archives import packages, pinning, probes, recognition
from pipelines.archives.growing import Growing
from pipelines.archives.probes import Probe, Standing
from pipelines.declarations import MOST_ARCHIVE_BYTES, Archive
from pipelines.errors import ArchiveUnavailable, CatalogueError, StorageError, WrongBytes, WrongHash
from pipelines.store import Input
from tests import builders
from tests.archives.test_resuming import (
    ARCHIVE,
    DATA,
    HASTE,
    RIGHT,
    WRONG,
    Told,
    leftovers,
)
from tests.servers import Behaviour, announcing, chunked, cut, endless, good, reset, serving

DECLARED = {
    "MD5": {"size_bytes": None, "sha256": None},
    "SHA-256": {"size_bytes": None, "md5": None},
    "MD5 and bytes": {"sha256": None},
    "SHA-256 and bytes": {"md5": None},
    "both hashes": {"size_bytes": None},
}
MEASURED = recognition.Digests(
    len(DATA), hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
)

declared_so = pytest.mark.parametrize("lacks", DECLARED.values(), ids=DECLARED)
of_unknown_size = pytest.mark.parametrize("lacks", [DECLARED["MD5"], DECLARED["SHA-256"]])


def lacking(facts: dict[str, Any], **more: Any) -> Archive:
    return replace(ARCHIVE, **(facts | more))


# --- the catalogue --------------------------------------------------------------------------------


def _edited(publisher: builders.Publisher, old: str, new: str) -> Path:
    path = publisher.toml("tiny_digits")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return publisher.catalogue


def test_an_archive_without_any_hash_is_refused(publisher: builders.Publisher) -> None:
    data = publisher.archive("tiny_digits", "train-images.gz").read_bytes()
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    catalogue = _edited(publisher, f', md5 = "{md5}", sha256 = "{sha256}"', "")

    with pytest.raises(CatalogueError, match=r"archives\.train-images\.gz: give md5 or sha256"):
        plan.load(catalogue)


def test_how_large_an_archive_can_be_follows_from_the_images_that_are_read_from_it(
    publisher: builders.Publisher,
) -> None:
    size = publisher.archive("tiny_digits", "train-images.gz").stat().st_size
    source = plan.load(_edited(publisher, f"bytes = {size}, ", "")).sources["tiny_digits"]
    found = source.archives["train-images.gz"]

    assert found.size_bytes is None
    assert found.image_bytes == 30 * 4 * 3
    assert 64 << 20 < found.most_bytes < 65 << 20
    assert replace(found, image_bytes=0).most_bytes == MOST_ARCHIVE_BYTES
    assert replace(found, image_bytes=1 << 50).most_bytes == MOST_ARCHIVE_BYTES
    assert source.archives["test-images.gz"].most_bytes < size


# --- recognition ----------------------------------------------------------------------------------


@declared_so
def test_what_is_declared_decides_and_everything_is_measured(
    lacks: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file.gz").write_bytes(DATA)

    assert recognition.verify(tmp_path / "file.gz", lacking(lacks)) == MEASURED


@declared_so
@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"?", DATA + b"!", b""])
def test_other_bytes_are_refused_by_whatever_is_declared(
    lacks: dict[str, Any], data: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file.gz").write_bytes(data)

    with pytest.raises(WrongBytes, match=r"but the catalogue declares .*(MD5|SHA-256) "):
        recognition.verify(tmp_path / "file.gz", lacking(lacks))


def test_a_right_hash_beside_a_wrong_fact_is_a_slip(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(DATA)
    for wrong in (
        lacking(DECLARED["MD5"], size_bytes=5),
        lacking({"sha256": "0" * 64, "size_bytes": None}),
        lacking({"md5": None, "size_bytes": 5}),
    ):
        with pytest.raises(WrongHash, match=r"the declared one, but .*: a forgery, or a slip"):
            recognition.verify(tmp_path / "file.gz", wrong)


def test_nothing_is_the_archive_where_nothing_is_declared() -> None:
    assert not recognition.is_declared(MEASURED, Archive(name="file.gz"))


# --- fetching -------------------------------------------------------------------------------------


@declared_so
def test_an_archive_comes_from_a_folder(lacks: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mirror.gz").write_bytes(DATA)
    told, goal = Expecting(), tmp_path / "data" / "file.gz"

    archives.obtain(lacking(lacks), goal, [str(tmp_path / "mirror.gz")], watch=told)

    assert goal.read_bytes() == DATA
    assert (told.done, told.expected) == (len(DATA), [len(DATA)])


class Expecting(Told):
    """Remembers how much it was told to expect."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = list[int]()

    def expect(self, total: int) -> None:
        self.expected.append(total)


@of_unknown_size
@pytest.mark.parametrize(
    "behaviours",
    [pytest.param(*one[:1], id=name) for name, one in RIGHT.items() if "once more" not in name],
)
def test_the_right_bytes_of_unknown_size_arrive_in_spite_of(
    lacks: dict[str, Any], behaviours: list[Behaviour], tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, *behaviours) as server:
        received = archives.receive(
            lacking(lacks), goal, goal, [f"{server.url}file.gz"], patience=HASTE
        )
    assert goal.read_bytes() == DATA
    assert received.digests == MEASURED
    assert leftovers(tmp_path) == ["file.gz"]


@of_unknown_size
@pytest.mark.parametrize(
    "behaviours",
    [pytest.param(*one[:1], id=name) for name, one in WRONG.items() if "never ends" not in name],
)
def test_the_next_mirror_gives_what_is_of_unknown_size_after(
    lacks: dict[str, Any], behaviours: list[Behaviour], tmp_path: Path
) -> None:
    told = Expecting()
    with serving(DATA, *behaviours) as bad, serving(DATA) as fine:
        urls = [f"{server.url}file.gz" for server in (bad, fine)]
        goal = tmp_path / "file.gz"
        assert archives.obtain(lacking(lacks), goal, urls, watch=told, patience=HASTE) == urls[1]
    assert goal.read_bytes() == DATA
    assert told.done == len(DATA)
    assert told.expected[-1] == len(DATA)


@of_unknown_size
def test_a_body_that_never_ends_is_left_where_no_archive_of_these_images_could_end(
    lacks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.declarations._READMES_BYTES", 100_000)
    small = lacking(lacks, image_bytes=10_000)
    assert len(DATA) < small.most_bytes < 300_000
    with serving(DATA, endless) as server, pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(small, tmp_path / "file.gz", [f"{server.url}file.gz"], patience=HASTE)
    assert f"more than {small.most_bytes:,} bytes arrive" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_more_than_an_archive_of_these_images_can_have_is_not_even_begun(tmp_path: Path) -> None:
    small = lacking(DECLARED["MD5"], image_bytes=1)
    huge = announcing(str(small.most_bytes + 1))
    with serving(DATA, huge) as server, pytest.raises(ArchiveUnavailable) as caught:
        archives.obtain(small, tmp_path / "file.gz", [f"{server.url}file.gz"], patience=HASTE)
    assert "bytes are announced, and it can have 67,108,880 at most" in str(caught.value)


def test_a_file_that_can_not_be_so_long_is_not_copied_from_a_folder(tmp_path: Path) -> None:
    small = lacking(DECLARED["MD5"], image_bytes=1)
    with (tmp_path / "mirror.gz").open("wb") as file:
        file.truncate(1 << 40)  # a hole

    with pytest.raises(ArchiveUnavailable, match="more than 67,108,880 bytes"):
        archives.obtain(small, tmp_path / "file.gz", [str(tmp_path / "mirror.gz")])


@of_unknown_size
def test_half_of_a_disk_is_left_by_what_announces_no_length(
    lacks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(DATA)))
    goal = tmp_path / "file.gz"
    with serving(DATA, chunked) as server, pytest.raises(ArchiveUnavailable, match="bytes arrive"):
        archives.obtain(lacking(lacks), goal, [f"{server.url}file.gz"], patience=HASTE)
    with serving(DATA) as server:  # it says how much it is, and there is room for that
        archives.obtain(lacking(lacks), goal, [f"{server.url}file.gz"], patience=HASTE)
    assert goal.read_bytes() == DATA


def test_what_is_announced_must_find_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(DATA) - 1))
    with serving(DATA) as server, pytest.raises(StorageError, match="still to come, but only"):
        archives.obtain(
            lacking(DECLARED["MD5"]), tmp_path / "f.gz", [f"{server.url}f.gz"], patience=HASTE
        )


@of_unknown_size
@pytest.mark.parametrize("there", [1, 20_000, len(DATA)])
def test_what_a_killed_process_left_is_gone_on_with(
    lacks: dict[str, Any], there: int, tmp_path: Path
) -> None:
    partial = tmp_path / ".file.gz.partial"
    partial.write_bytes(DATA[:there])
    with serving(DATA) as server:
        archives.obtain(
            lacking(lacks), tmp_path / "file.gz", [f"{server.url}file.gz"], patience=HASTE
        )
    assert (tmp_path / "file.gz").read_bytes() == DATA
    asked = [request.get("Range") for request in server.requests]
    assert asked == ([] if there == len(DATA) else [f"bytes={there}-"])


@of_unknown_size
@pytest.mark.parametrize("left", [b"what is left of another file", DATA + b"too much"])
def test_what_is_no_part_of_the_file_is_begun_anew(
    lacks: dict[str, Any], left: bytes, tmp_path: Path
) -> None:
    (tmp_path / ".file.gz.partial").write_bytes(left)
    with serving(DATA, reset(0), cut(9_000), good()) as server:
        archives.obtain(
            lacking(lacks), tmp_path / "file.gz", [f"{server.url}file.gz"], patience=HASTE
        )
    assert (tmp_path / "file.gz").read_bytes() == DATA


def test_a_growing_file_takes_what_it_is_to_have(tmp_path: Path) -> None:
    told = Expecting()
    with Growing(tmp_path / "file", told) as growing:
        growing.expect(12)
    assert told.expected == [12]


# --- what else asks -------------------------------------------------------------------------------


def test_a_package_may_give_what_an_archive_of_these_images_can_be_made_of() -> None:
    small = lacking(DECLARED["MD5"], image_bytes=1)
    packages._refuse_what_can_not_be(60 << 20, small, is_packed=True)
    with pytest.raises(WrongBytes, match="can be made of"):
        packages._refuse_what_can_not_be(65 << 20, small, is_packed=True)


def test_a_place_is_believed_whatever_length_it_says_where_none_is_declared() -> None:
    probe = Probe("https://example.org/a.gz", "alive", 1234, '"a"')

    first = probes.standing(lacking(DECLARED["MD5"]), None, probe)

    assert first == Standing(probe, probe.version)
    other = replace(probe, size_bytes=1235)
    assert probes.standing(lacking(DECLARED["MD5"]), first, other) is None, "to be compared"


@pytest.mark.parametrize(
    ("lacks", "lines"),
    [
        (DECLARED["MD5"], [f"bytes = {len(DATA):_}", f'sha256 = "{MEASURED.sha256}"']),
        (DECLARED["SHA-256 and bytes"], [f'md5 = "{MEASURED.md5}"']),
        ({}, []),
    ],
)
def test_what_can_be_declared_is_what_was_measured(lacks: dict[str, Any], lines: list[str]) -> None:
    assert pinning.missing(lacking(lacks), MEASURED) == lines


def test_what_is_declared_of_an_input_stays() -> None:
    declared = Input("archives/a/b", None, 5, "1" * 32)
    assert pinning.measured(declared, None) == declared
