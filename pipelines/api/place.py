"""Where the library keeps its data, and where it reads what there is: a person's cache.

    IMAGESETS_DATA        the data folder, laid out as a deployment's, and shared with one
    IMAGESETS_CATALOGUE   a folder of TOML declarations, instead of the built-in one

Not here: how archives are fetched (`making`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..store import cache, objects
from ..store.folder import Folder

if TYPE_CHECKING:
    from ..store import Store

_BESIDE = Path(__file__).resolve().parent.parent
_BUILT_IN = (_BESIDE / "sources", _BESIDE.parent / "assets" / "catalogue")  # wheel, checkout


def store() -> Store:
    """Return where the data lie: `IMAGESETS_DATA`, or `imagesets/data` in the person's cache.

    `IMAGESETS_DATA` may be the address of an object store (`s3://bucket/prefix`); what is read of
    it is kept in `IMAGESETS_SCRATCH`, or in the cache.

    Raises:
        StorageError: there is no such folder, and somebody else's where it might be; or an object
            store, and what reads it is not installed.
    """
    if named := os.environ.get("IMAGESETS_DATA"):
        if objects.is_address(named):
            from ..store import bucket

            scratch = os.environ.get("IMAGESETS_SCRATCH")
            here = Path(scratch).expanduser().absolute() if scratch else objects.scratch_of(named)
            return bucket.opened(named, here)
        return Folder(Path(named).expanduser().absolute())
    return Folder(cache.folder() / "data")


def catalogue() -> Path:
    """Return the folder of declarations: `IMAGESETS_CATALOGUE`, or the built-in one."""
    if named := os.environ.get("IMAGESETS_CATALOGUE"):
        return Path(named).expanduser().absolute()
    return next((folder for folder in _BUILT_IN if folder.is_dir()), _BUILT_IN[0])


def declarations() -> str:
    """Return the SHA-256 of all declarations: what was decided by them holds while it stands."""
    digest = hashlib.sha256()
    for path in sorted(catalogue().glob("*.toml")):
        digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
