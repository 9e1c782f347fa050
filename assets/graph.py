"""The catalogue as Dagster assets, and what these need to run.

For each source of the catalogue its archives; for each dataset its tables, statistics, exports, and
its description for other catalogues; and what there is one of for all datasets together.

    mnist/archives ─┬─ mnist/train ─┬─ mnist/train_csv
                    │               ├─ mnist/train_lmdb
                    │               ├─ mnist/statistics
                    │               └─ mnist/croissant
                    └─ mnist/test ── …

Not here: what an asset of a stage does (a module each, beside this one), or what starts runs
(`running`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import dagster as dg

from assets import archives, partitions, products, statistics, tables
from assets.resources import Options, Store, Work
from assets.settings import Settings
from pipelines.building import Ahead
from pipelines.lineage import status
from pipelines.plan import AssetPath, Plan, Planned
from pipelines.products import Subject
from pipelines.progress import Display

# Downloads try again by themselves: this is for runs that no person waits for.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

# Processes that are forked off one that has imported everything start several times faster; Dagster
# imports its storage late, so that is named too.
_PRELOADED = (
    "assets.definitions",
    "pipelines.descriptions._pictures",
    "pipelines.statistics.duplicates",
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
    plan: Plan,
    retries: dg.RetryPolicy | None = None,
    wanted: Collection[AssetPath] = (),
    workers: int = 1,
) -> list[dg.AssetsDefinition]:
    """Return the assets of a plan, each with the version of its code and its declaration.

    Args:
        plan: all there can be of a catalogue.
        retries: of archives that could not be had.
        wanted: those that are returned, with all that they are made from or show; all, if empty.
        workers: how many share the parts of what comes in parts; one where everything is done here.
    """
    versions = {dg.AssetKey(asset): version for asset, version in status.versions(plan).items()}

    def versioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(code_version=versions[spec.key])

    made = [partitions.shared(one, workers) for one in _assets(plan, retries, wanted)]
    return list(dg.map_asset_specs(versioned, made))


def _assets(
    plan: Plan, retries: dg.RetryPolicy | None, wanted: Collection[AssetPath]
) -> Iterator[dg.AssetsDefinition]:
    among = _with_what_they_need(plan, wanted)
    for source in plan.declared.sources.values():
        for stage in dict.fromkeys(one.stage for one in plan.archives_of(source)):
            if (source.name, stage) in among:
                parts = plan.parts((source.name, stage))
                yield archives.asset(source, stage, retries, parts)
        of_source = plan.of(source.datasets.values())
        firsts = {one.asset: one for one in reversed(of_source)}  # of the parts of an asset
        for asset in plan.assets(of_source):
            if (subject := firsts[asset].subject) and asset in among:
                yield _asset(plan, firsts[asset], subject)
    for planned in plan.of_catalogue():
        if planned.product and planned.asset in among:
            yield products.of_catalogue(plan, planned, planned.product)


def _with_what_they_need(plan: Plan, wanted: Collection[AssetPath]) -> set[AssetPath]:
    """Return the wanted assets, and all that they are made from or show."""
    found = set(wanted or plan.assets())
    for planned in reversed(plan.artefacts.values()):
        if planned.asset in found:
            found.update(plan.artefacts[path].asset for path in (*planned.needs, *planned.uses))
    return found


def _asset(plan: Plan, planned: Planned, subject: Subject) -> dg.AssetsDefinition:
    """Return an asset; where it comes in parts, `planned` is the first."""
    source, dataset = subject.source, subject.dataset
    if parts := plan.parts(planned.asset):
        subject = Subject(source, dataset, (dataset.splits[subject.split.split],))
    if planned.product:
        return products.asset(plan, planned, planned.product, subject, parts)
    if planned.stage == "tables":
        return tables.asset(source, dataset, subject.split, parts)
    return statistics.asset(plan, planned, source, dataset)


def define(
    settings: Settings,
    plan: Plan,
    assets: Iterable[dg.AssetsDefinition] | None = None,
    display: Display | None = None,
    ahead: Ahead | None = None,
    exports: Sequence[str] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Return the definitions of some assets (all of the plan by default), ready to be run.

    `display` shows the progress to a person who waits; by default, nothing is shown, and nothing is
    made `ahead` of its step. A run of everything makes the `exports` of the settings. Where
    `exports` are given, whoever starts the run named all that it is to make, and these are made.

    Raises:
        ImagesetsError: OpenLineage is to be told what is made, but its client is not installed.
    """
    if assets is None:
        assets = assets_of(plan)
    return dg.Definitions(
        assets=assets,
        resources={
            "store": Store.telling(settings, begun=ahead is not None),
            "options": Options.by(settings, exports or settings.exports),
            "work": Work(
                plan,
                settings.web(),
                display or Display(),
                ahead,
                is_named=exports is not None,
            ),
        },
        executor=executor or EXECUTORS[settings.executor],
    )
