"""Statistics: what is counted and judged."""

from .figures import (
    CODE_VERSION,
    COLUMNS,
    Counters,
    Sums,
    add,
    arrow_schema,
    artefact,
    counts,
    counts_as_text,
    nothing,
    rows,
    summarise,
    write,
)

__all__ = [
    "CODE_VERSION",
    "COLUMNS",
    "Counters",
    "Sums",
    "add",
    "arrow_schema",
    "artefact",
    "counts",
    "counts_as_text",
    "nothing",
    "rows",
    "summarise",
    "write",
]
