"""MATLAB's files of version 5, as SVHN has them: images in the variable X, labels in y.

    128 bytes                a text, the version, and IM or MI, which tells the order of bytes
    15, size, zlib           a variable that is packed; unpacked, it is one of
    14, size                 an array: its flags and class (6), dimensions (5), name (1) and values

Each of these begins with a tag: its type and its size, four bytes each; it is filled up to 8 bytes.
Where it has four bytes at most, they stand in the tag: the size in two bytes, the type in two.

X is uint8 of (height, width, channels, records), the first varying fastest, so that a record is
its planes, each column by column. y holds whole numbers of any type, one for each record. Nothing
else of the format is read: no objects, no cells, nothing sparse; version 7.3 is another, HDF5.

X may be larger than memory: it is unpacked as a stream. Roles name the member that each variable is
in, mostly the same. It is gone through twice, and what is not asked for is passed by as it is.

Not here: gzip and zip (`archives.members`), Parquet (`tables`).

Source of the format: "MAT-File Format", MathWorks.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from ..declarations import Dataset, Image, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Labels, Members, OpenMember, Place
from . import Format, Role
from ._bytes import fill, labels_from_0, unasked
from ._planes import upright

IMAGES, LABELS = "X", "y"  # what SVHN calls them

_HEADER_BYTES, _TAG_BYTES = 128, 8
_MATRIX, _PACKED = 14, 15
_FLAGS, _DIMENSIONS, _NAME = 6, 5, 1
# Types of values, as they are stored.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_STORED |= {12: "i8", 13: "u8"}
_CLASSES = {1: "a cell", 2: "a structure", 3: "an object", 4: "text", 5: "sparse", 17: "opaque"}
_UINT8, _NUMERIC = 9, range(6, 16)
_COMPLEX = 0x0800
_MOST_PART_BYTES = 1_000  # of dimensions, or of a name
_CHUNK_BYTES = 1 << 18
_Damaged = cast("type[Exception]", isal_zlib.error)  # its stub calls the class an instance


class _Array(NamedTuple):
    """What a variable says of itself.

    kind: the number of its class.
    dtype: of its values, as they are stored.
    begin: where they begin, in bytes of the variable unpacked.
    end: where the variable does.
    within: the values, where they stand in the tag.
    """

    name: str
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begin: int
    size_bytes: int
    end: int
    within: bytes | None


class _Variable:
    """A variable's bytes from its tag on, unpacked."""

    def __init__(self, stream: ByteStream, order: str, tag: bytes) -> None:
        self.name, self.order, self.passed = stream.name, order, 0
        kind, self._left = struct.unpack(f"{order}2I", tag)
        if kind not in (_MATRIX, _PACKED):
            raise FormatError(
                f"{stream.name}: expected a variable of MATLAB 5 (type 14 or 15), found type "
                f"{kind}."
            )
        self._stream = stream
        self._inflate = isal_zlib.decompressobj(15) if kind == _PACKED else None
        self._begun = tag if kind == _MATRIX else b""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end."""
        if self._begun:
            data = self._begun[: len(buffer)]
            self._begun = self._begun[len(data) :]
        elif self._inflate is None:
            data = self._take(len(buffer))
        else:
            data = self._inflated(len(buffer))
        buffer[: len(data)] = data
        self.passed += len(data)
        return len(data)

    def pass_by(self) -> None:
        """Go to where the variable ends, without unpacking it."""
        while self._left:
            self._take(_CHUNK_BYTES)

    def _take(self, most: int) -> bytes:
        """Return the next bytes of the member, as they stand there."""
        data = np.empty(min(most, self._left), np.uint8)
        fill(self._stream, data, "a variable goes on for longer")
        self._left -= len(data)
        return data.tobytes()

    def _inflated(self, most: int) -> bytes:
        inflate = self._inflate
        while inflate is not None and not inflate.eof:
            packed = inflate.unconsumed_tail or self._take(_CHUNK_BYTES)
            try:
                data = inflate.decompress(packed, most)
            except _Damaged as error:
                raise FormatError(f"{self.name}: a variable is damaged ({error}).") from error
            if data:
                return bytes(data)
            if not packed and not inflate.eof:
                raise FormatError(f"{self.name}: what is packed of a variable is cut short.")
        if inflate is not None and (inflate.unused_data or self._left):
            raise FormatError(f"{self.name}: a variable goes on after what is packed of it.")
        return b""


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split.

    Raises:
        FormatError: a member is no such file, a variable is another than declared, or a label
            stands for no class.
    """
    [images_member] = split.members["images"]
    raw, where = None, ""
    for member in split.members.get("labels", ()):
        stream = open_member(member)
        for variable, array in _found(stream, LABELS):
            raw, where = _read_labels(variable, array, split.records), stream.name
    stream = open_member(images_member)
    for variable, array in _found(stream, IMAGES):
        promised = _promise_of_images(stream.name, array, dataset.image, split.records)
        stored = np.empty((min(batch_records, split.records), dataset.image.size_bytes), np.uint8)
        at = 0
        for start in range(0, split.records, batch_records):
            some = stored[: min(batch_records, split.records - start)]
            if array.within is None:
                fill(variable, some, promised)
            else:
                some.reshape(-1)[:] = np.frombuffer(array.within, np.uint8)[at : at + some.size]
            at += some.size
            labels = None
            if raw is not None:
                labels = _labels(raw[start : start + len(some)], dataset, where, start)
            yield Batch(upright(some, dataset.image, by_columns=True), labels)
        _expect_end(variable, array)


def locate(dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record's image and its label stand in the file as it would be unpacked."""
    places = []
    for role, name in (("images", IMAGES), ("labels", LABELS)):
        for member in split.members.get(role, ()):
            if (role, member) not in members.noted:
                members.noted[role, member] = _where(members.open(member), name, dataset, split)
            begin, dtype = members.noted[role, member]
            size = dataset.image.size_bytes if role == "images" else dtype.itemsize
            start = begin + index * size
            kind = "" if role == "images" else dtype.str
            places.append(Place(role, member, start, start + size, kind))
    return places


def assemble(
    dataset: Dataset, _split: Split, places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of an image's bytes and its label's.

    Raises:
        FormatError: the label stands for no class.
    """
    image, *rest = parts
    labels = None
    for place, part in zip(places[1:], rest, strict=True):
        labels = _labels(np.frombuffer(part, place.kind), dataset, "its label", 0)
    stored = np.frombuffer(image, np.uint8)
    return Batch(upright(stored, dataset.image, by_columns=True), labels)


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what such files can't hold of a dataset."""
    yield from unasked("mat5", dataset)


class _Unpacked:
    """A file's bytes as they would be, were none of its variables packed."""

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream
        self._parts: Iterator[ByteStream] | None = None
        self._part: ByteStream | None = None
        self._header = b""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` from its start; return the bytes written, 0 only at the end."""
        if self._parts is None:
            self._header, order = _read_header(self._stream)
            self._parts = _variables(self._stream, order)
        if self._header:
            data = self._header[: len(buffer)]
            self._header = self._header[len(data) :]
            buffer[: len(data)] = data
            return len(data)
        while True:
            if self._part is not None and (got := self._part.readinto(buffer)):
                return got
            if (part := next(self._parts, None)) is None:
                return 0
            self._part = part


def _where(
    stream: ByteStream, name: str, dataset: Dataset, split: Split
) -> tuple[int, np.dtype[Any]]:
    """Return where the values of a variable begin in the file unpacked, and their type."""
    before = _HEADER_BYTES
    _, order = _read_header(stream)
    for variable in _variables(stream, order):
        array = _read_head(variable)
        if array.name == name:
            if name == IMAGES:
                _promise_of_images(stream.name, array, dataset.image, split.records)
            else:
                _promise_of_labels(stream.name, array, split.records)
            return before + array.begin, array.dtype
        before += array.end
        variable.pass_by()
    raise FormatError(f"{stream.name}: there is no variable {name}.")


def _found(stream: ByteStream, name: str) -> Iterator[tuple[_Variable, _Array]]:
    """Yield the one variable of a name, whose values come next; see the file to its end."""
    found: list[str] = []
    _, order = _read_header(stream)
    for variable in _variables(stream, order):
        array = _read_head(variable)
        found.append(array.name)
        if array.name == name:
            if found.count(name) > 1:
                raise FormatError(f"{stream.name}: there are two variables {name}.")
            yield variable, array
        variable.pass_by()
    if name not in found:
        raise FormatError(
            f"{stream.name}: expected a variable {name}, found {', '.join(found) or 'none'}."
        )


def _variables(stream: ByteStream, order: str) -> Iterator[_Variable]:
    """Yield the variables of a file, after its header; each is gone through before the next."""
    while tag := _read_tag(stream):
        yield _Variable(stream, order, tag)


def _read_tag(stream: ByteStream) -> bytes:
    """Return the tag that comes next; nothing where the file ends."""
    tag = np.empty(_TAG_BYTES, np.uint8)
    if not (got := stream.readinto(tag[:1].data)):
        return b""
    fill(stream, tag[got:], "a variable begins with a tag of 8 bytes")
    return tag.tobytes()


def _read_header(stream: ByteStream) -> tuple[bytes, str]:
    """Return how a file begins, and the order of its bytes: `<` or `>`."""
    header = _read(stream, _HEADER_BYTES, "a MATLAB file begins with 128 bytes of header")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(header[-4:])
    if order is None:
        later = ". It is of version 7.3, which is HDF5" if b"7.3" in header[:20] else ""
        raise FormatError(
            f"{stream.name}: expected a MATLAB file of version 5 (0001494d after 124 bytes), found "
            f"{header[-4:].hex()}{later}."
        )
    return header, order


def _read(stream: ByteStream, size: int, promised: str) -> bytes:
    found = np.empty(size, np.uint8)
    fill(stream, found, promised)
    return found.tobytes()


def _read_part(variable: _Variable, what: str) -> tuple[int, int, bytes | None]:
    """Read a tag; return the type, the size, and what stands in it where that is so."""
    tag = _read(variable, _TAG_BYTES, f"a variable has {what}")
    kind, size = struct.unpack(f"{variable.order}2I", tag)
    if small := kind >> 16:
        if small > 4:
            raise FormatError(f"{variable.name}: {what} can't have {small} bytes in a tag of 8.")
        return kind & 0xFFFF, small, tag[4 : 4 + small]
    return kind, size, None


def _read_small(variable: _Variable, what: str, wanted: int) -> bytes:
    """Return a part of a variable that is no array of values."""
    kind, size, within = _read_part(variable, what)
    if kind != wanted or size > _MOST_PART_BYTES:
        raise FormatError(
            f"{variable.name}: expected {what} of a variable (type {wanted}), found type {kind} "
            f"with {size:,} bytes."
        )
    if within is not None:
        return within
    return _read(variable, size + -size % 8, f"a variable has {what}")[:size]


def _read_head(variable: _Variable) -> _Array:
    """Read what a variable says of itself, so that its values come next."""
    name, order = variable.name, variable.order
    kind, size, within = _read_part(variable, "a type")
    if kind != _MATRIX or within is not None:
        raise FormatError(f"{name}: expected an array (type 14) as a variable, found type {kind}.")
    end = _TAG_BYTES + size
    flags = _read_small(variable, "flags", _FLAGS)
    if len(flags) != 8:
        raise FormatError(f"{name}: expected 8 bytes of flags, found {len(flags)}.")
    [said] = struct.unpack(f"{order}I4x", flags)
    of_class = said & 0xFF
    nothing = np.dtype("V")
    if of_class not in _CLASSES and of_class not in _NUMERIC:
        raise FormatError(f"{name}: a variable is of class {of_class}, which there is not.")
    if of_class == 17:
        return _Array("", of_class, False, (), nothing, 0, 0, end, None)
    dimensions = _read_small(variable, "dimensions", _DIMENSIONS)
    if len(dimensions) % 4:
        raise FormatError(f"{name}: {len(dimensions)} bytes of dimensions are no int32.")
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    called = _read_small(variable, "a name", _NAME).decode("latin-1")
    if of_class not in _NUMERIC:
        return _Array(called, of_class, False, shape, nothing, 0, 0, end, None)
    stored, size, within = _read_part(variable, "values")
    begin = variable.passed - (4 if within is not None else 0)
    if stored not in _STORED:
        raise FormatError(f"{name}: {called} has values of type {stored}, which are no numbers.")
    dtype = np.dtype(order + _STORED[stored])
    is_complex = bool(said & _COMPLEX)
    return _Array(called, of_class, is_complex, shape, dtype, begin, size, end, within)


def _promise_of_images(where: str, array: _Array, image: Image, records: int) -> str:
    """Hold images against what is declared, and return what they promise."""
    height, width, channels = image.shape
    known: list[tuple[int, ...]] = [(height, width, channels, records)]
    known += [(height, width, records)] if channels == 1 else []
    _expect_numbers(where, array, known)
    if (array.kind, array.dtype.str[1:]) != (_UINT8, "u1"):
        raise FormatError(f"{where}: expected {array.name} as uint8, found class {array.kind}.")
    return _promised(where, array)


def _promise_of_labels(where: str, array: _Array, records: int) -> str:
    """Hold labels against what is declared, and return what they promise."""
    _expect_numbers(where, array, [(records, 1), (1, records)])
    return _promised(where, array)


def _expect_numbers(where: str, array: _Array, known: Sequence[tuple[int, ...]]) -> None:
    """Hold an array's class and its shape against what is declared."""
    if array.kind not in _NUMERIC or array.is_complex:
        found = _CLASSES.get(array.kind, "complex")
        raise FormatError(f"{where}: expected {array.name} as an array of numbers, found {found}.")
    if _plain(array.shape) not in map(_plain, known):
        raise FormatError(
            f"{where}: {array.name} is of {_shape(array.shape)}, but the catalogue declares "
            f"{' or '.join(map(_shape, known))}. If the publisher's file is right, correct the "
            "declaration."
        )


def _plain(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without the ones that it ends in, which MATLAB leaves out."""
    found = [*shape]
    while len(found) > 2 and found[-1] == 1:
        found.pop()
    return tuple(found)


def _promised(where: str, array: _Array) -> str:
    """Return what an array promises, which has to be possible."""
    size = math.prod(array.shape) * array.dtype.itemsize
    promised = f"{array.name} is of {_shape(array.shape)} = {size:,} bytes"
    after = array.end - array.begin - (size if array.within is None else 4)
    if array.size_bytes != size or not 0 <= after < 8:
        raise FormatError(
            f"{where}: {promised}, but there are {array.size_bytes:,} bytes of values in a "
            f"variable of {array.end:,}."
        )
    return promised


def _read_labels(variable: _Variable, array: _Array, records: int) -> npt.NDArray[Any]:
    """Return all labels, as the publisher counts them."""
    promised = _promise_of_labels(variable.name, array, records)
    if array.within is not None:
        found = np.frombuffer(array.within, array.dtype)
    else:
        found = np.empty(records, array.dtype)
        fill(variable, found.view(np.uint8), promised)
    _expect_end(variable, array)
    return found


def _labels(raw: npt.NDArray[Any], dataset: Dataset, where: str, start: int) -> Labels:
    """Return labels of any type of numbers, counted from 0."""
    if raw.dtype.kind == "f":
        if (broken := ~(np.abs(raw) < 1 << 31) | (raw != np.rint(raw))).any():
            at = int(broken.argmax())
            raise FormatError(
                f"{where}: record {start + at:,} has label {raw[at]:g}, which is no whole number."
            )
        raw = raw.astype(np.int64)
    wide = np.uint64 if raw.dtype.kind == "u" else np.int64
    return labels_from_0(raw.astype(wide), dataset, where, start)


def _expect_end(variable: _Variable, array: _Array) -> None:
    """See a variable to its end: after its values it is filled up, and no more."""
    rest = np.empty(array.end - variable.passed, np.uint8)
    fill(variable, rest, f"{array.name} is filled up to {array.end:,} bytes")
    if variable.readinto(memoryview(bytearray(1))):
        raise FormatError(f"{variable.name}: {array.name} goes on after its end.")


def _shape(dimensions: Sequence[int]) -> str:
    return "(" + ", ".join(f"{size:,}" for size in dimensions) + ")"


FORMAT = Format(
    name="mat5",
    roles={"images": Role(holds=("pixels",)), "labels": Role(holds=("label",))},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
    unpacked=_Unpacked,
)
