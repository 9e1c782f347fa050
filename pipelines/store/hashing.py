"""SHA-256 of files and folders, and how to tell that one is still the one that was hashed.

A file counts as the one that was hashed while its inode, size, modification time and change time
(ctime) stand. The first three can be restored after a change; the kernel sets the last one. A
folder is hashed as the list of its files, as `sha256sum` prints it, and stands while all of them do
and no other file joins them.

Not here: what a file should hash to (`provenance`), or remembering what was seen beyond this
process (`seen`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from . import clock

NO_FILE = "something that is no file is in its place"
_PIECE_BYTES = 1 << 20
_TRIES = 3  # a file that is written to just now may be finished a moment later


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays as it is while a file is not written to, and moves when it is.

    Of a folder: the sizes of its files added up, their latest times, and in place of the inode a
    number that stands for the identities of all of them.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @staticmethod
    def of(found: os.stat_result) -> Identity:
        """Return the identity of a file by its stat."""
        return Identity(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a folder, and what it holds; its path is relative to the folder."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a file or folder by reading all of it.

    looked: when that began; UTC, ISO 8601.
    files: of a folder, in the order of their names; None of a file.
    """

    sha256: str
    identity: Identity
    looked: str
    files: tuple[File, ...] | None = None


class Stopped(Exception):
    """Nobody wants to know the hash any more."""


def identity(file: BinaryIO) -> Identity:
    """Return the identity of an open file."""
    return Identity.of(os.fstat(file.fileno()))


def identity_of(path: Path) -> Identity:
    """Return the identity of a file or folder.

    Raises:
        OSError: there is none, or something else.
    """
    return joined_identity({name: _identity_of_file(path / name) for name in names(path)})


def _identity_of_file(path: Path) -> Identity:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return Identity.of(found)


def sha256_of(files: Iterable[File]) -> str:
    """Return the SHA-256 of a folder: of a line `<SHA-256>  <name>` for each file, in order."""
    lines = (f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def git_blob(file: BinaryIO) -> str:
    """Return what git calls the bytes of an open file: a SHA-1 over their length and themselves."""
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without a buffer; a pipe in its place is not waited for.

    Raises:
        OSError: there is no such file, or it is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, NO_FILE, str(path))
        yield file


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file or folder, in hex, by reading it.

    Raises:
        OSError: it can't be read, or changes again and again meanwhile.
    """
    return look(path).sha256


def look(path: Path) -> Sight:
    """Read a file, or all files of a folder, and tell what was seen.

    Raises:
        OSError: it can't be read, or changes again and again meanwhile.
    """
    if not path.is_dir():
        return _look_at_file(path)
    for _ in range(_TRIES):
        try:
            sight = joined({name: _look_at_file(path / name) for name in names(path)})
            if identity_of(path) == sight.identity:
                return sight
        except FileNotFoundError:  # another folder takes its place just now
            continue
    raise OSError(errno.EBUSY, "it changes while it is read", str(path))


def _look_at_file(path: Path) -> Sight:
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
    descriptor, looked, found = file.fileno(), clock.now(), identity(file)
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE_BYTES, at):
        digest.update(piece)
        at += len(piece)
        if stop is not None and stop.is_set():
            raise Stopped
    sight = Sight(digest.hexdigest(), found, looked)
    _remember(os.fstat(descriptor), sight)
    return sight


# --- Files and folders alike ----------------------------------------------------------------------
# Each is a mapping of names to files: that of a folder has all their names, that of a file only "",
# and `path / ""` is the path itself.


def names(path: Path) -> list[str]:
    """Return the names of all files of a folder, in order; of anything else "" alone.

    Raises:
        OSError: the folder can't be read.
    """
    if not path.is_dir():
        return [""]

    def refuse(error: OSError) -> None:
        raise error

    return sorted(
        (Path(where) / name).relative_to(path).as_posix()
        for where, folders, files in os.walk(path, onerror=refuse)
        for name in (*files, *(n for n in folders if os.path.islink(os.path.join(where, n))))
    )


def joined_identity(parts: Mapping[str, Identity]) -> Identity:
    """Return the identity of a file or folder by those of its files."""
    if [*parts] == [""]:
        return parts[""]
    stands_for = hashlib.sha256(repr(sorted(parts.items())).encode("utf-8", "backslashreplace"))
    return Identity(
        sum(part.size_bytes for part in parts.values()),
        max((part.mtime_ns for part in parts.values()), default=0),
        max((part.ctime_ns for part in parts.values()), default=0),
        int.from_bytes(stands_for.digest()[:7]),
    )


def joined(parts: Mapping[str, Sight]) -> Sight:
    """Return what was seen of a file or folder by what was seen of its files."""
    if [*parts] == [""]:
        return parts[""]
    files = tuple(File(n, s.identity.size_bytes, s.sha256) for n, s in sorted(parts.items()))
    identities = {name: sight.identity for name, sight in parts.items()}
    looked = min((sight.looked for sight in parts.values()), default=clock.now())
    return Sight(sha256_of(files), joined_identity(identities), looked, files)


# --- What this process hashed itself, as it wrote or as it read -----------------------------------

_known: dict[tuple[int, int], Sight] = {}  # (device, inode) → sight


def remember(path: Path, digest: str) -> None:
    """Remember the SHA-256 of a file whose bytes were hashed as they came."""
    found = path.stat()
    _remember(found, Sight(digest, Identity.of(found), clock.now()))


def remembered(where: Path | int) -> Sight | None:
    """Return what this process saw of a file, descriptor or folder, if nobody wrote to it since.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(where)
    if isinstance(where, Path) and stat.S_ISDIR(found.st_mode):
        parts = {name: remembered(where / name) for name in names(where)}
        sights = {name: sight for name, sight in parts.items() if sight is not None}
        return joined(sights) if len(sights) == len(parts) else None
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
