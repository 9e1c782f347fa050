"""Runs on several workers: how much faster more of them are, and what is left when some are killed.

It starts, on loopback and in a folder of its own, what a deployment has: PostgreSQL, Redis, an
object store (moto's), a publisher whose files take their time, the UI with its daemon, and workers
that each believe to be a machine of their own (`unshare`, where it may be used). A catalogue of
made-up sources gives a run each. Measured are one worker and two; then, with two, runs, workers
and the daemon are killed at random moments, and all must end whole, without a hand.

    python -m benchmarks.workers                # about eight minutes on two cores
    python -m benchmarks.workers --only kills --seed 7

Needs dagster-celery and redis (the group `workers`), and programs: redis-server and PostgreSQL's.
Nothing else is changed or left. Not here: what one run takes (`speed`).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import glob
import gzip
import hashlib
import http.server
import json
import math
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote

import numpy as np

from assets.settings import Settings
from pipelines.plan import AssetPath
from pipelines.stages import DEFAULT
from pipelines.store import provenance
from pipelines.store.bucket import stored

ROOT = Path(__file__).resolve().parent.parent

SOURCES = 16
TRANSFER_S = 6.0  # that a publisher takes for a file
SIDE, RECORDS = 28, 2_000
LONGEST_RUN_S = 60  # a dead machine's run is noticed by that; more than one takes
PATIENCE_S = 1800.0
LOOK_S = 2.0  # between two looks at the runs, which take a share of the cores
IDLE_S = 10.0  # of the daemon, to know what it takes when there is nothing to do

SECRETS = {
    "the publisher's password": "pub1isher-s3cret",
    "PostgreSQL's password": "p0stgres-s3cret",
    "the broker's password": "br0ker-s3cret",
    "the object store's key": "s3cr3tkey",  # as tests.object_stores has it
}

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }"""
SERVED = """{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } }
    instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } } }"""
RUNS = """{ runsOrError(limit: 1000) { ... on Runs { results {
    runId rootRunId jobName status startTime endTime creationTime tags { key value }
} } } }"""

GIVEN_UP = {"key": "dagster/will_retry", "value": "false"}  # of a run that failed


# --- What is built ------------------------------------------------------------------------------


def declare(folder: Path, sources: int, records: int = RECORDS) -> list[str]:
    """Publish made-up sources in `mirror`, and declare them in `catalogue`; return their names."""
    names = [f"made_up_{number:02}" for number in range(sources)]
    (folder / "catalogue").mkdir(parents=True)
    for number, name in enumerate(names):
        made = np.random.default_rng(number)
        rows = made.integers(0, 64, (records, 1 + SIDE * SIDE), np.uint8)
        rows[:, 0] = np.arange(records) % 2
        data = gzip.compress(rows.tobytes(), 1, mtime=0)
        (folder / "mirror" / name).mkdir(parents=True)
        (folder / "mirror" / name / f"{name}.bin.gz").write_bytes(data)
        md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        (folder / "catalogue" / f"{name}.toml").write_text(
            _head(name)
            + f"""\
[archives."{name}.bin.gz"]
bytes = {len(data)}
md5 = "{md5}"
sha256 = "{sha256}"
[datasets.{name}]
title = "{name}"
description = "Noise."
format = "cifar"
image = {{ height = {SIDE}, width = {SIDE}, channels = 1 }}
classes = ["even", "odd"]
[datasets.{name}.splits.train]
records = {records}
counts = [{records - records // 2}, {records // 2}]
batches = ["{name}.bin.gz"]
"""
        )
    return names


def _head(name: str) -> str:
    """Return how the declaration of a made-up source begins."""
    return f"""title = "{name}"
homepage = "https://example.org/"
citation = "@misc{{{name}}}"
licence = "MIT"
acknowledgements = "Made up."
mirrors = ["https://example.org/{name}/"]
"""


def declare_parts(folder: Path, parts: int, records: int = RECORDS) -> str:
    """Publish one made-up source, whose one split comes in parts; return its name."""
    name, made = "made_up", np.random.default_rng(0)
    (folder / "catalogue").mkdir(parents=True)
    (folder / "mirror" / name).mkdir(parents=True)
    archives = []
    for part in range(parts):
        path = folder / "mirror" / name / f"{part:02}.npy"
        np.save(path, made.integers(0, 64, (records, SIDE * SIDE), np.uint8))
        data = path.read_bytes()
        md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
        said = f'bytes = {len(data)}, md5 = "{md5}", sha256 = "{sha256}"'
        archives.append(f'"{path.name}" = {{ {said} }}')
    classes = [f"{part:02}" for part in range(parts)]
    declared = "\n".join(archives)
    (folder / "catalogue" / f"{name}.toml").write_text(
        _head(name)
        + f"""\
[archives]
{declared}
[datasets.{name}]
title = "{name}"
description = "Noise."
format = "npy"
image = {{ height = {SIDE}, width = {SIDE}, channels = 1 }}
classes = {classes}
[datasets.{name}.splits.train]
records = {parts * records}
counts = {[records] * parts}
parts = "members"
arrays = {[f"{one}.npy" for one in classes]}
"""
    )
    return name


def built_here(folder: Path) -> Path:
    """Build the same as one machine by itself does; return its data folder."""
    data = folder / "local"
    options = ["--data", str(data), "--catalogue", str(folder / "catalogue")]
    command = [sys.executable, "-m", "assets", "build", *options]
    said = [*command, "--mirror", str(folder / "mirror"), "--offline"]
    environment = clean() | {"XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(said, cwd=ROOT, env=environment, check=True, capture_output=True)
    return data


def clean() -> dict[str, str]:
    """The environment without settings of whoever starts this."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("IMAGESETS_", "AWS_", "DAGSTER_"))
    } | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


# --- Servers ------------------------------------------------------------------------------------


def missing() -> str:
    """Say what this machine lacks; nothing where it lacks nothing."""
    lacking = [name for name in ("postgres", "initdb", "redis-server") if program(name) is None]
    for module in ("dagster_celery", "redis", "dagster_postgres", "psycopg2", "moto", "obstore"):
        try:
            __import__(module)
        except ImportError:
            lacking.append(module)
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def program(name: str) -> str | None:
    """Where a program is; Debian keeps PostgreSQL's out of the path."""
    return shutil.which(name) or next(iter(glob.glob(f"/usr/lib/postgresql/*/bin/{name}")), None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(
    what: str, is_so: Callable[[], Any], patience_s: float = 60.0, every_s: float = 0.2
) -> Any:
    """Wait until something is so; return what it then is."""
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(every_s)
    return found


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **given: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block, with all that it has started."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, **given
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience_s: float = 40.0) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its group as a machine ends that loses power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """PostgreSQL with an empty database; give its address, with a password."""
    owner: dict[str, Any] = {}
    folder.mkdir()
    if os.geteuid() == 0:  # it does not run as root
        found = pwd.getpwnam("postgres")
        owner = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        os.chown(folder, found.pw_uid, found.pw_gid)
    secret = SECRETS["PostgreSQL's password"]
    (folder / "password").write_text(secret)
    made = [program("initdb"), "-D", "data", "-U", "imagesets", "-A", "scram-sha-256", "-N"]
    made += ["-E", "UTF8", "--locale=C", "--pwfile=password"]
    given = {"cwd": folder, "env": {"PATH": os.environ["PATH"]}, **owner}
    subprocess.run(made, check=True, capture_output=True, **given)
    port = free_port()
    where = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
    with running([str(program("postgres")), "-D", "data", *where], folder / "log", **given) as one:
        until("PostgreSQL", lambda: answers(port))
        time.sleep(1)
        yield f"postgresql+psycopg2://imagesets:{secret}@127.0.0.1:{port}/postgres"
        one.send_signal(signal.SIGINT)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Redis; give its address, with a password."""
    folder.mkdir()
    port, secret = free_port(), SECRETS["the broker's password"]
    said = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", secret, "--save", ""]
    command = [str(program("redis-server")), *said, "--dir", str(folder)]
    with running(command, folder / "log"):
        until("Redis", lambda: answers(port))
        yield f"redis://:{secret}@127.0.0.1:{port}/0"


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """An empty bucket called `bucket`, in a process of its own; give the variables for it."""
    folder.mkdir()
    said = folder / "variables.json"
    with running([sys.executable, "-m", "benchmarks.workers", "--serve", str(said)],
                 folder / "log", cwd=ROOT):  # fmt: skip
        until("the object store", said.exists)
        yield json.loads(said.read_text())


def serve(goal: Path) -> None:
    """Serve an empty bucket until told to stop."""
    from tests import object_stores

    with object_stores.serving() as variables:
        goal.with_suffix(".part").write_text(json.dumps(variables))
        goal.with_suffix(".part").rename(goal)
        signal.sigwait([signal.SIGTERM, signal.SIGINT])


@contextlib.contextmanager
def publisher(mirror: Path, transfer_s: float) -> Iterator[str]:
    """A publisher who wants a password, and whose every file takes its time; give the address."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = (mirror / self.path.lstrip("/")).read_bytes()
            time.sleep(transfer_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = SECRETS["the publisher's password"]
    yield f"http://someone:{secret}@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- A deployment -------------------------------------------------------------------------------


def as_a_machine(name: str) -> list[str]:
    """What a command begins with that shall believe to be alone on a machine; nothing if it can't.

    It has a host's name of its own and sees no other processes, as in a container.
    """
    apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([*apart, "true"], check=True, capture_output=True)
        return [*apart, "sh", "-c", f'hostname {name}; exec "$@"', "sh"]
    return []


@dataclass
class Deployment:
    """Servers, a UI and workers."""

    folder: Path
    variables: dict[str, str]
    ui: subprocess.Popen[bytes] | None = None
    port: int = 0
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_ui(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "assets", "ui", "--no-browser", "--port", str(self.port)]
        self.ui = self._start(command, "ui", IMAGESETS_HOME=str(self.folder / "home-ui"))
        until("the UI", self._is_served, 300)

    def _is_served(self) -> bool:
        with contextlib.suppress(OSError, KeyError, TypeError):
            asked = self.ask(SERVED)
            # The daemon retries what failed since it first looked, and nothing before.
            daemons = asked["instance"]["daemonHealth"]["allDaemonStatuses"]
            beats = {one["daemonType"] for one in daemons if one["lastHeartbeatTime"]}
            nodes = asked["repositoriesOrError"]["nodes"]
            return bool(nodes) and "EVENT_LOG_CONSUMER" in beats
        return False

    def start_worker(self, name: str, runs: int = 1) -> None:
        here = self.folder / f"machine-{name}"
        command = [*as_a_machine(name), sys.executable, "-m", "assets", "worker"]
        homes = {
            "IMAGESETS_HOME": str(here / "home"),
            "IMAGESETS_SCRATCH": str(here / "scratch"),
            "XDG_CACHE_HOME": str(here / "cache"),
        }
        self.workers[name] = self._start([*command, "--runs", str(runs)], name, **homes)

    def _start(self, command: Sequence[str], name: str, **more: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            environment = clean() | self.variables | more
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        for process in [*self.workers.values(), *([self.ui] if self.ui else [])]:
            end(process)

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["data"]

    def launch(self, job: str, assets: Iterable[AssetPath] = (), part: str = "") -> str:
        """Ask for a run of a job, as the UI does: of some of its assets, or a part of these."""
        where = {"repositoryLocationName": "imagesets", "repositoryName": "__repository__"}
        selector: dict[str, Any] = {**where, "pipelineName": job}
        if chosen := [{"path": list(asset)} for asset in assets]:
            selector["assetSelection"] = chosen
        params: dict[str, Any] = {"selector": selector, "mode": "default"}
        if part:
            tags = [{"key": "dagster/partition", "value": part}]
            params["executionMetadata"] = {"tags": tags}
        found = self.ask(LAUNCH, params=params)["launchRun"]
        if "run" not in found:
            raise RuntimeError(found)
        return str(found["run"]["runId"])

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(RUNS)["runsOrError"]["results"]
        return found

    def finished(self, launched: Sequence[str]) -> bool:
        """Whether each run that was launched, or one that was started for it again, succeeded.

        Raises:
            RuntimeError: one was given up; it would be waited for in vain.
        """
        runs = self.runs()
        done = {first(run) for run in runs if run["status"] == "SUCCESS"}
        given_up = {first(run) for run in runs if GIVEN_UP in run["tags"]} - done
        if given_up:
            raise RuntimeError(f"given up, and not started again: {', '.join(sorted(given_up))}")
        return done >= {*launched}

    def settings(self, scratch: str) -> Settings:
        chosen = {**self.variables, "IMAGESETS_SCRATCH": str(self.folder / scratch)}
        return Settings.from_environment(chosen)


def first(run: dict[str, Any]) -> str:
    """Return the run that was launched, of one that is that or was started for it again."""
    return str(run["rootRunId"] or run["runId"])


@contextlib.contextmanager
def deployed(
    folder: Path, transfer_s: float = TRANSFER_S, longest_run_s: int = LONGEST_RUN_S
) -> Iterator[Deployment]:
    """Servers and a UI on the catalogue of a folder; no worker yet."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres(folder / "postgres"))
        broker = stack.enter_context(redis(folder / "redis"))
        store = stack.enter_context(object_store(folder / "store"))
        mirror = stack.enter_context(publisher(folder / "mirror", transfer_s))
        made = Deployment(
            folder,
            {
                **store,
                "IMAGESETS_DATA": "s3://bucket/team",
                "IMAGESETS_CATALOGUE": str(folder / "catalogue"),
                "IMAGESETS_MIRROR": mirror,
                "IMAGESETS_POSTGRES": database,
                "IMAGESETS_BROKER": broker,
                "IMAGESETS_LONGEST_RUN_S": str(longest_run_s),
                "IMAGESETS_SCRATCH": str(folder / "scratch-ui"),
                "XDG_CACHE_HOME": str(folder / "cache"),
            },
        )
        os.environ.update(store)  # obstore reads it in this process
        stack.callback(made.stop)
        made.start_ui()
        yield made


# --- What must be so ----------------------------------------------------------------------------


class Reader:
    """Reads what provenance names, again and again, as a reader on another machine does."""

    def __init__(self, settings: Settings, paths: Sequence[str]) -> None:
        self.looks, self.torn = 0, list[str]()
        self._settings, self._paths, self._over = settings, paths, threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        store: Any = self._settings.store
        while not self._over.is_set():
            for path in self._paths:
                known = provenance.latest(store, path)
                if known is None or known.files is not None:
                    continue
                content, _ = store.objects.small(stored(path, known.sha256))
                found = hashlib.sha256(content or b"").hexdigest()
                self.looks += 1
                if found != known.sha256:
                    self.torn.append(f"{path}: {found}, not {known.sha256}")
                self._over.wait(0.02)
            self._over.wait(0.2)


def differences(local: Path, there: Settings) -> list[str]:
    """Say how what workers made differs from what one machine made by itself, to the byte."""
    here, store = Settings(local, there.catalogue), there.store
    plan = here.plan()
    if not (equal := lock_of(here) == lock_of(there)):
        print("the locks differ")
    found = [] if equal else ["locks"]
    for path, planned in plan.artefacts.items():
        known = provenance.latest(here.store, path)
        if known is None:
            continue
        names = [path] if known.files is None else [f"{path}/{one.path}" for one in known.files]
        if provenance.latest(store, path) is None:
            found.append(f"{path} is not there ({planned.stage})")
            continue
        base = store.local(path)
        for name in names:
            other = base if name == path else base / Path(name).relative_to(path)
            if (local / name).read_bytes() != other.read_bytes():
                found.append(f"{name} differs")
    return found


def lock_of(settings: Settings) -> dict[str, Any]:
    """Return the digests of all that is there."""
    known = sorted(provenance.of_everything(settings.store), key=lambda one: one.path)
    return {one.path: one.sha256 for one in known}


def everything_written(made: Deployment) -> Iterator[tuple[str, bytes]]:
    """Yield all that a deployment keeps or says, each with where it stands, as plain bytes."""
    import psycopg2
    import redis as client

    with psycopg2.connect(made.variables["IMAGESETS_POSTGRES"].replace("+psycopg2", "")) as found:
        cursor = found.cursor()
        cursor.execute("SELECT table_name FROM information_schema.tables "
                       "WHERE table_schema = 'public'")  # fmt: skip
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                for value in row:
                    yield f"PostgreSQL, {table}", plain(value)
    with client.Redis.from_url(made.variables["IMAGESETS_BROKER"]) as asked:
        for key in asked.scan_iter():
            kind, value = asked.type(key), b""
            if kind == b"string":
                value = asked.get(key)
            elif kind == b"list":
                value = b"".join(asked.lrange(key, 0, -1))
            elif kind == b"hash":
                value = b"".join(b"".join(pair) for pair in asked.hgetall(key).items())
            elif kind == b"set":
                value = b"".join(asked.smembers(key))
            yield f"Redis, {key!r}", key + value + unpacked(value)
    store: Any = made.settings("scratch-reader").store
    for name in store.objects.below(""):
        content, _ = store.objects.small(name[0])
        yield f"the object store, {name[0]}", content or b""
    for path in sorted(made.folder.rglob("*")):
        inside = path.relative_to(made.folder).parts
        if path.is_file() and inside[0] not in ("postgres", "redis", "store", "mirror", "local"):
            with contextlib.suppress(OSError):
                yield f"the file {path.relative_to(made.folder)}", path.read_bytes()


def written(source: str) -> dict[str, str]:
    """Return what is no secret and stands somewhere: a search that works finds it there."""
    return {
        "PostgreSQL, runs": source,
        "PostgreSQL, snapshots": source,
        "PostgreSQL, event_logs": source,
        "Redis": "celery-task-meta-",
        "the object store, lineage": source,
        "the file home-ui/dagster.yaml": "IMAGESETS_BROKER",
        "the file machine-": source,
        "the file worker": source,
    }


def plain(value: object) -> bytes:
    """Return a value of a database as bytes, inflated where Dagster has compressed it."""
    if isinstance(value, memoryview | bytes):
        with contextlib.suppress(zlib.error):
            return zlib.decompress(bytes(value))
        return bytes(value)
    return str(value).encode()


def unpacked(message: bytes) -> bytes:
    """Return the bodies of Celery's messages in some bytes."""
    found = b""
    for part in message.split(b'"body": "')[1:]:
        with contextlib.suppress(ValueError):
            found += base64.b64decode(part.partition(b'"')[0])
    return found


def leaks(made: Deployment, known: Mapping[str, str]) -> list[str]:
    """Say where a secret stands; and where what is known to stand was not found.

    Args:
        made: the deployment.
        known: kind of place → what is no secret, and stands there.
    """
    wrong, seen = [], set()
    for where, content in everything_written(made):
        for what, secret in SECRETS.items():
            spellings = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
            if any(spelling.encode() in content for spelling in spellings):
                wrong.append(f"{what} stands in {where}")
        seen |= {kind for kind, text in known.items()
                 if where.startswith(kind) and text.encode() in content}  # fmt: skip
    return wrong + [f"{known[kind]!r} was not found in {kind}" for kind in known.keys() - seen]


# --- Kills --------------------------------------------------------------------------------------


class Killer:
    """Kills a run, a worker, the daemon or the UI now and then.

    Workers and the UI come back, as an orchestrator has it; nothing else is mended by hand.
    """

    def __init__(self, made: Deployment, seed: int, kills: Sequence[str]) -> None:
        self.made, self.random, self.kills = made, random.Random(seed), list(kills)
        self.done: list[str] = []
        self.random.shuffle(self.kills)

    def go_on(self) -> None:
        """Do all kills, each at a random moment while some run goes on."""
        for what in self.kills:
            until("a run that goes on", self._going_on, PATIENCE_S)
            time.sleep(self.random.uniform(0.5, 10))
            killed = getattr(self, f"_{what}")()
            self.done.append(f"{what}{'' if killed else ' (none was there)'}")

    def _going_on(self) -> list[tuple[str, int]]:
        """Return the processes that do runs, each with its worker."""
        found = []
        for run in self.made.runs():
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            host, _, rest = tags.get("imagesets/process", "").partition(":")
            if run["status"] == "STARTED" and host:
                inside = rest.split(":")[-3]
                for name, worker in self.made.workers.items():
                    if host == name or host not in self.made.workers:
                        pids = [pid for pid in below(worker.pid) if numbered(pid, inside)]
                        found += [(name, pid) for pid in pids]
        return found

    def _run(self) -> bool:
        """Kill the process of a run."""
        if found := self._going_on():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(found)[1], signal.SIGKILL)
        return bool(found)

    def _worker(self) -> bool:
        """Kill a whole machine that does a run; another of that name comes up a little later."""
        if found := self._going_on():
            name = self.random.choice(found)[0]
            kill(self.made.workers[name])
            time.sleep(self.random.uniform(1, 5))
            self.made.start_worker(name)
        return bool(found)

    def _daemon(self) -> bool:
        """Kill Dagster's daemon."""
        found = daemons(self.made)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    def _ui(self) -> bool:
        """Kill the UI with its daemon and code server; it comes back as an orchestrator has it."""
        assert self.made.ui
        for pid in [self.made.ui.pid, *below(self.made.ui.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.made.ui.wait()
        self.made.start_ui()
        return True


def daemons(made: Deployment) -> list[int]:
    """Return the process of Dagster's daemon."""
    assert made.ui
    return [pid for pid, words in below(made.ui.pid).items() if "dagster._daemon" in words]


def below(pid: int) -> dict[int, list[str]]:
    """Return the processes below one: their numbers, and the words of their commands."""
    parents, words = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(stat[1])
            words[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
    found, new = dict[int, list[str]](), {pid}
    while new := {one for one, parent in parents.items() if parent in new and one not in found}:
        found |= {one: words[one] for one in new}
    return found


def numbered(pid: int, inside: str) -> bool:
    """Whether a process has a number, as it sees itself on a machine of its own."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2]
        return text.partition("\n")[0].split()[-1:] == [inside]
    return False


def runs_of(worker: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes below a worker's that do runs, or wait for one."""
    found = below(worker.pid)
    parents = {}
    for pid in found:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            parents[pid] = int(stat[1])
    celery = [pid for pid, words in found.items() if "assets.serving.worker" in words]
    return [pid for pid in celery if parents.get(pid) in celery]


def seconds_of(pids: Sequence[int]) -> float:
    """Return the processor's seconds that processes took, with children that have ended."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


# --- Sections -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """How long some runs took.

    wall_s: from the first launch to the end of the last run; busy_s: of a run, on average.
    daemon_s: of the processor, that the daemon took for each, besides what it takes when idle.
    grown_bytes: by which PostgreSQL has grown, for each.
    """

    workers: int
    runs: int
    wall_s: float
    busy_s: float
    daemon_s: float
    grown_bytes: float


def measured(folder: Path, sources: int, workers: int, transfer_s: float) -> Measured:
    """Run a run per source on some workers."""
    names = declare(folder, sources)
    with deployed(folder, transfer_s, 3600) as made:
        restart_ui_for(made, workers)
        for number in range(workers):
            made.start_worker(f"worker{number}")
        until("workers", lambda: all(runs_of(one) for one in made.workers.values()), 120)
        size, daemon = size_of_database(made), daemons(made)
        idle = seconds_of(daemon)
        time.sleep(IDLE_S)
        before = seconds_of(daemon)
        idle_share = (before - idle) / IDLE_S
        began = time.time()
        launched = [made.launch(f"everything_of_{name}") for name in names]
        until("the runs", lambda: made.finished(launched), PATIENCE_S, LOOK_S)
        busy_share = seconds_of(daemon) - before - idle_share * (time.time() - began)
        daemon_s = max(busy_share, 0.0) / sources
        runs, grown = made.runs(), (size_of_database(made) - size) / sources
    wall_s = max(run["endTime"] for run in runs) - began
    busy_s = mean(run["endTime"] - run["startTime"] for run in runs)
    return Measured(workers, sources, wall_s, busy_s, daemon_s, grown)


def size_of_database(made: Deployment) -> int:
    import psycopg2

    with psycopg2.connect(made.variables["IMAGESETS_POSTGRES"].replace("+psycopg2", "")) as found:
        cursor = found.cursor()
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def restart_ui_for(made: Deployment, workers: int) -> None:
    """Let as many runs go on at once as there are workers."""
    if made.variables.get("IMAGESETS_RUNS_AT_ONCE", "2") != str(workers):
        made.variables["IMAGESETS_RUNS_AT_ONCE"] = str(workers)
        assert made.ui
        end(made.ui)
        made.start_ui()


def modelled(one: Measured, runs: int, workers: int) -> float:
    """Return the seconds that so many runs take on so many workers, by what one worker took.

    Each worker does its share one after the other, and between two runs waits for the next; and
    runs leave the queue no faster than the daemon has time for each.
    """
    between_s = one.wall_s / one.runs - one.busy_s
    share_s = math.ceil(runs / workers) * (one.busy_s + max(between_s, 0.0))
    return max(share_s, runs * one.daemon_s)


def speed(sources: int, transfer_s: float) -> None:
    """Print how long one worker and two take, and what a model says of more."""
    found = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory(prefix="imagesets-workers-") as folder:
            os.chmod(folder, 0o755)
            found.append(measured(Path(folder), sources, workers, transfer_s))
    one = found[0]
    print(f"{sources} runs, each with a transfer of {transfer_s:.0f} s\n")
    load = ", ".join(f"{one:.0f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, all servers on them\n")
    print("| workers | measured | busy a run | daemon a run | PostgreSQL a run | × |")
    print("|---|---|---|---|---|---|")
    for each in found:
        print(
            f"| {each.workers} | {each.wall_s:.1f} s | {each.busy_s:.1f} s | {each.daemon_s:.2f} s "
            f"of a core | {each.grown_bytes / 1000:.0f} kB | {one.wall_s / each.wall_s:.2f} |"
        )
    print("\nThe model, by what one worker took:\n")
    print("| workers | 1 | 2 | 8 | 16 | 32 | 64 |\n|---|---|---|---|---|---|---|")
    for runs in (sources, 345):
        times = [modelled(one, runs, workers) for workers in (1, 2, 8, 16, 32, 64)]
        cells = [f"{seconds:.0f} s (× {times[0] / seconds:.1f})" for seconds in times]
        print(f"| {runs} runs | {' | '.join(cells)} |")


def kills(
    sources: int,
    transfer_s: float,
    longest_run_s: int,
    seed: int,
    which: Sequence[str],
    *,
    in_parts: bool = False,
) -> list[str]:
    """Kill while runs go on; return what is wrong afterwards, and print what was seen.

    Each run is of a source or, `in_parts`, of a part of the one split of one source; what is made
    of all its parts is made by a last run.
    """
    with tempfile.TemporaryDirectory(prefix="imagesets-workers-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        names = [declare_parts(folder, sources)] if in_parts else declare(folder, sources)
        local = built_here(folder)
        with deployed(folder, transfer_s, longest_run_s) as made:
            for number in range(2):
                made.start_worker(f"worker{number}")
            here = made.settings("scratch-reader")
            plan = here.plan()
            paths = list(plan.artefacts)
            default = plan.of(plan.declared.by_default, DEFAULT)
            of_parts = {one.asset for one in default if one.part}
            keys = dict.fromkeys(one.part for one in default if one.part)
            launched = [
                made.launch(f"everything_of_{names[0]}", of_parts, key) for key in keys
            ] or [made.launch(f"everything_of_{name}") for name in names]
            began, killer = time.time(), Killer(made, seed, which)
            with Reader(here, paths) as reader:
                killer.go_on()
                until("the runs", lambda: made.finished(launched), PATIENCE_S, LOOK_S)
                if in_parts:
                    wholes = {one.asset for one in default} - of_parts
                    launched.append(made.launch(f"everything_of_{names[0]}", wholes))
                    until("the last", lambda: made.finished(launched), PATIENCE_S, LOOK_S)
            took_s, runs = time.time() - began, made.runs()
            wrong = [*reader.torn, *differences(local, made.settings("scratch-compared"))]
            going = ("QUEUED", "STARTING", "STARTED", "CANCELING")
            wrong += [f"run {run['runId']} is {run['status']}" for run in runs if run["status"] in going]  # noqa: E501  # fmt: skip
            leaked = leaks(made, written(names[0]))
            wrong += leaked
            again = sum(first(run) != run["runId"] for run in runs)
            print(f"killed: {', '.join(killer.done)} (seed {seed})")
            print(f"{len(runs)} runs for {len(launched)} launched, {again} of them again")
            print(f"complete after {took_s:.0f} s; {reader.looks} looks of a reader, "
                  f"{len(reader.torn)} torn; secrets found: {len(leaked)}")  # fmt: skip
            for line in wrong[:20]:
                print(f"WRONG: {line}")
            if wrong and (kept := os.environ.get("IMAGESETS_TEST_KEEP")):
                shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("postgres", "store"))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("speed", "kills"))
    parser.add_argument("--sources", type=int, default=SOURCES)
    parser.add_argument("--transfer", type=float, default=TRANSFER_S, metavar="SECONDS")
    parser.add_argument("--longest", type=int, default=LONGEST_RUN_S, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    parser.add_argument(
        "--parts", action="store_true", help="kill runs of so many parts of one source instead"
    )
    parser.add_argument("--kill", default="run,run,worker,worker,daemon,daemon")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    if lacking := missing():
        print(lacking)
        return 1
    wrong: list[str] = []
    if given.only != "kills":
        speed(given.sources, given.transfer)
    if given.only != "speed":
        which = given.kill.split(",")
        times = given.sources, given.transfer, given.longest
        wrong = kills(*times, given.seed, which, in_parts=given.parts)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
