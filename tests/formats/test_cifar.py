"""CIFAR: planes become pixels, labels come from the right byte, and no record is ever cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.catalogue import load
from pipelines.declarations import Dataset, Member, Split
from pipelines.errors import FormatError
from pipelines.formats import cifar
from pipelines.records import Batch
from tests import builders
from tests.builders import Tiny


def decoded(
    dataset: Dataset, split: Split, members: dict[str, bytes], batch: int = 4, piece: int = 50
) -> list[Batch]:
    return list(cifar.decode(builders.opener(members, piece), dataset, split, batch))


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of CIFAR batches, however its records are shared out, empty batches included."""
    pixels, values = draw(builders.some_records(channels=3))
    groups = values % 3 if draw(st.booleans()) else None
    first = draw(st.sampled_from([0, 1, 251]))
    cuts = draw(st.lists(st.integers(0, len(values)), max_size=3))

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        tiny = builders.tiny(folder, pixels, values, groups, first_label=first)
        [whole] = tiny.members.values()
        size = len(whole) // len(values)
        members = {
            f"part_{number}.bin": whole[start * size : stop * size]
            for number, (start, stop) in enumerate(
                itertools.pairwise([0, *sorted(cuts), len(values)])
            )
        }
        split = replace(tiny.split, members={"batches": tuple(map(Member, members))})
        return replace(tiny, split=split, members=members), Batch(pixels, values, groups)

    return publish


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
