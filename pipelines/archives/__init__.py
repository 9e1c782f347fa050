"""The publisher's files: found, fetched, verified, and read inside.

Not here: decoding what members hold (`pipelines.formats`), deciding whether an archive is still as
it was when it was verified (`pipelines.store`).

A new kind of place to fetch from is two branches in `addresses`: how its bytes are read, and what
it says of a file without giving it. A new kind of archive is a class in `members`. Each module uses
those before it:

    recognition, readers → growing, packages, members → addresses, web → resuming, probes → fetching
"""

from .addresses import mirror_of, places
from .fetching import ALREADY_THERE, CODE_VERSION, Received, artefact, compare, obtain, receive
from .patience import Patience
from .recognition import Identify, verify

__all__ = ["ALREADY_THERE", "CODE_VERSION", "Identify", "Patience", "Received", "artefact"]
__all__ += ["compare", "mirror_of", "obtain", "places", "receive", "verify"]
