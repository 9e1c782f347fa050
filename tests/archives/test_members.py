"""Members, read in place: the right bytes from every kind of archive, and no others."""

from __future__ import annotations

import bz2
import contextlib
import gc
import gzip
import hashlib
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.archives import members, readers
from pipelines.archives.members import Stream
from pipelines.declarations import Member, MemberFacts
from pipelines.errors import MemberError
from tests import builders

DATA = bytes(range(256)) * 40 + b"the end"
OTHER = b"something else"


def read(stream: Stream, most: int = 1000) -> bytes:
    """Everything a stream gives, `most` bytes at a time, to its end."""
    found = bytearray()
    buffer = memoryview(bytearray(most))
    while got := stream.readinto(buffer):
        found += buffer[:got]
    return bytes(found)


def read_member(folder: Path, archive: str, path: str = "", facts: bytes | None = None) -> bytes:
    """Read one member; `facts` are the bytes that the catalogue believes it to have."""
    known = None
    if facts is not None:
        known = MemberFacts(size_bytes=len(facts), sha256=hashlib.sha256(facts).hexdigest())
    with members.opened(folder) as open_member:
        return read(open_member(Member(archive, path, known)))


def tarred(*parts: tuple[str, bytes], mode: str = "w:gz", **info: object) -> bytes:
    """A tar in which the part called `member` has attributes of its own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in parts:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in info.items() if name == "member" else ():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def still_open(folder: Path) -> list[str]:
    """The files of a folder that this process has open, where the system tells."""
    return [
        str(link.readlink())
        for link in Path("/proc/self/fd").glob("*")
        if link.is_symlink() and str(link.readlink()).startswith(str(folder))
    ]


ARCHIVES = {
    "letters.zip": builders.zipped({"first": OTHER, "in/member": DATA, "last": OTHER}),
    "letters.tar.gz": builders.tarred({"first": OTHER, "in/member": DATA, "last": OTHER}),
    "letters.tgz": builders.tarred({"first": OTHER, "in/member": DATA}),
    "letters.tar": tarred(("first", OTHER), ("in/member", DATA), ("last", OTHER), mode="w"),
    "letters.tar.bz2": tarred(("first", OTHER), ("in/member", DATA), mode="w:bz2"),
    "letters.tar.xz": tarred(("first", OTHER), ("in/member", DATA), mode="w:xz"),
    "arrays.npz": builders.zipped({"first": OTHER, "in/member": DATA}),
    "pax.tar": tarred(("x" * 150, OTHER), ("in/member", DATA), mode="w"),
    "pax.tar.gz": tarred(("x" * 150, OTHER), ("in/member", DATA)),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("most", [1, 4096, 1 << 20])
def test_a_member_is_read_in_place(tmp_path: Path, name: str, most: int) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name])

    with members.opened(tmp_path) as open_member:
        stream = open_member(Member(name, "in/member"))
        assert stream.name == f"{name}/in/member"
        assert read(stream, most) == DATA
        assert stream.readinto(memoryview(bytearray(5))) == 0  # the end stays the end

    assert builders.files_under(tmp_path) == [name]


def test_of_many_archives_that_are_their_own_member_few_are_open_and_each_is_read_on(
    tmp_path: Path,
) -> None:
    """As many may be read as there are: some systems allow a process 256 files."""
    names = [f"The class {number}.npy" for number in range(300)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())

    with members.opened(tmp_path) as open_member:
        streams = [open_member(Member(name)) for name in names]
        begun = [stream.readinto(memoryview(bytearray(4))) for stream in streams]
        most = len(still_open(tmp_path))
        rest = [read(stream).decode() for stream in streams]

    assert begun == [4] * 300
    assert most <= 16
    assert rest == [name[4:] for name in names]
    assert still_open(tmp_path) == []


def test_an_archive_that_is_not_there_is_told_when_it_is_opened(tmp_path: Path) -> None:
    with (
        members.opened(tmp_path) as open_member,
        pytest.raises(MemberError, match=r"The class 1\.npy: the archive is not there"),
    ):
        open_member(Member("The class 1.npy"))


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize(("start", "stop"), [(0, 3), (5, 5), (10_000, len(DATA)), (0, len(DATA))])
def test_a_range_of_bytes_is_read_out_of_a_member(
    tmp_path: Path, name: str, start: int, stop: int
) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name])

    with members.opened(tmp_path) as open_member:
        found = members.read_range(open_member(Member(name, "in/member")), start, stop)

    assert found == DATA[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(len(DATA) - 3, len(DATA) + 1), (20_000, 20_001)])
def test_a_range_beyond_the_end_of_a_member_is_refused(
    tmp_path: Path, start: int, stop: int
) -> None:
    (tmp_path / "a.gz").write_bytes(builders.gz(DATA))

    with members.opened(tmp_path) as open_member:
        stream = open_member(Member("a.gz"))
        with pytest.raises(MemberError, match=f"a.gz: expected .* the end after {len(DATA):,}"):
            members.read_range(stream, start, stop)


def test_a_range_far_inside_a_member_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(builders.gz(bytes(32 << 20) + b"here" + bytes(1 << 20)))

    tracemalloc.start()
    with members.opened(tmp_path) as open_member:
        found = members.read_range(open_member(Member("a.gz")), 32 << 20, (32 << 20) + 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == b"here"
    assert peak < 4 << 20


def test_the_size_of_a_member_is_declared_or_else_found_by_reading(tmp_path: Path) -> None:
    packed = builders.gz(DATA)
    (tmp_path / "a.zip").write_bytes(builders.zipped({"plain": DATA, "packed.gz": packed}))
    declared = MemberFacts(size_bytes=12, sha256="0" * 64)
    of_packed = MemberFacts(len(packed), hashlib.sha256(packed).hexdigest())

    with members.opened(tmp_path) as open_member:
        sizes = [
            members.size_bytes(open_member, member)
            for member in (
                Member("a.zip", "plain"),
                Member("a.zip", "plain", declared),
                Member("a.zip", "packed.gz", of_packed),
            )
        ]

    assert sizes == [len(DATA), 12, len(DATA)]


def test_an_archive_can_be_its_own_member(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(DATA)
    (tmp_path / "packed.gz").write_bytes(builders.gz(DATA))

    assert read_member(tmp_path, "plain") == DATA
    assert read_member(tmp_path, "packed.gz") == DATA


@pytest.mark.parametrize("pack", [builders.zipped, builders.tarred])
def test_a_gzipped_member_of_an_archive_is_unpacked_too(
    tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    name = "a.zip" if pack is builders.zipped else "a.tar.gz"
    (tmp_path / name).write_bytes(pack({"in/member.gz": builders.gz(DATA)}))

    assert read_member(tmp_path, name, "in/member.gz", facts=builders.gz(DATA)) == DATA


@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_is_read_as_python_reads_it(tmp_path: Path, level: int) -> None:
    with (tmp_path / "a.gz").open("wb") as file, gzip.GzipFile("name", "wb", level, file) as packed:
        packed.write(DATA)

    assert read_member(tmp_path, "a.gz") == gzip.decompress((tmp_path / "a.gz").read_bytes())


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_members_of_a_zip_and_of_a_plain_tar_are_read_side_by_side(
    tmp_path: Path, name: str
) -> None:
    parts = {"a": DATA, "b": DATA[::-1]}
    plain = tarred(*parts.items(), mode="w")
    (tmp_path / name).write_bytes(plain if name == "a.tar" else builders.zipped(parts))
    first, second = memoryview(bytearray(100)), memoryview(bytearray(100))

    with members.opened(tmp_path) as open_member:
        a, b = open_member(Member(name, "a")), open_member(Member(name, "b"))
        for start in range(0, 1000, 100):
            assert (a.readinto(first), b.readinto(second)) == (100, 100)
            assert bytes(first) == DATA[start : start + 100]
            assert bytes(second) == DATA[::-1][start : start + 100]


@pytest.mark.parametrize("order", ["abc", "cba", "bab"])
def test_members_of_a_tar_are_read_in_any_order(tmp_path: Path, order: str) -> None:
    parts = {name: name.encode() * 3000 for name in "abc"}
    (tmp_path / "a.tar.gz").write_bytes(builders.tarred(parts))

    with members.opened(tmp_path) as open_member:
        for name in order:
            assert read(open_member(Member("a.tar.gz", name))) == parts[name]


def test_a_member_of_a_large_tar_costs_no_reading_of_the_others(tmp_path: Path) -> None:
    """A tar of 2 TiB, which is a hole in the file: who read it would read for half an hour."""
    with (tmp_path / "large.tar").open("wb") as file:
        for name in ("first", "second"):
            info = tarfile.TarInfo(name)
            info.size = 1 << 40
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek(info.size, io.SEEK_CUR)
        file.write(tarred(("member", DATA), mode="w"))

    with members.opened(tmp_path) as open_member:
        assert read(open_member(Member("large.tar", "member"))) == DATA
        found = members.read_range(open_member(Member("large.tar", "second")), 0, 5)
        assert found == bytes(5)


def test_members_of_a_tar_may_be_larger_than_all_that_is_declared(tmp_path: Path) -> None:
    """Splits may leave out most of their members, and catalogues most members of an archive."""
    noise = random.Random(0).randbytes(100_000)
    data = tarred(("unread", noise * 3), ("member", noise))
    (tmp_path / "a.tar.gz").write_bytes(data)

    with members.opened(tmp_path, most_bytes=1000) as open_member:
        assert read(open_member(Member("a.tar.gz", "member")), 1 << 20) == noise


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar.gz", "a.gz"):
        with pytest.raises(MemberError, match=rf"{name}.*: the archive is not there.*Fetch it"):
            read_member(tmp_path, name, "" if name == "a.gz" else "member")


def test_an_archive_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")

    with pytest.raises(MemberError, match=r"a\.rar is neither a zip nor a tar"):
        read_member(tmp_path, "a.rar", "member")


# --- what an archive may not hold -----------------------------------------------------------------


def _zip(name: str, data: bytes = DATA, mode: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data)
    return file.getvalue()


def _twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("member", OTHER)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("member", DATA)
    return file.getvalue()


def _flagged(data: bytes, flag: int) -> bytes:
    """A zip of one member with a flag set in both of its headers."""
    local, central = data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8
    found = bytearray(data)
    found[local] |= flag
    found[central] |= flag
    return bytes(found)


def _method(data: bytes, method: int) -> bytes:
    local, central = data.index(b"PK\x03\x04") + 8, data.index(b"PK\x01\x02") + 10
    found = bytearray(data)
    found[local], found[central] = method, method
    return bytes(found)


def _overlapping(offset: int) -> bytes:
    """A zip whose directory says that another member begins so far into the one called `member`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("member", DATA)
        archive.writestr("other", OTHER)
    found = bytearray(file.getvalue())
    at = found.rindex(b"PK\x01\x02") + 42
    found[at : at + 4] = struct.pack("<I", offset)
    return bytes(found)


def _link(kind: bytes, mode: str = "w:gz") -> bytes:
    return tarred(("target", DATA), ("member", b""), mode=mode, type=kind, linkname="target")


def _sparse(mode: str) -> bytes:
    """A tar of a member that says of itself that it is a terabyte, most of it holes."""
    said = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": f"0,1,{1 << 40},0"}
    return tarred(("member", DATA), mode=mode, pax_headers=said)


def _promising(kind: bytes, size: int) -> bytes:
    """A header of a tar that says that so many bytes follow, and some of them."""
    info = tarfile.TarInfo("member")
    info.type = kind
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 12 if size < 0 else b"\x80" + bytes(11)
    head[128:136] = size.to_bytes(8, "big", signed=True)
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head))[0]
    return bytes(head) + bytes(4096)


REFUSED = [
    ("missing", "a.zip", _zip("membre"), ["no such member", "1 others", "Did you mean 'membre'"]),
    ("case differs", "a.zip", _zip("Member"), ["no such member"]),
    ("twice", "a.zip", _twice, ["2 members of this name"]),
    ("folder", "a.zip", _zip("member/", b""), ["no such member"]),
    ("folder by mode", "a.zip", _zip("member", mode=0o040755), ["regular file", "folder, link"]),
    ("link", "a.zip", _zip("member", b"/etc/passwd", 0o120777), ["regular file", "folder, link"]),
    ("device", "a.zip", _zip("member", mode=0o020644), ["regular file"]),
    ("encrypted", "a.zip", lambda: _flagged(_zip("member"), 1), ["the member is encrypted"]),
    ("other method", "a.zip", lambda: _method(_zip("member"), 99), ["stored or deflated"]),
    ("two in one place", "a.zip", lambda: _overlapping(0), ["it overlaps with 'other'"]),
    ("one in another", "a.zip", lambda: _overlapping(1000), ["it overlaps with 'other'"]),
    ("no zip", "a.zip", b"<html></html>", ["damaged", "BadZipFile"]),
    ("nothing", "a.zip", b"", ["damaged"]),
    ("cut short", "a.zip", _zip("member")[:-30], ["damaged"]),
    ("begins late", "a.zip", _zip("member")[100:], ["damaged"]),
    ("bytes changed", "a.zip", _zip("member").replace(b"the end", b"THE END"), ["damaged", "CRC"]),
    ("missing", "a.tar.gz", builders.tarred({"membre": DATA}), ["no such member", "'membre'"]),
    ("twice", "a.tar.gz", tarred(("member", DATA), ("member", OTHER)), ["holds it twice"]),
    ("link", "a.tar.gz", _link(tarfile.SYMTYPE), ["regular file", "folder, link"]),
    ("hard link", "a.tar.gz", _link(tarfile.LNKTYPE), ["regular file", "folder, link"]),
    ("folder", "a.tar.gz", tarred(("member", b""), type=tarfile.DIRTYPE), ["regular file"]),
    ("device", "a.tar.gz", tarred(("member", b""), type=tarfile.CHRTYPE), ["regular file"]),
    ("pipe", "a.tar.gz", tarred(("member", b""), type=tarfile.FIFOTYPE), ["regular file"]),
    ("sparse", "a.tar.gz", _sparse("w:gz"), ["regular file", "holes"]),
    ("missing", "a.tar", tarred(("membre", DATA), mode="w"), ["no such member", "'membre'"]),
    (
        "twice",
        "a.tar",
        tarred(("member", DATA), ("member", OTHER), mode="w"),
        ["holds 2 members of this name"],
    ),
    (
        "twice, far apart",
        "a.tar",
        tarred(("member", DATA), *[(f"{n}", DATA) for n in range(9)], ("member", DATA), mode="w"),
        ["holds 2 members of this name"],
    ),
    ("link", "a.tar", _link(tarfile.SYMTYPE, "w"), ["regular file", "folder, link"]),
    ("hard link", "a.tar", _link(tarfile.LNKTYPE, "w"), ["regular file", "folder, link"]),
    ("folder", "a.tar", tarred(("member", b""), mode="w", type=tarfile.DIRTYPE), ["regular file"]),
    ("device", "a.tar", tarred(("member", b""), mode="w", type=tarfile.CHRTYPE), ["regular file"]),
    ("sparse", "a.tar", _sparse("w"), ["regular file", "holes"]),
    ("no tar", "a.tar", b"<html>" * 200, ["damaged"]),
    ("nothing", "a.tar", b"", ["damaged"]),
    ("cut short", "a.tar", tarred(("member", DATA), mode="w")[:5000], ["damaged"]),
    ("long header", "a.tar", _promising(tarfile.XHDTYPE, 1 << 30), ["header of 1,073,741,824"]),
    ("long name", "a.tar", _promising(tarfile.GNUTYPE_LONGNAME, 1 << 30), ["header of 1,073,"]),
    ("endless header", "a.tar", _promising(tarfile.XHDTYPE, -1024), ["a.tar"]),
    ("in circles", "a.tar", _promising(tarfile.REGTYPE, -512), ["ends before it begins"]),
    ("less than nothing", "a.tar", _promising(tarfile.REGTYPE, -1), ["ends before it begins"]),
    ("less than nothing", "a.tar.gz", builders.gz(_promising(tarfile.REGTYPE, -1)), ["a.tar.gz"]),
    ("no bzip2", "a.tar.bz2", b"<html></html>", ["damaged"]),
    ("no xz", "a.tar.xz", b"<html></html>", ["damaged"]),
    ("cut short", "a.tar.bz2", tarred(("member", DATA), mode="w:bz2")[:200], ["cut short"]),
    ("cut short", "a.tar.xz", tarred(("member", DATA), mode="w:xz")[:200], ["cut short"]),
    ("no gzip", "a.tar.gz", b"<html></html>", ["damaged"]),
    ("no tar", "a.tar.gz", builders.gz(b"x" * 2000), ["damaged"]),
    ("nothing", "a.tar.gz", b"", ["cut short"]),
    ("cut short", "a.tar.gz", builders.tarred({"member": DATA})[:300], ["cut short"]),
    ("cut tar", "a.tar.gz", builders.gz(tarred(("member", DATA), mode="w")[:5000]), ["a.tar.gz"]),
]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [pytest.param(*case, id=f"{case[0]} {what}") for what, *case in REFUSED],
)
def test_a_member_that_is_unsafe_or_damaged_is_refused(
    tmp_path: Path, name: str, data: bytes | Callable[[], bytes], words: list[str]
) -> None:
    (tmp_path / name).write_bytes(data() if callable(data) else data)

    with pytest.raises(MemberError) as caught:
        read_member(tmp_path, name, "member")

    for word in [name, *words]:
        assert word in str(caught.value)
    assert still_open(tmp_path) == []
    assert builders.files_under(tmp_path) == [name]


@pytest.mark.parametrize("path", ["../member", "/member", "in/../member"])
@pytest.mark.parametrize("pack", [builders.zipped, builders.tarred])
def test_a_name_in_an_archive_is_never_a_path(
    tmp_path: Path, path: str, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Such a name is only a name: it can be asked for, and reaches nothing outside the archive."""
    folder = tmp_path / "deep"
    folder.mkdir()
    (tmp_path / "member").write_bytes(OTHER)
    name = "a.zip" if pack is builders.zipped else "a.tar.gz"
    (folder / name).write_bytes(pack({path: DATA}))

    assert read_member(folder, name, path) == DATA
    assert builders.files_under(tmp_path) == [f"deep/{name}", "member"]


# --- gzip -----------------------------------------------------------------------------------------

PACKED = builders.gz(DATA)

TAILS = {
    "a second member": (builders.gz(OTHER), "another gzip stream.*pack it as one"),
    "an empty second member": (builders.gz(b""), "another gzip stream.*pack it as one"),
    "zero padding": (bytes(512), "zeros, as padding.*assets verify"),
    "one zero": (b"\0", "zeros, as padding.*assets verify"),
    "junk": (b"<html>", "they begin 3c68.*assets verify"),
    "one byte": (b"\x1f", r"they begin 1f\..*assets verify"),
}


@pytest.mark.parametrize(("tail", "words"), TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("pieces", [1, 7, len(PACKED), len(PACKED) - 1, 1 << 18])
def test_bytes_after_the_end_of_gzip_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes, words: str, pieces: int
) -> None:
    monkeypatch.setattr(readers, "CHUNK_BYTES", pieces)
    (tmp_path / "a.gz").write_bytes(PACKED + tail)

    with pytest.raises(MemberError, match=rf"a\.gz: there are bytes after .*: {words}"):
        read_member(tmp_path, "a.gz")


@pytest.mark.parametrize("pieces", [1, 7, len(PACKED), len(PACKED) - 1])
def test_gzip_is_read_whole_wherever_its_pieces_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(readers, "CHUNK_BYTES", pieces)
    (tmp_path / "a.gz").write_bytes(PACKED)

    assert read_member(tmp_path, "a.gz") == DATA


def test_truncated_gzip_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    for length in range(len(PACKED)):
        (tmp_path / "a.gz").write_bytes(PACKED[:length])
        with pytest.raises(
            MemberError, match=r"a\.gz: the gzip stream is cut short\..*assets verify"
        ):
            read_member(tmp_path, "a.gz")


@given(at=st.integers(0, len(PACKED) - 1), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=150)
def test_a_flipped_bit_in_gzip_is_refused_unless_it_means_nothing(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    damaged = bytearray(PACKED)
    damaged[at] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "a.gz").write_bytes(damaged)

    with contextlib.suppress(MemberError):
        assert read_member(folder, "a.gz") == DATA  # the header's time says nothing of the data


@pytest.mark.parametrize(
    ("field", "value"), [("checksum", 0), ("length", 5)], ids=["checksum", "length"]
)
def test_gzip_with_a_wrong_trailer_is_refused(tmp_path: Path, field: str, value: int) -> None:
    trailer = {"checksum": zlib.crc32(DATA), "length": len(DATA), field: value}
    (tmp_path / "a.gz").write_bytes(PACKED[:-8] + struct.pack("<2I", *trailer.values()))

    with pytest.raises(MemberError, match=r"a\.gz: damaged"):
        read_member(tmp_path, "a.gz")


def test_a_page_of_html_is_no_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"<!DOCTYPE html><title>Not found</title>" * 100)

    with pytest.raises(MemberError, match=r"a\.gz: damaged.*assets verify"):
        read_member(tmp_path, "a.gz")


def test_a_bomb_is_unpacked_only_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(builders.gz(bytes(30 << 20)))
    buffer = memoryview(bytearray(1000))

    with members.opened(tmp_path) as open_member:
        stream = open_member(Member("a.gz"))
        tracemalloc.start()
        try:
            assert [stream.readinto(buffer) for _ in range(10)] == [1000] * 10
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 2 << 20


# --- bzip2 and xz ---------------------------------------------------------------------------------

PACKINGS = {"a.bz2": bz2.compress, "a.xz": lzma.compress}
packed_so = pytest.mark.parametrize(("name", "pack"), PACKINGS.items(), ids=PACKINGS)


@packed_so
@pytest.mark.parametrize("most", [1, 1000, 1 << 20])
def test_bzip2_and_xz_are_unpacked(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], most: int
) -> None:
    (tmp_path / name).write_bytes(pack(DATA))

    with members.opened(tmp_path) as open_member:
        assert read(open_member(Member(name)), most) == DATA
        assert members.size_bytes(open_member, Member(name)) == len(DATA)


@packed_so
@pytest.mark.parametrize("pieces", [1, 7, 1 << 14])
def test_streams_one_after_the_other_are_one_file_as_their_tools_have_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pack: Callable[[bytes], bytes],
    pieces: int,
) -> None:
    """Tools that pack side by side, pbzip2 and pixz, make such files."""
    monkeypatch.setattr(readers, "_PIECE_BYTES", pieces)
    (tmp_path / name).write_bytes(pack(DATA) + pack(b"") + pack(OTHER))

    assert read_member(tmp_path, name) == DATA + OTHER


@pytest.mark.parametrize("padding", [4, 512, 40_000])
def test_xz_may_be_padded_by_zeros_four_at_a_time(tmp_path: Path, padding: int) -> None:
    packed = lzma.compress(DATA) + bytes(padding)
    (tmp_path / "a.xz").write_bytes(packed + packed)

    assert read_member(tmp_path, "a.xz") == DATA + DATA


@packed_so
@pytest.mark.parametrize("tail", [b"\0", bytes(6), b"<html>", b"B", b"\xfd7z", b"\0\0\0\0<html>"])
@pytest.mark.parametrize("pieces", [1, 1 << 14])
def test_bytes_after_the_end_of_bzip2_and_xz_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pack: Callable[[bytes], bytes],
    tail: bytes,
    pieces: int,
) -> None:
    monkeypatch.setattr(readers, "_PIECE_BYTES", pieces)
    (tmp_path / name).write_bytes(pack(DATA) + tail)

    with pytest.raises(MemberError, match=rf"{name}: .*(after the end of the|cut short)"):
        read_member(tmp_path, name)


@packed_so
def test_truncated_bzip2_and_xz_are_refused_wherever_they_were_cut(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(DATA)
    for length in range(len(packed)):
        (tmp_path / name).write_bytes(packed[:length])
        with pytest.raises(MemberError, match=rf"{name}: the (bzip2|xz) stream is cut short\."):
            read_member(tmp_path, name)


@packed_so
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_a_flipped_bit_in_bzip2_and_xz_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    pack: Callable[[bytes], bytes],
    at: int,
    bit: int,
) -> None:
    damaged = bytearray(pack(DATA))
    damaged[at % len(damaged)] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flipped")
    (folder / name).write_bytes(damaged)

    with contextlib.suppress(MemberError):
        assert read_member(folder, name) == DATA  # how large bzip2's blocks are says nothing of it


@packed_so
def test_a_packed_member_of_an_archive_is_unpacked_too(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.zip").write_bytes(builders.zipped({name: pack(DATA)}))

    assert read_member(tmp_path, "a.zip", name, facts=pack(DATA)) == DATA


def test_xz_that_asks_for_more_memory_than_any_preset_is_refused(tmp_path: Path) -> None:
    small = lzma.compress(DATA)
    size = 4 * (small[12] + 1)  # of the header of the first block
    block = bytearray(small[12 : 12 + size])
    block[block.index(b"\x21\x01") + 2] = 38  # a dictionary of 2 GiB: section 5.3.1 of the format
    block[-4:] = struct.pack("<I", zlib.crc32(block[:-4]))
    (tmp_path / "a.xz").write_bytes(small[:12] + bytes(block) + small[12 + size :])

    with pytest.raises(MemberError, match=r"a\.xz: damaged \(LZMAError: Memory usage limit"):
        read_member(tmp_path, "a.xz")


# --- facts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (DATA + b"!", [f"{len(DATA) + 1:,} bytes are declared", f"{len(DATA):,}"]),
        (DATA[:-1], [f"{len(DATA) - 1:,} bytes are declared", f"{len(DATA):,}"]),
        (DATA[::-1], [f"SHA-256 {hashlib.sha256(DATA[::-1]).hexdigest()} is declared"]),
        (DATA[::-1], [f"but it has {hashlib.sha256(DATA).hexdigest()}"]),
    ],
    ids=["smaller than declared", "larger than declared", "SHA-256 declared", "SHA-256 found"],
)
def test_a_member_is_held_against_its_declared_size_and_sha256(
    tmp_path: Path, name: str, facts: bytes, words: list[str]
) -> None:
    pack = builders.zipped if name.endswith(".zip") else builders.tarred
    (tmp_path / name).write_bytes(pack({"member": DATA}))

    with pytest.raises(MemberError) as caught:
        read_member(tmp_path, name, "member", facts)

    for word in [f"{name}/member: ", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_member_with_the_declared_facts_is_read(tmp_path: Path, name: str) -> None:
    pack = builders.zipped if name.endswith(".zip") else builders.tarred
    (tmp_path / name).write_bytes(pack({"member": DATA}))

    assert read_member(tmp_path, name, "member", DATA) == DATA


@pytest.mark.parametrize(
    ("size", "facts"),
    [(len(DATA) - 1, None), (len(DATA) - 1, DATA), (len(DATA) + 1, DATA), (1 << 30, DATA)],
)
def test_a_zip_that_lies_about_a_size_is_found_out(
    tmp_path: Path, size: int, facts: bytes | None
) -> None:
    data = bytearray(builders.zipped({"member": DATA}))
    for header, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(header) + offset
        data[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "a.zip").write_bytes(data)

    with pytest.raises(MemberError, match=r"a\.zip/member: "):
        read_member(tmp_path, "a.zip", "member", facts)


# --- What an archive holds ------------------------------------------------------------------------

FILES = {"b/2": b"two", "b/10": b"ten", "a": b"a", "b/c/1": b"one", "bb/1": b"other", "b/é": b"e"}
LISTING = {
    "it.zip": builders.zipped({"b/": b"", **FILES}),
    "it.tar": gzip.decompress(builders.tarred(FILES)),
}


def below(folder: Path, archive: str, path: str = "") -> list[str]:
    with members.opened(folder) as open_member:
        return [member.path for member in open_member.below(Member(archive, path))]


@pytest.mark.parametrize("name", LISTING)
def test_the_files_below_a_folder_are_listed_by_the_code_points_of_their_names(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(LISTING[name])

    assert below(tmp_path, name, "b") == ["b/10", "b/2", "b/c/1", "b/é"]
    assert below(tmp_path, name) == sorted(FILES)
    with members.opened(tmp_path) as open_member:
        found = [read(open_member(one)) for one in open_member.below(Member(name, "b"))]
    assert found == [b"ten", b"two", b"one", b"e"]


@pytest.mark.parametrize("name", LISTING)
def test_a_folder_that_is_not_there_is_an_error_that_names_the_nearest(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(LISTING[name])

    with pytest.raises(MemberError) as caught:
        below(tmp_path, name, "b/d")

    assert f"{name}/b/d: the archive has no file below this folder, only 6" in str(caught.value)
    assert "Did you mean 'b/c'?" in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "wrong", ["b/../../x", "b/./x", "b//x", "b/..", "b/\x1b[2Jx", "b/x\ny", "b/\u202ex"]
)
def test_a_name_that_is_no_plain_path_is_refused_where_files_are_listed(
    tmp_path: Path, kind: str, wrong: str
) -> None:
    files = {**FILES, wrong: b"x"}
    made = {"zip": builders.zipped, "tar": lambda f: gzip.decompress(builders.tarred(f))}[kind]
    (tmp_path / f"it.{kind}").write_bytes(made(files))

    with pytest.raises(MemberError, match="is no plain path inside an archive"):
        below(tmp_path, f"it.{kind}", "b")
    assert below(tmp_path, f"it.{kind}", "bb") == ["bb/1"]  # elsewhere, it harms nobody


def test_files_of_a_compressed_tar_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "it.tar.gz").write_bytes(builders.tarred(FILES))

    with pytest.raises(MemberError, match=r"it\.tar\.gz: the files of a compressed tar are not"):
        below(tmp_path, "it.tar.gz", "b")


def test_what_is_no_archive_of_files_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "it.gz").write_bytes(b"")

    with pytest.raises(MemberError, match=r"it\.gz is neither a zip nor a tar"):
        below(tmp_path, "it.gz")


def test_a_link_is_listed_and_refused_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "it.tar").write_bytes(
        tarred(("member", b""), mode="w", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    )

    with members.opened(tmp_path) as open_member:
        [link] = open_member.below(Member("it.tar"))
        with pytest.raises(MemberError, match="expected a regular file, found a folder, link"):
            open_member(link)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_there_twice_is_listed_once_and_refused_where_it_is_read(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        for data in (b"one", b"other"):
            archive.writestr("b/1", data)

    with members.opened(tmp_path) as open_member:
        [twice] = open_member.below(Member("it.zip"))
        with pytest.raises(MemberError, match="holds 2 members of this name"):
            open_member(twice)


def overlapping(folder: Path, shift: int) -> None:
    """A zip of three stored members, of which the second is said to begin `shift` bytes earlier."""
    data = bytearray(builders.zipped(dict.fromkeys(["a", "b", "c"], DATA)))
    at = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", at + 4) + 42
    [begin] = struct.unpack_from("<I", data, second)
    struct.pack_into("<I", data, second, begin - shift)
    (folder / "it.zip").write_bytes(data)


@pytest.mark.parametrize("shift", [1, 40])
def test_of_many_members_each_is_held_against_the_next_one(tmp_path: Path, shift: int) -> None:
    overlapping(tmp_path, shift)

    with pytest.raises(MemberError, match=r"it\.zip/a: it overlaps with 'b' in the archive"):
        read_member(tmp_path, "it.zip", "a")
    assert read_member(tmp_path, "it.zip", "c") == DATA


def test_many_members_are_found_in_the_time_of_as_many_and_none_stays_open(tmp_path: Path) -> None:
    """There are archives of 120,000: were each looked for among all, it would take hours."""
    many = {f"all/{number:06}": b"%d" % number for number in range(20_000)}
    (tmp_path / "it.zip").write_bytes(builders.zipped(many))
    gc.collect()

    with members.opened(tmp_path) as open_member:
        found = open_member.below(Member("it.zip", "all"))
        for number, member in enumerate(found):
            assert read(open_member(member)) == b"%d" % number
        still = sum(isinstance(one, zipfile.ZipExtFile) for one in gc.get_objects())

    assert len(found) == 20_000
    assert still < 10
