"""Inputs: what an artefact is made from, held open and hashed while it is used.

Not here: which inputs an artefact has (`pipelines.plan` says).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from .. import advice
from ..errors import StaleInput
from . import hashing, seen
from .artefacts import Input
from .hashing import Identity, Sight
from .store import Store


@dataclass(frozen=True, slots=True)
class _Held:
    """An input whose file, or files, are open, and being hashed."""

    made_from: Input
    files: Mapping[str, BinaryIO]
    before: Identity
    looks: Mapping[str, Future[Sight]]


@contextlib.contextmanager
def held(store: Store, made_from: Sequence[Input]) -> Iterator[Callable[[], None]]:
    """Hold what an artefact is made from open while it is used, and hash it meanwhile.

    While a file is held open, no other one can have its inode: so when its identity stands at the
    end, all who opened its path in between read the bytes that were hashed.

    Gives a function that waits for the hashes and compares them with those expected.

    Raises:
        StaleInput: something is not there, holds other bytes, or changed while it was used.
    """
    stop = threading.Event()

    def look(file: BinaryIO) -> Sight:
        return hashing.remembered(file.fileno()) or hashing.look_through(file, stop)

    with contextlib.ExitStack() as stack:
        opened = [(one, stack.enter_context(_opened(store, one.path))) for one in made_from]
        identities = [_identity(files) for _, files in opened]
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="inputs"))
        stack.callback(stop.set)  # before the thread is waited for, and that before files close
        opened_all = [
            _Held(one, files, before, {n: pool.submit(look, file) for n, file in files.items()})
            for (one, files), before in zip(opened, identities, strict=True)
        ]

        def finish() -> None:
            for one in opened_all:
                _finish(store, one)

        yield finish


def _identity(files: Mapping[str, BinaryIO]) -> Identity:
    return hashing.joined_identity({name: hashing.identity(f) for name, f in files.items()})


def _finish(store: Store, one: _Held) -> None:
    """Wait for the hashes of an input, and raise `StaleInput` unless they are those expected."""
    path = one.made_from.path
    try:
        sight = hashing.joined({name: looking.result() for name, looking in one.looks.items()})
        now = hashing.identity_of(store.local(path))
    except OSError as error:
        seen.note_unreadable(store, path)
        raise unreadable(path, error) from error
    if not one.before == _identity(one.files) == now == sight.identity:
        raise StaleInput(
            f"{path} was changed or replaced while it was used. Nothing was made from it. "
            f"{advice.AGAIN} when nobody else writes to this data folder."
        )
    seen.note(store, path, sight)
    compare(path, one.made_from.sha256, sight)


def compare(path: str, sha256: str | None, sight: Sight) -> None:
    """Raise `StaleInput` unless the bytes that were seen are those expected, if any are."""
    if sha256 not in (None, sight.sha256):
        raise StaleInput(
            f"{path} changed since it was made: expected SHA-256 {sha256}, found {sight.sha256}. "
            f"Nothing was made from it. {advice.AGAIN}: what changed is made anew first."
        )


def unreadable(path: str, error: OSError) -> StaleInput:
    """Return what is raised where an input can be opened, but not read."""
    return StaleInput(
        f"{path} can't be read to its end ({error.strerror}). Nothing was made from it. "
        f"{advice.AGAIN}: what can't be read is made anew first."
    )


@contextlib.contextmanager
def _opened(store: Store, path: str) -> Iterator[dict[str, BinaryIO]]:
    """Open something that an artefact is made from: a file, or all files of a folder.

    Raises:
        StaleInput: it can't be opened.
    """
    place = store.local(path)
    with contextlib.ExitStack() as stack:
        try:
            files = {
                name: stack.enter_context(hashing.opened(place / name))
                for name in hashing.names(place)
            }
        except OSError as error:
            raise StaleInput(
                f"{path} must be made first: it can't be read ({error.strerror}). "
                + advice.fitting(
                    "Build or materialize the stages before this one too.", f"{advice.AGAIN}."
                )
            ) from error
        yield files
