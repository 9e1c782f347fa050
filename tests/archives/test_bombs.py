"""Decompression bombs: a gibibyte out of a megabyte is refused quickly, and in little memory."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import builders
from tests.waiting import within

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
STATUS = Path("/proc/self/status")  # where Linux tells the peak of a process's memory
GIB = 1 << 30
DECLARED_BYTES = 1000  # what the catalogue wants of the member


def gz_of_zeros() -> bytes:
    """A gibibyte of zeros as one gzip stream."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        for _ in range(GIB >> 20):
            packed.write(bytes(1 << 20))
    return file.getvalue()


def zip_of_zeros(_bomb: bytes) -> bytes:
    """A gibibyte of zeros as a deflated member."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("member", "w") as member,
    ):
        for _ in range(GIB >> 20):
            member.write(bytes(1 << 20))
    return file.getvalue()


def packed_zeros(packer: bz2.BZ2Compressor | lzma.LZMACompressor, head: bytes = b"") -> bytes:
    """A gibibyte of zeros as one stream, behind a head."""
    packed = [packer.compress(head)]
    packed += [packer.compress(bytes(1 << 20)) for _ in range(GIB >> 20)]
    return b"".join([*packed, packer.flush()])


def xz_of_zeros(head: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda _bomb: packed_zeros(lzma.LZMACompressor(preset=0), head)


def bz2_of_zeros(_bomb: bytes) -> bytes:
    return packed_zeros(bz2.BZ2Compressor(1))


def tar_header(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member of a gibibyte."""
    info = tarfile.TarInfo(name)
    info.size, info.type = GIB, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def tar_of_zeros(header: bytes) -> Callable[[bytes], bytes]:
    """A tar.gz that begins with a header, put before the zeros in their gzip stream."""

    def archive(bomb: bytes) -> bytes:
        return bomb[:10] + _deflated(header) + bomb[10:]

    return archive


def _deflated(data: bytes) -> bytes:
    """Data as a block of deflate that is stored, and is not the last."""
    size = len(data)
    return b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


# What → (archive, member, the archive's bytes made of gzipped zeros).
BOMBS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "gzip": ("a.gz", "", lambda bomb: bomb),
    "gzip in zip": ("a.zip", "member.gz", lambda bomb: builders.zipped({"member.gz": bomb})),
    "gzip in tar": ("a.tar.gz", "member.gz", lambda bomb: builders.tarred({"member.gz": bomb})),
    "gzip in gzip": ("a.gz", "", builders.gz),
    "zip": ("a.zip", "member", zip_of_zeros),
    "tar": ("a.tar.gz", "member", tar_of_zeros(tar_header("member"))),
    "another member of tar": ("a.tar.gz", "member", tar_of_zeros(tar_header("README"))),
    "long name in tar": (
        "a.tar.gz",
        "member",
        tar_of_zeros(tar_header("name", tarfile.GNUTYPE_LONGNAME)),
    ),
    "pax header in tar": ("a.tar.gz", "member", tar_of_zeros(tar_header("name", tarfile.XHDTYPE))),
    "tar without end": ("a.tar.gz", "member", lambda bomb: bomb),
    "xz": ("a.xz", "", xz_of_zeros()),
    "bzip2": ("a.bz2", "", bz2_of_zeros),
    "another member of tar.xz": ("a.tar.xz", "member", xz_of_zeros(tar_header("README"))),
    "tar.xz of zeros": ("a.tar.xz", "member", xz_of_zeros()),
}

# Reads a member as the formats do, in a process of its own. Says as JSON what was raised, how long
# it took, and by how much the peak of the memory grew.
MEASURED = """
import json, sys, time
from pathlib import Path

import numpy as np

from pipelines.archives import members
from pipelines.declarations import Member
from pipelines.errors import ImagesetsError
from pipelines.formats._bytes import expect_end, fill

def peak_bytes():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10

folder, archive, path, declared = sys.argv[1:]
before, start, raised = peak_bytes(), time.perf_counter(), None
try:
    with members.opened(Path(folder), most_bytes=64 << 20) as open_member:
        stream = open_member(Member(archive, path))
        fill(stream, np.empty(int(declared), np.uint8), "declared")
        expect_end(stream, "declared")
except ImagesetsError as error:
    raised = str(error)
print(json.dumps([raised, time.perf_counter() - start, peak_bytes() - before]))
"""


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gz_of_zeros()


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell the peak of memory")
@pytest.mark.parametrize(("archive", "path", "made"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_quickly_and_in_little_memory(
    archive: str, path: str, made: Callable[[bytes], bytes], bomb: bytes, tmp_path: Path
) -> None:
    data = made(bomb)
    assert len(data) < GIB / 100
    (tmp_path / archive).write_bytes(data)

    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), archive, path, str(DECLARED_BYTES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    raised, seconds, grown_bytes = json.loads(done.stdout)
    assert raised is not None, "it was read as if it were right"
    assert archive in raised
    assert seconds < within(2)
    assert grown_bytes < 200e6
