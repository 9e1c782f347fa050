"""Where everything lies, and what is known of it: the data folder, provenance, what was seen.

`Store` says what must be possible where artefacts are kept; a `Folder` and a `Bucket` (of an object
store) are such places, and another kind is another module beside them. `layout` names the places in
it, `writing` is the only writer, `hashing` reads SHA-256, `seen` keeps that between processes.
`artefacts` says what shall be made, `provenance` what is known of one that was; `state` decides by
them whether there is anything to do, and `making` does it. Not here: what files contain.
"""

from typing import TYPE_CHECKING

from ..lazily import found_in

if TYPE_CHECKING:
    from .artefacts import Artefact, Facts, Input
    from .bucket import Bucket
    from .folder import Folder
    from .provenance import Provenance
    from .store import Store

__all__ = ["Artefact", "Bucket", "Facts", "Folder", "Input", "Provenance", "Store"]

# Some of it is needed to read a table, where nobody waits for pydantic.
_IN_ARTEFACTS = dict.fromkeys(("Artefact", "Facts", "Input"), "artefacts")
_IN_OTHERS = {"Bucket": "bucket", "Folder": "folder", "Provenance": "provenance", "Store": "store"}

__getattr__ = found_in(__name__, _IN_ARTEFACTS | _IN_OTHERS)
