"""What Dagster keeps of runs, read as somebody who looks for a password would read it."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path


def everything(home: Path) -> Iterator[tuple[str, str]]:
    """Where, and what: every value of every database, and the bytes of every file.

    Whatever is compressed is inflated, be it a value or anywhere in a file, in use or not.
    """
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield path.name, content.decode("utf-8", "replace")
        for text in _inflated(content):
            yield f"{path.name}, compressed", text
        if content.startswith(b"SQLite format 3"):
            with contextlib.closing(sqlite3.connect(path)) as database:
                yield from _values(path.name, database)


def _inflated(content: bytes) -> Iterator[str]:
    """Yield what inflates from any place in a file, as far as it goes."""
    at = content.find(b"\x78")
    while at >= 0:
        if int.from_bytes(content[at : at + 2], "big") % 31 == 0:  # a header, says RFC 1950
            inflater, found = zlib.decompressobj(), b""
            with contextlib.suppress(zlib.error):
                for start in range(at, min(len(content), at + (1 << 20)), 256):
                    found += inflater.decompress(content[start : start + 256])
            yield found.decode("utf-8", "replace")
        at = content.find(b"\x78", at + 1)


def _values(name: str, database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in database.execute(f'SELECT * FROM "{table}"').fetchall():
            for value in row:
                found = value
                if isinstance(found, bytes):
                    with contextlib.suppress(zlib.error):
                        found = zlib.decompress(found)
                    found = found.decode("utf-8", "replace")
                yield f"{name}, {table}", str(found)


def holding(home: Path, *secrets: str) -> list[str]:
    """Where any of some secrets stands."""
    return sorted({where for where, what in everything(home) if any(s in what for s in secrets)})
