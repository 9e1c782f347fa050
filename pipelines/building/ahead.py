"""Makes the assets of a run on a few threads, each as soon as what it needs passed its checks.

So a build goes on while Dagster loads, and while it records the steps before. The step of an asset
takes what was made, or raises its error. Nothing is made of what a failed check would block.

Not here: how an asset is made (`workshop`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..plan import AssetPath, Step
from ..progress import Display, Unit, Watch
from ..threads import WORKERS
from .archives import AT_ONCE
from .workshop import Made, Workshop

_NICENESS = 5


class Ahead:
    """What one run makes ahead of its steps; without any assets, every step makes its own."""

    def __init__(self, workshop: Workshop, wanted: Collection[Step] = ()) -> None:
        """Begin with the steps that need nothing of `wanted`."""
        self._stop = threading.Event()
        self._workshop = replace(workshop, display=_Stoppable(workshop.display, self._stop))
        self._pool = ThreadPoolExecutor(
            min(2, WORKERS), thread_name_prefix="ahead", initializer=_give_way
        )
        self._slots = threading.Semaphore(AT_ONCE)  # archives of parts under way at once
        self._futures: dict[Step, Future[list[Made]]] = {}
        self._lock = threading.Lock()
        self._sound = set[Step]()
        self._needed = workshop.plan.steps_before(wanted)
        self._waiting: dict[Step, list[Step]] = {}  # step → those that need it
        archives = (one for one in workshop.plan.artefacts.values() if one.is_archive)
        self._fetched = {one.step for one in archives}
        for step, needed in self._needed.items():
            for before in needed:
                self._waiting.setdefault(before, []).append(step)
        self._begin(wanted)

    @property
    def run_id(self) -> str | None:
        """The Dagster run that this is part of."""
        return self._workshop.run_id

    def __enter__(self) -> Ahead:
        """Have begun already."""
        return self

    def __exit__(self, *_raised: object) -> None:
        """Give up what nobody took; nothing is left half made."""
        with self._lock:
            self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        if self._workshop.outbox:
            self._workshop.outbox.close()

    def take(self, asset: AssetPath, parts: Collection[str] = ("",)) -> list[Made] | None:
        """Return what was made of an asset, waiting for it; None where that is nobody's task here.

        Of an asset of parts, that is of those parts of it that are named.

        Raises:
            ImagesetsError: it could not be made.
        """
        made: list[Made] = []
        for step in ((asset, part) for part in parts):
            future = self._futures.get(step)
            if future is None:
                return None
            # One that nobody began yet is made here.
            made += self._make(step) if future.cancel() else future.result()
        return made

    def _begin(self, steps: Iterable[Step]) -> None:
        """Begin those of some steps that can be made by now."""
        with self._lock:
            ready = [
                step for step in steps if step in self._needed and self._needed[step] <= self._sound
            ]
            for step in ready if not self._stop.is_set() else ():
                del self._needed[step]
                if step in self._fetched:
                    self._futures[step] = self._fetch(step)
                else:
                    self._futures[step] = self._pool.submit(self._make, step)

    def _fetch(self, step: Step) -> Future[list[Made]]:
        """Fetch archives on a thread that nobody waits for: a server may stall."""
        future: Future[list[Made]] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            _give_way()
            with self._slots if step[1] else contextlib.nullcontext():
                try:
                    future.set_result(self._make(step))
                except BaseException as error:  # raised where the result is taken
                    future.set_exception(error)

        threading.Thread(target=work, name="ahead-archives", daemon=True).start()
        return future

    def _make(self, step: Step) -> list[Made]:
        if self._stop.is_set():
            raise Stopped
        asset, part = step
        made = self._workshop.make(asset, [part])
        if all(one.is_sound for one in made):
            self._sound.add(step)
            self._begin(self._waiting.get(step, ()))  # before the step after this one can ask
        return made


def _give_way() -> None:
    """Let other threads go first: all that is made here is made by when Dagster asks for it.

    Threads that this one starts do so, too. Only Linux has a priority for each thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class Stopped(Exception):
    """Nobody waits for it any more."""


class _Stoppable(Display):
    """A display of work that ends when nobody waits for it."""

    def __init__(self, shown: Display, stop: threading.Event) -> None:
        self._shown, self._stop = shown, stop

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        with self._shown.task(label, total, unit) as watch:
            yield _Stopping(watch, self._stop)


class _Stopping(Watch):
    def __init__(self, shown: Watch, stop: threading.Event) -> None:
        self._shown, self._stop = shown, stop

    def __call__(self, done: int) -> None:
        if self._stop.is_set():
            raise Stopped
        self._shown(done)

    def expect(self, total: int) -> None:
        self._shown.expect(total)

    def note(self, text: str) -> None:
        self._shown.note(text)
