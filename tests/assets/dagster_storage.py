"""Dagster's own records of runs, with less work for the same records: a whole build takes half.

For each statement that Dagster sends to SQLite it makes SQLAlchemy's engine anew, which then
compiles the statement anew; and for each database that it sets up it reads its hundred scripts of
migrations four times. Here each is made once for a process, and used again. For each event of an
asset it also asks a database up to five times whether migrations of years ago were made: once they
were, it stays so. Nothing else is kept of a database: every connection is a new one, to the file
that is there then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from assets.running import databases


def work_less() -> None:
    """Let this process do so, from here on."""
    for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        assert storage.create_engine in (create_engine, _engine), "Dagster does otherwise by now"
        storage.create_engine = _engine
    ScriptDirectory.from_config = databases.scripts
    SqlEventLogStorage.has_asset_key_col = _has_column
    SqlEventLogStorage.has_secondary_index = _has_index


def _engine(url: str, *, poolclass: type, connect_args: dict[str, Any] | None = None) -> Engine:
    assert poolclass is NullPool, "no connection may be used twice"
    return _engine_once(url, tuple((connect_args or {}).items()))


@functools.lru_cache(maxsize=64)
def _engine_once(url: str, connect_args: tuple[tuple[str, Any], ...]) -> Engine:
    engine = create_engine(url, poolclass=NullPool, connect_args=dict(connect_args))
    # Dagster closes each engine after a statement: that makes a pool anew, though none has anything
    # that is open.
    engine.dispose = _nothing
    return engine


def _nothing(close: bool = True) -> None:
    """Do nothing."""


def _remembered(
    asks: Callable[[SqlEventLogStorage, str], bool],
) -> Callable[[SqlEventLogStorage, str], bool]:
    """Ask a storage no more for what was so once."""
    known: WeakKeyDictionary[SqlEventLogStorage, set[str]] = WeakKeyDictionary()

    def answer(storage: SqlEventLogStorage, name: str) -> bool:
        names = known.setdefault(storage, set())
        if name not in names and asks(storage, name):
            names.add(name)
        return name in names

    return answer


_has_column = _remembered(SqlEventLogStorage.has_asset_key_col)
_has_index = _remembered(SqlEventLogStorage.has_secondary_index)
