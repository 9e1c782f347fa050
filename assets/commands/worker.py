"""`worker`: does runs that the UI on another machine asks for, until it is asked to stop."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from functools import partial

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings, positive
from pipelines.errors import ImagesetsError
from pipelines.redaction import named, without_secrets

ORDER = 9
PATIENCE_S = 3.0  # for an answer


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "worker",
        run,
        help="do runs for a UI on another machine",
        description="Take runs from the broker and do them until Ctrl-C, on as many machines as "
        "there are. Each has the settings of the UI in its environment, among them "
        "IMAGESETS_BROKER (redis://…), IMAGESETS_POSTGRES and data in an object store. What is "
        "made meanwhile lies in IMAGESETS_SCRATCH of the machine. A worker that stops interrupts "
        "its runs; others do them again, and go on with what is missing. docs/deployment.md tells "
        "the rest.",
    )
    options.add_folders(parser)
    parser.add_argument(
        "--runs",
        type=options.explained(positive),
        default=1,
        metavar="N",
        help="how many runs to do at a time, each in a process of its own (%(default)s); "
        "IMAGESETS_RUNS_AT_ONCE of the UI counts those of all workers",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="take no runs, but ask whether a worker of this machine answers: exit code 0 if so",
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Work until told to stop."""
    if not settings.broker:
        raise ImagesetsError(
            "A worker takes runs from a broker: set IMAGESETS_BROKER to redis://host:port/0, as "
            "for the UI, and IMAGESETS_POSTGRES and IMAGESETS_DATA=s3://… with it."
        )
    from assets.running import deployment, runs

    deployment.check(settings)
    if given.check:
        return _is_there(settings)
    settings.plan()  # what is wrong with the catalogue is said before anything starts
    os.environ.update(settings.as_environment(), DAGSTER_HOME=str(runs.home(settings)))
    _close_dead(settings)  # also says if PostgreSQL can't be asked
    return _work(settings, given.runs)


def _is_there(settings: Settings) -> int:
    """Say whether a worker of this machine answers; return the exit code."""
    from celery import Celery
    from kombu.exceptions import KombuError

    here = socket.gethostname()
    try:
        answers = Celery(broker=settings.broker).control.ping(timeout=PATIENCE_S)
    except KombuError as error:
        problem = without_secrets(str(error), settings.broker or "")
        raise ImagesetsError(
            f"The broker can't be asked: {problem} Start it, or correct IMAGESETS_BROKER."
        ) from error
    found = [name for answer in answers for name in answer if name.endswith(f"@{here}")]
    say(f"{len(found)} worker(s) answer on {here}", error=not found)
    return 0 if found else 1


def _work(settings: Settings, runs_at_a_time: int) -> int:
    from assets.serving import processes

    broker = named(settings.broker or "")
    say(f"worker on {socket.gethostname()}: {runs_at_a_time} run(s) at a time from {broker}")
    say(f"It works in {settings.here} for {settings.shown_data} (stop with Ctrl-C)", flush=True)
    command = [sys.executable, "-m", "assets.serving.worker", str(runs_at_a_time)]
    ended = processes.together(command, now_and_then=partial(_look, settings))
    if ended is None:
        return 0
    say("error: the worker ended by itself; its messages are above", error=True)
    return 1


def _close_dead(settings: Settings) -> None:
    from assets.running import abandoned, runs

    with runs.records(settings, warning=False) as instance:
        for text in abandoned.close(instance):
            say(f"warning: {text}", error=True, flush=True)


def _look(settings: Settings) -> None:
    """Close the runs of this machine whose process is gone; that it can't be done stops nobody."""
    try:
        _close_dead(settings)
    except ImagesetsError as error:
        say(f"warning: {error}", error=True, flush=True)
