"""`copy`: bring artefacts with their provenance from one data folder or bucket to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings, folder_or_bucket
from pipelines.progress import size

ORDER = 6


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "copy",
        run,
        help="bring artefacts from one data folder or bucket to another",
        description="Copy every artefact that is whole, with its provenance, and hash it on the "
        "way. Nothing is deleted, and nothing that is newer is replaced, so the command may be "
        "repeated: what is there already is not sent again.",
        examples={"copy data s3://bucket/team": "for all to read"},
    )
    for name, said in (("origin", "where it lies"), ("goal", "where it shall lie, too")):
        parser.add_argument(
            name,
            type=options.explained(folder_or_bucket),
            metavar=name.upper(),
            help=f"{said}: a folder, or s3://bucket/prefix",
        )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Copy; print a line for each artefact that was copied, or is not whole."""
    from pipelines.building import copying

    origin, goal = (settings.with_({"data": data}) for data in (given.origin, given.goal))
    if isinstance(given.origin, Path) and not given.origin.is_dir():
        say(f"error: there is no folder {given.origin}.", error=True)
        return 1
    if _place(given.origin) == _place(given.goal):
        say("error: both are the same place. Nothing was copied.", error=True)
        return 1
    done: list[copying.Copied] = []
    for one in copying.copy(origin.store, goal.store):
        done.append(one)
        if one.outcome == "not whole":
            say(f"error: {one.path} is not whole: {one.why}. It was left out.", error=True)
        elif one.outcome != "there already":
            say(f"{one.path}  {one.outcome}", flush=True)
    copied = [one for one in done if one.outcome == "copied"]
    wrong = sum(one.outcome == "not whole" for one in done)
    there = len(done) - len(copied) - wrong
    say(
        f"\nCopied {len(copied)} artefacts ({size(sum(one.size_bytes for one in copied))}) to "
        f"{goal.shown_data}; {there} were there already, or newer ones."
    )
    if wrong:
        say(
            f"{wrong} were not whole. Mend them, and copy again: python -m assets verify --repair",
            error=True,
        )
    return 1 if wrong else 0


def _place(data: Path | str) -> Path | str:
    """Return a place by the one name that it has however it is written."""
    if isinstance(data, Path):
        return data.resolve()
    url = urlsplit(data)
    scheme = {"s3a": "s3", "abfss": "abfs"}.get(url.scheme, url.scheme)
    return urlunsplit(url._replace(scheme=scheme, path=url.path.rstrip("/")))
