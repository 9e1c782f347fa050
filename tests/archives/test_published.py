"""Members as they are published, in the order in which they lie in their archives."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipelines.archives import members
from pipelines.declarations import Member, MemberFacts
from pipelines.errors import MemberError
from tests import builders

FILES = {"b.bin": b"second" * 50_000, "a.gz": builders.gz(b"packed"), "c/d.txt": b""}


def everything(stream: members.Stream) -> bytes:
    data, piece = bytearray(), memoryview(bytearray(1000))
    while got := stream.readinto(piece):
        data += piece[:got]
    return bytes(data)


def read(folder: Path, *wanted: Member) -> list[tuple[str, bytes]]:
    found = members.published(folder, wanted)
    return [(str(member), everything(stream)) for member, stream in found]


@pytest.mark.parametrize("name", ["some.tar.gz", "some.zip", "some.tar"])
def test_what_is_packed_stays_packed(tmp_path: Path, name: str) -> None:
    pack = builders.zipped if name.endswith(".zip") else builders.tarred
    data = pack(FILES)
    (tmp_path / name).write_bytes(gzip.decompress(data) if name.endswith(".tar") else data)

    found = read(tmp_path, *(Member(name, path) for path in sorted(FILES)))

    assert dict(found) == {f"{name}/{path}": data for path, data in FILES.items()}


def test_a_compressed_tar_is_passed_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come as they lie in it, not as they are asked for."""
    (tmp_path / "some.tar.gz").write_bytes(builders.tarred(FILES))
    starts: list[object] = []
    start = members._PackedTar._start
    monkeypatch.setattr(members._PackedTar, "_start", lambda tar: (starts.append(tar), start(tar)))

    found = read(tmp_path, *(Member("some.tar.gz", path) for path in sorted(FILES)))

    assert [name.partition("/")[2] for name, _ in found] == [*FILES]
    assert len(starts) == 1


def test_an_archive_may_be_wanted_itself(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(FILES["a.gz"])
    (tmp_path / "some.tar").write_bytes(b"no tar, and not asked to be one")

    assert read(tmp_path, Member("a.gz"), Member("some.tar")) == [
        ("a.gz", FILES["a.gz"]),
        ("some.tar", b"no tar, and not asked to be one"),
    ]


@pytest.mark.parametrize("kind", ["whole", "member"])
def test_bytes_are_held_against_their_hash(tmp_path: Path, kind: str) -> None:
    (tmp_path / "some.tar.gz").write_bytes(builders.tarred(FILES))
    facts = MemberFacts(6, "0" * 64)
    if kind == "whole":
        (tmp_path / "six").write_bytes(b"sixsix")
        wanted = Member("six", "", facts)
    else:
        (tmp_path / "some.tar.gz").write_bytes(builders.tarred({"six": b"sixsix"}))
        wanted = Member("some.tar.gz", "six", facts)

    with pytest.raises(MemberError, match=r"SHA-256 0000.* is declared, but it has"):
        read(tmp_path, wanted)


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    for wanted in (Member("none.gz"), Member("none.tar.gz", "a"), Member("none.zip", "a")):
        with pytest.raises(MemberError, match="the archive is not there"):
            read(tmp_path, wanted)


def test_a_tar_is_seen_to_its_end_where_gzip_keeps_its_checksum(tmp_path: Path) -> None:
    data = bytearray(builders.tarred(FILES))
    data[-6] ^= 1
    (tmp_path / "some.tar.gz").write_bytes(data)

    with pytest.raises(MemberError, match=r"some\.tar\.gz.*: damaged"):
        read(tmp_path, Member("some.tar.gz", "b.bin"))
