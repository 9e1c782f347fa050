"""Parts of a split as Dagster's partitions of one asset.

All assets of which there is one for each part of a split have the very same partitions, so that
each part of one is made from that part of another. What there is one of for the whole split depends
on all parts. Not here: which parts there are (`pipelines.formats.divided`), or cutting what is to
be made into runs (`running.batches`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

RUNS_PER_WORKER = 4  # so that none is idle for long while another does the last run


@functools.cache
def definition(parts: tuple[str, ...]) -> dg.StaticPartitionsDefinition | None:
    """Return the partitions of an asset that comes in parts; none of one that does not."""
    return dg.StaticPartitionsDefinition(parts) if parts else None


def shared(asset: dg.AssetsDefinition, workers: int) -> dg.AssetsDefinition:
    """Return an asset with how a backfill of its parts is shared by workers, where it has any.

    Without workers it is one run. One that dies costs little: what it made is there for the next.
    """
    if asset.partitions_def is None:
        return asset
    parts = len(asset.partitions_def.get_partition_keys())
    policy = dg.BackfillPolicy.single_run()
    if workers > 1:
        policy = dg.BackfillPolicy.multi_run(parts_a_run(parts, workers))
    return asset.with_attributes(backfill_policy=policy)


def parts_a_run(parts: int, workers: int) -> int:
    """Return of how many parts a run is, where workers share them."""
    return math.ceil(parts / (RUNS_PER_WORKER * workers))


def of_range(parts: Sequence[str]) -> dict[str, str]:
    """Return the tags of a run of parts that lie next to each other; none where it has none."""
    if not parts:
        return {}
    return {ASSET_PARTITION_RANGE_START_TAG: parts[0], ASSET_PARTITION_RANGE_END_TAG: parts[-1]}


def asked() -> list[str]:
    """Return which parts of its asset the step under way is to make; `[""]` of a whole asset.

    Whoever starts a run may ask for a stretch of parts, or for one.
    """
    context = dg.AssetExecutionContext.get()
    if context.assets_def.partitions_def is None:
        return [""]
    return list(context.partition_keys)
