"""Publishers' archives: fetched from the first place that has the right bytes, verified.

Not here: looking inside an archive (`pipelines.members`), deciding whether one is still as it was
when it was verified (`pipelines.lineage`). A file is right when its size, MD5 and SHA-256 are those
of the catalogue; wrong bytes are a mirror's failure like any other.
"""

from __future__ import annotations

import hashlib
import html
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from pipelines import __version__, files
from pipelines.catalogue import Archive, Source
from pipelines.errors import ArchiveError, ArchiveUnavailable, WrongBytes
from pipelines.lineage import Artefact
from pipelines.work import Advance, unwatched

CODE_VERSION = "1"  # raise when an archive verified before must be verified anew

USER_AGENT = f"imagesets/{__version__} (benchmark image datasets; python-requests)"
TIMEOUTS_S = (10.0, 60.0)  # to connect; between two pieces of an answer

_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 4096  # kept to say what arrived instead

logger = logging.getLogger(__name__)

Identify = Callable[[str], str | None]
"""MD5 → `source/file` of the archive in the catalogue that has it."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What is measured of a file to know it."""

    size_bytes: int
    md5: str
    sha256: str


def artefact(source: Source, archive: Archive) -> Artefact:
    """Return the archive as an artefact: what decides its bytes is its declaration."""
    return Artefact(
        path=files.archive(source.name, archive.name),
        stage="archives",
        code_version=CODE_VERSION,
        parameters={"bytes": archive.size_bytes, "md5": archive.md5, "sha256": archive.sha256},
    )


def places(source: Source, archive: Archive, mirror: str | None, offline: bool) -> list[str]:
    """Return the paths and URLs to try, in order: the user's mirror, then the declared ones.

    A user's mirror, a folder or an http(s) URL, is laid out `<source>/<file>`.
    """
    found = []
    if mirror:
        found.append(f"{mirror.rstrip('/')}/{source.name}/{archive.name}")
    found += [url + archive.name for url in source.mirrors]
    return [place for place in found if not (offline and _is_url(place))]


def obtain(
    archive: Archive,
    goal: Path,
    candidates: list[str],
    identify: Identify = lambda _md5: None,
    advance: Advance = unwatched,
    offline: bool = False,
) -> str:
    """Make sure that the archive is at `goal`; return the place its bytes came from.

    A file that is already there is kept if it is right, and replaced only by right bytes.
    `offline` says why there may be no candidates.

    Raises:
        ArchiveUnavailable: no place gave the declared bytes; lists every attempt.
        StorageError: `goal` can't be written.
    """
    failures = []
    if goal.is_file():
        try:
            verify(goal, archive, identify)
        except ArchiveError as error:
            failures.append(f"{goal}: {error}")
        else:
            return str(goal)
    for place in candidates:
        try:
            with files.atomic(goal) as partial:
                _copy(place, archive, partial, identify, advance)
        except ArchiveError as error:
            failures.append(f"{place}: {error}")
            logger.warning("%s: %s", place, error)
        else:
            return place
    nowhere = "offline, and no mirror folder was given" if offline else "no mirror is declared"
    tried = "\n  ".join(failures) or f"nowhere to look: {nowhere}"
    raise ArchiveUnavailable(
        f"{archive.name} ({archive.size_bytes:,} bytes, MD5 {archive.md5}) could not be had:\n"
        f"  {tried}\n"
        f"Put the file at {goal} yourself, or name a folder or URL that has it with --mirror or "
        "IMAGESETS_MIRROR (laid out <source>/<file>)."
    )


def verify(path: Path, archive: Archive, identify: Identify = lambda _md5: None) -> None:
    """Hold a local file against its declaration, MD5 and SHA-256 side by side.

    Raises:
        WrongBytes: saying what the file is instead.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    with ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(files.sha256, path)
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    _hold(Digests(path.stat().st_size, md5, sha256.result()), archive, head, identify)


def _copy(place: str, archive: Archive, goal: Path, identify: Identify, advance: Advance) -> None:
    """Write the bytes of `place` to `goal`, hashing them as they pass."""
    md5, sha256, size, head = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0, b""
    try:
        with goal.open("wb") as file:
            for chunk in _chunks(place):
                size += len(chunk)
                advance(len(chunk))
                head = head or chunk[:_HEAD_BYTES]
                if size > archive.size_bytes:
                    raise WrongBytes(
                        f"more than the declared {archive.size_bytes:,} bytes arrive{_kind(head)}."
                    )
                md5.update(chunk)
                sha256.update(chunk)
                file.write(chunk)
        _hold(Digests(size, md5.hexdigest(), sha256.hexdigest()), archive, head, identify)
    except ArchiveError:
        advance(-size)
        raise


def _chunks(place: str) -> Iterator[bytes]:
    """Yield what a place gives, exactly as it is stored there.

    Raises:
        ArchiveError: it can't be reached or read.
    """
    try:
        if not _is_url(place):
            with Path(place).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
            return
        # An archive that ends in .gz must not be unpacked on the way: no content encoding.
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        with requests.get(place, headers=headers, timeout=TIMEOUTS_S, stream=True) as response:
            if response.status_code != requests.codes.ok:
                raise ArchiveError(f"HTTP {response.status_code} {response.reason}")
            yield from response.raw.stream(_CHUNK_BYTES, decode_content=False)
    except FileNotFoundError:
        raise ArchiveError("no such file") from None
    except (OSError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from error


def _hold(found: Digests, declared: Archive, head: bytes, identify: Identify) -> None:
    """Raise `WrongBytes` unless the file found is the one declared."""
    if found == Digests(declared.size_bytes, declared.md5, declared.sha256):
        return
    other = identify(found.md5)
    instead = f". Those bytes are {other}" if other else _kind(head)
    if found.md5 != declared.md5:
        raise WrongBytes(
            f"{found.size_bytes:,} bytes with MD5 {found.md5}, but the catalogue declares "
            f"{declared.size_bytes:,} bytes with MD5 {declared.md5}{instead}."
        )
    raise WrongBytes(
        f"the MD5 is the declared one, but SHA-256 is {found.sha256} where the catalogue declares "
        f"{declared.sha256} ({found.size_bytes:,} bytes, {declared.size_bytes:,} declared): "
        "a forgery, or a slip in the catalogue."
    )


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _kind(head: bytes) -> str:
    """Return a clause that says what the first bytes look like, or nothing."""
    if not head:
        return ": nothing arrived"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>(.*?)</title", head, re.IGNORECASE | re.DOTALL)
        text = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
        return ": an HTML page" + (f" titled {' '.join(text.split())!r}" if text else "")
    for magic, name in {b"\x1f\x8b": "gzip", b"PK": "zip"}.items():
        if head.startswith(magic):
            return f". They look like {name}, but another or a cut file"
    return ""
