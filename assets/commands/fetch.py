"""`fetch`: get and verify archives only."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.commands.build import build
from assets.settings import Settings

ORDER = 3


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "fetch",
        run,
        help="get and verify archives only",
        description="Get the archives of the named sources (all, if none is named) and verify "
        "them. What is there and right is left alone; what was interrupted goes on.",
    )
    options.add_folders(parser)
    options.add_mirrors(parser)
    options.add_openlineage(parser)
    options.add_sources(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Build nothing but archives."""
    return build(settings, given.datasets, ["archives"])
