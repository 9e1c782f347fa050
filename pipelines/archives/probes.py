"""Looking at places without fetching: is a file there, and which version of it.

Not here: fetching, or what to do about what is found.

A server is asked with HEAD, and where it refuses that, for one byte. What identifies the bytes it
would send is their length, its ETag and its Last-Modified; no server is believed further than that:
equal versions mean equal bytes for all that can be known, other versions mean "fetch and compare".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

import requests
import urllib3

from ..declarations import Archive
from ..errors import DownloadFailed
from ..redaction import without_secrets
from . import hosts
from .addresses import WEB, glance, scheme
from .patience import Patience
from .web import answer, in_words, number

SIDE_BY_SIDE = 16  # of which at most two go to one host
# A look may fail sooner than a download.
PATIENCE = Patience(connect_s=5.0, read_s=15.0, answer_s=30.0)

Status = Literal["alive", "dead", "not probed"]

_REFUSES_HEAD = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a place says of a file, without giving it.

    status: `alive` where the file is there, `dead` where it can't be had now, `not probed` where a
        look would cost as much as fetching (package registries).
    size_bytes, etag, last_modified: as far as they are told.
    problem: why it is dead.
    """

    place: str
    status: Status
    size_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    seconds: float = 0.0
    problem: str | None = None

    @property
    def version(self) -> str:
        """All that identifies the bytes that lie there, in a fixed order; empty if nothing does."""
        facts = {"bytes": self.size_bytes, "etag": self.etag, "modified": self.last_modified}
        return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a place: the last look at it, and the last judgement of its bytes.

    judged: the version whose bytes were held against the catalogue; empty before the first look.
    wrong: why those bytes are not the declared ones; empty if they are.
    """

    probe: Probe
    judged: str = ""
    wrong: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the place serves other bytes than the declared ones now."""
        return bool(self.wrong) and self.probe.status == "alive"

    @property
    def version(self) -> str:
        """The version last seen: of a place that does not answer, the one judged before."""
        return self.probe.version or self.judged


def standing(archive: Archive, before: Standing | None, now: Probe) -> Standing | None:
    """Return the new standing of a place, or None where only fetching and comparing can tell.

    The first look at a place is believed if the length is right: what lies under the data folder
    was verified when it came. From then on, another version has to be looked into.
    """
    before = before or Standing(now)
    if now.status != "alive" or now.version == before.judged:
        return replace(before, probe=now)
    declared = archive.size_bytes
    if declared is not None and now.size_bytes not in (None, declared):
        wrong = f"{now.size_bytes:,} bytes are announced, {declared:,} are declared"
        return Standing(now, now.version, wrong)
    return None if before.judged else Standing(now, now.version)


def version(standings: Iterable[Standing]) -> str:
    """Return one version for the bytes at several places: it changes when one of theirs does.

    It stays when a place dies and comes back as it was.
    """
    lines = sorted(f"{s.probe.place} {s.version}\n" for s in standings if s.version)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def look(places: Iterable[str], patience: Patience = PATIENCE) -> dict[str, Probe]:
    """Probe several places side by side, at most two at a time on one host.

    A place is a URL, a folder's file, an object store's, or a registry's package; its probe names
    it without passwords. A host that could not be reached is not asked for its other files.
    """
    places = list(dict.fromkeys(places))
    out_of_reach: dict[str, str] = {}

    def probe(place: str) -> Probe:
        start = time.perf_counter()
        try:
            found = _probe(place, patience, out_of_reach)
        except DownloadFailed as error:
            found = Probe(place, "dead", problem=str(error))
        seconds = round(time.perf_counter() - start, 3)
        problem = found.problem and without_secrets(found.problem, place)
        return replace(found, place=without_secrets(place), seconds=seconds, problem=problem)

    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="probe") as pool:
        return dict(zip(places, pool.map(probe, places), strict=True))


def _probe(place: str, patience: Patience, out_of_reach: dict[str, str]) -> Probe:
    """Look at one place; raise `DownloadFailed` where the file can't be had now."""
    if scheme(place) in WEB:
        with hosts.politely(place):
            return _over_http(place, patience, out_of_reach)
    seen = glance(place)
    if seen is None:
        return Probe(place, "not probed")
    size_bytes, modified_ns = seen
    return Probe(place, "alive", size_bytes, last_modified=_time(modified_ns))


def _over_http(url: str, patience: Patience, out_of_reach: dict[str, str]) -> Probe:
    host = urlsplit(url).netloc
    if problem := out_of_reach.get(host):
        raise DownloadFailed(problem)
    if (left_s := hosts.still_to_wait_s(url)) > patience.answer_s:
        raise DownloadFailed(f"the server asks to wait {left_s:.0f} s")
    time.sleep(left_s)
    try:
        # Whole files are sent by servers that know no ranges: not read.
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            with answer(method, url, headers, patience) as (found, _):
                pass
            if found.status_code not in _REFUSES_HEAD:
                break
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        problem = in_words(error, host)
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            out_of_reach[host] = problem
        raise DownloadFailed(problem) from error
    if found.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        hosts.retry_after_s(url, found)
        raise DownloadFailed(f"HTTP {found.status_code} {found.reason}")
    etag, modified = (found.headers.get(name) for name in ("ETag", "Last-Modified"))
    return Probe(url, "alive", _size_bytes(found), etag, modified)


def _size_bytes(found: requests.Response) -> int | None:
    """Return the length of the whole file, if the answer tells it."""
    if "Content-Encoding" in found.headers:
        return None  # of what would be sent, which need not be what lies there
    is_part = found.status_code == HTTPStatus.PARTIAL_CONTENT
    text = found.headers.get("Content-Range" if is_part else "Content-Length", "")
    return number(text.rpartition("/")[2])


def _time(ns: int | None) -> str | None:
    """Return nanoseconds since 1970 as ISO says them."""
    return None if ns is None else datetime.fromtimestamp(ns / 1e9, UTC).isoformat()
