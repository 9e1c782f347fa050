"""Publishers' archives: from the first place that has the right bytes, verified.

Not here: how bytes come over the network (`pipelines.downloads`) or out of a package
(`pipelines.packages`), looking inside an archive (`pipelines.members`), deciding whether one is
still as it was when it was verified (`pipelines.lineage`).

A file is right when its size, MD5 and SHA-256 are those of the catalogue; wrong bytes are a place's
failure like any other. Every failure is remembered with its reason, and told when all have failed.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.fs

from ..declarations import Archive, Source
from ..errors import (
    ArchiveError,
    ArchiveUnavailable,
    DownloadFailed,
    OutOfReach,
    StorageError,
    TooSlow,
    WrongBytes,
    WrongHash,
)
from ..progress import Watch, silent
from ..redaction import without_secrets
from ..store import hashing, layout, writing
from ..store.provenance import Artefact
from . import packages
from .web import (
    CHUNK_BYTES,
    HEAD_BYTES,
    Digests,
    Growing,
    Identify,
    Patience,
    download,
    note,
    unknown,
)

CODE_VERSION = "1"  # raise when an archive verified before must be verified anew
ALREADY_THERE = "already there"
PATIENT_RATE = 1000.0  # bytes per second that are borne when no place is faster

logger = logging.getLogger(__name__)


def artefact(source: Source, archive: Archive) -> Artefact:
    """Return the archive as an artefact: what decides its bytes is its declaration."""
    return Artefact(
        path=layout.archive(source.name, archive.name),
        stage="archives",
        code_version=CODE_VERSION,
        parameters={"bytes": archive.size_bytes, "md5": archive.md5, "sha256": archive.sha256},
        sha256=archive.sha256,
    )


def places(source: Source, archive: Archive, mirror: str | None, offline: bool) -> list[str]:
    """Return where to look, in order: the user's mirror, the declared ones, package registries.

    A user's mirror is a folder, an http(s) URL or an object store's (s3://, gs://, …), laid out
    `<source>/<file>`. Offline, only folders remain. In an address a name is quoted: a `#` or `?` in
    it would end the path, and object stores refuse a space.
    """
    found, quoted = [], quote(archive.name)
    if mirror:
        # An object store's options come last: s3://bucket/folder?region=…
        place, mark, options = mirror.partition("?") if _scheme(mirror) else (mirror, "", "")
        name = quoted if _scheme(mirror) else archive.name
        found.append(f"{place.rstrip('/')}/{source.name}/{name}{mark}{options}")
    found += [url + quoted for url in source.mirrors]
    found += [archive.package] if archive.package else []
    return [place for place in found if not (offline and _scheme(place))]


def obtain(
    archive: Archive,
    goal: Path,
    candidates: list[str],
    identify: Identify = unknown,
    watch: Watch = silent,
    patience: Patience = Patience(),
    *,
    offline: bool = False,
) -> str:
    """Make sure that the archive is at `goal`; return the place its bytes came from.

    A URL is returned without user, password and token: the place is recorded and shown.
    The place is `ALREADY_THERE` where there was nothing to do: a file that is there is kept if it
    is right, and replaced only by right bytes. A place that is too slow is left for the next one,
    and returned to when no other has the file. `offline` says why there may be no candidates.

    Raises:
        ArchiveUnavailable: no place gave the declared bytes; lists every attempt.
        StorageError: `goal` can't be written.
    """
    if _is_right(goal, archive):
        return ALREADY_THERE  # nothing to write: not even a lock
    with writing.resumable(goal) as partial:
        return receive(
            archive, goal, partial, candidates, identify, watch, patience, offline=offline
        )


def receive(
    archive: Archive,
    goal: Path,
    partial: Path,
    candidates: list[str],
    identify: Identify = unknown,
    watch: Watch = silent,
    patience: Patience = Patience(),
    *,
    offline: bool = False,
) -> str:
    """Let `partial` become the archive, unless it is at `goal` already; return as `obtain` does.

    For callers that keep others away from both, and move `partial` to `goal` themselves. What has
    arrived stays at `partial` when this raises, and is gone on with the next time.
    """
    failures: list[str] = []
    if goal.is_file():
        try:
            verify(goal, archive, identify)
        except (ArchiveError, OSError) as error:
            failures.append(f"{goal}: {error}")
        else:
            for left in (partial, note(partial)):
                left.unlink(missing_ok=True)
            return ALREADY_THERE
    tried: dict[str, ArchiveError] = {}
    for place in candidates:
        try:
            return _receive(place, partial, archive, identify, watch, patience)
        except ArchiveError as error:
            tried[place] = error
            failures.append(_failure(place, error))
            if not (isinstance(error, OutOfReach) and not error.is_news):
                logger.warning("%s", failures[-1])  # once for a host, not for each of its files
    patient = replace(patience, least_rate=min(patience.least_rate, PATIENT_RATE))
    slow = {place: error.rate for place, error in tried.items() if isinstance(error, TooSlow)}
    for place in sorted(slow, key=slow.__getitem__, reverse=True):
        try:
            return _receive(place, partial, archive, identify, watch, patient)
        except ArchiveError as error:
            failures.append(_failure(place, error))
            logger.warning("%s", failures[-1])
    raise ArchiveUnavailable(_nowhere(archive, goal, failures, offline), _may_pass(tried))


def _may_pass(tried: Mapping[str, ArchiveError]) -> bool:
    """Return whether waiting may help, after these places failed so."""
    # One place may have damaged the file. Two that have another, or another one with the same MD5,
    # mean that it was replaced, or declared wrongly.
    others = [error for error in tried.values() if isinstance(error, WrongHash)]
    if len(others) > 1 or any(other.md5_is_right for other in others):
        return False
    # A server that does not answer today may answer tomorrow.
    return any(isinstance(error, DownloadFailed) and _scheme(at) for at, error in tried.items())


def compare(
    archive: Archive,
    place: str,
    folder: Path,
    identify: Identify = unknown,
    patience: Patience = Patience(),
) -> str:
    """Fetch from one place into a scratch folder under `folder`, and throw it away again.

    Returns:
        What is wrong with the bytes; nothing where they are the declared ones.

    Raises:
        DownloadFailed: they can't be had there now.
        StorageError: there is no room for them.
    """
    scratch = folder / ".compare"
    with writing.locked(scratch):
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir()
        try:
            _receive(place, scratch / archive.name, archive, identify, silent, patience)
        except WrongBytes as error:
            return without_secrets(str(error), place)
        finally:
            shutil.rmtree(scratch)
    return ""


def verify(path: Path, archive: Archive, identify: Identify = unknown) -> None:
    """Hold a local file against its declaration, MD5 and SHA-256 side by side.

    Raises:
        WrongBytes: saying what the file is instead; `WrongHash` where its length is the declared.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    with ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(hashing.sha256, path)
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    _hold(Digests(path.stat().st_size, md5, sha256.result()), archive, head, identify)


def _is_right(path: Path, archive: Archive) -> bool:
    try:
        verify(path, archive)
    except (OSError, ArchiveError):
        return False
    return True


def _receive(
    place: str,
    partial: Path,
    archive: Archive,
    identify: Identify,
    watch: Watch,
    patience: Patience,
) -> str:
    """Let `partial` become the archive, with the bytes of one place; return its public name."""
    named = _named(place)
    watch.note(urlsplit(named).netloc or place.partition("/")[0] or str(Path(place).parent))
    with Growing(partial, watch) as growing:
        _check_space(partial.parent, archive.size_bytes - growing.size)
        if _scheme(place) in ("http", "https"):
            look = _look(archive.name)
            wanted = (archive.size_bytes, look, identify, patience)
            is_pieced = download(place, growing, *wanted)
            if is_pieced and growing.digests != _declared(archive):
                growing.restart()  # the pieces are not of one file: once more, from the start
                download(place, growing, *wanted)
        else:
            chunks = _chunks(place, archive)
            first = next(chunks, b"")  # a place without the file must not cost what has arrived
            growing.restart()
            for chunk in itertools.chain([first], chunks):
                if growing.size + len(chunk) <= archive.size_bytes:
                    growing.append(chunk)
                else:
                    growing.measure(chunk)  # too long: not kept, but perhaps known
        try:
            _hold(growing.digests, archive, growing.head, identify)
        except WrongBytes:
            growing.restart()
            raise
        growing.forget_validator()
    writing.flush(partial)
    hashing.remember(partial, archive.sha256)
    return named


def _chunks(place: str, archive: Archive) -> Iterator[bytes]:
    """Yield what a folder, an object store or a package gives.

    Raises:
        DownloadFailed: it can't be reached or read.
    """
    scheme = _scheme(place)
    try:
        if scheme in packages.CLIENTS:
            yield from packages.read(place, archive)
        elif scheme:
            store, path = pyarrow.fs.FileSystem.from_uri(place)
            with store.open_input_stream(path, compression=None) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        else:
            with Path(place).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
    except FileNotFoundError:
        raise DownloadFailed("no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error


def _named(place: str) -> str:
    """Return a place without what opens it; in a folder's name nothing does."""
    return without_secrets(place) if _scheme(place) else place


def _failure(place: str, error: Exception) -> str:
    """Return what went wrong at a place, which may have said what opens it."""
    return f"{_named(place)}: {without_secrets(str(error), place)}"


def _scheme(place: str) -> str:
    """Return the scheme of an address; nothing for a folder."""
    return urlsplit(place).scheme


def _check_space(folder: Path, missing_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < missing_bytes:
        raise StorageError(
            f"{folder}: {missing_bytes:,} bytes are still to come, but only {free_bytes:,} are "
            "free. Free some space, or choose another data folder with --data or IMAGESETS_DATA."
        )


def _declared(archive: Archive) -> Digests:
    return Digests(archive.size_bytes, archive.md5, archive.sha256)


def _hold(found: Digests, archive: Archive, head: bytes, identify: Identify) -> None:
    """Raise `WrongBytes` unless the file found is the one declared."""
    if found == _declared(archive):
        return
    other = identify(found.md5)
    if other:
        instead = f". Those bytes are {other}"
    elif wrong := _look(archive.name)(head):
        instead = wrong
    elif found.size_bytes < archive.size_bytes:
        instead = ": cut short"
    else:
        instead = ": damaged on the way, or another file"
    if found.md5 != archive.md5:
        kind = WrongHash if found.size_bytes == archive.size_bytes else WrongBytes
        raise kind(
            f"{found.size_bytes:,} bytes with MD5 {found.md5}, but the catalogue declares "
            f"{archive.size_bytes:,} bytes with MD5 {archive.md5}{instead}."
        )
    raise WrongHash(
        f"the MD5 is the declared one, but SHA-256 is {found.sha256} where the catalogue declares "
        f"{archive.sha256} ({found.size_bytes:,} bytes, {archive.size_bytes:,} declared): "
        "a forgery, or a slip in the catalogue.",
        md5_is_right=True,
    )


_MAGIC = {b"\x1f\x8b": "gzip", b"PK": "zip", b"\xfd7zXZ": "xz", b"\x00\x00\x08": "unpacked IDX"}
_SUFFIXES = {".gz": "gzip", ".tgz": "gzip", ".zip": "zip"}


def _look(name: str) -> Callable[[bytes], str | None]:
    """Return a function that says why first bytes can't be those of a file called `name`."""
    expected = _SUFFIXES.get(Path(name).suffix)

    def wrong(head: bytes) -> str | None:
        if expected is None or head.startswith(
            tuple(magic for magic, kind in _MAGIC.items() if kind == expected)
        ):
            return None
        return _kind(head) or f": no {expected} file begins with {head[:4].hex()}"

    return wrong


def _kind(head: bytes) -> str:
    """Return a clause that says what the first bytes look like, or nothing."""
    if not head:
        return ": nothing arrived"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        title = re.search(rb"<title[^>]*>(.*?)</title", head, re.IGNORECASE | re.DOTALL)
        text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
        return ": an HTML page" + (f" titled {' '.join(text.split())!r}" if text else "")
    if start.startswith((b"<?xml", b"<error", b"{", b"[")):
        text = " ".join(head[:200].decode("utf-8", "replace").split())
        return f": an error document, {text!r}"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return f". They look like {kind}"
    return ""


def _nowhere(archive: Archive, goal: Path, failures: list[str], offline: bool) -> str:
    why = "offline, and no mirror folder was given" if offline else "no mirror is declared"
    tried = "\n  ".join(failures) or f"nowhere to look: {why}"
    return (
        f"{archive.name} ({archive.size_bytes:,} bytes, MD5 {archive.md5}) could not be had:\n"
        f"  {tried}\n"
        f"Put the file at {goal} yourself, or name a folder or URL that has it with --mirror or "
        "IMAGESETS_MIRROR (laid out <source>/<file>)."
    )
