"""What a declaration lacks of an archive, as it was measured: to be recorded, and to be pasted.

A publisher's file may be declared with one hash alone. Once it came, and that hash was right, all
else is known of it. Not here: measuring (`recognition`), or counting records.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advice
from ..declarations import Archive, Source
from ..store import Input, Provenance
from .recognition import Digests


def lacking(archive: Archive) -> list[str]:
    """Return what is not declared of an archive: of `bytes`, `md5` and `sha256`."""
    return [key for key in ("bytes", "md5", "sha256") if key not in archive.declared]


def missing(archive: Archive, found: Digests) -> list[str]:
    """Return what is not declared of an archive that measures so, as lines of TOML."""
    facts = {
        "bytes": f"{found.size_bytes:_}",
        "md5": f'"{found.md5}"',
        "sha256": f'"{found.sha256}"',
    }
    return [f"{key} = {facts[key]}" for key in lacking(archive)]


def measured(made_from: Input, known: Provenance | None) -> Input:
    """Return an archive as an input, with what its provenance knows and the catalogue does not."""
    if known is None:
        return made_from
    return replace(
        made_from,
        sha256=made_from.sha256 or known.sha256,
        size_bytes=known.size_bytes if made_from.size_bytes is None else made_from.size_bytes,
        md5=made_from.md5 or _md5(known),
    )


def told(source: Source, archive: Archive, known: Provenance) -> str:
    """Return one line that says what to declare of an archive that came; "" where nothing lacks."""
    found = Digests(known.size_bytes, _md5(known) or "", known.sha256)
    if not (lines := missing(archive, found)):
        return ""
    how = advice.pin(source.name)
    return f'{source.file}: [archives."{archive.name}"] {", ".join(lines)} (measured{how})'


def _md5(known: Provenance) -> str | None:
    """Return the MD5 of an archive, as it was measured when it came."""
    return known.inputs[0].md5 if known.inputs else None
