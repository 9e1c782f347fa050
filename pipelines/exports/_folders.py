"""Folders that the catalogue names inside an export, where readers look for them.

Not here: which names they are, or the export's own folder (`products.Product.files`).
"""

from __future__ import annotations

from pathlib import Path

from ..errors import CatalogueError


def within(goal: Path, named: str) -> Path:
    """Return a new folder inside an export; the export itself where no other is named.

    Raises:
        CatalogueError: the name leads out of it.
    """
    parts = named.split("/") if named else []
    if {"", ".", ".."} & {*parts} or "\\" in named:
        raise CatalogueError(
            f"{goal.name}: {named!r} is no plain path inside an export. Mend it in the catalogue, "
            "where it says what readers insist on."
        )
    folder = goal.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
