"""What decides the bytes of most exports of a split, beside its table.

Not here: exports whose bytes hang on something else; each says so itself.
"""

from __future__ import annotations

from typing import Any

from ..products import Choices, Subject


def parameters(subject: Subject, chosen: Choices) -> dict[str, Any]:
    """Return the options that were chosen, and what tables say of their split."""
    from .. import tables

    about = tables.description(subject.source, subject.dataset, subject.split)
    return {**chosen, "about": about}
