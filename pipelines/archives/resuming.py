"""One file over HTTP(S): resumed where it broke off, retried politely, left when too slow.

Not here: how a server is asked (`web`), which mirror to try, or whether the bytes are right (the
hashes decide). A server is believed in nothing that can be checked: a range must begin where we
asked, a length must be the declared one, and the first bytes must look like the file we want. Where
no length is declared, that which a server announces is as good as the hashes then say it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
import urllib3

from ..declarations import Archive
from ..errors import DownloadFailed, OutOfReach, TooSlow, WrongBytes
from ..redaction import without_secrets
from . import hosts, web
from .growing import Growing
from .patience import Patience
from .readers import CHUNK_BYTES
from .recognition import HEAD_BYTES, Identify, instead, is_called, is_declared, unlike

CURIOUS_BYTES, CURIOUS_S = 64 << 20, 10.0  # what it may cost to say which wrong file this is

_TRANSIENT = (408, 429, 500, 502, 503, 504)

logger = logging.getLogger(__name__)


def download(
    url: str, growing: Growing, archive: Archive, identify: Identify, patience: Patience
) -> bool:
    """Let a file grow until it is as long as the archive, from whatever it has already.

    Returns:
        Whether it was pieced together out of more than one answer.

    Raises:
        TooSlow: the server stayed below the least rate; what it gave is kept.
        OutOfReach: it did not answer as it should, however often it was asked.
        DownloadFailed: it can't be had here. What arrived is kept where it may be part of the file,
            and thrown away where it can't be.
        WrongBytes: a file is there, and can't be the one declared.
        OSError: the file can't be written.
    """
    with hosts.politely(url):
        return _Transfer(url, growing, archive, identify, patience).run()


class _Transfer:
    """One download: what may still be tried."""

    def __init__(
        self, url: str, growing: Growing, archive: Archive, identify: Identify, patience: Patience
    ) -> None:
        self._url, self._growing, self._archive = url, growing, archive
        self._identify, self._patience = identify, patience
        self._size_bytes = archive.size_bytes  # or what the server announces; None: nobody knows
        self._has_ended = False
        self._ranges = True  # until the server misapplies one
        self._begun_anew, self._asked_s = 0, 0.0  # however much arrives between
        self._pace = _Pace(patience)  # over all answers: one that is cut early is no faster
        self._is_pieced = growing.size > 0

    def run(self) -> bool:
        failures, host = 0, urlsplit(self._url).netloc.rpartition("@")[2]
        while not self._is_whole():
            have = self._growing.size
            tries = 1 if host in web.out_of_reach else self._patience.tries
            if (left_s := hosts.still_to_wait_s(self._url)) > 0:
                self._wait("the server asked to be left alone", 0, left_s)
                continue
            wait_s = None
            try:
                self._once(have)
                reason = f"the answer ended after {self._growing.size:,} bytes"
            except _Again as again:
                reason, wait_s = again.args
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = web.in_words(error, host)
                tries = 1 if isinstance(error, web.HungUp) else tries  # it has cost enough
            if self._is_whole():
                break
            failures = 0 if self._growing.size > have else failures + 1
            if failures >= tries:
                times = f" ({failures} times)" if failures > 1 else ""
                raise OutOfReach(f"{reason}{times}", is_news=web.note_out_of_reach(host))
            self._wait(reason, failures, wait_s)
        web.out_of_reach.discard(host)
        return self._is_pieced

    def _is_whole(self) -> bool:
        """Whether as much is there as is declared, or else announced, or else came to its end."""
        if self._size_bytes is not None:
            return self._growing.size >= self._size_bytes
        return self._has_ended or is_declared(self._growing.digests, self._archive)

    def _once(self, have: int) -> None:
        """Ask once, for what is missing, and append what comes."""
        headers = {}
        if have and self._ranges:
            headers["Range"] = f"bytes={have}-"
            if validator := self._growing.validator(self._url):
                headers["If-Range"] = validator
        with web.answer("GET", self._url, headers, self._patience) as (response, watchdog):
            if not self._goes_on(response, have if headers else 0) and have:
                self._begin_anew()
            etag = response.headers.get("ETag", "")
            strong = etag if etag.startswith('"') else response.headers.get("Last-Modified")
            self._growing.note_validator(self._url, strong)
            self._append(response, watchdog)

    def _goes_on(self, response: requests.Response, asked: int) -> bool:
        """Return whether the body goes on at byte `asked`; raise unless it does, or begins at 0."""
        status = response.status_code
        if status == HTTPStatus.PARTIAL_CONTENT and asked:
            given = response.headers.get("Content-Range", "")
            if self._size_bytes is None:
                self._announced(web.number(given.rpartition("/")[2]))
            size = self._size_bytes
            if size and given in (
                f"bytes {asked}-{size - 1}/{size}",
                f"bytes {asked}-{size - 1}/*",
            ):
                self._is_pieced = True
                return True
            self._give_up_ranges()
            answered = given or "without saying"
            raise _Again(f"asked to go on at byte {asked:,}, the server answered {answered}", None)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked:
            self._give_up_ranges()
            raise _Again("the server says that there is nothing more to get", None)
        if status in _TRANSIENT:
            asked_s = hosts.retry_after_s(self._url, response)
            raise _Again(f"HTTP {status} {response.reason}", asked_s)
        if status != HTTPStatus.OK:
            raise DownloadFailed(f"HTTP {status} {response.reason}")
        return False

    def _give_up_ranges(self) -> None:
        self._ranges = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._growing.restart()
        self._size_bytes = self._archive.size_bytes
        self._begun_anew += 1
        if self._begun_anew > self._patience.tries:
            raise DownloadFailed(f"what had arrived was begun anew {self._begun_anew} times")

    def _append(self, response: requests.Response, watchdog: web.Watchdog) -> None:
        """Append the body, watching its first bytes, its length and its pace."""
        growing = self._growing
        announced = response.headers.get("Content-Length", "")
        is_encoded = "Content-Encoding" in response.headers
        # A file that is stored compressed is often labelled so, and must then be taken as it is.
        if self._size_bytes is None:
            decode = is_encoded and not is_called(self._archive.name, "gzip")
            if not decode:
                self._announced(web.number(announced))
        else:
            decode = is_encoded and announced != str(self._size_bytes - growing.size)
        size_bytes = self._size_bytes
        if decode:
            self._ranges = False
        elif size_bytes is not None:
            length, missing = web.number(announced), size_bytes - growing.size
            if length not in (None, missing):
                what = self._what_comes(response, length) if growing.size == 0 else ""
                raise WrongBytes(f"{length:,} bytes are announced, {missing:,} expected{what}")
        most_bytes = growing.most_bytes(self._archive) if size_bytes is None else size_bytes
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=decode):
            if growing.size == 0 and (wrong := unlike(self._archive.name, chunk)):
                raise WrongBytes(f"not the file that is declared{wrong}")
            if growing.size + len(chunk) > most_bytes:
                growing.restart()
                if size_bytes is None:
                    raise WrongBytes(
                        f"more than {most_bytes:,} bytes arrive: it can't have as many"
                    )
                raise WrongBytes(f"more than the declared {most_bytes:,} bytes arrive")
            growing.append(chunk)
            watchdog.wait_anew()
            self._pace.step(len(chunk))
        self._has_ended = size_bytes is None

    def _announced(self, size_bytes: int | None) -> None:
        """Take how many bytes a server says that the file has, where nobody declares it."""
        if size_bytes is not None and size_bytes > (most := self._archive.most_bytes):
            raise WrongBytes(
                f"{size_bytes:,} bytes are announced, and it can have {most:,} at most"
            )
        if size_bytes is not None:
            self._growing.expect(size_bytes)
        self._size_bytes = size_bytes

    def _what_comes(self, response: requests.Response, length: int) -> str:
        """Return a clause that says what a body of the wrong length is, if that can be known."""
        md5, head, deadline = hashlib.md5(usedforsecurity=False), b"", time.monotonic() + CURIOUS_S
        with contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError):
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                head = head or chunk[:HEAD_BYTES]
                md5.update(chunk)
                if length > CURIOUS_BYTES or time.monotonic() > deadline:
                    break
        return instead(md5.hexdigest(), head, self._archive, self._identify)

    def _wait(self, reason: str, failures: int, asked_s: float | None) -> None:
        pause = self._pause(failures, asked_s)
        text = f"{without_secrets(self._url)}: {without_secrets(reason, self._url)}"
        logger.info("%s; trying again in %.1f s", text, pause)
        time.sleep(pause)
        if asked_s is not None:
            self._pace.leave_out(pause)  # what was asked for is not slowness

    def _pause(self, failures: int, asked_s: float | None) -> float:
        longest_s = self._patience.longest_wait_s
        if asked_s is not None:
            self._asked_s += asked_s
            if asked_s > longest_s or self._asked_s > longest_s * self._patience.tries:
                raise DownloadFailed(f"the server asks to wait {self._asked_s:.0f} s")
            return asked_s
        pause = self._patience.backoff_s * 2 ** max(0, failures - 1)
        return float(min(pause, longest_s) * random.uniform(0.5, 1.0))


class _Again(Exception):
    """Another request may do better: why, and for how many seconds the server asks to wait."""


class _Pace:
    """Watches the rate of a transfer, window by window."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since, self._bytes = time.monotonic(), 0

    def leave_out(self, seconds: float) -> None:
        self._since += seconds

    def step(self, size: int) -> None:
        self._bytes += size
        elapsed = time.monotonic() - self._since
        if elapsed >= self._patience.rate_window_s:
            rate = self._bytes / elapsed
            if rate < self._patience.least_rate:
                raise TooSlow(
                    f"{rate / 1000:.1f} kB/s for {elapsed:.0f} s, less than "
                    f"{self._patience.least_rate / 1000:.0f} kB/s",
                    rate,
                )
            self._since, self._bytes = time.monotonic(), 0
