"""The overview as an asset: whether all is well, at a glance, as `python -m assets status` tells.

No run makes it: it is told, with the time of which it speaks, when a run of the UI, a build, a
verification or a look at mirrors is over. Telling opens no connection, and reads no file but those
that somebody wrote to since they were last read.

Not here: finding it out (`pipelines.lineage.overview`).

Annotations are not postponed here: Dagster reads that of a check's context.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets import metadata
from assets.checks import as_table, in_lines
from assets.running import executors
from assets.settings import Settings
from pipelines import stages
from pipelines.errors import ImagesetsError
from pipelines.lineage import overview
from pipelines.lineage.overview import Overview
from pipelines.plan import Plan
from pipelines.progress import size
from pipelines.store import clock

KEY = dg.AssetKey("overview")
CHECK = "all_is_well"
GROUP = "at_a_glance"  # which the UI shows first, as it goes by the alphabet
FRESH = dg.FreshnessPolicy.time_window(timedelta(days=9), timedelta(days=8))
SHOWN = 10  # of what is not as it should be; `status --json` has all

logger = logging.getLogger("pipelines.overview")


def spec() -> dg.AssetSpec:
    """Return the asset of the overview."""
    return dg.AssetSpec(
        KEY,
        description="Of each dataset, **as of the time that stands below**: whether it is whole "
        "and up to date, how much of it is here, when its bytes were last read, and how many "
        "mirrors were alive at the last look. `python -m assets status` prints the same as of now. "
        "It is told anew when a run, a build, a verification or a look at mirrors is over; "
        "executing its check (*Checks*) tells it now.",
        group_name=GROUP,
        owners=metadata.OWNERS,
        tags={"stage": "overview"},
        freshness_policy=FRESH,
    )


def check(settings: Settings, plan: Plan) -> dg.AssetChecksDefinition:
    """Return the check that all is well, which tells the overview anew."""

    @dg.asset_check(
        asset=KEY,
        name=CHECK,
        description="All that was ever made here is whole and up to date as far as is known, and "
        "can be had from a mirror, as the last look found them. Only files that somebody wrote to "
        "are read, and no connection is opened. Nothing depends on it.",
    )
    def all_is_well() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(**_verdict(_found(settings, plan)))

    return all_is_well


def events(
    settings: Settings, plan: Plan
) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Return the overview as it is now, and whether all is well; nothing where it can't be told."""
    now = time.time()
    try:
        found = _found(settings, plan)
    except (OSError, ImagesetsError) as error:
        logger.warning("the overview can't be told: %s", error)
        return []
    verdict = dg.AssetCheckEvaluation(asset_key=KEY, check_name=CHECK, **_verdict(found))
    return [_told(settings, plan, found, now), verdict]


def tell(instance: dg.DagsterInstance, settings: Settings, plan: Plan) -> None:
    """Tell Dagster the overview as it is now, without a run."""
    for event in events(settings, plan):
        instance.report_runless_asset_event(event)


def telling(settings: Settings, plan: Plan) -> executors.Around:
    """Return what tells the overview when a run is over."""

    @contextlib.contextmanager
    def told(run: Any, _plan: object) -> Iterator[None]:
        try:
            yield
        finally:
            tell(run.instance, settings, plan)

    return told


def _found(settings: Settings, plan: Plan) -> list[Overview]:
    wanted = stages.selected([], settings.exports)
    return overview.of(settings.store, plan, plan.declared.datasets.values(), wanted)


def _told(
    settings: Settings, plan: Plan, found: Sequence[Overview], now: float
) -> dg.AssetMaterialization:
    """Return what is shown of the overview; its numbers plot over time.

    The names are short: on a small screen they take their room from the table.
    """
    asked = overview.asked(found)
    archives = overview.archives_bytes(settings.store, plan, plan.declared.sources.values())
    on_disk = archives + sum(one.size_bytes for one in found)
    not_built = [one.dataset for one in found if one not in asked]
    looked = [one.mirrors.looked for one in asked if one.mirrors]
    read = [one.last_read for one in asked if one.last_read]
    shown: dict[str, Any] = {"as of": dg.MetadataValue.timestamp(now)}
    if asked:
        shown["datasets"] = as_table([_in_two_lines(one.in_words) for one in asked])
    if not_built:
        shown["not built"] = ", ".join(not_built)
    if read:
        shown["oldest read"] = dg.MetadataValue.timestamp(min(map(clock.seconds, read)))
    if looked:
        shown["oldest look"] = dg.MetadataValue.timestamp(min(map(clock.seconds, looked)))
    shown |= {
        "on disk": f"{size(on_disk)}, of it {size(archives)} of archives",
        "bytes": on_disk,
        "here": len(asked),
        "well": sum(one.is_well for one in asked),
    }
    if said := _trouble(found):
        shown["trouble"] = dg.MetadataValue.md("\n".join(f"- {line}" for line in said))
    return dg.AssetMaterialization(KEY, metadata=shown)


def _in_two_lines(row: Mapping[str, str]) -> dict[str, str]:
    """Return words that break once at most, where the table has little room."""
    return {key: text.replace(" ", "\u00a0", text.count(" ") - 1) for key, text in row.items()}


def _verdict(found: Sequence[Overview]) -> dict[str, Any]:
    """Return whether all is well: the verdict of `status`."""
    asked, said = overview.asked(found), _trouble(found)
    is_bad = any(one.standing in ("damaged", "check failed") for one in asked)
    return {
        "passed": not said,
        "severity": dg.AssetCheckSeverity.ERROR if is_bad else dg.AssetCheckSeverity.WARN,
        "description": in_lines("\n".join(said)) or None,
        "metadata": {"here": len(asked), "as of": dg.MetadataValue.timestamp(time.time())},
    }


def _trouble(found: Sequence[Overview]) -> list[str]:
    """Return a line for all that is not well; none where all is."""
    asked = overview.asked(found)
    if not asked:
        return ["Nothing was made here yet; if it was, the disk of the data folder may be missing."]
    said = []
    for one in asked:
        if one.standing != "up to date":
            said.append(f"{one.dataset} is {one.standing}: {one.remedy}")
        said += [f"{bad.path}: {bad.condition}: {bad.why}" for bad in one.trouble]
    for source, look in {one.source: one.mirrors for one in asked if one.mirrors}.items():
        if look.trouble:
            said.append(f"{source}: {look.trouble}")
    if len(said) > SHOWN:
        said[SHOWN:] = [f"and {len(said) - SHOWN} more; python -m assets status --json has all"]
    return said
