"""Dagster's SQLite databases: opened quickly.

Dagster takes half a second to set up empty databases, as its migrations tell it to. Those set up
once on this machine are kept in the user's cache, for each version of Dagster, and copied. And for
each event it opens a connection: one is kept for each file instead.

Not here: what is recorded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy.pool import QueuePool

from pipelines.store import cache

FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


@contextlib.contextmanager
def set_up(home: Path) -> Iterator[None]:
    """Copy empty databases to where there are none; keep those that the block sets up there."""
    is_new = not any((home / name).exists() for name in FILES)
    kept = _cache()
    if is_new and not _copied(kept, home):
        for name in FILES:
            (home / name).unlink(missing_ok=True)
        yield
        with contextlib.suppress(OSError):
            _keep(home, kept)
    else:
        yield


def _cache() -> Path:
    versions = f"{dg.__version__}-{sqlalchemy.__version__}-{sqlite3.sqlite_version}"
    return cache.folder() / f"dagster-{versions}"


def _copied(kept: Path, home: Path) -> bool:
    """Copy what was kept; return whether it is there, and whole."""
    try:
        for name in FILES:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / name, home / name)
            with contextlib.closing(sqlite3.connect(home / name)) as database:
                if database.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                    return False
                if not database.execute("SELECT version_num FROM alembic_version").fetchall():
                    return False
    except (OSError, sqlite3.Error):
        return False
    return True


def _keep(home: Path, kept: Path) -> None:
    """Keep databases that were just set up; whoever comes second leaves them as they are."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=f".{kept.name}-") as folder:
        for name in FILES:
            if (home / f"{name}-wal").exists():
                return  # not all of it is in the file yet
            copy = Path(folder) / "new" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / name, copy)
        shutil.rmtree(kept, ignore_errors=True)
        os.replace(Path(folder) / "new", kept)


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """Let Dagster record the same with less work, while the block lasts.

    For each statement it makes an engine anew, which compiles the statement anew, opens a
    connection and closes it, whereupon SQLite writes its log back; it reads a hundred scripts of
    migrations for each database that it opens; and asks before each event which columns there are.
    Here an engine is kept for each file, with its connections, and what was read once. (A pool with
    one connection a thread would lose events: Dagster opens a second one within the first.)
    """
    engines: dict[tuple[str, float], sqlalchemy.Engine] = {}

    def engine(url: str, *, poolclass: Any, connect_args: Mapping[str, Any] = _NOTHING) -> Any:
        key = url, connect_args.get("timeout", 5.0)
        if key not in engines:
            arguments = {"poolclass": QueuePool, "connect_args": dict(connect_args)}
            engines[key] = sqlalchemy.create_engine(url, **arguments)
            engines[key].dispose = lambda close=True: None  # type: ignore[method-assign]
        return engines[key]

    with contextlib.ExitStack() as stack:
        for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            stack.enter_context(_instead(storage, "create_engine", engine))
        stack.enter_context(_instead(ScriptDirectory, "from_config", scripts))
        stack.enter_context(_instead(SqlEventLogStorage, _COLUMN, _columns()))
        try:
            yield
        finally:
            for one in engines.values():
                sqlalchemy.Engine.dispose(one)


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_COLUMN = "_has_asset_key_col_on_connection"


@contextlib.contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Let a name of a module or class mean something else while the block lasts."""
    before = vars(owner)[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


_read_scripts = ScriptDirectory.from_config
_known_scripts: dict[str, ScriptDirectory] = {}


def scripts(config: Config) -> ScriptDirectory:
    """Return a folder of migrations, which is read once."""
    folder = str(config.get_main_option("script_location"))
    if folder not in _known_scripts:
        _known_scripts[folder] = _read_scripts(config)
    return _known_scripts[folder]


def _columns() -> Callable[[SqlEventLogStorage, Any, str], bool]:
    """Return what asks each storage once whether it has a column; nobody migrates it meanwhile."""
    ask, known = vars(SqlEventLogStorage)[_COLUMN], dict[tuple[int, str], bool]()

    def has(storage: SqlEventLogStorage, connection: Any, name: str) -> bool:
        if (id(storage), name) not in known:
            known[id(storage), name] = ask(storage, connection, name)
        return known[id(storage), name]

    return has
