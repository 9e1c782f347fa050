"""A folder on this machine as a store: whatever is at a path is the artefact itself.

An artefact and its provenance appear together: provenance is written as `….json.next`, the artefact
takes its place, its provenance takes its own. Wherever a process dies in between, `.next` is the
provenance of the artefact if it knows its bytes, and nothing if not. Not here: who asks for what.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import advice
from ..errors import Conflict
from . import hashing, layout, seen, writing
from .hashing import Identity, Sight
from .store import Taking


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on this machine. Who swaps or publishes holds the lock of the artefact."""

    root: Path
    is_folder = True

    def address(self, path: str) -> str:
        """Return the path of a file."""
        return str(self.root / path)

    def stat(self, path: str) -> Identity | None:
        """Return the identity of a file or folder; None without one."""
        try:
            return hashing.identity_of(self.place(path))
        except OSError:
            return None

    def look(self, path: str, *, anew: bool = False) -> Sight:
        """Return what was seen of a file or folder, read where nobody has since it last changed.

        Raises:
            OSError: it can't be read.
        """
        return seen.look_anew(self, path) if anew else seen.look(self, path)

    def local(self, path: str) -> Path:
        """Return the path itself."""
        return self.root / path

    def place(self, path: str) -> Path:
        """Return the path itself."""
        return self.root / path

    def publish(self, staged: Path, path: str) -> None:
        """Rename a file that is on the disk already; flush a folder, and exchange it for the old.

        Raises:
            StorageError: the folder can't be written to, or something else is in its place.
        """
        goal = self.place(path)
        with writing.storage_errors(goal):
            goal.parent.mkdir(parents=True, exist_ok=True)
        if staged.is_dir():
            writing.flush(staged)
        writing.move(staged, goal)

    def read(self, path: str) -> bytes | None:
        """Return what a small file holds; None where it can't be read."""
        try:
            with hashing.opened(self.place(path)) as file:
                return file.read()
        except OSError:
            return None

    def swap(
        self, path: str, expected: bytes | None, new: bytes | None, *, lasting: bool = True
    ) -> None:
        """Write a small file, or remove it, if it still holds what is expected.

        Raises:
            Conflict: the file holds something else.
            StorageError: the folder can't be written to.
        """
        place = self.place(path)
        self._expect(path, expected)
        if new is None:
            place.unlink(missing_ok=True)
        else:
            with writing.atomic(place, lasting=lasting) as partial:
                partial.write_bytes(new)

    def _expect(self, path: str, content: bytes | None) -> None:
        if self.read(path) != content:
            raise Conflict(
                f"{self.place(path)} was written by somebody else meanwhile, so it is left as it "
                f"is. {advice.AGAIN} when nobody else writes to this data folder."
            )

    def take(self, path: str, made: Path | None, taking: Taking) -> None:
        """Let an artefact and its provenance appear together.

        Raises:
            StorageError: the folder can't be written to, or something else is in its place.
        """
        pending = layout.pending_lineage(path)
        self.swap(pending, self.read(pending), taking.said)
        if taking.beside is not None:
            beside, content = taking.beside
            if (there := self.read(beside)) != content:
                self.swap(beside, there, content, lasting=False)
        if made is not None:
            self.publish(made, path)
        if taking.past is not None:
            self.publish(self.place(layout.lineage(path)), taking.past)
        self.publish(self.place(pending), layout.lineage(path))

    def retire(self, path: str, said: bytes, past: str) -> None:
        """Let the provenance of an artefact, as it lay there, be one of the past.

        Raises:
            Conflict: another one is there by now.
            StorageError: the folder can't be written to.
        """
        self._expect(layout.lineage(path), said)
        self.publish(self.place(layout.lineage(path)), past)

    def names(self, folder: str) -> dict[str, Identity]:
        """Return the paths of all files below a folder, in order, and what tells of each."""
        found = {}
        for where, _, names in os.walk(self.place(folder)):
            for name in names:
                file = Path(where, name)
                found[file.relative_to(self.root).as_posix()] = Identity.of(file.lstat())
        return dict(sorted(found.items()))

    def at_once(self, paths: Iterable[str]) -> Folder:
        """Return the folder itself: asking it costs nothing."""
        return self

    def forget(self, path: str) -> None:
        """Remove a small file."""
        self.place(path).unlink(missing_ok=True)
