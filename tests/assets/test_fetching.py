"""`fetch` and `mirror`: verified archives, in the data folder or in a folder for others."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from assets.running import runs
from assets.settings import Settings
from pipelines.progress import Display, Unit, Watch
from tests import builders, servers
from tests.assets import project, records
from tests.assets.conftest import Command, Said, Start
from tests.assets.forked import command_line
from tests.builders import Publisher
from tests.servers import Handler, cut, good, serving, status
from tests.waiting import within

DIGITS = ("test-images.gz", "test-labels.gz", "train-images.gz", "train-labels.gz")
ARCHIVES = sorted(
    [
        "tiny_colours/colours.tar.gz",
        *(f"tiny_digits/{name}" for name in DIGITS),
        "tiny_letters/letters.zip",
    ]
)


pytestmark = pytest.mark.slow

Run = Callable[..., Said]


@pytest.fixture
def run(command: Command, publisher: Publisher, tmp_path: Path) -> Run:
    """Run a command in this process, on the tiny catalogue and a data folder of the test's own."""

    def run(name: str, *arguments: str, data: str = "data") -> Said:
        where = ["--catalogue", str(publisher.catalogue), "--data", str(tmp_path / data)]
        return command(name, *arguments, *where)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "for others"


def right(folder: Path, publisher: Publisher) -> list[str]:
    """The files under a folder; each must be the publisher's."""
    found = builders.files_under(folder)
    for name in found:
        assert (folder / name).read_bytes() == (publisher.mirror / name).read_bytes(), name
    return found


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {name: (folder / name).stat() for name in builders.files_under(folder)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


# --- mirror ---------------------------------------------------------------------------------------


def test_a_mirror_is_laid_out_by_source_and_file(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    said = run("mirror", str(folder), "--mirror", str(publisher.mirror))

    assert said.code == 0
    assert right(folder, publisher) == ARCHIVES
    for name in ARCHIVES:
        assert f"{folder / name}  from {publisher.mirror / name}\n" in said.stdout
    assert f"Use it with --mirror {shlex.quote(str(folder))}" in said.stdout


def test_only_the_named_sources_are_mirrored(run: Run, publisher: Publisher, folder: Path) -> None:
    chosen = ["tiny_digits", "tiny_letters"]

    assert run("mirror", str(folder), *chosen, "--mirror", str(publisher.mirror)).code == 0

    assert right(folder, publisher) == [name for name in ARCHIVES if "colours" not in name]


def test_a_mirror_without_a_folder_is_refused_before_anything_is_fetched(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = builders.files_under(tmp_path)

    said = run("mirror", "tiny_digits")

    assert said.code == 2
    assert "python -m assets mirror FOLDER tiny_digits" in said.stderr
    assert builders.files_under(tmp_path) == before


def test_offline_a_mirror_says_why_there_is_nowhere_to_look(run: Run, folder: Path) -> None:
    said = run("mirror", str(folder), "tiny_letters", "--offline")
    assert said.code == 1
    assert "nowhere to look: offline, and no mirror folder was given" in said.stderr


def test_a_mirror_made_twice_downloads_nothing_the_second_time(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    with serving(b"", servers.folder(publisher.mirror)) as server:
        assert run("mirror", str(folder), "--mirror", server.url).code == 0
        assert sorted(server.paths) == [f"/{name}" for name in ARCHIVES]
        before = inodes(folder)

        said = run("mirror", str(folder), "--mirror", server.url)

    assert said.code == 0
    assert len(server.paths) == len(ARCHIVES)
    assert said.stdout.count("  already there\n") == len(ARCHIVES)
    assert inodes(folder) == before


def test_a_mirror_goes_on_where_it_was_interrupted(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    data = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    options = [str(folder), "tiny_letters", "--mirror"]
    with serving(data, cut(500), status(403)) as server:
        assert run("mirror", *options, server.url).code == 1
    with serving(data, good()) as server:
        assert run("mirror", *options, server.url).code == 0

    assert [request.get("Range") for request in server.requests] == ["bytes=500-"]
    assert right(folder, publisher) == ["tiny_letters/letters.zip"]


def test_a_wrong_archive_is_told_and_nothing_of_it_is_mirrored(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    bad = publisher.archive("tiny_digits", "train-labels.gz")
    bad.write_bytes(publisher.archive("tiny_digits", "test-labels.gz").read_bytes())

    said = run("mirror", str(folder), "--mirror", str(publisher.mirror))

    assert said.code == 1
    assert f"{bad}: " in said.stderr
    assert "Those bytes are tiny_digits/test-labels.gz" in said.stderr
    assert right(folder, publisher) == [n for n in ARCHIVES if n != "tiny_digits/train-labels.gz"]
    assert "Use it" not in said.stdout


def test_a_file_that_rotted_in_a_mirror_is_replaced(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    options = [str(folder), "--mirror", str(publisher.mirror)]
    run("mirror", *options)
    rotten = folder / "tiny_letters" / "letters.zip"
    rotten.write_bytes(rotten.read_bytes()[:-1] + b"?")

    assert run("mirror", *options).code == 0

    assert right(folder, publisher) == ARCHIVES


def test_a_mirror_is_a_mirror(run: Run, publisher: Publisher, folder: Path) -> None:
    run("mirror", str(folder), "--mirror", str(publisher.mirror))

    assert run("fetch", "--offline", "--mirror", str(folder), data="elsewhere").code == 0

    archives = folder.parent / "elsewhere" / "archives"
    assert right(archives, publisher) == ARCHIVES


def test_a_mirror_is_made_of_what_is_in_the_data_folder_already(
    run: Run, publisher: Publisher, folder: Path
) -> None:
    run("fetch", "--mirror", str(publisher.mirror))

    said = run("mirror", str(folder), "--offline")

    assert said.code == 0
    assert f"  from {folder.parent / 'data' / 'archives' / 'tiny_letters'}" in said.stdout
    assert right(folder, publisher) == ARCHIVES


@pytest.mark.parametrize("name", ["fetch", "mirror"])
def test_an_unknown_source_is_answered_with_the_nearest(run: Run, folder: Path, name: str) -> None:
    goal = [str(folder)] if name == "mirror" else []

    said = run(name, *goal, "tiny_colors")

    assert said.code == 2
    assert "Did you mean 'tiny_colours'?" in said.stderr
    assert not folder.exists()


# --- fetch ----------------------------------------------------------------------------------------


def test_fetch_gets_archives_and_makes_nothing_of_them(
    run: Run, publisher: Publisher, tmp_path: Path
) -> None:
    said = run("fetch", "tiny_digits", "--mirror", str(publisher.mirror))

    assert said.code == 0
    assert right(tmp_path / "data" / "archives", publisher) == [f"tiny_digits/{n}" for n in DIGITS]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        ".seen",
        "archives",
        "dagster",
        "lineage",
    }
    assert "tiny_digits/archives" in said.stdout
    assert "train" not in said.stdout


def test_fetch_twice_downloads_nothing_the_second_time(run: Run, publisher: Publisher) -> None:
    with serving(b"", servers.folder(publisher.mirror)) as server:
        for _ in range(2):
            said = run("fetch", "--mirror", server.url)
            assert said.code == 0
            assert sorted(server.paths) == [f"/{name}" for name in ARCHIVES]
    assert "Nothing to do: all 3 are up to date" in said.stdout


def test_every_archive_that_can_not_be_had_is_told(run: Run, publisher: Publisher) -> None:
    gone = [publisher.archive("tiny_digits", name) for name in DIGITS[1:3]]
    for path in gone:
        path.unlink()

    said = run("fetch", "tiny_digits", "--mirror", str(publisher.mirror))

    assert said.code == 1
    [error] = said.stderr.split("error: tiny_digits/archives: ")[1:]
    for path in gone:
        assert f"{path.name} (" in error
        assert f"{path}: no such file" in error
    assert "1 failed." in error


def test_little_space_is_told_beforehand(
    run: Run, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = publisher.archive("tiny_letters", "letters.zip").stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size + 1))

    said = run("fetch", "tiny_letters", "--mirror", str(publisher.mirror))

    assert said.code == 0
    assert "tables and exports of tiny_letters may take up to" in said.stderr


class Recorder(Display):
    """Remembers what each task told, and which were under way together."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.together: set[frozenset[str]] = set()
        self._under_way: set[str] = set()

    @contextlib.contextmanager
    def task(self, label: str, total: int, unit: Unit) -> Iterator[Watch]:
        recorder = self

        class Told(Watch):
            def __call__(self, done: int) -> None:
                recorder.done[label] += done
                recorder.together.add(frozenset(recorder._under_way))

        assert unit == "bytes"
        self.totals[label], self.done[label] = total, 0
        self._under_way.add(label)
        yield Told()
        self._under_way.discard(label)


def test_archives_of_a_source_come_in_parallel_with_a_progress_each(
    publisher: Publisher, tmp_path: Path
) -> None:
    two_at_once = threading.Barrier(2)

    def in_pairs(handler: Handler, data: bytes) -> None:
        two_at_once.wait(within(30))
        servers.folder(publisher.mirror)(handler, data)

    display = Recorder()
    with serving(b"", in_pairs) as server:
        settings = Settings(tmp_path / "data", publisher.catalogue, server.url)
        plan = settings.plan()
        [outcome] = runs.materialize(settings, plan, [(("tiny_digits", "archives"), "")], display)

    assert outcome.state == "made"
    sizes = {
        f"archives/tiny_digits/{name}": publisher.archive("tiny_digits", name).stat().st_size
        for name in DIGITS
    }
    assert display.totals == sizes
    assert display.done == sizes
    assert max(map(len, display.together)) > 1


# --- offline --------------------------------------------------------------------------------------


def watched(arguments: Sequence[str]) -> int:
    """Run a command in a process in which Python itself notes every socket that is opened.

    But for the pairs of Unix sockets that Dagster's event loop wakes itself up with.
    """
    opened = []

    def note(event: str, found: tuple[Any, ...]) -> None:
        if event.startswith("socket.") and found[1:2] != (socket.AF_UNIX,):
            opened.append(event)

    sys.addaudithook(note)
    code = command_line(arguments)
    sys.stdout.write(
        "\n" + json.dumps([event for event in opened if event != "socket.gethostname"]) + "\n"
    )
    return code


@pytest.mark.parametrize("mirror", [None, "http://127.0.0.1:9/", "s3://bucket/", "empty"])
@pytest.mark.parametrize("command", ["fetch", "mirror"])
def test_offline_says_what_is_missing_and_where_to_put_it_and_opens_no_socket(
    publisher: Publisher, tmp_path: Path, forked: Start, command: str, mirror: str | None
) -> None:
    toml = publisher.toml("tiny_letters")
    toml.write_text(toml.read_text().replace("mirrors = []", 'mirrors = ["http://127.0.0.1:9/"]'))
    goals = {"fetch": tmp_path / "data" / "archives", "mirror": tmp_path / "for others"}
    arguments = [command, *([str(goals["mirror"])] if command == "mirror" else []), "tiny_letters"]
    arguments += ["--catalogue", str(publisher.catalogue), "--data", str(tmp_path / "data")]
    arguments += ["--offline", *(["--mirror", mirror] if mirror else [])]

    done = forked(*arguments, run=watched).communicate()

    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    goal = goals[command] / "tiny_letters" / "letters.zip"
    size = publisher.archive("tiny_letters", "letters.zip").stat().st_size
    assert f"letters.zip ({size:,} bytes, MD5 " in done.stderr
    assert f"Put the file at {goal} yourself" in done.stderr
    assert "--mirror or IMAGESETS_MIRROR" in done.stderr


def test_a_file_put_where_the_error_said_is_taken(
    run: Run, publisher: Publisher, tmp_path: Path
) -> None:
    assert run("fetch", "tiny_letters", "--offline").code == 1
    goal = tmp_path / "data" / "archives" / "tiny_letters" / "letters.zip"
    goal.write_bytes(publisher.archive("tiny_letters", "letters.zip").read_bytes())

    assert run("fetch", "tiny_letters", "--offline").code == 0


# --- interrupted ----------------------------------------------------------------------------------


def test_ctrl_c_does_not_wait_for_a_server_that_stalls_and_fetch_goes_on_later(
    run: Run, publisher: Publisher, tmp_path: Path, forked: Start
) -> None:
    data = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    stalls, over = threading.Event(), threading.Event()

    def stalled(handler: Handler, data: bytes) -> None:
        cut(500)(handler, data)
        handler.wfile.flush()
        stalls.set()
        over.wait(within(60))

    arguments = ["fetch", "tiny_letters", "--catalogue", str(publisher.catalogue)]
    with serving(data, stalled, good()) as server:
        arguments += ["--data", str(tmp_path / "data"), "--mirror", server.url]
        process = forked(*arguments)
        assert stalls.wait(within(30))
        until = time.monotonic() + within(30)
        while sum(f.stat().st_size for f in tmp_path.glob("data/archives/*/.*.partial")) < 500:
            assert time.monotonic() < until, "what the server sent never arrived"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=15).returncode != 0
        finally:
            over.set()
        assert run("fetch", "tiny_letters", "--mirror", server.url).code == 0
    assert server.requests[-1]["Range"] == "bytes=500-"
    assert right(tmp_path / "data" / "archives", publisher) == ["tiny_letters/letters.zip"]


# --- two at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fetch", "mirror"])
def test_two_commands_at_once_both_succeed_and_download_once(
    publisher: Publisher, tmp_path: Path, forked: Start, command: str
) -> None:
    data = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    arguments = [command, *([str(tmp_path / "for others")] if command == "mirror" else [])]
    arguments += ["tiny_letters", "--catalogue", str(publisher.catalogue)]
    with serving(data, servers.slow(4 * len(data))) as server:
        arguments += ["--data", str(tmp_path / "data"), "--mirror", server.url]
        both = [forked(*arguments) for _ in range(2)]
        said = [process.communicate() for process in both]

    assert [done.returncode for done in said] == [0, 0], said
    assert len(server.requests) == 1
    goals = {"fetch": tmp_path / "data" / "archives", "mirror": tmp_path / "for others"}
    assert right(goals[command], publisher) == ["tiny_letters/letters.zip"]


@pytest.mark.parametrize("is_there", [True, False])
def test_what_opens_a_mirror_is_neither_shown_nor_written_anywhere(
    run: Run, publisher: Publisher, tmp_path: Path, is_there: bool
) -> None:
    events = tmp_path / "events.jsonl"
    with project.serving(publisher.mirror) as server:
        host = server.url.removeprefix("http://")
        mirror = f"http://me:s3cr3t@{host}{'' if is_there else '/elsewhere'}?token=t0k3n"
        said = run("build", "tiny_letters", "--mirror", mirror, "--openlineage", str(events))
    assert said.code == (not is_there), said
    name = f"{server.url}{'' if is_there else '/elsewhere'}/tiny_letters/letters.zip"
    record = tmp_path / "data/lineage/archives/tiny_letters/letters.zip.json"
    assert name in (record.read_text() if is_there else said.stderr)
    assert records.holding(tmp_path / "data", "s3cr3t", "t0k3n") == []
    for text in (events.read_text(), said.stdout, said.stderr):
        assert "s3cr3t" not in text
        assert "t0k3n" not in text


def test_nothing_is_left_of_a_download_whose_file_was_put_there_by_hand(
    run: Run, publisher: Publisher, tmp_path: Path
) -> None:
    data = publisher.archive("tiny_letters", "letters.zip").read_bytes()
    with serving(data, cut(500), status(404)) as server:
        assert run("fetch", "tiny_letters", "--mirror", server.url).code == 1
    folder = tmp_path / "data/archives/tiny_letters"
    assert [path.name for path in folder.glob(".*")], "something has arrived"
    shutil.copy(publisher.archive("tiny_letters", "letters.zip"), folder)

    assert run("fetch", "tiny_letters").code == 0
    assert [path.name for path in folder.iterdir()] == ["letters.zip"]
