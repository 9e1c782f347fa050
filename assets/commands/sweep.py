"""`sweep`: remove from a bucket what no provenance names."""

from __future__ import annotations

import argparse
import time

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings
from pipelines.progress import size

ORDER = 9
DAY_HOURS = 24.0


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "sweep",
        run,
        help="remove from a bucket what no provenance names",
        description="Where data lie in an object store, what is replaced stays until it is swept, "
        "since somebody may be reading it, and a process that is killed may leave an object that "
        "nothing names. This removes such objects, if they were written, and replaced, a day ago "
        "or before. A data folder needs no sweeping. Uploads that were never finished are not seen "
        "by it: let the store abort them, "
        "by a lifecycle rule (AbortIncompleteMultipartUpload after 1 day).",
    )
    options.add_folders(parser)
    parser.add_argument(
        "--older",
        type=options.explained(_hours),
        default=DAY_HOURS,
        metavar="HOURS",
        help="only what was written so long ago (default: 24)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Remove what nothing names; print what it was."""
    from pipelines.store import Bucket, sweeping

    store = settings.store
    if not isinstance(store, Bucket):
        say(f"{settings.shown_data} is a folder: nothing to sweep.")
        return 0
    removed: list[int] = []
    for path, found in sweeping.unnamed(store, time.time() - given.older * 3600).items():
        if given.dry_run or sweeping.remove(store, path, found):
            removed.append(found.size_bytes)
            say(path)
    what = f"{len(removed)} objects that nothing names ({size(sum(removed))})"
    say(f"{'Would remove' if given.dry_run else 'Removed'} {what}.")
    return 0


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours < 1e6:
        raise ValueError("write a number of hours")
    return hours
