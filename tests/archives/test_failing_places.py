"""What failures of places mean, and how they are told; and comparing what a place has."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import archives
from pipelines.errors import ArchiveUnavailable, DownloadFailed
from tests.archives.test_resuming import ARCHIVE, DATA, HASTE, obtain
from tests.servers import (
    Behaviour,
    changed,
    flipped,
    good,
    html,
    longer,
    reset,
    serving,
    status,
)

# --- what a failure means -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "may_pass"),
    [
        (status(503), True),
        (status(404), True),
        (reset(0), True),
        (flipped, False),
        (html("Moved"), False),
        (html("Moved", length_is_right=True), False),
        (longer(announce=True), False),
        (longer(announce=False), False),
    ],
)
def test_silence_may_pass_by_itself_and_wrong_bytes_do_not(
    tmp_path: Path, behaviour: Behaviour, may_pass: bool
) -> None:
    with serving(DATA, behaviour) as server, pytest.raises(ArchiveUnavailable) as error:
        obtain(tmp_path / "file.gz", server.url)

    assert error.value.may_pass is may_pass


def unreachable() -> str:
    with serving(DATA) as gone:
        return gone.url


def test_wrong_bytes_from_one_place_may_be_its_own_damage_while_another_is_silent(
    tmp_path: Path,
) -> None:
    with serving(DATA, flipped) as one, pytest.raises(ArchiveUnavailable) as error:
        obtain(tmp_path / "file.gz", one.url, unreachable())
    assert error.value.may_pass


def test_whole_files_from_two_places_that_are_not_the_declared_one_do_not_pass(
    tmp_path: Path,
) -> None:
    with serving(DATA, flipped) as one, serving(DATA, changed('"v0"')) as two:
        urls = unreachable(), one.url, two.url
        with pytest.raises(ArchiveUnavailable) as error:
            obtain(tmp_path / "file.gz", *urls)
    assert not error.value.may_pass


def test_a_cut_file_and_a_page_are_not_two_witnesses(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(DATA[:-1])
    with serving(DATA, html("Moved")) as page:
        places = [str(tmp_path / "cut.gz"), f"{page.url}file.gz", f"{unreachable()}file.gz"]
        with pytest.raises(ArchiveUnavailable) as error:
            archives.obtain(ARCHIVE, tmp_path / "file.gz", places, patience=HASTE)
    assert error.value.may_pass


def test_the_right_md5_with_another_sha256_does_not_pass_even_from_one_place(
    tmp_path: Path,
) -> None:
    forged = replace(ARCHIVE, sha256="0" * 64)
    with serving(DATA) as server:
        places = [f"{url}file.gz" for url in (server.url, unreachable())]
        with pytest.raises(ArchiveUnavailable, match="forgery") as error:
            archives.obtain(forged, tmp_path / "file.gz", places, patience=HASTE)
    assert not error.value.may_pass


# --- what is logged -------------------------------------------------------------------------------


def test_a_host_out_of_reach_is_told_once_and_listed_for_each_of_its_archives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = [unreachable(), unreachable()]
    errors = []
    for name in ("a.gz", "b.gz", "c.gz"):
        with pytest.raises(ArchiveUnavailable) as caught:
            obtain(tmp_path / name, *hosts)
        errors.append(str(caught.value))

    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == len(hosts)
    for host, message in zip(hosts, told, strict=True):
        assert message.startswith(f"{host}file.gz: ")
        assert all(f"  {host}file.gz: " in error for error in errors)


def test_archives_that_are_fetched_side_by_side_tell_of_a_host_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = unreachable()
    with serving(DATA) as fine, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: obtain(tmp_path / name, dead, fine.url), "abcd"))

    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1


def test_a_host_that_came_back_and_is_lost_again_is_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(DATA, *[status(500)] * 3, good(), status(500)) as server:
        for name, is_had in (("a", False), ("b", True), ("c", False)):
            with contextlib.nullcontext() if is_had else pytest.raises(ArchiveUnavailable):
                obtain(tmp_path / name, server.url)

    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert len(server.requests) == 3 + 1 + 3


def test_other_failures_of_a_host_are_told_for_each_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(DATA, status(404)) as server:
        for name in "ab":
            with pytest.raises(ArchiveUnavailable):
                obtain(tmp_path / name, server.url)

    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2


# --- a look into what a place has -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "wrong"),
    [
        (good(), ""),
        (flipped, "damaged on the way, or another file"),
        (html("Moved", length_is_right=True), "an HTML page titled 'Moved'"),
        (longer(announce=True), "60,"),
    ],
)
def test_a_place_is_compared_and_nothing_of_it_is_kept(
    tmp_path: Path, behaviour: Behaviour, wrong: str
) -> None:
    killed = tmp_path / "archives" / ".compare"
    killed.mkdir(parents=True)
    (killed / "file.gz").write_bytes(DATA[:99] + b"what a killed process left")
    with serving(DATA, behaviour) as server:
        place = f"{server.url}file.gz"
        found = archives.compare(ARCHIVE, place, tmp_path / "archives", patience=HASTE)

    assert bool(found) == bool(wrong)
    assert wrong in found
    assert "Range" not in server.requests[0]
    assert list((tmp_path / "archives").iterdir()) == []


def test_a_place_that_does_not_answer_can_not_be_compared(tmp_path: Path) -> None:
    with serving(DATA, status(404)) as server, pytest.raises(DownloadFailed, match="HTTP 404"):
        archives.compare(ARCHIVE, f"{server.url}file.gz", tmp_path, patience=HASTE)

    assert list(tmp_path.iterdir()) == []
