"""One run of the assets in this process, recorded where the Dagster UI looks for it.

Not here: the command line, or what an asset does. Dagster's own chatter is kept in its event log.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.instance import types as event_log  # which prints what it raises
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from assets import checks, graph, metadata, partitions, spelling
from assets.running import (
    abandoned,
    batches,
    databases,
    deployment,
    outcomes,
    overview,
    passwords,
    retention,
)
from assets.running.batches import Batch
from assets.running.outcomes import Outcome, Sound
from assets.settings import Settings
from pipelines import errors, stages
from pipelines.building import Ahead, Made
from pipelines.lineage import status
from pipelines.plan import AssetPath, Plan, Step
from pipelines.progress import Display
from pipelines.redaction import without_secrets
from pipelines.store import writing

LAUNCHED_BY = "imagesets/launched_by"  # tag of a run: what started it
SHOWN = "user"  # tag that the UI shows as who launched a run; without, it says "Manually launched"
INTERRUPTED = "UNEXPECTED_TERMINATION"  # what Dagster calls a run that was told to stop


def home(settings: Settings) -> Path:
    """Return Dagster's home under the data folder, with the `dagster.yaml` in it that is wanted.

    Raises:
        ImagesetsError: there is a broker, and not what else workers need.
    """
    wanted = deployment.configuration(settings)
    goal = settings.dagster_home / "dagster.yaml"
    if not goal.exists() or goal.read_bytes() != wanted:
        with writing.atomic(goal) as partial:
            partial.write_bytes(wanted)
    return settings.dagster_home


def materialize(
    settings: Settings,
    plan: Plan,
    wanted: Sequence[Step],
    display: Display,
    untold: Mapping[Step, Sound] = MappingProxyType({}),
    ahead: Callable[[Sequence[Step]], AbstractContextManager[Ahead]] | None = None,
) -> list[Outcome]:
    """Materialize some assets, or parts of one; return what became of each.

    Tell Dagster of others that are there. What is made `ahead` is made in the run of its workshop.

    Raises:
        StorageError: the data folder can't be written to.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    os.environ["DAGSTER_HOME"] = str(home(settings))
    with records(settings) as instance:
        retention.once_a_day(instance, settings)
        _tell(instance, settings, plan, untold)
        if not wanted:
            overview.tell(instance, settings, plan)
            return []
        assets = graph.assets_of(plan, wanted=[asset for asset, _ in wanted])
        define = functools.partial(graph.define, settings, plan, assets, display)
        try:
            found = dict[Step, Outcome]()
            for batch in in_turn(plan, batches.of(plan, wanted), found):
                made_ahead = ahead(batch.steps) if ahead else contextlib.nullcontext()
                with made_ahead as begun:
                    found |= execute_batch(
                        instance,
                        define(begun, stages.named()),
                        batch,
                        "build",
                        "the command line",
                        run_id=begun.run_id if begun else None,
                    )
            return [found[step] for step in wanted]
        finally:
            overview.tell(instance, settings, plan)


def in_turn(
    plan: Plan, wanted: Iterable[Batch], found: MutableMapping[Step, Outcome]
) -> Iterator[Batch]:
    """Yield batches to be executed one by one, without what needs what went wrong in one before.

    Who executes them notes in `found` what became of each step; what is left out is noted here.
    """
    for batch in wanted:
        bad = [step for step, outcome in found.items() if not outcome.is_good]
        left_out = batches.blocked(plan, batch.steps, bad)
        found.update((step, Outcome("/".join(step[0]), "blocked")) for step in left_out)
        if (rest := batch.without(left_out)).steps:
            yield rest


def _tell(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan, sound: Mapping[Step, Sound]
) -> None:
    """Tell Dagster of assets that are there, or of parts of one, where it does not know them so."""
    by_asset: dict[AssetPath, dict[str, list[Made]]] = {}
    for (asset, part), one in sound.items():
        by_asset.setdefault(asset, {})[part] = [
            Made(settings.store, known, None, sight.looked, 0.0, 0.0, one.found)
            for known, sight in zip(one.known, one.sights, strict=True)
        ]
    versions = status.versions(plan) if any(part for _, part in sound) else {}
    for asset, parts in by_asset.items():
        key = dg.AssetKey(asset)
        for part, made in parts.items():
            result = metadata.materialized(sound[asset, part].planned[0], made)
            of_bytes = result.data_version.value if result.data_version else ""
            event = dg.AssetMaterialization(
                key,
                metadata=result.metadata,
                tags={"dagster/data_version": versions[asset] if part else of_bytes},
                partition=part or None,
            )
            if not _knows(instance, event):
                instance.report_runless_asset_event(event)
        of_all = [one for made in parts.values() for one in made]
        instance.report_runless_asset_event(checks.as_made(asset, of_all))
        for check in checks.of_parts(parts):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=str(check.check_name),
                    passed=check.passed,
                    severity=check.severity,
                    description=check.description,
                    metadata=check.metadata,
                    blocking=check.severity is not dg.AssetCheckSeverity.WARN,
                )
            )


def _knows(instance: dg.DagsterInstance, event: dg.AssetMaterialization) -> bool:
    """Return whether Dagster was told last that an asset, or a part of one, is as an event says."""
    part = event.partition
    last = instance.get_latest_data_version_record(event.asset_key, partition_key=part)
    told = last.asset_materialization if last else None
    if not told or not (event.tags or {}).items() <= (told.tags or {}).items():
        return False
    return part is None or told.metadata.get("sha256") == event.metadata.get("sha256")


def execute_batch(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    batch: Batch,
    name: str,
    launched_by: str,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> dict[Step, Outcome]:
    """Execute a batch as `execute` does whole assets; return what became of each step."""
    keys = [dg.AssetKey(asset) for asset in batch.assets]
    of_range = dict(tags or {}) | partitions.of_range(batch.parts)
    result = _executed(instance, definitions, keys, name, launched_by, of_range, run_id)
    found = _outcomes(result, [(dg.AssetKey(asset), part) for asset, part in batch.steps])
    return dict(zip(batch.steps, found, strict=True))


def execute(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    selection: Sequence[dg.AssetKey],
    name: str,
    launched_by: str,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> list[Outcome]:
    """Materialize some whole assets in this process, recorded in `instance`; tell what became.

    The run is shown under the `name` of a job, and as launched by somebody or something.

    Raises:
        KeyboardInterrupt: the run was told to stop.
    """
    result = _executed(instance, definitions, selection, name, launched_by, tags, run_id)
    return _outcomes(result, [(key, "") for key in selection])


def _executed(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    selection: Sequence[dg.AssetKey],
    name: str,
    launched_by: str,
    tags: Mapping[str, str] | None,
    run_id: str | None,
) -> dg.ExecuteInProcessResult:
    """Execute a run of some assets in this process.

    Raises:
        KeyboardInterrupt: the run was told to stop.
    """
    run_id = run_id or str(uuid.uuid4())
    known = {LAUNCHED_BY: launched_by, SHOWN: launched_by}
    known[abandoned.PROCESS] = abandoned.process(run_id)
    job = definitions.resolve_implicit_global_asset_job_def()
    try:
        result = job._copy(name=name).execute_in_process(
            instance=instance,
            asset_selection=list(selection),
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags=known | dict(tags or {}),
            run_id=run_id,
        )
    except DagsterExecutionInterruptedError as stop:  # while it was planned: nothing has begun
        raise KeyboardInterrupt from stop
    if any(_is_interruption(event) for event in result.all_events):
        # Dagster kept that to itself, to close its books, and calls the run a failure.
        stopped = f"Stopped, because {launched_by} was told to stop. What was finished is kept."
        instance.report_run_canceled(result.dagster_run, stopped)
        raise KeyboardInterrupt
    return result


@contextlib.contextmanager
def records(settings: Settings, *, warning: bool = True) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's records of runs, in its home or in PostgreSQL.

    Where passwords stand in them, people are told of that by a `warning`.

    Raises:
        StorageError: they can't be read or written.
    """
    folder = settings.dagster_home
    advice = (
        f"Dagster's records of runs in {folder} can't be opened or written: {{error}}. Make the "
        "folder writable, free some space, move what is in the way (artefacts do not depend on "
        "these records), or choose another data folder with --data or IMAGESETS_DATA."
    )
    if settings.postgres:
        advice = (
            "Dagster's records of runs in PostgreSQL can't be opened or written: {error}. Start "
            "the server, correct IMAGESETS_POSTGRES, or unset it to keep them in the data folder."
        )
    refusals = _refusals(settings)
    try:
        try:
            setting_up = contextlib.nullcontext() if settings.postgres else databases.set_up(folder)
            one_at_a_time = FileLock(folder / "lock")
            with one_at_a_time, setting_up, databases.kept_open():
                opened = dg.DagsterInstance.from_config(str(folder))
        except OSError as error:
            raise errors.StorageError(advice.format(error=error)) from error
        with opened as instance, _losses_not_printed(), databases.kept_open():
            if warning:
                passwords.warn(instance, settings)
            yield instance  # what the system refuses in here may be anything
    except refusals as error:
        why = getattr(error, "orig", None) or error  # SQLAlchemy adds the statement, and a link
        problem = without_secrets(str(why), settings.postgres or "")
        raise errors.StorageError(advice.format(error=problem)) from error


@contextlib.contextmanager
def _losses_not_printed() -> Iterator[None]:
    """Keep Dagster from printing an event that it can't record, statement and all.

    It raises the error too, and that is told in one sentence. What it prints goes straight to
    `sys.stderr`, past every logger; our own warnings and progress go there as well, so stderr can't
    be redirected as a whole. That leaves the `sys` of the one module that prints.
    """
    names = vars(event_log)
    before, names["sys"] = sys, SimpleNamespace(**vars(sys) | {"stderr": io.StringIO()})
    try:
        yield
    finally:
        names["sys"] = before


def _refusals(settings: Settings) -> tuple[type[Exception], ...]:
    """Return how Dagster's storage says that it can't be used."""
    if not settings.postgres:
        return (SQLAlchemyError,)
    try:
        from dagster_postgres.utils import DagsterPostgresException
    except ImportError as error:
        raise errors.StorageError(
            f"IMAGESETS_POSTGRES is set, but {error}. Install dagster-postgres and psycopg2, or "
            "unset it to keep Dagster's records of runs in the data folder."
        ) from error
    return SQLAlchemyError, DagsterPostgresException


def _is_interruption(event: dg.DagsterEvent) -> bool:
    if event.event_type is not DagsterEventType.RUN_FAILURE:
        return False
    why = event.job_failure_data.failure_reason
    return bool(why and why.value == INTERRUPTED)


def _outcomes(
    result: dg.ExecuteInProcessResult, selection: Sequence[tuple[dg.AssetKey, str]]
) -> list[Outcome]:
    good: dict[tuple[dg.AssetKey, str], Outcome] = {}
    bad: dict[dg.AssetKey, str] = {}
    warnings: defaultdict[dg.AssetKey, list[str]] = defaultdict(list)
    by_step = {spelling.step(key.path): key for key, _ in selection}
    for event in result.all_events:
        match event.event_type:
            case DagsterEventType.ASSET_MATERIALIZATION:
                found = event.step_materialization_data.materialization
                good[found.asset_key, found.partition or ""] = _materialized(found)
            case DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed and check.severity is dg.AssetCheckSeverity.WARN:
                    said = outcomes.warning(check.check_name, check.description)
                    warnings[check.asset_key].append(said)
                elif not check.passed:
                    bad[check.asset_key] = (
                        f"check {check.check_name} failed: {check.description}. The catalogue and "
                        "the data contradict each other: correct one of them."
                    )
            case DagsterEventType.STEP_FAILURE:
                bad.setdefault(by_step[str(event.step_key)], reason(event))

    def outcome(key: dg.AssetKey, part: str) -> Outcome:
        name = key.to_user_string()
        if key in bad:
            return Outcome(name, "failed", error=bad[key], warnings=tuple(warnings[key]))
        made = good.get((key, part), Outcome(name, "blocked"))
        return replace(made, warnings=tuple(warnings[key]))

    return [outcome(key, part) for key, part in selection]


def _materialized(found: dg.AssetMaterialization) -> Outcome:
    facts: dict[str, Any] = {name: value.value for name, value in found.metadata.items()}
    return Outcome(
        found.asset_key.to_user_string(),
        facts["state"],
        facts.get("dagster/row_count", 0),
        facts["bytes"],
        facts.get("seconds", 0.0),
        facts[metadata.LAST_READ],
    )


def reason(failure: dg.DagsterEvent) -> str:
    """Return why a step failed, in our words."""
    said = failure.step_failure_data.user_failure_data
    if said and said.description:
        return said.description
    error = failure.step_failure_data.error
    root = error and (error.cause or error)
    return _text(root.message, root.cls_name) if root else "failed without saying why"


def _text(message: str, kind: str | None) -> str:
    """Return an error's text; of our own errors without the class, which the text makes clear."""
    return message.strip().removeprefix(f"{errors.__name__}.{kind}: ")
