"""Readers: functions like a file's `read`, wrapped to limit, unpack or check what passes.

A wrapper takes a `Read` and returns one; another rule for bytes that pass is another wrapper.
Not here: opening files or archives.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from isal import isal_zlib

from .. import advice
from ..declarations import Member, MemberFacts
from ..errors import ArchiveError, MemberError

Read = Callable[[int], bytes]  # as in io: at most that many bytes, none only at the end

CHUNK_BYTES = 1 << 18
GZIP = b"\x1f\x8b"  # how every gzip stream begins

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
