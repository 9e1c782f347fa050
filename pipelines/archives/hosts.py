"""Hosts, as all processes of a person on this machine know them: how many of ours ask one at once.

At most two connections to a host are open, and none is opened while it wants to be left alone
(Retry-After), whichever of our processes was told so. Both are files in the person's cache: a lock
for each connection, which the system lifts when its process ends, and a note of until when to wait.
Where there is no such folder to write to, every process is polite for itself.

Processes of several machines meet elsewhere besides, where somebody says so (`beyond`).

Not here: how a host is asked (`web`), or what one process thinks of a host (`web.out_of_reach`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import requests
from filelock import FileLock, Timeout

from ..errors import StorageError
from ..store import cache, writing
from . import web

CONNECTIONS = 2
LONGEST_S = 3600.0  # that what a host asked for is remembered: it may mean less by then
POLL_S = 0.1

logger = logging.getLogger(__name__)


class Beyond(Protocol):
    """What the processes of several machines know of hosts."""

    def politely(
        self, host: str, say: Callable[[], object]
    ) -> contextlib.AbstractContextManager[None]:
        """Be one of the two that are connected to a host at a time; `say` that we wait."""

    def wait_until(self, host: str, at: float) -> None:
        """Note until when a host wants to be left alone."""

    def noted(self, host: str) -> float:
        """Return until when a host wants to be left alone."""


beyond: Beyond | None = None  # what a process sets that works for several machines
_here: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(CONNECTIONS)
)
_told: set[str] = set()  # hosts that this process said it waits for


@contextlib.contextmanager
def politely(url: str) -> Iterator[None]:
    """Be one of the two of ours who are connected to the URL's host at a time."""
    with _here[_name(url)], contextlib.ExitStack() as held:
        locks = _locks(url)
        while locks:
            try:
                if any(_is_ours(lock, held) for lock in locks):
                    break
            except OSError:
                break  # this disk knows no locks
            _say_once(url)
            time.sleep(POLL_S)
        if beyond:
            with contextlib.suppress(StorageError):  # then we are as polite as this machine can be
                held.enter_context(beyond.politely(_name(url), lambda: _say_once(url)))
        yield


def retry_after_s(url: str, response: requests.Response) -> float | None:
    """Return for how long the URL's host wants to be left alone, if its answer says; note it."""
    seconds = web.retry_after(response)
    if seconds:
        until = time.time() + min(seconds, LONGEST_S)
        if beyond:
            with contextlib.suppress(StorageError):
                beyond.wait_until(_name(url), until)
        with (
            contextlib.suppress(OSError, StorageError),  # then nobody else knows
            writing.atomic(_note(url), lasting=False) as partial,
        ):
            partial.write_text(str(until), "ascii")
    return seconds


def still_to_wait_s(url: str) -> float:
    """Return for how many seconds the URL's host wants to be left alone from now on."""
    until = 0.0
    with contextlib.suppress(OSError, StorageError, ValueError):
        until = float(_note(url).read_text("ascii"))
    if beyond:
        with contextlib.suppress(StorageError, ValueError):
            until = max(until, beyond.noted(_name(url)))
    left = until - time.time()
    return left if 0 < left <= LONGEST_S else 0.0  # the clock may have been set


def folder() -> Path:
    """Return where the processes of a person meet."""
    return cache.folder() / "hosts"


def _locks(url: str) -> list[FileLock]:
    """Return a lock for each connection that may be open; none where they can't be had."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
    except (OSError, StorageError):
        return []
    return [FileLock(folder() / f"{_name(url)}.{number}.lock") for number in range(CONNECTIONS)]


def _is_ours(lock: FileLock, held: contextlib.ExitStack) -> bool:
    """Take a lock for as long as `held` is open, if nobody has it."""
    try:
        held.enter_context(lock.acquire(blocking=False))
    except Timeout:
        return False
    return True


def _say_once(url: str) -> None:
    if (name := _name(url)) not in _told:
        _told.add(name)
        host = urlsplit(url).netloc.rpartition("@")[2]
        logger.warning(
            "waiting for %s: %d connections of other processes are open", host, CONNECTIONS
        )


def _note(url: str) -> Path:
    return folder() / f"{_name(url)}.wait"


def _name(url: str) -> str:
    """Return a host as a file is called; the user and the password are none of its name."""
    return quote(urlsplit(url).netloc.rpartition("@")[2].lower(), safe=":")
