"""Turns: at any time one run works on a source, whoever started it; the others wait for their turn.

Two runs on one source do no harm to its bytes (the store sees to that), but one would read what the
other is about to replace, and fail. So a run has each source that it works on to itself, from its
start to its end: a build from the command line, a run from the UI or of a condition, a refresh from
when it decides. Runs on other sources go on beside it. Looking, as `verify` does, waits for nobody.

A turn is a lock that the system lifts when its process ends, however it ends; where several
machines may work on the same data, PostgreSQL does. Dagster's pools are none of that: the slot of a
process that was killed stays taken until a daemon frees it, and what a build makes ahead of its
steps asks for none. They only have runs wait in the queue instead of in a worker (`queueing`).

There, runs of some partitions of a source go on beside one another, since each makes parts of its
own; they and a run that makes the whole wait for one another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from assets.settings import Settings
from pipelines.plan import AssetPath, Plan
from pipelines.store import writing

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

POLL_S = 0.1


@contextlib.contextmanager
def taken(
    settings: Settings,
    sources: Collection[str],
    who: str,
    say: Callable[[str], object],
    *,
    parts: bool = False,
) -> Iterator[bool]:
    """Have some sources to ourselves in the block; give whether we had to wait for one.

    Args:
        settings: say which data folder it is.
        sources: their names. All wait for them in the same order, so that none waits for ever.
        who: what others are told that have to wait.
        say: told for whom we wait, once for each source.
        parts: it is about some partitions, and others may be about others.

    Raises:
        StorageError: the folder of Dagster's records can't be written to, or PostgreSQL be asked.
    """
    folder = settings.dagster_home / "turns"

    def turn(name: str) -> contextlib.AbstractContextManager[bool]:
        if not settings.is_shared:
            return _turn(folder / name, who, say)
        from assets.running import meeting  # which a machine by itself can do without

        def wait(holder: str) -> None:
            say(_waiting(name, holder))

        return meeting.held(settings, [f"turn/{name}"], who, wait, shared=parts)

    with contextlib.ExitStack() as held:
        waited = [held.enter_context(turn(name)) for name in sorted(sources)]
        yield any(waited)


def queueing(plan: Plan, assets: Iterable[dg.AssetsDefinition]) -> Iterator[dg.AssetsDefinition]:
    """Yield assets whose runs wait in the queue, where there is one, while one has their source.

    Partitions are made side by side. Runs on several sources may be let go too early: they wait in
    their worker.
    """
    from assets import spelling

    sources = {one.asset: one.sources for one in plan.artefacts.values()}
    for one in assets:
        names = {source.name for source in sources[(one.key.path[0], one.key.path[1])]}
        if one.partitions_def is None and len(names) == 1:
            one.op._pool = spelling.legal(names.pop())  # as `@asset(pool=…)` would
        yield one


def sources_of(plan: Plan, assets: Collection[AssetPath]) -> set[str]:
    """Return the names of the sources of some assets."""
    some = (one for one in plan.artefacts.values() if one.asset in assets)
    return {source.name for one in some for source in one.sources}


def of_run(
    settings: Settings, plan: Plan
) -> Callable[[PlanOrchestrationContext, ExecutionPlan], contextlib.AbstractContextManager[bool]]:
    """Return what has the sources of a run that Dagster executes to itself."""
    from assets import spelling  # which imports Dagster, as who only waits need not

    by_step = {spelling.step(asset): asset for asset in plan.assets()}

    @contextlib.contextmanager
    def turn(context: PlanOrchestrationContext, execution: ExecutionPlan) -> Iterator[bool]:
        from dagster._core.errors import raise_execution_interrupts

        steps = execution.step_keys_to_execute
        sources = sources_of(plan, [by_step[step] for step in steps if step in by_step])
        who = f"run {context.run_id[:8]} ({context.job_name})"
        with contextlib.ExitStack() as held:
            with raise_execution_interrupts():  # who waits can be cancelled
                waited = held.enter_context(
                    taken(settings, sources, who, context.log.info, parts=_is_of_parts(context))
                )
            yield waited

    return turn


@contextlib.contextmanager
def _turn(path: Path, who: str, say: Callable[[str], object]) -> Iterator[bool]:
    lock, waited = FileLock(path.with_name(f"{path.name}.lock")), False
    with writing.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waited = True
            say(_waiting(path.name, _holder(path)))
            lock.acquire(poll_interval=POLL_S)
    try:
        with contextlib.suppress(OSError):  # for those who wait; whether we hold it, the lock says
            path.write_text(who, "utf-8")
        yield waited
    finally:
        lock.release()


def _waiting(source: str, holder: str) -> str:
    return f"waiting for {source}: {holder} works on it"


def _is_of_parts(context: PlanOrchestrationContext) -> bool:
    from dagster._core.storage.tags import (
        ASSET_PARTITION_RANGE_START_TAG,
        PARTITION_NAME_TAG,
    )

    tags = context.dagster_run.tags
    return bool({PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG} & tags.keys())


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8") or "another run"
    except (OSError, ValueError):
        return "another run"
