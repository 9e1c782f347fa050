"""Statistics: what is counted in tables, and what must hold of tables and statistics.

Records are added up in `sums`, which `figures` turns into a file of statistics; `duplicates` finds
records with the same pixels, by their `fingerprints`; `expectations` says what must hold. Not here:
reading archives, or showing what was found. A new figure is a column in `figures`, and raises its
`CODE_VERSION`.
"""

from .figures import (
    CODE_VERSION,
    COLUMNS,
    arrow_schema,
    artefact,
    counts,
    counts_as_markdown,
    counts_as_rows,
    made_from,
    rows,
    write,
    write_of_parts,
)
from .sums import Counters, Sums, add, nothing, nothing_of, summarise

__all__ = [
    "CODE_VERSION",
    "COLUMNS",
    "Counters",
    "Sums",
    "add",
    "arrow_schema",
    "artefact",
    "counts",
    "counts_as_markdown",
    "counts_as_rows",
    "made_from",
    "nothing",
    "nothing_of",
    "rows",
    "summarise",
    "write",
    "write_of_parts",
]
