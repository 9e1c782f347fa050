"""A file that grows in place while its bytes arrive, with the hashes of what it has so far.

After a kill at any byte, the next process goes on with what is there. Beside the file lies a note
of the validator (ETag) that the server gave. Not here: where the bytes come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
from pathlib import Path

from .. import advice
from ..declarations import Archive
from ..errors import StorageError
from ..progress import Watch, silent
from ..redaction import without_secrets
from ..store import hashing
from .readers import CHUNK_BYTES
from .recognition import HEAD_BYTES, Digests


def note(partial: Path) -> Path:
    """Return where the validator of a file that grows is noted."""
    return partial.with_name(partial.name + ".json")


class Growing:
    """A file that grows in place, and the hashes of what it has so far.

    Opening one hashes what an earlier process left. Nothing is buffered: whatever was appended is
    in the file when the process is killed.
    """

    def __init__(self, path: Path, watch: Watch = silent, *, git_blob: bool = False) -> None:
        """Go on with the file at `path`, or begin it; say by `git_blob` if that is wanted, too."""
        self._path, self._note, self._advance = path, note(path), watch
        self._with_git_blob = git_blob
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
        """Size and hashes of what is there."""
        git_blob = None
        if self._with_git_blob:  # which begins with the length: known at the end, so read again
            with self._path.open("rb") as file:
                git_blob = hashing.git_blob(file)
        return Digests(self.size, self._md5.hexdigest(), self._sha256.hexdigest(), git_blob)

    def expect(self, size_bytes: int) -> None:
        """Take how many bytes it will have.

        Raises:
            StorageError: there is no room for them.
        """
        self._advance.expect(size_bytes)
        missing, free = size_bytes - self.size, shutil.disk_usage(self._path.parent).free
        if free < missing:
            raise StorageError(
                f"{self._path.parent}: {missing:,} bytes are still to come, but only {free:,} are "
                f"free. Free some space, or {advice.ELSEWHERE}."
            )

    def most_bytes(self, archive: Archive) -> int:
        """Return how many bytes it may have, of which nobody said before how many they are.

        Whoever sends them may not fill the disk: half of what is free is left.
        """
        free = shutil.disk_usage(self._path.parent).free
        return min(archive.most_bytes, self.size + free // 2)

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
            noted = json.loads(self._note.read_text("utf-8")) if _is_ours(self._note) else {}
            if noted["url"] == without_secrets(url):
                return str(noted["validator"])
        return None

    def note_validator(self, url: str, validator: str | None) -> None:
        """Remember the validator for a later process, or that there is none."""
        self.forget_validator()  # and whatever else may be in its place, which is not written to
        if validator:
            noted = {"url": without_secrets(url), "validator": validator}
            with self._note.open("x", encoding="utf-8") as file:
                json.dump(noted, file)

    def forget_validator(self) -> None:
        """Remove the note."""
        self._note.unlink(missing_ok=True)

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
