"""The machine: what results that depend on it are computed with, and how that is kept the same.

Not here: the versions of libraries, which every provenance tells.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def one_thread(*libraries: str) -> Iterator[None]:
    """Hold linear algebra to one thread, so that no sum depends on how many cores there are.

    The hold is on the whole process. So one block at a time runs: the first of two to end would
    set the other one free.

    Args:
        libraries: whose work it is; what is loaded later is not held.
    """
    from threadpoolctl import threadpool_limits

    # scikit-learn asks whether data is of these, by what of them is loaded: another thread may be
    # about to, and then there is half of one.
    importlib.import_module("polars")
    for name in ("pandas", "pyarrow"):
        if name in sys.modules:
            importlib.import_module(name)
    for name in libraries:
        importlib.import_module(name)
    with _ONE_AT_A_TIME, threadpool_limits(1):
        yield


def processor() -> str:
    """Return the name of the processor, as the system has it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
