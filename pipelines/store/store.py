"""A store: where artefacts are kept, and what must be possible there.

Paths in a store are relative and use `/`, so that they mean the same on every machine. What is
made, and what is read, lies on this machine meanwhile: in a folder (`folder`) these are the
artefacts themselves; of a bucket (`bucket`) they are copies in its scratch folder. A new kind of
store is a module beside these two. Not here: which paths there are (`layout`), or what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .hashing import Identity, Sight


@dataclass(frozen=True, slots=True)
class Taking:
    """What appears together with an artefact that takes its place.

    said: its provenance, as it is written.
    sha256: of the artefact.
    before: the provenance that was there when it was decided to make it; None without one.
    past: where that is kept as provenance of the past; None where it is not worth keeping.
    beside: path and content of its sidecar, where it has one.
    """

    said: bytes
    sha256: str
    before: bytes | None = None
    past: str | None = None
    beside: tuple[str, bytes] | None = None


class Store(Protocol):
    """What is done with a place where artefacts are kept."""

    @property
    def is_folder(self) -> bool:
        """Whether its paths are those of files here.

        Then provenance waits until its artefact has taken its place, and what is written beside an
        artefact counts. Elsewhere both are there at once, and only copies for people lie beside.
        """

    def address(self, path: str) -> str:
        """Return what people call a path in it: the path of a file, or a URL without secrets."""

    def stat(self, path: str) -> Identity | None:
        """Return what tells that a file or folder is the one from before; None without one."""

    def look(self, path: str, *, anew: bool = False) -> Sight:
        """Return what was seen of an artefact; read all its bytes `anew`, or where nobody has.

        Raises:
            OSError: it is not there, or can't be read.
        """

    def local(self, path: str) -> Path:
        """Return where an artefact can be read here, or the archives below a folder.

        Raises:
            StorageError: it is elsewhere, and can't be had.
        """

    def place(self, path: str) -> Path:
        """Return where something is made here, noted or locked; nothing is fetched."""

    def read(self, path: str) -> bytes | None:
        """Return what a small file holds; None where it can't be read."""

    def swap(
        self, path: str, expected: bytes | None, new: bytes | None, *, lasting: bool = True
    ) -> None:
        """Write a small file, or remove it, if it still holds what is expected; None is no file.

        One that is not `lasting` may be lost or damaged when the power fails: its readers notice.

        Raises:
            Conflict: the file holds something else.
            StorageError: the store can't be written to.
        """

    def publish(self, staged: Path, path: str) -> None:
        """Move a finished local file, or a folder as a whole, to its place.

        Readers find what was there before, nothing, or what is new: never some of each. Nothing is
        left at `staged`, which may be the local place of another path: so files are renamed.

        Raises:
            StorageError: the store can't be written to, or something else is in its place.
        """

    def take(self, path: str, made: Path | None, taking: Taking) -> None:
        """Let an artefact and its provenance appear together.

        Args:
            path: of the artefact.
            made: what was made, at its staged place; None where what is in its place stays.
            taking: its provenance, and what becomes of the one before.

        Raises:
            Conflict: it was made by somebody else meanwhile.
            StorageError: the store can't be written to.
        """

    def retire(self, path: str, said: bytes, past: str) -> None:
        """Let the provenance of an artefact, as it lay there, be one of the past, at `past`.

        Raises:
            Conflict: another one is there by now.
            StorageError: the store can't be written to.
        """

    def names(self, folder: str) -> Mapping[str, Identity]:
        """Return the paths of all small files below a folder, in order, and what tells of each."""

    def at_once(self, paths: Iterable[str]) -> Store:
        """Return the store as it is now, to look at some artefacts: faster than one by one.

        What was returned so is returned as it is, whatever the artefacts.

        Raises:
            MadeByNewer: the provenance of one can only be read by a newer Imagesets.
        """

    def forget(self, path: str) -> None:
        """Remove a small file."""
