"""A worker: takes runs from the broker and does them, each in a process of its own.

    python -m assets.serving.worker RUNS

It is Celery's, as Dagster's launcher for it expects one. The definitions are loaded before the
first run comes, and each run's process is forked off that: it begins at once, and leaves nothing
behind.
One that is killed takes nobody along; Celery notes that it failed, and Dagster has it done again.

Told to stop, a worker takes no more runs and interrupts those that it does: they end as failed
within seconds, keep what they finished, and are done again by another worker.

Not here: who starts this, and looks after it (`assets.commands.worker`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning, WorkerShutdown
from celery.worker import state
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster_celery import make_app as making
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from assets.settings import Settings
from pipelines.errors import ImagesetsError
from pipelines.redaction import without_secrets

QUEUE = "dagster"

_CHOSEN = {
    "broker_connection_retry_on_startup": True,
    "worker_disable_prefetch": True,  # a run that waits may be had by another worker
    "worker_prefetch_multiplier": 1,
    "worker_max_tasks_per_child": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # they need no broker
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}


def application(settings: Settings) -> Celery:
    """Return the application that Dagster's launcher sends runs to."""
    make: Any = making.make_app
    app: Celery = make({"broker": settings.broker, "backend": settings.broker})
    app.conf.update(_CHOSEN, task_default_queue=QUEUE)
    create_execute_job_task(app)
    create_resume_job_task(app)
    return app


def main(runs: int) -> int:
    """Do runs, so many at a time, until told to stop."""
    try:
        settings = Settings.from_environment()
        importlib.import_module("assets.serving.loaded")
    except ImagesetsError as error:
        sys.stderr.write(f"error: {without_secrets(str(error))}\n")
        return 1
    app = application(settings)
    warnings.simplefilter("ignore", SecurityWarning)  # of root: messages are JSON, and run nothing
    signals.setup_logging.connect(_say_nothing_twice, weak=False)
    signals.worker_process_init.connect(_begin, weak=False)
    signals.worker_shutting_down.connect(_interrupt, weak=False)
    worker = app.Worker(
        hostname=f"{os.getpid()}@{socket.gethostname()}",
        concurrency=runs,
        pool="prefork",
        queues=[QUEUE],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    with contextlib.suppress(WorkerShutdown):
        worker.start()
    return int(worker.exitcode or 0)


def _say_nothing_twice(**_: Any) -> None:
    """Leave logging as it is: warnings are printed, and runs print their own log."""


def _begin(**_: Any) -> None:
    """Prepare a process that will do one run: it is interrupted as any other run is."""
    setup_interrupt_handlers()


def _interrupt(**_: Any) -> None:
    """Interrupt the runs that are going on."""
    for request in [*state.active_requests]:
        if pid := getattr(request, "worker_pid", None):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
