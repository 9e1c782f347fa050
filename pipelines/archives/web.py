"""Asks a server politely: few connections, few redirects, never for ever, and no secret shown.

Not here: what is done with the answer (`resuming` fetches, `probes` looks), or what all processes
know of a host (`hosts`). Another rule that every request must keep goes into `answer`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3

from .. import __version__
from ..errors import DownloadFailed
from .patience import Patience

USER_AGENT = f"imagesets/{__version__} (benchmark image datasets; python-requests)"
REDIRECTS = 5


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
            # A duplicate of our own: TLS takes the socket away from the one who opened it.
            self._connections.append(connection.dup())
        if self._has_hung_up:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connections so far; reading from one comes to its end."""
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
    times = (patience.connect_s, patience.read_s)
    auth = requests.utils.get_auth_from_url(url)
    with Watchdog(patience.answer_s) as watchdog, _Session(watchdog, headers) as session:
        try:
            for _ in range(REDIRECTS + 1):
                who = auth if any(auth) else None
                with session.request(
                    method, url, auth=who, timeout=times, stream=True, allow_redirects=False
                ) as response:
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

    def __init__(self, watchdog: Watchdog, headers: dict[str, str]) -> None:
        super().__init__()
        # An archive that ends in .gz must not be unpacked on the way: no content encoding.
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers})
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


# Hosts that could not be reached the last time: one try is enough to see whether they are back.
out_of_reach: set[str] = set()
_out_of_reach_lock = threading.Lock()


def note_out_of_reach(host: str) -> bool:
    """Note that a host is out of reach; return whether that is news."""
    with _out_of_reach_lock:
        is_news = host not in out_of_reach
        out_of_reach.add(host)
        return is_news


def retry_after(response: requests.Response) -> float | None:
    """Return how many seconds an answer asks to wait, if it does."""
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
            return str(error)
        case requests.exceptions.SSLError():
            return f"the certificate is not good: {error}"
        case requests.exceptions.ConnectTimeout():
            return "no connection in time"
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            return "no answer in time"
    if "NameResolutionError" in str(error):
        return f"{host} can't be resolved: no network, or no such host"
    refused = "Connection refused" in str(error)
    return f"{host} refuses the connection" if refused else f"the connection failed: {error}"
