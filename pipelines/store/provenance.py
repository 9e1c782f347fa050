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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from .. import __version__
from ..declarations import MD5, SHA256
from ..errors import MadeByNewer
from . import hashing, layout, seen, writing
from .hashing import Sight

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
    sha256: SHA256 | None
    size_bytes: _Size | None = None
    md5: MD5 | None = None


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
class Provenance:
    """What is known of an artefact that was made: how, from what, and with what outcome.

    mtime_ns: of the file when it was made; told, and trusted for nothing.
    """

    __pydantic_config__ = _NO_MORE

    path: str
    size_bytes: _Size
    sha256: SHA256
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


def recorded(data: Path, path: str) -> Provenance | None:
    """Return the record of an artefact, or None where there is none that can be trusted.

    Raises:
        MadeByNewer: there is one that only a newer Imagesets can read.
    """
    pending = load(data, path, layout.pending_lineage(path))
    if pending is not None:
        with contextlib.suppress(OSError):
            if is_of(pending, seen.look(data, path)):
                return pending  # a process died after the artefact took its place
    return load(data, path)


def as_recorded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as a record has them: JSON knows lists, and no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(parameters))
    return found


def sidecar(record: Provenance) -> bytes:
    """Return what a sidecar says of its artefact: the record without what depends on the run."""
    left_out = {"mtime_ns", "facts", "run"}
    said = {key: value for key, value in asdict(record).items() if key not in left_out}
    return _json(said | {"records": record.records})


def promote(data: Path, path: str) -> None:
    """Let the pending record become the latest; keep the one before."""
    with writing.storage_errors(data / layout.lineage(path)):
        retire(data, path)
        (data / layout.pending_lineage(path)).replace(data / layout.lineage(path))


def retire(data: Path, path: str) -> None:
    """Keep the latest record, unless it is damaged, as one of the past."""
    latest = data / layout.lineage(path)
    if (old := load(data, path)) is not None:
        kept = data / layout.past_lineage(path, old.run.ended)
        with writing.storage_errors(latest):
            kept.parent.mkdir(parents=True, exist_ok=True)
            latest.replace(kept)


def settle(data: Path, record: Provenance) -> None:
    """Let the record of an artefact that is up to date be the latest one, and the only one."""
    pending = data / layout.pending_lineage(record.path)
    if load(data, record.path, layout.pending_lineage(record.path)) == record:
        promote(data, record.path)
    else:
        pending.unlink(missing_ok=True)


def latest(data: Path) -> Iterator[Provenance]:
    """Yield the latest record of every artefact."""
    folder = data / layout.LINEAGE
    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder).as_posix().removesuffix(".json")
        with contextlib.suppress(MadeByNewer):
            if not name.startswith("history/") and (found := recorded(data, name)) is not None:
                yield found


def dump(record: Provenance) -> bytes:
    """Return provenance as it is written."""
    said = asdict(record)
    return _json(said | {"digest": _digest(said)})


def load(data: Path, path: str, name: str | None = None) -> Provenance | None:
    """Return the record of an artefact from a file (the latest), unless it is damaged.

    Raises:
        MadeByNewer: it is sound, and of a format that is not known here. Every format keeps the
            keys `format` and `digest`.
    """
    place = data / (name or layout.lineage(path))
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
        record = _PROVENANCE.validate_json(json.dumps(said), strict=True)
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


def is_of(record: Provenance, sight: Sight) -> bool:
    """Whether a record knows the bytes that were seen."""
    return (record.sha256, record.size_bytes) == (sight.sha256, sight.identity.size_bytes)


def read_bytes(path: Path) -> bytes | None:
    """Return what a file holds; None where it can't be read."""
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


_PROVENANCE = TypeAdapter(Provenance)
