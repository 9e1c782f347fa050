"""`verify`: hash everything again, hold it against its provenance, and repair it if asked to."""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands import _outcomes
from assets.commands._datasets import not_built, parts, selected
from assets.settings import Settings
from pipelines.progress import Display
from pipelines.store import making

if TYPE_CHECKING:
    from pipelines.lineage.shallow import Verdict
    from pipelines.plan import Plan

ORDER = 4

logger = logging.getLogger("pipelines.storage")  # to the person, as the warnings of the store


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "verify",
        run,
        help="hash everything again, and hold it against its provenance",
        description="Hash every artefact that was made of the named datasets (all, if none is "
        "named) and hold it against its provenance. Each is whole, missing, changed, stale "
        "(its inputs, declaration or code moved on) or unknown (no provenance that can be "
        "trusted); with --deep also undeclared (not what the catalogue says of it) or uncompared "
        "(not all archives are here to compare it with). The exit code is 0 only if all are "
        "whole, or were repaired.",
        examples={"verify --deep mnist": "every record against the archive"},
    )
    options.add_folders(parser)
    options.add_contents(parser)
    options.add_mirrors(parser)
    options.add_datasets(parser)
    options.add_parts(parser)
    parser.add_argument(
        "--deep",
        action="store_true",
        help="decode the archives too, and compare all that was made from them: byte by byte, or "
        "record by record where other versions of the libraries made it",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="make again what is not whole, from what is, and all that was made from it since",
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Verify; where that is asked for, repair until all is whole or nothing changes any more."""
    from pipelines.lineage import verify

    telling = _Telling(settings)
    plan = settings.plan(given.datasets)
    datasets = selected(plan.declared, given.datasets)
    some = parts(datasets, given.parts)
    screen, repaired, code = display.chosen(), set[tuple[str, str]](), 0
    while True:  # what was repaired is verified again, since that may bring more to light
        start = time.perf_counter()
        verdicts = verify.verify(
            settings.store, plan, datasets, screen, deep=given.deep, parts=some
        )
        if not verdicts:
            raise not_built(settings, given.datasets, given.parts)
        _show(verdicts, start)
        telling.tell(plan, verdicts)
        broken = {(verdict.path, verdict.condition) for verdict in verdicts if not verdict.is_whole}
        if not broken:
            return code
        if not given.repair:
            say("The same command with --repair mends them.")
            return 1
        if broken <= repaired:  # it does not last: a disk or a memory that fails, another writer
            return 1
        repaired |= broken
        code = _repair(settings, plan, verdicts, screen)


class _Telling:
    """Tells Dagster what was found, where it keeps records here; it is loaded meanwhile."""

    def __init__(self, settings: Settings) -> None:
        """Begin to load what takes a second, on a thread: files are hashed beside it."""
        from assets.running import told

        self._settings = settings
        self._loading: Future[ModuleType] | None = None
        if told.can_be_told(settings):
            pool = ThreadPoolExecutor(1)
            self._loading = pool.submit(_loaded, "assets.running.integrity")
            pool.shutdown(wait=False)

    def tell(self, plan: Plan, verdicts: Sequence[Verdict]) -> None:
        """Tell what was found of each asset; nobody, where nobody is there to be told.

        Whatever keeps Dagster from being told is a warning: what was found stands without it.
        """
        if self._loading:
            say(end="", flush=True)  # people need not wait for it
            try:
                self._loading.result().tell(self._settings, plan, verdicts)
            except Exception as error:
                logger.warning("Dagster was not told what was found. %s", error)


def _loaded(module: str) -> ModuleType:
    gc.disable()  # what is loaded stays: looking through it takes a fifth of the time
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def _repair(settings: Settings, plan: Plan, verdicts: Sequence[Verdict], screen: Display) -> int:
    """Make again what is not whole, and print what became of it; return the exit code."""
    from assets.running import outcomes, runs
    from pipelines.lineage import verify

    say("\nRepairing.\n", flush=True)
    start = time.perf_counter()
    wanted = verify.to_mend(settings.store, plan, verdicts)
    making.distrust_changed(settings.store, verdicts)
    made = runs.materialize(settings, plan, wanted, screen)
    whole = outcomes.of_assets(plan, dict(zip(wanted, made, strict=True)))
    code = _outcomes.show(whole, settings, start)
    say(flush=True)
    return code


def _show(verdicts: Sequence[Verdict], start: float) -> None:
    uncompared = [verdict for verdict in verdicts if verdict.condition == "uncompared"]
    broken = [verdict for verdict in verdicts if not verdict.is_whole and verdict not in uncompared]
    for verdict in broken:
        say(f"{verdict.path}: {verdict.condition}: {verdict.why}")
    for why in dict.fromkeys(verdict.why for verdict in uncompared):  # a line, not one for each
        paths = [verdict.path for verdict in uncompared if verdict.why == why]
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        say(f"{paths[0]}{more}: uncompared: {why}")
    seconds = time.perf_counter() - start
    if broken:
        verb = "is" if len(broken) == 1 else "are"
        say(f"\n{len(broken)} of {len(verdicts)} artefacts {verb} not whole ({seconds:.1f} s).")
    elif uncompared:
        text = f"{len(uncompared)} of {len(verdicts)} artefacts could not be compared"
        say(f"\n{text}; all have the bytes that are recorded ({seconds:.1f} s).")
    else:
        say(f"All {len(verdicts)} artefacts are whole ({seconds:.1f} s).")
