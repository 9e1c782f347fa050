"""A build: of what was asked for, a run of that which must be made; none where all is well.

Dagster takes a second to load, so it is left alone where it has nothing to do and nothing to learn.

Not here: the run (`runs`), or what people are told of it (`commands`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from assets.running import batches, outcomes, told, turns
from assets.running.outcomes import Outcome, Sound
from assets.settings import Settings
from pipelines.declarations import Dataset
from pipelines.plan import Plan, Step
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
    parts: Collection[str] | None = None,
) -> list[Outcome]:
    """Bring stages of datasets up to date, with all they need; return what became of each asset.

    Of datasets that come in parts, that is of those `parts` alone, where any are named.

    Raises:
        StorageError: the data folder can't be written to.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    wanted = plan.of(datasets, stages, parts)
    before = outcomes.sound(settings.store, plan, wanted)
    to_make = [step for step in plan.steps(wanted) if step not in before]
    sources = turns.sources_of(plan, {asset for asset, _ in to_make})
    who = f"a build, process {os.getpid()},"
    with turns.taken(settings, sources, who, logger.warning) as waited:
        if waited:  # the other one may have made it
            before = outcomes.sound(settings.store, plan, wanted)
            to_make = [step for step in to_make if step not in before]
        here = {step: one.outcome for step, one in before.items()}
        untold = told.lacking(settings, before)
        if to_make or untold:
            here |= _made(settings, plan, to_make, display, untold)
            after = outcomes.sound(settings.store, plan, wanted)
            told.note(settings, {step: one for step, one in after.items() if here[step].is_good})
    return outcomes.of_assets(plan, {step: here[step] for step in plan.steps(wanted)})


def _made(
    settings: Settings,
    plan: Plan,
    to_make: Sequence[Step],
    display: Display,
    untold: Mapping[Step, Sound],
) -> dict[Step, Outcome]:
    """Make what the first run makes while Dagster is loaded, then the rest; tell what is untold."""
    first = next((batch.steps for batch in batches.of(plan, to_make)), ())
    with _ahead(settings, plan, first, display) as begun:

        def ahead(steps: Sequence[Step]) -> contextlib.AbstractContextManager[Ahead]:
            if steps == first:
                return contextlib.nullcontext(begun)
            return _ahead(settings, plan, steps, display)

        made = _loaded().materialize(settings, plan, to_make, display, untold, ahead)
    return dict(zip(to_make, made, strict=True))


def _ahead(settings: Settings, plan: Plan, to_make: Collection[Step], display: Display) -> Ahead:
    """Begin to make assets, or parts, of a run that Dagster will record when it is loaded."""
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
