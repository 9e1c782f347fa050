"""An archive from the first place that has the right bytes, verified.

Wrong bytes are a place's failure like any other. Every failure is remembered with its reason, and
all are reported when all places have failed.

Not here: which places there are (`addresses`), how bytes come over the network (`resuming`), what
the right bytes are (`recognition`), whether an archive is still as it was (`pipelines.store`).
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from .. import advice
from ..declarations import Archive, Source
from ..errors import (
    ArchiveError,
    ArchiveUnavailable,
    DownloadFailed,
    OutOfReach,
    TooSlow,
    WrongBytes,
    WrongHash,
)
from ..progress import Watch, silent
from ..redaction import without_secrets
from ..store import Artefact, hashing, layout, writing
from .addresses import WEB, chunks, glance, scheme, shown
from .growing import Growing, note
from .patience import Patience
from .recognition import Digests, Identify, is_declared, require_declared, unknown, verify

CODE_VERSION = "1"  # raise when an archive verified before must be verified anew
ALREADY_THERE = "already there"
PATIENT_RATE = 1000.0  # bytes per second that are borne when no place is faster

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """An archive that is there now: the place that it came from, and what was measured of it."""

    origin: str
    digests: Digests


def artefact(source: Source, archive: Archive) -> Artefact:
    """Return the archive as an artefact: what decides its bytes is its declaration."""
    return Artefact(
        path=layout.archive(source.name, archive.name),
        stage="archives",
        code_version=CODE_VERSION,
        parameters=archive.declared,
        sha256=archive.sha256,
    )


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
    if isinstance(_found(goal, archive, identify), Digests):
        return ALREADY_THERE  # nothing to write: not even a lock
    with writing.resumable(goal) as partial:
        return receive(
            archive, goal, partial, candidates, identify, watch, patience, offline=offline
        ).origin


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
) -> Received:
    """Let `partial` become the archive, unless it is at `goal` already.

    For callers that keep others away from both, and move `partial` to `goal` themselves. What has
    arrived stays at `partial` when this raises, and is gone on with the next time.
    """
    failures: list[str] = []
    if goal.is_file():
        found = _found(goal, archive, identify)
        if isinstance(found, Digests):
            for left in (partial, note(partial)):
                left.unlink(missing_ok=True)
            return Received(ALREADY_THERE, found)
        failures.append(f"{goal}: {found}")
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


def _found(path: Path, archive: Archive, identify: Identify) -> Digests | Exception:
    """Return what a local file that is the archive measures, or why it is not."""
    try:
        return verify(path, archive, identify)
    except (OSError, ArchiveError) as error:
        return error


def _receive(
    place: str, staged: Path, archive: Archive, identify: Identify, watch: Watch, patience: Patience
) -> Received:
    """Let `staged` become the archive, with the bytes of one place, which is told publicly."""
    named = shown(place)
    watch.note(urlsplit(named).netloc or place.partition("/")[0] or str(Path(place).parent))
    with Growing(staged, watch, git_blob=archive.git_blob is not None) as growing:
        if archive.size_bytes is not None:
            growing.expect(archive.size_bytes)
        if scheme(place) in WEB:
            from .resuming import download  # needs requests, for which a folder need not wait

            is_pieced = download(place, growing, archive, identify, patience)
            if is_pieced and not is_declared(growing.digests, archive):
                growing.restart()  # the pieces are not of one file: once more, from the start
                download(place, growing, archive, identify, patience)
        else:
            given = chunks(place, archive)
            first = next(given, b"")  # a place without the file must not cost what has arrived
            growing.restart()
            most_bytes = archive.size_bytes or _expected(place, archive, growing)
            for chunk in itertools.chain([first], given):
                if growing.size + len(chunk) <= most_bytes:
                    growing.append(chunk)
                elif archive.size_bytes is not None:
                    growing.measure(chunk)  # too long: not kept, but perhaps known
                else:
                    growing.restart()
                    raise WrongBytes(f"more than {most_bytes:,} bytes, and so much it can't have")
        try:
            require_declared(growing.digests, archive, growing.head, identify)
        except WrongBytes:
            growing.restart()
            raise
        growing.forget_validator()
    writing.flush(staged)
    hashing.remember(staged, growing.digests.sha256)
    return Received(named, growing.digests)


def _expected(place: str, archive: Archive, growing: Growing) -> int:
    """Return how many bytes a place may give of an archive of which nobody declares how many."""
    seen = glance(place)
    if seen is not None and seen[0] <= archive.most_bytes:
        growing.expect(seen[0])
        return seen[0]
    return growing.most_bytes(archive)


def _may_pass(tried: Mapping[str, ArchiveError]) -> bool:
    """Return whether waiting may help, after these places failed so."""
    # One place may have damaged the file. Two that have another, or another one with the same MD5,
    # mean that it was replaced, or declared wrongly.
    others = [error for error in tried.values() if isinstance(error, WrongHash)]
    if len(others) > 1 or any(other.md5_is_right for other in others):
        return False
    # A server that does not answer today may answer tomorrow.
    return any(isinstance(error, DownloadFailed) and scheme(at) for at, error in tried.items())


def _failure(place: str, error: Exception) -> str:
    """Return what went wrong at a place, which may have said what opens it."""
    return f"{shown(place)}: {without_secrets(str(error), place)}"


def _nowhere(archive: Archive, goal: Path, failures: list[str], offline: bool) -> str:
    why = "offline, and no mirror folder was given" if offline else "no mirror is declared"
    tried = "\n  ".join(failures) or f"nowhere to look: {why}"
    return (
        f"{archive} could not be had:\n"
        f"  {tried}\n"
        f"Put the file at {goal} yourself, or name a folder or URL that has it with "
        f"{advice.MIRROR} (laid out <source>/<file>)."
    )
