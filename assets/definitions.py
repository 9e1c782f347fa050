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

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)  # nothing of ours is installed: Dagster may load us from anywhere

import dagster as dg

from assets import archives, descriptions, exports, overview, statistics, tables
from assets.command_line.display import Display
from assets.resources import AtHand, Options, Store, Web
from assets.settings import ROOT, Settings
from pipelines import catalogue
from pipelines.declarations import Catalogue
from pipelines.lineage import openlineage

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


def all_assets(
    declared: Catalogue,
    settings: Settings,
    retries: dg.RetryPolicy | None = None,
    wanted: Collection[str] = (),
) -> Iterator[dg.AssetsDefinition]:
    """Yield every asset of the catalogue, or those of the wanted sources and datasets' sources."""
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
    display: Display | None = None,
    retries: dg.RetryPolicy | None = None,
    adorn: Callable[[Sequence[dg.AssetsDefinition]], Sequence[Any]] = lambda made: made,
    wanted: Collection[str] = (),
) -> dg.Definitions:
    """Return the definitions of the assets for some settings.

    Args:
        settings: what a person chose.
        display: what people see the progress on.
        retries: of archives that could not be had. Downloads try again by themselves, so where a
            person waits for the end of the run, there are none.
        adorn: says more of the assets.
        wanted: sources and datasets whose assets are wanted, all if empty: defining takes time.
    """
    if settings.openlineage:
        openlineage.require_client()
    declared = catalogue.load(settings.catalogue)
    found = overview.versions(declared, settings)
    versions = {dg.AssetKey(asset): version for asset, version in found.items()}

    def versioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(code_version=versions[spec.key])

    made = list(dg.map_asset_specs(versioned, all_assets(declared, settings, retries, wanted)))
    return dg.Definitions(
        assets=adorn(made),
        resources={
            "store": Store.telling(
                openlineage.Target(settings.openlineage, settings.offline), str(settings.data)
            ),
            "options": Options.by(settings),
            "web": Web(settings.mirror, settings.offline),
            "display": display or Display(),
            "at_hand": AtHand(),
        },
        executor=EXECUTORS[settings.executor],
    )


def automated(settings: Settings) -> dg.Definitions:
    """Return the definitions with all that starts runs, and links from assets to their code.

    For the UI: a run that is started by hand need not wait for them.
    """
    from assets.running import automation  # which needs `define`

    def adorn(made: Sequence[dg.AssetsDefinition]) -> Sequence[Any]:
        return linked(list(dg.map_asset_specs(automation.conditions(settings), made)), repository())

    declared = catalogue.load(settings.catalogue)
    assets = define(settings, retries=automation.RETRIES, adorn=adorn)
    return dg.Definitions.merge(assets, automation.definitions(settings, declared))


def linked(
    made: Sequence[dg.AssetsDefinition], repository: tuple[str, str] | None
) -> Sequence[Any]:
    """Return assets that link to their code: in a repository (URL, commit) or on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # nothing but a link depends on it
        local = dg.with_source_code_references(made)
        if repository is None:
            return local
        here = dg.AnchorBasedFilePathMapping(ROOT / "README.md", "README.md")
        return dg.link_code_references_to_git(local, *repository, file_path_mapping=here)


def repository(folder: Path = ROOT) -> tuple[str, str] | None:
    """Return (URL, commit) of a checkout, if it came from where people can look at it."""
    try:
        url, commit = (
            subprocess.run(["git", *said], cwd=folder, capture_output=True, text=True, check=True)
            for said in (["remote", "get-url", "origin"], ["rev-parse", "HEAD"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, no checkout, or no origin
    if found := re.fullmatch(
        r"(?:https://|git@|ssh://git@)(github\.com|gitlab\.com)[:/](.+?)(?:\.git)?/?",
        url.stdout.strip(),
    ):
        return f"https://{found[1]}/{found[2]}", commit.stdout.strip()
    return None


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the environment's settings: what the UI and schedules load."""
    return automated(Settings.from_environment())
