"""One file over HTTP(S): resumed where it broke off, retried politely, left when too slow.

Not here: which mirror to try, or whether the bytes are right (`pipelines.archives`; the hashes
decide). A server is believed in nothing that can be checked: a range must begin where we asked,
a length must be the declared one, and the first bytes must look like the kind of file we want.

The file grows in place, at a path of its own: after a kill at any byte, the next process goes on
with what is there. Beside it lies a note of the validator (ETag) that the server gave.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from pipelines import __version__
from pipelines.errors import DownloadFailed, TooSlow, WrongBytes
from pipelines.redaction import without_secrets
from pipelines.work import Advance, unwatched

USER_AGENT = f"imagesets/{__version__} (benchmark image datasets; python-requests)"
CONNECTIONS_PER_HOST = 2
CURIOUS_BYTES, CURIOUS_S = 64 << 20, 10.0  # what it may cost to say which wrong file this is
CHUNK_BYTES = 1 << 18
HEAD_BYTES = 4096  # kept to say what arrived instead
REDIRECTS = 5

_TRANSIENT = (408, 429, 500, 502, 503, 504)

logger = logging.getLogger(__name__)

Look = Callable[[bytes], str | None]
"""First bytes of a file → why they can't be the file we want, or None."""

Identify = Callable[[str], str | None]
"""MD5 → what else has it: `source/file` of the catalogue, or a release that was superseded."""


def unknown(_md5: str) -> None:
    """Be an `Identify` that knows nothing."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What is measured of a file to know it."""

    size_bytes: int
    md5: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a server.

    connect_s, read_s: until a connection stands; between two pieces of an answer.
    tries: in a row without a single new byte; one only for a host that was out of reach before.
    backoff_s, longest_wait_s: the first pause, doubled each time, and the longest one; a server
        that asks for more (Retry-After) is left.
    least_rate: bytes per second; a server below it for `rate_window_s` is left. 0 bears anything.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    tries: int = 4
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    least_rate: float = 100_000.0
    rate_window_s: float = 30.0


def note(partial: Path) -> Path:
    """Return where the validator of a file that grows is noted."""
    return partial.with_name(partial.name + ".json")


class Growing:
    """A file that grows in place, and the hashes of what it has so far.

    Opening one hashes what an earlier process left. Nothing is buffered: whatever was appended is
    in the file when the process is killed.
    """

    def __init__(self, path: Path, advance: Advance = unwatched) -> None:
        """Go on with the file at `path`, or begin it."""
        self.path = path
        self._advance = advance
        self._file = path.open("ab+", buffering=0)
        self._begin()
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            self.measure(chunk)

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if not self.size:
            self.forget_validator()  # of nothing
        if kind is not None:
            self._advance(-self.size)

    @property
    def digests(self) -> Digests:
        """Size, MD5 and SHA-256 of what is there."""
        return Digests(self.size, self._md5.hexdigest(), self._sha256.hexdigest())

    def append(self, chunk: bytes) -> None:
        """Write more bytes at the end, and measure them."""
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self.measure(chunk)

    def restart(self) -> None:
        """Throw away what is there."""
        self._file.truncate(0)
        self._advance(-self.size)
        self._begin()
        self.forget_validator()

    def validator(self, url: str) -> str | None:
        """Return the validator that this URL's server gave for the bytes that are there."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(note(self.path).read_text("utf-8"))
            known = noted["url"] == without_secrets(url)
            return str(noted["validator"]) if known else None
        return None

    def note_validator(self, url: str, validator: str | None) -> None:
        """Remember the validator for a later process, or that there is none."""
        if validator:
            noted = {"url": without_secrets(url), "validator": validator}
            note(self.path).write_text(json.dumps(noted), "utf-8")
        else:
            self.forget_validator()

    def forget_validator(self) -> None:
        """Remove the note."""
        note(self.path).unlink(missing_ok=True)

    def _begin(self) -> None:
        self.size, self.head = 0, b""
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()

    def measure(self, chunk: bytes) -> None:
        """Take bytes into the size and the hashes."""
        self._md5.update(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)
        self.head += chunk[: HEAD_BYTES - len(self.head)]
        self._advance(len(chunk))


def download(
    url: str,
    growing: Growing,
    size_bytes: int,
    look: Look,
    identify: Identify,
    patience: Patience,
) -> bool:
    """Let a file grow until it has `size_bytes`, from whatever it has already.

    Args:
        url: of the file, http or https.
        growing: what it becomes.
        size_bytes: as declared.
        look: says why first bytes can't be those of the file; None if they may be.
        identify: says which known file has an MD5; None if none has.
        patience: how long to wait, and how often to try again.

    Returns:
        Whether it was pieced together out of more than one answer.

    Raises:
        TooSlow: the server stayed below the least rate; what it gave is kept.
        DownloadFailed: it can't be had here. What arrived is kept where it may be part of the file,
            and thrown away where it can't be.
        WrongBytes: a file is there, and can't be the one declared.
        OSError: the file can't be written.
    """
    with politely(url), Session() as session:
        transfer = _Transfer(url, growing, size_bytes, look, identify, patience)
        transfer.run(session)
        return transfer.is_pieced


class _Transfer:
    """One download: what may still be tried."""

    def __init__(
        self,
        url: str,
        growing: Growing,
        size_bytes: int,
        look: Look,
        identify: Identify,
        patience: Patience,
    ) -> None:
        self._url, self._growing, self._size_bytes = url, growing, size_bytes
        self._look, self._identify, self._patience = look, identify, patience
        self._ranges = True  # until the server misapplies one
        self._pace = _Pace(patience)  # over all answers: one that is cut early is no faster
        self.is_pieced = growing.size > 0

    def run(self, session: requests.Session) -> None:
        failures, host = 0, urlsplit(self._url).netloc.rpartition("@")[2]
        while (have := self._growing.size) < self._size_bytes:
            wait_s = None
            try:
                self._once(session, have)
                reason = f"the answer ended after {self._growing.size:,} bytes"
            except _Again as again:
                reason, wait_s = str(again), again.wait_s
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = in_words(error, host)
            if self._growing.size >= self._size_bytes:
                return
            failures = 0 if self._growing.size > have else failures + 1
            if failures >= (1 if host in _out_of_reach else self._patience.tries):
                _out_of_reach.add(host)
                raise DownloadFailed(f"{reason}{f' ({failures} times)' if failures > 1 else ''}")
            pause = self._pause(failures, wait_s)
            text = f"{without_secrets(self._url)}: {without_secrets(reason, self._url)}"
            logger.info("%s; trying again in %.1f s", text, pause)
            time.sleep(pause)
            if wait_s is not None:
                self._pace = _Pace(self._patience)  # a pause that was asked for is not slowness

    def _once(self, session: requests.Session, have: int) -> None:
        """Ask once, for what is missing, and append what comes."""
        headers = {}
        if have and self._ranges:
            headers["Range"] = f"bytes={have}-"
            if validator := self._growing.validator(self._url):
                headers["If-Range"] = validator
        timeouts = (self._patience.connect_s, self._patience.read_s)
        with session.get(self._url, headers=headers, timeout=timeouts, stream=True) as response:
            if not self._goes_on(response, have if headers else 0) and have:
                self._growing.restart()
            etag = response.headers.get("ETag", "")
            strong = etag if etag.startswith('"') else response.headers.get("Last-Modified")
            self._growing.note_validator(self._url, strong)
            self._append(response)

    def _goes_on(self, response: requests.Response, asked: int) -> bool:
        """Return whether the body goes on at byte `asked`; otherwise it begins at 0.

        Raises:
            _Again: it does neither, but another request may.
            DownloadFailed: there is no use in asking again.
        """
        status = response.status_code
        if status == HTTPStatus.PARTIAL_CONTENT and asked:
            given = response.headers.get("Content-Range", "")
            last = self._size_bytes - 1
            if given in (f"bytes {asked}-{last}/{self._size_bytes}", f"bytes {asked}-{last}/*"):
                self.is_pieced = True
                return True
            self._give_up_ranges()
            raise _Again(
                f"asked to go on at byte {asked:,}, the server answered {given or 'without saying'}"
            )
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked:
            self._give_up_ranges()
            raise _Again("the server says that there is nothing more to get")
        if status in _TRANSIENT:
            raise _Again(f"HTTP {status} {response.reason}", _retry_after(response))
        if status != HTTPStatus.OK:
            raise DownloadFailed(f"HTTP {status} {response.reason}")
        return False

    def _give_up_ranges(self) -> None:
        self._ranges = False
        self._growing.restart()

    def _append(self, response: requests.Response) -> None:
        """Append the body, watching its first bytes, its length and its pace."""
        growing, size_bytes = self._growing, self._size_bytes
        announced = response.headers.get("Content-Length", "")
        length_is_right = announced == str(size_bytes - growing.size)
        # A file that is stored compressed is often labelled so, and must then be taken as it is.
        decode = "Content-Encoding" in response.headers and not length_is_right
        if decode:
            self._ranges = False
        elif (length := number(announced)) is not None and not length_is_right:
            instead = self._instead(response, length) if growing.size == 0 else ""
            raise WrongBytes(
                f"{length:,} bytes are announced, {size_bytes - growing.size:,} expected{instead}"
            )
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=decode):
            if growing.size == 0 and (wrong := self._look(chunk)):
                raise WrongBytes(f"not the file that is declared{wrong}")
            if growing.size + len(chunk) > size_bytes:
                growing.restart()
                raise WrongBytes(f"more than the declared {size_bytes:,} bytes arrive")
            growing.append(chunk)
            self._pace.step(len(chunk))

    def _instead(self, response: requests.Response, length: int) -> str:
        """Return a clause that says what a body of the wrong length is, if that can be known."""
        md5, head, deadline = hashlib.md5(usedforsecurity=False), b"", time.monotonic() + CURIOUS_S
        with contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError):
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                head = head or chunk[:HEAD_BYTES]
                md5.update(chunk)
                if length > CURIOUS_BYTES or time.monotonic() > deadline:
                    break
        other = self._identify(md5.hexdigest())
        return f". Those bytes are {other}" if other else self._look(head) or ""

    def _pause(self, failures: int, asked_s: float | None) -> float:
        longest_s = self._patience.longest_wait_s
        if asked_s is not None:
            if asked_s > longest_s:
                raise DownloadFailed(f"the server asks to wait {asked_s:.0f} s")
            return asked_s
        pause = self._patience.backoff_s * 2 ** max(0, failures - 1)
        return float(min(pause, longest_s) * random.uniform(0.5, 1.0))


class _Again(Exception):
    """An answer after which another request may do better."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Pace:
    """Watches the rate of a transfer, window by window."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since, self._bytes = time.monotonic(), 0

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


class Session(requests.Session):
    """A session that follows few redirects, and none from https to http."""

    def __init__(self) -> None:
        """Say who we are."""
        super().__init__()
        self.max_redirects = REDIRECTS
        # An archive that ends in .gz must not be unpacked on the way: no content encoding.
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer leads; refuse what is no address, and plain http after https."""
        try:
            target = super().get_redirect_target(resp)
            scheme = urlsplit(target or "").scheme
        except ValueError as error:  # bytes that are no text, brackets that never close
            raise DownloadFailed(f"redirected to what is no address: {error}") from error
        if scheme == "http" and urlsplit(resp.url).scheme == "https":
            raise DownloadFailed(f"redirected from https to plain http ({target})")
        return target


_hosts: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(CONNECTIONS_PER_HOST)
)


# Hosts that could not be reached in this process: one try is enough to see whether they are back.
_out_of_reach: set[str] = set()


@contextlib.contextmanager
def politely(url: str) -> Iterator[None]:
    """Wait until fewer than two downloads of ours are connected to the URL's host."""
    with _hosts[urlsplit(url).netloc]:
        yield


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    if (seconds := number(value)) is not None:
        return float(seconds)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def number(text: str) -> int | None:
    """Return the number that a header gives, if it is one of sensible length."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def in_words(error: Exception, host: str) -> str:
    """Return what went wrong on the way, without the layers of the libraries in between."""
    match error:
        case requests.exceptions.TooManyRedirects():
            words = f"more than {REDIRECTS} redirects"
        case requests.exceptions.SSLError():
            words = f"the certificate is not good: {error}"
        case requests.exceptions.ConnectTimeout():
            words = "no connection in time"
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            words = "no answer in time"
        case _ if "NameResolutionError" in str(error):
            words = f"{host} can't be resolved: no network, or no such host"
        case _ if "Connection refused" in str(error):
            words = f"{host} refuses the connection"
        case _:
            words = f"the connection failed: {error}"
    return words
