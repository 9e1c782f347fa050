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
import io
import json
import logging
import os
import random
import re
import socket
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3

from .. import __version__
from ..errors import DownloadFailed, OutOfReach, TooSlow, WrongBytes
from ..progress import Advance, silent
from ..redaction import without_secrets

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
    answer_s: until bytes of the file arrive, and between two pieces of it, whatever else the server
        says meanwhile: redirects, headers, a handshake. One that takes longer is left.
    tries: in a row without a single new byte; one only for a host that was out of reach before.
        So often, too, an answer may begin anew what had arrived.
    backoff_s, longest_wait_s: the first pause, doubled each time, and the longest one; a server
        that asks for more (Retry-After), or for as much at every try, is left.
    least_rate: bytes per second; a server below it for `rate_window_s` is left. 0 bears anything.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    answer_s: float = 120.0
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

    def __init__(self, path: Path, advance: Advance = silent) -> None:
        """Go on with the file at `path`, or begin it."""
        self.path = path
        self._advance = advance
        self._file = _opened(path)
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
            if not _is_ours(note(self.path)):
                return None
            noted = json.loads(note(self.path).read_text("utf-8"))
            known = noted["url"] == without_secrets(url)
            return str(noted["validator"]) if known else None
        return None

    def note_validator(self, url: str, validator: str | None) -> None:
        """Remember the validator for a later process, or that there is none."""
        self.forget_validator()  # and whatever else may be in its place, which is not written to
        if validator:
            noted = {"url": without_secrets(url), "validator": validator}
            with note(self.path).open("x", encoding="utf-8") as file:
                json.dump(noted, file)

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


def _is_ours(path: Path) -> bool:
    """Whether a regular file is at a path, and nowhere else: writing to it changes no other."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _opened(path: Path) -> io.FileIO:
    """Open a file of our own to read it and append to it.

    A link or a pipe in its place is removed: what is at the other end must not change.
    """
    with contextlib.suppress(FileNotFoundError):
        if not (_is_ours(path) or stat.S_ISDIR(path.lstat().st_mode)):
            path.unlink()
    # Should a link come into its place just now, it is not followed; nor is a pipe waited for.
    never = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return io.FileIO(path, "ab+", opener=lambda name, flags: os.open(name, flags | never, 0o666))


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
        OutOfReach: it did not answer as it should, however often it was asked.
        DownloadFailed: it can't be had here. What arrived is kept where it may be part of the file,
            and thrown away where it can't be.
        WrongBytes: a file is there, and can't be the one declared.
        OSError: the file can't be written.
    """
    with politely(url):
        transfer = _Transfer(url, growing, size_bytes, look, identify, patience)
        transfer.run()
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
        self._begun_anew, self._asked_s = 0, 0.0  # however much arrives between
        self._pace = _Pace(patience)  # over all answers: one that is cut early is no faster
        self.is_pieced = growing.size > 0

    def run(self) -> None:
        failures, host = 0, urlsplit(self._url).netloc.rpartition("@")[2]
        while (have := self._growing.size) < self._size_bytes:
            tries = 1 if host in _out_of_reach else self._patience.tries
            wait_s = None
            try:
                self._once(have)
                reason = f"the answer ended after {self._growing.size:,} bytes"
            except _Again as again:
                reason, wait_s = str(again), again.wait_s
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = in_words(error, host)
                tries = 1 if isinstance(error, HungUp) else tries  # it has cost enough
            if self._growing.size >= self._size_bytes:
                break
            failures = 0 if self._growing.size > have else failures + 1
            if failures >= tries:
                times = f" ({failures} times)" if failures > 1 else ""
                raise OutOfReach(f"{reason}{times}", is_news=_note_out_of_reach(host))
            pause = self._pause(failures, wait_s)
            text = f"{without_secrets(self._url)}: {without_secrets(reason, self._url)}"
            logger.info("%s; trying again in %.1f s", text, pause)
            time.sleep(pause)
            if wait_s is not None:
                self._pace.leave_out(pause)  # what was asked for is not slowness
        _out_of_reach.discard(host)

    def _once(self, have: int) -> None:
        """Ask once, for what is missing, and append what comes."""
        headers = {}
        if have and self._ranges:
            headers["Range"] = f"bytes={have}-"
            if validator := self._growing.validator(self._url):
                headers["If-Range"] = validator
        with answer("GET", self._url, headers, self._patience) as (response, watchdog):
            if not self._goes_on(response, have if headers else 0) and have:
                self._begin_anew()
            etag = response.headers.get("ETag", "")
            strong = etag if etag.startswith('"') else response.headers.get("Last-Modified")
            self._growing.note_validator(self._url, strong)
            self._append(response, watchdog)

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
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._growing.restart()
        self._begun_anew += 1
        if self._begun_anew > self._patience.tries:
            raise DownloadFailed(f"what had arrived was begun anew {self._begun_anew} times")

    def _append(self, response: requests.Response, watchdog: Watchdog) -> None:
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
            watchdog.wait_anew()
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
            self._asked_s += asked_s
            if asked_s > longest_s or self._asked_s > longest_s * self._patience.tries:
                raise DownloadFailed(f"the server asks to wait {self._asked_s:.0f} s")
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


class HungUp(requests.exceptions.Timeout):
    """We hung up on a server that gave nothing of the file for too long."""


class Watchdog:
    """Hangs up on a server that gives nothing of the file for too long.

    A timeout of a socket ends only complete silence. A server that sends a byte of a header each
    second, or `100 Continue` for ever, or never ends its handshake, would be waited for for days.
    """

    def __init__(self, patience_s: float) -> None:
        """Hang up in so many seconds, unless told to wait anew."""
        self._patience_s = patience_s
        self._connections: list[socket.socket] = []
        self._lock = threading.Condition()
        self._is_over = self._has_hung_up = False
        self.wait_anew()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            self._lock.notify()
        self._thread.join()
        self.hang_up()

    def wait_anew(self) -> None:
        """Begin to count the seconds again: something of the file has arrived."""
        self._deadline = time.monotonic() + self._patience_s

    def watch(self, connection: socket.socket) -> None:
        """Include a connection."""
        with self._lock:
            # A duplicate of our own: TLS takes the socket away from whoever opened it.
            self._connections.append(connection.dup())
        if self._has_hung_up:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connections so far; whoever reads from one sees its end."""
        with self._lock:
            for connection in self._connections:
                with connection, contextlib.suppress(OSError):  # ended by the server
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections.clear()

    def check(self) -> None:
        """Raise `HungUp` if the time is over: what seems to be an answer is a part of one."""
        if self._has_hung_up:
            raise HungUp(f"nothing of the file arrived within {self._patience_s:g} s")

    def _run(self) -> None:
        with self._lock:
            while not self._is_over and (left := self._deadline - time.monotonic()) > 0:
                self._lock.wait(left)
            self._has_hung_up = not self._is_over
        if self._has_hung_up:
            self.hang_up()


@contextlib.contextmanager
def answer(
    method: str, url: str, headers: dict[str, str], patience: Patience
) -> Iterator[tuple[requests.Response, Watchdog]]:
    """Give a server's answer with its body unread, and a watchdog to be told what arrives of it.

    Few redirects are followed, and none from https to http; of their own bodies nothing is read.
    A password goes to no other host.

    Raises:
        DownloadFailed: a redirect leads nowhere.
        HungUp: nothing of the body arrived in time.
        requests.RequestException, urllib3.exceptions.HTTPError: the connection failed.
    """
    timeouts = (patience.connect_s, patience.read_s)
    auth = requests.utils.get_auth_from_url(url)
    with Watchdog(patience.answer_s) as watchdog, _Session(watchdog) as session:
        try:
            for _ in range(REDIRECTS + 1):
                response = session.request(
                    method,
                    url,
                    headers=headers,
                    auth=auth if any(auth) else None,
                    timeout=timeouts,
                    stream=True,
                    allow_redirects=False,
                )
                with response:
                    watchdog.check()
                    target = _redirect_target(response)
                    if target is None:
                        yield response, watchdog
                        watchdog.check()
                        return
                session.close()  # no connection is used twice: what was not read is still in it
                watchdog.hang_up()
                if session.should_strip_auth(url, target):  # type: ignore[no-untyped-call]
                    auth = ("", "")
                url = target
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            watchdog.check()
            raise
        raise DownloadFailed(f"more than {REDIRECTS} redirects")


def _redirect_target(response: requests.Response) -> str | None:
    """Return where an answer leads, if it is a redirect.

    Raises:
        DownloadFailed: to what is no address, or from https to plain http.
    """
    if not response.is_redirect:
        return None
    try:
        location = response.headers["Location"].encode("latin-1").decode("utf-8")
        target = urljoin(response.url, requests.utils.requote_uri(location))
        scheme, host = urlsplit(target).scheme, urlsplit(target).hostname
        _ = urlsplit(target).port
    except (ValueError, requests.exceptions.InvalidURL) as error:  # no text, or no such port
        raise DownloadFailed(f"redirected to what is no address: {error}") from error
    if scheme not in ("http", "https") or not host:
        raise DownloadFailed(f"redirected to what is no address of the web ({target})")
    if scheme == "http" and urlsplit(response.url).scheme == "https":
        raise DownloadFailed(f"redirected from https to plain http ({target})")
    return target


class _Session(requests.Session):
    """A session whose connections are watched, and which follows no redirect by itself."""

    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        # An archive that ends in .gz must not be unpacked on the way: no content encoding.
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(watchdog))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: whatever else is returned, requests reads the redirect's body, all of it."""
        return None


class _Adapter(requests.adapters.HTTPAdapter):
    """Shows each new connection to a watchdog, before a byte is exchanged over it."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of a host, whose connections will be watched."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        watchdog = self._watchdog

        class Watched(pool.ConnectionCls):  # type: ignore[misc]  # http's, https's or a proxy's
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                watchdog.watch(connection)
                return connection

        pool.ConnectionCls = Watched
        return pool


_hosts: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(CONNECTIONS_PER_HOST)
)

# Hosts that could not be reached the last time: one try is enough to see whether they are back.
_out_of_reach: set[str] = set()
_out_of_reach_lock = threading.Lock()


def _note_out_of_reach(host: str) -> bool:
    """Note that a host is out of reach; return whether that is news."""
    with _out_of_reach_lock:
        is_news = host not in _out_of_reach
        _out_of_reach.add(host)
        return is_news


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
        case HungUp():
            words = str(error)
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
