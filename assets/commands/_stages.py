"""The stages that can be asked for by name (`--only`), and what each of them makes."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.errors import UnknownName, did_you_mean

STAGES = {
    "archives": ["archives"],
    "tables": ["tables"],
    "statistics": ["statistics"],
    "exports": ["csv", "lmdb"],
    "croissant": ["croissant"],
    "csv": ["csv"],
    "lmdb": ["lmdb"],
}


def named(names: Sequence[str]) -> list[str]:
    """Return the stages that some names stand for; all, where there is none.

    Raises:
        UnknownName: there is no such stage.
    """
    for name in names:
        if name not in STAGES:
            raise UnknownName(
                f"There is no stage {name!r}.{did_you_mean(name, STAGES)} Known: "
                f"{', '.join(STAGES)}."
            )
    return [stage for name in names or STAGES for stage in STAGES[name]]
