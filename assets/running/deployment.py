"""What Dagster's instance is configured with, on one machine or where workers on several do runs.

With a broker, runs wait in PostgreSQL until a worker has room (QueuedRunCoordinator), go to it
through Redis (Celery), and are looked after: one whose process was killed is seen to have failed,
one that takes too long is ended, and either is started again, on whichever worker there is. No
address stands in the file: each machine reads its environment.

Not here: what a worker does (`serving.worker`), or who has a source to itself (`turns`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from assets.settings import ROOT, Settings
from pipelines.errors import ImagesetsError

IN_POSTGRES = b"""
storage:
  postgres:
    postgres_url:
      env: IMAGESETS_POSTGRES
"""
INSTALL = '.venv/bin/python -m pip install "dagster-celery~=0.29.27" "redis>=6.4"'

START_S = 300  # that a run may wait in the broker for a worker: it counts as lost then
LOOK_S = 10  # between two looks at the runs that are going on
RETRIES = 5  # of a run whose process was lost: it may be lost again, or be what kills its process


def configuration(settings: Settings) -> bytes:
    """Return the `dagster.yaml` that settings ask for: the project's own, where no worker is.

    Raises:
        ImagesetsError: there is a broker, and not what else workers need.
    """
    alone = (ROOT / "dagster.yaml").read_bytes() + (IN_POSTGRES if settings.postgres else b"")
    if not settings.broker:
        return alone
    check(settings)
    import yaml

    text: str = yaml.safe_dump(yaml.safe_load(alone) | _with_workers(settings))
    return text.encode()


def check(settings: Settings) -> None:
    """Refuse settings that name a broker, and not what else workers need.

    Raises:
        ImagesetsError: saying what is missing, and what to do.
    """
    if not settings.broker:
        return
    if not settings.postgres:
        raise ImagesetsError(
            "IMAGESETS_BROKER is set, but not IMAGESETS_POSTGRES: workers on several machines "
            "record their runs in one database. Set it to postgresql+psycopg2://…, or unset "
            "IMAGESETS_BROKER to run everything on this machine."
        )
    if not isinstance(settings.data, str):
        raise ImagesetsError(
            f"IMAGESETS_BROKER is set, but data lie in {settings.data}, a folder of this machine: "
            "workers on others would not see it. Set IMAGESETS_DATA to s3://bucket/prefix (gs://…, "
            "az://…), or unset IMAGESETS_BROKER to run everything on this machine."
        )
    if settings.executor != "in_process":  # Celery's processes may start none
        raise ImagesetsError(
            f"IMAGESETS_BROKER is set, and IMAGESETS_EXECUTOR is {settings.executor}: a worker "
            "does each run in one process. Unset IMAGESETS_EXECUTOR; more workers, or more --runs "
            "of each, use more cores."
        )
    for module in ("dagster_celery", "redis"):
        if find_spec(module) is None:
            raise ImagesetsError(
                f"IMAGESETS_BROKER is set, but {module.replace('_', '-')} is not installed, which "
                f"not everybody has. Install it: {INSTALL}"
            )


def _with_workers(settings: Settings) -> dict[str, Any]:
    address = {"env": "IMAGESETS_BROKER"}
    return {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {"dequeue_interval_seconds": 1, "dequeue_use_threads": True},
        },
        # Runs that wait for another one on their source wait in the queue, not in a worker.
        "concurrency": {
            "pools": {"default_limit": 1, "granularity": "run"},
            "runs": {"max_concurrent_runs": settings.runs_at_once},
        },
        "run_launcher": {
            "module": "assets.running.launcher",
            "class": "Launcher",
            "config": {"broker": address, "backend": address},  # results last as long as it does
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": LOOK_S,
            "start_timeout_seconds": START_S,
            "max_runtime_seconds": settings.longest_run_s,
        },
        # What a run says by itself to have failed would fail again.
        "run_retries": {
            "enabled": True,
            "max_retries": RETRIES,
            "retry_on_asset_or_op_failure": False,
        },
    }
