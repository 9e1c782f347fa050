"""Lineage: which bytes each artefact was made from, by what, and whether it is still up to date.

Not here: making anything, or reading an artefact's content again (`pipelines.verification`). An
artefact is up to date when its record says that the same code made it from the same inputs with
the same parameters, and its own bytes are still those recorded. Only content decides; a moved
modification time or size merely means that the bytes are hashed again.

    data/tables/mnist/train.parquet                                 an artefact
    data/lineage/tables/mnist/train.parquet.json                    its record: the latest
    data/lineage/history/tables/mnist/train.parquet/<time>.json     the records before

`lineage.schema.json` describes a record. An artefact and its record appear together: the record is
written as `….json.next`, the artefact takes its place, the record takes its own. Wherever a process
dies in between, `.next` is the record of the artefact if it knows its bytes, and nothing if not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal, cast

from pydantic import TypeAdapter

from pipelines import __version__, files
from pipelines.errors import StaleInput

logger = logging.getLogger(__name__)

LIBRARIES = ("pyarrow", "polars", "numpy", "isal", "lmdb", "dagster")

Facts = Mapping[str, Any]
"""What making an artefact found out, in JSON's types: records, where an archive came from, …"""


@dataclass(frozen=True, slots=True)
class Input:
    """Something that an artefact is made from.

    path: relative to the data folder; of an archive, the place that its bytes came from.
    sha256: None while it does not exist. size_bytes, md5: None where they are not known.
    """

    path: str
    sha256: str | None
    size_bytes: int | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file under the data folder, and all that decides its bytes.

    path: relative to the data folder.
    stage, code_version: what makes it, and the version of that code.
    parameters: declared facts and options that its bytes depend on, in JSON's types.
    sidecar: path of the file that says what went in, for formats that have no room for it.
    """

    path: str
    stage: str
    code_version: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...] = ()
    sidecar: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """When, where and with what an artefact was made; times are UTC, ISO 8601.

    id: of the Dagster run; None where there was none.
    """

    id: str | None
    started: str
    ended: str
    host: str
    versions: Mapping[str, str]

    @property
    def ended_s(self) -> float:
        """The end in seconds since 1970."""
        return datetime.fromisoformat(self.ended).timestamp()


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
    inputs: tuple[Input, ...]
    facts: Facts
    run: Run
    format: Literal["imagesets-lineage/1"] = "imagesets-lineage/1"

    @property
    def records(self) -> int | None:
        """How many records (rows) the artefact holds, where it holds any."""
        found = self.facts.get("records")
        return found if isinstance(found, int) else None


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
    """Return the record of an artefact, or None where there is none that can be trusted."""
    pending = _load(data, path, files.pending_lineage(path))
    if pending is not None and _stat(data / path) == (pending.size_bytes, pending.mtime_ns):
        return pending  # a process died after the artefact took its place
    return _load(data, path)


def state(data: Path, artefact: Artefact) -> State:
    """Decide whether an artefact is up to date; hash it again only when its file was touched."""
    record = recorded(data, artefact.path)
    try:
        stat = (data / artefact.path).stat()
    except OSError:
        return State(record, "it is not there")
    if record is None or not S_ISREG(stat.st_mode):
        strange = "something that is no file is in its place"
        unknown = "there is no record of how it was made"
        return State(record, unknown if S_ISREG(stat.st_mode) else strange)
    if reason := moved_on(record, artefact):
        return State(record, reason)
    if (stat.st_size, stat.st_mtime_ns) != (record.size_bytes, record.mtime_ns):
        if (found := _digest_of(data / artefact.path)) != record.sha256:
            read = "its bytes changed since it was made"
            return State(record, read if found else "it can't be read")
        record = replace(record, mtime_ns=stat.st_mtime_ns)
    if artefact.sidecar and _bytes(data / artefact.sidecar) != sidecar(record):
        return State(record, f"{artefact.sidecar} does not say what went in")
    return State(record, None)


def inputs(data: Path, artefacts: Iterable[Artefact]) -> tuple[Input, ...]:
    """Return artefacts as what another one is made from.

    Raises:
        StaleInput: one of them is not up to date.
    """
    found = []
    for artefact in artefacts:
        now = state(data, artefact)
        if now.record is None or not now.is_up_to_date:
            raise StaleInput(
                f"{artefact.path} must be made first: {now.reason}. Build or materialize the "
                f"{artefact.stage} of this dataset too."
            )
        found.append(Input(artefact.path, now.record.sha256, now.record.size_bytes))
    return tuple(found)


def make(
    data: Path, artefact: Artefact, build: Callable[[Path], Facts], run_id: str | None = None
) -> tuple[Record, State]:
    """Bring an artefact up to date; return its record, and the state it was in before.

    Args:
        data: the data folder.
        artefact: what to make.
        build: writes the artefact to the path it is given (`files.staged`), and to the disk, from
            where it is moved into its place; called only if need be. Leaves that path empty where
            the artefact is right as it is. When it raises, what was fetched stays: to go on with.
        run_id: the Dagster run that this is part of.
    """
    before = state(data, artefact)
    if before.is_up_to_date and before.record == _load(data, artefact.path):
        return cast("Record", before.record), before
    with files.locked(data / artefact.path):
        return _make(data, artefact, build, run_id)


def distrust(data: Path, path: str) -> None:
    """Make sure that an artefact is made again, whatever its file's time and size say.

    A record that other bytes contradict stays until there are right ones: it tells which, and
    where an archive came from. One that agrees with wrong bytes becomes one of the past.

    Raises:
        StorageError: the folder of records can't be written to.
    """
    record = recorded(data, path)
    with files.storage_errors(data / files.lineage(path)):
        if record is not None and _digest_of(data / path) != record.sha256:
            _write(data, replace(record, mtime_ns=-1))  # no file's: hashed the next time
            return
        (data / files.pending_lineage(path)).unlink(missing_ok=True)
        _retire(data, path)
        (data / files.lineage(path)).unlink(missing_ok=True)


def moved_on(record: Record, artefact: Artefact) -> str | None:
    """Return what differs between how an artefact was made and how it would be made now."""
    if record.code_version != artefact.code_version:
        return (
            f"code version {record.code_version} made it, and now there is {artefact.code_version}"
        )
    now = json.loads(json.dumps(artefact.parameters))  # tuples → lists, as in the record
    if record.parameters != now:
        keys = {k for k in {*record.parameters, *now} if record.parameters.get(k) != now.get(k)}
        return f"its declaration or options changed: {', '.join(sorted(keys))}"
    if not artefact.inputs:
        return None  # an archive: wherever it came from, its declaration decides
    made_from = {found.path: found.sha256 for found in record.inputs}
    wanted = {declared.path: declared.sha256 for declared in artefact.inputs}
    if made_from != wanted:
        moved = {p for p in {*made_from, *wanted} if made_from.get(p) != wanted.get(p)}
        return f"its input changed: {', '.join(sorted(moved))}"
    return None


def sidecar(record: Record) -> bytes:
    """Return what a sidecar says of its artefact: the record without what depends on the run."""
    left_out = {"mtime_ns", "facts", "run"}
    said = {key: value for key, value in asdict(record).items() if key not in left_out}
    return _json(said | {"records": record.records})


def _make(
    data: Path, artefact: Artefact, build: Callable[[Path], Facts], run_id: str | None
) -> tuple[Record, State]:
    """Make an artefact that nobody else is making: another process may just have made it."""
    before = state(data, artefact)
    goal = data / artefact.path
    if before.record is not None and before.is_up_to_date:
        _write(data, before.record)
        return before.record, before
    staged = files.staged(goal)
    record_paths = (files.lineage(artefact.path), files.pending_lineage(artefact.path))
    for path in (staged, *(data / name for name in (*record_paths, artefact.sidecar) if name)):
        files.sweep(path)
    logger.info("%s: making it, because %s", artefact.path, before.reason)
    started = now()
    try:
        facts = build(staged)
        return _take(data, artefact, before.record, facts, started, run_id), before
    except BaseException:
        files.forget_empty(staged)
        if artefact.inputs:
            with contextlib.suppress(OSError):
                staged.unlink()  # only what was fetched can be gone on with
        raise


def _take(
    data: Path,
    artefact: Artefact,
    old: Record | None,
    facts: Facts,
    started: str,
    run_id: str | None,
) -> Record:
    """Give what was made its record and its place; `old` is the record before."""
    goal = data / artefact.path
    staged = files.staged(goal)
    made = staged if staged.exists() else goal
    stat, sha256 = made.stat(), files.sha256(made)
    if made == goal and old is not None and old.sha256 == sha256:
        facts = old.facts  # as it was: what is known of it still holds
    record = Record(
        path=artefact.path,
        size_bytes=stat.st_size,
        sha256=sha256,
        mtime_ns=stat.st_mtime_ns,
        stage=artefact.stage,
        code_version=artefact.code_version,
        parameters=json.loads(json.dumps(artefact.parameters)),
        inputs=artefact.inputs or _origin(artefact, facts, stat.st_size, sha256),
        facts=facts,
        run=Run(run_id, started, now(), platform.node(), dict(versions())),
    )
    with files.atomic(data / files.pending_lineage(artefact.path)) as partial:
        partial.write_bytes(_dump(record))
    if artefact.sidecar and _bytes(data / artefact.sidecar) != sidecar(record):
        with files.atomic(data / artefact.sidecar, lasting=False) as partial:
            partial.write_bytes(sidecar(record))
    if made == staged:
        files.move(staged, goal)
    _promote(data, artefact.path)
    return record


def _origin(artefact: Artefact, facts: Facts, size_bytes: int, sha256: str) -> tuple[Input, ...]:
    """Return the place that an archive came from as its input."""
    if "origin" not in facts:
        return ()
    return (Input(str(facts["origin"]), sha256, size_bytes, artefact.parameters.get("md5")),)


def _promote(data: Path, path: str) -> None:
    """Let the pending record become the latest; keep the one before."""
    with files.storage_errors(data / files.lineage(path)):
        _retire(data, path)
        (data / files.pending_lineage(path)).replace(data / files.lineage(path))


def _retire(data: Path, path: str) -> None:
    """Keep the latest record, unless it is damaged, as one of the past."""
    latest = data / files.lineage(path)
    if (old := _load(data, path)) is not None:
        kept = data / files.past_lineage(path, old.run.ended)
        kept.parent.mkdir(parents=True, exist_ok=True)
        latest.replace(kept)


def _write(data: Path, record: Record) -> None:
    """Write the record of an artefact that was not made again: another file time is known now."""
    pending = data / files.pending_lineage(record.path)
    if _load(data, record.path, files.pending_lineage(record.path)) == record:
        _promote(data, record.path)
        return
    with files.atomic(data / files.lineage(record.path)) as partial:
        partial.write_bytes(_dump(record))
    pending.unlink(missing_ok=True)


def _dump(record: Record) -> bytes:
    said = asdict(record)
    return _json(said | {"digest": _digest(said)})


def _load(data: Path, path: str, name: str | None = None) -> Record | None:
    """Return the record of an artefact from a file (the latest), unless it is damaged."""
    try:
        said = json.loads((data / (name or files.lineage(path))).read_bytes())
        is_sound = said.pop("digest") == _digest(said) and said["path"] == path
        return _RECORD.validate_python(said) if is_sound else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _digest(said: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record: of its JSON without spaces, keys in order."""
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _json(said: Mapping[str, Any]) -> bytes:
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None where it can't be read."""
    try:
        return files.sha256(path)
    except OSError:
        return None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def now() -> str:
    """Return the time as records tell it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@functools.cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python, of this project, and of the libraries that decide bytes."""
    found = {"python": platform.python_version(), "imagesets": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_RECORD = TypeAdapter(Record)
