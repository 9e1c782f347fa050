"""`browse`: the pages that people look at, in a browser: cards, pictures, maps, records."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.serving import sites
from assets.settings import PAGES_PORT, Settings

ORDER = 9


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "browse",
        run,
        help="look at cards, pictures and records in a browser",
        description="Serve all that was made for people to look at, on this machine alone, and "
        "open it in a browser. There are the index of all datasets, cards, pictures, maps, and "
        "the records of each split; beside a card stands when and from what it was made. Nothing "
        "is made here. What is missing is listed with the command that builds it, such as "
        "`build mnist --only card --only records`.",
        examples={"browse mnist": "look at its card and records"},
    )
    options.add_folders(parser)
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="begin with this one, not with all of them"
    )
    options.add_page(parser, PAGES_PORT, ", to which the UI links; 0 for any that is free")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from assets.command_line import browsing
    from assets.serving import processes

    pages = browsing.Pages(settings.store, settings.plan())
    wanted = [given.dataset] if given.dataset else []
    first = next(iter(pages.plan.declared.select(wanted)), None)
    sites.check_port("What there is to look at", given.host, given.port)

    def serve() -> None:
        with sites.server(pages, given.host, given.port) as server:
            at = sites.address(given.host, server.server_port)
            say(f"Browse: {at}{pages.start(first)} (stop with Ctrl-C)", flush=True)
            if given.browser:
                sites.open_page(f"{at}{pages.start(first)}")
            server.serve_forever()

    processes.until_told_to_stop(serve)
    return 0
