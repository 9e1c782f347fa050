"""Members of archives, read in place: gzip, bzip2, xz, zip, tar → a stream of bytes.

Nothing is extracted to disk, no name found inside an archive is used as a path, and only regular
files are read. A member's declared size and SHA-256 are checked while its bytes pass. Not here:
fetching (`fetching`), what the bytes mean (`pipelines.formats`).

A member whose name ends in .gz, .bz2 or .xz is decompressed, wherever it lies. Readers take what
they need and ask for one byte more to see the end, so a decompression bomb is never inflated.

A new kind of archive is a class with `find` and `names`, like `_Zip`, and how its files' names end
in `_KINDS`; another way to pack a member is a row of `readers.PACKED`.
"""

from __future__ import annotations

import bisect
import contextlib
import lzma
import stat
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, BinaryIO, cast

from isal import isal_zlib

from .. import advice
from ..declarations import Member
from ..errors import MemberError, did_you_mean
from ..records import ByteStream, OpenMember
from . import readers
from .readers import CHUNK_BYTES, NEXT, PACKED, Read, as_tar, at_most, held_against

_MOST_OPEN = 16  # archives that are their own one member, at a time: macOS allows 256 files in all
_ZIP_HEADER_BYTES = 30  # before a member's name, and at least that much
_TAR_HEADER_BYTES = 1 << 20  # that one may take at most: a pax header says itself how long it is
_PLENTY = 16  # times a packed file: images inflate to less, a bomb to 1,000 times and more

# What Python's archive modules raise on damaged or hostile input: far more than they document.
_DAMAGE: tuple[type[Exception], ...] = (EOFError, MemoryError, OSError, OverflowError, RuntimeError)
_DAMAGE += (ValueError, IndexError, struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_DAMAGE += (lzma.LZMAError,)
_DAMAGE += (cast("type[Exception]", isal_zlib.error),)  # its stub calls the class an instance


class Stream:
    """A member's decompressed bytes, in order."""

    def __init__(self, name: str, read: Read) -> None:
        """Read from `read`; errors call the member `name`."""
        self.name = name
        self._read = read

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end.

        Raises:
            MemberError: the member is damaged, cut short, or not the one declared.
        """
        with damage_named(self.name):
            data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def opened(folder: Path, most_bytes: int = 1 << 32) -> Iterator[OpenMember]:
    """Give what opens members of the archives in `folder`, and lists them.

    Args:
        folder: where the archives are.
        most_bytes: how much the members that are wanted have together. Out of a compressed tar may
            come that, and `most_out` more.

    Members of a zip, and of a tar that is not compressed, may be read side by side. Of a compressed
    tar, one at a time: cheapest in the order they lie in it, because going back means decompressing
    from the start again.

    Raises:
        MemberError: the archive has no such member, or holds it as a link, a folder, twice,
            encrypted, or in another size than declared.
    """
    with _Opened(folder, most_bytes) as open_member:
        yield open_member


def published(
    folder: Path, wanted: Iterable[Member], most_bytes: int = 1 << 32
) -> Generator[tuple[Member, Stream]]:
    """Yield members of the archives in `folder` as they are published: what is packed stays so.

    They come in the order in which they lie in their archives, so that a tar is passed through
    once. Each is read before the next one is asked for; the arguments are those of `opened`.

    Raises:
        MemberError: as `opened` does.
    """
    groups: dict[str, dict[str, Member]] = {}
    for member in wanted:
        groups.setdefault(member.archive, {})[member.path] = member
    for name, members in groups.items():
        [*_, some] = members.values()
        with contextlib.ExitStack() as stack:
            with damage_named(name):
                kind: type[_Itself | _Archive] = _kind(some) if some.path else _Itself
                archive = kind(folder / name, most_bytes)
                stack.enter_context(archive)
            found = archive.each(members)
            while True:
                with damage_named(name):
                    path, read = next(found, ("", None))
                if read is None:
                    break
                member = members[path]
                if member.facts is not None:
                    read = held_against(member.facts, read, member)
                yield member, Stream(str(member), read)


def read_range(stream: ByteStream, start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` of a member just opened; what lies before is only passed by.

    Raises:
        MemberError: the member is damaged so far, or ends before `stop`.
    """
    passed = pass_by(stream, start)
    data = bytearray(stop - start)
    done = 0
    if passed == start:
        while done < len(data) and (got := stream.readinto(memoryview(data)[done:])):
            done += got
    if done < len(data):
        raise MemberError(
            f"{stream.name}: expected bytes {start:,} to {stop:,}, found the end after "
            f"{passed + done:,}."
        )
    return bytes(data)


def size_bytes(open_member: Callable[[Member], ByteStream], member: Member) -> int:
    """Return how long a member is, decompressed: as is declared, or else found by passing it by.

    Raises:
        MemberError: the member is not there, or damaged.
    """
    if member.facts is not None and not readers.is_packed(str(member)):
        return member.facts.size_bytes
    return pass_by(open_member(member))


def most_out(most_bytes: int, packed_bytes: int) -> int:
    """Return how much may come out of a packed file of which members of so many bytes are wanted.

    It may hold others, and members may hold more than what is wanted of them.
    """
    return most_bytes + _PLENTY * packed_bytes


def pass_by(stream: ByteStream, most_bytes: int | None = None) -> int:
    """Read that many bytes, or all there are; return how many there were."""
    scratch = memoryview(bytearray(CHUNK_BYTES))
    passed = 0
    while passed != most_bytes:
        left = len(scratch) if most_bytes is None else most_bytes - passed
        if not (got := stream.readinto(scratch[:left])):
            break
        passed += got
    return passed


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn whatever an archive module raises into `MemberError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise MemberError(
            f"{name}: the archive is not there ({error.filename}). {advice.ARCHIVE_FIRST}"
        ) from error
    except _DAMAGE as error:
        raise MemberError(f"{name}: damaged ({type(error).__name__}: {error}). {NEXT}") from error


class _Opened(contextlib.ExitStack):
    """The archives of a folder, each opened when it is asked for first."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        super().__init__()
        self._folder, self._most_bytes = folder, most_bytes
        self._archives: dict[str, _Archive] = {}
        self._files = self.enter_context(_Files())

    def __call__(self, member: Member) -> Stream:
        """Return a member's decompressed bytes, from its start."""
        name = str(member)
        with damage_named(name):
            if member.path:
                read = self._archive(member).find(member)
            else:
                read = self._files.reader(self._folder / member.archive)
        if member.facts is not None:
            read = held_against(member.facts, read, member)
        return Stream(name, readers.unpacked(read, name))

    def below(self, folder: Member) -> list[Member]:
        """Return every file below a folder of an archive, by the order of names."""
        begin = f"{folder.path}/" if folder.path else ""
        with damage_named(str(folder)):
            names = self._archive(folder).names()
        found = sorted({name for name in names if name.startswith(begin)})
        if not found:
            raise MemberError(
                f"{folder}: the archive has no file below this folder, only {len(names):,} others."
                f"{did_you_mean(folder.path, {name.rpartition('/')[0] for name in names})}"
            )
        for name in found:
            if {"", ".", ".."} & {*name.split("/")} or not name.isprintable():
                raise MemberError(
                    f"{folder}: {name!r:.200} is no plain path inside an archive. {NEXT}"
                )
        return [Member(folder.archive, name) for name in found]

    def _archive(self, member: Member) -> _Archive:
        name = member.archive
        if name not in self._archives:
            self._archives[name] = _kind(member)(self._folder / name, self._most_bytes)
            self.enter_context(self._archives[name])
        return self._archives[name]


class _Files(contextlib.ExitStack):
    """Archives that are their own one member, of which few are open however many are read.

    The one that was read longest ago is closed, and opened again where more of it is asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[object, BinaryIO] = {}
        self.callback(lambda: [file.close() for file in self._open.values()])

    def reader(self, path: Path) -> Read:
        key, at = object(), 0

        def read(most: int) -> bytes:
            nonlocal at
            file = self._open.pop(key, None)
            if file is None:
                if len(self._open) == _MOST_OPEN:
                    self._open.pop(next(iter(self._open))).close()
                file = path.open("rb")
                file.seek(at)
            self._open[key] = file  # behind those that were read before
            data = file.read(most)
            at += len(data)
            return data

        read(0)  # who opens what is not there is told now
        return read


class _Itself(contextlib.ExitStack):
    """An archive that is its own one member."""

    def __init__(self, path: Path, _most_bytes: int) -> None:
        super().__init__()
        self._read: Read = self.enter_context(path.open("rb")).read

    def each(self, wanted: Mapping[str, Member]) -> Iterator[tuple[str, Read]]:
        for path in wanted:
            yield path, self._read


class _Zip(contextlib.ExitStack):
    """A zip, whose members may be read side by side."""

    def __init__(self, path: Path, _most_bytes: int) -> None:
        super().__init__()
        self._zip = self.enter_context(zipfile.ZipFile(path))
        self._infos: dict[str, list[zipfile.ZipInfo]] = {}
        for info in self._zip.infolist():
            self._infos.setdefault(info.filename, []).append(info)
        self._begins = sorted(info.header_offset for info in self._zip.infolist())
        # Nobody closes a member, and there may be hundreds of thousands: what nobody reads is gone.
        self._read: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()
        self.callback(lambda: [file.close() for file in self._read])

    def names(self) -> list[str]:
        """Return the names of all that is no folder."""
        return [name for name in self._infos if not name.endswith("/")]

    def find(self, member: Member) -> Read:
        infos = self._infos.get(member.path, [])
        if len(infos) != 1:
            raise _not_once(member, len(infos), self._zip.namelist())
        [info] = infos
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the zip was made without Unix modes
        if info.is_dir() or kind not in (0, stat.S_IFREG):
            raise MemberError(f"{member}: expected a regular file, found a folder, link or device.")
        if info.flag_bits & 0x1:
            raise MemberError(f"{member}: the member is encrypted.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise MemberError(
                f"{member}: expected a stored or deflated member, found another method."
            )
        self._refuse_overlap(member, info)
        _hold_size(member, info.file_size)
        file = self._zip.open(info)
        self._read.add(file)
        return file.read

    def _refuse_overlap(self, member: Member, info: zipfile.ZipInfo) -> None:
        """Raise `MemberError` where another member begins before this one ends."""
        begin = info.header_offset
        end = begin + _ZIP_HEADER_BYTES + len(info.orig_filename) + info.compress_size
        first = bisect.bisect_left(self._begins, begin)
        if self._begins[first + 1 : first + 2] and self._begins[first + 1] < end:
            others = (other for other in self._zip.infolist() if other is not info)
            name = next(o.filename for o in others if begin <= o.header_offset < end)
            raise MemberError(f"{member}: it overlaps with {name!r} in the archive.")

    def each(self, wanted: Mapping[str, Member]) -> Iterator[tuple[str, Read]]:
        for path, member in wanted.items():
            yield path, self.find(member)


class _Tar(contextlib.ExitStack):
    """A tar that is not compressed: its headers are read, and then where a member lies."""

    def __init__(self, path: Path, _most_bytes: int) -> None:
        super().__init__()
        self._infos: dict[str, list[tarfile.TarInfo]] = {}
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(path.open("rb", buffering=0))
            for info in self._headers():
                self._infos.setdefault(info.name, []).append(info)
            self.push(stack.pop_all())

    def _headers(self) -> Iterator[tarfile.TarInfo]:
        file = self._file
        asked: Any = SimpleNamespace(read=self._header, seek=file.seek, tell=file.tell)
        with tarfile.open(fileobj=asked, mode="r:") as tar:
            at = 0
            while info := tar.next():
                if info.size < 0 or tar.offset <= at:  # older Pythons would go round in circles
                    name = Path(file.name).name
                    raise MemberError(f"{name}/{info.name}: it ends before it begins. {NEXT}")
                at = tar.offset
                yield info

    def _header(self, most: int) -> bytes:
        if not 0 <= most <= _TAR_HEADER_BYTES:
            raise MemberError(
                f"{Path(self._file.name).name}: a header of {most:,} bytes is promised, more than "
                f"the {_TAR_HEADER_BYTES:,} that one may have. {NEXT}"
            )
        return self._file.read(most)

    def names(self) -> list[str]:
        """Return the names of all that is no folder."""
        return [name for name, infos in self._infos.items() if not infos[0].isdir()]

    def find(self, member: Member) -> Read:
        infos = self._infos.get(member.path, [])
        if len(infos) != 1:
            raise _not_once(member, len(infos), [*self._infos])
        [info] = infos
        _hold_regular(member, info)
        at, end = info.offset_data, info.offset_data + info.size

        def read(most: int) -> bytes:
            nonlocal at
            self._file.seek(at)
            data = self._file.read(min(most, end - at))
            if not data and most and at < end:
                raise MemberError(f"{member}: {end - at:,} bytes of it are missing. {NEXT}")
            at += len(data)
            return data

        return read

    def each(self, wanted: Mapping[str, Member]) -> Iterator[tuple[str, Read]]:
        """Yield members in the order in which they lie here."""
        found = [(path, self.find(member)) for path, member in wanted.items()]
        yield from sorted(found, key=lambda one: self._infos[one[0]][0].offset_data)


class _PackedTar(contextlib.AbstractContextManager["_PackedTar"]):
    """A compressed tar, read as a stream: forward, and from the start again if need be."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._names: list[str] = []
        self._wanted: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._tar: tarfile.TarFile | None = None

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the archive; if all went well, see it to its end first."""
        with self._stack, damage_named(self._path.name):
            if kind is None and self._tar is not None:
                self._seek(())
                while self._read(CHUNK_BYTES):
                    pass  # to where the checksum is

    def names(self) -> list[str]:
        """Refuse: reading files in the order of names would decompress it again for each."""
        raise MemberError(
            f"{self._path.name}: the files of a compressed tar are not listed. Only those of a zip "
            "or a plain tar can be reached each without what lies before it."
        )

    def find(self, member: Member) -> Read:
        self._wanted.add(member.path)
        info = self._seek({member.path})
        if info is None:
            self._start()
            info = self._seek({member.path})
        return self._extracted(member, info)

    def each(self, wanted: Mapping[str, Member]) -> Iterator[tuple[str, Read]]:
        """Yield members in the order in which they lie here."""
        self._wanted |= wanted.keys()
        left = dict(wanted)
        self._start()
        while left:
            info = self._seek(left)
            member = left.pop(info.name) if info else next(iter(left.values()))
            yield member.path, self._extracted(member, info)

    def _extracted(self, member: Member, info: tarfile.TarInfo | None) -> Read:
        if info is None or self._tar is None:
            raise _not_once(member, 0, self._names)
        _hold_regular(member, info)
        file = self._tar.extractfile(info)
        return cast("BinaryIO", file).read  # it is None for irregular members only

    def _seek(self, paths: Collection[str]) -> tarfile.TarInfo | None:
        while self._tar is not None and (info := self._tar.next()):
            if info.name in self._wanted and info.name in self._names:
                raise MemberError(f"{self._path.name}/{info.name}: the archive holds it twice.")
            self._names.append(info.name)
            if info.name in paths:
                return info
        return None

    def _start(self) -> None:
        """Open the archive, from the start."""
        self._stack.close()
        self._names.clear()
        name, most = self._path.name, most_out(self._most_bytes, self._path.stat().st_size)
        file = self._stack.enter_context(self._path.open("rb"))
        read = PACKED[".gz" if name.endswith(".tgz") else self._path.suffix](file.read, name)
        too_much = f"{name}: more than {most:,} bytes come out, far more than is declared."
        self._read = at_most(read, most, MemberError(too_much))
        self._tar = self._stack.enter_context(as_tar(self._read))


_Archive = _Zip | _Tar | _PackedTar

# How an archive's name ends, and what reads it.
_KINDS: dict[str, type[_Archive]] = {
    ".zip": _Zip,
    ".npz": _Zip,
    ".tar": _Tar,
    ".tgz": _PackedTar,
    **{f".tar{end}": _PackedTar for end in PACKED},
}


def _kind(member: Member) -> type[_Archive]:
    for end, kind in _KINDS.items():
        if member.archive.endswith(end):
            return kind
    raise MemberError(f"{member}: {member.archive} is neither a zip nor a tar.")


def _hold_regular(member: Member, info: tarfile.TarInfo) -> None:
    is_whole = not info.issparse() and info.size >= 0
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not is_whole:
        raise MemberError(
            f"{member}: expected a regular file, found a folder, link, device, or one with holes."
        )
    _hold_size(member, info.size)


def _hold_size(member: Member, found: int) -> None:
    if member.facts is not None and found != member.facts.size_bytes:
        raise MemberError(
            f"{member}: {member.facts.size_bytes:,} bytes are declared, but the archive says "
            f"it has {found:,}."
        )


def _not_once(member: Member, times: int, names: list[str]) -> MemberError:
    if times:
        return MemberError(f"{member}: the archive holds {times} members of this name.")
    return MemberError(
        f"{member}: the archive has no such member, only {len(names)} others."
        f"{did_you_mean(member.path, names)}"
    )
