"""Sheets: the images of many records as few PNG files, side by side without gaps.

A browser decodes a sheet of 2,000 records of 28×28 pixels in about a hundredth of a second. isal
packs MNIST's 60,000 records in a tenth of a second where Pillow takes 1.4, into 6 % more bytes. Not
here: which records there are, or the sheet of examples that the UI shows (`_pictures`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib

from ..records import Pixels

_MOST_PIXELS = 2048  # along a side, where an image is not larger: as large as any device draws
_ACROSS, _DOWN = 50, 40  # records at most
_LEVEL = 2  # of isal: 3 packs hardly better
_COLOUR_TYPES = {1: 0, 3: 2}  # channels → PNG's
_AS_IT_IS, _TO_THE_LEFT = 0, 1  # PNG's filters: grey images pack best as they are, others don't


@dataclass(frozen=True, slots=True)
class Layout:
    """How many records stand on a sheet: in a row, and how many rows."""

    across: int
    down: int

    @classmethod
    def of(cls, shape: tuple[int, int, int]) -> Layout:
        """Return that of images of shape (height, width, channels)."""
        height, width, _ = shape
        across = min(_ACROSS, _MOST_PIXELS // width)
        return cls(max(1, across), max(1, min(_DOWN, _MOST_PIXELS // height)))

    @property
    def records(self) -> int:
        """How many records a whole sheet has."""
        return self.across * self.down


def name(number: int) -> str:
    """Return the file name of a sheet, counted from 0."""
    return f"{number:03}.png"


class Writer:
    """Writes sheets into a folder, one after the other; the last one ends with its last row."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Begin with the first sheet."""
        self._folder, self.layout, self._shape = folder, Layout.of(shape), shape
        self._waiting = np.empty((self.layout.records, *shape), np.uint8)
        self._held = self._written = 0

    def add(self, images: Pixels) -> None:
        """Append images of shape (records, height, width, channels)."""
        while len(images):
            some = images[: self.layout.records - self._held]
            self._waiting[self._held : self._held + len(some)] = some
            self._held += len(some)
            images = images[len(some) :]
            if self._held == self.layout.records:
                self.end()

    def end(self) -> None:
        """Write what waits."""
        if self._held:
            place = self._folder / name(self._written)
            place.write_bytes(self._png(self._waiting[: self._held]))
            self._written, self._held = self._written + 1, 0

    def _png(self, images: Pixels) -> bytes:
        """Return images as a sheet; where the last row is not full, it is black."""
        height, width, channels = self._shape
        across = self.layout.across
        rows = -(-len(images) // across)
        whole = np.zeros((rows * across, *self._shape), np.uint8)
        whole[: len(images)] = images
        apart = whole.reshape(rows, across, height, width, channels)
        lines = apart.transpose(0, 2, 1, 3, 4).reshape(rows * height, across * width * channels)
        filtered = np.empty((lines.shape[0], 1 + lines.shape[1]), np.uint8)
        filtered[:, 0] = _AS_IT_IS if channels == 1 else _TO_THE_LEFT
        filtered[:, 1:] = lines
        if channels > 1:
            filtered[:, 1 + channels :] -= lines[:, :-channels]
        size = struct.pack(">II", across * width, rows * height)
        header = size + bytes([8, _COLOUR_TYPES[channels], 0, 0, 0])
        data = isal_zlib.compress(filtered.tobytes(), _LEVEL)
        parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
