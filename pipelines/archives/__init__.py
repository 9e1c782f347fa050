"""The publisher's files: found, fetched, verified, and read inside.

Not here: decoding what members hold (`pipelines.formats`).
"""

from .fetching import (
    ALREADY_THERE,
    CODE_VERSION,
    artefact,
    compare,
    obtain,
    places,
    receive,
    verify,
)
from .web import Identify, Patience

__all__ = [
    "ALREADY_THERE",
    "CODE_VERSION",
    "Identify",
    "Patience",
    "artefact",
    "compare",
    "obtain",
    "places",
    "receive",
    "verify",
]
