"""Executors that do something around every run: in the process that executes it, whoever asked.

Not here: what is done (`abandoned`, `turns`), or which executors there are (`assets.graph`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

Around = Callable[[Any, Any], contextlib.AbstractContextManager[object]]
"""Is given the context of a run and its plan of execution; what it returns is open meanwhile."""


def around(executor: dg.ExecutorDefinition, *blocks: Around) -> dg.ExecutorDefinition:
    """Return an executor that executes runs within some blocks, the first outermost."""
    create = executor.executor_creation_fn

    def created(context: dg.InitExecutorContext) -> Any:
        made: Any = create(context) if create else None
        execute = made.execute

        def executed(run: Any, plan: Any) -> Iterator[dg.DagsterEvent]:
            with contextlib.ExitStack() as open_blocks:
                for block in blocks:
                    open_blocks.enter_context(block(run, plan))
                yield from execute(run, plan)

        made.execute = executed
        return made

    return dg.ExecutorDefinition(
        executor.name,
        executor.config_schema,  # type: ignore[arg-type] # it has been read already
        executor.get_requirements,
        created,
        executor.description,
    )
