"""Lock: one digest for all artefacts of a dataset.

Not here: comparing with lines that were printed before (the command does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .. import archives
from ..declarations import Dataset, Source, base, of_version, version
from ..plan import Plan, Planned
from ..progress import Advance, silent
from ..stages import DEFAULT
from ..store import Store, layout, provenance, state
from . import status
from .shallow import hash_files


def locked(plan: Plan, store: Store, dataset: Dataset) -> list[Planned]:
    """Return what a lock is of: the default set, but for what comes out otherwise elsewhere.

    Of a dataset that comes in parts, that is of those that were ever made here.
    """
    return [
        one
        for one in status.asked_for(store, plan, [dataset], DEFAULT)
        if one.product is None or one.product.reproducible in ("everywhere", "same libraries")
    ]


def lock(plan: Plan, store: Store, dataset: Dataset, advance: Advance = silent) -> str:
    """Return one line that stands for all bytes of a dataset: its name and a SHA-256.

    The digest is of a line `<SHA-256>  <path>` for each artefact, in the order of the paths: what
    `sha256sum` prints for them, hashed once more.

    Every file is read for it, whatever is known of it.

    Raises:
        StaleInput: an artefact is not up to date.
    """
    wanted = locked(plan, store, dataset)
    hash_files(store, [one.path for one in wanted], advance)
    found: dict[str, str] = {}
    for planned in wanted:
        [made] = state.inputs(store, [planned.artefact(found.get)])
        found[made.path] = str(made.sha256)
    return _line(dataset, found)


def version_of(plan: Plan, store: Store, dataset: Dataset, line: str) -> str | None:
    """Return which other version was the current one when a line was printed here, if any was.

    A lock names paths, and a path holds another version once that is the current one. What was made
    of the archives that another version declares now is known by provenance, that of the past too.
    """
    wanted = locked(plan, store, dataset)
    known = {one.path: provenance.all_of(store, one.path) for one in wanted if not one.is_archive}
    for name, source in plan.declared.sources.items():
        other = of_version(base(dataset.name), version(name))
        if other == dataset.name or other not in source.datasets:
            continue
        found = _archives(store, dataset.source, source)
        for path, past in known.items():
            for made in past:  # the latest of those that were made of what is found
                if all(found.get(one.path) == one.sha256 for one in made.inputs):
                    found[path] = made.sha256
        if _line(dataset, found) == line:
            return other
    return None


def _archives(store: Store, current: str, source: Source) -> dict[str, str]:
    """Return path → SHA-256 of a version's archives where those of the current one are, or were."""
    found = {}
    for archive in source.archives.values():
        declared = archives.artefact(source, archive).parameters
        path = layout.archive(current, archive.name)
        for known in provenance.all_of(store, path):
            if known.parameters == declared:
                found[path] = known.sha256
    return found


def _line(dataset: Dataset, found: Mapping[str, str]) -> str:
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(found.items()))
    return f"{dataset.name}  sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
