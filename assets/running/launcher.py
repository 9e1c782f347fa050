"""What gives runs to workers: Dagster's launcher for Celery, where not every run has one.

A build from the command line, and what a refresh makes, are runs in a process that is there
already. They have no task in Celery, and are looked after by the machine that they run on
(`abandoned`).

Not here: how it is configured (`deployment`), or the worker (`serving.worker`).
"""

from __future__ import annotations

import warnings

from celery.exceptions import DuplicateTaskNameWarning
from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

# Dagster's launcher declares the same task anew for each run.
warnings.filterwarnings("ignore", category=DuplicateTaskNameWarning)


class Launcher(CeleryRunLauncher):
    """Starts runs as tasks of Celery."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Tell of a run that has begun whether its process has failed; what is unknown has not.

        Where the broker forgot its tasks, their runs go on: nothing would be gained by starting
        them a second time. One that does not is ended by the time that a run may take.
        """
        if DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        found: CheckRunHealthResult = super().check_run_worker_health(run)
        if found.status is WorkerStatus.UNKNOWN:
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)
        return found

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run, where a worker does it; return whether that was asked for."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        return bool(super().terminate(run_id))
