"""`status`: is everything well, at a glance; for people, for cron and for monitoring."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import selected
from assets.settings import Settings
from pipelines import stages
from pipelines.progress import size
from pipelines.store import clock

if TYPE_CHECKING:
    from pipelines.lineage.overview import Overview

ORDER = 1
FORMAT = "imagesets-status/1"
WIDTH = 80
SHOWN = 5  # of what is not as it should be of a dataset; --json has all


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "status",
        run,
        help="whether all is well, at a glance; for cron and monitoring, too",
        description="Say of the named datasets (all, if none is named) whether they are whole and "
        "up to date as far as is known, when their bytes were last read, how much room they take, "
        "and how many mirrors were alive at the last look. Only files that somebody wrote to since "
        "are read, and no connection is opened. The exit code is 0 only if all that was ever made "
        "here, and all that is named, is up to date, and no look at a source's mirrors found other "
        "bytes, or all of them dead.",
        examples={"status --json": "is all well? for monitoring"},
    )
    options.add_folders(parser)
    options.add_contents(parser)
    options.add_datasets(parser)
    options.add_only(parser, "expect only this stage and what it needs")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same for programs, as JSON")
    form.add_argument(
        "--metrics", action="store_true", help="the same as OpenMetrics, for Prometheus and others"
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print the overview; return 0 only if all is well."""
    from pipelines.lineage import metrics, overview

    plan = settings.plan(given.datasets)
    datasets = selected(plan.declared, given.datasets)
    wanted = stages.selected(given.only, settings.exports)
    found = overview.of(settings.store, plan, datasets, wanted)
    sources = {dataset.source: plan.declared.source_of(dataset) for dataset in datasets}
    archives = overview.archives_bytes(settings.store, plan, sources.values())
    # What nobody ever asked for is no trouble; where nothing at all is here, a disk may be missing.
    asked = found if given.datasets else overview.asked(found)
    is_well = bool(asked) and all(one.is_well for one in asked)
    if given.json:
        said = {
            "format": FORMAT,
            "is_well": is_well,
            "time": clock.now(),
            "data": settings.shown_data,
            "archives_bytes": archives,
            "records_of_runs_bytes": _size_of(settings.dagster_home),
            "datasets": [asdict(one) | {"is_well": one.is_well} for one in found],
        }
        say(json.dumps(said, indent=1))
    elif given.metrics:
        say(metrics.text(found, archives))
    else:
        _show(settings, found, archives)
    return 0 if is_well else 1


def _show(settings: Settings, found: Sequence[Overview], archives: int) -> None:
    """Print a row for each dataset, and what is not as it should be."""
    rows = [one.in_words for one in found]
    cells = [tuple(rows[0]), *(tuple(row.values()) for row in rows)]
    say(display.columns(cells, right={"artefacts", "size", "mirrors"}))
    for one in found:
        if one.trouble:
            say(f"\n{one.dataset}: {one.remedy}")
        for trouble in one.trouble[:SHOWN]:
            said = f"{trouble.path}: {trouble.condition}: {trouble.why}"
            say(textwrap.fill(said, WIDTH, initial_indent="  ", subsequent_indent="    "))
        if len(one.trouble) > SHOWN:
            say(f"  and {len(one.trouble) - SHOWN} more; --json has all")
    mirrors = {one.source: one.mirrors for one in found if one.mirrors}
    for source, look in mirrors.items():
        if look.trouble:
            say(f"\n{source}: {look.trouble}")
    taken = sum(one.size_bytes for one in found) + archives
    say(f"\ndata folder: {settings.shown_data}")
    say(f"on disk:     {size(taken)}, of it {size(archives)} of archives")
    say(f"             {size(_size_of(settings.dagster_home))} of Dagster's records of runs")
    if read := [one.last_read for one in found if one.last_read]:
        say(f"last read:   {_minute(min(read, key=clock.seconds))} UTC or later; ", end="")
        say("verify reads all again")
    if looks := [look.looked for look in mirrors.values()]:
        say(f"mirrors:     last looked at {_minute(min(looks, key=clock.seconds))} UTC or later")


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder; those that go meanwhile count for nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total
