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
import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from pipelines import __version__, files, hashing, seen
from pipelines.errors import MadeByNewer, StaleInput
from pipelines.hashing import Identity, Sight, now

logger = logging.getLogger(__name__)

FORMAT: Literal["imagesets-lineage/1"] = "imagesets-lineage/1"
_FAMILY = "imagesets-lineage/"
LIBRARIES = ("pyarrow", "polars", "numpy", "isal", "lmdb", "dagster")

Facts = Mapping[str, Any]
"""What making an artefact found out, in JSON's types: records, where an archive came from, …"""


def _time(text: str) -> str:
    """Return a time as records tell it, or raise ValueError."""
    if not text.endswith("Z"):
        raise ValueError("a time in UTC ends in Z")
    datetime.fromisoformat(text)
    return text


def _known_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts of which those that are read again have their types, or raise ValueError."""
    records, retrieved = facts.get("records", 0), facts.get("retrieved")
    if type(records) is not int or records < 0:
        raise ValueError("records is no count")
    if not isinstance(facts.get("origin", ""), str):
        raise ValueError("origin is no text")
    if retrieved is not None and _time(str(retrieved)) != retrieved:
        raise ValueError("retrieved is no time")
    return facts


# What a record must look like to be believed: the schema in `lineage.schema.json`.
_SHA256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_MD5 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
_Size = Annotated[int, Field(ge=0, lt=1 << 63)]
_Nanoseconds = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
_Time = Annotated[str, AfterValidator(_time)]
_Facts = Annotated[dict[str, Any], AfterValidator(_known_facts)]
_NO_MORE = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Input:
    """Something that an artefact is made from.

    path: relative to the data folder; of an archive, the place that its bytes came from.
    sha256: None while it does not exist. size_bytes, md5: None where they are not known.
    """

    __pydantic_config__ = _NO_MORE

    path: str
    sha256: _SHA256 | None
    size_bytes: _Size | None = None
    md5: _MD5 | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file under the data folder, and all that decides its bytes.

    path: relative to the data folder.
    stage, code_version: what makes it, and the version of that code.
    parameters: declared facts and options that its bytes depend on, in JSON's types.
    sidecar: path of the file that says what went in, for formats that have no room for it.
    sha256: what its bytes must hash to, where that is declared.
    """

    path: str
    stage: str
    code_version: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...] = ()
    sidecar: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """When, where and with what an artefact was made; times are UTC, ISO 8601.

    id: of the Dagster run; None where there was none.
    """

    __pydantic_config__ = _NO_MORE

    id: str | None
    started: _Time
    ended: _Time
    host: str
    versions: Mapping[str, str]

    @property
    def ended_s(self) -> float:
        """The end in seconds since 1970."""
        return hashing.seconds(self.ended)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of an artefact that was made: how, from what, and with what outcome.

    mtime_ns: of the file when it was made; told, and trusted for nothing.
    """

    __pydantic_config__ = _NO_MORE

    path: str
    size_bytes: _Size
    sha256: _SHA256
    mtime_ns: _Nanoseconds
    stage: str
    code_version: str
    parameters: dict[str, Any]
    inputs: tuple[Input, ...]
    facts: _Facts
    run: Run
    format: Literal["imagesets-lineage/1"] = FORMAT

    @property
    def records(self) -> int | None:
        """How many records (rows) the artefact holds, where it holds any."""
        found = self.facts.get("records")
        return found if isinstance(found, int) else None


_STRANGE = "something that is no file is in its place"

Condition = Literal["whole", "missing", "changed", "stale", "unknown"]
"""`changed`: its bytes are not those recorded or declared. `stale`: its inputs, its declaration or
its code moved on. `unknown`: there is no record that can be trusted."""


@dataclass(frozen=True, slots=True)
class State:
    """An artefact's condition, its record if there is one, and what was seen of its file.

    reason: a clause that says why it must be made; None where it is whole.
    """

    record: Record | None
    condition: Condition
    reason: str | None = None
    sight: Sight | None = field(default=None, compare=False)

    @property
    def is_up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return self.condition == "whole"


def recorded(data: Path, path: str) -> Record | None:
    """Return the record of an artefact, or None where there is none that can be trusted.

    Raises:
        MadeByNewer: there is one that only a newer Imagesets can read.
    """
    pending = _load(data, path, files.pending_lineage(path))
    if pending is not None:
        with contextlib.suppress(OSError):
            if _is_of(pending, seen.look(data, path)):
                return pending  # a process died after the artefact took its place
    return _load(data, path)


def state(data: Path, artefact: Artefact) -> State:
    """Decide whether an artefact is up to date; read its file only if nobody has since it changed.

    Raises:
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    sight = None
    with contextlib.suppress(OSError):
        sight = seen.look(data, artefact.path)
    return judged(data, artefact, sight)


def judged(data: Path, artefact: Artefact, sight: Sight | None) -> State:
    """Return the state of an artefact whose file was seen so; None if it could not be read.

    Raises:
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    record = recorded(data, artefact.path)
    condition, reason = _condition(data, artefact, record, sight)
    return State(record, condition, reason, sight)


def _condition(
    data: Path, artefact: Artefact, record: Record | None, sight: Sight | None
) -> tuple[Condition, str | None]:
    """Return the condition of an artefact, and why it must be made if it must."""
    path = data / artefact.path
    if sight is None:
        if path.is_file():
            return "changed", "it can't be read"
        is_strange = path.exists() or path.is_symlink()
        return "missing", _STRANGE if is_strange else "it is not there"
    if record is None:
        is_damaged = (data / files.lineage(artefact.path)).exists()
        return "unknown", (
            "the record of how it was made is damaged"
            if is_damaged
            else "there is no record of how it was made"
        )
    if reason := _wrong_bytes(data, artefact, record, sight):
        return "changed", reason
    reason = moved_on(record, artefact)
    return ("stale", reason) if reason else ("whole", None)


def _wrong_bytes(data: Path, artefact: Artefact, record: Record, sight: Sight) -> str | None:
    """Return why the bytes of an artefact are not those they must be; what is declared decides."""
    if artefact.sha256 not in (None, sight.sha256):
        return (
            f"its bytes are not those of the catalogue: SHA-256 {artefact.sha256} is declared, "
            f"{sight.sha256} was found"
        )
    if not _is_of(record, sight):
        return (
            f"its bytes changed since it was made: SHA-256 {record.sha256} was recorded, "
            f"{sight.sha256} was found"
        )
    if artefact.sidecar and _bytes(data / artefact.sidecar) != sidecar(record):
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
        current = state(data, artefact)
        if current.record is None or not current.is_up_to_date:
            raise StaleInput(
                f"{artefact.path} must be made first: {current.reason}. Build or materialize the "
                f"{artefact.stage} of this dataset too."
            )
        found.append(Input(artefact.path, current.record.sha256, current.record.size_bytes))
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

    Raises:
        StaleInput: what it is made from is not there, or not what it was, or changed meanwhile.
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    before = state(data, artefact)
    if before.record and before.is_up_to_date and before.record == _load(data, artefact.path):
        return before.record, before
    with files.locked(data / artefact.path):
        before = state(data, artefact)  # another process may just have made it
        if before.record and before.is_up_to_date:
            _settle(data, before.record)
            return before.record, before
        return _make(data, artefact, before, build, run_id), before


def distrust(data: Path, path: str, sha256: str | None) -> None:
    """Make sure that an artefact whose bytes were found wrong is made again.

    Whatever contradicts its record is made again anyway; a record that agrees with wrong bytes
    becomes one of the past, and with it those of all that was made from them.

    Args:
        data: the data folder.
        path: of the artefact.
        sha256: of its bytes when they were found wrong. Where other bytes are there by now, nothing
            is done: somebody made it again.

    Raises:
        StorageError: the folder of records can't be written to.
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    with files.locked(data / path):
        record = recorded(data, path)
        if record is None or record.sha256 != sha256 or seen.look(data, path).sha256 != sha256:
            return
        _settle(data, record)
        _retire(data, path)
    _doubt(data, made_since(data, record))


def made_since(data: Path, record: Record) -> list[Record]:
    """Return the records of all that was made from an artefact since it was made itself.

    When its bytes are found changed, nobody knows since when: all of that is in doubt.
    """
    later = [r for r in _latest(data) if r.run.ended_s >= record.run.ended_s]
    found: dict[str, Record] = {}
    while more := {
        r.path: r
        for r in later
        if r.path not in {record.path, *found}
        and any(made_from.path in {record.path, *found} for made_from in r.inputs)
    }:
        found |= more
    return list(found.values())


def moved_on(record: Record, artefact: Artefact) -> str | None:
    """Return what differs between how an artefact was made and how it would be made now."""
    if record.code_version != artefact.code_version:
        return (
            f"code version {record.code_version} made it, and now there is {artefact.code_version}"
        )
    old, new = record.parameters, _as_recorded(artefact.parameters)
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


def _as_recorded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as a record has them: JSON knows lists, and no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(parameters))
    return found


def sidecar(record: Record) -> bytes:
    """Return what a sidecar says of its artefact: the record without what depends on the run."""
    left_out = {"mtime_ns", "facts", "run"}
    said = {key: value for key, value in asdict(record).items() if key not in left_out}
    return _json(said | {"records": record.records})


def _make(
    data: Path,
    artefact: Artefact,
    before: State,
    build: Callable[[Path], Facts],
    run_id: str | None,
) -> Record:
    """Make an artefact that nobody else is making, and return its record."""
    goal = data / artefact.path
    staged = files.staged(goal)
    record_paths = (files.lineage(artefact.path), files.pending_lineage(artefact.path))
    for path in (staged, *(data / name for name in (*record_paths, artefact.sidecar) if name)):
        files.sweep(path)
    logger.info("%s: making it, because %s", artefact.path, before.reason)
    started = now()
    try:
        with _held(data, artefact.inputs) as compare:
            try:
                facts = build(staged)
            except Exception:
                compare()  # bytes that changed are the reason, if there are any
                raise
            compare()
        if before.condition == "changed" and before.record is not None:
            _doubt(data, made_since(data, before.record))
        return _take(data, artefact, before.record, facts, started, run_id)
    except BaseException:
        files.forget_empty(staged)
        if artefact.inputs:
            with contextlib.suppress(OSError):
                staged.unlink()  # only what was fetched can be gone on with
        raise


@contextlib.contextmanager
def _held(data: Path, made_from: Sequence[Input]) -> Iterator[Callable[[], None]]:
    """Hold what an artefact is made from open while it is used, and hash it meanwhile.

    While a file is held open, no other one can have its inode: so when its identity stands at the
    end, whoever opened its path in between read the bytes that were hashed.

    Gives a function that waits for the hashes and compares them with those expected.

    Raises:
        StaleInput: something is not there, holds other bytes, or changed while it was used.
    """
    stop = threading.Event()

    def look(file: BinaryIO) -> Sight:
        return hashing.remembered(file.fileno()) or hashing.look_through(file, stop)

    with contextlib.ExitStack() as stack:
        files_ = [stack.enter_context(_opened(data, one.path)) for one in made_from]
        identities = [hashing.identity(file) for file in files_]
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="inputs"))
        stack.callback(stop.set)  # before the thread is waited for, and that before files close
        looks = [pool.submit(look, file) for file in files_]
        held = list(zip(made_from, files_, identities, looks, strict=True))

        def compare() -> None:
            for one, file, identity, looking in held:
                path = data / one.path
                try:
                    sight = looking.result()
                    stands = identity == hashing.identity(file) == Identity.of(path.stat())
                except OSError as error:
                    seen.note_unreadable(data, one.path)
                    raise _unreadable(one.path, error) from error
                if not stands or sight.identity != identity:
                    raise StaleInput(
                        f"{one.path} was changed or replaced while it was used. Nothing was made "
                        "from it. Build again when nobody else writes to this data folder."
                    )
                seen.note(data, one.path, sight)
                _hold(one.path, one.sha256, sight)

        yield compare


def read_again(data: Path, record: Record) -> None:
    """Read an artefact anew, where its content gives trouble: perhaps it is not what was recorded.

    Raises:
        StaleInput: it is not, or it can't be read. The next build knows that.
    """
    try:
        sight = seen.look_anew(data, record.path)
    except OSError as error:
        raise _unreadable(record.path, error) from error
    _hold(record.path, record.sha256, sight)


def _hold(path: str, sha256: str | None, sight: Sight) -> None:
    """Raise `StaleInput` unless the bytes that were seen are those expected."""
    if sight.sha256 != sha256:
        raise StaleInput(
            f"{path} changed since it was made: expected SHA-256 {sha256}, found {sight.sha256}. "
            "Nothing was made from it. Build again: what changed is made anew first."
        )


def _unreadable(path: str, error: OSError) -> StaleInput:
    return StaleInput(
        f"{path} can't be read to its end ({error.strerror}). Nothing was made from it. Build "
        "again: what can't be read is made anew first."
    )


@contextlib.contextmanager
def _opened(data: Path, path: str) -> Iterator[BinaryIO]:
    """Open something that an artefact is made from.

    Raises:
        StaleInput: it can't be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(hashing.opened(data / path))
        except OSError as error:
            raise StaleInput(
                f"{path} must be made first: it can't be read ({error.strerror}). Build or "
                "materialize the stages before this one too."
            ) from error
        yield file


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
    sight = hashing.remembered(made) or hashing.look(made)
    size_bytes, sha256 = sight.identity.size_bytes, sight.sha256
    if made == goal and old is not None and old.sha256 == sha256:
        facts = old.facts  # as it was: what is known of it still holds
    record = Record(
        path=artefact.path,
        size_bytes=size_bytes,
        sha256=sha256,
        mtime_ns=sight.identity.mtime_ns,
        stage=artefact.stage,
        code_version=artefact.code_version,
        parameters=_as_recorded(artefact.parameters),
        inputs=artefact.inputs or _origin(artefact, facts, size_bytes, sha256),
        facts=dict(facts),
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
    if (taken := hashing.remembered(goal)) is not None:
        seen.note(data, artefact.path, taken)
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
        with files.storage_errors(latest):
            kept.parent.mkdir(parents=True, exist_ok=True)
            latest.replace(kept)


def _settle(data: Path, record: Record) -> None:
    """Let the record of an artefact that is up to date be the latest one, and the only one."""
    pending = data / files.pending_lineage(record.path)
    if _load(data, record.path, files.pending_lineage(record.path)) == record:
        _promote(data, record.path)
    else:
        pending.unlink(missing_ok=True)


def _doubt(data: Path, doubtful: Iterable[Record]) -> None:
    """Let records be ones of the past, so that what they vouch for is made again."""
    for record in doubtful:
        with files.locked(data / record.path):
            if recorded(data, record.path) == record:  # nobody has made it again meanwhile
                logger.info("%s: to be made again: what it was made from changed", record.path)
                _settle(data, record)
                _retire(data, record.path)


def _latest(data: Path) -> Iterator[Record]:
    """Yield the latest record of every artefact."""
    folder = data / files.LINEAGE
    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder).as_posix().removesuffix(".json")
        with contextlib.suppress(MadeByNewer):
            if not name.startswith("history/") and (found := recorded(data, name)) is not None:
                yield found


def _dump(record: Record) -> bytes:
    said = asdict(record)
    return _json(said | {"digest": _digest(said)})


def _load(data: Path, path: str, name: str | None = None) -> Record | None:
    """Return the record of an artefact from a file (the latest), unless it is damaged.

    Raises:
        MadeByNewer: it is sound, and of a format that is not known here. Every format keeps the
            keys `format` and `digest`.
    """
    place = data / (name or files.lineage(path))
    try:
        with hashing.opened(place) as file:
            said = json.loads(file.read().decode(), object_pairs_hook=_once_each)
        digest = said.pop("digest")
        if digest != _digest(said):
            return None
        if said["format"] != FORMAT and str(said["format"]).startswith(_FAMILY):
            raise MadeByNewer(
                f"{place} was made by a newer Imagesets (format {said['format']!r}, where "
                f"{FORMAT!r} is the newest known here). Use that version for this data folder, or "
                "choose another folder with --data or IMAGESETS_DATA."
            )
        record = _RECORD.validate_json(json.dumps(said), strict=True)
        return record if record.path == path else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, or raise ValueError where a key stands in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _digest(said: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record: of its JSON without spaces, keys in order."""
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _json(said: Mapping[str, Any]) -> bytes:
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


def _is_of(record: Record, sight: Sight) -> bool:
    """Whether a record knows the bytes that were seen."""
    return (record.sha256, record.size_bytes) == (sight.sha256, sight.identity.size_bytes)


def _bytes(path: Path) -> bytes | None:
    try:
        with hashing.opened(path) as file:
            return file.read()
    except OSError:
        return None


@functools.cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python, of this project, and of the libraries that do the work."""
    found = {"python": platform.python_version(), "imagesets": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_RECORD = TypeAdapter(Record)
