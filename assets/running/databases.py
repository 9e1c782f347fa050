"""Dagster's SQLite databases: opened quickly.

Dagster takes half a second to set up empty databases, as its migrations tell it to, and opens a new
engine for every event that it records. Those set up once on this machine are kept in the user's
cache, for each version of Dagster, and copied; and an engine is kept for each file.

Not here: what is recorded.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import platformdirs
import sqlalchemy
from dagster._core.storage.event_log.sqlite import sqlite_event_log

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
    return platformdirs.user_cache_path("imagesets") / f"dagster-{versions}"


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
def one_engine_each() -> Iterator[None]:
    """Let Dagster use the same engine for all events of a file: SQLAlchemy then knows its SQL.

    An engine takes a millisecond to make, of which Dagster makes six hundred for a build of two
    datasets. It asks for no pool, so a connection still lasts as long as a statement.
    """
    names = vars(sqlite_event_log)
    create: Any = names["create_engine"]

    @functools.cache
    def cached(url: str, poolclass: Any, timeout: float) -> Any:
        return create(url, poolclass=poolclass, connect_args={"timeout": timeout})

    def engine(url: str, *, poolclass: Any, connect_args: dict[str, Any]) -> Any:
        return cached(url, poolclass, connect_args["timeout"])

    names["create_engine"] = engine
    try:
        yield
    finally:
        names["create_engine"] = create
