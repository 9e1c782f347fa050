"""Retention: records of what is long past are forgotten, so that they don't grow for ever.

Dagster forgets ticks by itself (`retention` in dagster.yaml). Here it is runs with their event
logs, what was told without a run, and evaluations of conditions; and beside them the provenance of
artefacts that were replaced long ago. Whatever Dagster, the UI and conditions go by is kept however
old it is: the latest materialization, observation and check of each asset, or of each partition
of one, with its run. No artefact is touched.

It happens once a day at most (where thousands of runs are past, 500 at a time, until all are
forgotten): as a build begins that records a run, as the UI starts, and by the sensor `retention`.

Not here: what is recorded. How long it is kept stands in docs/operations.md too.

Annotations are not postponed here: Dagster reads that of a sensor's context.
"""

import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as db
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import (
    EventLogStorage,
    SqlEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.schedules.schema import AssetDaemonAssetEvaluationsTable
from sqlalchemy.exc import SQLAlchemyError

from assets.settings import Settings
from pipelines.store import provenance

RUNS_DAYS = 90
EVALUATIONS_DAYS = 1  # of conditions that asked for nothing; Dagster keeps the others for 30 days
PAST_PROVENANCE_DAYS = 365
AN_HOUR_S = 60 * 60
A_DAY_S = 24 * AN_HOUR_S
AT_ONCE = 500  # runs that are forgotten at a time, so that a first time does not take minutes
_MORE = "There are more, for the next time."

logger = logging.getLogger("pipelines.retention")


def once_a_day(instance: dg.DagsterInstance, settings: Settings) -> str:
    """Forget what is long past, unless that was done within a day; return what was, in words.

    Where there was more than is forgotten at a time, it goes on the next time.

    What can't be forgotten now is not worth failing for: it is logged, and tried again.
    """
    done = settings.dagster_home / "retention"  # an empty file, which tells by its time
    with contextlib.suppress(OSError):
        if 0 <= time.time() - done.stat().st_mtime < A_DAY_S:
            return "It was done within a day."
    try:
        said = forget(instance, settings, datetime.now(UTC))
        if _MORE not in said:
            done.touch()
    except (SQLAlchemyError, OSError) as error:
        logger.warning("what is long past could not be forgotten: %s", error)
        return "It failed; the log says why."
    return said


def forget(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> str:
    """Forget what is long past at a time; return how much it was, in words."""
    runs = _runs(instance, now - timedelta(days=RUNS_DAYS))
    _runless(instance, now - timedelta(days=RUNS_DAYS))
    evaluations = _evaluations(instance, now - timedelta(days=EVALUATIONS_DAYS))
    before = now - timedelta(days=PAST_PROVENANCE_DAYS)
    past = provenance.forget_past(settings.store, before.timestamp())
    said = f"Forgot {runs} runs, {evaluations} evaluations of conditions, provenance of {past}."
    return f"{said} {_MORE}" if runs == AT_ONCE else said


def sensor(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that does so while the daemon runs; without a run, which would be kept."""

    @dg.sensor(
        name="retention",
        minimum_interval_seconds=AN_HOUR_S,  # it is done once a day, and late where it failed
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Forgets runs of {RUNS_DAYS} days ago and evaluations of conditions, once a "
        "day. What the UI shows of each asset, and artefacts, stay.",
    )
    def retention(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(once_a_day(context.instance, settings))

    return retention


def _runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Forget runs that ended, with their event logs; return how many."""
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    storage = instance.event_log_storage
    kept = _held(storage)
    oldest = instance.get_runs(filters, limit=AT_ONCE + len(kept), ascending=True)
    old = [run.run_id for run in oldest if run.run_id not in kept][:AT_ONCE]
    for run_id in old:  # each one's row goes last: what is interrupted is found again by it
        if isinstance(storage, SqlEventLogStorage):
            with storage.index_connection() as connection:
                connection.execute(_CHECKS.delete().where(_CHECKS.c.run_id == run_id))
        if isinstance(storage, SqliteEventLogStorage):  # a file for each run, and a common one
            with storage.index_connection() as connection:
                storage.delete_events_for_run(connection, run_id)
            for ending in ("", "-wal", "-shm"):
                Path(f"{storage.path_for_shard(run_id)}{ending}").unlink(missing_ok=True)
            instance.run_storage.delete_run(run_id)
        else:
            instance.delete_run(run_id)
    return len(old)


def _held(storage: EventLogStorage) -> set[str]:
    """Return the runs that Dagster goes by: the last of each asset, partition and check."""
    if not isinstance(storage, SqlEventLogStorage):
        return set()
    with storage.index_connection() as connection:
        events = db.select(_EVENTS.c.run_id).where(_EVENTS.c.id.in_(_latest_events()))
        checks = db.select(_CHECKS.c.run_id).where(_CHECKS.c.id.in_(_latest_checks()))
        return {row[0] for asked in (events, checks) for row in connection.execute(asked)}


def _runless(instance: dg.DagsterInstance, before: datetime) -> None:
    """Forget what was told of assets without a run, but for the last of each asset and check."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return
    old = _EVENTS.c.run_id == RUNLESS_RUN_ID
    old &= _EVENTS.c.dagster_event_type.in_(kind.value for kind in _TOLD)
    # Dagster keeps times without a zone, in UTC.
    old &= _EVENTS.c.timestamp < before.replace(tzinfo=None)
    old &= _EVENTS.c.id.not_in(_latest_events())
    told = _CHECKS.c.evaluation_event_storage_id
    of_checks = db.select(told).where(_CHECKS.c.id.in_(_latest_checks()), told.is_not(None))
    evaluated = _CHECKS.c.run_id == RUNLESS_RUN_ID
    evaluated &= _CHECKS.c.create_timestamp < before.replace(tzinfo=None)
    evaluated &= _CHECKS.c.id.not_in(_latest_checks())
    with storage.index_connection() as connection:
        connection.execute(_CHECKS.delete().where(evaluated))
        ids = db.select(_EVENTS.c.id).where(old, _EVENTS.c.id.not_in(of_checks))
        connection.execute(_TAGS.delete().where(_TAGS.c.event_id.in_(ids)))
        connection.execute(_EVENTS.delete().where(old, _EVENTS.c.id.not_in(of_checks)))
    if isinstance(storage, SqliteEventLogStorage):  # they stand in a file of their own, too
        with storage.run_connection(RUNLESS_RUN_ID) as connection:
            connection.execute(_EVENTS.delete().where(old))


def _latest_events() -> db.Select[tuple[int]]:
    """Return a query of the last event of each asset or partition of one, of each type."""
    return (
        db.select(db.func.max(_EVENTS.c.id))
        .where(_EVENTS.c.asset_key.is_not(None))
        .group_by(_EVENTS.c.asset_key, _EVENTS.c.partition, _EVENTS.c.dagster_event_type)
    )


def _latest_checks() -> db.Select[tuple[int]]:
    """Return a query of the last execution of each check, of each partition."""
    of = _CHECKS.c.asset_key, _CHECKS.c.partition, _CHECKS.c.check_name
    return db.select(db.func.max(_CHECKS.c.id)).group_by(*of)


def _evaluations(instance: dg.DagsterInstance, before: datetime) -> int:
    """Forget evaluations that asked for nothing, but for the last of each asset; say how many."""
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return 0
    table = AssetDaemonAssetEvaluationsTable
    latest = db.select(db.func.max(table.c.id)).group_by(table.c.asset_key)
    old = table.c.create_timestamp < before.replace(tzinfo=None)
    old &= db.func.coalesce(table.c.num_requested, 0) == 0
    old &= table.c.id.not_in(latest)
    with storage.connect() as connection:
        return int(connection.execute(table.delete().where(old)).rowcount)


_TOLD = (
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.FRESHNESS_STATE_CHANGE,
)
_EVENTS, _CHECKS, _TAGS = SqlEventLogStorageTable, AssetCheckExecutionsTable, AssetEventTagsTable
