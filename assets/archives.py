"""Per source: the publisher's archives, fetched and verified."""

from __future__ import annotations

import dagster as dg

from assets import metadata
from assets.resources import Options, Store, Work
from pipelines import archives
from pipelines.declarations import Source


def key(source: str) -> dg.AssetKey:
    """Return the asset key of a source's archives."""
    return dg.AssetKey([source, "archives"])


def asset(source: Source, retries: dg.RetryPolicy | None) -> dg.AssetsDefinition:
    """Return the asset of a source's archives."""

    @dg.asset(
        key=key(source.name),
        kinds={"file"},
        retry_policy=retries,
        code_version=archives.CODE_VERSION,
        description=metadata.about_archives(source),
        group_name=source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags("archives", source),
    )
    def publishers_archives(
        store: Store, options: Options, work: dg.ResourceParam[Work]
    ) -> dg.MaterializeResult:
        return work.do(store, options, (source.name, "archives"))

    return publishers_archives
