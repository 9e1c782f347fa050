"""The only writer: whatever is written is made beside its goal, and moved there when it is whole.

Not here: where things lie (`layout`), or what files contain.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import advice
from ..errors import StorageError
from . import hashing
from .layout import staged


@contextlib.contextmanager
def atomic(goal: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Give a path beside `goal` to write to; move it to `goal` when the block ends well.

    Readers see the old file or the new file, never half of one. When the block raises, `goal` stays
    as it was and nothing is left beside it. A file that is not `lasting` may be lost or damaged
    when the power fails: its readers notice.

    Raises:
        StorageError: the folder can't be made or written to, or the disk is full.
    """
    with storage_errors(goal):
        goal.parent.mkdir(parents=True, exist_ok=True)
        partial = goal.with_name(f".{goal.name}.{secrets.token_hex(4)}.partial")
        partial.touch(exist_ok=False)
        try:
            yield partial
            if lasting:
                flush(partial)
            move(partial, goal)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def resumable(goal: Path) -> Iterator[Path]:
    """Give a path beside `goal` that survives failures; move it to `goal` when the block ends well.

    For work that goes on where a killed process stopped. One process at a time has the path; the
    others wait, and a process that dies gives it free.

    Raises:
        StorageError: the folder can't be made or written to, or the disk is full.
    """
    partial = staged(goal)
    with storage_errors(goal), locked(goal):
        try:
            yield partial
            if partial.exists():
                flush(partial)
                move(partial, goal)
        finally:
            forget_empty(partial)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of the block; one that dies gives it free.

    Raises:
        StorageError: the folder of `path` can't be made or written to.
    """
    from filelock import FileLock  # readers of what is there need none

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock")
        with FileLock(lock):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)  # those who wait for it notice, and lock another


def forget_empty(partial: Path) -> None:
    """Remove a partial file that holds nothing to go on with."""
    if partial.exists() and not partial.stat().st_size:
        partial.unlink()


def sweep(goal: Path) -> None:
    """Remove what killed writers left beside `goal`; call it only where nobody is writing."""
    start, end = f".{goal.name}.", ".partial"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(goal.parent):
            if name.startswith(start) and name.endswith(end) and len(name) == len(start + end) + 8:
                remove(goal.parent / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, as far as it is there and lets itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def hashed(path: Path) -> Iterator[Callable[[bytes | memoryview], object]]:
    """Give a function that appends to a new file, which is hashed meanwhile in another thread.

    What was hashed is remembered (`hashing.remembered`), wherever the file is moved to.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file, ThreadPoolExecutor(1, thread_name_prefix="hashed") as pool:
        behind: Future[Any] = pool.submit(bool)

        def write(data: bytes | memoryview) -> None:
            nonlocal behind
            behind.result()  # never more than a piece behind
            behind = pool.submit(digest.update, data)
            file.write(data)

        yield write
    hashing.remember(path, digest.hexdigest())


def flush(partial: Path) -> None:
    """Return when a finished file, or a folder with all that is in it, is on the disk."""
    with storage_errors(partial):
        inside = [
            os.path.join(where, name)
            for where, _, names in os.walk(partial)
            for name in (*names, "")
        ]
        for path in inside or [str(partial)]:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def move(partial: Path, goal: Path) -> None:
    """Give a finished file or folder its final name; what had that name before is removed.

    Readers of a folder find the old one, none, or the new one: never files of both.
    """
    with storage_errors(goal):
        if not partial.is_dir():
            hashing.move(partial, goal)
        elif not goal.is_dir():
            partial.replace(goal)
        else:
            if not _exchanged(partial, goal):
                _exchange_one_by_one(partial, goal)
            remove(partial)  # that is the old one now


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths exchange what they name, at once, where this system and file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux's fcntl.h and fs.h


def _exchange_one_by_one(new: Path, goal: Path) -> None:
    """Move what is at `goal` aside, then the new folder there; for a moment nothing is there."""
    aside = new.with_name(f".{new.name}.{secrets.token_hex(4)}.partial")  # as `sweep` knows them
    goal.replace(aside)
    try:
        new.replace(goal)
    except OSError:
        aside.replace(goal)
        raise
    aside.replace(new)


@contextlib.contextmanager
def storage_errors(goal: Path) -> Iterator[None]:
    """Turn the disk's refusals into `StorageError`; let every other error pass."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (advice := _ADVICE.get(error.errno)) is None:
            raise
        shown = re.sub(r"^\.(.+)\.partial$", r"\1", goal.name)  # staged for that place
        raise StorageError(
            f"{goal.with_name(shown)} can't be written: {os.strerror(error.errno)}. {advice}"
        ) from error


_ELSEWHERE = (
    f"or {advice.ELSEWHERE} (of data in an object store, another scratch folder with "
    "IMAGESETS_SCRATCH)."
)
_ADVICE = {
    errno.ENOSPC: f"Free some space, {_ELSEWHERE}",
    errno.EDQUOT: f"Your quota is used up: free some space, {_ELSEWHERE}",
    errno.EIO: f"The disk took only a part: free some space, {_ELSEWHERE}",
    errno.EFBIG: f"Files this large are not allowed: raise the limit (ulimit -f), {_ELSEWHERE}",
    errno.EACCES: f"Make the folder writable, {_ELSEWHERE}",
    errno.EPERM: f"Make the folder writable, {_ELSEWHERE}",
    errno.EROFS: f"Mount it writable, {_ELSEWHERE}",
    errno.ENOENT: f"That is no place for files: {_ELSEWHERE[3:]}",
    errno.ELOOP: f"There is a circle of links: mend it, {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"Shorten the name, {_ELSEWHERE}",
    errno.ENOTDIR: f"Something that is no folder is in the way: move it, {_ELSEWHERE}",
    errno.EEXIST: f"Something that is no folder is in the way: move it, {_ELSEWHERE}",
    errno.EISDIR: f"A folder is in the way: move it, {_ELSEWHERE}",
}
