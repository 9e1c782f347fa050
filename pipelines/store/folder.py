"""Where artefacts are kept: what a `Store` must be able to do, and a folder that does it.

Paths in a store are relative and use `/`, so that they mean the same on every machine. Not here:
which paths there are (`layout`), or what is kept there. Another kind of store (an object store)
would be a module beside this one with the same five verbs, and a local copy of what is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .. import advice
from ..errors import StorageError
from . import hashing, writing
from .hashing import Identity


class Store(Protocol):
    """What is done with a place where artefacts are kept."""

    def stat(self, path: str) -> Identity | None:
        """Return what tells that a file or folder is the one from before; None without one."""

    def local(self, path: str) -> Path:
        """Return where a file or folder can be read, if it is there, and made if it is not."""

    def publish(self, staged: Path, path: str) -> None:
        """Move a finished local file, or a folder as a whole, to its place.

        Readers find what was there before, nothing, or what is new: never some of each. Nothing is
        left at `staged`, which may be the local place of another path: so files are renamed.

        Raises:
            StorageError: the store can't be written to, or something else is in its place.
        """

    def read(self, path: str) -> bytes | None:
        """Return what a small file holds; None where it can't be read."""

    def swap(
        self, path: str, expected: bytes | None, new: bytes | None, *, lasting: bool = True
    ) -> None:
        """Write a small file, or remove it, if it still holds what is expected; None is no file.

        One that is not `lasting` may be lost or damaged when the power fails: its readers notice.

        Raises:
            StorageError: the store can't be written to, or the file holds something else.
        """


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on this machine. Who swaps or publishes holds the lock of the artefact."""

    root: Path

    def stat(self, path: str) -> Identity | None:
        """Return the identity of a file or folder; None without one."""
        try:
            return hashing.identity_of(self.local(path))
        except OSError:
            return None

    def local(self, path: str) -> Path:
        """Return the path itself."""
        return self.root / path

    def publish(self, staged: Path, path: str) -> None:
        """Rename a file that is on the disk already; flush a folder, and exchange it for the old.

        Raises:
            StorageError: the folder can't be written to, or something else is in its place.
        """
        goal = self.local(path)
        with writing.storage_errors(goal):
            goal.parent.mkdir(parents=True, exist_ok=True)
        if staged.is_dir():
            writing.flush(staged)
        writing.move(staged, goal)

    def read(self, path: str) -> bytes | None:
        """Return what a small file holds; None where it can't be read."""
        try:
            with hashing.opened(self.local(path)) as file:
                return file.read()
        except OSError:
            return None

    def swap(
        self, path: str, expected: bytes | None, new: bytes | None, *, lasting: bool = True
    ) -> None:
        """Write a small file, or remove it, if it still holds what is expected.

        Raises:
            StorageError: the folder can't be written to, or the file holds something else.
        """
        place = self.local(path)
        if self.read(path) != expected:
            raise StorageError(
                f"{place} was written by somebody else meanwhile, so it is left as it is. "
                f"{advice.AGAIN} when nobody else writes to this data folder."
            )
        if new is None:
            place.unlink(missing_ok=True)
        else:
            with writing.atomic(place, lasting=lasting) as partial:
                partial.write_bytes(new)
