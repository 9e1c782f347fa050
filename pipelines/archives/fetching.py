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
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from .. import advice
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
from ..store import Artefact, hashing, layout, writing
from .addresses import WEB, chunks, scheme, shown
from .growing import Growing, note
from .patience import Patience
from .recognition import Identify, declared, require_declared, unknown, verify

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
    if _fault(goal, archive, identify) is None:
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
        fault = _fault(goal, archive, identify)
        if fault is None:
            for left in (partial, note(partial)):
                left.unlink(missing_ok=True)
            return ALREADY_THERE
        failures.append(f"{goal}: {fault}")
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


def _fault(path: Path, archive: Archive, identify: Identify) -> Exception | None:
    """Return why a local file is not the archive, or None."""
    try:
        verify(path, archive, identify)
    except (OSError, ArchiveError) as error:
        return error
    return None


def _receive(
    place: str, staged: Path, archive: Archive, identify: Identify, watch: Watch, patience: Patience
) -> str:
    """Let `staged` become the archive, with the bytes of one place; return its public name."""
    named = shown(place)
    watch.note(urlsplit(named).netloc or place.partition("/")[0] or str(Path(place).parent))
    with Growing(staged, watch) as growing:
        _check_space(staged.parent, archive.size_bytes - growing.size)
        if scheme(place) in WEB:
            from .resuming import download  # needs requests, for which a folder need not wait

            is_pieced = download(place, growing, archive, identify, patience)
            if is_pieced and growing.digests != declared(archive):
                growing.restart()  # the pieces are not of one file: once more, from the start
                download(place, growing, archive, identify, patience)
        else:
            given = chunks(place, archive)
            first = next(given, b"")  # a place without the file must not cost what has arrived
            growing.restart()
            for chunk in itertools.chain([first], given):
                if growing.size + len(chunk) <= archive.size_bytes:
                    growing.append(chunk)
                else:
                    growing.measure(chunk)  # too long: not kept, but perhaps known
        try:
            require_declared(growing.digests, archive, growing.head, identify)
        except WrongBytes:
            growing.restart()
            raise
        growing.forget_validator()
    writing.flush(staged)
    hashing.remember(staged, archive.sha256)
    return named


def _check_space(folder: Path, missing_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < missing_bytes:
        raise StorageError(
            f"{folder}: {missing_bytes:,} bytes are still to come, but only {free_bytes:,} are "
            f"free. Free some space, or {advice.ELSEWHERE}."
        )


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
        f"{archive.name} ({archive.size_bytes:,} bytes, MD5 {archive.md5}) could not be had:\n"
        f"  {tried}\n"
        f"Put the file at {goal} yourself, or name a folder or URL that has it with "
        f"{advice.MIRROR} (laid out <source>/<file>)."
    )
