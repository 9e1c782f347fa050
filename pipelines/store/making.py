"""Making: brings an artefact up to date, and lets what was made from wrong bytes be made again.

What an artefact is made from is hashed while it is used (`inputs`), and compared before the result
takes its place: nothing is kept that was made from other bytes than its provenance would say. The
new artefact and its provenance appear together: `provenance` says how.

Not here: deciding whether there is anything to do (`state`), or what an artefact holds: the caller
gives a function that writes it.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ..errors import Conflict
from . import clock, hashing, inputs, layout, provenance, seen, writing
from .artefacts import Artefact, Facts, Input
from .provenance import Provenance, Run, logger
from .state import State, decide
from .store import Store


def make(
    store: Store, artefact: Artefact, build: Callable[[Path], Facts], run_id: str | None = None
) -> tuple[Provenance, State]:
    """Bring an artefact up to date; return its provenance, and the state it was in before.

    Args:
        store: where it is kept.
        artefact: what to make.
        build: writes the artefact to the path it is given (`layout.staged`), and to the disk, from
            where it is moved into its place; called only if need be. A folder is there already,
            empty, and is flushed afterwards. A file may be left out where the artefact is right as
            it is. When it raises, what was fetched stays: to go on with.
        run_id: the Dagster run that this is part of.

    Raises:
        StaleInput: what it is made from is not there, or not what it was, or changed meanwhile.
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """
    before = decide(store, artefact)
    known = before.provenance
    if known and before.is_up_to_date and known == provenance.load(store, artefact.path):
        return known, before
    with writing.locked(store.place(artefact.path)):
        for last in (False, False, True):
            told = store.read(layout.lineage(artefact.path))
            before = decide(store, artefact)  # another process may just have made it
            if before.provenance and before.is_up_to_date:
                provenance.settle(store, before.provenance)
                if artefact.is_folder:
                    writing.remove(_staged(store, artefact))  # the old one, where a process died
                return before.provenance, before
            try:
                return _make(store, artefact, before, told, build, run_id), before
            except Conflict:  # another machine made it meanwhile: what it made may do
                if last:
                    raise
    raise AssertionError("the last try returns or raises")


def _staged(store: Store, artefact: Artefact) -> Path:
    return layout.staged(store.place(artefact.path))


def _make(
    store: Store,
    artefact: Artefact,
    before: State,
    told: bytes | None,
    build: Callable[[Path], Facts],
    run_id: str | None,
) -> Provenance:
    """Make an artefact that nobody else here is making, and return its provenance.

    `told` is the provenance by which it was decided, as it lay there.
    """
    if before.provenance is not None:
        provenance.settle(store, before.provenance)  # whose place ours takes while it waits
    staged = _prepared(store, artefact)
    logger.info("%s: making it, because %s", artefact.path, before.reason)
    started = clock.now()
    try:
        with inputs.held(store, artefact.inputs) as compare:
            try:
                facts = build(staged)
            except Exception:
                compare()  # bytes that changed are the reason, if there are any
                raise
            compare()
        if before.condition == "changed" and before.provenance is not None:
            _doubt(store, made_since(store, before.provenance))
        return _take(store, artefact, before.provenance, told, facts, started, run_id)
    except BaseException:
        writing.forget_empty(staged)
        if artefact.inputs or artefact.is_folder:
            with contextlib.suppress(OSError):
                writing.remove(staged)  # only what was fetched can be gone on with
        raise


def _prepared(store: Store, artefact: Artefact) -> Path:
    """Remove what killed processes left; return the path at which the artefact is made."""
    staged = _staged(store, artefact)
    places = (layout.lineage(artefact.path), layout.pending_lineage(artefact.path))
    for path in (*places, artefact.sidecar):
        if path is not None:
            writing.sweep(store.place(path))
    writing.sweep(staged)
    if artefact.is_folder:
        with writing.storage_errors(staged):
            writing.remove(staged)
            staged.mkdir()
    return staged


def _take(
    store: Store,
    artefact: Artefact,
    old: Provenance | None,
    told: bytes | None,
    facts: Facts,
    started: str,
    run_id: str | None,
) -> Provenance:
    """Give what was made its provenance and its place; `old` is the provenance before."""
    goal, staged = store.place(artefact.path), _staged(store, artefact)
    made = staged if staged.exists() else goal
    sight = hashing.remembered(made) or hashing.look(made)
    size_bytes, sha256 = sight.identity.size_bytes, sight.sha256
    if made == goal and old is not None and old.sha256 == sha256:
        facts = {**facts, **old.facts}  # as it was: what is known of it still holds
    known = Provenance(
        path=artefact.path,
        size_bytes=size_bytes,
        sha256=sha256,
        mtime_ns=sight.identity.mtime_ns,
        stage=artefact.stage,
        code_version=artefact.code_version,
        parameters=provenance.as_json(artefact.parameters),
        inputs=artefact.inputs or _origin(artefact, facts, size_bytes, sha256),
        facts=dict(facts),
        run=Run(
            run_id,
            started,
            clock.now(),
            platform.node(),
            dict(provenance.versions(artefact.libraries)),
        ),
        format=artefact.format,
        files=sight.files,
    )
    provenance.take(store, known, staged if made == staged else None, told, artefact.sidecar)
    if (taken := hashing.remembered(goal)) is not None:
        seen.note(store, artefact.path, taken)
    return known


def _origin(artefact: Artefact, facts: Facts, size_bytes: int, sha256: str) -> tuple[Input, ...]:
    """Return the place that an archive came from as its input."""
    if "origin" not in facts:
        return ()
    md5 = artefact.parameters.get("md5") or facts.get("md5")
    return (Input(str(facts["origin"]), sha256, size_bytes, md5),)


def read_again(store: Store, known: Provenance) -> None:
    """Read an artefact anew, where its content gives trouble: perhaps it is not what was recorded.

    Raises:
        StaleInput: it is not, or it can't be read. The next build knows that.
    """
    try:
        sight = store.look(known.path, anew=True)
    except OSError as error:
        raise inputs.unreadable(known.path, error) from error
    inputs.compare(known.path, known.sha256, sight)


# --- Doubt ----------------------------------------------------------------------------------------


class Judged(Protocol):
    """What verifying an artefact found; `sha256` is of its bytes, None if they can't be read."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def condition(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str | None: ...  # noqa: D102


def distrust_changed(store: Store, verdicts: Iterable[Judged]) -> None:
    """Make sure that all artefacts that were found changed are made again.

    Raises:
        StorageError: the folder of provenance can't be written to.
        MadeByNewer: the provenance of one can only be read by a newer Imagesets.
    """
    for verdict in verdicts:
        if verdict.condition == "changed":
            distrust(store, verdict.path, verdict.sha256)


def distrust(store: Store, path: str, sha256: str | None) -> None:
    """Make sure that an artefact whose bytes were found wrong is made again.

    Whatever contradicts its provenance is made again anyway; provenance that agrees with wrong
    bytes becomes that of the past, and with it that of all that was made from them.

    Args:
        store: where it is kept.
        path: of the artefact.
        sha256: of its bytes when they were found wrong. Where other bytes are there by now, nothing
            is done: it was made again meanwhile.

    Raises:
        StorageError: the folder of provenance can't be written to.
        MadeByNewer: its provenance can only be read by a newer Imagesets.
    """
    with writing.locked(store.place(path)):
        known = provenance.latest(store, path)
        if known is None or known.sha256 != sha256 or store.look(path).sha256 != sha256:
            return
        provenance.settle(store, known)
        provenance.retire(store, known)
    _doubt(store, made_since(store, known))


def made_since(store: Store, known: Provenance) -> list[Provenance]:
    """Return the provenance of all that was made from an artefact since it was made itself.

    When its bytes are found changed, nobody knows since when: all of that is in doubt.
    """
    later = [p for p in provenance.of_everything(store) if p.run.ended_s >= known.run.ended_s]
    found: dict[str, Provenance] = {}
    while more := {
        p.path: p
        for p in later
        if p.path not in {known.path, *found}
        and any(made_from.path in {known.path, *found} for made_from in p.inputs)
    }:
        found |= more
    return list(found.values())


def _doubt(store: Store, doubtful: Iterable[Provenance]) -> None:
    """Let provenance be that of the past, so that what it vouches for is made again."""
    for known in doubtful:
        with writing.locked(store.place(known.path)):
            if provenance.latest(store, known.path) == known:  # nobody made it again meanwhile
                logger.info("%s: to be made again: what it was made from changed", known.path)
                provenance.settle(store, known)
                provenance.retire(store, known)
