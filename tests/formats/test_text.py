"""Text: lines that others wrote come back by the declared rule; what breaks them is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file, load_digits

from pipelines import catalogue, tables
from pipelines.declarations import Numbers
from pipelines.errors import CatalogueError, FormatError
from pipelines.formats import text
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Array, Tiny

EXACT = Numbers("libsvm", "exact", 0, 255)


def decoded(tiny: Tiny, members: dict[str, bytes], batch: int = 4, piece: int = 7) -> list[Batch]:
    opened = builders.opener(members, piece)
    return list(text.decode(opened, tiny.dataset, tiny.split, batch))


def published(
    folder: Path, lines: bytes, records: int, numbers: Numbers, side: int = 2, **dataset: Any
) -> Tiny:
    facts = {
        "title": "Tiny",
        "format": "text",
        "image": {"height": side, "width": side, "channels": 1},
        "classes": [f"class {number}" for number in range(5)],
        "numbers": asdict(numbers),
    }
    split = {"records": records, "lines": "lines.txt"}
    return builders.published(folder, {"lines.txt": lines}, facts | dataset, split)


def written(words: list[list[str]], labels: list[int], numbers: Numbers, ending: str) -> bytes:
    """Lines of numbers as somebody may have written them."""
    lines = []
    for row, label in zip(words, labels, strict=True):
        if numbers.layout == "libsvm":
            fields = [str(label), *(f"{at}:{word}" for at, word in enumerate(row, 1))]
        elif numbers.layout == "one_hot":
            fields = [*row, *("1" if label == at else "0" for at in range(5))]
        else:
            fields = [*row, str(label)]
        lines.append(("," if numbers.layout == "label_last" else " ").join(fields) + ending)
    return "".join(lines).encode()


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of lines: of every layout, rule and ending."""
    pixels, values = draw(builders.some_records())
    layout = draw(st.sampled_from(["libsvm", "one_hot", "label_last"]))
    rule = draw(st.sampled_from(["exact", "cut"]))
    ending = draw(st.sampled_from(["\n", "\r\n", " \n", " \r\n"]))
    first = 0 if layout == "one_hot" else draw(st.sampled_from([0, 1, 200]))
    numbers = Numbers(layout, rule, -1, 1) if rule == "cut" else Numbers(layout, rule, 0, 255)
    side = len(pixels[0].ravel())
    if rule == "exact":
        words = [[f"{value}" for value in row] for row in pixels.reshape(-1, side).tolist()]
        images = pixels
    else:
        words = [
            [f"{value / 127.5 - 1:.6f}" for value in row]
            for row in pixels.reshape(-1, side).tolist()
        ]
        # In the words of torchvision's USPS.
        array = np.asarray(words, dtype=np.float32)
        images = ((array + 1) / 2 * 255).astype(dtype=np.uint8).reshape(pixels.shape)
    labels = [value + first for value in values.tolist()]

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        _, height, width, _ = pixels.shape
        shape = {"height": height, "width": width, "channels": 1}
        lines = written(words, labels, numbers, ending)
        tiny = published(folder, lines, len(pixels), numbers, image=shape, first_label=first)
        return tiny, Batch(images, values)

    return publish


def test_what_scikit_learn_writes_for_libsvm_is_read(tmp_path: Path) -> None:
    """It leaves zeros out, so that there are none here."""
    pixels = np.random.default_rng(3).integers(1, 256, (9, 3, 3, 1), np.uint8)
    labels, file = builders.labels(9, 5), io.BytesIO()
    dump_svmlight_file(
        pixels.reshape(9, -1).astype(float), labels.astype(int) + 1, file, zero_based=False
    )

    tiny = published(tmp_path, file.getvalue(), 9, EXACT, side=3, first_label=1)
    found = Batch.joined(decoded(tiny, {**tiny.members}))

    np.testing.assert_array_equal(found.images, pixels)
    np.testing.assert_array_equal(found.labels, labels)


def test_the_digits_that_scikit_learn_brings_are_read_as_it_reads_them(tmp_path: Path) -> None:
    """UCI's optdigits: 64 numbers from 0 to 16, then the label."""
    digits = load_digits()
    rows = np.column_stack([digits.data, digits.target]).astype(int).tolist()
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
    classes = [*map(str, range(10))]

    tiny = published(
        tmp_path, lines, 1797, Numbers("label_last", "cut", 0, 16), side=8, classes=classes
    )
    found = Batch.joined(decoded(tiny, {**tiny.members}, batch=1000, piece=1 << 20))

    np.testing.assert_array_equal(found.labels, digits.target)
    np.testing.assert_array_equal(found.images[..., 0], (digits.images / 16 * 255).astype(np.uint8))
    assert np.unique(found.images).tolist() == [15 * n + n * 15 // 16 for n in range(17)]


def test_the_examples_in_bytes_are_read_as_usps_and_semeion_are_described(tmp_path: Path) -> None:
    usps = b"10 1:-1.000000 2:-0.999999 3:0.001891 4:1.000000 \n6 1:1 2:0 3:-0.5 4:0.5 \n"
    tiny = published(tmp_path, usps, 2, Numbers("libsvm", "cut", -1, 1), first_label=6)
    found = Batch.joined(decoded(tiny, {"lines.txt": usps}))
    assert found.images.reshape(2, 4).tolist() == [[0, 0, 127, 255], [255, 127, 63, 191]]
    assert found.labels.tolist() == [4, 0]

    semeion = b"0.0000 1.0000 1.0000 0.0000 0 0 0 1 0 \r\n"
    tiny = published(tmp_path, semeion, 1, Numbers("one_hot", "exact"))
    [batch] = decoded(tiny, {"lines.txt": semeion})
    assert (batch.images.ravel().tolist(), batch.labels.tolist()) == ([0, 255, 255, 0], [3])


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Three lines of four numbers from 0 to 255."""
    return published(tmp_path, LINES, 3, EXACT)


LINES = b"0 1:0 2:1 3:2 4:3\n1 1:4 2:5 3:6 4:7\n4 1:255 2:254 3:8 4:9\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"2:5", b"3:5", ["line 2", "expected index 2, found 3", "has to be there"]),
        (b"2:5 ", b"", ["line 2", "LABEL 1:NUMBER … 4:NUMBER", "7 fields"]),
        (b"4:7", b"4:7 5:8", ["line 2", "expected LABEL 1:NUMBER", "11 fields"]),
        (b"2:5", b" 2:5", ["line 2", "expected LABEL 1:NUMBER"]),
        (b"2:5", b"2 5", ["line 2", "expected LABEL 1:NUMBER"]),
        (b"2:5", b"2:nan", ["line 2", "digits, point and sign, found b'n'"]),
        (b"2:5", b"2:inf", ["line 2", "found b'i'"]),
        (b"2:5", b"2:1e2", ["line 2", "found b'e'"]),
        (b"2:5", b"2:+5", ["line 2", "found b'+'"]),
        (b"2:5", b"2:0x5", ["line 2", "found b'x'"]),
        (b"2:5", b"2:\t5", ["line 2", "found b'\\t'"]),
        (b"2:5", b"2:5\0", ["line 2", "found b'\\x00'"]),
        (b"2:5", b"2:\xc2\xb2", ["line 2", "found b'\\xc2'"]),
        (b"2:5", b"2:-", ["line 2", "Failed to parse string: '-'"]),
        (b"2:5", b"2:1.2.3", ["line 2", "'1.2.3'"]),
        (b"2:5", b"2:5-", ["line 2", "'5-'"]),
        (b"2:5", b"2:", ["line 2", "Failed to parse string: ''"]),
        (b"2:5", b"2:256", ["line 2", "numbers from 0 to 255, found 256"]),
        (b"2:5", b"2:-1", ["line 2", "numbers from 0 to 255, found -1"]),
        (b"2:5", b"2:" + 400 * b"9", ["line 2", "from 0 to 255, found inf"]),
        (b"2:5", b"2:5.5", ["line 2", "256 intensities exactly, found 5.5", "`cut`"]),
        (b"1 1:4", b"1.5 1:4", ["line 2", "expected a label, found 1.5"]),
        (b"1 1:4", b"5 1:4", ["record 1 has label 5", "0 to 4"]),
        (b"1 1:4", b"-1 1:4", ["record 1 has label -1", "0 to 4"]),
        (b"1 1:4", b"99999999999 1:4", ["line 2", "expected a label, found 1e+11"]),
        (b"4:7\n", b"4:7\r\n", ["line 2", "found b'\\r'"]),
        (b"4:7\n", b"4:7 \n", ["line 2", "expected LABEL 1:NUMBER"]),
        (b"4:3\n", b"4:3\r\n", ["line 2", "end in b'\\r\\n' as the first line does"]),
        (b"4:3\n", b"4:3\n\n", ["line 2", "1 fields"]),
        (b"4:9\n", b"4:9", ["the last line does not end", "cut short"]),
        (b"4:9\n", b"4:9\n\0", ["the last line does not end"]),
        (b"4:9\n", b"4:9\n0 1:1 2:1 3:1 4:1\n", ["3 records are declared", "more lines"]),
        (b"4 1:255 2:254 3:8 4:9\n", b"", ["3 records are declared", "2 lines"]),
    ],
)
@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("piece", [5, 1 << 20])
def test_lines_that_break_the_format_are_refused(
    tiny: Tiny, old: bytes, new: bytes, words: list[str], batch: int, piece: int
) -> None:
    assert old in LINES
    with pytest.raises(FormatError) as caught:
        decoded(tiny, {"lines.txt": LINES.replace(old, new, 1)}, batch, piece)

    for word in ["lines.txt", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"0 1 1 0 0 0 0 0 0\n", "1 for one class and 0 for the others, found 0 0 0 0 0"),
        (b"0 1 1 0 1 0 1 0 0\n", "found 1 0 1 0 0"),
        (b"0 1 1 0 2 0 0 0 0\n", "found 2 0 0 0 0"),
        (b"0 1 1 0 0.5 0.5 0 0 0\n", "found 0.5 0.5 0 0 0"),
        (b"0 1 1 0 2 -1 0 0 0\n", "found 2 -1 0 0 0"),
        (b"0 1 1 0 1 0 0 0\n", "4 numbers, then 5 of 0 and 1, and ' ' between them; found 8"),
        (b"0 0.5 1 0 1 0 0 0 0\n", "256 intensities exactly, found 0.5"),
    ],
)
def test_columns_that_mark_no_class_or_several_are_refused(
    tmp_path: Path, line: bytes, words: str
) -> None:
    tiny = published(tmp_path, line, 1, Numbers("one_hot", "exact"))

    with pytest.raises(FormatError) as caught:
        decoded(tiny, {"lines.txt": line})

    assert "lines.txt, line 1: expected" in str(caught.value)
    assert words in str(caught.value)


def test_a_member_without_lines_is_given_up_before_it_fills_memory(tiny: Tiny) -> None:
    class Endless:
        name, read = "lines.txt", 0

        def readinto(self, buffer: memoryview, /) -> int:
            buffer[:] = b"1" * len(buffer)
            Endless.read += len(buffer)
            return len(buffer)

    with pytest.raises(FormatError, match="no line of such records has over"):
        list(text.decode(lambda _member: Endless(), tiny.dataset, tiny.split, 4))

    assert Endless.read < 1 << 20


def test_a_record_is_located_in_lines_that_are_gone_through_once(tiny: Tiny) -> None:
    opened = []

    def open_member(member: Any) -> Any:
        opened.append(str(member))
        return builders.Bytes(str(member), LINES, 7)

    known = Members(open_member, len)
    places = [text.locate(tiny.dataset, tiny.split, index, known) for index in (2, 0, 1)]

    lines = [LINES[place.start : place.stop] for [place] in places]
    assert lines == [LINES.splitlines(keepends=True)[index] for index in (2, 0, 1)]
    assert opened == ["lines.txt"]


def test_another_rule_makes_another_table(tmp_path: Path, tiny: Tiny) -> None:
    other = replace(tiny.dataset, numbers=Numbers("libsvm", "exact", 0, 510))
    one, two = (
        tables.artefact(tiny.source, dataset, tiny.split) for dataset in (tiny.dataset, other)
    )

    assert one.parameters["numbers"]["high"] == 255
    assert one.parameters != two.parameters


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"rule": "round"}, "numbers.rule: Input should be 'exact' or 'cut'"),
        ({"layout": "csv"}, "numbers.layout: Input should be 'libsvm', 'one_hot' or 'label_last'"),
        ({"low": 255}, "numbers: low must be less than high"),
        ({"height": 3}, "numbers.height: unknown key"),
    ],
)
def test_a_rule_that_is_none_is_refused_by_the_catalogue(
    tmp_path: Path, said: dict[str, Any], words: str
) -> None:
    published(tmp_path, LINES, 3, EXACT)
    toml = tmp_path / "catalogue/tiny.toml"
    rule = builders.as_toml({"numbers": asdict(EXACT)})
    assert rule in toml.read_text()
    wrong = builders.as_toml({"numbers": asdict(EXACT) | said})
    toml.write_text(toml.read_text().replace(rule, wrong))

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(toml.parent)

    assert words in str(caught.value)


def test_lines_without_a_rule_and_a_rule_without_lines_are_refused(tmp_path: Path) -> None:
    published(tmp_path, LINES, 3, EXACT)
    toml = tmp_path / "catalogue/tiny.toml"
    declared = toml.read_text()

    for old, new, words in (
        ("numbers =", "# ", "numbers: missing key (format text asks"),
        ("'text'", "'planes'", "numbers: format planes has no numbers"),
        ("'text'", "'idx'", "numbers: format idx has no numbers"),
        ("'text'", "'cifar'", "numbers: format cifar has no numbers"),
    ):
        assert old in declared
        toml.write_text(declared.replace(old, new))
        with pytest.raises(CatalogueError) as caught:
            catalogue.load(toml.parent)
        assert words in str(caught.value)


def test_one_hot_columns_have_no_labels_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="the columns are the classes"):
        published(tmp_path, LINES, 3, Numbers("one_hot", "exact"), first_label=1)


def test_numbers_are_read_as_exactly_as_python_reads_them(tmp_path: Path) -> None:
    """Where the intensity changes, the last digit of a long number decides."""
    random = np.random.default_rng(7)
    words = [f"{value:.{digits}f}" for digits in (1, 6, 17, 30) for value in random.random(225)]
    rule = Numbers("libsvm", "cut")
    line = written([words], [0], rule, "\n")

    tiny = published(tmp_path, line, 1, rule, side=30)
    [batch] = decoded(tiny, {"lines.txt": line}, piece=1 << 20)

    expected: Array = (np.array([*map(float, words)], np.float32) * np.float32(255)).astype(
        np.uint8
    )
    assert batch.images.ravel().tolist() == expected.tolist()
