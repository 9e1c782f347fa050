"""Processes that live until they are told to stop: the UI and the daemon, together.

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

EVERY_S = 60.0  # between the times that something is done now and then
LONG_LIFE_S = 60.0  # of a helper that did not end because it can't run here
PATIENCE_S = 20.0  # for a process that was told to end, with all that it has started

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h

_TOLD_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """We were told to stop; no error, which what we call might pass over."""


def together(
    first: Sequence[str],
    *helpers: Sequence[str],
    at_once: int = 0,
    is_ready: Callable[[Callable[[], None]], bool] = lambda _: True,
    died: Callable[[int], None] = lambda _: None,
    now_and_then: Callable[[], None] = lambda: None,
) -> int | None:
    """Run commands until the first of them ends or we are told to stop; then end them all.

    Each has a process group of its own, so that Ctrl-C reaches us alone, and that nothing which it
    has started is left behind. Helpers start when `is_ready` says so, and not before: what people
    wait for has the cores to itself. One that ends takes nobody along: what it has started is
    ended, and it is started again, at once or, where it keeps ending, after a pause.

    Args:
        first: the command without which the others are of no use.
        helpers: those that help it.
        at_once: how many of them start with the first; until all is ready none of these may end.
        is_ready: whether the other helpers may start. The first command may wait for a line on its
            stdin: it comes when the function is called that this one is given.
        died: told the number of a helper that has ended, and will be started again.
        now_and_then: called every minute, and when a helper has ended.

    Returns:
        which of the commands ended by itself, and us; None where we were told to stop.
    """
    commands = [first, *helpers]
    processes: dict[int, subprocess.Popen[Any]] = {}

    def start(number: int, stdin: int | None = None) -> None:
        with _told_later():  # one that has started, and is not among them, would be left behind
            processes[number] = _start(commands[number], stdin)

    pauses_s = [0.0] * len(commands)
    due = [0.0] * len(commands)  # when a helper may start
    next_time = time.monotonic() + EVERY_S
    with _told_to_stop():
        try:
            start(0, stdin=subprocess.PIPE)
            for number in range(1, 1 + at_once):
                start(number)
            while not is_ready(partial(_send_line, processes[0])):
                for number, process in processes.items():
                    if process.poll() is not None:
                        return number
                time.sleep(0.05)
            while processes[0].poll() is None:
                for number in range(1, len(commands)):
                    if number not in processes and time.monotonic() >= due[number]:
                        start(number)
                        due[number] = time.monotonic() + LONG_LIFE_S
                    elif number in processes and processes[number].poll() is not None:
                        lived_long = time.monotonic() >= due[number]
                        _end([processes[number]])
                        del processes[number]
                        pauses_s[number] = 0.0 if lived_long else 2 * pauses_s[number] + 1
                        due[number] = time.monotonic() + min(pauses_s[number], LONG_LIFE_S)
                        died(number)
                        next_time = time.monotonic()
                if time.monotonic() >= next_time:
                    now_and_then()
                    next_time = time.monotonic() + EVERY_S
                time.sleep(0.2)
            return 0
        except _Stopped:
            return None
        finally:
            for number in _TOLD_TO_STOP:
                signal.signal(number, signal.SIG_IGN)  # once is enough
            _end([*processes.values()])


def until_told_to_stop(work: Callable[[], object]) -> None:
    """Do something until it ends or we are told to stop."""
    with contextlib.suppress(_Stopped), _told_to_stop():
        work()


def _start(command: Sequence[str], stdin: int | None = None) -> subprocess.Popen[Any]:
    start = partial(subprocess.Popen, command, stdin=stdin, start_new_session=True)
    return start(preexec_fn=_die_with_us)  # safe: no thread of ours runs


def _send_line(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has ended
        if process.stdin and not process.stdin.closed:
            with process.stdin as stdin:
                stdin.write(b"\n")


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


@contextlib.contextmanager
def _told_later() -> Iterator[None]:
    """Hear only after the block that we are told to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD_TO_STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_us() -> None:
    """Have the kernel end us when the process that started us is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD_TO_STOP)


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
        if not _end_group(process.pid, signal.SIGTERM, deadline):
            _end_group(process.pid, signal.SIGKILL, time.monotonic() + PATIENCE_S)
        process.wait()


def _end_group(group: int, number: int, deadline: float) -> bool:
    """Send a process group a signal, and wait until nobody is left; return whether that is so.

    The killed take a moment, too, to be gone with what they hold: ports, locks, files.
    """
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(group, number)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-group, os.WNOHANG)
            os.killpg(group, 0)
            time.sleep(0.02)
        return False
    return True
