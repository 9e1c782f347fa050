"""Lineage: which bytes each artefact was made from, by what, and whether it is still up to date.

Not here: making anything, reading an artefact's content again (`pipelines.verification`), or when
its file was last read (`pipelines.seen`). An artefact is up to date when its record says that the
same code made it from the same inputs with the same parameters, and its own bytes are still those
recorded; of an archive, those that the catalogue declares. Only content decides.

    data/tables/mnist/train.parquet                                 an artefact
    data/lineage/tables/mnist/train.parquet.json                    its record: the latest
    data/lineage/history/tables/mnist/train.parquet/<time>.json     the records before

`lineage.schema.json` describes a record. An artefact and its record appear together: the record is
written as `….json.next`, the artefact takes its place, the record takes its own. Wherever a process
dies in between, `.next` is the record of the artefact if it knows its bytes, and nothing if not.

What an artefact is made from is opened once, hashed while it is used, and compared before the
result takes its place: nothing is kept that was made from other bytes than its record would say.
"""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from ..errors import StaleInput
from . import hashing, layout, seen, writing
from .hashing import Identity, Sight, now
from .provenance import (
    Artefact,
    Facts,
    Input,
    Provenance,
    Run,
    as_recorded,
    dump,
    latest,
    load,
    logger,
    promote,
    read_bytes,
    recorded,
    retire,
    settle,
    sidecar,
    versions,
)
from .state import State, decide


def make(
    data: Path, artefact: Artefact, build: Callable[[Path], Facts], run_id: str | None = None
) -> tuple[Provenance, State]:
    """Bring an artefact up to date; return its record, and the state it was in before.

    Args:
        data: the data folder.
        artefact: what to make.
        build: writes the artefact to the path it is given (`files.staged`), and to the disk, from
            where it is moved into its place; called only if need be. Leaves that path empty where
            the artefact is right as it is. When it raises, what was fetched stays: to go on with.
        run_id: the Dagster run that this is part of.

    Raises:
        StaleInput: what it is made from is not there, or not what it was, or changed meanwhile.
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    before = decide(data, artefact)
    if before.record and before.is_up_to_date and before.record == load(data, artefact.path):
        return before.record, before
    with writing.locked(data / artefact.path):
        before = decide(data, artefact)  # another process may just have made it
        if before.record and before.is_up_to_date:
            settle(data, before.record)
            return before.record, before
        return _make(data, artefact, before, build, run_id), before


def distrust(data: Path, path: str, sha256: str | None) -> None:
    """Make sure that an artefact whose bytes were found wrong is made again.

    Whatever contradicts its record is made again anyway; a record that agrees with wrong bytes
    becomes one of the past, and with it those of all that was made from them.

    Args:
        data: the data folder.
        path: of the artefact.
        sha256: of its bytes when they were found wrong. Where other bytes are there by now, nothing
            is done: somebody made it again.

    Raises:
        StorageError: the folder of records can't be written to.
        MadeByNewer: its record can only be read by a newer Imagesets.
    """
    with writing.locked(data / path):
        record = recorded(data, path)
        if record is None or record.sha256 != sha256 or seen.look(data, path).sha256 != sha256:
            return
        settle(data, record)
        retire(data, path)
    _doubt(data, made_since(data, record))


def made_since(data: Path, record: Provenance) -> list[Provenance]:
    """Return the records of all that was made from an artefact since it was made itself.

    When its bytes are found changed, nobody knows since when: all of that is in doubt.
    """
    later = [r for r in latest(data) if r.run.ended_s >= record.run.ended_s]
    found: dict[str, Provenance] = {}
    while more := {
        r.path: r
        for r in later
        if r.path not in {record.path, *found}
        and any(made_from.path in {record.path, *found} for made_from in r.inputs)
    }:
        found |= more
    return list(found.values())


def _make(
    data: Path,
    artefact: Artefact,
    before: State,
    build: Callable[[Path], Facts],
    run_id: str | None,
) -> Provenance:
    """Make an artefact that nobody else is making, and return its record."""
    goal = data / artefact.path
    staged = layout.staged(goal)
    record_paths = (layout.lineage(artefact.path), layout.pending_lineage(artefact.path))
    for path in (staged, *(data / name for name in (*record_paths, artefact.sidecar) if name)):
        writing.sweep(path)
    logger.info("%s: making it, because %s", artefact.path, before.reason)
    started = now()
    try:
        with _held(data, artefact.inputs) as compare:
            try:
                facts = build(staged)
            except Exception:
                compare()  # bytes that changed are the reason, if there are any
                raise
            compare()
        if before.condition == "changed" and before.record is not None:
            _doubt(data, made_since(data, before.record))
        return _take(data, artefact, before.record, facts, started, run_id)
    except BaseException:
        writing.forget_empty(staged)
        if artefact.inputs:
            with contextlib.suppress(OSError):
                staged.unlink()  # only what was fetched can be gone on with
        raise


@contextlib.contextmanager
def _held(data: Path, made_from: Sequence[Input]) -> Iterator[Callable[[], None]]:
    """Hold what an artefact is made from open while it is used, and hash it meanwhile.

    While a file is held open, no other one can have its inode: so when its identity stands at the
    end, whoever opened its path in between read the bytes that were hashed.

    Gives a function that waits for the hashes and compares them with those expected.

    Raises:
        StaleInput: something is not there, holds other bytes, or changed while it was used.
    """
    stop = threading.Event()

    def look(file: BinaryIO) -> Sight:
        return hashing.remembered(file.fileno()) or hashing.look_through(file, stop)

    with contextlib.ExitStack() as stack:
        files_ = [stack.enter_context(_opened(data, one.path)) for one in made_from]
        identities = [hashing.identity(file) for file in files_]
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="inputs"))
        stack.callback(stop.set)  # before the thread is waited for, and that before files close
        looks = [pool.submit(look, file) for file in files_]
        held = list(zip(made_from, files_, identities, looks, strict=True))

        def compare() -> None:
            for one, file, identity, looking in held:
                path = data / one.path
                try:
                    sight = looking.result()
                    stands = identity == hashing.identity(file) == Identity.of(path.stat())
                except OSError as error:
                    seen.note_unreadable(data, one.path)
                    raise _unreadable(one.path, error) from error
                if not stands or sight.identity != identity:
                    raise StaleInput(
                        f"{one.path} was changed or replaced while it was used. Nothing was made "
                        "from it. Build again when nobody else writes to this data folder."
                    )
                seen.note(data, one.path, sight)
                _hold(one.path, one.sha256, sight)

        yield compare


def read_again(data: Path, record: Provenance) -> None:
    """Read an artefact anew, where its content gives trouble: perhaps it is not what was recorded.

    Raises:
        StaleInput: it is not, or it can't be read. The next build knows that.
    """
    try:
        sight = seen.look_anew(data, record.path)
    except OSError as error:
        raise _unreadable(record.path, error) from error
    _hold(record.path, record.sha256, sight)


def _hold(path: str, sha256: str | None, sight: Sight) -> None:
    """Raise `StaleInput` unless the bytes that were seen are those expected."""
    if sight.sha256 != sha256:
        raise StaleInput(
            f"{path} changed since it was made: expected SHA-256 {sha256}, found {sight.sha256}. "
            "Nothing was made from it. Build again: what changed is made anew first."
        )


def _unreadable(path: str, error: OSError) -> StaleInput:
    return StaleInput(
        f"{path} can't be read to its end ({error.strerror}). Nothing was made from it. Build "
        "again: what can't be read is made anew first."
    )


@contextlib.contextmanager
def _opened(data: Path, path: str) -> Iterator[BinaryIO]:
    """Open something that an artefact is made from.

    Raises:
        StaleInput: it can't be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(hashing.opened(data / path))
        except OSError as error:
            raise StaleInput(
                f"{path} must be made first: it can't be read ({error.strerror}). Build or "
                "materialize the stages before this one too."
            ) from error
        yield file


def _take(
    data: Path,
    artefact: Artefact,
    old: Provenance | None,
    facts: Facts,
    started: str,
    run_id: str | None,
) -> Provenance:
    """Give what was made its record and its place; `old` is the record before."""
    goal = data / artefact.path
    staged = layout.staged(goal)
    made = staged if staged.exists() else goal
    sight = hashing.remembered(made) or hashing.look(made)
    size_bytes, sha256 = sight.identity.size_bytes, sight.sha256
    if made == goal and old is not None and old.sha256 == sha256:
        facts = old.facts  # as it was: what is known of it still holds
    record = Provenance(
        path=artefact.path,
        size_bytes=size_bytes,
        sha256=sha256,
        mtime_ns=sight.identity.mtime_ns,
        stage=artefact.stage,
        code_version=artefact.code_version,
        parameters=as_recorded(artefact.parameters),
        inputs=artefact.inputs or _origin(artefact, facts, size_bytes, sha256),
        facts=dict(facts),
        run=Run(run_id, started, now(), platform.node(), dict(versions())),
    )
    with writing.atomic(data / layout.pending_lineage(artefact.path)) as partial:
        partial.write_bytes(dump(record))
    if artefact.sidecar and read_bytes(data / artefact.sidecar) != sidecar(record):
        with writing.atomic(data / artefact.sidecar, lasting=False) as partial:
            partial.write_bytes(sidecar(record))
    if made == staged:
        writing.move(staged, goal)
    promote(data, artefact.path)
    if (taken := hashing.remembered(goal)) is not None:
        seen.note(data, artefact.path, taken)
    return record


def _origin(artefact: Artefact, facts: Facts, size_bytes: int, sha256: str) -> tuple[Input, ...]:
    """Return the place that an archive came from as its input."""
    if "origin" not in facts:
        return ()
    return (Input(str(facts["origin"]), sha256, size_bytes, artefact.parameters.get("md5")),)


def _doubt(data: Path, doubtful: Iterable[Provenance]) -> None:
    """Let records be ones of the past, so that what they vouch for is made again."""
    for record in doubtful:
        with writing.locked(data / record.path):
            if recorded(data, record.path) == record:  # nobody has made it again meanwhile
                logger.info("%s: to be made again: what it was made from changed", record.path)
                settle(data, record)
                retire(data, record.path)
