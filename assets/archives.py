"""Per source: the publisher's archives, fetched and verified."""

from __future__ import annotations

from functools import partial

import dagster as dg

from assets.display import Display
from assets.resources import Store, Web, materialized
from pipelines import archives
from pipelines.archives import Identify
from pipelines.catalogue import Source
from pipelines.errors import ArchiveUnavailable


def key(source: str) -> dg.AssetKey:
    """Return the asset key of a source's archives."""
    return dg.AssetKey([source, "archives"])


def asset(source: Source, identify: Identify) -> dg.AssetsDefinition:
    """Return the asset of a source's archives."""

    @dg.asset(
        key=key(source.name),
        group_name=source.name,
        kinds={"file"},
        code_version=archives.CODE_VERSION,
        description=f"{source.title}: {', '.join(source.archives)}, byte for byte as published. "
        f"Licence: {source.licence}. {source.acknowledgements}",
    )
    def publishers_archives(
        store: Store, web: Web, display: dg.ResourceParam[Display]
    ) -> dg.MaterializeResult:
        made, missing = [], []
        for archive in source.archives.values():
            artefact = archives.artefact(source, archive)
            obtain = partial(web.obtain, source, archive, identify)
            try:
                made.append(store.make(artefact, display, archive.size_bytes, "bytes", obtain))
            except ArchiveUnavailable as error:
                missing.append(str(error))
        if missing:
            raise ArchiveUnavailable("\n".join(missing))
        origins = {m.record.path: str(m.record.facts["origin"]) for m in made}
        return materialized(
            made, {"origin": origins, "homepage": dg.MetadataValue.url(source.homepage)}
        )

    return publishers_archives
