"""Commands in processes of their own, with streams, signals and exit codes of their own, quickly.

`python -m assets build` takes two seconds to import Dagster. These processes are forked off one
that has imported it (`preloaded`), and then do what that command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from assets.command_line import main
from tests.assets.project import environment
from tests.waiting import within


class Forked:
    """A function that runs in a process of its own; `arguments` are what it is called with."""

    def __init__(
        self,
        processes: ForkServerContext,
        run: Callable[..., object],
        *arguments: object,
        variables: Mapping[str, str],
        stderr: str | None = None,
    ) -> None:
        """Start it; `stderr` may be a terminal."""
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        streams = (str(self._out), stderr or str(self._err))
        self.process: BaseProcess = processes.Process(
            target=_alone, args=(run, arguments, environment(**variables), streams)
        )
        self.process.start()

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def communicate(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for its end; return what it printed, and its exit code."""
        self.process.join(within(timeout))
        is_late = self.process.is_alive()
        self.process.kill()
        self.process.join()
        printed = (self._out, self._err)
        out, err = (path.read_text() if path.exists() else "" for path in printed)
        self._folder.cleanup()
        assert not is_late, f"it goes on after {within(timeout):g} s: {out}{err}"
        return subprocess.CompletedProcess([], self.process.exitcode or 0, out, err)


def _alone(
    run: Callable[..., object],
    arguments: tuple[object, ...],
    variables: dict[str, str],
    streams: tuple[str, str],
) -> None:
    """Run as a process does that a shell has started: with its own environment and streams."""
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOCTTY, 0o600), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    sys.exit(run(*arguments))


def command_line(arguments: Sequence[str]) -> int:
    """Do what `python -m assets` does with these arguments."""
    return main(arguments)
