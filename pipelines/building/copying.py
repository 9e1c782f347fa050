"""Copying: brings whole artefacts, with their provenance, from one store to another.

Every byte is hashed on the way, and held against provenance; nothing is deleted, and nothing that
is newer is replaced: so it may be repeated, and goes on where it was interrupted. Provenance of the
past stays where it is. Not here: making anything (`workshop`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import products
from ..errors import Conflict, NotAsRecorded, StorageError
from ..store import Provenance, Store, hashing, layout, provenance, writing

Outcome = Literal["copied", "there already", "newer there", "not whole"]
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of an artefact.

    why: it was not copied, where it is not whole.
    """

    path: str
    size_bytes: int
    outcome: Outcome
    why: str = ""


def copy(origin: Store, goal: Store) -> Iterator[Copied]:
    """Copy every artefact that has provenance; yield what became of each, as it is done.

    Raises:
        StorageError: the goal can't be written to, or one of both can't be reached.
        MadeByNewer: provenance of one can only be read by a newer Imagesets.
    """
    for path in provenance.artefacts(origin):
        yield _copy(origin, goal, path)


def _copy(origin: Store, goal: Store, path: str) -> Copied:
    with writing.locked(goal.place(path)):
        for last in (False, False, True):
            told = goal.read(layout.lineage(path))
            known, there = provenance.latest(origin, path), provenance.latest(goal, path)
            if known is None:
                return Copied(path, 0, "not whole", "its provenance is damaged")
            if there == known and _is_whole(goal, there):
                return Copied(path, known.size_bytes, "there already")
            if there is not None and there.run.ended_s > known.run.ended_s:
                return Copied(path, known.size_bytes, "newer there")
            try:
                _bring(origin, goal, known, told)
            except Conflict:  # another machine writes there: perhaps something newer
                if last:
                    raise
            except NotAsRecorded as error:
                if last or provenance.latest(origin, path) == known:  # else it was made anew
                    return Copied(path, known.size_bytes, "not whole", str(error))
            else:
                return Copied(path, known.size_bytes, "copied")
    raise AssertionError("the last try returns or raises")


def _is_whole(store: Store, known: Provenance) -> bool:
    with contextlib.suppress(OSError):
        return provenance.is_of(known, store.look(known.path))
    return False


def _bring(origin: Store, goal: Store, known: Provenance, told: bytes | None) -> None:
    """Copy an artefact; `told` is the provenance that is to be replaced, as it lies there.

    Raises:
        NotAsRecorded: the origin has other bytes than its provenance says, or none.
        Conflict: somebody else wrote to the goal meanwhile.
    """
    staged = layout.staged(goal.place(known.path))
    writing.remove(staged)
    try:
        _duplicate(origin.local(known.path), staged)
        sight = hashing.remembered(staged) or hashing.look(staged)
        if not provenance.is_of(known, sight):
            raise NotAsRecorded(f"SHA-256 {known.sha256} was recorded, {sight.sha256} was found")
        if goal.is_folder and staged.is_file():
            writing.flush(staged)
        provenance.take(goal, known, staged, told, _sidecar(origin, known))
    finally:
        writing.remove(staged)
    note = layout.judged(known.path)
    if (found := origin.read(note)) is not None:  # of these very bytes
        with contextlib.suppress(StorageError):  # without, they are judged again
            goal.swap(note, goal.read(note), found, lasting=False)


def _sidecar(origin: Store, known: Provenance) -> str | None:
    """Return the path of the sidecar of an artefact, where such as this have one."""
    beside, product = layout.sidecar(known.path), products.known().get(known.stage)
    if product is not None:
        return beside if product.sidecar else None
    return beside if origin.read(beside) is not None else None


def _duplicate(path: Path, goal: Path) -> None:
    """Copy a file, or a folder, hashing it meanwhile.

    Raises:
        NotAsRecorded: it can't be read.
        StorageError: the goal can't be written to.
    """
    with writing.storage_errors(goal):
        if path.is_dir():
            goal.mkdir()
        for name in hashing.names(path):
            file = goal / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with writing.hashed(file) as write:
                for piece in _pieces(path / name):
                    write(piece)


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with hashing.opened(path) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except FileNotFoundError:
        raise NotAsRecorded("it is not there") from None
    except OSError as error:
        raise NotAsRecorded(f"it can't be read ({error.strerror})") from error
