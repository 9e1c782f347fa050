"""`lock`: one digest for all artefacts of a dataset, printed or compared."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands._datasets import not_built, selected
from assets.settings import Settings, folder
from pipelines.declarations import Catalogue, Dataset
from pipelines.errors import ArtefactError, StaleInput, UnknownName, did_you_mean
from pipelines.store import Store, layout

if TYPE_CHECKING:  # what it imports takes long
    from pipelines.plan import Plan

ORDER = 5
MAKE_ONE = "Make one: python -m assets lock DATASET > data.lock"


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "lock",
        run,
        help="one digest for all artefacts of a dataset",
        description="Print one SHA-256 for the whole set of artefacts of each named dataset (all "
        "that are built, if none is named). It is the same wherever and whenever they were made "
        "from the same bytes by the same code and libraries. Keep the line, and hold later builds "
        "against it with --check. Of a dataset that comes in parts, it is of those that were made "
        "here: it is the same where the same parts are.",
        examples={"lock mnist > data.lock": "pin the very bytes of a dataset"},
    )
    options.add_folders(parser)
    options.add_contents(parser)
    options.add_datasets(parser)
    parser.add_argument(
        "--check",
        type=options.explained(folder),
        metavar="FILE",
        help="compare with lines that were printed before",
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print a line for each dataset, or whether it is as locked."""
    from pipelines.lineage.lock import lock

    plan = settings.plan(given.datasets)
    declared = plan.declared
    if given.check is None:
        chosen = selected(declared, given.datasets)
        if not given.datasets:
            chosen = [one for one in chosen if _is_begun(settings.store, one)]
        if not chosen:
            raise not_built(settings, given.datasets)
        for dataset in chosen:
            say(lock(plan, settings.store, dataset))
        return 0
    wanted, differing = _locked(given.check, declared), 0
    for name in [dataset.name for dataset in selected(declared, given.datasets or [*wanted])]:
        if name not in wanted:
            raise UnknownName(f"{given.check} has no line for {name}.")
        said = _held_against(plan, settings.store, declared.datasets[name], wanted[name])
        say(f"{name}: {said or 'as locked'}")
        differing += bool(said)
    return 1 if differing else 0


def _held_against(plan: Plan, store: Store, dataset: Dataset, line: str) -> str:
    """Return how a dataset differs from what a lock says of it; nothing where it does not.

    Raises:
        StaleInput: it can't be locked, and never was as the lock says.
    """
    from pipelines.lineage.lock import lock, version_of

    refused = None
    try:
        found = lock(plan, store, dataset)
    except StaleInput as error:  # not what the catalogue declares; what it did once, perhaps
        found, refused = "", error
    if found == line:
        return ""
    said = f"can not be locked: {refused}" if refused else f"differs: {found}"
    if other := version_of(plan, store, dataset, line):
        return (
            f"{said}\n  The lock is of {other}, current when it was made; its "
            f"paths hold another one by now. It is locked by: python -m assets lock {other}"
        )
    if refused:
        raise refused
    others = [one for one in plan.declared.versions(dataset.name) if one != dataset.name]
    if others:
        said += f"\n  If it is of another version ({', '.join(others)}), nothing here knows it."
    return said


def _is_begun(store: Store, dataset: Dataset) -> bool:
    """Return whether a table of the dataset was ever made."""
    tables = (layout.table(dataset.name, piece.name) for piece in dataset.pieces)
    return any(store.stat(layout.lineage(table)) for table in tables)


def _locked(path: Path, declared: Catalogue) -> dict[str, str]:
    """Return dataset → line of a file that `lock` printed."""
    try:
        lines = [line.rstrip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"{path} can't be read as lines of `lock`: {error}. {MAKE_ONE}"
        ) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        if not re.fullmatch("[a-z0-9_@.-]+  sha256:[0-9a-f]{64}", line):
            raise ArtefactError(
                f"{path}, line {number}: expected `DATASET  sha256:…` as `lock` prints it, found "
                f"{line!r:.60}. {MAKE_ONE}"
            )
        name = line.partition(" ")[0]
        if name not in declared.datasets:
            near = did_you_mean(name, declared.datasets)
            said = f"there is no dataset {name!r}.{near}"
            if versions := declared.versions(name):
                said += f" Known of it: {', '.join(versions)}."
            raise UnknownName(f"{path}, line {number}: {said}")
        if found.setdefault(name, line) != line:
            raise ArtefactError(
                f"{path}, line {number}: another line says otherwise of {name}. Keep the one that "
                "is meant."
            )
    if not found:
        raise ArtefactError(f"{path} has no line of `lock`. {MAKE_ONE}")
    return found
