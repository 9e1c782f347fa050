"""Copying: brings whole artefacts, with their provenance, from one store to another.

Every byte is hashed on the way, and held against provenance; nothing is deleted, and nothing that
is newer is replaced: so it may be repeated, and goes on where it was interrupted. Not here: making
anything (`workshop`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import StorageError
from ..store import Provenance, Store, hashing, layout, provenance, writing

Outcome = Literal["copied", "there already", "newer there", "not whole"]


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
        StorageError: the goal can't be written to.
        MadeByNewer: provenance of one can only be read by a newer Imagesets.
    """
    for known in provenance.of_everything(origin):
        outcome, why = _copy(origin, goal, known)
        yield Copied(known.path, known.size_bytes, outcome, why)
    for note in origin.names(f"{layout.LINEAGE}/checks"):  # what was found of these very bytes
        with contextlib.suppress(StorageError):
            goal.swap(note, goal.read(note), origin.read(note), lasting=False)


def _copy(origin: Store, goal: Store, known: Provenance) -> tuple[Outcome, str]:
    there = provenance.latest(goal, known.path)
    if there is not None and there.sha256 == known.sha256:
        with contextlib.suppress(OSError):
            if provenance.is_of(there, goal.look(known.path)):
                return "there already", ""
    if there is not None and there.run.ended_s > known.run.ended_s:
        return "newer there", ""
    place = goal.place(known.path)
    with writing.locked(place):
        staged = layout.staged(place)
        writing.remove(staged)
        try:
            told = goal.read(layout.lineage(known.path))
            with writing.storage_errors(place):
                _duplicate(origin.local(known.path), staged)
            sight = hashing.look(staged)
            if not provenance.is_of(known, sight):
                return "not whole", f"SHA-256 {known.sha256} was recorded, {sight.sha256} was found"
            if goal.is_folder and staged.is_file():
                writing.flush(staged)
            beside = layout.sidecar(known.path)
            has_beside = origin.read(beside) is not None
            provenance.take(goal, known, staged, told, beside if has_beside else None)
        except FileNotFoundError:
            return "not whole", "it is not there"
        finally:
            writing.remove(staged)
    return "copied", ""


def _duplicate(path: Path, goal: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, goal)
    else:
        shutil.copyfile(path, goal)
