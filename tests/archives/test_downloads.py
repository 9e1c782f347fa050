"""Downloads from servers that misbehave: the right bytes arrive, or no file and a reason."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import os
import shutil
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trustme

from pipelines import archives, progress
from pipelines.archives import probes
from pipelines.archives.web import Patience
from pipelines.declarations import Archive
from pipelines.errors import ArchiveUnavailable, DownloadFailed, StorageError
from pipelines.redaction import without_secrets
from pipelines.store import writing
from tests import builders, servers
from tests.servers import (
    Behaviour,
    announcing,
    changed,
    chunked,
    compressed_again,
    continuing,
    cut,
    dripping,
    dripping_chunk,
    endless,
    endless_redirect,
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

DATA = builders.gz(np.random.default_rng(0).bytes(60_000))
ARCHIVE = Archive(
    name="file.gz",
    size_bytes=len(DATA),
    md5=hashlib.md5(DATA).hexdigest(),
    sha256=hashlib.sha256(DATA).hexdigest(),
)
HASTE = Patience(connect_s=5, read_s=0.6, tries=3, backoff_s=0.001, longest_wait_s=2, least_rate=0)


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
    patience = Patience(read_s=1, tries=2, backoff_s=0.001, least_rate=1e6, rate_window_s=0.1)
    with serving(DATA, slow(20_000)) as first, serving(DATA) as second:
        assert obtain(tmp_path / "file.gz", first.url, second.url, patience=patience).startswith(
            second.url
        )
    assert int(second.requests[0]["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert (tmp_path / "file.gz").read_bytes() == DATA


def test_a_server_that_cuts_every_answer_short_is_no_faster_for_it(tmp_path: Path) -> None:
    patience = Patience(read_s=1, tries=2, backoff_s=0.001, least_rate=1e6, rate_window_s=0.1)
    with serving(DATA, cut(10)) as first, serving(DATA) as second:
        origin = obtain(tmp_path / "file.gz", first.url, second.url, patience=patience)
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
    patience = Patience(read_s=1, tries=2, backoff_s=0.001, least_rate=1e6, rate_window_s=0.1)
    stingy = in_turn(cut(10), status(503, Retry_After="0"))
    with serving(DATA, stingy) as first, serving(DATA) as second:
        origin = obtain(tmp_path / "file.gz", first.url, second.url, patience=patience)
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
    patience = Patience(read_s=1, tries=2, backoff_s=0.001, least_rate=1e9, rate_window_s=0.05)
    with serving(DATA, slow(100_000)) as slower, serving(DATA, slow(400_000)) as faster:
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
    patience = Patience(read_s=1, tries=2, backoff_s=0.001, least_rate=1e9, rate_window_s=0.05)
    with (
        serving(DATA, slow(100_000), status(404)) as server,
        pytest.raises(ArchiveUnavailable) as caught,
    ):
        obtain(tmp_path / "file.gz", server.url, patience=patience)
    _, first, second, _ = str(caught.value).splitlines()
    assert "less than 1000000 kB/s" in first
    assert "HTTP 404" in second


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server on loopback shows, signed by an authority that is trusted in this test."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_server_whose_certificate_somebody_signed_is_trusted(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    goal = tmp_path / "goal" / "file.gz"
    with serving(DATA, tls=tls) as server:
        assert obtain(goal, server.url) == f"{server.url}file.gz"
    assert goal.read_bytes() == DATA


def test_a_server_whose_certificate_nobody_signed_is_left(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with (
        serving(DATA, tls=tls) as server,
        pytest.raises(ArchiveUnavailable, match="the certificate is not good"),
    ):
        obtain(tmp_path / "file.gz", server.url)
    assert not server.requests
    assert not (tmp_path / "file.gz").exists()


def test_a_refused_connection_is_told_and_the_next_mirror_tried(tmp_path: Path) -> None:
    with serving(DATA) as gone:
        dead = gone.url
    with pytest.raises(ArchiveUnavailable, match=r"refuses the connection \(3 times\)"):
        obtain(tmp_path / "file.gz", dead)
    with serving(DATA) as live:
        assert obtain(tmp_path / "file.gz", dead, live.url) == f"{live.url}file.gz"


def test_a_host_without_an_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnavailable, match=r"nowhere\.invalid can't be resolved"):
        obtain(tmp_path / "file.gz", "http://nowhere.invalid/")


def test_few_redirects_are_followed_and_loops_are_left(tmp_path: Path) -> None:
    with serving(DATA) as honest, serving(DATA) as first:
        first.behaviours = [servers.redirect(f"{honest.url}elsewhere.gz")]
        obtain(tmp_path / "file.gz", first.url)
    with serving(DATA) as loop:
        loop.behaviours = [servers.redirect(f"{loop.url}file.gz")]
        with pytest.raises(ArchiveUnavailable, match="more than 5 redirects"):
            obtain(tmp_path / "other.gz", loop.url)


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
@pytest.mark.parametrize("kind", ["download", "look"])
def test_a_redirect_from_https_to_http_is_refused(
    scheme: str, kind: str, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    with serving(DATA) as plain:
        target = f"{plain.url}file.gz".replace("http", scheme)
        with serving(DATA, redirect(target), tls=tls) as server:
            if kind == "look":
                place = f"{server.url}file.gz"
                reason = str(probes.look([place], HASTE)[place].problem)
            else:
                with pytest.raises(ArchiveUnavailable) as caught:
                    obtain(tmp_path / "file.gz", server.url)
                reason = str(caught.value)
    assert "redirected from https to plain http" in reason
    assert len(server.requests) == 1
    assert not plain.requests


def test_a_redirect_from_http_to_https_is_followed(tls: ssl.SSLContext, tmp_path: Path) -> None:
    goal = tmp_path / "goal" / "file.gz"
    with (
        serving(DATA, tls=tls) as secure,
        serving(b"", redirect(f"{secure.url}file.gz")) as first,
    ):
        obtain(goal, first.url)
    assert goal.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["download", "look"])
def test_the_body_of_a_redirect_is_not_read(kind: str, tmp_path: Path) -> None:
    with (
        serving(DATA) as honest,
        serving(DATA, servers.no_head(405, endless_redirect(f"{honest.url}file.gz"))) as first,
    ):
        if kind == "look":
            place = f"{first.url}file.gz"
            assert probes.look([place], HASTE)[place].size_bytes == len(DATA)
        else:
            obtain(tmp_path / "file.gz", first.url)
            assert (tmp_path / "file.gz").read_bytes() == DATA
    assert first.methods[-1] == "GET"
    assert first.sent_bytes < 50_000_000, "no more than lies about between two ends"


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:99999/", "file:///etc/hostname", "ftp://127.0.0.1/", "//[::1/a"]
)
def test_a_redirect_that_leads_nowhere_is_told_at_once(target: str, tmp_path: Path) -> None:
    with (
        serving(DATA, redirect(target)) as server,
        pytest.raises(ArchiveUnavailable, match="redirected to what is no address"),
    ):
        obtain(tmp_path / "file.gz", server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("target", ["/other.gz", "{first}other.gz"])
def test_a_password_is_shown_to_its_host_again_after_a_redirect(
    target: str, tmp_path: Path
) -> None:
    with serving(DATA) as first:
        first.behaviours = [redirect(target.format(first=first.url)), good()]
        obtain(tmp_path / "file.gz", first.url.replace("//", "//me:word@"))
    assert first.paths == ["/file.gz", "/other.gz"]
    assert [r["Authorization"] for r in first.requests] == ["Basic bWU6d29yZA=="] * 2


def test_a_password_is_shown_to_no_other_host(tmp_path: Path) -> None:
    with serving(DATA) as first, serving(DATA) as second:
        first.behaviours = [redirect(f"{second.url}file.gz")]
        second.behaviours = [redirect(f"{first.url}file.gz"), good()]
        first.behaviours += [redirect(f"{second.url}file.gz")]
        obtain(tmp_path / "file.gz", first.url.replace("//", "//me:word@"))
    assert "Authorization" in first.requests[0]
    for request in [*first.requests[1:], *second.requests]:
        assert "Authorization" not in request


# --- answers that never begin ---------------------------------------------------------------------

DROPS: dict[str, Behaviour] = {
    "a status line": dripping(b"HTTP/1.1 200 O"),
    "a header": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Drip: "),
    "a header of a redirect": dripping(b"HTTP/1.1 302 Found\r\nLocation: /"),
    "100 Continue for ever": continuing,
    "the size of a chunk": dripping_chunk(0),
}
HASTE_TO_BEGIN = replace(HASTE, answer_s=0.5)


@pytest.mark.parametrize("behaviour", DROPS.values(), ids=DROPS)
def test_a_server_that_talks_and_gives_nothing_is_left_for_the_next(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, behaviour) as bad, serving(DATA) as fine:
        assert obtain(goal, bad.url, fine.url, patience=HASTE_TO_BEGIN).startswith(fine.url)
        with pytest.raises(ArchiveUnavailable, match=r"nothing of the file .* within 0\.5 s\n"):
            obtain(tmp_path / "other.gz", bad.url, patience=HASTE_TO_BEGIN)
    assert goal.read_bytes() == DATA
    assert len(bad.requests) == 2, "once for each file: asking again would cost as much again"


def test_a_handshake_that_never_ends_is_left_for_the_next_mirror(tmp_path: Path) -> None:
    goal = tmp_path / "file.gz"
    with servers.dripping_handshake() as bad, serving(DATA) as fine:
        assert obtain(goal, bad, fine.url, patience=HASTE_TO_BEGIN).startswith(fine.url)
        with pytest.raises(ArchiveUnavailable, match="nothing of the file arrived"):
            obtain(tmp_path / "other.gz", bad, patience=HASTE_TO_BEGIN)
    assert goal.read_bytes() == DATA


def test_a_redirect_does_not_start_the_time_anew(tmp_path: Path) -> None:
    with serving(DATA) as loop:

        def late(handler: servers.Handler, data: bytes) -> None:
            time.sleep(0.2)
            redirect(f"{loop.url}file.gz")(handler, data)

        loop.behaviours = [late]
        with pytest.raises(ArchiveUnavailable, match="nothing of the file arrived"):
            obtain(tmp_path / "file.gz", loop.url, patience=HASTE_TO_BEGIN)


def test_what_came_before_a_server_fell_to_dripping_is_gone_on_with(tmp_path: Path) -> None:
    goal = tmp_path / "file.gz"
    patience = replace(HASTE_TO_BEGIN, tries=1)
    with serving(DATA, dripping_chunk(30_000), dripping_chunk(0)) as bad, serving(DATA) as fine:
        obtain(goal, bad.url, fine.url, patience=patience)
    assert [request.get("Range") for request in bad.requests] == [None, "bytes=30000-"]
    assert fine.requests[0]["Range"] == "bytes=30000-"
    assert goal.read_bytes() == DATA


def test_a_long_download_is_not_hung_up_on_while_its_bytes_arrive(tmp_path: Path) -> None:
    patience = replace(HASTE, tries=1, answer_s=0.3)
    with serving(DATA, slow(len(DATA))) as server:
        obtain(tmp_path / "file.gz", server.url, patience=patience)
    assert len(server.requests) == 1


def test_requests_name_the_project_and_want_the_bytes_as_they_are(tmp_path: Path) -> None:
    with serving(DATA) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert server.requests[0]["User-Agent"].startswith("imagesets/0")
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert "Range" not in server.requests[0]


def test_at_most_two_downloads_are_connected_to_a_host(tmp_path: Path) -> None:
    connected, most, lock = 0, 0, threading.Lock()

    def counted(handler: servers.Handler, data: bytes) -> None:
        nonlocal connected, most
        with lock:
            connected += 1
            most = max(most, connected)
        time.sleep(0.05)
        with lock:
            connected -= 1
        no_ranges(handler, data)

    with serving(DATA, counted) as server, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: obtain(tmp_path / name, server.url), "abcdef"))
    assert len(server.requests) == 6
    assert most == 2


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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("https://example.org/a.gz", "https://example.org/a.gz"),
        ("https://me:word@example.org:8080/a.gz", "https://example.org:8080/a.gz"),
        ("https://me:w@rd@example.org/a.gz", "https://example.org/a.gz"),
        ("https://example.org/a.gz?token=word", "https://example.org/a.gz"),
        ("s3://key:wo/rd@bucket/a.gz?region=x", "s3://bucket/a.gz?region=x"),
        ("s3://bucket/a.gz?region=x&scheme=http: no", "s3://bucket/a.gz?region=x&scheme=http: no"),
        ("s3://bucket/a.gz?region=x&token=word", "s3://bucket/a.gz"),
        ("can't parse 's3://key:word@bucket/a?b=word' at 5", "can't parse 's3://bucket/a' at 5"),
        ("https://example.org:8080/@scope/a.gz", "https://example.org:8080/@scope/a.gz"),
        ("npm:@scope/package/a.gz", "npm:@scope/package/a.gz"),
    ],
)
def test_a_place_is_named_without_what_opens_it(text: str, named: str) -> None:
    assert without_secrets(text) == named


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
