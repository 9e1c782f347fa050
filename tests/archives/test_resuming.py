"""Downloads from servers that misbehave: the right bytes arrive, or no file and a reason."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import archives, progress
from pipelines.archives.patience import Patience
from pipelines.declarations import Archive
from pipelines.errors import ArchiveUnavailable, StorageError
from pipelines.store import writing
from tests import builders, servers
from tests.servers import (
    Behaviour,
    announcing,
    changed,
    chunked,
    compressed_again,
    cut,
    endless,
    flipped,
    good,
    html,
    labelled_gzip,
    longer,
    lying_range,
    no_ranges,
    redirect,
    reset,
    serving,
    slow,
    stalled,
    status,
    wrong_range,
)
from tests.waiting import within

DATA = builders.gz(np.random.default_rng(0).bytes(60_000))
ARCHIVE = Archive(
    name="file.gz",
    size_bytes=len(DATA),
    md5=hashlib.md5(DATA).hexdigest(),
    sha256=hashlib.sha256(DATA).hexdigest(),
)
HASTE = Patience(
    connect_s=within(5),
    read_s=within(0.4),
    tries=3,
    backoff_s=0.001,
    longest_wait_s=2,
    least_rate=0,
)
# Leaves those who are slow; an honest server gives all of the file in that window, and at once.
PACE = Patience(
    read_s=within(1), tries=2, backoff_s=0.001, least_rate=60_000, rate_window_s=within(0.15)
)


def obtain(goal: Path, *urls: str, patience: Patience = HASTE) -> str:
    return archives.obtain(ARCHIVE, goal, [f"{u}file.gz" for u in urls], patience=patience)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Told(progress.Watch):
    """Sums up what a download tells of its progress."""

    def __init__(self) -> None:
        self.done, self.notes = 0, list[str]()

    def __call__(self, done: int) -> None:
        self.done += done

    def note(self, text: str) -> None:
        self.notes.append(text)


RIGHT: dict[str, tuple[list[Behaviour], int]] = {
    "an honest server": ([good()], 1),
    "a body that is cut, then goes on": ([cut(20_000), good()], 2),
    "a body that is cut again and again": ([cut(9_000)], 7),
    "a reset connection": ([reset(15_000), good()], 2),
    "ranges that are ignored": ([cut(20_000), no_ranges], 2),
    "a range that begins elsewhere": ([cut(20_000), wrong_range, good()], 3),
    "a range that is not the one promised": ([cut(20_000), lying_range, good()], 3),
    "a range beyond the end": ([cut(20_000), status(416), good()], 3),
    "a file that changed after it was cut": ([cut(20_000, '"v0"'), good('"v1"')], 2),
    "408, 429, 500, 503": ([status(408), status(429), good()], 3),
    "500 and 503": ([status(500), status(503), good()], 3),
    "429 with Retry-After": ([status(429, Retry_After="0"), good()], 2),
    "429 with a Retry-After that is past": (
        [status(429, Retry_After="Fri, 01 Sep 2017 00:00:00 GMT"), good()],
        2,
    ),
    "429 with a Retry-After that is no number": ([status(429, Retry_After="\xb2"), good()], 2),
    "a stall": ([stalled(10_000), good()], 2),
    "chunks without a length": ([chunked], 1),
    "a length of many digits": ([announcing("9" * 5000)], 1),
    "a length in superscript": ([announcing("\xb2")], 1),
    "a .gz labelled as gzip-encoded": ([labelled_gzip], 1),
    "a .gz compressed once more on the way": ([compressed_again], 1),
}

WRONG: dict[str, tuple[list[Behaviour], int, str]] = {
    "403": ([status(403)], 1, "HTTP 403"),
    "404": ([status(404)], 1, "HTTP 404"),
    "500 for ever": ([status(500)], 3, "HTTP 500 Internal Server Error (3 times)"),
    "a long Retry-After": ([status(503, Retry_After="3600")], 1, "asks to wait 3600 s"),
    "206, though no range was asked for": ([status(206)], 1, "HTTP 206 Partial Content"),
    "a redirect to what is no address": ([redirect("http://[")], 1, "redirected to what is no"),
    "a redirect that is no text": ([redirect("/\xff")], 1, "redirected to what is no address"),
    "a web page": ([html("Page not found")], 1, "an HTML page titled 'Page not found'"),
    "a web page as long as the file": (
        [html("We moved", length_is_right=True)],
        1,
        "an HTML page titled 'We moved'",
    ),
    "a web page without a length": (
        [html("Sorry", chunked=True)],
        1,
        "an HTML page titled 'Sorry'",
    ),
    "one bit flipped": ([flipped], 1, "but the catalogue declares"),
    "another file of the same length": ([changed('"v0"')], 1, "damaged on the way, or another"),
    "more than declared, announced": ([longer(True)], 1, "bytes are announced"),
    "more than declared, unannounced": ([longer(False)], 1, "more than the declared"),
    "a body that never ends": ([endless], 1, "more than the declared"),
    "nothing but stalls": ([stalled(0)], 3, "no answer in time (3 times)"),
    "a connection that is always reset": ([reset(0)], 3, "(3 times)"),
}


@pytest.mark.parametrize(("behaviours", "requests"), RIGHT.values(), ids=RIGHT.keys())
def test_the_right_bytes_arrive_in_spite_of(
    behaviours: list[Behaviour], requests: int, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, *behaviours) as server:
        assert obtain(goal, server.url) == f"{server.url}file.gz"
    assert goal.read_bytes() == DATA
    assert leftovers(tmp_path) == ["file.gz"]
    assert len(server.requests) == requests


@pytest.mark.parametrize(("behaviours", "requests", "reason"), WRONG.values(), ids=WRONG.keys())
def test_no_file_appears_and_the_reason_is_told_for(
    behaviours: list[Behaviour], requests: int, reason: str, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, *behaviours) as server, pytest.raises(ArchiveUnavailable) as caught:
        obtain(goal, server.url)
    assert reason in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == requests
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("behaviours", "requests", "reason"), WRONG.values(), ids=WRONG.keys())
def test_the_next_mirror_is_tried_after(
    behaviours: list[Behaviour], requests: int, reason: str, tmp_path: Path
) -> None:
    told = Told()
    with serving(DATA, *behaviours) as bad, serving(DATA) as fine, serving(DATA) as third:
        urls = [f"{server.url}file.gz" for server in (bad, fine, third)]
        goal = tmp_path / "file.gz"
        origin = archives.obtain(ARCHIVE, goal, urls, watch=told, patience=HASTE)
    assert origin == urls[1]
    assert goal.read_bytes() == DATA
    assert leftovers(tmp_path) == ["file.gz"]
    assert not third.requests
    assert told.done == len(DATA)
    assert told.notes == [f"127.0.0.1:{server.server_port}" for server in (bad, fine)]


@pytest.mark.parametrize("length", [400, len(DATA) - 1, len(DATA), len(DATA) + 1, 3 * len(DATA)])
@pytest.mark.parametrize("kind", ["a server", "a folder"])
def test_another_file_of_the_catalogue_is_recognised_whatever_its_length(
    length: int, kind: str, tmp_path: Path
) -> None:
    other = (DATA[:100] + b"another" + DATA * 3)[:length]
    known = {hashlib.md5(other).hexdigest(): "mnist/file.gz"}
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "file.gz").write_bytes(other)
    goal = tmp_path / "goal" / "file.gz"
    with serving(other) as server:
        place = f"{server.url}file.gz" if kind == "a server" else f"{tmp_path}/mirror/file.gz"
        with pytest.raises(ArchiveUnavailable) as caught:
            archives.obtain(ARCHIVE, goal, [place], known.get, patience=HASTE)
    assert "Those bytes are mnist/file.gz" in str(caught.value)
    assert leftovers(goal.parent) == []


def test_all_attempts_are_listed_when_every_mirror_fails(tmp_path: Path) -> None:
    with (
        serving(DATA, status(403)) as first,
        serving(DATA, html("Gone")) as second,
        pytest.raises(ArchiveUnavailable) as caught,
    ):
        obtain(tmp_path / "file.gz", first.url, second.url)
    lines = str(caught.value).splitlines()
    assert "HTTP 403" in lines[1]
    assert "titled 'Gone'" in lines[2]
    assert "--mirror" in lines[3]


def test_a_later_process_goes_on_where_one_stopped(tmp_path: Path) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, cut(30_000), status(403)) as server, pytest.raises(ArchiveUnavailable):
        obtain(goal, server.url)
    with serving(DATA) as server:
        obtain(goal, server.url)
    assert server.requests[0]["Range"] == "bytes=30000-"
    assert goal.read_bytes() == DATA


def test_a_validator_is_sent_back_to_the_server_that_gave_it(tmp_path: Path) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, cut(30_000, '"v7"'), good('"v7"')) as server:
        obtain(goal, server.url)
    assert server.requests[1]["If-Range"] == '"v7"'
    assert server.requests[1]["Range"] == "bytes=30000-"


def test_another_mirror_goes_on_with_the_bytes_that_the_first_one_gave(tmp_path: Path) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, cut(30_000), status(404)) as first, serving(DATA) as second:
        obtain(goal, first.url, second.url)
    assert second.requests[0]["Range"] == "bytes=30000-"
    assert goal.read_bytes() == DATA


def test_bytes_of_another_file_that_were_left_cost_a_restart_and_no_more(tmp_path: Path) -> None:
    (tmp_path / ".file.gz.partial").write_bytes(b"\x1f\x8b" + b"?" * 30_000)
    with serving(DATA) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert len(server.requests) == 2
    assert (tmp_path / "file.gz").read_bytes() == DATA


def test_a_slow_mirror_is_left_for_the_next_which_goes_on_with_its_bytes(tmp_path: Path) -> None:
    with serving(DATA, slow(20_000)) as first, serving(DATA) as second:
        origin = obtain(tmp_path / "file.gz", first.url, second.url, patience=PACE)
    assert origin.startswith(second.url)
    assert int(second.requests[0]["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert (tmp_path / "file.gz").read_bytes() == DATA


def test_a_server_that_cuts_every_answer_short_is_no_faster_for_it(tmp_path: Path) -> None:
    with serving(DATA, cut(10)) as first, serving(DATA) as second:
        origin = obtain(tmp_path / "file.gz", first.url, second.url, patience=PACE)
    assert origin.startswith(second.url)
    assert (tmp_path / "file.gz").read_bytes() == DATA


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave in one way after the other, for ever."""
    turns = itertools.cycle(behaviours)

    def answer(handler: servers.Handler, data: bytes) -> None:
        next(turns)(handler, data)

    return answer


def whole_but_cut(after: int) -> Behaviour:
    """Begin the whole file, whatever range is asked for, and hang up."""

    def answer(handler: servers.Handler, data: bytes) -> None:
        handler.start(200, len(data))
        handler.wfile.write(data[:after])

    return answer


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (in_turn(cut(10), status(503, Retry_After="1")), "asks to wait 4 s"),
        (in_turn(whole_but_cut(20_000), whole_but_cut(10_000)), "begun anew 4 times"),
        (in_turn(whole_but_cut(20_000), cut(1)), "begun anew 4 times"),
    ],
    ids=["a byte, then a pause", "more, then less", "the start, then a byte"],
)
def test_a_server_that_gives_a_little_again_and_again_is_left(
    behaviour: Behaviour, told: str, tmp_path: Path
) -> None:
    patience = replace(HASTE, longest_wait_s=1)
    with serving(DATA, behaviour) as server, pytest.raises(ArchiveUnavailable, match=told):
        obtain(tmp_path / "file.gz", server.url, patience=patience)
    assert len(server.requests) < 20


def test_pauses_that_take_no_time_make_no_server_faster(tmp_path: Path) -> None:
    stingy = in_turn(cut(10), status(503, Retry_After="0"))
    with serving(DATA, stingy) as first, serving(DATA) as second:
        origin = obtain(tmp_path / "file.gz", first.url, second.url, patience=PACE)
    assert origin.startswith(second.url)
    assert (tmp_path / "file.gz").read_bytes() == DATA


@pytest.mark.parametrize("place", ["{folder}/file.gz", "npm:no-such-client/file"])
def test_a_place_without_the_file_does_not_cost_what_has_arrived(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    goal = tmp_path / "file.gz"
    (tmp_path / ".file.gz.partial").write_bytes(DATA[:30_000])
    with serving(DATA) as server:
        empty = place.format(folder=tmp_path / "empty")
        archives.obtain(ARCHIVE, goal, [empty, f"{server.url}file.gz"], patience=HASTE)
    assert server.requests[0]["Range"] == "bytes=30000-"
    assert goal.read_bytes() == DATA


def test_a_slow_mirror_is_returned_to_when_nobody_is_faster(tmp_path: Path) -> None:
    patience = replace(PACE, least_rate=1e9, rate_window_s=within(0.1))
    with serving(DATA, slow(10_000)) as slower, serving(DATA, slow(50_000)) as faster:
        origin = obtain(
            tmp_path / "file.gz",
            slower.url,
            f"{faster.url}",
            "http://127.0.0.1:9/",
            patience=patience,
        )
    assert origin.startswith(faster.url)
    assert (tmp_path / "file.gz").read_bytes() == DATA


def test_a_slow_mirror_that_has_nothing_when_it_is_returned_to_is_told_twice(
    tmp_path: Path,
) -> None:
    patience = replace(PACE, least_rate=1e9, rate_window_s=0.05)
    with (
        serving(DATA, slow(100_000), status(404)) as server,
        pytest.raises(ArchiveUnavailable) as caught,
    ):
        obtain(tmp_path / "file.gz", server.url, patience=patience)
    _, first, second, _ = str(caught.value).splitlines()
    assert "less than 1000000 kB/s" in first
    assert "HTTP 404" in second


def test_a_download_that_can_not_fit_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with serving(DATA) as server, pytest.raises(StorageError, match="only 1,000 are free"):
        obtain(tmp_path / "file.gz", server.url)
    assert not server.requests
    assert not list(tmp_path.glob("*.gz"))


def test_only_the_rest_of_a_file_that_is_gone_on_with_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = len(DATA) - 30_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=free))
    (tmp_path / ".file.gz.partial").write_bytes(DATA[:30_000])
    with serving(DATA) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert (tmp_path / "file.gz").read_bytes() == DATA

    (tmp_path / ".other.gz.partial").write_bytes(DATA[:29_999])
    with serving(DATA) as server, pytest.raises(StorageError, match=f"{free + 1:,} bytes are st"):
        obtain(tmp_path / "other.gz", server.url)


def test_no_range_is_asked_of_a_server_that_encodes_what_it_sends(tmp_path: Path) -> None:
    """A range of what it sends would be a range of the encoded bytes, not of the file."""

    def encoded_and_cut(handler: servers.Handler, data: bytes) -> None:
        body = gzip.compress(data)
        handler.start(200, len(body), Content_Encoding="gzip", ETag='"v1"')
        handler.wfile.write(body[:30_000])

    with serving(DATA, encoded_and_cut, compressed_again) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert len(server.requests) == 2
    assert "Range" not in server.requests[1]
    assert (tmp_path / "file.gz").read_bytes() == DATA


@pytest.mark.parametrize("kind", ["a server", "a folder"])
def test_an_archive_is_on_the_disk_before_it_is_moved_into_place(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`receive` leaves the move to its callers, who don't flush what it gave them."""
    told = disk_calls(monkeypatch)
    partial = tmp_path / "staged"
    (tmp_path / "file.gz").write_bytes(DATA)
    with serving(DATA) as server:
        place = f"{server.url}file.gz" if kind == "a server" else str(tmp_path / "file.gz")
        archives.receive(ARCHIVE, tmp_path / "goal", partial, [place], patience=HASTE)

    assert ("fsync", partial.stat().st_ino, len(DATA)) in told


def test_a_resumed_file_is_on_the_disk_before_it_is_moved_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = disk_calls(monkeypatch)
    with writing.resumable(tmp_path / "goal") as partial:
        partial.write_bytes(DATA)

    inode = (tmp_path / "goal").stat().st_ino
    assert told == [("fsync", inode, len(DATA)), ("rename", inode, len(DATA))]


def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Record from now on, in order, which inodes are flushed and renamed, and how long they are."""
    told: list[tuple[str, int, int]] = []
    fsync, replace_ = os.fsync, Path.replace

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        told.append(("fsync", found.st_ino, found.st_size))

    def recording_replace(path: Path, target: Path) -> Path:
        found = path.stat()
        told.append(("rename", found.st_ino, found.st_size))
        return replace_(path, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    return told


def test_a_host_out_of_reach_is_tried_only_once_the_next_time(tmp_path: Path) -> None:
    with serving(DATA, status(500)) as server:
        for name, requests in (("a", 3), ("b", 4)):
            with pytest.raises(ArchiveUnavailable):
                obtain(tmp_path / name, server.url)
            assert len(server.requests) == requests
