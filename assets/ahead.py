"""Makes what a run will need before its step begins, while Dagster records the steps before.

What is made from a table begins as soon as the step of the table ended well, its checks included:
nothing is made ahead of what a failed check would have blocked. The step that it belongs to takes
the result, or raises the error.

Not here: how anything is made; each stage says so, and makes it in its step where nobody did.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from assets.resources import Known, Made, Store
from pipelines.plan import Plan, Planned
from pipelines.progress import Display, Unit, Watch
from pipelines.threads import WORKERS

Make = Callable[[Store, Plan, Planned, Display, Known], Made]
"""Makes an artefact."""


class Ahead:
    """What one run makes ahead of its steps."""

    def __init__(self, wanted: Iterable[tuple[Planned, Make | None]] = ()) -> None:
        """Begin nothing.

        `wanted` are the artefacts of the run, with what makes those that may be made ahead; without
        any, every step makes its own.
        """
        self._wanted = {one.path: (one, make) for one, make in wanted}
        self._pool = ThreadPoolExecutor(min(2, WORKERS), thread_name_prefix="ahead")
        self._futures: dict[str, Future[Made]] = {}
        self._sound = set[str]()
        self._stop = threading.Event()

    def __enter__(self) -> Ahead:
        """Begin with nothing."""
        return self

    def __exit__(self, *_raised: object) -> None:
        """Give up what nobody took; nothing is left half made."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def ended_well(
        self, paths: Iterable[str], store: Store, plan: Plan, display: Display, known: Known
    ) -> None:
        """Begin what can be made now that some artefacts are there and passed their checks."""
        self._sound.update(paths)
        for path, (one, make) in self._wanted.items():
            needed = {*one.needs, *one.uses} & self._wanted.keys()
            if make and path not in self._futures and needed <= self._sound:
                shown = _Stoppable(display, self._stop)
                self._futures[path] = self._pool.submit(make, store, plan, one, shown, known)

    def take(
        self, make: Make, store: Store, plan: Plan, one: Planned, display: Display, known: Known
    ) -> Made:
        """Return what was made ahead; where nobody began yet, make it now.

        Raises:
            Failure: it could not be made.
        """
        future = self._futures.get(one.path)
        if future is None or future.cancel():
            return make(store, plan, one, display, known)
        return future.result()


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

    def note(self, text: str) -> None:
        self._shown.note(text)
