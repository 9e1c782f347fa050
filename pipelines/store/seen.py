"""Seen: what was found at a path of the data folder when somebody last read all of it.

Two kinds of knowledge are kept apart. How an artefact was made stands in its record, which travels
with it (`pipelines.lineage`). What was seen of its file is local and may be deleted at any time:

    data/.seen/tables/mnist/train.parquet.json     SHA-256, size, mtime, ctime, inode, when

or the same in the user's cache, where the data folder can't be written to. When any of size, times
and inode moved, nobody has looked at the file that is there now, and it is hashed. Bytes that rot
on the disk move none of them: they are found by `verify`, which always reads, and by everything
that is made from a file, which hashes it meanwhile.

Not here: what a file should hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import StorageError
from . import hashing, layout, writing
from .hashing import Identity, Sight

# A change within the tick of the file system's clock in which a file was hashed can't be told from
# none. The coarsest clock is that of FAT.
COARSEST_TICK_S = 2.0
_UNREADABLE = ""  # in the place of a SHA-256


def look(data: Path, path: str) -> Sight:
    """Return what was seen of a file; read it only where nobody has since it last changed.

    Raises:
        OSError: it can't be read.
    """
    return hashing.remembered(data / path) or known(data, path) or look_anew(data, path)


def look_anew(data: Path, path: str) -> Sight:
    """Read a file, and keep what was seen.

    Raises:
        OSError: it can't be read; so what was seen of it before counts no longer.
    """
    try:
        sight = hashing.look(data / path)
    except OSError:
        note_unreadable(data, path)
        raise
    note(data, path, sight)
    return sight


def known(data: Path, path: str) -> Sight | None:
    """Return what was seen of a file, if it is certain that nobody wrote to it since.

    Raises:
        OSError: there is no such file.
    """
    identity = Identity.of((data / path).stat())
    sights = [sight for place in _places(data, path) if (sight := _read(place))]
    sights = [sight for sight in sights if sight.identity == identity and _is_settled(sight)]
    # Of a folder that can't be written to any more, the newest is in the cache.
    latest = max(sights, key=lambda sight: hashing.seconds(sight.looked), default=None)
    return latest if latest and latest.sha256 != _UNREADABLE else None


def note(data: Path, path: str, sight: Sight) -> None:
    """Keep what was seen of a file, in the data folder if that can be written to."""
    said = {"sha256": sight.sha256, "looked": sight.looked, **asdict(sight.identity)}
    for place in _places(data, path):
        with contextlib.suppress(OSError, StorageError):  # without, the file is just read again
            writing.sweep(place)  # whoever writes there at this moment loses a note, no more
            with writing.atomic(place, lasting=False) as partial:
                partial.write_text(json.dumps(said), "utf-8")
            return


def note_unreadable(data: Path, path: str) -> None:
    """Keep that a file could not be read: a disk that goes bad moves no time of it."""
    hashing.forget()
    with contextlib.suppress(OSError):  # it is not even there
        identity = Identity.of((data / path).stat())
        note(data, path, Sight(_UNREADABLE, identity, hashing.now()))


def _places(data: Path, path: str) -> tuple[Path, Path]:
    folder = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    cache = platformdirs.user_cache_path("imagesets") / folder
    return data / layout.seen(path), cache / layout.seen(path)


def _read(place: Path) -> Sight | None:
    try:
        with hashing.opened(place) as file:
            said: Any = json.loads(file.read())
        digest, looked = str(said.pop("sha256")), str(said.pop("looked"))
        hashing.seconds(looked)
        return Sight(digest, Identity(**said), looked)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_settled(sight: Sight) -> bool:
    """Whether the file had been left alone for a while when it was hashed."""
    return hashing.seconds(sight.looked) - sight.identity.ctime_ns / 1e9 > COARSEST_TICK_S
