"""A made-up publisher with a data folder: what the tests of whole runs build in."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import automated
from assets.running import building
from assets.running.outcomes import Outcome
from assets.settings import ROOT, Settings
from pipelines.plan import Plan
from pipelines.progress import Display
from pipelines.stages import DEFAULT
from pipelines.store import Folder, hashing, seen
from pipelines.store.hashing import Sight
from tests import builders
from tests.assets import dagster_storage
from tests.servers import Handler, good, status
from tests.waiting import within

dagster_storage.work_less()

DATASETS = ("tiny_colours", "tiny_digits", "tiny_letters")
of_all = pytest.mark.sources(*DATASETS)
"""Marks a test that needs all sources, where those of its file have fewer."""

ARCHIVES = {
    "tiny_colours": ("colours.tar.gz",),
    "tiny_digits": (
        "train-images.gz",
        "train-labels.gz",
        "test-images.gz",
        "test-labels.gz",
    ),
    "tiny_letters": ("letters.zip",),
}

_NOTES = {("lineage", "history"), ("lineage", "checks")}

Snapshot = dict[str, tuple[int, int, bytes]]
"""Path in the data folder → inode, modification time, bytes."""


@dataclass(frozen=True)
class Project:
    """A publisher, and the data folder that its datasets are built in."""

    publisher: builders.Publisher
    data: Path

    @classmethod
    def publish(cls, folder: Path) -> Project:
        return cls(builders.publish(folder / "published"), folder / "data")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that are declared; each has one dataset, of the same name."""
        return tuple(sorted(path.stem for path in self.publisher.catalogue.glob("*.toml")))

    def copied_to(self, folder: Path, *sources: str) -> Project:
        """The same in another folder, modification times included; or some sources of it."""
        shutil.copytree(self.publisher.catalogue.parent, folder / "published")
        for other in {*self.sources} - {*sources} if sources else ():
            (folder / "published" / "catalogue" / f"{other}.toml").unlink()
            shutil.rmtree(folder / "published" / "mirror" / other)
        if self.data.exists():
            shutil.copytree(self.data, folder / "data")
        publisher = builders.Publisher(
            folder / "published" / "catalogue",
            folder / "published" / "mirror",
            self.publisher.splits,
        )
        return Project(publisher, folder / "data")

    def build(
        self, *datasets: str, stages: Collection[str] = DEFAULT, **settings: Any
    ) -> dict[str, Outcome]:
        """Run the assets of some datasets in this process; return what became of each asset."""
        mirror = str(self.publisher.mirror)
        chosen = self.settings(mirror=mirror).with_(settings)
        plan = chosen.plan()
        wanted = plan.declared.select(datasets or [s for s in DATASETS if s in self.sources])
        outcomes = building.build(chosen, plan, wanted, stages, Display())
        return {outcome.asset: outcome for outcome in outcomes}

    def settings(self, **settings: Any) -> Settings:
        """Settings that lead to this project, mirror excepted."""
        return Settings(self.data, self.publisher.catalogue).with_(settings)

    def plan(self, **settings: Any) -> Plan:
        """All there can be of this project's catalogue."""
        return self.settings(**settings).plan()

    def definitions(self, mirror: str | None = None, **settings: Any) -> dg.Definitions:
        """What the UI loads for this project."""
        return automated(self.settings(mirror=mirror, **settings))

    @property
    def options(self) -> list[str]:
        """The command line's options that lead to this project, mirror excepted."""
        return ["--data", str(self.data), "--catalogue", str(self.publisher.catalogue)]

    @property
    def mirror(self) -> list[str]:
        return ["--mirror", str(self.publisher.mirror)]

    def redeclare(self, source: str, old: str, new: str) -> None:
        """Change a source's declaration."""
        toml = self.publisher.toml(source)
        text = toml.read_text()
        assert old in text, f"{old!r} is not in {toml.name}"
        toml.write_text(text.replace(old, new))

    def republish(self, source: str, archive: str, data: bytes) -> None:
        """Publish other bytes under an archive's name, and declare them."""
        toml = self.publisher.toml(source)
        self.publisher.archive(source, archive).write_bytes(data)
        [line] = [
            line for line in builders.declare({archive: data}).splitlines() if archive in line
        ]
        lines = [
            line if old.startswith(f'"{archive}" =') else old
            for old in toml.read_text().splitlines()
        ]
        assert line in lines
        toml.write_text("\n".join(lines) + "\n")

    def rot(self, path: str, at: int = -5) -> None:
        """Change a byte of an artefact as a disk does that goes bad: nobody can see that it did.

        A test can't keep the change time, so what was seen is told that it is still so.
        """
        file = self.data / path
        before = hashing.look(file)
        stat, data = file.stat(), bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        identity = hashing.Identity.of(file.stat())
        seen.note(Folder(self.data), path, Sight(before.sha256, identity, "2100-01-01T00:00:00Z"))
        hashing.forget()
        assert seen.look(Folder(self.data), path).sha256 == before.sha256

    def snapshot(self, *, lineage: bool = True) -> Snapshot:
        """Everything in the data folder but Dagster's records, past ones, and what was found."""
        left_out = {"dagster", ".seen"} if lineage else {"dagster", ".seen", "lineage"}
        return {
            path.relative_to(self.data).as_posix(): _facts(path)
            for path in sorted(self.data.rglob("*"))
            if path.is_file()
            and path.relative_to(self.data).parts[0] not in left_out
            and path.relative_to(self.data).parts[:2] not in _NOTES
            and (lineage or not path.name.endswith(".lineage.json"))
        }


@dataclass
class Site:
    """A publisher's server whose files can vanish and change.

    fails_first: how many requests are refused, before it recovers.
    """

    root: Path
    etag: str = '"v1"'
    gone: bool = False
    fails_first: int = 0
    url: str = ""
    methods: list[str] = field(default_factory=list)

    def __call__(self, handler: Handler, _data: bytes) -> None:
        self.methods.append(handler.command)
        path = self.root / handler.path.lstrip("/")
        if len(self.methods) <= self.fails_first:
            status(403)(handler, b"")
        elif self.gone or not path.is_file():
            status(404)(handler, b"")
        else:
            good(self.etag)(handler, path.read_bytes())


def made(outcomes: Mapping[str, Outcome]) -> set[str]:
    """The assets that were made; all others must have been up to date."""
    assert {outcome.state for outcome in outcomes.values()} <= {"made", "up to date"}, outcomes
    return {asset for asset, outcome in outcomes.items() if outcome.state == "made"}


def moved(before: Snapshot, after: Snapshot) -> set[str]:
    """The files that are new, gone, or not the very same file with the very same bytes."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def states(stdout: str) -> dict[str, str]:
    """Asset → state, as the summary of `build` tells them."""
    rows = re.findall(r"^(\S+/\S+)  .*?(made|up to date|failed|blocked)$", stdout, re.MULTILINE)
    return dict(rows)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of Imagesets or Dagster, and some variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("IMAGESETS_", "DAGSTER_", "COLUMNS", "PYTHONPATH"))
    }
    return kept | variables


def executing(job: str) -> list[str]:
    """Return Dagster's own command that runs a job of ours."""
    definitions = str(ROOT / "assets" / "definitions.py")
    return [sys.executable, "-m", "dagster", "job", "execute", "-j", job, "-f", definitions]


def imagesets(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m assets` as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "assets", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )


@dataclass
class Server:
    """A local HTTP server of a folder; it notes what it is asked for."""

    url: str
    asked: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(folder: Path, *, stall: bool = False) -> Iterator[Server]:
    """Serve a folder; with `stall`, send the first half of each file and then nothing for long."""
    over = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            if not stall:
                super().do_GET()
                return
            data = (folder / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            server.stalled.set()
            over.wait(within(60))

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        server = Server(f"http://127.0.0.1:{service.server_port}")
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            over.set()
            service.shutdown()
            thread.join()


def _facts(path: Path) -> tuple[int, int, bytes]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, path.read_bytes()
