"""SHA-256 of files, and how to tell that a file is still the one that was hashed.

Not here: what a file should hash to (`pipelines.lineage`), remembering what was seen beyond this
process (`pipelines.seen`).

A file counts as the one that was hashed while its inode, size, modification time and change time
(ctime) stand. The first three can be restored after a change; the kernel sets the last one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 1 << 20
_TRIES = 3  # a file that is written to just now may be finished a moment later


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays as it is while nobody writes to a file, and moves when somebody does."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @staticmethod
    def of(found: os.stat_result) -> Identity:
        """Return the identity of a file by its stat."""
        return Identity(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a file by reading all of it.

    looked: when that began; UTC, ISO 8601.
    """

    sha256: str
    identity: Identity
    looked: str


def identity(file: BinaryIO) -> Identity:
    """Return the identity of an open file."""
    return Identity.of(os.fstat(file.fileno()))


class Stopped(Exception):
    """Nobody wants to know the hash any more."""


def now() -> str:
    """Return the time: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(time: str) -> float:
    """Return a time that `now` gave, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without a buffer; a pipe in its place is not waited for.

    Raises:
        OSError: there is no such file, or it is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "something that is no file is in its place", str(path))
        yield file


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex, by reading it.

    Raises:
        OSError: it can't be read, or changes again and again meanwhile.
    """
    return look(path).sha256


def look(path: Path) -> Sight:
    """Read a file and tell what was seen.

    Raises:
        OSError: it can't be read, or changes again and again meanwhile.
    """
    for _ in range(_TRIES):
        with opened(path) as file:
            sight = look_through(file)
            if identity(file) == sight.identity:
                return sight
    raise OSError(errno.EBUSY, "it changes while it is read", str(path))


def look_through(file: BinaryIO, stop: threading.Event | None = None) -> Sight:
    """Read an open file from its start, wherever its position is; leave that as it was.

    Whoever calls this makes sure that the identity still stands afterwards.

    Raises:
        OSError: it can't be read.
        Stopped: `stop` was set.
    """
    descriptor, looked, found = file.fileno(), now(), identity(file)
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE_BYTES, at):
        digest.update(piece)
        at += len(piece)
        if stop is not None and stop.is_set():
            raise Stopped
    sight = Sight(digest.hexdigest(), found, looked)
    _remember(os.fstat(descriptor), sight)
    return sight


# --- What this process hashed itself, as it wrote or as it read -----------------------------------

_known: dict[tuple[int, int], Sight] = {}  # (device, inode) → sight


def remember(path: Path, digest: str) -> None:
    """Remember the SHA-256 of a file whose bytes were hashed as they came."""
    found = path.stat()
    _remember(found, Sight(digest, Identity.of(found), now()))


def remembered(where: Path | int) -> Sight | None:
    """Return what this process saw of a file (or descriptor), if nobody wrote to it since.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(where)
    sight = _known.get((found.st_dev, found.st_ino))
    return sight if sight is not None and sight.identity == Identity.of(found) else None


def move(source: Path, goal: Path) -> None:
    """Rename a file; what is remembered of it goes with it.

    Raises:
        OSError: it can't be renamed.
    """
    sight = remembered(source)
    source.replace(goal)  # which moves the change time
    if sight is not None:
        found = goal.stat()
        _remember(found, replace(sight, identity=Identity.of(found)))


def forget() -> None:
    """Forget what this process saw: from here on, files are read again."""
    _known.clear()


def _remember(found: os.stat_result, sight: Sight) -> None:
    _known[found.st_dev, found.st_ino] = sight
