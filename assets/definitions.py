"""What the UI and schedules load (`workspace.yaml` points here): the assets, and what starts runs.

The assets link to their code. Not here: an asset (`graph`), or a job, schedule or sensor
(`running`); a new one is named in `automated`.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)  # nothing of ours is installed: Dagster may load us from anywhere

if _collects := gc.isenabled():
    gc.disable()  # what is loaded stays: looking through it takes a fifth of the time

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction

from assets import graph
from assets.running import (
    abandoned,
    conditions,
    executors,
    integrity,
    jobs,
    meeting,
    mirrors,
    overview,
    refresh,
    retention,
    sensors,
    turns,
)
from assets.settings import ROOT, Settings

if _collects:
    gc.enable()


def automated(settings: Settings) -> dg.Definitions:
    """Return the definitions with all that starts runs, and links from assets to their code.

    For the UI: a run that is started by hand need not wait for them.
    """
    plan = settings.plan_shown()
    declared = plan.declared
    when = settings.refresh_cron, settings.refresh_timezone
    workers = settings.runs_at_once if settings.broker else 1
    made = graph.assets_of(plan, graph.RETRIES, workers=workers)
    conditioned = list(dg.map_asset_specs(conditions.adding(settings, plan), made))
    refreshing, verifying = refresh.job(settings, plan), jobs.verify(settings.store, plan)
    starting = dg.Definitions(
        assets=[  # that no run makes: they are told what was found
            overview.spec(),
            *integrity.assets(),
            *map(mirrors.spec, declared.sources.values()),
        ],
        jobs=[
            *jobs.of_assets(plan, settings.exports),
            refreshing,
            verifying,
        ],
        asset_checks=[
            overview.check(settings, plan),
            *(
                check
                for source in declared.sources.values()
                for check in (
                    mirrors.check(settings, declared, source),
                    integrity.declared(settings.store, plan, source),
                )
            ),
            *([integrity.declared(settings.store, plan, None)] if plan.of_catalogue() else []),
        ],
        schedules=[
            refresh.weekly(refreshing, *when),
            *jobs.verifying(settings, plan, verifying),
        ],
        sensors=[
            sensors.mirrors_changed(settings, plan, refreshing),
            sensors.mirror_died(tuple(declared.sources), settings.webhook, settings.offline),
            sensors.run_failed(settings.webhook, settings.offline),
            conditions.sensor(),
            retention.sensor(settings),
        ],
    )
    if settings.is_shared:
        conditioned = list(turns.queueing(plan, conditioned))
    assets = linked(conditioned, repository())
    executor = executors.around(
        graph.EXECUTORS[settings.executor],
        abandoned.noting_process,
        *([meeting.politely(settings)] if settings.is_shared else []),
        turns.of_run(settings, plan),
        overview.telling(settings, plan),
    )
    return dg.Definitions.merge(graph.define(settings, plan, assets, executor=executor), starting)


def linked(
    made: Sequence[dg.AssetsDefinition], repository: tuple[str, str] | None
) -> Sequence[Any]:
    """Return assets that link to their code: in a repository (URL, commit) or on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # nothing but a link depends on it
        local = [_linked_here(one) for one in made]
        if repository is None:
            return local
        here = dg.AnchorBasedFilePathMapping(ROOT / "README.md", "README.md")
        return dg.link_code_references_to_git(local, *repository, file_path_mapping=here)


def _linked_here(made: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return an asset that links to its code on this machine.

    As `dg.with_source_code_references` does, which reads that code anew for each of hundreds of
    assets: a quarter of the time that it takes to load them all.
    """
    body = made.op.compute_fn
    code = (body.decorated_fn if isinstance(body, DecoratedOpFunction) else body).__code__
    place = dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
    links = {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}
    return made.map_asset_specs(lambda spec: spec.merge_attributes(metadata=links))


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
    gc.disable()
    try:
        return automated(Settings.from_environment())
    finally:
        gc.freeze()
        gc.enable()
