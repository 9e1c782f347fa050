"""Is a file the archive that is declared? If not, what is it instead?

A file is right when its size and hashes are those of the catalogue, as far as they are declared;
one of the hashes is, always. Not here: where files come from. Another kind of file that turns up in
an archive's place is a row of `_MAGIC`, or a sentence in `_looks`.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..declarations import HASHES, Archive
from ..errors import WrongBytes, WrongHash
from ..store import hashing

HEAD_BYTES = 4096  # of a file's start: enough to say what it is instead

Identify = Callable[[str], str | None]
"""MD5 → what else has it: `source/file` of the catalogue, or a release that was superseded."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x93NUMPY": "NPY",
    b"\x00\x00\x08": "unpacked IDX",
}
_SUFFIXES = {".gz": "gzip", ".tgz": "gzip", ".zip": "zip", ".npz": "zip"}
_SUFFIXES |= {".bz2": "bzip2", ".xz": "xz"}


def unknown(_md5: str) -> None:
    """Be an `Identify` that knows nothing."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What is measured of a file to know it."""

    size_bytes: int
    md5: str
    sha256: str
    git_blob: str | None = None  # where the catalogue asks for it


def is_declared(found: Digests, archive: Archive) -> bool:
    """Whether a file that measures so is the archive, as far as that is declared."""
    measured = {"bytes": found.size_bytes, "md5": found.md5, "sha256": found.sha256}
    measured["git_blob"] = found.git_blob
    return bool(archive.hashes) and archive.declared.items() <= measured.items()


def verify(path: Path, archive: Archive, identify: Identify = unknown) -> Digests:
    """Hold a local file against its declaration, MD5 and SHA-256 side by side; return both.

    Raises:
        WrongBytes: saying what the file is instead; `WrongHash` where its length is the declared.
    """
    with path.open("rb") as file, ThreadPoolExecutor(1) as pool:
        sha256 = pool.submit(hashing.sha256, path)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        git_blob = hashing.git_blob(file) if archive.git_blob else None
    found = Digests(path.stat().st_size, md5, sha256.result(), git_blob)
    require_declared(found, archive, head, identify)
    return found


def require_declared(found: Digests, archive: Archive, head: bytes, identify: Identify) -> None:
    """Raise `WrongBytes` unless a file that measures so and begins so is the one declared."""
    if is_declared(found, archive):
        return
    size, first = archive.size_bytes, next(iter(archive.hashes))
    name, wanted, has = HASHES[first], archive.hashes[first], getattr(found, first)
    if has != wanted:
        is_cut = size is not None and found.size_bytes < size
        damage = (
            ": cut short, or another file" if is_cut else ": damaged on the way, or another file"
        )
        kind = WrongHash if found.size_bytes == size else WrongBytes
        bytes_with = "" if size is None else f"{size:,} bytes with "
        raise kind(
            f"{found.size_bytes:,} bytes with {name} {has}, but the catalogue declares "
            f"{bytes_with}{name} {wanted}{instead(found.md5, head, archive, identify) or damage}."
        )
    others = {key: fact for key, fact in archive.hashes.items() if getattr(found, key) != fact}
    differs = "not the size"
    for key, fact in others.items():
        differs = f"{HASHES[key]} is {getattr(found, key)} where the catalogue declares {fact}"
    declared = "" if size is None else f", {size:,} declared"
    raise WrongHash(
        f"the {name} is the declared one, but {differs} ({found.size_bytes:,} bytes{declared}): "
        "a forgery, or a slip in the catalogue.",
        md5_is_right=True,
    )


def instead(md5: str, head: bytes, archive: Archive, identify: Identify) -> str:
    """Return a clause that says what a wrong file is, or nothing where that can't be known."""
    if other := identify(md5):
        return f". Those bytes are {other}"
    return unlike(archive.name, head) if _expected(archive.name) else _looks(head)


def is_called(name: str, kind: str) -> bool:
    """Whether a file of this name is of a kind, `gzip` for example."""
    return _expected(name) == kind


def _expected(name: str) -> str | None:
    """Return what a file of this name is, where its name says so."""
    return _SUFFIXES.get(Path(name).suffix)


def unlike(name: str, head: bytes) -> str:
    """Return a clause that says why first bytes can't be those of a file called `name`.

    Nothing where they may be.
    """
    expected = _expected(name)
    if expected is None or any(
        kind == expected and head[: len(magic)] == magic[: max(len(head), 1)]
        for magic, kind in _MAGIC.items()
    ):
        return ""
    return _looks(head) or f": no {expected} file begins with {head[:4].hex()}"


def _looks(head: bytes) -> str:
    """Return a clause that says what the first bytes look like, or nothing."""
    if not head:
        return ": nothing arrived"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        title = re.search(rb"<title[^>]*>(.*?)</title", head, re.IGNORECASE | re.DOTALL)
        text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
        return ": an HTML page" + (f" titled {' '.join(text.split())!r}" if text else "")
    if start.startswith((b"<?xml", b"<error", b"{", b"[")):
        text = " ".join(head[:200].decode("utf-8", "replace").split())
        return f": an error document, {text!r}"
    kinds = [kind for magic, kind in _MAGIC.items() if head.startswith(magic)]
    return f". They look like {kinds[0]}" if kinds else ""
