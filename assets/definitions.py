"""All definitions together: `workspace.yaml` points here.

For each source of the catalogue its archives; for each dataset its tables, statistics, exports, and
its description for other catalogues.

    mnist/archives ─┬─ mnist/train ─┬─ mnist/train_csv
                    │               ├─ mnist/train_lmdb
                    │               ├─ mnist/statistics
                    │               └─ mnist/croissant
                    └─ mnist/test ── …
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)  # nothing of ours is installed: Dagster may load us from anywhere

import dagster as dg

from assets import archives, croissant, exports, statistics, tables
from assets.display import Display
from assets.resources import Store, Web
from assets.settings import Settings
from pipelines import catalogue, openlineage
from pipelines.catalogue import Catalogue


def all_assets(declared: Catalogue, settings: Settings) -> Iterator[dg.AssetsDefinition]:
    """Yield every asset of the catalogue."""
    for source in declared.sources.values():
        yield archives.asset(source, declared.identify)
        for dataset in source.datasets.values():
            yield statistics.asset(source, dataset)
            yield croissant.asset(source, dataset)
            for split in dataset.splits.values():
                yield tables.asset(source, dataset, split)
                yield exports.csv(source, dataset, split, settings.csv_header)
                yield exports.lmdb(source, dataset, split)


def define(settings: Settings, display: Display | None = None) -> dg.Definitions:
    """Return the definitions for some settings; people see progress on `display`."""
    if settings.openlineage:
        openlineage.require_client()
    return dg.Definitions(
        assets=list(all_assets(catalogue.load(settings.catalogue), settings)),
        resources={
            "store": Store(data=str(settings.data), openlineage=settings.openlineage),
            "web": Web(mirror=settings.mirror, offline=settings.offline),
            "display": display or Display(),
            "sums": {},
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the environment's settings: what the UI and schedules load."""
    return define(Settings.from_environment())
