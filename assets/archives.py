"""Per source: the publisher's archives, fetched and verified."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

import dagster as dg

from assets import metadata
from assets.ahead import Ahead
from assets.resources import Known, Made, Options, Plans, Store, Web
from pipelines import archives
from pipelines.archives import Identify
from pipelines.declarations import Archive, Source
from pipelines.errors import ArchiveUnavailable
from pipelines.progress import Display

AT_ONCE = 4  # archives of a source under way at once


def key(source: str) -> dg.AssetKey:
    """Return the asset key of a source's archives."""
    return dg.AssetKey([source, "archives"])


def asset(
    source: Source, identify: Identify, retries: dg.RetryPolicy | None
) -> dg.AssetsDefinition:
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
        store: Store,
        options: Options,
        web: dg.ResourceParam[Web],
        display: dg.ResourceParam[Display],
        known: dg.ResourceParam[Known],
        plans: dg.ResourceParam[Plans],
        ahead: dg.ResourceParam[Ahead],
    ) -> dg.MaterializeResult:
        def make(archive: Archive) -> Made:
            artefact = archives.artefact(source, archive)
            goal = store.path(artefact.path)
            obtain = partial(web.obtain, source, archive, identify, goal)
            return store.make(artefact, display, archive.size_bytes, "bytes", obtain)

        store.warn_of_little_space(source)
        made = _side_by_side(make, source.archives.values())
        paths = [m.record.path for m in made]
        ahead.ended_well(paths, store, plans.by(options), display, known)
        told = metadata.of_archives(source, (m.record for m in made))
        return metadata.materialized(made, told)

    return publishers_archives


def _side_by_side(make: Callable[[Archive], Made], wanted: Iterable[Archive]) -> list[Made]:
    """Return what was made; where several archives can't be had, raise one error that says all.

    The threads are daemons, which no pool's are: Ctrl-C does not wait for a server that stalls, and
    what has arrived by then is gone on with later.
    """
    slots = threading.Semaphore(AT_ONCE)

    def work(archive: Archive, future: Future[Made]) -> None:
        with slots:
            try:
                future.set_result(make(archive))
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)

    done: list[Future[Made]] = []
    for archive in wanted:
        done.append(Future())
        threading.Thread(target=work, args=(archive, done[-1]), daemon=True).start()
    failures = [error for future in done if (error := future.exception())]
    unavailable = [
        error
        for error in failures
        if isinstance(error, dg.Failure) and isinstance(error.__cause__, ArchiveUnavailable)
    ]
    if len(unavailable) == len(failures) > 1:
        text = "\n".join(str(error.description) for error in unavailable)
        may_pass = all(error.allow_retries for error in unavailable)
        raise dg.Failure(text, unavailable[0].metadata, allow_retries=may_pass)
    return [future.result() for future in done]
