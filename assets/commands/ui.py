"""`ui`: the Dagster UI and its daemon, until it is asked to stop; a daemon that dies comes back."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.serving import sites
from assets.settings import Settings
from pipelines.errors import ImagesetsError

ORDER = 10
SENTENCE = (
    "This page shows every asset of the catalogue: what is made of which, and in what state it is."
)
# Imports what it takes while the definitions are loaded elsewhere, and waits for a line to go on.
_WEB = "import sys, dagster_webserver.cli as web; sys.stdin.readline() and web.main()"


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
    options.add_page(parser, 3000)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    # Before a second daemon disturbs a first.
    sites.check_port("The UI", given.host, given.port, "--port (make ui PORT=…)")
    settings.plan(())  # what is wrong with the catalogue is said before anything is made
    if settings.broker:
        from assets.running import deployment

        deployment.check(settings)
    os.environ.update(settings.as_environment(), DAGSTER_HOME=str(settings.dagster_home))
    with tempfile.TemporaryDirectory(prefix="imagesets-") as folder:  # short, as for a socket
        return _serve(settings, given, Path(folder))


def _serve(settings: Settings, given: argparse.Namespace, folder: Path) -> int:
    from assets.serving import code_server, processes

    workspace = folder / "workspace.yaml"
    workspace.write_text(code_server.workspace(folder), "utf-8")
    python, common = sys.executable, ["-w", str(workspace), "--log-level", "warning"]
    where = ["--host", given.host, "--port", str(given.port)]
    commands = {
        "web server": [python, "-c", _WEB, *common, *where],
        "code server": [python, "-m", "assets.serving.code_server", str(folder)],
        "daemon": [python, "-m", "dagster._daemon", "run", *common],
    }
    names = [*commands]
    page = f"{sites.address(given.host, given.port)}/asset-groups"

    def is_ready(go_on: Callable[[], None]) -> bool:
        if code_server.listens(code_server.link(folder)):
            go_on()
        if not _answers(given.host, given.port):
            return False
        say(f"Dagster UI: {page} (stop with Ctrl-C)")
        say(SENTENCE, flush=True)
        if given.browser:
            sites.open_page(page)
        _keep_house(settings)
        return True

    def died(number: int) -> None:
        again = "its messages are above; it is started again, and the UI goes on"
        say(f"warning: the {names[number]} ended by itself; {again}", error=True, flush=True)

    ended = processes.together(
        *commands.values(),
        at_once=1,
        is_ready=is_ready,
        died=died,
        now_and_then=partial(_close_dead, settings),
    )
    if ended is None:
        return 0
    say(f"error: the {names[ended]} ended by itself; its messages are above", error=True)
    return 1


def _keep_house(settings: Settings) -> None:
    """Do what is to be done once when the UI begins: close the dead, forget the old, warn."""
    from assets.running import retention, runs

    _close_dead(settings)
    with runs.records(settings) as instance:  # tells of passwords, too
        retention.once_a_day(instance, settings)


def _close_dead(settings: Settings) -> None:
    """Close the runs whose process is gone, and say so; that it can't be done stops nobody.

    What Dagster could not start again is looked at again.
    """
    from assets.running import abandoned, runs

    try:
        with runs.records(settings, warning=False) as instance:
            said = [*abandoned.close(instance), *abandoned.ask_again(instance)]
    except ImagesetsError as error:
        said = [str(error)]
    for text in said:
        say(f"warning: {text}", error=True, flush=True)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
