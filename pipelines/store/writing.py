"""Where things live under the data folder, and the one writer of everything there.

Not here: what the files contain. All paths of artefacts are relative to the data folder and use
`/`, so that they mean the same on every machine.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import StorageError
from . import hashing
from .layout import staged


@contextlib.contextmanager
def atomic(goal: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Give a path beside `goal` to write to; move it to `goal` when the block ends well.

    Readers see the old file or the new file, never half of one. When the block raises, `goal` stays
    as it was and nothing is left beside it. A file that is not `lasting` may be lost or damaged
    when the power fails: whoever reads it notices.

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
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock")
        with FileLock(lock):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)  # whoever waits for it notices, and locks another


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
                (goal.parent / name).unlink(missing_ok=True)


@contextlib.contextmanager
def hashed(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Give a function that appends to a new file, which is hashed meanwhile in another thread.

    What was hashed is remembered (`hashing.remembered`), wherever the file is moved to.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file, ThreadPoolExecutor(1, thread_name_prefix="hashed") as pool:
        behind: Future[Any] = pool.submit(bool)

        def write(data: bytes) -> None:
            nonlocal behind
            behind.result()  # never more than a piece behind
            behind = pool.submit(digest.update, data)
            file.write(data)

        yield write
    hashing.remember(path, digest.hexdigest())


def flush(partial: Path) -> None:
    """Return when the bytes of a finished file are on the disk."""
    with storage_errors(partial), partial.open("rb+") as file:
        os.fsync(file.fileno())


def move(partial: Path, goal: Path) -> None:
    """Give a finished file its final name."""
    with storage_errors(goal):
        hashing.move(partial, goal)


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


_ELSEWHERE = "or choose another data folder with --data or IMAGESETS_DATA."
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
