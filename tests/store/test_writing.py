"""The one writer: the old file or the new file, never half of one; and hashes of what is there."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import StorageError
from pipelines.store import hashing, layout, writing
from tests import builders

NOBODY = 65534


@pytest.fixture
def closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that may only be read, visited as a user whom that binds: root would write there."""
    (tmp_path / "closed").mkdir(mode=0o555)
    if os.geteuid() != 0:
        yield tmp_path / "closed"
        return
    monkeypatch.chdir(tmp_path)  # the folders above are root's alone
    tmp_path.chmod(0o755)
    try:
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("root, and there is no other user")
    try:
        yield Path("closed")
    finally:
        os.seteuid(0)


def test_every_artefact_has_its_place() -> None:
    assert layout.archive("mnist", "train-images.gz") == "archives/mnist/train-images.gz"
    assert layout.table("mnist", "train") == "tables/mnist/train.parquet"
    assert layout.statistics("mnist") == "statistics/mnist.parquet"
    assert layout.lineage("statistics/mnist.parquet") == "lineage/statistics/mnist.parquet.json"


def test_the_sha256_of_a_file_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2

    assert hashing.sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_file_longer_than_one_piece_is_hashed_whole(tmp_path: Path) -> None:
    data = os.urandom(3 * (1 << 20) + 1)
    (tmp_path / "long").write_bytes(data)

    assert hashing.sha256(tmp_path / "long") == hashlib.sha256(data).hexdigest()


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    goal = tmp_path / "a" / "b" / "goal.bin"

    with writing.atomic(goal) as partial:
        partial.write_bytes(b"new")
        assert not goal.exists()
        assert partial.parent == goal.parent

    assert goal.read_bytes() == b"new"
    assert builders.files_under(tmp_path) == ["a/b/goal.bin"]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = tmp_path / "goal.bin"
    flushed: list[tuple[int, bool]] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append((os.fstat(descriptor).st_ino, goal.exists()))

    monkeypatch.setattr(os, "fsync", spy)

    with writing.atomic(goal) as partial:
        partial.write_bytes(b"new")

    assert flushed == [(goal.stat().st_ino, False)]


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    goal = tmp_path / "goal.bin"
    goal.write_bytes(b"old and long")
    with goal.open("rb") as reader:
        assert reader.read(3) == b"old"

        with writing.atomic(goal) as partial:
            partial.write_bytes(b"new")

        assert reader.read() == b" and long"
    assert goal.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_a_writer_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    goal = tmp_path / "goal.bin"
    goal.write_bytes(b"old")

    def fail() -> None:
        with writing.atomic(goal) as partial:
            partial.write_bytes(b"half")
            raise error("no")

    with pytest.raises(error, match="no"):
        fail()

    assert goal.read_bytes() == b"old"
    assert builders.files_under(tmp_path) == ["goal.bin"]


def test_a_killed_writer_leaves_nothing_under_a_final_name(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\n"
        "from pipelines.store import writing\n"
        f"with writing.atomic(pathlib.Path({str(tmp_path / 'goal.bin')!r})) as partial:\n"
        "    partial.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)

    assert done.returncode == -signal.SIGKILL
    [left] = builders.files_under(tmp_path)
    assert left.startswith(".")
    assert left.endswith(".partial")

    with writing.atomic(tmp_path / "goal.bin") as partial:  # and it is in nobody's way
        partial.write_bytes(b"whole")
    assert (tmp_path / "goal.bin").read_bytes() == b"whole"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_is_as_readable_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with writing.atomic(tmp_path / "goal.bin") as partial:
            partial.write_bytes(b"x")
        after = os.umask(umask)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "goal.bin").stat().st_mode) == mode
    assert after == umask


@pytest.mark.parametrize("deep", ["in the way/goal.bin", "in the way/deeper/goal.bin"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, deep: str) -> None:
    (tmp_path / "in the way").write_bytes(b"precious")

    with (
        pytest.raises(StorageError, match=r"goal\.bin can't be written.*in the way.*--data"),
        writing.atomic(tmp_path / deep),
    ):
        pytest.fail("there is nowhere to write to")

    assert (tmp_path / "in the way").read_bytes() == b"precious"


def test_a_folder_where_the_file_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "goal.bin").mkdir()

    def write() -> None:
        with writing.atomic(tmp_path / "goal.bin") as partial:
            partial.write_bytes(b"x")

    with pytest.raises(StorageError, match=r"goal\.bin can't be written.*folder is in the way"):
        write()
    assert builders.files_under(tmp_path) == []


def test_a_folder_without_permission_to_write_is_named(closed_folder: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"goal\.bin can't be written.*writable.*IMAGESETS_DATA"),
        writing.atomic(closed_folder / "goal.bin"),
    ):
        pytest.fail("there is nowhere to write to")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "writable"),
    ],
)
def test_a_disk_that_refuses_is_told_with_what_to_do_next(
    tmp_path: Path, number: int, advice: str
) -> None:
    goal = tmp_path / "goal.bin"

    def write() -> None:
        with writing.atomic(goal):
            raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError) as caught:
        write()

    text = str(caught.value)
    assert text.startswith(f"{goal} can't be written: {os.strerror(number)}.")
    assert advice in text
    assert "--data or IMAGESETS_DATA" in text
    assert builders.files_under(tmp_path) == []


@given(st.lists(st.binary(max_size=5000)))
@settings(max_examples=30)
def test_what_is_hashed_while_it_is_written_is_known_until_somebody_writes_to_it(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("hashed")
    with writing.hashed(folder / "new") as append:
        for piece in pieces:
            append(piece)
    moved = folder / "final"
    writing.move(folder / "new", moved)
    assert moved.read_bytes() == b"".join(pieces)
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()
    known = hashing.remembered(moved)
    assert known is not None
    assert known.sha256 == expected == hashing.sha256(moved)
    stat = moved.stat()
    moved.write_bytes(bytes(255 - byte for byte in moved.read_bytes()))
    os.utime(moved, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashing.remembered(moved) is None
    assert hashing.sha256(moved) == hashlib.sha256(moved.read_bytes()).hexdigest()
