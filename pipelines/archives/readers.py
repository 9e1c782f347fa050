"""Readers: functions like a file's `read`, wrapped to limit, unpack or check what passes.

A wrapper takes a `Read` and returns one; another rule for bytes that pass is another wrapper.
Not here: opening files or archives.
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import lzma
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

from isal import isal_zlib

from .. import advice
from ..declarations import Member, MemberFacts
from ..errors import ArchiveError, MemberError

Read = Callable[[int], bytes]  # as in io: at most that many bytes, none only at the end

CHUNK_BYTES = 1 << 18
GZIP = b"\x1f\x8b"  # how every gzip stream begins
MOST_XZ_BYTES = 128 << 20  # of memory: xz's presets need 65 MiB at most
_PIECE_BYTES = 1 << 14  # given at a time: what follows a stream is copied for each that ends in it

# An archive is fetched again only when its bytes are not the declared ones; to delete it would
# bring the same ones back.
NEXT = (
    f"`{advice.VERIFY}` says whether the archive is as declared. If it is, its publisher "
    "made it so, or the catalogue names the wrong member, format or hashes."
)


def at_most(read: Read, most_bytes: int, refusal: ArchiveError) -> Read:
    """Return a reader that raises a refusal when more bytes come than can be wanted."""
    left = most_bytes

    def read_some(most: int) -> bytes:
        nonlocal left
        data = read(most)
        left -= len(data)
        if left < 0:
            raise refusal
        return data

    return read_some


def as_tar(read: Read) -> tarfile.TarFile:
    """Open a tar whose bytes a reader gives; they are read in order, and once."""
    stream: Any = SimpleNamespace(read=read)  # all that tarfile asks of a stream
    return tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK_BYTES)


def held_against(facts: MemberFacts, read: Read, member: Member) -> Read:
    """Return a reader that holds the bytes against the member's declared size and SHA-256."""
    digest, size = hashlib.sha256(), 0

    def read_known(most: int) -> bytes:
        nonlocal size
        data = read(most)
        digest.update(data)
        size += len(data)
        if size > facts.size_bytes or (not data and size < facts.size_bytes):
            raise MemberError(
                f"{member}: {facts.size_bytes:,} bytes are declared, but it has "
                f"{'more' if data else f'{size:,}'}."
            )
        if not data and digest.hexdigest() != facts.sha256:
            raise MemberError(
                f"{member}: SHA-256 {facts.sha256} is declared, but it has {digest.hexdigest()}."
            )
        return data

    return read_known


def gunzipped(read: Read, name: str) -> Read:
    """Return a reader of one gzip stream, which must end where the file ends."""
    inflate = isal_zlib.decompressobj(wbits=31)

    def read_inflated(most: int) -> bytes:
        while not inflate.eof:
            compressed = inflate.unconsumed_tail or read(CHUNK_BYTES)
            if not compressed:
                raise MemberError(f"{name}: the gzip stream is cut short. {NEXT}")
            if data := inflate.decompress(compressed, most):
                return bytes(data)
        after = inflate.unused_data
        while len(after) < len(GZIP) and (more := read(len(GZIP) - len(after))):
            after += more
        if after:
            raise MemberError(_more_than_one_stream(name, after))
        return b""

    return read_inflated


@dataclass(frozen=True, slots=True)
class _Packing:
    """How bzip2 and xz pack: streams one after the other, as their own tools read them.

    begin: gives a decompressor of one stream.
    magic: how every stream begins.
    padding: how many zeros, or a multiple of that, may follow a stream.
    """

    name: str
    begin: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    magic: bytes
    padding: int = 0


_BZIP2 = _Packing("bzip2", bz2.BZ2Decompressor, b"BZh")
_XZ = _Packing(  # its file format, section 2.2: padding is of four bytes each
    "xz",
    functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, MOST_XZ_BYTES),
    b"\xfd7zXZ\0",
    padding=4,
)


def _unpacked(packing: _Packing, read: Read, name: str) -> Read:
    """Return a reader of one or several streams, of which the last must end where the file ends."""
    inflate, given = packing.begin(), b""

    def read_inflated(most: int) -> bytes:
        nonlocal inflate, given
        while True:
            while not inflate.eof:
                if inflate.needs_input and not (given := given or read(_PIECE_BYTES)):
                    raise MemberError(f"{name}: the {packing.name} stream is cut short. {NEXT}")
                data, given = inflate.decompress(given, most), b""
                if data:
                    return data
            if not (given := _next_stream(packing, inflate.unused_data, read, name)):
                return b""
            inflate = packing.begin()

    return read_inflated


def _next_stream(packing: _Packing, after: bytes, read: Read, name: str) -> bytes:
    """Return the bytes that another stream begins with, or none at the end of the file."""
    padded, magic = 0, packing.magic
    while True:
        while len(after) < len(magic) and (more := read(_PIECE_BYTES)):
            after += more
        zeros = len(after) - len(after.lstrip(b"\0")) if packing.padding else 0
        padded, after = padded + zeros, after[zeros:]
        if not zeros or len(after) >= len(magic):
            break
    if (padded and padded % packing.padding) or not magic.startswith(after[: len(magic)]):
        begin = (bytes(min(padded, 2)) + after)[:2]
        raise MemberError(
            f"{name}: there are bytes after the end of the {packing.name} stream: they begin "
            f"{begin.hex()}. The catalogue can't declare what is no part of the member. {NEXT}"
        )
    return after


PACKED: Mapping[str, Callable[[Read, str], Read]] = {
    ".gz": gunzipped,
    ".bz2": functools.partial(_unpacked, _BZIP2),
    ".xz": functools.partial(_unpacked, _XZ),
}
"""How a file's name ends that is packed → what unpacks it: (reader, name for errors) → reader."""


def is_packed(name: str) -> bool:
    """Whether a file of this name is packed on its own."""
    return PurePosixPath(name).suffix in PACKED


def unpacked(read: Read, name: str) -> Read:
    """Return a reader of what is packed in a file of this name, or of the file if nothing is."""
    return PACKED[PurePosixPath(name).suffix](read, name) if is_packed(name) else read


def _more_than_one_stream(name: str, after: bytes) -> str:
    """Return what is wrong with a gzip file in which something follows the first stream."""
    found = f"{name}: there are bytes after the end of the gzip stream"
    if after.startswith(GZIP):
        return (
            f"{found}: another gzip stream. Only files of one stream are read. If all of them "
            "belong to the member, pack it as one (gzip -dc OLD | gzip -n > NEW), and declare the "
            "new file's size and hashes."
        )
    kind = "zeros, as padding has them" if not after.strip(b"\0") else f"they begin {after.hex()}"
    return (
        f"{found}: {kind}. The catalogue can't declare what is no part of the member. {NEXT} A "
        "file without them (gzip -dc OLD | gzip -n > NEW) can be declared instead."
    )
