"""`build`: make what is missing or out of date."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands import _outcomes
from assets.commands._datasets import left_out, parts, planned, to_make, without_labels
from assets.settings import Settings
from pipelines import stages

ORDER = 2


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "build",
        run,
        help="make what is missing or out of date",
        description="Make what is missing or out of date of the named datasets (if none is named, "
        "of all but those made on request). What is up to date, judged by content, is left alone. "
        "The exit code is 0 only if everything asked for is there and passed its checks.",
        examples={
            "build mnist fashion_mnist": "everything of two datasets",
            "build emnist --only tables": "the tables of its six datasets",
            "build --mirror /srv/mirror": "everything, from files you have",
        },
    )
    options.add_folders(parser)
    options.add_contents(parser)
    options.add_mirrors(parser)
    options.add_openlineage(parser)
    options.add_datasets(parser)
    options.add_only(parser, "only this stage and what it needs")
    options.add_parts(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Build the stages that were asked for."""
    return build(settings, given.datasets, given.only, given.parts)


def build(
    settings: Settings,
    names: Sequence[str],
    only: Sequence[str],
    some_parts: Sequence[str] | None = None,
    command: str = "build",
) -> int:
    """Build some stages of some datasets, or all, or some parts, as a command asked.

    Return the exit code.
    """
    start = time.perf_counter()
    from assets.running import building

    plan = settings.plan(names)
    datasets, wanted = to_make(plan.declared, names), stages.selected(only, settings.exports)
    chosen = parts(datasets, some_parts)
    planned(plan, datasets, wanted)
    outcomes = building.build(settings, plan, datasets, wanted, display.chosen(), chosen)
    code = _outcomes.show(outcomes, settings, start)
    sources = (plan.declared.source_of(dataset) for dataset in datasets)
    _outcomes.show_unpinned(
        outcomes, {source.name: source for source in sources}.values(), settings
    )
    if said := left_out(plan.declared, names, f"python -m assets {command}"):
        say(said)
    if said := without_labels(datasets, wanted):
        say(said)
    return code
