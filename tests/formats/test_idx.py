"""IDX: what was encoded comes back upright and counted from 0; what breaks it is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.declarations import Member
from pipelines.errors import CatalogueError, FormatError
from pipelines.formats import idx
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Tiny


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(idx.decode(opened, tiny.dataset, tiny.split, batch))


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of IDX members: upright or transposed, its labels counted from wherever.

    They are alone, or one of several columns, or there are none.
    """
    pixels, values = draw(builders.some_records())
    orientation = draw(st.sampled_from(["upright", "transposed"]))
    first = draw(st.sampled_from([0, 1, 251]))
    labels = draw(st.sampled_from(["alone", "in a column", "none"]))
    names = draw(st.permutations(["label", "writer", "series"])) if "in" in labels else []
    numbers = hnp.arrays(np.int32, (len(values), len(names)))
    rows = draw(numbers) if names else None

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        said: dict[str, Any] = {"orientation": orientation, "first_label": first}
        tiny = builders.tiny(folder, pixels, values, **said)
        if labels == "none":
            return without_labels(tiny), Batch(pixels, None)
        if rows is None:
            return tiny, Batch(pixels, values)
        rows[:, names.index("label")] = values.astype(np.int32) + first
        extras = {name: rows[:, at] for at, name in enumerate(names) if name != "label"}
        return with_columns(tiny, names, rows), Batch(pixels, values, extras=extras)

    return publish


def without_labels(tiny: Tiny) -> Tiny:
    """The same images, to which no labels belong."""
    images = {role: members for role, members in tiny.split.members.items() if role == "images"}
    split = replace(tiny.split, members=images, labelled=False, counts=())
    dataset = replace(tiny.dataset, splits={"train": split})
    return replace(tiny, dataset=dataset, split=split, members={"images": tiny.members["images"]})


def with_columns(tiny: Tiny, names: Sequence[str], rows: builders.Array) -> Tiny:
    """The same images, beside rows of these columns."""
    header = struct.pack(">4B2I", 0, 0, 0x0C, 2, *rows.shape)
    dataset = replace(tiny.dataset, columns=dict.fromkeys(names, "told"))
    members = {**tiny.members, "labels": header + rows.astype(">i4").tobytes()}
    return replace(tiny, dataset=dataset, members=members)


def test_every_batch_but_the_last_is_full(tiny: Tiny) -> None:
    assert [len(batch) for batch in decoded(tiny, tiny.members, batch=4)] == [4, 2]


def test_a_record_is_located_without_opening_a_member(tiny: Tiny) -> None:
    """A compressed one of 700,000 records takes seconds to go through."""

    def never(member: Member) -> Any:
        raise AssertionError(f"{member} decides nothing")

    images, labels = idx.locate(tiny.dataset, tiny.split, 5, Members(never, never))

    assert (images.role, images.start, images.stop) == ("images", 16 + 60, 16 + 72)
    assert (labels.role, labels.start, labels.stop) == ("labels", 8 + 5, 8 + 6)


def test_a_located_label_that_stands_for_no_class_is_refused(tmp_path: Path) -> None:
    tiny = builders.tiny(tmp_path, builders.images(2, 1, 2), np.zeros(2, np.uint8), first_label=1)

    with pytest.raises(FormatError, match=r"has label 0, .* 1 to 5"):
        idx.assemble(tiny.dataset, tiny.split, (), [b"\1\2", b"\0"])


def test_the_example_in_bytes_is_read_as_the_format_is_described(tmp_path: Path) -> None:
    """Written by hand from the description on MNIST's homepage, not by an encoder of ours."""
    tiny = builders.tiny(tmp_path, np.zeros((2, 2, 3, 1), np.uint8), np.zeros(2, np.uint8))
    images = bytes.fromhex("00000803 00000002 00000002 00000003  000102 030405  0a0b0c 0d0e0f")
    labels = bytes.fromhex("00000801 00000002 04 00")

    [batch] = decoded(tiny, {"images": images, "labels": labels})

    assert batch.images[..., 0].tolist() == [[[0, 1, 2], [3, 4, 5]], [[10, 11, 12], [13, 14, 15]]]
    assert batch.labels.tolist() == [4, 0]


def test_a_transposed_image_is_stored_column_by_column(tmp_path: Path) -> None:
    shape = (1, 2, 2, 1)
    tiny = builders.tiny(
        tmp_path, np.zeros(shape, np.uint8), np.zeros(1, np.uint8), orientation="transposed"
    )
    images = bytes.fromhex("00000803 00000001 00000002 00000002  01 02  03 04")

    [batch] = decoded(tiny, tiny.members | {"images": images})

    assert batch.images[0, ..., 0].tolist() == [[1, 3], [2, 4]]


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Six images of 4×3 pixels in five classes."""
    return builders.tiny(tmp_path, builders.images(6, 4, 3), builders.labels(6, 5))


IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 6, 4, 3) + bytes(72)
LABELS = struct.pack(">4BI", 0, 0, 8, 1, 6) + bytes(6)


def _images(magic: str = "00000803", *dimensions: int) -> bytes:
    header = struct.pack(f">{len(dimensions)}I", *dimensions) if dimensions else IMAGES[4:16]
    return bytes.fromhex(magic) + header + bytes(72)


@pytest.mark.parametrize(
    ("member", "data", "words"),
    [
        ("images", b"", ["images", "4 bytes of magic number", "ends too early"]),
        ("images", b"\0\0", ["4 bytes of magic number", "ends too early"]),
        ("images", IMAGES[:9], ["header promises 3 dimensions", "ends too early"]),
        ("images", _images("00010803"), ["magic number such as 00000803", "00010803", "not IDX"]),
        ("images", _images("1f8b0803"), ["found 1f8b0803", "not IDX"]),
        ("images", _images("00000703"), ["found 00000703", "not IDX"]),
        ("images", b"<html><body>not found</body></html>", ["found 3c68746d", "not IDX"]),
        ("images", _images("00000903"), ["expected IDX uint8", "found int8"]),
        ("images", _images("00000b03"), ["found int16"]),
        ("images", _images("00000c03"), ["found int32"]),
        ("images", _images("00000d03"), ["found float32", "00000d03"]),
        ("images", _images("00000e03"), ["found float64"]),
        ("images", LABELS, ["3 dimensions (magic 00000803)", "with 1 (magic 00000801)", "swapped"]),
        ("labels", IMAGES, ["1 dimensions (magic 00000801)", "with 3 (magic 00000803)", "swapped"]),
        ("images", _images("00000804", 6, 4, 3, 1), ["with 4", "00000804"]),
        ("images", _images("00000803", 7, 4, 3), ["promises (7, 4, 3)", "declares (6, 4, 3)"]),
        ("images", _images("00000803", 6, 3, 4), ["promises (6, 3, 4)", "declares (6, 4, 3)"]),
        (
            "images",
            _images("00000803", 2**32 - 1, 2**32 - 1, 2**32 - 1),
            ["promises (4,294,967,295, 4,294,967,295, 4,294,967,295)"],
        ),
        ("images", _images("00000803", 0, 4, 3), ["promises (0, 4, 3)"]),
        ("labels", struct.pack(">4BI", 0, 0, 8, 1, 5) + bytes(5), ["labels", "(5)", "(6)"]),
        ("images", IMAGES[:-1], ["(6, 4, 3) = 72 bytes", "ends too early"]),
        ("images", IMAGES[:16], ["(6, 4, 3) = 72 bytes", "ends too early"]),
        ("images", IMAGES + b"\0", ["(6, 4, 3) = 72 bytes", "goes on after that"]),
        ("labels", LABELS[:-1], ["labels", "(6) = 6 bytes", "ends too early"]),
        ("labels", LABELS + LABELS, ["labels", "(6) = 6 bytes", "goes on after that"]),
        ("labels", LABELS[:-1] + b"\5", ["labels", "record 5 has label 5", "0 to 4"]),
        ("labels", LABELS[:-2] + b"\xff\0", ["record 4 has label 255", "5 declared classes"]),
    ],
)
@pytest.mark.parametrize("batch", [2, 100])
def test_bytes_that_break_the_format_are_refused(
    tiny: Tiny, member: str, data: bytes, words: list[str], batch: int
) -> None:
    members = {"images": IMAGES, "labels": LABELS, member: data}

    with pytest.raises(FormatError) as caught:
        decoded(tiny, members, batch)

    for word in [f"{member}: ", *words]:
        assert word in str(caught.value)


def test_a_label_below_the_first_is_refused(tmp_path: Path) -> None:
    tiny = builders.tiny(tmp_path, builders.images(6), builders.labels(6, 5), first_label=1)
    labels = LABELS[:-6] + bytes([1, 5, 1, 0, 1, 1])

    with pytest.raises(FormatError, match=r"record 3 has label 0, .* 1 to 5.*`first_label`"):
        decoded(tiny, tiny.members | {"labels": labels})


def test_a_label_above_the_last_is_refused_when_labels_begin_late(tmp_path: Path) -> None:
    tiny = builders.tiny(tmp_path, builders.images(6), builders.labels(6, 5), first_label=1)
    labels = LABELS[:-6] + bytes([1, 1, 1, 1, 1, 6])

    with pytest.raises(FormatError, match=r"record 5 has label 6, .* 1 to 5"):
        decoded(tiny, tiny.members | {"labels": labels})


def test_two_hundred_and_fifty_six_classes_fit_into_a_byte(tmp_path: Path) -> None:
    values = np.array([0, 127, 128, 255], np.uint8)
    tiny = builders.tiny(tmp_path, builders.images(4), values, classes=256)

    [batch] = decoded(tiny, tiny.members)

    assert batch.labels.tolist() == [0, 127, 128, 255]


def test_decoding_reads_no_more_than_it_was_promised(tiny: Tiny) -> None:
    """A bomb of a member is given up one byte after its promised end."""
    read = {"images": 0, "labels": 0}

    class Endless:
        def __init__(self, name: str) -> None:
            self.name = name
            self._data: Iterator[int] = iter({"images": IMAGES, "labels": LABELS}[name])

        def readinto(self, buffer: memoryview, /) -> int:
            buffer[:] = bytes(next(self._data, 0) for _ in range(len(buffer)))
            read[self.name] += len(buffer)
            return len(buffer)

    with pytest.raises(FormatError, match="goes on after that"):
        list(idx.decode(lambda member: Endless(str(member)), tiny.dataset, tiny.split, 4))

    assert read["images"] <= len(IMAGES) + 1
    assert read["labels"] <= len(LABELS) + 1


QMNIST = ["label", "series", "writer", "number", "code", "index", "twin", "nothing"]
COLUMNS = bytes.fromhex(
    "00000c02 00000006 00000008"
    "00000004 00000004 00000f67 00000000 00000022 0001e4ef 00000000 00000000"
    "00000001 00000004 00000f67 00000001 0000001f ffffffff 00000000 00000000" + 4 * ("00000000" * 8)
)


def test_the_class_stands_in_one_of_several_columns_of_int32(tiny: Tiny) -> None:
    """Written by hand from the description in QMNIST's README."""
    tiny = with_columns(tiny, QMNIST, np.zeros((6, 8), np.int32))

    found = Batch.joined(decoded(tiny, {**tiny.members, "labels": COLUMNS}))

    assert found.labels.tolist() == [4, 1, 0, 0, 0, 0]
    assert found.labels.dtype == np.uint8
    assert [*found.extras] == QMNIST[1:]
    assert all(values.dtype == np.int32 for values in found.extras.values())
    assert {name: values[:2].tolist() for name, values in found.extras.items()} == {
        "series": [4, 4],
        "writer": [3943, 3943],
        "number": [0, 1],
        "code": [34, 31],
        "index": [124143, -1],
        "twin": [0, 0],
        "nothing": [0, 0],
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LABELS, ["int32 with 2 dimensions (magic 00000c02), found uint8 with 1"]),
        (COLUMNS[:11] + b"\7" + COLUMNS[12:], ["promises (6, 7)", "declares (6, 8)"]),
        (COLUMNS[:7] + b"\5" + COLUMNS[8:], ["promises (5, 8)", "declares (6, 8)"]),
        (COLUMNS[:-1], ["(6, 8) = 192 bytes", "ends too early"]),
        (COLUMNS + b"\0", ["(6, 8) = 192 bytes", "goes on after that"]),
        (COLUMNS[:15] + b"\5" + COLUMNS[16:], ["record 0 has label 5", "0 to 4"]),
        (COLUMNS[:12] + b"\xff" + COLUMNS[13:], ["record 0 has label -167", "0 to 4"]),
        (COLUMNS[:2] + b"\x0b" + COLUMNS[3:], ["expected IDX int32", "found int16"]),
    ],
)
def test_columns_that_break_the_format_are_refused(
    tiny: Tiny, data: bytes, words: list[str]
) -> None:
    tiny = with_columns(tiny, QMNIST, np.zeros((6, 8), np.int32))

    with pytest.raises(FormatError) as caught:
        decoded(tiny, {**tiny.members, "labels": data})

    for word in ["labels: ", *words]:
        assert word in str(caught.value)


def test_columns_that_nobody_declares_are_refused(tiny: Tiny) -> None:
    with pytest.raises(FormatError, match=r"expected IDX uint8 .*found int32 with 2"):
        decoded(tiny, {**tiny.members, "labels": COLUMNS})


def test_columns_of_a_split_without_labels_are_refused_by_the_catalogue(tmp_path: Path) -> None:
    members = {"images": IMAGES}
    facts = {
        "title": "Tiny",
        "format": "idx",
        "image": {"height": 4, "width": 3, "channels": 1},
        "classes": ["a"],
        "columns": {"label": "the class", "writer": "who wrote it"},
    }
    split = {"records": 6, "labelled": False, "images": "images"}

    with pytest.raises(CatalogueError, match="columns: they stand beside labels"):
        builders.published(tmp_path, members, facts, split)
