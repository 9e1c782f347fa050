"""Tables: a split as one Parquet file, one row per record, and back as numpy or Arrow.

`about` describes a table's columns and metadata, `writing` makes one, `pipelines.reading` reads it,
and `comparing` holds it against decoded records. Not here: where records come
from (`pipelines.formats`), what is computed from them (`pipelines.statistics`). What changes the
bytes of a table raises `CODE_VERSION`.
"""

from ..reading import (
    BATCH_BYTES,
    BATCH_RECORDS,
    METADATA_KEY,
    Info,
    batch_records,
    batches,
    info,
    labels,
    read,
    to_arrow,
)
from .about import (
    CODE_VERSION,
    COLUMNS,
    COMPRESSION_LEVEL,
    arrow_schema,
    artefact,
    code_version,
    declared,
    description,
    meaning,
)
from .comparing import Comparison
from .writing import UNDECLARED_BYTES, decoded, most_bytes, write

__all__ = [
    "BATCH_BYTES",
    "BATCH_RECORDS",
    "CODE_VERSION",
    "COLUMNS",
    "COMPRESSION_LEVEL",
    "METADATA_KEY",
    "UNDECLARED_BYTES",
    "Comparison",
    "Info",
    "arrow_schema",
    "artefact",
    "batch_records",
    "batches",
    "code_version",
    "declared",
    "decoded",
    "description",
    "info",
    "labels",
    "meaning",
    "most_bytes",
    "read",
    "to_arrow",
    "write",
]
