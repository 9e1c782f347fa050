"""Uses more than one core: makes the next item beforehand, or runs a task in several threads.

Not here: what is run. The libraries that do the work (isal, hashlib, Arrow, numpy) release the GIL,
so plain threads are enough, and results never depend on which thread was faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


# A container may have fewer cores than the machine; not every system tells.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = min(4, _CORES)

_END: Any = object()


def prefetched(items: Iterable[T]) -> Generator[T]:
    """Yield the same items; a thread makes the next one while the caller uses this one.

    Close it (`contextlib.closing`) where the items come from something that is closed afterwards.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetched") as pool:
        upcoming = pool.submit(next, iterator, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = pool.submit(next, iterator, _END)
            yield item


def side_by_side(task: Callable[[int, int], T], workers: int = WORKERS) -> list[T]:
    """Run `task(worker, workers)` in as many threads; return the results in order."""
    with ThreadPoolExecutor(workers, thread_name_prefix="side_by_side") as pool:
        return list(pool.map(task, range(workers), [workers] * workers))
