"""Lock: one digest for all artefacts of a dataset.

Not here: comparing with lines that were printed before (the command does).
"""

from __future__ import annotations

import hashlib

from ..declarations import Dataset
from ..plan import Plan, Planned
from ..progress import Advance, silent
from ..stages import DEFAULT
from ..store import Store, state
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
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(found.items()))
    return f"{dataset.name}  sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
