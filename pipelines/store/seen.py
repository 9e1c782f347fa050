"""Seen: what was found at a path of the data folder when all of it was last read.

Two kinds of knowledge are kept apart. How an artefact was made stands in its provenance, which
travels with it. What was seen of its file is local and may be deleted at any time:

    data/.seen/tables/mnist/train.parquet.json     SHA-256, size, mtime, ctime, inode, when

or the same in the user's cache, where the data folder can't be written to. When any of size, times
and inode moved, nobody has looked at the file that is there now, and it is hashed. Bytes that rot
on the disk move none of them: they are found by `verify`, which always reads, and by everything
that is made from a file, which hashes it meanwhile.

Of a folder it is one note, with what was seen of each of its files. Not here: what a file should
hold (`provenance`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import StorageError
from . import clock, hashing, layout, writing
from .hashing import File, Identity, Sight
from .store import Store

# A change within the tick of the file system's clock in which a file was hashed can't be told from
# none. The coarsest clock is that of FAT.
COARSEST_TICK_S = 2.0
_UNREADABLE = ""  # in the place of a SHA-256


def look(store: Store, path: str) -> Sight:
    """Return what was seen of a file; read it only where nobody has since it last changed.

    Raises:
        OSError: it can't be read.
    """
    return hashing.remembered(store.place(path)) or known(store, path) or look_anew(store, path)


def look_anew(store: Store, path: str) -> Sight:
    """Read a file, and keep what was seen.

    Raises:
        OSError: it can't be read; so what was seen of it before counts no longer.
    """
    try:
        sight = hashing.look(store.place(path))
    except OSError:
        note_unreadable(store, path)
        raise
    note(store, path, sight)
    return sight


def known(store: Store, path: str) -> Sight | None:
    """Return what was seen of a file, if it is certain that nobody wrote to it since."""
    identity = _identity(store, path)
    sights = [sight for said in kept(store, layout.seen(path)) if (sight := sight_of(said))]
    sights = [sight for sight in sights if sight.identity == identity and _is_settled(sight)]
    # Of a folder that can't be written to any more, the newest is in the cache.
    latest = max(sights, key=lambda sight: clock.seconds(sight.looked), default=None)
    return latest if latest and latest.sha256 != _UNREADABLE else None


def note(store: Store, path: str, sight: Sight) -> None:
    """Keep what was seen of a file, in the data folder if that can be written to."""
    keep(store, layout.seen(path), said_of(sight))


def said_of(sight: Sight) -> dict[str, Any]:
    """Return what a note says of what was seen."""
    said: dict[str, Any] = {"sha256": sight.sha256, "looked": sight.looked}
    said |= asdict(sight.identity)
    if sight.files is not None:
        said["files"] = [asdict(file) for file in sight.files]
    return said


def keep(store: Store, note: str, said: Mapping[str, Any]) -> None:
    """Keep a note, in the data folder if that can be written to, else in the user's cache."""
    for place in _places(store, note):
        with contextlib.suppress(OSError, StorageError):  # without, it is found out once more
            writing.sweep(place)  # a process that writes there at this moment loses a note, no more
            with writing.atomic(place, lasting=False) as partial:
                partial.write_text(json.dumps(said), "utf-8")
            return


def kept(store: Store, note: str) -> list[Any]:
    """Return what notes of this name say, in the data folder and in the user's cache."""
    return [said for place in _places(store, note) if (said := _said(place)) is not None]


def note_unreadable(store: Store, path: str) -> None:
    """Keep that a file could not be read: a disk that goes bad moves no time of it."""
    hashing.forget()
    if (identity := _identity(store, path)) is not None:
        note(store, path, Sight(_UNREADABLE, identity, clock.now()))


def _identity(store: Store, path: str) -> Identity | None:
    try:
        return hashing.identity_of(store.place(path))
    except OSError:
        return None


def _places(store: Store, note: str) -> tuple[Path, Path]:
    folder = hashlib.sha256(os.fsencode(store.place("").resolve())).hexdigest()[:16]
    return store.place(note), cache() / folder / note


def cache() -> Path:
    """Return the user's folder for what may be lost.

    Somebody without a home has it in the system's temporary folder, where it may not last.
    """
    try:
        return platformdirs.user_cache_path("imagesets")
    except RuntimeError:  # nobody knows this user
        return Path(tempfile.gettempdir()) / f"imagesets-{os.getuid()}"


def _said(place: Path) -> Any:
    try:
        with hashing.opened(place) as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None


def sight_of(said: Any) -> Sight | None:
    """Return what was seen, by what a note says of it; None where that is damaged."""
    try:
        digest, looked = str(said.pop("sha256")), str(said.pop("looked"))
        clock.seconds(looked)
        files = said.pop("files", None)
        files = None if files is None else tuple(File(**file) for file in files)
        return Sight(digest, Identity(**said), looked, files)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_settled(sight: Sight) -> bool:
    """Whether the file had been left alone for a while when it was hashed."""
    return clock.seconds(sight.looked) - sight.identity.ctime_ns / 1e9 > COARSEST_TICK_S
