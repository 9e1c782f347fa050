"""State: decides whether an artefact is up to date, and says why it is not.

It is when its provenance says that the same code made it from the same inputs with the same
parameters, and its own bytes are still those recorded; of an archive, those that the catalogue
declares. Only content decides.

Not here: making anything (`making`), or reading what an artefact holds again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .. import advice
from ..errors import StaleInput
from . import hashing, layout, provenance
from .artefacts import Artefact, Input
from .hashing import Sight
from .provenance import Provenance
from .store import Store

Condition = Literal["whole", "missing", "changed", "stale", "unknown"]
"""`changed`: its bytes are not those recorded or declared. `stale`: its inputs, its declaration or
its code moved on. `unknown`: it has no provenance that can be trusted."""


@dataclass(frozen=True, slots=True)
class State:
    """An artefact's condition, its provenance if it has any, and what was seen of its file.

    reason: a clause that says why it must be made; None where it is whole.
    """

    provenance: Provenance | None
    condition: Condition
    reason: str | None = None
    sight: Sight | None = field(default=None, compare=False)

    @property
    def is_up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return self.condition == "whole"


def decide(store: Store, artefact: Artefact) -> State:
    """Decide whether an artefact is up to date; read its file only if nobody has since it changed.

    Raises:
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """
    sight = None
    with contextlib.suppress(OSError):
        sight = store.look(artefact.path)
    return decide_from(store, artefact, sight)


def decide_from(store: Store, artefact: Artefact, sight: Sight | None) -> State:
    """Return the state of an artefact whose file was seen so; None if it could not be read.

    Raises:
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """
    known = provenance.latest(store, artefact.path)
    condition, reason = _condition(store, artefact, known, sight)
    return State(known, condition, reason, sight)


def _condition(
    store: Store, artefact: Artefact, known: Provenance | None, sight: Sight | None
) -> tuple[Condition, str | None]:
    """Return the condition of an artefact, and why it must be made if it must."""
    if sight is None or (sight.files is not None) != artefact.is_folder:
        return _unseen(store, artefact)
    if known is None:
        is_damaged = store.stat(layout.lineage(artefact.path)) is not None
        return "unknown", "its provenance is damaged" if is_damaged else "it has no provenance"
    if reason := _wrong_bytes(store, artefact, known, sight):
        return "changed", reason
    reason = moved_on(known, artefact)
    return ("stale", reason) if reason else ("whole", None)


def _unseen(store: Store, artefact: Artefact) -> tuple[Condition, str]:
    """Return the condition of an artefact without a file (or folder) that can be read."""
    path = store.place(artefact.path)
    if not store.is_folder:
        return "missing", "it is not there"
    if path.is_dir() if artefact.is_folder else path.is_file():
        return "changed", "it can't be read"
    if not path.exists() and not path.is_symlink():
        return "missing", "it is not there"
    strange = "something that is no folder is in its place"
    return "missing", strange if artefact.is_folder else hashing.NO_FILE


def _wrong_bytes(store: Store, artefact: Artefact, known: Provenance, sight: Sight) -> str | None:
    """Return why the bytes of an artefact are not those they must be; what is declared decides."""
    if artefact.sha256 not in (None, sight.sha256):
        return (
            f"its bytes are not those of the catalogue: SHA-256 {artefact.sha256} is declared, "
            f"{sight.sha256} was found"
        )
    if not provenance.is_of(known, sight):
        if known.files is not None and sight.files is not None:
            return f"its files changed since it was made: {_differences(known, sight)}"
        return (
            f"its bytes changed since it was made: SHA-256 {known.sha256} was recorded, "
            f"{sight.sha256} was found"
        )
    beside = artefact.sidecar if store.is_folder else None  # elsewhere it is for people alone
    if beside and store.read(beside) != provenance.sidecar(known):
        return f"{artefact.sidecar} does not say what went in"
    return None


def _differences(known: Provenance, sight: Sight) -> str:
    """Return which files of a folder are missing, were added or hold other bytes: a few."""
    recorded = {file.path: file.sha256 for file in known.files or ()}
    found = {file.path: file.sha256 for file in sight.files or ()}

    def what(name: str) -> str:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        if name not in found:
            return f"{shown} is missing"
        return f"{shown} has other bytes" if name in recorded else f"{shown} was added"

    names = sorted(n for n in {*recorded, *found} if recorded.get(n) != found.get(n))
    more = [f"{len(names) - 3} more"] if len(names) > 3 else []
    return ", ".join([*map(what, names[:3]), *more])


def inputs(store: Store, artefacts: Iterable[Artefact]) -> tuple[Input, ...]:
    """Return artefacts as what another one is made from.

    Raises:
        StaleInput: one of them is not up to date.
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """
    found = []
    for artefact in artefacts:
        current = decide(store, artefact)
        known = current.provenance
        if known is None or not current.is_up_to_date:
            raise StaleInput(
                f"{artefact.path} must be made first: {current.reason}. "
                + advice.fitting(
                    f"Build or materialize the {artefact.stage} of this dataset too.",
                    f"{advice.AGAIN}.",
                )
            )
        found.append(Input(artefact.path, known.sha256, known.size_bytes))
    return tuple(found)


def moved_on(known: Provenance, artefact: Artefact) -> str | None:
    """Return what differs between how an artefact was made and how it would be made now."""
    if known.code_version != artefact.code_version:
        return (
            f"code version {known.code_version} made it, and now there is {artefact.code_version}"
        )
    old, new = known.parameters, provenance.as_json(artefact.parameters)
    if old != new:
        keys = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        return f"its declaration or options changed: {', '.join(sorted(keys))}"
    if not artefact.inputs:
        return None  # an archive: wherever it came from, its declaration decides
    if moved := other_inputs(known, artefact):
        return f"its input changed: {', '.join(moved)}"
    return None


def other_inputs(known: Provenance, artefact: Artefact) -> list[str]:
    """Return the paths of what an artefact was made from that it would not be made from now.

    Bytes are known by their SHA-256; of an archive for which none is declared, by their MD5; where
    there is none either, by the hashes that are declared among the parameters.
    """
    old, new = (
        parameters.get("inputs", {}) for parameters in (known.parameters, artefact.parameters)
    )
    made_from = {found.path: found for found in known.inputs}
    wanted = {declared.path: declared for declared in artefact.inputs}

    def same(path: str) -> bool:
        found, now = made_from.get(path), wanted.get(path)
        if found is None or now is None:
            return False
        if now.sha256 is None and now.md5:
            return found.md5 == now.md5
        if now.sha256 is None and path in new:
            return bool(old.get(path) == new[path])
        return found.sha256 == now.sha256

    return sorted(path for path in {*made_from, *wanted} if not same(path))
