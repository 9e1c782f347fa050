"""Servers are asked politely: certificates, redirects, passwords, and no waiting for ever."""

from __future__ import annotations

import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from pipelines.archives import probes
from pipelines.errors import ArchiveUnavailable
from tests import servers
from tests.archives.test_resuming import DATA, HASTE, obtain
from tests.servers import (
    Behaviour,
    continuing,
    dripping,
    dripping_chunk,
    endless_redirect,
    good,
    no_ranges,
    redirect,
    serving,
    slow,
)
from tests.waiting import within


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
HASTE_TO_BEGIN = replace(HASTE, answer_s=within(0.3))


@pytest.mark.parametrize("behaviour", DROPS.values(), ids=DROPS)
def test_a_server_that_talks_and_gives_nothing_is_left_for_the_next(
    behaviour: Behaviour, tmp_path: Path
) -> None:
    goal = tmp_path / "file.gz"
    with serving(DATA, behaviour) as bad, serving(DATA) as fine:
        assert obtain(goal, bad.url, fine.url, patience=HASTE_TO_BEGIN).startswith(fine.url)
        with pytest.raises(
            ArchiveUnavailable, match=f"nothing of the file .* within {within(0.3):g} s\n"
        ):
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
            time.sleep(within(0.2))
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
    patience = replace(HASTE, tries=1, answer_s=within(0.3))
    with serving(DATA, slow(round(len(DATA) / within(0.5)))) as server:
        obtain(tmp_path / "file.gz", server.url, patience=patience)
    assert len(server.requests) == 1


def test_requests_name_the_project_and_want_the_bytes_as_they_are(tmp_path: Path) -> None:
    with serving(DATA) as server:
        obtain(tmp_path / "file.gz", server.url)
    assert server.requests[0]["User-Agent"].startswith("imagesets/0")
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert "Range" not in server.requests[0]


def test_at_most_two_downloads_are_connected_to_a_host(tmp_path: Path) -> None:
    connected, most, lock, two = 0, 0, threading.Lock(), threading.Barrier(2)

    def counted(handler: servers.Handler, data: bytes) -> None:
        nonlocal connected, most
        with lock:
            connected += 1
            most = max(most, connected)
        two.wait(within(30))  # the second comes while the first is connected, or this breaks
        time.sleep(0.05)  # in which a third would come
        with lock:
            connected -= 1
        no_ranges(handler, data)

    with serving(DATA, counted) as server, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: obtain(tmp_path / name, server.url), "abcdef"))
    assert len(server.requests) == 6
    assert most == 2
