"""Where processes of several machines meet: in PostgreSQL, by locks and a note of each host.

What files in a folder are to the processes of one machine (`turns`, `pipelines.archives.hosts`),
this is to the workers on many. PostgreSQL lifts a lock when the process that holds it ends, however
it ends; when its machine vanishes, after two minutes. Nothing is written but the times that hosts
asked for, into the table in which Dagster's daemon keeps its cursors.

Not here: what is locked, or what waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from assets.settings import Settings
from pipelines.archives import hosts
from pipelines.errors import StorageError
from pipelines.redaction import without_secrets

POLL_S = 0.5
_VANISHED = {"tcp_keepalives_idle": 60, "tcp_keepalives_interval": 15, "tcp_keepalives_count": 4}
_LONGEST_NAME = 63  # bytes of it that PostgreSQL keeps
_WHO = sa.text(
    "SELECT activity.application_name FROM pg_locks AS locks"
    " JOIN pg_stat_activity AS activity USING (pid)"
    " WHERE locks.locktype = 'advisory' AND locks.granted AND activity.pid <> pg_backend_pid()"
    " AND (locks.classid::bigint << 32 | locks.objid::bigint) = :key LIMIT 1"
)
_NOTE = sa.text(
    "INSERT INTO kvs (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_NOTED = sa.text("SELECT value FROM kvs WHERE key = :key")


@contextlib.contextmanager
def held(
    settings: Settings,
    names: Sequence[str],
    who: str,
    wait: Callable[[str], object],
    *,
    shared: bool = False,
) -> Iterator[bool]:
    """Hold one of some locks in the block; give whether we had to wait for it.

    Args:
        settings: say in which database, and of which data.
        names: of the locks; the first that is free is ours.
        who: what those are told that have to wait.
        wait: told once whom we wait for.
        shared: others that share the lock may hold it as well.

    Raises:
        StorageError: the database can't be asked.
    """
    said = False
    with contextlib.ExitStack() as stack:
        with _refused(settings):
            connection = stack.enter_context(_connected(settings, who))
            keys = [_key(f"{settings.data}\n{name}") for name in names]
            lock = sa.text(f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}(:key)")
            while not any(connection.execute(lock, {"key": key}).scalar() for key in keys):
                if not said:
                    wait(connection.execute(_WHO, {"key": keys[0]}).scalar() or "another run")
                said = True
                time.sleep(POLL_S)
        yield said


def politely(
    settings: Settings,
) -> Callable[[object, object], contextlib.AbstractContextManager[None]]:
    """Return what has a run that Dagster executes be polite to hosts together with all others."""

    @contextlib.contextmanager
    def meeting(_run: object, _plan: object) -> Iterator[None]:
        before, hosts.beyond = hosts.beyond, Beyond(settings)
        try:
            yield
        finally:
            hosts.beyond = before

    return meeting


class Beyond:
    """Hosts, as the processes of all machines know them: see `pipelines.archives.hosts`."""

    def __init__(self, settings: Settings) -> None:
        """Meet in the database that settings name."""
        self._settings = settings

    @contextlib.contextmanager
    def politely(self, host: str, say: Callable[[], object]) -> Iterator[None]:
        """Be one of the two that are connected to a host at a time."""
        names = [f"host/{host}/{number}" for number in range(hosts.CONNECTIONS)]
        with held(self._settings, names, f"a fetch from {host}", lambda _: say()):
            yield

    def wait_until(self, host: str, at: float) -> None:
        """Note until when a host wants to be left alone."""
        with _refused(self._settings), _connected(self._settings, "a note") as connection:
            connection.execute(_NOTE, {"key": _noted(host), "value": str(at)})

    def noted(self, host: str) -> float:
        """Return until when a host wants to be left alone, as any process has noted."""
        with _refused(self._settings), _connected(self._settings, "a note") as connection:
            return float(connection.execute(_NOTED, {"key": _noted(host)}).scalar() or 0.0)


@contextlib.contextmanager
def _connected(settings: Settings, who: str) -> Iterator[sa.Connection]:
    address = settings.postgres or ""
    arguments = {"application_name": who.encode()[:_LONGEST_NAME].decode("utf-8", "ignore")}
    engine = sa.create_engine(address, poolclass=NullPool, connect_args=arguments)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        for name, value in _VANISHED.items():
            connection.execute(sa.text(f"SET {name} = {value}"))
        yield connection
    finally:
        with contextlib.suppress(SQLAlchemyError):  # the server may be gone, and its locks with it
            connection.close()


@contextlib.contextmanager
def _refused(settings: Settings) -> Iterator[None]:
    """Say what to do where the database can't be asked in the block."""
    try:
        yield
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StorageError(
            "PostgreSQL, where runs of several machines take turns, can't be asked: "
            f"{without_secrets(why, settings.postgres or '')} Start the server, or correct "
            "IMAGESETS_POSTGRES."
        ) from None


def _noted(host: str) -> str:
    return f"imagesets/host/{host}"


def _key(name: str) -> int:
    """Return the number of a lock, of 63 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
