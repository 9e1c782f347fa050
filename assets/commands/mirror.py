"""`mirror`: a folder of verified archives, for others to build from."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import left_out, to_make
from assets.settings import Settings, folder
from pipelines import wording
from pipelines.declarations import Archive, Catalogue, Source
from pipelines.errors import ArchiveUnavailable, UnknownName
from pipelines.progress import Display
from pipelines.store import layout

ORDER = 6


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "mirror",
        run,
        help="make a folder of verified archives for others",
        description="Put verified archives of the named sources (if none is named, of all but "
        "those made on request) into a folder that others can use with --mirror, as it is or "
        "served over http(s).",
        examples={"mirror /srv/mirror cifar10": "verified archives for others"},
    )
    options.add_folders(parser)
    options.add_mirrors(parser)
    parser.add_argument(
        "folder", type=options.explained(folder), metavar="FOLDER", help="laid out <source>/<file>"
    )
    options.add_sources(parser)


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Put the archives into the folder; what can't be had is named, and the rest goes on."""
    declared = settings.plan(()).declared
    if not given.datasets:
        _refuse_a_name_for_a_folder(given.folder, declared)
    sources = dict.fromkeys(dataset.source for dataset in to_make(declared, given.datasets))
    screen, failures = display.chosen(), 0
    for source in map(declared.sources.__getitem__, sources):
        if not (given.folder / source.name).exists():
            for forbids in wording.restrictions(source, source.datasets.values()):
                say(f"warning: {forbids}", error=True)
        for archive in source.archives.values():
            goal = given.folder / source.name / archive.name
            try:
                said = _put(source, archive, goal, settings, declared, screen)
            except ArchiveUnavailable as error:
                failures += 1
                say(f"error: {error}", error=True)
            else:
                say(f"{goal}  {said}")
    if not failures:
        say(f"\nUse it with --mirror {quote(str(given.folder))}, or serve it over http(s).")
    if said := left_out(
        declared, given.datasets, f"python -m assets mirror {quote(str(given.folder))}"
    ):
        say(said)
    return 1 if failures else 0


def _put(
    source: Source,
    archive: Archive,
    goal: Path,
    settings: Settings,
    declared: Catalogue,
    screen: Display,
) -> str:
    """Make sure that an archive is at `goal`; return where it came from, in words."""
    from pipelines import archives

    here = settings.store.local(layout.archive(source.name, archive.name))
    places = archives.places(source, archive, settings.mirror, settings.offline)
    places = [str(here)] * here.exists() + places
    with screen.task(str(goal), archive.size_bytes or 0, "bytes") as watch:
        origin = archives.obtain(
            archive, goal, places, declared.identify, watch, offline=settings.offline
        )
    return origin if origin == archives.ALREADY_THERE else f"from {origin}"


def _refuse_a_name_for_a_folder(goal: Path, declared: Catalogue) -> None:
    """Refuse the name of a source or dataset where the folder should stand: that is a slip."""
    name = goal.name
    is_name = goal == Path.cwd() / name and name in {*declared.sources, *declared.datasets}
    if is_name and not goal.exists():
        raise UnknownName(
            f"{name} is what to mirror; name a folder before it: python -m assets mirror FOLDER "
            f"{name}. If you mean a folder called {name}, make it first."
        )
