"""`statistics`: the records of each class, per split."""

from __future__ import annotations

import argparse

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import not_built, selected
from assets.settings import Settings
from pipelines.errors import TableError
from pipelines.store import layout

ORDER = 7


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "statistics",
        run,
        help="print the records of each class, per split",
        description="Print the classic table of the named datasets (all that are built, if none "
        "is named), with a row per class, a column per split, and the totals.",
        examples={"statistics mnist": "records of each class"},
    )
    options.add_folders(parser)
    options.add_datasets(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print a table for each dataset."""
    from pipelines import statistics

    declared = settings.plan(()).declared
    printed = 0
    for dataset in selected(declared, given.datasets):
        path = settings.store.local(layout.statistics(dataset.name))
        if path.exists():
            header, *lines, totals = statistics.counts_as_rows(path)
            say(end="\n" * bool(printed))
            text = display.columns([header, *lines, None, totals], right=header[1:])
            say(f"{dataset.title}\n\n{text}")
            printed += 1
        elif given.datasets:
            raise TableError(f"{path} is not there. Run: python -m assets build {dataset.name}")
    if not printed:
        raise not_built(settings, given.datasets)
    return 0
