"""CIFAR: planes become pixels, labels come from the right byte, and no record is ever cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.catalogue import load
from pipelines.declarations import Dataset, Member, Split
from pipelines.errors import FormatError
from pipelines.formats import cifar
from pipelines.records import Batch
from tests import builders
from tests.builders import Array, Tiny


def decoded(
    dataset: Dataset, split: Split, members: dict[str, bytes], batch: int = 4, piece: int = 50
) -> list[Batch]:
    return list(cifar.decode(builders.opener(members, piece), dataset, split, batch))


@given(
    records=builders.some_records(channels=3),
    coarse=st.booleans(),
    first_label=st.sampled_from([0, 1, 251]),
    batch=st.integers(1, 12),
    piece=st.integers(1, 90),
)
@settings(deadline=None, max_examples=60)
def test_decoding_gives_back_what_was_encoded_whatever_the_batch_size(
    tmp_path_factory: pytest.TempPathFactory,
    records: tuple[Array, Array],
    coarse: bool,
    first_label: int,
    batch: int,
    piece: int,
) -> None:
    pixels, values = records
    groups = values % 3 if coarse else None
    tiny = builders.tiny(
        tmp_path_factory.mktemp("tiny"), pixels, values, groups, first_label=first_label
    )

    batches = decoded(tiny.dataset, tiny.split, tiny.members, batch, piece)

    assert all(len(part) <= batch for part in batches)
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), pixels, strict=True)
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), values, strict=True)
    assert all(part.images.flags.c_contiguous for part in batches)
    if groups is None:
        assert all(part.coarse_labels is None for part in batches)
    else:
        found = np.concatenate([b.coarse_labels for b in batches])
        np.testing.assert_array_equal(found, groups, strict=True)


def test_the_example_in_bytes_is_read_as_the_publisher_describes_it(tmp_path: Path) -> None:
    """<1 × coarse label><1 × fine label><red plane><green plane><blue plane>, each row by row."""
    zeros = np.zeros((1, 2, 2, 3), np.uint8)
    tiny = builders.tiny(tmp_path, zeros, np.zeros(1, np.uint8), np.zeros(1, np.uint8))
    record = bytes([2, 4]) + bytes([1, 2, 3, 4]) + bytes([11, 12, 13, 14]) + bytes([21, 22, 23, 24])

    [batch] = decoded(tiny.dataset, tiny.split, {"batch.bin": record})

    assert batch.images[0].tolist() == [[[1, 11, 21], [2, 12, 22]], [[3, 13, 23], [4, 14, 24]]]
    assert batch.labels.tolist() == [4]
    assert batch.coarse_labels is not None
    assert batch.coarse_labels.tolist() == [2]


def test_the_batches_of_a_split_follow_one_another(publisher: builders.Publisher) -> None:
    dataset = load(publisher.catalogue).datasets["tiny_colours"]
    pixels, fine, coarse = publisher.splits["tiny_colours", "train"]
    assert coarse is not None
    parts = {"train_1": slice(0, 15), "train_2": slice(15, 30)}
    members = {
        f"colours.tar.gz/bin/{name}.bin": builders.cifar(pixels[rows], coarse[rows], fine[rows])
        for name, rows in parts.items()
    }

    batches = decoded(dataset, dataset.splits["train"], members, batch=4)

    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), pixels)
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), fine)


@given(
    records=builders.some_records(channels=3),
    coarse=st.booleans(),
    first_label=st.sampled_from([0, 1, 251]),
    cuts=st.lists(st.integers(0, 9), max_size=3),
)
@settings(deadline=None, max_examples=40)
def test_what_stands_where_a_record_is_located_is_the_record_that_is_decoded(
    tmp_path_factory: pytest.TempPathFactory,
    records: tuple[Array, Array],
    coarse: bool,
    first_label: int,
    cuts: list[int],
) -> None:
    """However the records are shared out among batches, empty ones included."""
    groups = records[1] % 3 if coarse else None
    tiny = builders.tiny(tmp_path_factory.mktemp("tiny"), *records, groups, first_label=first_label)
    [whole], size = tiny.members.values(), len(tiny.members["batch.bin"]) // len(records[1])
    edges = [0, *sorted(min(cut, len(records[1])) for cut in cuts), len(records[1])]
    members = {
        f"part_{number}.bin": whole[start * size : stop * size]
        for number, (start, stop) in enumerate(itertools.pairwise(edges))
    }
    split = replace(tiny.split, members={"batches": tuple(map(Member, members))})
    expected = decoded(tiny.dataset, split, members, batch=1)

    for index, record in enumerate(expected):
        [place] = cifar.locate(tiny.dataset, split, index, lambda m: len(members[str(m)]))
        part = members[str(place.member)][place.start : place.stop]
        found = cifar.assemble(tiny.dataset, [part])
        np.testing.assert_array_equal(found.images, record.images, strict=True)
        np.testing.assert_array_equal(found.labels, record.labels, strict=True)
        np.testing.assert_array_equal(found.coarse_labels, record.coarse_labels, strict=coarse)


RECORD = 2 + 4 * 3 * 3


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Six images of 4×3 colour pixels in five classes and three coarse ones: 38 bytes each."""
    return builders.tiny(
        tmp_path, builders.images(6, 4, 3, 3), builders.labels(6, 5), builders.labels(6, 3)
    )


def _labelled(record: int, coarse: int, fine: int) -> bytes:
    data = bytearray(6 * RECORD)
    data[record * RECORD : record * RECORD + 2] = bytes([coarse, fine])
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["declares 6 records", "hold 0"]),
        (bytes(5 * RECORD), ["declares 6 records", "hold 5"]),
        (bytes(7 * RECORD), ["declares 6 records", "there are more"]),
        (bytes(6 * RECORD - 1), ["a record takes 38 bytes", "ends 37 bytes into one", "cut short"]),
        (bytes(6 * RECORD + 1), ["a record takes 38 bytes", "ends 1 bytes into one"]),
        (bytes(6 * (RECORD - 1)), ["a record takes 38 bytes", "with these labels"]),
        (_labelled(4, 0, 5), ["record 4 has label 5", "5 declared classes", "0 to 4"]),
        (_labelled(5, 3, 0), ["(coarse)", "record 5 has label 3", "3 declared classes", "0 to 2"]),
        (_labelled(0, 255, 0), ["(coarse)", "record 0 has label 255"]),
    ],
)
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_bytes_that_break_the_format_are_refused(
    tiny: Tiny, data: bytes, words: list[str], batch: int
) -> None:
    with pytest.raises(FormatError) as caught:
        decoded(tiny.dataset, tiny.split, {"batch.bin": data}, batch)

    for word in ["batch.bin", *words]:
        assert word in str(caught.value)


def test_a_label_below_the_first_is_refused(tmp_path: Path) -> None:
    tiny = builders.tiny(
        tmp_path, builders.images(2, 2, 2, 3), np.zeros(2, np.uint8), first_label=1
    )
    data = bytearray(tiny.members["batch.bin"])
    data[13] = 0  # the label of the second record

    with pytest.raises(FormatError, match=r"record 1 has label 0, .* 1 to 5"):
        decoded(tiny.dataset, tiny.split, {"batch.bin": bytes(data)})
