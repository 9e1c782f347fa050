"""A build: of what was asked for, a run of that which must be made; none where all is well.

Dagster takes a second to load, so it is left alone where it has nothing to do and nothing to learn.

Not here: the run (`runs`), or what people are told of it (`commands`).
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import uuid
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from assets.running import outcomes, told, turns
from assets.running.outcomes import Outcome
from assets.settings import Settings
from pipelines.declarations import Dataset
from pipelines.plan import AssetPath, Plan
from pipelines.progress import Display
from pipelines.store import hashing

if TYPE_CHECKING:
    from pipelines.building import Ahead

logger = logging.getLogger("pipelines.runs")  # to the person, as the warnings of the store


def build(
    settings: Settings,
    plan: Plan,
    datasets: Iterable[Dataset],
    stages: Collection[str],
    display: Display,
) -> list[Outcome]:
    """Bring stages of datasets up to date, with all they need; return what became of each asset.

    Raises:
        StorageError: the data folder can't be written to.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    wanted = plan.of(datasets, stages)
    before = outcomes.sound(settings.store, plan, wanted)
    to_make = [asset for asset in plan.assets(wanted) if asset not in before]
    sources, who = turns.sources_of(plan, to_make), f"a build, process {os.getpid()},"
    with turns.taken(settings, sources, who, logger.warning) as waited:
        if waited:  # the other one may have made it
            before = outcomes.sound(settings.store, plan, wanted)
            to_make = [asset for asset in to_make if asset not in before]
        here = {asset: one.outcome for asset, one in before.items()}
        untold = told.lacking(settings, before)
        if to_make or untold:
            with _ahead(settings, plan, to_make, display) as ahead:
                runs = _loaded()
                made = runs.materialize(settings, plan, to_make, display, untold, ahead)
            here |= zip(to_make, made, strict=True)
            after = outcomes.sound(settings.store, plan, wanted)
            told.note(settings, {asset: one for asset, one in after.items() if here[asset].is_good})
    return [here[asset] for asset in plan.assets(wanted)]


def _ahead(
    settings: Settings, plan: Plan, to_make: Collection[AssetPath], display: Display
) -> Ahead:
    """Begin to make assets, of a run that Dagster will record when it is loaded."""
    from pipelines.building import Ahead, Workshop

    target = settings.target()
    hashing.forget()  # what a run is made from is read in that run
    run_id = str(uuid.uuid4())
    return Ahead(
        Workshop(
            settings.store,
            plan,
            settings.web(),
            display,
            run_id=run_id,
            outbox=target.open() if to_make else None,
        ),
        to_make,
    )


def _loaded() -> ModuleType:
    """Return `runs`, with Dagster loaded."""
    gc.disable()  # what is loaded stays: looking through it takes a fifth of the time
    try:
        return importlib.import_module("assets.running.runs")
    finally:
        gc.enable()
