"""`list`: every dataset, and how much of it is here."""

from __future__ import annotations

import argparse

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings
from pipelines import catalogue, progress
from pipelines.store import hashing

ORDER = 1


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "list",
        run,
        help="datasets, and what of them is here and up to date",
        description="Print every dataset of the catalogue with its size, and how much of it is "
        "here and up to date. Nothing is made.",
        examples={"list": "what there is, and its state"},
    )
    options.add_folders(parser)
    options.add_contents(parser)


def run(settings: Settings, _given: argparse.Namespace) -> int:
    """Print a row for each dataset."""
    from assets import overview

    declared = catalogue.load(settings.catalogue)
    rows = [("dataset", "records", "classes", "image", "archives", "here")]
    read = []
    for dataset in declared.datasets.values():
        source = declared.source_of(dataset)
        states = overview.states(declared, dataset, settings)
        read += [s.sight.looked for _, s in states if s.is_up_to_date and s.sight]
        rows.append(
            (
                dataset.name,
                " + ".join(f"{s.records:,} {name}" for name, s in dataset.splits.items()),
                f"{len(dataset.classes)}",
                f"{dataset.image}",
                progress.size(sum(archive.size_bytes for archive in source.archives.values())),
                overview.in_words(dataset, settings, states),
            )
        )
    display.say_rows(rows, right={"classes", "archives"})
    say(f"\ndata folder: {settings.data}\ncatalogue:   {settings.catalogue}")
    if read:
        say(f"up to date:  {display.last_read(hashing.seconds(min(read)))}")
    return 0
