"""The catalogue as Dagster assets, and what these need to run.

For each source of the catalogue its archives; for each dataset its tables, statistics, exports, and
its description for other catalogues.

    mnist/archives ─┬─ mnist/train ─┬─ mnist/train_csv
                    │               ├─ mnist/train_lmdb
                    │               ├─ mnist/statistics
                    │               └─ mnist/croissant
                    └─ mnist/test ── …

Not here: what an asset of a stage does (a module each, beside this one), or what starts runs
(`running`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import dagster as dg

from assets import archives, descriptions, exports, overview, statistics, tables
from assets.resources import AtHand, Options, Store, Web
from assets.settings import Settings
from pipelines import catalogue
from pipelines.declarations import Catalogue
from pipelines.lineage import openlineage
from pipelines.progress import Display

# Downloads try again by themselves: this is for runs that no person waits for.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

# Processes that are forked off one that has imported everything start several times faster; Dagster
# imports its storage late, so that is named too.
_PRELOADED = (
    "assets.definitions",
    "dagster._core.instance.factory",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.migration.utils",
    "dagster._core.storage.sqlite_storage",
)
EXECUTORS = {
    "in_process": dg.in_process_executor,
    "multiprocess": dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": list(_PRELOADED)}}},
        name="multiprocess",
    ),
}


def assets_of(
    declared: Catalogue,
    settings: Settings,
    retries: dg.RetryPolicy | None = None,
    wanted: Collection[str] = (),
) -> list[dg.AssetsDefinition]:
    """Return the assets of a catalogue, each with the version of its code and its declaration.

    Args:
        declared: the catalogue.
        settings: some of them decide what is made, and so belong to the versions.
        retries: of archives that could not be had.
        wanted: sources and datasets whose sources alone are wanted; all, if empty.
    """
    found = overview.versions(declared, settings)
    versions = {dg.AssetKey(asset): version for asset, version in found.items()}

    def versioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(code_version=versions[spec.key])

    return list(dg.map_asset_specs(versioned, _assets(declared, retries, wanted)))


def _assets(
    declared: Catalogue, retries: dg.RetryPolicy | None, wanted: Collection[str]
) -> Iterator[dg.AssetsDefinition]:
    for source in declared.sources.values():
        if wanted and not {source.name, *source.datasets} & set(wanted):
            continue
        yield archives.asset(source, declared.identify, retries)
        for dataset in source.datasets.values():
            yield statistics.asset(source, dataset)
            yield descriptions.asset(source, dataset)
            for split in dataset.splits.values():
                yield tables.asset(source, dataset, split)
                yield exports.csv(source, dataset, split)
                yield exports.lmdb(source, dataset, split)


def define(
    settings: Settings,
    assets: Iterable[dg.AssetsDefinition] | None = None,
    display: Display | None = None,
) -> dg.Definitions:
    """Return the definitions of some assets (all of the catalogue by default), ready to be run.

    `display` shows the progress to a person who waits; by default, nothing is shown.
    """
    if settings.openlineage:
        openlineage.require_client()
    if assets is None:
        assets = assets_of(catalogue.load(settings.catalogue), settings)
    target = openlineage.Target(settings.openlineage, settings.offline)
    return dg.Definitions(
        assets=assets,
        resources={
            "store": Store.telling(target, str(settings.data)),
            "options": Options.by(settings),
            "web": Web(settings.mirror, settings.offline),
            "display": display or Display(),
            "at_hand": AtHand(),
        },
        executor=EXECUTORS[settings.executor],
    )
