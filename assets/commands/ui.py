"""`ui`: the Dagster UI and its daemon, until it is asked to stop; a daemon that dies comes back."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial

from assets.command_line import options, serving
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import ROOT, Settings
from pipelines.errors import ImagesetsError

ORDER = 10
SENTENCE = (
    "This page shows every asset of the catalogue: what is made of which, and in what state it is."
)
# Imports what the UI takes, for as long as it takes us to prepare, and then waits for a line.
_SERVER = "import sys, dagster_webserver.cli as web; sys.stdin.readline() and web.main()"


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "ui",
        run,
        help="open the Dagster UI on these assets",
        description="Serve the Dagster UI on these assets, with every run that was recorded in "
        "the data folder, and run the schedules and sensors that are turned on there. Runs obey "
        "the same options.",
        examples={"ui": "the same in the browser"},
    )
    options.add_folders(parser)
    options.add_contents(parser)
    options.add_mirrors(parser)
    options.add_openlineage(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (%(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="port to serve on (%(default)s)")
    parser.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="open no page; without a terminal or a display none is opened anyway",
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from assets.command_line import processes

    # Before a second daemon disturbs a first.
    serving.check_port("The UI", given.host, given.port, "--port (make ui PORT=…)")
    settings.plan()  # what is wrong with the catalogue is said before anything is made
    os.environ.update(settings.as_environment(), DAGSTER_HOME=str(settings.dagster_home))
    python, workspace = sys.executable, ["-w", str(ROOT / "workspace.yaml")]
    # The daemon loads the definitions anew every minute, and would say so each time.
    quiet = ["--log-level", "warning", "--code-server-log-level", "error"]
    server = [python, "-c", _SERVER, *workspace, *quiet]
    server += ["--host", given.host, "--port", str(given.port)]
    daemon = [python, "-m", "dagster._daemon", "run", *workspace, *quiet]
    page = f"{serving.address(given.host, given.port)}/asset-groups"

    def prepare(go_on: Callable[[], None]) -> None:
        from assets.definitions import automated
        from assets.running import retention, runs

        runs.home(settings)
        with runs.records(settings):  # two processes that set them up would collide
            pass
        _close_dead(settings)
        go_on()
        automated(settings)  # say what else is wrong here, not in a browser
        with runs.records(settings, warning=False) as instance:
            retention.once_a_day(instance, settings)
        say(f"Dagster UI: {page} (stop with Ctrl-C)")
        say(SENTENCE, flush=True)

    def is_ready() -> bool:
        ready = _answers(given.host, given.port)
        if ready and given.browser:
            serving.open_page(page)
        return ready

    def died(command: Sequence[str]) -> None:
        again = "its messages are above; it is started again, and the UI goes on"
        say(f"warning: {command[2]} ended by itself; {again}", error=True, flush=True)

    if processes.together(
        server,
        daemon,
        prepare=prepare,
        is_ready=is_ready,
        died=died,
        now_and_then=partial(_close_dead, settings),
    ):
        say("error: dagster_webserver ended by itself; its messages are above", error=True)
        return 1
    return 0


def _close_dead(settings: Settings) -> None:
    """Close the runs whose process is gone, and say so; that it can't be done stops nobody."""
    from assets.running import abandoned, runs

    try:
        with runs.records(settings, warning=False) as instance:
            closed = abandoned.close(instance)
    except ImagesetsError as error:
        closed = [str(error)]
    for text in closed:
        say(f"warning: {text}", error=True, flush=True)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
