"""The folder of a person's cache. Not here: what is kept there (`seen`, `pipelines.api.place`)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from .. import advice
from ..errors import StorageError
from . import writing


def folder() -> Path:
    """Return the cache of whoever runs this; without a home, one in the system's temporary folder.

    There it may not last.

    Raises:
        StorageError: that can't be made, or somebody else has made it.
    """
    try:
        found = platformdirs.user_cache_path("imagesets")
        if found.is_absolute():  # older platformdirs give ~/.cache as it is
            return found
    except RuntimeError:  # nobody knows this user
        pass
    found = Path(tempfile.gettempdir()) / f"imagesets-{os.getuid()}"
    with writing.storage_errors(found):
        found.mkdir(mode=0o700, exist_ok=True)
    if found.lstat().st_uid != os.getuid():
        raise StorageError(
            f"{found} belongs to somebody else, and would be the cache of a user without a home. "
            f"Set HOME, or {advice.ELSEWHERE}."
        )
    return found
