"""Reading tables: whole into numpy, streamed by row group, or as Arrow; numpy and pyarrow suffice.

`opening` holds a file against what it says of itself, `rows` reads records, their pixels by
`pages`, and a split that comes in parts by its manifest (`parts`). Not here: what tables
are made of and how (`pipelines.tables`).
"""

from .opening import (
    BATCH_BYTES,
    BATCH_RECORDS,
    METADATA_KEY,
    Info,
    batch_records,
    opened,
    types,
)
from .parts import Whole, info, is_whole, whole
from .rows import batches, labels, numbers, read, tables, to_arrow

__all__ = [
    "BATCH_BYTES",
    "BATCH_RECORDS",
    "METADATA_KEY",
    "Info",
    "Whole",
    "batch_records",
    "batches",
    "info",
    "is_whole",
    "labels",
    "numbers",
    "opened",
    "read",
    "tables",
    "to_arrow",
    "types",
    "whole",
]
