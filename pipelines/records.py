"""What flows: streams of bytes out of members, batches of records out of formats.

Not here: how either is read (`archives`, `formats`), or what is declared (`declarations`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # pydantic takes long to import, and who reads tables needs none
    from .declarations import Member

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8 | np.uint16]

MOST_CLASSES = 1 << 16  # that labels tell apart


def label_type(classes: int) -> np.dtype[np.uint8 | np.uint16]:
    """Return the type of the labels of so many classes: uint8, or uint16 for more than 256."""
    return np.dtype(np.uint8 if classes <= 1 << 8 else np.uint16)


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Some consecutive records of a split.

    images: uint8 array of shape (records, height, width, channels), upright, 0–255.
    labels: array of shape (records,), of `label_type`; 0 is `classes[0]`.
    coarse_labels: the same for `coarse_classes`, or None where a dataset has none.
    """

    images: Pixels
    labels: Labels
    coarse_labels: Labels | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.labels)

    def between(self, start: int, stop: int) -> Batch:
        """Return records `start` to `stop`: views of these arrays."""
        coarse = None if self.coarse_labels is None else self.coarse_labels[start:stop]
        return Batch(self.images[start:stop], self.labels[start:stop], coarse)

    def __repr__(self) -> str:
        """Return for example `<256 records of 28×28×1>`: no pixels, which would fill the screen."""
        return f"<{len(self):,} records of {'×'.join(map(str, self.images.shape[1:]))}>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a record stands: bytes `start` to `stop` of a member, decompressed.

    role: what the member is to the format (`formats.Format.roles`).
    """

    role: str
    member: Member
    start: int
    stop: int


class ByteStream(Protocol):
    """What a format reads from: a member's decompressed bytes, in order."""

    name: str

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end."""
        ...


OpenMember = Callable[["Member"], ByteStream]


@dataclass(frozen=True, slots=True)
class Members:
    """What can be asked of the members of a split without decoding them.

    open: gives a member's decompressed bytes, from its start.
    size_bytes: tells how many there are, by reading them where that is not declared.
    noted: member → what a format found out about it, so that it need not ask for each record.
    """

    open: OpenMember
    size_bytes: Callable[[Member], int]
    noted: dict[Member, Any] = field(default_factory=dict)
