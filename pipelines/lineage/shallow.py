"""Shallow verification: does every artefact have the bytes that it was made with?

Not here: what a build must do (`pipelines.store.state`, which does not read a file again that
nobody wrote to since; here nothing is trusted, and everything is read), or what the archives say
(`pipelines.lineage.deep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from ..errors import MadeByNewer
from ..plan import Planned
from ..progress import Advance, silent
from ..store import Artefact, Store, provenance, state
from ..store.hashing import Sight
from ..store.state import Condition
from ..threads import WORKERS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an artefact.

    condition: as of `store.state.State`; or `undeclared`: the archive says so too, but the
        catalogue says otherwise; or `uncompared`: whole by its hash, and there is nothing to
        compare it with.
    why: a clause, empty where it is whole.
    sha256: of its bytes; None where they could not be read.
    is_deep: whether the archives were asked, too. Then its bytes are as recorded, and the condition
        is about what they hold.
    """

    path: str
    condition: Condition | Literal["undeclared", "uncompared"]
    why: str = ""
    sha256: str | None = None
    is_deep: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to complain about."""
        return self.condition == "whole"

    @property
    def has_recorded_bytes(self) -> bool:
        """Whether its bytes are those recorded; what is stale still has them."""
        return self.is_deep or self.condition in ("whole", "stale")


def verify(store: Store, wanted: Iterable[Planned], advance: Advance = silent) -> list[Verdict]:
    """Return what became of artefacts, all hashed anew.

    Args:
        store: where everything lies.
        wanted: those that were ever made, in the order of a plan.
        advance: called with how many bytes were read.
    """
    wanted = list(wanted)
    sights = hash_files(store, [planned.path for planned in wanted], advance)
    verdicts: list[Verdict] = []
    expected: dict[str, str | None] = {}  # path → what others must be made from
    for planned in wanted:
        artefact, sight = planned.artefact(expected.get), sights.get(planned.path)
        expected[planned.path] = _to_be_made_from(store, artefact, sight)
        verdicts.append(_verdict(store, artefact, sight))
    return verdicts


def _to_be_made_from(store: Store, artefact: Artefact, sight: Sight | None) -> str | None:
    """Return the SHA-256 that others must be made from: as recorded, or else as it is."""
    with contextlib.suppress(MadeByNewer):
        if known := provenance.latest(store, artefact.path):
            return None if state.moved_on(known, artefact) else known.sha256
    return sight.sha256 if sight else None


def _verdict(store: Store, artefact: Artefact, sight: Sight | None) -> Verdict:
    """Hold what was seen of an artefact against its provenance, and both against the catalogue."""
    with contextlib.suppress(OSError):
        if sight and sight.identity != store.stat(artefact.path):
            sight = store.look(artefact.path, anew=True)  # it was made again meanwhile
    sha256 = sight.sha256 if sight else None
    try:
        found = state.decide_from(store, artefact, sight)
    except MadeByNewer as error:
        return Verdict(artefact.path, "unknown", str(error), sha256)
    return Verdict(artefact.path, found.condition, found.reason or "", sha256)


def hash_files(store: Store, paths: Sequence[str], advance: Advance = silent) -> dict[str, Sight]:
    """Read files, side by side; return path → what was seen, of those that can be read.

    Args:
        store: where everything lies.
        paths: relative to it.
        advance: called with how many bytes were read.
    """

    def look_at(path: str) -> tuple[str, Sight | None]:
        with contextlib.suppress(OSError):
            sight = store.look(path, anew=True)
            advance(sight.identity.size_bytes)
            return path, sight
        return path, None

    sizes = {path: found.size_bytes for path in paths if (found := store.stat(path))}
    there = sorted(sizes, key=lambda path: -sizes[path])  # the longest work first
    with ThreadPoolExecutor(WORKERS) as pool:
        return {path: sight for path, sight in pool.map(look_at, there) if sight}
