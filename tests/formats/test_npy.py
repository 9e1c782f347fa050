"""NPY: what NumPy wrote comes back, a member for each class; what breaks it is refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import catalogue
from pipelines.declarations import Member
from pipelines.errors import CatalogueError, FormatError
from pipelines.formats import npy
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Tiny


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(npy.decode(opened, tiny.dataset, tiny.split, batch))


def filled_up(data: bytes, size: int) -> bytes:
    """The same array behind a header of `size` bytes: those of many publishers have 80."""
    said = data[10 : 10 + int.from_bytes(data[8:10], "little")].rstrip()
    room = size - 10
    return data[:8] + struct.pack("<H", room) + said.ljust(room - 1) + b"\n" + data[128:]


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of NPY members, in the shapes, versions and headers that there are."""
    channels = draw(st.sampled_from([1, 3]))
    pixels, values = draw(builders.some_records(channels))
    values = np.sort(values)
    _, height, width, _ = pixels.shape
    shapes: list[tuple[int, ...]] = [(height * width * channels,), (height, width, channels)]
    shapes += [(height, width)] if channels == 1 else []
    form = draw(st.sampled_from(shapes))
    version = draw(st.sampled_from([(1, 0), (2, 0)]))
    is_short = version == (1, 0) and draw(st.booleans())

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        tiny = builders.tiny(folder, pixels, values, format="npy")
        members = {}
        for label, name in enumerate(tiny.members):
            data = builders.npy(pixels[values == label].reshape(-1, *form), version)
            members[name] = filled_up(data, 100) if is_short else data
        return replace(tiny, members=members), Batch(pixels, values)

    return publish


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Six images of 4×3 pixels: one of class 0, none of class 1, two, three, none."""
    values = np.array([0, 2, 2, 3, 3, 3], np.uint8)
    return builders.tiny(tmp_path, builders.images(6, 4, 3), values, format="npy")


def test_batches_are_full_whatever_the_classes_hold(tiny: Tiny) -> None:
    assert [len(batch) for batch in decoded(tiny, {**tiny.members}, batch=4)] == [4, 2]


def test_the_example_in_bytes_is_read_as_the_format_is_described(tmp_path: Path) -> None:
    """Written by hand from NumPy's description, with the 80 bytes that old files have."""
    tiny = builders.tiny(
        tmp_path, np.zeros((2, 1, 3, 1), np.uint8), np.zeros(2, np.uint8), format="npy", classes=1
    )
    said = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }"
    member = b"\x93NUMPY\x01\x00\x46\x00" + said.ljust(69) + b"\n" + bytes.fromhex("010203 fdfeff")

    [batch] = decoded(tiny, {"class 0.npy": member})

    assert len(member) == 80 + 6
    assert batch.images[:, 0, :, 0].tolist() == [[1, 2, 3], [253, 254, 255]]
    assert batch.labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    "said",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 12), }",
        "{'descr': '<u1', 'fortran_order': False, 'shape': (3, 12)}",
        "{'descr': '>u1', 'fortran_order': False, 'shape': (3, 12,), }",
        "{'descr': '=u1', 'fortran_order': False, 'shape': (3L, 12L), }",
        '{"shape":(3,4,3),"fortran_order":False,"descr":"|u1"}',
        "  {'shape': ( 3 , 4 , 3 , 1 ) , 'descr': '|u1', 'fortran_order': False , }   \n",
    ],
)
def test_a_header_may_be_written_in_any_way_that_says_the_same(tiny: Tiny, said: str) -> None:
    pixels = bytes(range(36))
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said.encode() + pixels

    *_, last = decoded(tiny, {**tiny.members, "class 3.npy": member}, batch=3)

    assert last.images.tobytes() == pixels


def test_a_record_is_located_by_the_header_of_its_own_member_and_that_is_read_once(
    tiny: Tiny,
) -> None:
    opened = []

    def open_member(member: Member) -> Any:
        opened.append(str(member))
        return builders.Bytes(str(member), tiny.members[str(member)], 7)

    def never(member: Member) -> int:
        raise AssertionError(f"the size of {member} decides nothing")

    members = Members(open_member, never)
    found = [npy.locate(tiny.dataset, tiny.split, index, members) for index in (2, 5, 4)]

    assert [(str(p.member), p.start, p.stop) for [p] in found] == [
        ("class 2.npy", 128 + 12, 128 + 24),
        ("class 3.npy", 128 + 24, 128 + 36),
        ("class 3.npy", 128 + 12, 128 + 24),
    ]
    assert opened == ["class 2.npy", "class 3.npy"]


def _said(text: str, version: bytes = b"\1\0", size: bytes | None = None) -> bytes:
    """A member with this header and the pixels of three images."""
    given = struct.pack("<H" if version == b"\1\0" else "<I", len(text)) if size is None else size
    return b"\x93NUMPY" + version + given + text.encode() + bytes(36)


RIGHT = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 12), }"
CUT = builders.npy(np.zeros((3, 12), np.uint8))


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["8 bytes of magic number and version", "ends too early"]),
        (CUT[:7], ["8 bytes of magic number and version", "ends too early"]),
        (CUT[:9], ["NPY 1.0 says in 2 bytes how long its header is", "ends too early"]),
        (CUT[:100], ["header of 118 bytes is promised", "ends too early"]),
        (CUT[:-1], ["(3, 12) = 36 bytes", "ends too early"]),
        (CUT[:128], ["(3, 12) = 36 bytes", "ends too early"]),
        (CUT + b"\0", ["(3, 12) = 36 bytes", "goes on after that"]),
        (b"PK\3\4" + bytes(99), ["magic number of NPY, 934e554d5059, found 504b", "not NPY"]),
        (b"<html><body>not found", ["found 3c68746d6c3e", "not NPY"]),
        (_said(RIGHT, b"\3\0"), ["expected NPY 1.0 or 2.0, found 3.0"]),
        (_said(RIGHT, b"\1\1"), ["expected NPY 1.0 or 2.0, found 1.1"]),
        (_said(RIGHT, b"\x09\0"), ["found 9.0"]),
        (_said(RIGHT, size=b"\x11\x27"), ["at most 10,000 bytes", "one of 10,001"]),
        (_said(RIGHT, b"\2\0", b"\xff\xff\xff\xff"), ["at most 10,000", "one of 4,294,967,295"]),
        (saved(np.zeros((3, 12), np.int8)), ["descr '|u1'", "found '|i1'"]),
        (saved(np.zeros((3, 12), ">u2")), ["found '>u2'"]),
        (saved(np.zeros((3, 12), bool)), ["found '|b1'"]),
        (saved(np.zeros((3, 12), "S1")), ["found '|S1'"]),
        (saved(np.full((3, 12), None)), ["found '|O'", "unpickled"]),
        (saved(np.zeros((3, 12), [("a", "u1")])), ["expected an NPY header such as", "[('a'"]),
        (saved(np.zeros((3, 12), np.uint8, "F")), ["C order", "found one in Fortran's"]),
        (saved(np.zeros((4, 12), np.uint8)), ["promises (4, 12)", "declares (3, 12) or (3, 4, 3"]),
        (saved(np.zeros((0, 12), np.uint8)), ["promises (0, 12)"]),
        (saved(np.zeros((3, 3, 4), np.uint8)), ["promises (3, 3, 4)", "(3, 4, 3)"]),
        (saved(np.zeros((3, 4, 3, 3), np.uint8)), ["promises (3, 4, 3, 3)"]),
        (saved(np.zeros(36, np.uint8)), ["promises (36)"]),
        (saved(np.uint8(3)), ["expected an NPY header such as", "'shape': ()"]),
        (_said(RIGHT.replace("12", "9" * 19)), [f"promises (3, {int('9' * 19):,})"]),
        (_said(RIGHT.replace("12", "9" * 20)), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("12", "-12")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("12", "12.0")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("12", "6 + 6")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("(3, 12)", "[3, 12]")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("(3, 12)", "(36)")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("False", "0")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("False", "'no'")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("'|u1'", "True")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("'|u1'", "''")), ["descr '|u1'", "found ''"]),
        (_said(RIGHT.replace("'descr': '|u1', ", "")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("}", "'more': 'x', }")), ["expected an NPY header such as"]),
        (_said(RIGHT.replace("}", "'descr': '|u1', }")), ["expected an NPY header such as"]),
        (_said(RIGHT + RIGHT), ["expected an NPY header such as"]),
        (_said(RIGHT[:-2]), ["expected an NPY header such as"]),
        (_said("__import__('os').abort()"), ["expected an NPY header such as", "__import__"]),
        (_said(""), ["expected an NPY header such as", "found ''"]),
        (_said("\u00e9" * 30), ["expected an NPY header such as"]),
    ],
)
@pytest.mark.parametrize("batch", [2, 100])
def test_bytes_that_break_the_format_are_refused(
    tiny: Tiny, data: bytes, words: list[str], batch: int
) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {**tiny.members, "class 3.npy": data}, batch)

    for word in ["class 3.npy: ", *words]:
        assert word in str(caught.value)


@given(
    said=st.text("{}()[]'\",:|u1L deshfraoOFTp_c0123456789\\\n", max_size=90)
    | st.lists(st.sampled_from([*RIGHT.split(" "), "L", ","]), max_size=12).map(" ".join),
)
@settings(deadline=None, max_examples=200)
def test_whatever_a_header_says_it_is_an_array_of_the_declared_shape_or_refused(
    tmp_path_factory: pytest.TempPathFactory, said: str
) -> None:
    values = np.zeros(3, np.uint8)
    folder = tmp_path_factory.mktemp("tiny")
    tiny = builders.tiny(folder, builders.images(3, 4, 3), values, format="npy", classes=1)

    try:
        [batch] = decoded(tiny, {"class 0.npy": _said(said)})
    except FormatError:
        return

    assert batch.images.shape == (3, 4, 3, 1)


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@given(array=hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(max_dims=4)))
@settings(deadline=None, max_examples=100)
def test_of_all_that_numpy_saves_only_unsigned_bytes_of_the_shape_are_read(
    tmp_path_factory: pytest.TempPathFactory, array: Any
) -> None:
    values = np.zeros(2, np.uint8)
    folder = tmp_path_factory.mktemp("tiny")
    tiny = builders.tiny(folder, builders.images(2, 2, 2), values, format="npy", classes=1)
    is_ours = array.dtype == np.uint8 and array.flags.c_contiguous
    is_ours &= array.shape in {(2, 4), (2, 2, 2), (2, 2, 2, 1)}

    if is_ours:
        [batch] = decoded(tiny, {"class 0.npy": saved(array)})
        np.testing.assert_array_equal(batch.images.ravel(), array.ravel())
    else:
        with pytest.raises(FormatError):
            decoded(tiny, {"class 0.npy": saved(array)})


def test_a_member_too_few_or_too_many_is_refused_when_it_is_read_too(tiny: Tiny) -> None:
    """Whoever made the declaration, and though the catalogue refuses it before."""
    for arrays in (tiny.split.members["arrays"][:-1], 2 * tiny.split.members["arrays"]):
        other = replace(tiny, split=replace(tiny.split, members={"arrays": arrays}))

        with pytest.raises(FormatError, match="tiny/train: arrays: expected 5 members, one for"):
            decoded(other, {**tiny.members})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", 'class 4.npy']", "]", "splits.train.arrays: expected 5 members, one for each class"),
        ("'class 4.npy']", "'class 0.npy']", "arrays: a member stands there twice"),
        ("format =", "first_label = 1\nformat =", "npy has upright images, labels from 0"),
        ("format =", 'orientation = "transposed"\nformat =', "npy has upright images"),
        ("format =", 'coarse_classes = ["a"]\nformat =', "no coarse_classes"),
        ("arrays = [", "batches = [", "arrays: missing key (format npy reads arrays)"),
    ],
)
def test_what_npy_can_not_hold_is_refused_by_the_catalogue(
    tiny: Tiny, tmp_path: Path, old: str, new: str, words: str
) -> None:
    toml = tmp_path / "catalogue/tiny.toml"
    assert old in toml.read_text()
    toml.write_text(toml.read_text().replace(old, new))

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(toml.parent)

    assert words in str(caught.value)


def test_more_classes_than_a_byte_tells_apart_have_labels_of_two_bytes(tmp_path: Path) -> None:
    values = np.array([0, 255, 256, 299], np.uint16)
    tiny = builders.tiny(tmp_path, builders.images(4), values, classes=300)

    batches = decoded(tiny, {**tiny.members}, batch=3)

    assert [batch.labels.dtype for batch in batches] == [np.uint16, np.uint16]
    assert np.concatenate([batch.labels for batch in batches]).tolist() == [0, 255, 256, 299]


def test_decoding_reads_no_more_than_it_was_promised(tiny: Tiny) -> None:
    """A bomb of a member is given up one byte after its promised end."""
    read = 0

    class Endless:
        name = "class 0.npy"
        _data: Iterator[int] = iter(tiny.members[name])

        def readinto(self, buffer: memoryview, /) -> int:
            nonlocal read
            buffer[:] = bytes(next(self._data, 0) for _ in range(len(buffer)))
            read += len(buffer)
            return len(buffer)

    with pytest.raises(FormatError, match="goes on after that"):
        list(npy.decode(lambda _member: Endless(), tiny.dataset, tiny.split, 4))

    assert read <= len(tiny.members["class 0.npy"]) + 1
