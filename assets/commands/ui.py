"""`ui`: the Dagster UI and its daemon, until one of them is asked to stop."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from functools import partial

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import ROOT, Settings
from pipelines.errors import ImagesetsError

ORDER = 10


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


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from assets.command_line import processes
    from assets.definitions import automated
    from assets.running import retention, runs

    _check_port(given.host, given.port)
    automated(settings)  # say what is wrong here, not in a browser
    os.environ.update(settings.as_environment(), DAGSTER_HOME=str(runs.home(settings)))
    with runs.records(settings) as instance:  # two processes that set them up would collide
        retention.once_a_day(instance, settings)
    python, workspace = [sys.executable, "-m"], ["-w", str(ROOT / "workspace.yaml")]
    # The daemon loads the definitions anew every minute, and would say so each time.
    quiet = ["--log-level", "warning", "--code-server-log-level", "error"]
    server = [*python, "dagster_webserver", *workspace, *quiet]
    server += ["--host", given.host, "--port", str(given.port)]
    daemon = [*python, "dagster._daemon", "run", *workspace, *quiet]
    say(f"Dagster UI: http://{given.host}:{given.port} (stop with Ctrl-C)", flush=True)
    answers = partial(_answers, given.host, given.port)
    ended = processes.together(server, daemon, is_ready=answers)
    if ended:
        say(f"error: {ended[2]} ended by itself; its messages are above", error=True)
    return 1 if ended else 0


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _check_port(host: str, port: int) -> None:
    """Refuse an address that the UI can't serve on, before a second daemon disturbs a first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (")[0].rstrip(".")
        raise ImagesetsError(
            f"The UI can't be served on {host}, port {port}: {why}. Is it running already? Choose "
            "another port with --port (make ui PORT=…)."
        ) from error
