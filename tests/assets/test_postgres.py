"""Runs recorded in PostgreSQL: a real server on loopback, where this machine has one installed."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets.running import runs
from assets.settings import Settings
from pipelines.errors import ImagesetsError, StorageError
from pipelines.lineage import verify
from pipelines.progress import Display
from tests.assets.conftest import Start
from tests.assets.project import Project, states
from tests.assets.test_secrets import PASSWORD, TOKEN, as_before
from tests.assets.ui import free_port
from tests.waiting import within

psycopg2 = pytest.importorskip("psycopg2", reason="PostgreSQL's driver: the extra `postgres`")
pytest.importorskip("dagster_postgres", reason="Dagster on PostgreSQL: the extra `postgres`")


pytestmark = pytest.mark.slow


def program(name: str) -> str:
    """Where a program of PostgreSQL is; Debian keeps them out of the path."""
    found = shutil.which(name) or next(iter(glob.glob(f"/usr/lib/postgresql/*/bin/{name}")), None)
    if found is None:
        pytest.skip(f"PostgreSQL's server is not installed: no {name}")
    return found


def user() -> dict[str, Any]:
    """How a server is started: not as root, which it refuses."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user to run it as")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an empty database on a server of the test's own."""
    initdb, postgres, who = program("initdb"), program("postgres"), user()
    folder = Path(tempfile.mkdtemp(prefix="imagesets-postgres-"))  # where other users may go
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        how: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"]}, **who}
        made = [initdb, "-D", f"{folder}/data", "-U", "imagesets", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C", "-N"], check=True, capture_output=True, **how)
        port = free_port()
        options = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [postgres, "-D", f"{folder}/data", *options], stdout=log, stderr=log, **how
            )
        try:
            until(process, port, folder / "log")
            yield f"postgresql+psycopg2://imagesets@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(within(30))
    finally:
        shutil.rmtree(folder)


def until(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + within(60)
    while True:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=port, user="imagesets", dbname="postgres"
            ).close()
        except psycopg2.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


def test_runs_of_the_command_line_are_in_the_database(
    project: Project, server: str, forked: Start
) -> None:
    arguments = ["build", "tiny_letters", *project.options, *project.mirror]

    first, second = (forked(*arguments, IMAGESETS_POSTGRES=server).communicate() for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert set(states(first.stdout).values()) == {"made"}
    assert "Nothing to do" in second.stdout
    with psycopg2.connect(server.replace("+psycopg2", "")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT status FROM runs")
        assert cursor.fetchall() == [("SUCCESS",)], "nothing to do is no run"
        cursor.execute(
            "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' "
            "AND step_key IS NOT NULL"
        )
        assert cursor.fetchone() == (len(states(first.stdout)),)
    assert list((project.data / "dagster").rglob("*.db")) == [], "nothing is kept in SQLite"


def test_recorded_passwords_are_removed_from_the_database(
    project: Project, server: str, forked: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_POSTGRES", server)
    as_before(project, f"http://me:{PASSWORD}@example.org/mirror?token={TOKEN}", postgres=server)

    arguments = ["fetch", "tiny_letters", *project.options, *project.mirror]
    told = forked(*arguments, IMAGESETS_POSTGRES=server).communicate()
    assert told.stderr.count("python -m assets forget-passwords") == 1, told.stderr
    words = ["forget-passwords", *project.options]
    said = forked(*words, IMAGESETS_POSTGRES=server).communicate()

    assert said.returncode == 0, said.stderr
    assert "what opens http://example.org/mirror" in said.stdout
    with psycopg2.connect(server.replace("+psycopg2", "")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT snapshot_body FROM snapshots")
        bodies = [zlib.decompress(body).decode() for (body,) in cursor.fetchall()]
        cursor.execute("SELECT run_body FROM runs UNION ALL SELECT event FROM event_logs")
        bodies += [body for (body,) in cursor.fetchall()]
    assert any("example.org" in body for body in bodies)
    assert [body for body in bodies if PASSWORD in body or TOKEN in body] == []
    again = forked(*arguments, IMAGESETS_POSTGRES=server).communicate()
    assert (again.returncode, "forget-passwords" in again.stderr) == (0, False), again.stderr


def test_the_address_is_in_the_environment_alone(project: Project, server: str) -> None:
    home = runs.home(Settings(project.data, postgres=server))

    text = (home / "dagster.yaml").read_text()
    assert "env: IMAGESETS_POSTGRES" in text
    assert "127.0.0.1" not in text
    assert "DefaultRunCoordinator" in text
    assert "postgres" not in (runs.home(Settings(project.data)) / "dagster.yaml").read_text()


def test_a_server_that_is_not_there_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg2://someone:secret@127.0.0.1:{free_port()}/runs"
    monkeypatch.setenv("IMAGESETS_POSTGRES", url)

    with pytest.raises(StorageError, match="IMAGESETS_POSTGRES") as error:
        project.build("tiny_letters", postgres=url)

    assert "secret" not in str(error.value)
    # What was begun meanwhile is whole, or not there.
    settings = project.settings()
    plan = settings.plan()
    datasets = plan.declared.select(["tiny_letters"])
    found = verify.verify(settings.store, plan, datasets, Display(), deep=True)
    assert {verdict.condition for verdict in found} <= {"whole"}


@pytest.mark.parametrize("text", ["postgresql://u:secret@h/d", "sqlite:///secret"])
def test_an_address_without_its_driver_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(
        ImagesetsError, match=r"IMAGESETS_POSTGRES is not usable.*\+psycopg2"
    ) as error:
        Settings.from_environment({"IMAGESETS_POSTGRES": text})

    assert "secret" not in str(error.value)
