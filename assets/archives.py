"""Per source: the publisher's archives, fetched and verified, and the optional ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets import metadata, partitions, spelling
from assets.resources import Options, Store, Work
from pipelines import archives
from pipelines.declarations import Source
from pipelines.stages import DEFAULT


def key(source: str) -> dg.AssetKey:
    """Return the asset key of a source's archives."""
    return dg.AssetKey([source, "archives"])


def asset(
    source: Source,
    stage: str,
    retries: dg.RetryPolicy | None,
    parts: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset of a source's archives: of those that all need, or of the optional ones.

    `parts` are those of a split, where each archive is of one of them.
    """

    @spelling.asset(
        key=[source.name, stage],
        kinds={"file"},
        code_version=archives.CODE_VERSION,
        description=metadata.about_archives(source, stage),
        group_name=metadata.group(stage, source),
        owners=metadata.OWNERS,
        tags=metadata.tags(stage, source),
        output_required=stage in DEFAULT and not source.on_request,
        partitions_def=partitions.definition(tuple(parts)),
    )
    def publishers_archives(
        store: Store, options: Options, work: dg.ResourceParam[Work]
    ) -> Iterator[Any]:
        if work.is_wanted(store, options, stage, source):
            yield from work.do(store, options, (source.name, stage), retries)

    return publishers_archives
