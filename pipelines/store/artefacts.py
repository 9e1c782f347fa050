"""Artefacts: what shall be made, and all that decides its bytes.

Not here: what is known of one that was made (`provenance`), or whether there is anything to do
(`state`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ..declarations import MD5, SHA256

Format = Literal["imagesets-lineage/1", "imagesets-lineage/2"]
"""Of provenance. /1 is written wherever it suffices, so that older versions can read it."""

LIBRARIES = ("pyarrow", "polars", "numpy", "isal", "lmdb", "dagster")
_PLACES_1 = ("archives/", "tables/", "statistics/", "exports/", "lineage/")  # that /1 may speak of

Facts = Mapping[str, Any]
"""What making an artefact found out, in JSON's types: records, where an archive came from, …"""

Size = Annotated[int, Field(ge=0, lt=1 << 63)]
NO_MORE = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Input:
    """Something that an artefact is made from.

    path: relative to the data folder; of an archive, the place that its bytes came from.
    sha256: None while it does not exist. size_bytes, md5: None where they are not known.
    """

    __pydantic_config__ = NO_MORE

    path: str
    sha256: SHA256 | None
    size_bytes: Size | None = None
    md5: MD5 | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file or folder in a store, and all that decides its bytes.

    path: relative to the data folder.
    stage, code_version: what makes it, and the version of that code.
    parameters: declared facts and options that its bytes depend on, in JSON's types.
    sidecar: path of the file that says what went in, for formats that have no room for it.
    sha256: what its bytes must hash to, where that is declared.
    is_folder: whether it is a folder, of which every file counts.
    libraries: whose versions its provenance tells; they are never a reason to make it again.
    """

    path: str
    stage: str
    code_version: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...] = ()
    sidecar: str | None = None
    sha256: str | None = None
    is_folder: bool = False
    libraries: tuple[str, ...] = LIBRARIES

    @property
    def format(self) -> Format:
        """The oldest format that can tell how it was made."""
        is_old = self.path.startswith(_PLACES_1) and self.libraries == LIBRARIES
        return "imagesets-lineage/1" if is_old and not self.is_folder else "imagesets-lineage/2"
