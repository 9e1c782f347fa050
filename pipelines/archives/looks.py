"""What mirrors gave when they were last looked at: a note for each source in the data folder.

    data/.seen/mirrors/mnist.json

So that it can be told without Dagster, and without a connection. It is local, as all that was seen,
and may be deleted: then nobody knows until the next look. It holds numbers and no addresses.

Not here: looking (`probes`).
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import StorageError
from ..store import Store, clock, layout, writing


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at the mirrors of a source.

    looked: when; UTC, ISO 8601.
    mirrors: how many were looked at.
    mirrors_alive: those that give every archive.
    places_wrong: files that a mirror serves with other bytes than are declared.
    """

    looked: str
    mirrors: int
    mirrors_alive: int
    places_wrong: int

    @property
    def is_well(self) -> bool:
        """Whether the archives can be had, and no mirror serves other bytes."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong, in a few words; nothing where all is well."""
        if self.places_wrong:
            return f"mirrors serve {self.places_wrong} file(s) with other bytes"
        return "" if self.mirrors_alive else "no mirror gave every archive"


def note(store: Store, source: str, mirrors: int, mirrors_alive: int, places_wrong: int) -> None:
    """Keep what was found just now, where the data folder can be written to."""
    if mirrors == 0:  # nothing was looked at: offline, or it is here without a mirror
        return
    look = Look(clock.now(), mirrors, mirrors_alive, places_wrong)
    with (
        contextlib.suppress(OSError, StorageError),
        writing.atomic(store.place(_path(source)), lasting=False) as partial,
    ):
        partial.write_text(json.dumps(asdict(look)), "utf-8")


def last(store: Store, source: str) -> Look | None:
    """Return what was found at the last look; None where nobody knows."""
    try:
        said: Any = json.loads(store.place(_path(source)).read_bytes())
        look = Look(**said)
        numbers = (look.mirrors, look.mirrors_alive, look.places_wrong)
        is_sound = all(type(number) is int and number >= 0 for number in numbers)
        clock.seconds(look.looked)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return look if is_sound else None


def _path(source: str) -> str:
    return layout.seen(f"mirrors/{source}")
