"""Runs whose process is gone: known by a tag of theirs, and closed.

A process that is killed can't tell Dagster that its run has ended. The run would stay "Started"
for ever, its assets "Materializing…", and whatever waits for them would wait. So each run says
which process works on it, and others look whether that still exists.

Not here: the processes of the UI (`serving.processes`), or runs that end by themselves
(`runs`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.events import RunFailureReason
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.tags import (
    RETRY_STRATEGY_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext

PROCESS = "imagesets/process"  # host:boot-id:namespace:pid:start-time:run
SILENCE = timedelta(minutes=15)  # of a run that never said which process works on it
LATELY = timedelta(days=1)  # when runs failed that may be tried again
TRIES = 60  # to start a run again, one a minute
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
    started = _started(pid) or ""
    return ":".join([socket.gethostname(), _boot_id(), _namespace(), str(pid), started, run_id[:8]])


@contextlib.contextmanager
def noting_process(run: PlanOrchestrationContext, _plan: object) -> Iterator[None]:
    """Note in a run that Dagster executes which process it works in.

    And where lost runs are done again, that all of their steps are: what is there is found up to
    date. Dagster does those again that had not succeeded, and a run that is killed after its last
    step, before it says that it has ended, has none: Dagster would give it up as failed.
    """
    tags = {PROCESS: process(run.run_id)}
    if run.instance.run_retries_enabled:
        tags[RETRY_STRATEGY_TAG] = ReexecutionStrategy.ALL_STEPS.value
    run.instance.add_run_tags(run.run_id, tags)
    yield


def process_here(run: dg.DagsterRun) -> int | None:
    """Return the process that works on a run; None where it is gone, elsewhere, or unknown."""
    if not (tag := _tag(run)):
        return None
    *where, pid, started, _ = tag.rsplit(":", 5)
    is_here = where == [socket.gethostname(), _boot_id(), _namespace()]
    return int(pid) if is_here and _started(int(pid)) == started else None


def close(instance: dg.DagsterInstance) -> list[str]:
    """Close the runs of this host whose process is gone; return a sentence for each.

    So are those that never said which process works on them, and have been silent for long: they
    were killed while they were being launched. Where workers do the runs, that is left to Dagster:
    they may be waiting for one on another host.
    """
    said = []
    launched_here = not instance.run_monitoring_enabled
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNDER_WAY))):
        run = record.dagster_run
        tag = _tag(run)
        if tag and _is_gone(tag):
            where = f", {tag.split(':')[-3]} on {socket.gethostname()},"
        elif launched_here and not tag and _is_silent(record):
            where = ""
        else:
            continue
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.status not in UNDER_WAY:
            continue  # it ended while we looked, and then so did its process
        why = (
            f"The process of this run{where} is gone without a word: it was killed, it ran out of "
            "memory, or the machine was started anew. What the run had finished is kept; start it "
            "again to make the rest."
        )
        if now.status is DagsterRunStatus.CANCELING:
            instance.report_run_canceled(now, why)
        else:
            instance.report_run_failed(now, why)
        said.append(f"run {run.run_id[:8]} of {run.job_name} was closed: its process is gone")
    return said


def ask_again(instance: dg.DagsterInstance) -> list[str]:
    """Have Dagster look once more at lost runs that it could not start again; tell of each.

    It gives a run up at the first error, be it that the code server was just being started anew.
    """
    if not instance.run_retries_enabled:
        return []
    since = datetime.now(UTC) - LATELY
    failed = dg.RunsFilter(
        statuses=[DagsterRunStatus.FAILURE], tags={WILL_RETRY_TAG: "false"}, updated_after=since
    )
    said = []
    for run in instance.get_runs(failed):
        reason = run.tags.get(RUN_FAILURE_REASON_TAG)
        why = RunFailureReason(reason) if reason else None
        _, group = instance.get_run_group(run.run_id) or ("", [])
        is_tried = any(one.parent_run_id == run.run_id for one in group)
        if is_tried or not auto_reexecution_should_retry_run(instance, run, why):
            continue
        if len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)) < TRIES:
            text = "It could not be started again, as its last events say: that is tried once more."
            instance.report_run_failed(run, text)
            said.append(f"run {run.run_id[:8]} of {run.job_name} could not be started again")
    return said


def _is_silent(record: dg.RunRecord) -> bool:
    return datetime.now(UTC) - record.update_timestamp > SILENCE


def _tag(run: dg.DagsterRun) -> str:
    """Return the tag that names a run's process; nothing for that of a run before."""
    tag = run.tags.get(PROCESS, "")
    return tag if tag.count(":") >= 5 and tag.endswith(f":{run.run_id[:8]}") else ""


def _is_gone(tag: str) -> bool:
    """Whether a tag names a process of this host that is there no more.

    Of another machine's, or another container's, nothing can be told here.
    """
    host, boot_id, namespace, pid, started, _ = tag.rsplit(":", 5)
    if host != socket.gethostname():
        return False
    if boot_id != _boot_id():
        return True
    if namespace != _namespace():
        return False
    now = _started(int(pid))
    return now is None or bool(now and started and now != started)


def _namespace() -> str:
    """Return what tells containers apart, each of which counts its processes anew; "" elsewhere."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:  # no Linux, or it hides the processes of others
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass  # it is somebody else's
        return ""
    return None if stat[0] in "ZX" else stat[19]
