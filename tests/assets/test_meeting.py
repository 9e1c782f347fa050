"""Turns and hosts over machines, in a real PostgreSQL; retention there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.running import meeting, retention, runs, turns
from assets.settings import ROOT, Settings
from pipelines.archives import hosts
from pipelines.errors import StorageError
from tests.assets.project import environment
from tests.assets.test_postgres import server  # noqa: F401
from tests.assets.ui import free_port
from tests.waiting import within

pytestmark = pytest.mark.slow

HOLDS = """import sys; from assets.running import turns; from assets.settings import Settings
with turns.taken(Settings.from_environment(), ["mnist"], "run 1a2b3c4d (refresh)", print):
    print("held", flush=True); sys.stdin.read()"""


@pytest.fixture
def shared(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:  # noqa: F811
    """Settings of a machine; whatever it has for itself, it shares with no other."""
    monkeypatch.setenv("IMAGESETS_POSTGRES", server)  # where dagster.yaml has it from
    return Settings("s3://bucket/team", postgres=server, home=tmp_path / "home")


@pytest.fixture
def elsewhere(shared: Settings, tmp_path: Path) -> subprocess.Popen[str]:
    """A process of another machine that works on mnist."""
    variables = shared.as_environment() | {"IMAGESETS_HOME": str(tmp_path / "other")}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process  # type: ignore[misc]
    process.kill()
    process.communicate()


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + within(60)
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_waits_for_another_machine_is_told_for_whom_and_goes_on_when_it_was_killed(
    shared: Settings, elsewhere: subprocess.Popen[str]
) -> None:
    said, waited = [], []

    def take() -> None:
        with turns.taken(shared, ["emnist", "mnist"], "run of ours", said.append) as had_to_wait:
            waited.append(had_to_wait)

    thread = in_a_thread(take)
    until(lambda: said)
    assert waited == []
    elsewhere.kill()
    thread.join(within(60))

    assert waited == [True]
    assert said == ["waiting for mnist: run 1a2b3c4d (refresh) works on it"], "once, and for one"
    with turns.taken(shared, ["mnist"], "the next one", said.append) as had_to_wait:
        assert had_to_wait is False


def test_other_data_and_other_sources_wait_for_nobody(
    shared: Settings, elsewhere: subprocess.Popen[str]
) -> None:
    assert elsewhere.poll() is None
    with turns.taken(shared, ["cifar10"], "another source", print) as waited:
        assert waited is False
    other = shared.with_({"data": "s3://bucket/others"})
    with turns.taken(other, ["mnist"], "other data", print) as waited:
        assert waited is False


def test_runs_of_parts_go_on_together_and_wait_for_one_of_the_whole(shared: Settings) -> None:
    said, whole = [], []

    def take() -> None:
        with turns.taken(shared, ["mnist"], "the whole", said.append):
            whole.append(True)

    with turns.taken(shared, ["mnist"], "part 1", print, parts=True):
        with turns.taken(shared, ["mnist"], "part 2", print, parts=True) as waited:
            assert waited is False
            thread = in_a_thread(take)
            until(lambda: said)
        assert whole == []
    thread.join(within(60))
    assert whole == [True]


def test_two_connections_to_a_host_are_open_from_all_machines(
    shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "beyond", meeting.Beyond(shared))
    waits, inside = [], []
    other = meeting.Beyond(shared)

    def connect() -> None:
        with hosts.politely("http://example.org/a"):
            inside.append(True)

    with other.politely("example.org", print), other.politely("example.org", print):
        thread = in_a_thread(connect)
        with other.politely("example.com", lambda: waits.append(True)):
            pass
        time.sleep(1.5)
        assert (waits, inside) == ([], [])
    thread.join(within(60))
    assert inside == [True]


def test_a_host_that_asked_one_machine_for_rest_is_left_alone_by_all(shared: Settings) -> None:
    runs.home(shared)
    with runs.records(shared):  # which sets up the tables
        meeting.Beyond(shared).wait_until("example.org", 12.5)
        meeting.Beyond(shared).wait_until("example.org", 13.5)

    assert meeting.Beyond(shared).noted("example.org") == 13.5
    assert meeting.Beyond(shared).noted("example.com") == 0.0


def test_a_database_that_is_gone_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg2://me:s3cret-word@127.0.0.1:{free_port()}/runs"
    shared = Settings("s3://bucket/team", postgres=url, home=tmp_path)

    turn = turns.taken(shared, ["mnist"], "a run", print)
    with pytest.raises(StorageError, match=r"can't be asked.*IMAGESETS_POSTGRES") as error, turn:
        pass

    assert "s3cret" not in str(error.value)


def test_old_runs_are_forgotten_in_postgresql_and_the_last_of_each_partition_stays(
    shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(partitions_def=parts)
    def many() -> None:
        pass

    monkeypatch.setattr(retention.provenance, "forget_past", lambda *_: 0)  # there is no bucket
    runs.home(shared)
    with runs.records(shared) as instance:
        made = [
            dg.materialize([many], partition_key=part, instance=instance).run_id
            for part in ("a", "b", "a")
        ]
        now = datetime.now(UTC) + timedelta(days=retention.RUNS_DAYS + 1)
        assert retention.forget(instance, shared, now).startswith("Forgot 1 runs,")

        assert {run.run_id for run in instance.get_runs()} == {*made[1:]}
        assert not instance.all_logs(made[0])
        assert instance.get_materialized_partitions(dg.AssetKey("many")) == {"a", "b"}
