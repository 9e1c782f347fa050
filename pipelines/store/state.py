"""Lineage: which bytes each artefact was made from, by what, and whether it is still up to date.

Not here: making anything, reading an artefact's content again (`pipelines.verification`), or when
its file was last read (`pipelines.seen`). An artefact is up to date when its record says that the
same code made it from the same inputs with the same parameters, and its own bytes are still those
recorded; of an archive, those that the catalogue declares. Only content decides.

    data/tables/mnist/train.parquet                                 an artefact
    data/lineage/tables/mnist/train.parquet.json                    its record: the latest
    data/lineage/history/tables/mnist/train.parquet/<time>.json     the records before

`lineage.schema.json` describes a record. An artefact and its record appear together: the record is
written as `….json.next`, the artefact takes its place, the record takes its own. Wherever a process
dies in between, `.next` is the record of the artefact if it knows its bytes, and nothing if not.

What an artefact is made from is opened once, hashed while it is used, and compared before the
result takes its place: nothing is kept that was made from other bytes than its record would say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import StaleInput
from . import layout, seen
from .hashing import Sight
from .provenance import (
    Artefact,
    Input,
    Provenance,
    as_recorded,
    is_of,
    read_bytes,
    recorded,
    sidecar,
)

_STRANGE = "something that is no file is in its place"

Condition = Literal["whole", "missing", "changed", "stale", "unknown"]
"""`changed`: its bytes are not those recorded or declared. `stale`: its inputs, its declaration or
its code moved on. `unknown`: there is no record that can be trusted."""


@dataclass(frozen=True, slots=True)
class State:
    """An artefact's condition, its record if there is one, and what was seen of its file.

    reason: a clause that says why it must be made; None where it is whole.
    """

    record: Provenance | None
    condition: Condition
    reason: str | None = None
    sight: Sight | None = field(default=None, compare=False)

    @property
    def is_up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return self.condition == "whole"


def decide(data: Path, artefact: Artefact) -> State:
    """Decide whether an artefact is up to date; read its file only if nobody has since it changed.

    Raises:
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    sight = None
    with contextlib.suppress(OSError):
        sight = seen.look(data, artefact.path)
    return decide_from(data, artefact, sight)


def decide_from(data: Path, artefact: Artefact, sight: Sight | None) -> State:
    """Return the state of an artefact whose file was seen so; None if it could not be read.

    Raises:
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    record = recorded(data, artefact.path)
    condition, reason = _condition(data, artefact, record, sight)
    return State(record, condition, reason, sight)


def _condition(
    data: Path, artefact: Artefact, record: Provenance | None, sight: Sight | None
) -> tuple[Condition, str | None]:
    """Return the condition of an artefact, and why it must be made if it must."""
    path = data / artefact.path
    if sight is None:
        if path.is_file():
            return "changed", "it can't be read"
        is_strange = path.exists() or path.is_symlink()
        return "missing", _STRANGE if is_strange else "it is not there"
    if record is None:
        is_damaged = (data / layout.lineage(artefact.path)).exists()
        return "unknown", (
            "the record of how it was made is damaged"
            if is_damaged
            else "there is no record of how it was made"
        )
    if reason := _wrong_bytes(data, artefact, record, sight):
        return "changed", reason
    reason = moved_on(record, artefact)
    return ("stale", reason) if reason else ("whole", None)


def _wrong_bytes(data: Path, artefact: Artefact, record: Provenance, sight: Sight) -> str | None:
    """Return why the bytes of an artefact are not those they must be; what is declared decides."""
    if artefact.sha256 not in (None, sight.sha256):
        return (
            f"its bytes are not those of the catalogue: SHA-256 {artefact.sha256} is declared, "
            f"{sight.sha256} was found"
        )
    if not is_of(record, sight):
        return (
            f"its bytes changed since it was made: SHA-256 {record.sha256} was recorded, "
            f"{sight.sha256} was found"
        )
    if artefact.sidecar and read_bytes(data / artefact.sidecar) != sidecar(record):
        return f"{artefact.sidecar} does not say what went in"
    return None


def inputs(data: Path, artefacts: Iterable[Artefact]) -> tuple[Input, ...]:
    """Return artefacts as what another one is made from.

    Raises:
        StaleInput: one of them is not up to date.
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    found = []
    for artefact in artefacts:
        current = decide(data, artefact)
        if current.record is None or not current.is_up_to_date:
            raise StaleInput(
                f"{artefact.path} must be made first: {current.reason}. Build or materialize the "
                f"{artefact.stage} of this dataset too."
            )
        found.append(Input(artefact.path, current.record.sha256, current.record.size_bytes))
    return tuple(found)


def moved_on(record: Provenance, artefact: Artefact) -> str | None:
    """Return what differs between how an artefact was made and how it would be made now."""
    if record.code_version != artefact.code_version:
        return (
            f"code version {record.code_version} made it, and now there is {artefact.code_version}"
        )
    old, new = record.parameters, as_recorded(artefact.parameters)
    if old != new:
        keys = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        return f"its declaration or options changed: {', '.join(sorted(keys))}"
    if not artefact.inputs:
        return None  # an archive: wherever it came from, its declaration decides
    made_from = {found.path: found.sha256 for found in record.inputs}
    wanted = {declared.path: declared.sha256 for declared in artefact.inputs}
    if made_from != wanted:
        moved = {p for p in {*made_from, *wanted} if made_from.get(p) != wanted.get(p)}
        return f"its input changed: {', '.join(sorted(moved))}"
    return None
