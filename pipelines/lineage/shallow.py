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
from pathlib import Path
from typing import Literal

from ..errors import MadeByNewer
from ..plan import Planned
from ..progress import Advance, silent
from ..store import Artefact, Folder, layout, provenance, seen, state
from ..store.hashing import Identity, Sight
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
    """

    path: str
    condition: Condition | Literal["undeclared", "uncompared"]
    why: str = ""
    sha256: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to complain about."""
        return self.condition == "whole"


def verify(data: Path, wanted: Iterable[Planned], advance: Advance = silent) -> list[Verdict]:
    """Return what became of those artefacts that were ever made, all hashed anew.

    Args:
        data: the data folder.
        wanted: artefacts in the order of a plan.
        advance: is told how many bytes were read.
    """
    wanted = list(wanted)
    sights = hash_files(data, [planned.path for planned in wanted], advance)
    verdicts: list[Verdict] = []
    expected: dict[str, str | None] = {}  # path → what others must be made from
    for planned in wanted:
        artefact, sight = planned.artefact(expected.get), sights.get(planned.path)
        expected[planned.path] = _to_be_made_from(data, artefact, sight)
        if sight is not None or (data / layout.lineage(planned.path)).exists():  # it was made once
            verdicts.append(_verdict(data, artefact, sight))
    return verdicts


def _to_be_made_from(data: Path, artefact: Artefact, sight: Sight | None) -> str | None:
    """Return the SHA-256 that others must be made from: as recorded, or else as it is."""
    with contextlib.suppress(MadeByNewer):
        if known := provenance.latest(Folder(data), artefact.path):
            return None if state.moved_on(known, artefact) else known.sha256
    return sight.sha256 if sight else None


def _verdict(data: Path, artefact: Artefact, sight: Sight | None) -> Verdict:
    """Hold what was seen of an artefact against its provenance, and both against the catalogue."""
    with contextlib.suppress(OSError):
        if sight and sight.identity != Identity.of((data / artefact.path).stat()):
            sight = seen.look_anew(Folder(data), artefact.path)  # somebody made it again meanwhile
    sha256 = sight.sha256 if sight else None
    try:
        found = state.decide_from(Folder(data), artefact, sight)
    except MadeByNewer as error:
        return Verdict(artefact.path, "unknown", str(error), sha256)
    return Verdict(artefact.path, found.condition, found.reason or "", sha256)


def hash_files(data: Path, paths: Sequence[str], advance: Advance = silent) -> dict[str, Sight]:
    """Read files, side by side; return path → what was seen, of those that can be read.

    Args:
        data: the data folder.
        paths: relative to it.
        advance: is told how many bytes were read.
    """

    def look_at(path: str) -> tuple[str, Sight | None]:
        with contextlib.suppress(OSError):
            sight = seen.look_anew(Folder(data), path)
            advance(sight.identity.size_bytes)
            return path, sight
        return path, None

    there = [path for path in dict.fromkeys(paths) if (data / path).is_file()]
    there.sort(key=lambda path: -(data / path).stat().st_size)  # the longest work first
    with ThreadPoolExecutor(WORKERS) as pool:
        return {path: sight for path, sight in pool.map(look_at, there) if sight}
