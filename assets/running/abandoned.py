"""Runs whose process is gone: known by a tag of theirs, and closed.

A process that is killed can't tell Dagster that its run has ended. The run would stay "Started"
for ever, its assets "Materializing…", and whatever waits for them would wait. So each run says
which process works on it, and others look whether that still exists.

Not here: the processes of the UI (`command_line.processes`), or runs that end by themselves
(`runs`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster import DagsterRunStatus

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext

PROCESS = "imagesets/process"  # host:boot-id:pid:start-time:run
UNDER_WAY = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)


def process(run_id: str) -> str:
    """Return what tells this process from all others, at any time, on any machine.

    The start of the run's id stands there too: a run that is executed again takes over the tags of
    the one before, whose process may be gone.
    """
    pid = os.getpid()
    return ":".join([socket.gethostname(), _boot_id(), str(pid), _started(pid) or "", run_id[:8]])


@contextlib.contextmanager
def noting_process(run: PlanOrchestrationContext, _plan: object) -> Iterator[None]:
    """Note in a run that Dagster executes which process it works in."""
    run.instance.add_run_tags(run.run_id, {PROCESS: process(run.run_id)})
    yield


def close(instance: dg.DagsterInstance) -> list[str]:
    """Close the runs of this host whose process is gone; return a sentence for each."""
    said = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY))):
        if _is_gone(run.tags.get(PROCESS, ""), run.run_id):
            why = (
                f"The process of this run, {run.tags[PROCESS].split(':')[-3]} on "
                f"{socket.gethostname()}, is gone without a word: it was killed, it ran out of "
                "memory, or the machine was started anew. What the run had finished is kept; "
                "start it again to make the rest."
            )
            if run.status is DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, why)
            else:
                instance.report_run_failed(run, why)
            said.append(f"run {run.run_id[:8]} of {run.job_name} was closed: its process is gone")
    return said


def _is_gone(tag: str, run_id: str) -> bool:
    """Whether a tag names a process of this host that is there no more."""
    host, *rest = tag.rsplit(":", 4)
    if len(rest) != 4 or host != socket.gethostname() or rest[3] != run_id[:8]:
        return False  # another machine's, or that of a run before
    boot_id, pid, started, _ = rest
    return boot_id != _boot_id() or _started(int(pid)) != started


def _boot_id() -> str:
    """Return what Linux gives each start of a machine; "" where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return when a process was started, since its number may be given again; None if it is gone.

    Where the system does not tell, "" says that there is one of that number.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass  # it is somebody else's
        return ""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] in "ZX" else stat[19]
