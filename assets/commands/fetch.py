"""`fetch`: get and verify archives only."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.commands._datasets import planned, to_make
from assets.commands.build import build
from assets.settings import Settings
from pipelines import stages

ORDER = 3


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "fetch",
        run,
        help="get and verify archives only",
        description="Get the archives of the named sources (if none is named, of all but those "
        "made on request) and verify them. What is there and right is left alone; what was "
        "interrupted goes on. With --only, those that a stage needs, optional ones too.",
    )
    options.add_folders(parser)
    options.add_mirrors(parser)
    options.add_openlineage(parser)
    options.add_sources(parser)
    options.add_only(parser, "the archives that this stage needs")
    options.add_parts(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Build nothing but archives."""
    if not given.only:
        return build(settings, given.datasets, ["archives"], given.parts, "fetch")
    plan, wanted = settings.plan(given.datasets), stages.selected(given.only, settings.exports)
    needed = planned(plan, to_make(plan.declared, given.datasets), wanted)
    archives = {one.stage for one in needed if one.is_archive}
    return build(settings, given.datasets, sorted(archives), given.parts, "fetch")
