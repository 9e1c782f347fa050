"""A build: of what was asked for, a run of that which must be made; none where all is well.

Dagster takes a second to load, so it is left alone where it has nothing to do and nothing to learn.

Not here: the run (`runs`), or what people are told of it (`commands`).
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable

from assets.running import outcomes, told
from assets.running.outcomes import Outcome
from assets.settings import Settings
from pipelines.declarations import Dataset
from pipelines.plan import Plan
from pipelines.progress import Display


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
    here = {asset: one.outcome for asset, one in before.items()}
    to_make = [asset for asset in plan.assets(wanted) if asset not in before]
    untold = told.lacking(settings, before)
    if to_make or untold:
        gc.disable()  # what is loaded stays: looking through it takes a fifth of the time
        try:
            import dagster as dg

            from assets.running import runs
        finally:
            gc.enable()
        keys = [dg.AssetKey(asset) for asset in to_make]
        made = runs.materialize(settings, plan, keys, display, untold)
        here |= zip(to_make, made, strict=True)
        after = outcomes.sound(settings.store, plan, wanted)
        told.note(settings, {asset: one for asset, one in after.items() if here[asset].is_good})
    return [here[asset] for asset in plan.assets(wanted)]
