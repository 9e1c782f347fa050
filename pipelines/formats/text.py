r"""Text: a line of numbers for each record, as LIBSVM, Semeion and optdigits have them.

    5 1:-0.5 2:0.25 3:1\n       libsvm: the label, then every number with its index from 1
    0.0 1.0 1.0 0 1\r\n         one_hot: the numbers, then 1 for the class and 0 for the others
    0,16,3,7\n                  label_last: the numbers, then the label

Numbers are digits with a point and a sign, no more; between them is one blank or one comma. Lines
end in LF or CRLF, perhaps with a blank before; the first one decides for all, and the last one ends
so, too. Images are upright, row by row, channels last. The catalogue names the layout, and the rule
by which numbers become intensities (`declarations.Numbers`): a table holds what that rule leaves.

Not here: bzip2 (`archives.members`), Parquet (`tables`).

Sources: the README of LIBSVM; UCI's pages of Semeion and optdigits. What "cut" does is what
torchvision/datasets/usps.py does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..declarations import Dataset, Member, Numbers, Split
from ..errors import FormatError
from ..records import Batch, ByteStream, Labels, Members, OpenMember, Pixels, Place, label_type
from . import Format, Role
from ._bytes import labels_from_0, unasked

Values = npt.NDArray[np.float64]

_CHUNK_BYTES = 1 << 18  # stays in the cache
_MOST_FIELD_BYTES = 64
_BETWEEN, _WITHIN = 1, 2  # what a byte is to a number
_KINDS = np.zeros(256, np.uint8)
_KINDS[[*b" ,:\n"]] = _BETWEEN
_KINDS[[*b"0123456789.-"]] = _WITHIN


class _Form(NamedTuple):
    """How the lines of a member are written.

    numbers: how the dataset declares them.
    pixels, classes: how many there are.
    separator: between two numbers.
    ending: of each line.
    """

    numbers: Numbers
    pixels: int
    classes: int
    separator: bytes
    ending: bytes

    @property
    def between(self) -> npt.NDArray[np.uint8]:
        """What stands after each number of a line."""
        separator, layout = self.separator, self.numbers.layout
        if layout == "libsvm":
            after = separator + (b":" + separator) * self.pixels
        else:
            after = separator * (self.pixels + (self.classes if layout == "one_hot" else 1))
        return np.frombuffer(after[:-1] + b"\n", np.uint8)

    @property
    def example(self) -> str:
        """How a line should be written."""
        one = self.separator.decode()
        if self.numbers.layout == "libsvm":
            return f"LABEL{one}1:NUMBER{one}…{one}{self.pixels}:NUMBER"
        last = "LABEL" if self.numbers.layout == "label_last" else f"{self.classes} of 0 and 1"
        return f"{self.pixels} numbers, then {last}, and {one!r} between them"


class _Wrong(Exception):
    """Says what is wrong with lines; of one alone, that is what people are told."""


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split, a line each.

    Raises:
        FormatError: a line is written otherwise, a number is none that the rule has an intensity
            for, a label stands for no class, or there is another number of lines.
    """
    [member] = split.members["lines"]
    stream, form, start, left = open_member(member), None, 0, split.records
    pixels, labels, done = *_room(dataset, min(batch_records, left)), 0
    for lines in _chunks(stream, _most_line_bytes(dataset)):
        form = form or _form(lines, dataset)
        images, raw = _parsed(stream.name, lines, form, start)
        if (more := start + len(raw)) > split.records:
            raise FormatError(
                f"{stream.name}: {split.records:,} records are declared, but there are more lines."
            )
        found = labels_from_0(raw, dataset, stream.name, start)
        while len(found):
            some = min(len(found), len(labels) - done)
            pixels[done : done + some] = images[:some]
            labels[done : done + some] = found[:some]
            images, found, done, left = images[some:], found[some:], done + some, left - some
            if done == len(labels):
                yield Batch(pixels.reshape(-1, *dataset.image.shape), labels)
                pixels, labels, done = *_room(dataset, min(batch_records, left)), 0
        start = more
    if start < split.records:
        raise FormatError(
            f"{stream.name}: {split.records:,} records are declared, but there are {start:,} lines."
        )


def _room(dataset: Dataset, records: int) -> tuple[Pixels, Labels]:
    """Return images, a row each, and labels to be filled."""
    kind = label_type(len(dataset.classes))
    return np.empty((records, dataset.image.size_bytes), np.uint8), np.empty(records, kind)


def locate(_dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record's line stands: lines have any length, so that all are gone through."""
    [member] = split.members["lines"]
    if member not in members.noted:
        members.noted[member] = _line_starts(members.open(member), member, split.records)
    starts = members.noted[member]
    return [Place("lines", member, int(starts[index]), int(starts[index + 1]))]


def assemble(
    dataset: Dataset, _split: Split, _places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of its line.

    Raises:
        FormatError: it is no such line.
    """
    [line] = parts
    if not line.endswith(b"\n"):
        raise FormatError(f"the record: expected a line, found {line!r:.80}.")
    images, raw = _parsed("the record", line, _form(line, dataset), 0)
    labels = labels_from_0(raw, dataset, "the record", 0)
    return Batch(images.reshape(-1, *dataset.image.shape), labels)


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what is missing for lines of numbers to be a dataset."""
    yield from unasked("text", dataset, "numbers")
    if dataset.numbers is None:
        yield "numbers: missing key (format text asks how lines are written, and for the rule)"
    elif dataset.numbers.low >= dataset.numbers.high:
        yield "numbers: low must be less than high"
    elif dataset.numbers.layout == "one_hot" and (dataset.first_label or dataset.class_labels):
        yield "numbers: of layout one_hot, the columns are the classes: give no label of them"


def _most_line_bytes(dataset: Dataset) -> int:
    fields = 2 * dataset.image.size_bytes + len(dataset.classes) + 1
    return max(_CHUNK_BYTES, _MOST_FIELD_BYTES * fields)


def _chunks(stream: ByteStream, most_line_bytes: int) -> Iterator[bytes]:
    """Yield a member's bytes in pieces that end where lines do."""
    buffer, begun = memoryview(bytearray(_CHUNK_BYTES)), b""
    while got := stream.readinto(buffer):
        data = begun + bytes(buffer[:got])
        end = data.rfind(b"\n") + 1
        if end:
            yield data[:end]
        begun = data[end:]
        if len(begun) > most_line_bytes:
            raise FormatError(
                f"{stream.name}: no line of such records has over {most_line_bytes:,} bytes. These "
                "bytes are no such text."
            )
    if begun:
        raise FormatError(
            f"{stream.name}: the last line does not end: {begun[-40:]!r}. The member was cut short."
        )


def _line_starts(stream: ByteStream, member: Member, records: int) -> npt.NDArray[np.int64]:
    """Return where each line of a member begins, and where the last one ends."""
    found, size, last = [np.zeros(1, np.int64)], 0, b"\n"
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while got := stream.readinto(buffer):
        ends = np.flatnonzero(np.frombuffer(buffer[:got], np.uint8) == ord("\n"))
        found.append(ends + size + 1)
        size, last = size + got, bytes(buffer[got - 1 : got])
    starts = np.concatenate(found)
    rest = "" if last == b"\n" else ", and one that does not end"
    if len(starts) != records + 1 or rest:
        raise FormatError(
            f"{member}: {records:,} records are declared, a line each, but there are "
            f"{len(starts) - 1:,} lines{rest}."
        )
    return starts


def _form(lines: bytes, dataset: Dataset) -> _Form:
    """Return how lines are written, as the first of them is."""
    if dataset.numbers is None:
        raise FormatError(f"{dataset.name}: the catalogue does not declare its numbers.")
    line = lines[: lines.index(b"\n") + 1]
    ending = line[len(line.rstrip(b" \r\n")) :]
    if ending not in (b"\n", b"\r\n", b" \n", b" \r\n"):
        ending = b"\n"  # what stands before it is refused as what it is
    separator = b"," if b"," in line else b" "
    return _Form(dataset.numbers, dataset.image.size_bytes, len(dataset.classes), separator, ending)


def _parsed(
    name: str, lines: bytes, form: _Form, start: int
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return the intensities of lines, a row each, and their labels as published.

    Raises:
        FormatError: with the first line that is wrong, and why.
    """
    try:
        return _read(lines, form)
    except _Wrong as of_some:
        for number, line in enumerate(lines.split(b"\n")[:-1], start + 1):
            try:
                _read(line + b"\n", form)
            except _Wrong as error:
                raise FormatError(f"{name}, line {number:,}: {error}") from error
        raise FormatError(f"{name}: {of_some}") from of_some


def _read(lines: bytes, form: _Form) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Do what `_parsed` does, without saying where what is wrong stands."""
    values = _values(lines, form)
    if form.numbers.layout == "libsvm":
        indices, numbers = values[:, 1::2], values[:, 2::2]
        expected = np.arange(1, form.pixels + 1)
        if (wrong := (indices != expected).any(axis=0)).any():
            at = int(wrong.argmax())
            found = indices[0, at]
            raise _Wrong(f"expected index {at + 1}, found {found:g}: every one has to be there.")
    else:
        numbers = values[:, : form.pixels]
    return _intensities(numbers, form.numbers), _labels(values, form)


def _values(lines: bytes, form: _Form) -> Values:
    """Return all numbers of lines, a row each."""
    import pyarrow as pa  # it reads decimal numbers exactly, at five times the speed of numpy
    import pyarrow.compute as pc

    if lines.count(form.ending) != lines.count(b"\n"):
        raise _Wrong(f"expected it to end in {form.ending!r} as the first line does.")
    data = np.frombuffer(lines.replace(form.ending, b"\n"), np.uint8)
    kinds = _KINDS[data]
    if not kinds.all():
        found = bytes([data[kinds.argmin()]])
        raise _Wrong(
            f"expected numbers of digits, point and sign, found {found!r} in {_shown(lines)}."
        )
    ends = np.flatnonzero(kinds == _BETWEEN)
    between = form.between
    if len(ends) % len(between) or (data[ends].reshape(-1, len(between)) != between).any():
        raise _Wrong(f"expected {form.example}; found {len(ends)} fields: {_shown(lines)}.")
    offsets = np.zeros(len(ends) + 1, np.int32)  # in what is left when separators are taken out
    offsets[1:] = ends - np.arange(len(ends))
    digits = pa.py_buffer(data[kinds == _WITHIN])
    texts = pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), digits])
    try:
        numbers: Values = pc.cast(texts, pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise _Wrong(f"{error}.") from error
    return numbers.reshape(-1, len(between))


def _shown(lines: bytes) -> str:
    return repr(lines[:60]) + ("…" if len(lines) > 60 else "")


def _intensities(values: Values, numbers: Numbers) -> Pixels:
    """Return what a rule makes of numbers."""
    low, high = numbers.low, numbers.high
    outside = (values < low) | (values > high)
    if outside.any():
        raise _Wrong(f"expected numbers from {low:g} to {high:g}, found {values[outside][0]:g}.")
    if numbers.rule == "cut":
        # In single precision and in this order, as torchvision has it.
        single = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return (single * np.float32(255)).astype(np.uint8)
    scaled = (values - low) * 255 / (high - low)
    found = scaled.astype(np.uint8)
    if (between := found != scaled).any():
        raise _Wrong(
            f"expected numbers that are one of 256 intensities exactly, found "
            f"{values[between][0]:g}. The rule `cut` takes others, too."
        )
    return found


def _labels(values: Values, form: _Form) -> npt.NDArray[np.int64]:
    """Return the labels of lines, as the publisher counts them."""
    layout = form.numbers.layout
    if layout != "one_hot":
        raw = values[:, 0 if layout == "libsvm" else -1]
        if (wrong := (raw != np.rint(raw)) | (np.abs(raw) > 1 << 31)).any():
            raise _Wrong(f"expected a label, found {raw[wrong][0]:g}.")
        return raw.astype(np.int64)
    marks = values[:, form.pixels :]
    wrong = ((marks != 0) & (marks != 1)).any(axis=1) | (marks.sum(axis=1) != 1)
    if wrong.any():
        found = " ".join(f"{mark:g}" for mark in marks[wrong][0])
        raise _Wrong(f"expected 1 for one class and 0 for the others, found {found}.")
    found_classes: npt.NDArray[np.int64] = marks.argmax(axis=1)
    return found_classes


FORMAT = Format(
    name="text",
    roles={"lines": Role(holds=("label", "pixels"))},
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
