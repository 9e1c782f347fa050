"""Which datasets a command is about, and what is said where nothing of them was ever made."""

from __future__ import annotations

from collections.abc import Sequence

from assets.settings import Settings
from pipelines.declarations import Catalogue, Dataset
from pipelines.errors import TableError


def selected(declared: Catalogue, names: Sequence[str]) -> Sequence[Dataset]:
    """Return the datasets of some names, of datasets or of sources; all, where there is none."""
    return declared.select(names) if names else tuple(declared.datasets.values())


def not_built(settings: Settings, names: Sequence[str]) -> TableError:
    """Return the refusal to tell of what was never made."""
    what = f"of {', '.join(names)} " if names else ""
    run = " ".join(["python -m assets build", *names])
    return TableError(f"Nothing {what}is built in {settings.data} yet. Run: {run}")
