"""Passwords that version 0.1.0 left in Dagster's records of runs: found, warned of, and removed.

It handed addresses (--mirror, --openlineage) to Dagster as the configuration of resources. Dagster
keeps that with every run, compressed, in its snapshots of the definitions, and its UI shows it.
Nothing is written there any more (`resources`), but what was written stays.

Snapshots are rewritten, not deleted: runs refer to them, and the UI shows a run's graph and its
configuration from them. Not here: keeping secrets out of messages (`pipelines.redaction`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.runs import SqlRunStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from assets.settings import ROOT, Settings
from pipelines.errors import StorageError
from pipelines.redaction import check, named, without_secrets
from pipelines.store import writing

COMMAND = "python -m assets forget-passwords"
WAIT_S = 30  # for other processes that write to a database

_NOTE = "looked_for_passwords.json"  # in Dagster's home

# A mirror or an endpoint in JSON, or in JSON within JSON, whose quotes are escaped.
_CONFIGURED = re.compile(r'(?:mirror|openlineage)[\\"]+:\s*[\\"]+[\w+.-]+://')
_JSON_DEPTH = 4
_AS_REQUESTS_QUOTES = "!#$%&'()*+,/:;=?@[]~"

logger = logging.getLogger("pipelines.passwords")  # to the person, as the warnings of the pipelines


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed.

    addresses: whose passwords, named without them.
    values: in how many values of Dagster's databases.
    files: under the data folder, that hold them too; they are left as they are.
    """

    addresses: tuple[str, ...]
    values: int
    files: tuple[Path, ...]


def warn(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Tell the person of passwords in Dagster's records.

    Only what is new since the last time is looked at: a note beside the records says how far that
    was, and what was found.
    """
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        return
    known, identity = _noted(settings), storage.get_run_storage_id()
    before: Mapping[str, Any] = known.get(identity, {})
    now: dict[str, Any] = {"found": list(before.get("found", []))}
    with storage.connect() as connection:
        for table, column in (("snapshots", "snapshot_body"), ("runs", "run_body")):
            what = sa.table(table, sa.column("id"), sa.column(column))
            new = sa.select(what.c.id, what.c[column]).where(what.c.id > before.get(table, 0))
            now[table] = before.get(table, 0)
            for number, value in connection.execute(new.order_by(what.c.id)):
                now[table] = number
                found = map(named, _addresses(_plain(value)))
                now["found"] = sorted({*now["found"], *found})
    if now != before:
        _note(settings, known | {identity: now})
    if now["found"]:
        data = "" if settings.data == ROOT / "data" else f" --data {settings.shown_data}"
        logger.warning(
            "Dagster's records of runs hold what opens %s: an earlier version wrote it there, and "
            "the UI shows it. Remove it with: %s%s",
            ", ".join(now["found"]),
            COMMAND,
            data,
        )


def remove(settings: Settings) -> Removed:
    """Remove from Dagster's records all passwords that stand in mirrors' and endpoints' addresses.

    Their bytes are gone from the files of the databases afterwards, and the runs are still there.

    Raises:
        StorageError: the databases can't be written, or other processes keep them busy.
    """
    try:
        engines = list(_engines(settings))
        found = {address for engine in engines for address in _written(engine)}
        cuts = _cuts(found)
        values = sum(_rewrite(engine, cuts) for engine in engines) if cuts else 0
        for engine in engines:  # also where an earlier try was stopped before it came to that
            _compact(engine)
    except SQLAlchemyError as error:
        problem = without_secrets(str(getattr(error, "orig", "")), settings.postgres or "")
        raise StorageError(
            f"Dagster's records of runs can't be rewritten: {problem}. Stop the UI and every build "
            f"that uses them, then run it again: {COMMAND}"
        ) from None  # whose text has the values too
    (settings.dagster_home / _NOTE).unlink(missing_ok=True)
    places = tuple(sorted(map(named, found)))
    return Removed(places, values, tuple(_other_files(settings, cuts)) if cuts else ())


def _noted(settings: Settings) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((settings.dagster_home / _NOTE).read_text("utf-8"))
        return noted if isinstance(noted, dict) else {}
    return {}


def _note(settings: Settings, known: Mapping[str, Any]) -> None:
    with writing.atomic(settings.dagster_home / _NOTE) as partial:
        partial.write_text(json.dumps(known, indent=1), "utf-8")


def _plain(value: str | bytes) -> str:
    """Return a value of a database as text, inflated where Dagster has compressed it."""
    if isinstance(value, str):
        return value
    with contextlib.suppress(zlib.error):
        value = zlib.decompress(value)
    return bytes(value).decode("utf-8", "surrogateescape")


def _addresses(text: str) -> Iterator[str]:
    """Yield the addresses with secrets among what resources are configured with in some JSON."""
    if _CONFIGURED.search(text):
        with contextlib.suppress(ValueError):
            yield from _configured(json.loads(text))


def _configured(value: Any, key: str = "") -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _configured(inner, name)
        case list():
            for inner in value:
                yield from _configured(inner)
        case str() if key in ("mirror", "openlineage"):
            if "://" in value and _holds_secrets(value):
                yield value
        case str() if value.startswith(("{", "[")):
            yield from _addresses(value)


def _holds_secrets(address: str) -> bool:
    try:
        check(address)
    except ValueError:  # as 0.1.0 took it, which was less strict
        return "@" in address or "?" in address
    return without_secrets(address) != address


def _cuts(addresses: Collection[str]) -> dict[str, str]:
    """Return what to replace by what, the longest first, in every spelling that JSON may have."""
    cuts: dict[str, str] = {}
    for address in addresses:
        rest = address.partition("://")[2]
        opener, at, _ = rest.rpartition("@")
        _, mark, query = rest.partition("?")
        cuts |= dict.fromkeys(_in_json(address), named(address))
        cuts |= dict.fromkeys(_in_json(f"://{opener}@"), "://") if at else {}
        cuts |= dict.fromkeys(_in_json(f"?{query}"), "") if mark else {}
    return dict(sorted(cuts.items(), key=lambda cut: len(cut[0]), reverse=True))


def _in_json(text: str) -> Iterator[str]:
    """Yield a text in every spelling that it may have in JSON, or in JSON within JSON."""
    for spelling in (text, quote(text, safe=_AS_REQUESTS_QUOTES)):
        for ascii_only in (True, False):
            escaped = spelling
            for _ in range(_JSON_DEPTH):
                yield escaped
                escaped = json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]


def _engines(settings: Settings) -> Iterator[sa.Engine]:
    if settings.postgres:
        yield sa.create_engine(settings.postgres, poolclass=NullPool)
    for path in sorted(settings.dagster_home.rglob("*.db")):
        url = sa.URL.create("sqlite", database=str(path))
        yield sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": WAIT_S})


def _columns(engine: sa.Engine) -> Iterator[tuple[sa.Table, sa.Column[Any]]]:
    """Yield every column of a database that holds text or bytes."""
    declared = sa.MetaData()
    declared.reflect(engine)
    for table in declared.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.String | sa.LargeBinary):
                yield table, column


def _written(engine: sa.Engine) -> Iterator[str]:
    """Yield the addresses with secrets that stand in a database."""
    with engine.connect() as connection:
        for _, column in _columns(engine):
            for (value,) in connection.execute(sa.select(column).where(column.is_not(None))):
                yield from _addresses(_plain(value))


def _rewrite(engine: sa.Engine, cuts: Mapping[str, str]) -> int:
    """Rewrite the values of a database that hold what is to be cut; return how many did."""
    pattern = re.compile("|".join(map(re.escape, cuts)))
    rewritten = 0
    with engine.begin() as connection:
        for table, column in _columns(engine):
            values = connection.execute(sa.select(column).where(column.is_not(None)).distinct())
            for value in [value for (value,) in values if pattern.search(_plain(value))]:
                text = pattern.sub(lambda found: cuts[found[0]], _plain(value))
                change = sa.update(table).where(column == value)
                connection.execute(change.values({column: _like(value, text)}))
                rewritten += 1
    return rewritten


def _like(value: str | bytes, text: str) -> str | bytes:
    """Return a text as a value was stored: as text, as bytes, or compressed."""
    if isinstance(value, str):
        return text
    stored = text.encode("utf-8", "surrogateescape")
    try:
        zlib.decompress(value)
    except zlib.error:
        return stored
    return zlib.compress(stored)


def _compact(engine: sa.Engine) -> None:
    """Write a database's files anew, so that what was overwritten is in none of them."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name != "sqlite":
            for table in dict.fromkeys(table.name for table, _ in _columns(engine)):
                connection.execute(sa.text(f'VACUUM FULL "{table}"'))
            return
        connection.execute(sa.text("PRAGMA secure_delete = ON"))
        connection.execute(sa.text("VACUUM"))
        busy = connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
    if busy:
        raise StorageError(
            f"{engine.url.database} is rewritten, but other processes keep its write-ahead log, "
            "where passwords may still stand. Stop the UI and every build that uses it, then run "
            f"it again: {COMMAND}"
        )


def _other_files(settings: Settings, cuts: Collection[str]) -> Iterator[Path]:
    """Yield what else lies under the data folder and holds what is to be cut."""
    needles = [cut.encode("utf-8", "surrogateescape") for cut in cuts]
    for path in sorted(settings.here.rglob("*")):
        inside = path.relative_to(settings.here).parts[0]
        if inside in ("dagster", "archives") or not path.is_file() or not path.stat().st_size:
            continue
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if any(content.find(needle) >= 0 for needle in needles):
                yield path
