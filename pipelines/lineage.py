"""Lineage: which bytes each artefact was made from, and whether it is still up to date.

Not here: making anything. An artefact is up to date when its record says that the same code made
it from the same inputs with the same parameters, and its own bytes are still those recorded. Only
content decides; a moved modification time or size merely means that the bytes are hashed again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

from pipelines import files
from pipelines.errors import StaleInput

logger = logging.getLogger(__name__)

Facts = Mapping[str, Any]
"""What making an artefact found out, in JSON's types: records, where an archive came from, …"""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file under the data folder, and all that decides its bytes.

    path: relative to the data folder.
    stage, code_version: what makes it, and the version of that code.
    parameters: declared facts and options that its bytes depend on, in JSON's types.
    inputs: path of each input → SHA-256 of its bytes; None while the input does not exist.
    """

    path: str
    stage: str
    code_version: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an artefact that was made: how, from what, and with what outcome.

    mtime_ns: of the file when it was last hashed; when it or the size moves, it is hashed again.
    """

    path: str
    size_bytes: int
    sha256: str
    mtime_ns: int
    stage: str
    code_version: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    facts: Facts


@dataclass(frozen=True, slots=True)
class State:
    """An artefact's record, if there is one, and why the artefact must be made, if it must."""

    record: Record | None
    reason: str | None

    @property
    def is_up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return self.reason is None


def recorded(data: Path, path: str) -> Record | None:
    """Return the record of an artefact, or None where there is none that can be read."""
    try:
        record = Record(**json.loads((data / files.lineage(path)).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    mappings = (record.parameters, record.inputs, record.facts)
    sound = all(isinstance(part, dict) for part in mappings)
    return record if sound and isinstance(record.facts.get("records", 0), int) else None


def state(data: Path, artefact: Artefact) -> State:
    """Decide whether an artefact is up to date; hash it again only when its file was touched."""
    record = recorded(data, artefact.path)
    try:
        stat = (data / artefact.path).stat()
    except OSError:
        return State(record, "it is not there")
    if not S_ISREG(stat.st_mode):
        return State(record, "something that is no file is in its place")
    if record is None:
        return State(None, "there is no record of how it was made")
    if reason := _moved_on(record, artefact):
        return State(record, reason)
    if (stat.st_size, stat.st_mtime_ns) != (record.size_bytes, record.mtime_ns):
        if files.sha256(data / artefact.path) != record.sha256:
            return State(record, "its bytes changed since it was made")
        record = replace(record, mtime_ns=stat.st_mtime_ns)
    return State(record, None)


def inputs(data: Path, artefacts: Iterable[Artefact]) -> dict[str, str]:
    """Return path → SHA-256 of artefacts that another one is made from.

    Raises:
        StaleInput: one of them is not up to date.
    """
    digests = {}
    for artefact in artefacts:
        found = state(data, artefact)
        if found.record is None or not found.is_up_to_date:
            raise StaleInput(
                f"{artefact.path} must be made first: {found.reason}. Build or materialize the "
                f"{artefact.stage} of this dataset too."
            )
        digests[artefact.path] = found.record.sha256
    return digests


def make(data: Path, artefact: Artefact, build: Callable[[Path], Facts]) -> tuple[Record, State]:
    """Bring an artefact up to date; return its record, and the state it was in before.

    Args:
        data: the data folder.
        artefact: what to make.
        build: writes the artefact to the path it is given, atomically; called only if need be.
    """
    before = state(data, artefact)
    if before.is_up_to_date and before.record == recorded(data, artefact.path):
        return cast("Record", before.record), before
    with files.locked(data / files.lineage(artefact.path)):
        return _make(data, artefact, build)


def _make(data: Path, artefact: Artefact, build: Callable[[Path], Facts]) -> tuple[Record, State]:
    """Make an artefact that nobody else is making: another process may just have made it."""
    before = state(data, artefact)
    goal = data / artefact.path
    if before.is_up_to_date and before.record is not None:
        record = before.record
    else:
        files.sweep(goal)
        logger.info("%s: making it, because %s", artefact.path, before.reason)
        facts = build(goal)
        record = Record(
            path=artefact.path,
            size_bytes=goal.stat().st_size,
            sha256=files.sha256(goal),
            mtime_ns=goal.stat().st_mtime_ns,
            stage=artefact.stage,
            code_version=artefact.code_version,
            parameters=artefact.parameters,
            inputs=artefact.inputs,
            facts=facts,
        )
    with files.atomic(data / files.lineage(artefact.path)) as partial:
        partial.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return record, before


def _moved_on(record: Record, artefact: Artefact) -> str | None:
    """Return what differs between how an artefact was made and how it would be made now."""
    if record.code_version != artefact.code_version:
        return (
            f"code version {record.code_version} made it, and now there is {artefact.code_version}"
        )
    now = json.loads(json.dumps(artefact.parameters))  # tuples → lists, as in the record
    if record.parameters != now:
        keys = {k for k in {*record.parameters, *now} if record.parameters.get(k) != now.get(k)}
        return f"its declaration or options changed: {', '.join(sorted(keys))}"
    if record.inputs != artefact.inputs:
        paths = {*record.inputs, *artefact.inputs}
        moved = {p for p in paths if record.inputs.get(p) != artefact.inputs.get(p)}
        return f"its input changed: {', '.join(sorted(moved))}"
    return None
