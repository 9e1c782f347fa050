"""What flows: streams of bytes out of members, batches of records out of formats.

Not here: how either is read (`archives`, `formats`), or what is declared (`declarations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import NoLabels

if TYPE_CHECKING:  # pydantic takes long to import, and who reads tables needs none
    from .declarations import Member

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8 | np.uint16]
Integers = npt.NDArray[np.int32]

MOST_CLASSES = 1 << 16  # that labels tell apart


def label_type(classes: int) -> np.dtype[np.uint8 | np.uint16]:
    """Return the type of the labels of so many classes: uint8, or uint16 for more than 256."""
    return np.dtype(np.uint8 if classes <= 1 << 8 else np.uint16)


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Some consecutive records of a split.

    images: uint8 array of shape (records, height, width, channels), upright, 0–255.
    known_labels: array of shape (records,), of `label_type`; 0 is `classes[0]`. None where the
        split has none; `labels` is for those who can do nothing without.
    coarse_labels: the same for `coarse_classes`, or None where a dataset has none.
    extras: what else stands beside each label, by name: int32 arrays of shape (records,).
    """

    images: Pixels
    known_labels: Labels | None = None
    coarse_labels: Labels | None = None
    extras: Mapping[str, Integers] = field(default_factory=dict, kw_only=True)

    @property
    def labels(self) -> Labels:
        """Labels, array of shape (records,), of `label_type`; 0 is `classes[0]`.

        Raises:
            NoLabels: the split has none.
        """
        if self.known_labels is None:
            raise NoLabels("These records have no labels: their publisher gives none.")
        return self.known_labels

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.images)

    def between(self, start: int, stop: int) -> Batch:
        """Return records `start` to `stop`: views of these arrays."""
        return self._at(slice(start, stop))

    def taken(self, rows: npt.NDArray[np.intp]) -> Batch:
        """Return records in the order of some rows: copies."""
        return self._at(rows)

    def _at(self, rows: slice | npt.NDArray[np.intp]) -> Batch:
        labels, coarse = self.known_labels, self.coarse_labels
        return Batch(
            self.images[rows],
            None if labels is None else labels[rows],
            None if coarse is None else coarse[rows],
            extras={name: values[rows] for name, values in self.extras.items()},
        )

    @staticmethod
    def joined(parts: Sequence[Batch], images: Pixels | None = None) -> Batch:
        """Return batches as one, in their order; `images` where they are together already."""
        if len(parts) == 1 and images is None:
            return parts[0]
        labels = [part.known_labels for part in parts if part.known_labels is not None]
        coarse = [part.coarse_labels for part in parts if part.coarse_labels is not None]
        return Batch(
            np.concatenate([part.images for part in parts]) if images is None else images,
            np.concatenate(labels) if labels else None,
            np.concatenate(coarse) if coarse else None,
            extras={
                name: np.concatenate([part.extras[name] for part in parts])
                for name in parts[0].extras
            },
        )

    def __repr__(self) -> str:
        """Return for example `<256 records of 28×28×1>`: no pixels, which would fill the screen."""
        return f"<{len(self):,} records of {'×'.join(map(str, self.images.shape[1:]))}>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a record stands: bytes `start` to `stop` of a member, decompressed.

    What a format packs inside of a member counts as it would be unpacked (`Format.unpacked`).

    role: what the member is to the format (`formats.Format.roles`).
    kind: how the bytes are written, where only the member tells: `<i8`.
    """

    role: str
    member: Member
    start: int
    stop: int
    kind: str = ""


class ByteStream(Protocol):
    """What a format reads from: a member's decompressed bytes, in order."""

    name: str

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end."""
        ...


class OpenMember(Protocol):
    """What gives the bytes of members, and tells which files an archive holds."""

    def __call__(self, member: Member, /) -> ByteStream:
        """Return a member's decompressed bytes, from its start."""
        ...

    def below(self, folder: Member, /) -> Sequence[Member]:
        """Return every file below a folder of an archive, at any depth, by the order of names.

        A folder whose path is empty is the whole archive. Names are compared by code points.
        """
        ...


@dataclass(frozen=True, slots=True)
class Members:
    """What can be asked of the members of a split without decoding them.

    open: gives a member's decompressed bytes, from its start.
    size_bytes: tells how many there are, by reading them where that is not declared.
    noted: what a format found out about members, by a key of its own, so that it need not ask for
        each record.
    below: tells which files stand below a folder of an archive, as `OpenMember.below` does.
    """

    open: Callable[[Member], ByteStream]
    size_bytes: Callable[[Member], int]
    noted: dict[object, Any] = field(default_factory=dict)
    below: Callable[[Member], Sequence[Member]] = lambda _folder: ()
