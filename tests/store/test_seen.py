"""What was seen of a file counts while its size, times and inode stand, and not a moment longer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.store import Folder, clock, hashing, layout, seen
from tests.waiting import within

PATH = "tables/digits/train.parquet"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was seen, in a data folder; this process has forgotten it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = tmp_path / "data" / PATH
    found.parent.mkdir(parents=True)
    found.write_bytes(b"bytes")
    settled(monkeypatch)
    seen.look(Folder(tmp_path / "data"), PATH)
    hashing.forget()
    return found


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file that was written a moment ago count as left alone."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", -60.0)


def data_of(file: Path) -> Path:
    return file.parents[len(Path(PATH).parts) - 1]


def test_what_was_seen_is_told_with_when_and_without_reading(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "look_through", lambda *_: pytest.fail("it is read"))
    sight = seen.look(Folder(data_of(file)), PATH)
    assert sight.sha256 == hashlib.sha256(b"bytes").hexdigest()
    assert abs(time.time() - clock.seconds(sight.looked)) < 60


def _replaced(file: Path) -> None:
    other = file.with_name("other")
    shutil.copy2(file, other)
    other.replace(file)


def _appended(file: Path) -> None:
    with file.open("ab") as end:
        end.write(b"!")


def _changed_behind_size_and_time(file: Path) -> None:
    stat = file.stat()
    file.write_bytes(b"BYTES")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        _appended,
        _replaced,
        _changed_behind_size_and_time,
        lambda file: os.utime(file, ns=(1, 1)),
        lambda file: file.chmod(0o600),
    ],
    ids=["size", "inode", "behind size and time", "modification time", "change time"],
)
def test_whatever_moves_the_file_is_looked_at_again(
    file: Path, change: Callable[[Path], object]
) -> None:
    time.sleep(0.02)  # a tick of the file system's clock
    change(file)
    assert seen.known(Folder(data_of(file)), PATH) is None
    assert (
        seen.look(Folder(data_of(file)), PATH).sha256
        == hashlib.sha256(file.read_bytes()).hexdigest()
    )


def test_a_file_that_was_written_just_before_it_was_read_is_read_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change within the same tick of the clock would move nothing."""
    monkeypatch.setattr(seen, "COARSEST_TICK_S", within(20))
    os.utime(file)
    seen.look_anew(Folder(data_of(file)), PATH)
    assert seen.known(Folder(data_of(file)), PATH) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"null", b"[1]", b"\xff", b'{"sha256": 1}', b"[" * 100_000],
)
def test_what_is_damaged_counts_as_never_seen(file: Path, text: bytes) -> None:
    (data_of(file) / layout.seen(PATH)).write_bytes(text)
    assert seen.known(Folder(data_of(file)), PATH) is None
    assert seen.look(Folder(data_of(file)), PATH).sha256 == hashlib.sha256(b"bytes").hexdigest()


def test_deleting_what_was_seen_costs_reading_and_nothing_else(file: Path) -> None:
    shutil.rmtree(data_of(file) / ".seen")
    assert seen.known(Folder(data_of(file)), PATH) is None
    assert seen.look(Folder(data_of(file)), PATH).sha256 == hashlib.sha256(b"bytes").hexdigest()
    hashing.forget()
    assert seen.known(Folder(data_of(file)), PATH) is not None


def test_where_the_data_folder_can_not_be_written_to_the_users_cache_keeps_what_was_seen(
    file: Path, tmp_path: Path
) -> None:
    data = data_of(file)
    shutil.rmtree(data / ".seen")
    (data / ".seen").write_text("no folder can be made here")

    seen.look(Folder(data), PATH)
    hashing.forget()

    assert seen.known(Folder(data), PATH) is not None
    [kept] = [path for path in (tmp_path / "cache").rglob("*.json") if path.is_file()]
    assert json.loads(kept.read_text("utf-8"))["sha256"] == hashlib.sha256(b"bytes").hexdigest()


def test_what_was_seen_last_counts_where_the_data_folder_can_not_be_written_to_any_more(
    file: Path,
) -> None:
    data = data_of(file)
    kept = data / layout.seen(PATH)
    before = kept.read_bytes()
    shutil.rmtree(data / ".seen")
    (data / ".seen").write_text("no folder can be made here")
    sight = seen.look_anew(Folder(data), PATH)
    seen.note(Folder(data), PATH, replace(sight, sha256="of bytes that rotted"))
    (data / ".seen").unlink()
    kept.parent.mkdir(parents=True)
    kept.write_bytes(before)
    found = seen.known(Folder(data), PATH)
    assert found is not None
    assert found.sha256 == "of bytes that rotted"


def test_where_nothing_can_be_kept_files_are_read_each_time(file: Path, tmp_path: Path) -> None:
    data = data_of(file)
    shutil.rmtree(data / ".seen")
    (data / ".seen").write_text("")
    (tmp_path / "cache").write_text("")
    for _ in range(2):
        assert seen.look(Folder(data), PATH).sha256 == hashlib.sha256(b"bytes").hexdigest()
        hashing.forget()
    assert seen.known(Folder(data), PATH) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file is in its place"):
        seen.look(Folder(tmp_path), "pipe")


def test_a_file_that_never_rests_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashing.look_through

    def look_and_write(opened: object, *more: object) -> hashing.Sight:
        sight = real(opened, *more)  # type: ignore[arg-type]
        _appended(file)
        return sight

    monkeypatch.setattr(hashing, "look_through", look_and_write)
    with pytest.raises(OSError, match="changes while it is read"):
        hashing.look(file)


def test_what_a_killed_process_left_of_a_note_goes_with_the_next_one(file: Path) -> None:
    place = data_of(file) / layout.seen(PATH)
    place.with_name(f".{place.name}.0123abcd.partial").write_text('{"sha256": ')
    file.write_bytes(b"other bytes")
    seen.look(Folder(data_of(file)), PATH)
    assert [path.name for path in place.parent.iterdir()] == [place.name]
