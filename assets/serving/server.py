"""One code server: it answers until it is told to stop; or is replaced, and its runs have ended.

It is Dagster's own but for three things: runs are forked from a process that is ready for them;
*Reload definitions* has another server take over; and a run that one before it started is
cancelled here. Not here: who starts servers (`code_server`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.origin import get_python_environment_entry_point
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.server import DagsterApiServer, DagsterGrpcServer
from dagster._grpc.types import (
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CancelExecutionRequest,
    CancelExecutionResult,
)
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.interrupts import setup_interrupt_handlers

from assets.running import abandoned, runs
from assets.serving import code_server
from assets.settings import ROOT, Settings
from pipelines.errors import ImagesetsError
from pipelines.redaction import without_secrets

READY_AFTER_S = 0.4  # until a process is kept ready for runs: the web server asks first
PATIENCE_S = 120.0  # for another server to take over

_A_MOMENT_S = 0.2
_LOADED = "assets.serving.loaded"


def main(folder: Path, number: int) -> int:
    """Serve the definitions, and start runs of them.

    The first server ends where they can't be loaded; a later one tells those who ask why.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # as who starts us has blocked them
    setup_interrupt_handlers()
    logger = logging.getLogger("dagster.code_server")
    logger.setLevel(logging.ERROR)
    try:
        if number == 1:
            settings = Settings.from_environment()
            runs.home(settings)
            with runs.records(settings, warning=False):  # sets them up; two at a time would collide
                importlib.import_module(_LOADED)
        _serve(folder, folder / f"code.{number}", logger)
    except ImagesetsError as error:
        sys.stderr.write(f"error: {without_secrets(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _serve(folder: Path, path: Path, logger: logging.Logger) -> None:
    ended, threads = threading.Event(), FuturesAwareThreadPoolExecutor()
    server = _Server(
        code_server.link(folder),
        path,
        server_termination_event=ended,
        logger=logger,
        server_threadpool_executor=threads,
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable,
            module_name=_LOADED,
            working_directory=str(ROOT),
            attribute="defs",
        ),
        lazy_load_user_code=True,
        entry_point=get_python_environment_entry_point(sys.executable),
        location_name=code_server.LOCATION,
    )
    serving = DagsterGrpcServer(ended, server, logger, threads, socket=str(path))
    server.stops_by(serving.server.stop)
    threading.Thread(target=server.take_over, daemon=True).start()
    serving.serve()  # type: ignore[no-untyped-call]
    server.wait_for_runs()


class _Server(DagsterApiServer):
    """Dagster's code server.

    Args:
        link: the socket at which the newest server is asked.
        path: its own.
        given: what Dagster's wants.
    """

    def __init__(self, link: Path, path: Path, **given: Any) -> None:
        super().__init__(**given)
        self._link, self._path = link, path
        # A run is a process forked from one that has imported and loaded all; Dagster's begin anew.
        self._mp_ctx: Any = multiprocessing.get_context("forkserver")
        self._mp_ctx.set_forkserver_preload([_LOADED])

    def stops_by(self, stop: Callable[[float], object]) -> None:
        """Take what stops the server: it accepts nothing new, and finishes what it has begun."""
        self._stop = functools.partial(stop, PATIENCE_S)

    def take_over(self) -> None:
        """Have those who ask come here, once we answer; then have a process ready for runs."""
        while not code_server.listens(self._path):
            time.sleep(0.02)
        with contextlib.suppress(FileNotFoundError):
            new = self._link.with_name(f"{self._path.name}.link")
            new.symlink_to(self._path.name)
            new.replace(self._link)
            time.sleep(READY_AFTER_S)
            if self._serializable_load_error is None:
                forkserver.ensure_running()

    def wait_for_runs(self) -> None:
        """Return when the runs that were started here have ended."""
        for process, _ in [*self._executions.values()]:
            process.join()

    def ReloadCode(  # noqa: N802 # Dagster names it
        self, _request: dagster_api_pb2.ReloadCodeRequest, _context: object
    ) -> dagster_api_pb2.ReloadCodeReply:
        """Answer when another server has taken over, and serve no more.

        Raises:
            TimeoutError: none has; this one goes on.
        """
        os.kill(os.getppid(), code_server.REPLACE)
        deadline = time.monotonic() + PATIENCE_S
        while os.readlink(self._link) == self._path.name:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the definitions were not loaded again within {PATIENCE_S} s")
            time.sleep(0.05)
        # Who asks is told to ask elsewhere before it gets this answer: on one connection, words
        # arrive in their order. What it asks next would be cancelled otherwise.
        self._stop()
        time.sleep(_A_MOMENT_S)
        self._server_termination_event.set()
        return dagster_api_pb2.ReloadCodeReply()

    def CancelExecution(  # noqa: N802
        self, request: dagster_api_pb2.CancelExecutionRequest, context: object
    ) -> dagster_api_pb2.CancelExecutionReply:
        """Interrupt a run: one of ours as Dagster does, one of a server before by its process."""
        asked = deserialize_value(
            request.serialized_cancel_execution_request, CancelExecutionRequest
        )
        pid = self._elsewhere(asked.run_id)
        if pid is None:
            return super().CancelExecution(request, context)
        os.kill(pid, signal.SIGINT)
        result = CancelExecutionResult(success=True, message=None, serializable_error_info=None)
        return dagster_api_pb2.CancelExecutionReply(
            serialized_cancel_execution_result=serialize_value(result)
        )

    def CanCancelExecution(  # noqa: N802
        self, request: dagster_api_pb2.CanCancelExecutionRequest, context: object
    ) -> dagster_api_pb2.CanCancelExecutionReply:
        """Tell whether a run can be interrupted."""
        asked = deserialize_value(
            request.serialized_can_cancel_execution_request, CanCancelExecutionRequest
        )
        if self._elsewhere(asked.run_id) is None:
            return super().CanCancelExecution(request, context)
        result = CanCancelExecutionResult(can_cancel=True)
        return dagster_api_pb2.CanCancelExecutionReply(
            serialized_can_cancel_execution_result=serialize_value(result)
        )

    def _elsewhere(self, run_id: str) -> int | None:
        """Return the process of a run that another server has started."""
        if run_id in self._executions:
            return None
        with dg.DagsterInstance.get() as instance:
            run = instance.get_run_by_id(run_id)
            return abandoned.process_here(run) if run else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
