"""MATLAB 5: what SciPy wrote comes back, packed or not; what breaks it is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st

from pipelines import catalogue, plan, stages
from pipelines.errors import CatalogueError, FormatError
from pipelines.exports import raw
from pipelines.formats import mat5
from pipelines.lineage import trace
from pipelines.products import Subject
from pipelines.records import Batch, Members
from pipelines.store import Folder
from tests import builders
from tests.builders import Array, Tiny

DEFAULTS = {name: option.default for name, option in stages.options().items()}
LABEL_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(mat5.decode(opened, tiny.dataset, tiny.split, batch))


def saved(packed: bool = True, **variables: Any) -> bytes:
    """As SciPy writes variables, in this order."""
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=packed)
    return file.getvalue()


def as_matlab(pixels: Array) -> Array:
    """Images with the records last, as SVHN has them."""
    return np.moveaxis(pixels, 0, -1)


def published(folder: Path, data: bytes, pixels: Array, **dataset: Any) -> Tiny:
    _, height, width, channels = pixels.shape
    facts = {
        "title": "Tiny",
        "format": "mat5",
        "image": {"height": height, "width": width, "channels": channels},
        "classes": [f"class {number}" for number in range(5)],
    }
    split = {"records": len(pixels), "images": "a.mat", "labels": "a.mat"}
    return builders.published(folder, {"a.mat": data}, facts | dataset, split)


def swapped(kind: int, *parts: bytes) -> bytes:
    """A variable's parts behind their tags, in the order of bytes of old machines."""
    data = b"".join(parts)
    return struct.pack(">2I", kind, len(data)) + data + bytes(-len(data) % 8)


def big_endian(pixels: Array, labels: Array) -> bytes:
    """Written by hand from the description of the format: nobody's library writes it today."""
    found = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    for name, values, kind, stored in (
        (b"y", labels.astype(">f8")[:, np.newaxis], 6, 9),
        (b"X", as_matlab(pixels), 9, 2),
    ):
        shape = struct.pack(f">{values.ndim}i", *values.shape)
        matrix = (
            swapped(6, struct.pack(">2I", kind, 0)),
            swapped(5, shape),
            struct.pack(">HH4s", 1, 1, name),  # in its tag: the size, then the type
            swapped(stored, values.tobytes("F")),
        )
        data = zlib.compress(swapped(14, *matrix))
        found += struct.pack(">2I", 15, len(data)) + data
    return found


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of such files: packed or not, in both orders of bytes and of variables."""
    pixels, values = draw(builders.some_records(draw(st.sampled_from([1, 3]))))
    kind = draw(st.sampled_from(LABEL_TYPES))
    packed, first = draw(st.booleans()), draw(st.sampled_from([0, 1, 100]))
    way = draw(st.sampled_from(["X y", "y X", "other X y", "swapped"]))
    flat = draw(st.booleans())

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        labels = (values.astype(np.int64) + first).astype(kind)
        variables: dict[str, Any] = {
            "X": as_matlab(pixels),
            "y": labels if flat else labels[:, np.newaxis],
            "other": {"cells": np.array([1, "x"], object)},
        }
        if way == "swapped":
            data = big_endian(pixels, labels)
        else:
            data = saved(packed, **{name: variables[name] for name in way.split()})
        return published(folder, data, pixels, first_label=first), Batch(pixels, values)

    return publish


PIXELS = builders.images(6, 4, 3, 3)
VALUES = np.array([[1], [2], [3], [4], [10], [1]], np.uint8)
SVHN = {"class_labels": [10, 1, 2, 3, 4]}


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Six images, of which the fifth has label 10 and is of class 0."""
    return published(tmp_path, saved(X=as_matlab(PIXELS), y=VALUES), PIXELS, **SVHN)


def test_images_and_labels_are_those_that_scipy_loads(tiny: Tiny) -> None:
    found = Batch.joined(decoded(tiny, {**tiny.members}))
    loaded = scipy.io.loadmat(io.BytesIO(tiny.members["a.mat"]))

    np.testing.assert_array_equal(found.images, loaded["X"].transpose(3, 0, 1, 2))
    assert found.labels.tolist() == [1, 2, 3, 4, 0, 1]


def test_labels_that_matlab_stores_as_bytes_of_a_double_are_read(tiny: Tiny) -> None:
    """MATLAB stores whole numbers of a double in the smallest type that holds them."""
    data = bytearray(saved(packed=False, X=as_matlab(PIXELS), y=VALUES))
    at = data.index(struct.pack("<2I", 6, 8), 200)
    assert data[at + 8] == 9
    data[at + 8] = 6  # the class: double

    assert scipy.io.loadmat(io.BytesIO(data), mat_dtype=True)["y"].dtype == np.float64
    found = Batch.joined(decoded(tiny, {"a.mat": bytes(data)}))
    assert found.labels.tolist() == [1, 2, 3, 4, 0, 1]


def test_a_place_is_one_in_the_file_that_scipy_writes_without_packing(tiny: Tiny) -> None:
    plain = saved(packed=False, X=as_matlab(PIXELS), y=VALUES)

    assert builders.unpacked(mat5.FORMAT, tiny.members["a.mat"])[128:] == plain[128:]
    known = Members(builders.opener(tiny.members), len)
    for index in range(6):
        image, label = mat5.locate(tiny.dataset, tiny.split, index, known)
        assert plain[image.start : image.stop] == PIXELS[index].tobytes("F")
        assert plain[label.start : label.stop] == VALUES[index].tobytes()


def test_images_are_not_unpacked_to_come_to_the_labels(tmp_path: Path) -> None:
    """What is packed of X is broken here after its first bytes: labels are found all the same."""
    pixels = np.random.default_rng(1).integers(0, 256, (60, 64, 64, 3), np.uint8)
    data = bytearray(saved(X=as_matlab(pixels), y=np.ones((60, 1), np.uint8)))
    data[400_000:400_100] = bytes(100)
    tiny = published(tmp_path, bytes(data), pixels, **SVHN)
    known = Members(builders.opener(tiny.members), len)

    _, label = mat5.locate(tiny.dataset, tiny.split, 7, known)
    assert label.stop - label.start == 1
    with pytest.raises(FormatError, match="damaged"):
        decoded(tiny, {**tiny.members}, batch=100, piece=1 << 20)


BIG = {"X": as_matlab(PIXELS), "y": VALUES}


def said_of(value: bytes | list[str]) -> str:
    """What a test is called by: not by bytes, in which SciPy writes the time."""
    return value[0] if isinstance(value, list) else "of"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["128 bytes of header", "ends too early"]),
        (saved(**BIG)[:100], ["128 bytes of header", "ends too early"]),
        (bytes(200), ["MATLAB file of version 5", "found 00000000"]),
        (
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(384),
            ["found 0002494d", "version 7.3, which is HDF5"],
        ),
        (saved(**BIG)[:128], ["expected a variable y, found none"]),
        (saved(X=as_matlab(PIXELS)), ["expected a variable y, found X"]),
        (saved(y=VALUES), ["expected a variable X, found y"]),
        (saved(**BIG) + saved(y=VALUES)[128:], ["two variables y"]),
        (saved(**BIG) + bytes(8), ["type 14 or 15), found type 0"]),
        (saved(**BIG) + b"\0", ["a tag of 8 bytes", "ends too early"]),
        (saved(**BIG)[:-1], ["a variable goes on for longer", "ends too early"]),
        (saved(**BIG | {"X": as_matlab(PIXELS[:5])}), ["X is of (4, 3, 3, 5)", "(4, 3, 3, 6)"]),
        (saved(**BIG | {"X": PIXELS}), ["X is of (6, 4, 3, 3)", "declares (4, 3, 3, 6)"]),
        (saved(**BIG | {"X": as_matlab(PIXELS) / 2}), ["X as uint8, found class 6"]),
        (saved(**BIG | {"X": as_matlab(PIXELS).astype("i1")}), ["X as uint8, found class 8"]),
        (saved(**BIG | {"y": VALUES[:5]}), ["y is of (5, 1)", "declares (6, 1) or (1, 6)"]),
        (saved(**BIG | {"y": VALUES / 2}), ["record 0 has label 0.5, which is no whole"]),
        (saved(**BIG | {"y": VALUES * np.nan}), ["record 0 has label nan"]),
        (saved(**BIG | {"y": VALUES * 1e300}), ["record 0 has label 1e+300"]),
        (saved(**BIG | {"y": VALUES * 1j}), ["y as an array of numbers, found complex"]),
        (saved(**BIG | {"y": VALUES * np.uint8(2)}), ["record 2 has label 6", "10, 1, 2, 3, 4"]),
        (saved(**BIG | {"y": VALUES.astype("i8") - 9}), ["record 0 has label -8"]),
        (saved(**BIG | {"y": np.full((6, 1), "x", object)}), ["numbers, found a cell"]),
        (saved(**BIG | {"y": {"a": 1}}), ["numbers, found a structure"]),
        (saved(**BIG | {"y": "abcdef"}), ["numbers, found text"]),
        (saved(**BIG | {"y": scipy.sparse.csc_array(VALUES / 1)}), ["numbers, found sparse"]),
    ],
    ids=said_of,
)
@pytest.mark.parametrize("batch", [2, 100])
def test_files_that_are_otherwise_are_refused(
    tiny: Tiny, data: bytes, words: list[str], batch: int
) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {"a.mat": data}, batch, piece=1 << 20)

    for word in ["a.mat: ", *words]:
        assert word in str(caught.value)


def repacked(data: bytes, change: Callable[[bytes], bytes], level: int = 9) -> bytes:
    """A file whose first variable, X, is changed as it is packed."""
    [size] = struct.unpack("<I", data[132:136])
    packed = change(zlib.decompress(data[136 : 136 + size]))
    inner = zlib.compress(packed, level)
    return data[:128] + struct.pack("<2I", 15, len(inner)) + inner + data[136 + size :]


def longer(data: bytes, more: bytes) -> bytes:
    """A file in which more stands after what is packed of X."""
    [size] = struct.unpack("<I", data[132:136])
    end = 136 + size
    return data[:132] + struct.pack("<I", size + len(more)) + data[136:end] + more + data[end:]


WHOLE = saved(**BIG)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (repacked(WHOLE, lambda x: x + bytes(8)), ["X goes on after its end"]),
        (repacked(WHOLE, lambda x: x + bytes(10_000_000)), ["X goes on after its end"]),
        (repacked(WHOLE, lambda x: x[:-1]), ["X is of (4, 3, 3, 6) = 216 bytes", "too early"]),
        (repacked(WHOLE, lambda x: x[:-216]), ["X is of (4, 3, 3, 6)", "too early"]),
        (repacked(WHOLE, lambda x: x[:4] + b"\xff" + x[5:]), ["216 bytes of values in a variable"]),
        (repacked(WHOLE, lambda x: x[:-220] + b"\xd9" + x[-219:]), ["217 bytes of values"]),
        (repacked(WHOLE, lambda x: b"\x0f" + x[1:]), ["an array (type 14) as a variable", "15"]),
        (repacked(WHOLE, lambda x: x[:8] + b"\7" + x[9:]), ["flags of a variable (type 6)", "7"]),
        (repacked(WHOLE, lambda x: x[:16] + b"\x30" + x[17:]), ["of class 48, which there is not"]),
        (longer(WHOLE, b"\0"), ["goes on after what is packed of it"]),
        (longer(WHOLE, bytes(1 << 20)), ["goes on after what is packed of it"]),
        (WHOLE[:150] + bytes(20) + WHOLE[170:], ["damaged"]),
    ],
    ids=said_of,
)
def test_variables_that_contradict_themselves_are_refused(
    tiny: Tiny, data: bytes, words: list[str]
) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {"a.mat": data}, piece=1 << 20)

    for word in ["a.mat: ", *words]:
        assert word in str(caught.value)


def test_what_such_files_can_not_hold_is_refused_by_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="format mat5 has images that are stored upright"):
        published(tmp_path, WHOLE, PIXELS, orientation="transposed")


def test_a_record_is_traced_to_its_bytes_and_read_back_from_the_file_as_published(
    tiny: Tiny, tmp_path: Path
) -> None:
    plain = saved(packed=False, **BIG)
    (archives := tmp_path / "data/archives/tiny").mkdir(parents=True)
    (archives / "a.mat").write_bytes(tiny.members["a.mat"])
    (tables := tmp_path / "data/tables/tiny").mkdir(parents=True)
    tiny.table(tables / "train.parquet")
    declared = plan.of(catalogue.load(tmp_path / "catalogue"), DEFAULTS)

    for index in (4, 1):
        chain = trace.trace(declared, Folder(tmp_path / "data"), f"tiny/train:{index}")
        hops = [hop for hop in chain.hops if hop.what == "member"]
        image, label = (slice(*(hop.bytes or ())) for hop in hops)
        assert all(hop.holds for hop in hops)
        assert plain[image] == PIXELS[index].tobytes("F")
        assert plain[label] == VALUES[index].tobytes()

    stored = [*raw.read(archives, Subject(tiny.source, tiny.dataset, (tiny.split,)), 1, 6)]
    for index, one in enumerate(stored, 1):
        np.testing.assert_array_equal(one.record.images[0], PIXELS[index])
        assert plain[one.start : one.stop] == PIXELS[index].tobytes("F")
    assert [int(one.record.labels[0]) for one in stored] == [2, 3, 4, 0, 1]


def test_where_images_are_damaged_the_trace_says_so_and_labels_hold(
    tiny: Tiny, tmp_path: Path
) -> None:
    (archives := tmp_path / "data/archives/tiny").mkdir(parents=True)
    (tables := tmp_path / "data/tables/tiny").mkdir(parents=True)
    tiny.table(tables / "train.parquet")
    damaged = bytearray(tiny.members["a.mat"])
    damaged[240:250] = bytes(10)
    (archives / "a.mat").write_bytes(damaged)
    declared = plan.of(catalogue.load(tmp_path / "catalogue"), DEFAULTS)

    chain = trace.trace(declared, Folder(tmp_path / "data"), "tiny/train:4")

    image, _ = (hop for hop in chain.hops if hop.what == "member")
    assert "damaged" in image.problem
    assert chain.facts["label"] == 0
