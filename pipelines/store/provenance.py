"""Provenance: what is known of an artefact that was made, as JSON, and what was known before.

    data/tables/mnist/train.parquet                                 an artefact
    data/lineage/tables/mnist/train.parquet.json                    its provenance: the latest
    data/lineage/history/tables/mnist/train.parquet/<time>.json     that of earlier ones

`lineage.schema.json` describes it. An artefact and its provenance appear together; how is a matter
of the store (`folder`, `bucket`).

`imagesets-lineage/1` is written wherever it suffices, so that older versions can read it;
`imagesets-lineage/2` knows folders, more places than /1, and artefacts that name their libraries.

Not here: what shall be made (`artefacts`), whether an artefact is up to date (`state`), making one
(`making`), or when its file was last read (`seen`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, TypeAdapter

from .. import __version__, advice
from ..declarations import SHA256
from ..errors import Conflict, MadeByNewer
from . import clock, hashing, layout, seen
from .artefacts import LIBRARIES, NO_MORE, Format, Input, Size
from .hashing import File, Sight
from .store import Store, Taking

logger = logging.getLogger(__name__)

NEWEST: Format = "imagesets-lineage/2"
_FAMILY = "imagesets-lineage/"


def _time(text: str) -> str:
    """Return a time as provenance tells it, or raise ValueError."""
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


# What provenance must look like to be believed: the schema in `lineage.schema.json`.
_Nanoseconds = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
_Time = Annotated[str, AfterValidator(_time)]
_Facts = Annotated[dict[str, Any], AfterValidator(_known_facts)]


@dataclass(frozen=True, slots=True)
class Run:
    """When, where and with what an artefact was made; times are UTC, ISO 8601.

    id: of the Dagster run; None where there was none.
    """

    __pydantic_config__ = NO_MORE

    id: str | None
    started: _Time
    ended: _Time
    host: str
    versions: Mapping[str, str]

    @property
    def ended_s(self) -> float:
        """The end in seconds since 1970."""
        return clock.seconds(self.ended)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of an artefact that was made: how, from what, and with what outcome.

    sha256: of its bytes; of a folder, that of the list of its files (`hashing.sha256_of`).
    mtime_ns: of the file when it was made; for people: nothing relies on it.
    files: of a folder, in the order of their names; None of a file.
    """

    __pydantic_config__ = NO_MORE

    path: str
    size_bytes: Size
    sha256: SHA256
    mtime_ns: _Nanoseconds
    stage: str
    code_version: str
    parameters: dict[str, Any]
    inputs: tuple[Input, ...]
    facts: _Facts
    run: Run
    format: Format = "imagesets-lineage/1"
    files: tuple[File, ...] | None = None

    @property
    def records(self) -> int | None:
        """How many records (rows) the artefact holds, where it holds any."""
        found = self.facts.get("records")
        return found if isinstance(found, int) else None

    @property
    def is_newer(self) -> bool:
        """Whether a newer release of Imagesets made the artefact than this one."""
        return _release(self.run.versions.get("imagesets", "")) > _release(__version__)


def _release(version: str) -> list[int]:
    """Return the numbers of a release, to be compared."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def latest(store: Store, path: str) -> Provenance | None:
    """Return the provenance of an artefact, or None where there is none that can be trusted.

    Raises:
        MadeByNewer: there is one that only a newer Imagesets can read.
    """
    pending = load(store, path, layout.pending_lineage(path)) if store.is_folder else None
    if pending is not None:  # a process died
        with contextlib.suppress(OSError):
            if is_of(pending, seen.look(store, path)):
                return pending  # after the artefact took its place
    return load(store, path)


def all_of(store: Store, path: str) -> list[Provenance]:
    """Return all provenance of an artefact that can be trusted: that of the past, then the latest.

    Raises:
        MadeByNewer: some can only be read by a newer Imagesets.
    """
    past = store.names(f"{layout.past_lineages()}/{path}")
    found = [*(load(store, path, name) for name in sorted(past)), latest(store, path)]
    return [known for known in found if known is not None]


def artefacts(store: Store) -> list[str]:
    """Return the paths of all artefacts that have provenance, be it damaged."""
    names = (name.removesuffix(".next") for name in store.names(layout.LINEAGE))
    paths = (
        name.removeprefix(f"{layout.LINEAGE}/").removesuffix(".json")
        for name in names
        if name.endswith(".json")
    )
    return [path for path in dict.fromkeys(paths) if path.startswith(layout.ARTEFACTS)]


def of_everything(store: Store) -> Iterator[Provenance]:
    """Yield the latest provenance of every artefact."""
    for path in artefacts(store):
        with contextlib.suppress(MadeByNewer):
            if (found := latest(store, path)) is not None:
                yield found


def is_of(known: Provenance, sight: Sight) -> bool:
    """Whether provenance knows the bytes that were seen."""
    seen_so = (sight.sha256, sight.identity.size_bytes, sight.files)
    return (known.sha256, known.size_bytes, known.files) == seen_so


# --- The latest, the one that waits, and those of the past ----------------------------------------


def take(
    store: Store,
    known: Provenance,
    made: Path | None,
    before: bytes | None = None,
    beside: str | None = None,
) -> None:
    """Let an artefact and its provenance appear together; keep the provenance before.

    Args:
        store: where it is kept.
        known: its provenance.
        made: what was made, at its staged place; None where what is in its place stays.
        before: the provenance that was there when it was decided to make it, as it lay there.
        beside: the path of its sidecar, where it has one.

    Raises:
        Conflict: somebody else made it meanwhile.
        StorageError: the store can't be written to.
    """
    said = (beside, sidecar(known)) if beside else None
    past = _past(store, known.path)
    store.take(known.path, made, Taking(dump(known), known.sha256, before, past, said))


def retire(store: Store, known: Provenance) -> None:
    """Let provenance be one of the past, unless another one is the latest by now."""
    name = layout.lineage(known.path)
    said = store.read(name)
    if said is not None and _parsed(store, known.path, name, said) == known:
        with contextlib.suppress(Conflict):  # made again meanwhile
            store.retire(known.path, said, layout.past_lineage(known.path, known.run.ended))


def _past(store: Store, path: str) -> str | None:
    """Return where the latest provenance is to be kept, unless it is damaged."""
    old = load(store, path)
    return layout.past_lineage(path, old.run.ended) if old else None


def settle(store: Store, known: Provenance) -> None:
    """Let the provenance of an artefact that is up to date be the latest one, and the only one."""
    if not store.is_folder:
        return
    pending = layout.pending_lineage(known.path)
    if load(store, known.path, pending) == known:
        if (old := load(store, known.path)) is not None:
            retire(store, old)
        store.publish(store.place(pending), layout.lineage(known.path))
    else:
        store.swap(pending, store.read(pending), None)


def forget_past(store: Store, before_s: float) -> int:
    """Forget past provenance that was replaced before a time; return how many.

    Of each artefact, the one that was replaced last is kept.
    """
    of_one: dict[str, list[str]] = {}
    found = store.names(layout.past_lineages())
    for name in found:
        if name.endswith(".json"):
            of_one.setdefault(name.rpartition("/")[0], []).append(name)
    old = [name for names in of_one.values() for name in names[:-1]]
    gone = [name for name in old if found[name].ctime_ns < before_s * 1e9]  # when it was moved here
    for name in gone:
        store.forget(name)
    return len(gone)


# --- JSON -----------------------------------------------------------------------------------------


def as_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as provenance has them: JSON knows lists, and no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(parameters))
    return found


def as_dict(value: Any) -> Any:
    """Return a dataclass, and those in it, as dictionaries that share what they hold.

    `dataclasses.asdict` copies all of it: most of the time of knowing that nothing is to do.
    """
    if isinstance(value, str | int | None):  # nearly all there is
        return value
    if is_dataclass(value):
        return {field.name: as_dict(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: as_dict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_dict(one) for one in value]
    return tuple(as_dict(one) for one in value) if isinstance(value, tuple) else value


def sidecar(known: Provenance) -> bytes:
    """Return what a sidecar says of its artefact: provenance without what depends on the run."""
    left_out = {"mtime_ns", "facts", "run"}
    said = {key: value for key, value in _said(known).items() if key not in left_out}
    return _json(said | {"records": known.records})


def dump(known: Provenance) -> bytes:
    """Return provenance as it is written."""
    said = _said(known)
    return _json(said | {"digest": _digest(said)})


def load(store: Store, path: str, name: str | None = None) -> Provenance | None:
    """Return the provenance of an artefact from a file (the latest), unless it is damaged.

    Raises:
        MadeByNewer: it is sound, and of a format that is not known here. Every format keeps the
            keys `format` and `digest`.
    """
    name = name or layout.lineage(path)
    return _parsed(store, path, name, store.read(name) or b"")


def _parsed(store: Store, path: str, name: str, content: bytes) -> Provenance | None:
    """Return the provenance of an artefact from what a file holds, unless it is damaged."""
    try:
        said = json.loads(content.decode(), object_pairs_hook=_once_each)
        digest = said.pop("digest")
        if digest != _digest(said):
            return None
        _refuse_newer(store, name, str(said["format"]))
        known = _PROVENANCE.validate_json(json.dumps(said), strict=True)
        return known if known.path == path and _is_consistent(known) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _refuse_newer(store: Store, name: str, found: str) -> None:
    if found.startswith(_FAMILY) and found not in get_args(Format):
        raise MadeByNewer(
            f"{store.address(name)} was made by a newer Imagesets (format {found!r}, where "
            f"{NEWEST!r} is the newest known here). Use that version for this data folder, or "
            f"{advice.ELSEWHERE}."
        )


def _is_consistent(known: Provenance) -> bool:
    """Whether a folder's files are what its hash and size say, and the format knows folders."""
    if known.files is None:
        return True
    names, size = [file.path for file in known.files], sum(f.size_bytes for f in known.files)
    is_in_order = names == sorted({*names})
    says_so = (known.sha256, known.size_bytes) == (hashing.sha256_of(known.files), size)
    return known.format != "imagesets-lineage/1" and is_in_order and says_so


def _said(known: Provenance) -> dict[str, Any]:
    """Return provenance as its format has it: files are listed for a folder only."""
    # What was parameters or facts is JSON as it is.
    values = {field.name: getattr(known, field.name) for field in fields(known)}
    said = {name: v if isinstance(v, dict) else as_dict(v) for name, v in values.items()}
    if known.files is None:
        del said["files"]
    return said


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, or raise ValueError where a key stands in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _digest(said: Mapping[str, Any]) -> str:
    """Return the SHA-256 of provenance: of its JSON without spaces, keys in order."""
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _json(said: Mapping[str, Any]) -> bytes:
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


@functools.cache
def versions(libraries: tuple[str, ...] = LIBRARIES) -> Mapping[str, str]:
    """Return the versions of Python, of this project, and of libraries, where they are there."""
    found = {"python": platform.python_version(), "imagesets": __version__}
    if "zlib" in libraries:  # no package: the one that Python is linked with
        found["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    if "libjpeg-turbo" in libraries and (version := _libjpeg()):
        found["libjpeg-turbo"] = version
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = _version(importlib.metadata.distribution(name))
    return found


def _libjpeg() -> str | None:
    """Return the version of the libjpeg that Pillow brings, if it is here."""
    try:
        from PIL import features
    except ModuleNotFoundError:
        return None
    return features.version_feature("libjpeg_turbo") or features.version_codec("jpg")


def _version(library: importlib.metadata.Distribution) -> str:
    """Return the version of a library by one line of its metadata.

    All of them, parsed, take as long as hashing an archive.
    """
    line = re.search("^Version: *(.+)$", library.read_text("METADATA") or "", re.MULTILINE)
    return line[1].strip() if line else library.version


_PROVENANCE = TypeAdapter(Provenance)
