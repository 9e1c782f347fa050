"""Sweeping: removes from a bucket what no provenance names.

A writer that was killed left it, or it was replaced. What was written or replaced lately stays:
somebody may be about to name it, or still be reading it. Not here: keeping anything (`bucket`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from . import layout, provenance
from .bucket import AT_ONCE, Bucket, artefact_of, identity_of, stored
from .hashing import Identity
from .provenance import Provenance

_NAMED_BY_CONTENT = re.compile(r".+?\.[0-9a-f]{16}(?:\.[^./]+)?(?=/|$)")


def unnamed(bucket: Bucket, before_s: float) -> dict[str, Identity]:
    """Return path → what tells of it, of objects that nothing names and that are of before a time.

    Provenance that was replaced since then names its objects still.

    Raises:
        MadeByNewer: what some provenance names can only be told by a newer Imagesets.
        StorageError: the store can't be reached.
    """
    everything = dict(bucket.objects.below(""))  # before provenance: what comes later is not it
    is_old = {
        path: meta["last_modified"].timestamp() < before_s for path, meta in everything.items()
    }

    def load(path: str) -> Provenance | None:
        past, name = f"{layout.past_lineages()}/", artefact_of(path)
        if path.startswith(past):
            name = path.removeprefix(past).rpartition("/")[0]
            return None if is_old[path] else provenance.load(bucket, name, path)
        return provenance.load(bucket, name) if name.startswith(layout.ARTEFACTS) else None

    said = [path for path in everything if path.startswith(f"{layout.LINEAGE}/")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        named = {key for known in pool.map(load, said) if known for key in _keys(known)}
    return {
        path: identity_of(meta)
        for path, meta in everything.items()
        if path.startswith(layout.ARTEFACTS)
        and is_old[path]
        and _NAMED_BY_CONTENT.match(path)
        and path not in named
    }


def _keys(known: Provenance) -> Iterator[str]:
    key = stored(known.path, known.sha256)
    yield from [key] if known.files is None else (f"{key}/{file.path}" for file in known.files)


def remove(bucket: Bucket, path: str, found: Identity) -> bool:
    """Remove an object that nothing named, unless it was written again; return whether it was.

    Whoever wants to name it writes it again first, and that moves its time.
    """
    with contextlib.suppress(FileNotFoundError):
        if identity_of(bucket.objects.head(path)) == found:
            bucket.forget(path)
            return True
    return False
