"""Processes that live and die together: the UI and the daemon.

Not here: what they do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

PATIENCE_S = 20.0  # for a process that was told to end, with all that it has started

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h

_TOLD_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(Exception):
    """We were told to stop."""


def together(
    *commands: Sequence[str], is_ready: Callable[[], bool] = lambda: True
) -> Sequence[str] | None:
    """Run commands until one of them ends or we are told to stop; then end them all.

    Each has a process group of its own, so that Ctrl-C reaches us alone, and that nothing which it
    has started is left behind. The next one starts when `is_ready` says so, and not before: what
    people wait for has the cores to itself.

    Returns:
        the command that ended by itself; None where we were told to stop.
    """
    processes: list[subprocess.Popen[Any]] = []
    with _told_to_stop():
        try:
            for command in commands:
                while _alive(processes) and not is_ready():
                    time.sleep(0.1)
                start = partial(subprocess.Popen, command, start_new_session=True)
                processes.append(start(preexec_fn=_die_with_us))  # safe: no thread of ours runs
            if len(_alive(processes)) == len(commands):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            ended = [process.args for process in processes if process.poll() is not None]
            return next((command for command in commands if command in ended), None)
        except _Stopped:
            return None
        finally:
            for number in _TOLD_TO_STOP:
                signal.signal(number, signal.SIG_IGN)  # once is enough
            _end(processes)


def _alive(processes: Sequence[subprocess.Popen[Any]]) -> list[subprocess.Popen[Any]]:
    return [process for process in processes if process.poll() is None]


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Raise `_Stopped` in the block when we are told to stop.

    Handlers of ours are not inherited, whereas signals that a shell made us ignore would be: the
    processes could not be stopped then.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in _TOLD_TO_STOP}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_us() -> None:
    """Have the kernel end us when the process that started us is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """Ask Linux for what no other system can do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _end(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """End processes and all that they have started: asked first, then forced."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # whom they leave behind is ours to wait for
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                time.sleep(0.02)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-process.pid, os.WNOHANG)
                os.killpg(process.pid, 0)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
