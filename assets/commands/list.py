"""`list`: every dataset, and how much of it is here."""

from __future__ import annotations

import argparse

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import size_of
from assets.settings import Settings
from pipelines.declarations import Dataset
from pipelines.stages import DEFAULT
from pipelines.store import clock

ORDER = 1
HEADER = ("dataset", "records", "classes", "image", "archives", "here")
MOST_SPLITS = 4  # that a row has room for


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "list",
        run,
        help="datasets, and what of them is here and up to date",
        description="Print every dataset of the catalogue with its size, and how much of it is "
        "here and up to date. What is on request is made only where it is named. Nothing is made.",
        examples={"list": "what there is, and its state"},
    )
    options.add_folders(parser)
    options.add_contents(parser)


def run(settings: Settings, _given: argparse.Namespace) -> int:
    """Print a row for each dataset."""
    from pipelines.lineage import status

    plan = settings.plan(())
    declared = plan.declared
    there = settings.store.at_once(
        [one.path for one in plan.of(declared.datasets.values(), DEFAULT)]
    )
    rows: list[tuple[str, ...]] = [HEADER]
    read = []
    on_request = [d for d in declared.datasets.values() if declared.source_of(d).on_request]
    for dataset in (*declared.by_default, *on_request):
        source = declared.source_of(dataset)
        if on_request[:1] == [dataset]:
            rows.append(("",) * len(HEADER))
        wanted, here = status.asked_for(there, plan, [dataset], DEFAULT), "on request"
        if not source.on_request or status.ever_made(there, wanted):
            states = status.states(there, wanted)
            read += [s.sight.looked for s in states.values() if s.is_up_to_date and s.sight]
            here = status.in_words(there, dataset, states)
            here = f"on request: {here}" if source.on_request else here
        if parts := status.parts_in_words(wanted, dataset):
            here = f"{here}, {parts}"
        rows.append(
            (
                dataset.name,
                _records(dataset),
                f"{len(dataset.classes)}",
                f"{dataset.image}",
                size_of(source),
                here,
            )
        )
    say(display.columns(rows, right={"classes", "archives"}))
    say(f"\ndata folder: {settings.shown_data}\ncatalogue:   {settings.catalogue}")
    if read:
        say(f"up to date:  {display.last_read(clock.seconds(min(read)))}")
    return 0


def _records(dataset: Dataset) -> str:
    """Return how many records there are of each split; of many splits, how many together."""
    if len(dataset.splits) <= MOST_SPLITS:
        return " + ".join(f"{split.records:,} {name}" for name, split in dataset.splits.items())
    records = sum(split.records for split in dataset.apart)
    return f"{records:,} in {len(dataset.splits)} splits"
