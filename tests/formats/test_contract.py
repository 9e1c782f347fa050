"""What every format keeps to, those included that are added one day: found, decoded, located.

A format that is added needs no line here, only `tests/formats/test_<name>.py` with `splits`: a
strategy of functions that publish a split in a folder and return it with its records.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_args

import dagster as dg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import metadata
from pipelines import catalogue, formats, plan, stages, tables
from pipelines.declarations import Split
from pipelines.errors import CatalogueError, FormatError
from pipelines.formats import Format
from pipelines.lineage import trace
from pipelines.records import Batch, Members
from pipelines.store import Folder
from tests import builders
from tests.builders import Tiny

Publish = Callable[[Path], tuple[Tiny, Batch]]

every_format = pytest.mark.parametrize("form", formats.known().values(), ids=formats.known())


# Before any test runs: Hypothesis refuses to meet more of its tests while it runs one.
TESTS = {name: importlib.import_module(f"tests.formats.test_{name}") for name in formats.known()}


def splits(form: Format) -> st.SearchStrategy[Publish]:
    """Any split of a format, as the tests of that format publish it."""
    found: st.SearchStrategy[Publish] = TESTS[form.name].splits()
    return found


def same(found: Batch, expected: Batch) -> None:
    np.testing.assert_array_equal(found.images, expected.images, strict=True)
    assert {*found.extras} == {*expected.extras}
    for one, other in (
        (found.known_labels, expected.known_labels),
        (found.coarse_labels, expected.coarse_labels),
        *((found.extras[name], expected.extras[name]) for name in found.extras),
    ):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other, strict=True)


def decoded(tiny: Tiny, members: Mapping[str, bytes], batch: int, piece: int) -> list[Batch]:
    opener = builders.opener(members, piece)
    decode = formats.named(tiny.dataset.format).decode
    return list(decode(opener, tiny.dataset, tiny.split, batch))


def located(tiny: Tiny, index: int) -> Batch:
    """The record that stands where the format says, found in the bytes of the members."""
    form, held = formats.named(tiny.dataset.format), tiny.members
    opener = builders.opener(held)
    members = Members(opener, lambda member: len(held[str(member)]), below=opener.below)
    places = form.locate(tiny.dataset, tiny.split, index, members)
    for place in places:
        declared = tiny.split.members[place.role]
        if form.roles[place.role].is_folder:
            assert any(place.member in opener.below(folder) for folder in declared)
        else:
            assert place.member in declared
    plain = {
        name: data if form.unpacked is None else builders.unpacked(form, data)
        for name, data in held.items()
    }
    parts = [plain[str(place.member)][place.start : place.stop] for place in places]
    return form.assemble(tiny.dataset, tiny.split, places, parts)


# --- What is declared -----------------------------------------------------------------------------


def test_every_module_of_the_room_is_a_format_of_its_name() -> None:
    [room] = map(Path, formats.__path__)
    lie_there = {path.stem for path in room.glob("[!_]*.py")}

    assert set(formats.known()) == lie_there
    assert all(formats.named(name).name == name for name in lie_there)


@every_format
def test_a_format_tells_which_members_hold_labels_and_pixels(form: Format) -> None:
    assert form.roles_of("label") == form.roles_of("class") != ()
    assert form.roles_of("pixels") == form.roles_of("index") != ()
    for role in form.roles.values():
        assert set(role.holds) <= set(get_args(formats.Part))


@every_format
def test_a_role_is_no_key_that_every_split_has(form: Format) -> None:
    assert not {*form.roles} & {field.name for field in fields(Split)}


def test_a_role_of_two_formats_is_one_member_to_both_or_several_to_both() -> None:
    said = {
        (name, r.several) for form in formats.known().values() for name, r in form.roles.items()
    }

    assert len(said) == len({name for name, _ in said})


# --- What is read ---------------------------------------------------------------------------------


@every_format
@given(data=st.data(), batch=st.integers(1, 12), piece=st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_decoding_gives_back_what_was_published_whatever_the_batch_size(
    tmp_path_factory: pytest.TempPathFactory,
    form: Format,
    data: st.DataObject,
    batch: int,
    piece: int,
) -> None:
    tiny, expected = data.draw(splits(form))(tmp_path_factory.mktemp("tiny"))

    batches = decoded(tiny, tiny.members, batch, piece)

    assert all(0 < len(part) <= batch for part in batches)
    assert all(part.images.flags.c_contiguous for part in batches)
    same(Batch.joined(batches), expected)


@every_format
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_what_stands_where_a_record_is_located_is_the_record_that_is_decoded(
    tmp_path_factory: pytest.TempPathFactory, form: Format, data: st.DataObject
) -> None:
    tiny, _ = data.draw(splits(form))(tmp_path_factory.mktemp("tiny"))

    for index, record in enumerate(decoded(tiny, tiny.members, batch=1, piece=1 << 20)):
        same(located(tiny, index), record)


@every_format
@given(data=st.data(), batch=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_a_member_that_ends_early_or_goes_on_too_long_is_never_cut_to_fit(
    tmp_path_factory: pytest.TempPathFactory, form: Format, data: st.DataObject, batch: int
) -> None:
    tiny, _ = data.draw(splits(form))(tmp_path_factory.mktemp("tiny"))
    name = data.draw(st.sampled_from([name for name, held in tiny.members.items() if held]))
    whole = tiny.members[name]
    wrong = data.draw(st.sampled_from([whole[:-1], whole + b"\0"]))

    with pytest.raises(FormatError):
        decoded(tiny, {**tiny.members, name: wrong}, batch, piece=1 << 20)


@every_format
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_member_that_is_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, form: Format, data: st.DataObject
) -> None:
    tiny, _ = data.draw(splits(form))(tmp_path_factory.mktemp("tiny"))
    name = data.draw(st.sampled_from([name for name, held in tiny.members.items() if held]))
    whole = tiny.members[name]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    with pytest.raises(FormatError):
        decoded(tiny, {**tiny.members, name: cut}, batch=5, piece=1 << 20)


@every_format
@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_member_with_other_bytes_gives_records_as_declared_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, form: Format, data: st.DataObject
) -> None:
    tiny, expected = data.draw(splits(form))(tmp_path_factory.mktemp("tiny"))
    name = data.draw(st.sampled_from([name for name, held in tiny.members.items() if held]))
    damaged = bytearray(tiny.members[name])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    try:
        batches = decoded(tiny, {**tiny.members, name: bytes(damaged)}, batch=5, piece=1 << 20)
    except FormatError:
        return

    found = Batch.joined(batches)
    assert found.images.shape == expected.images.shape
    if found.known_labels is not None:
        assert found.known_labels.shape == expected.labels.shape
        assert found.known_labels.max() < len(tiny.dataset.classes)


# --- What is added --------------------------------------------------------------------------------

SHEETS = '''
"""Made up: sheets that begin with a line of any length, which says how many records follow."""

import numpy as np

from ..errors import FormatError
from ..records import Batch, Place
from . import Format, Role
from ._bytes import expect_end, fill


def read_line(stream):
    line = np.zeros(1, np.uint8)
    while line[-1] != ord("\\n"):
        line = np.append(line, np.uint8(0))
        fill(stream, line[-1:], "a sheet begins with a line")
    return int(line[1:].tobytes().split()[0]), len(line) - 1


def decode(open_member, dataset, split, batch_records):
    for sheet in split.members["sheets"]:
        stream = open_member(sheet)
        records, _ = read_line(stream)
        for _ in range(records):
            record = np.empty(1 + dataset.image.size_bytes, np.uint8)
            fill(stream, record, f"{records} records are promised")
            yield assemble(dataset, split, (), [record.tobytes()])
        expect_end(stream, f"{records} records are promised")


def locate(dataset, split, index, members):
    size = 1 + dataset.image.size_bytes
    for sheet in split.members["sheets"]:
        records, begin = read_line(members.open(sheet))
        assert members.size_bytes(sheet) == begin + records * size
        if index < records:
            return [Place("sheets", sheet, begin + index * size, begin + (index + 1) * size)]
        index -= records
    raise FormatError(f"{sheet}: the sheets end too early.")


def assemble(dataset, split, places, parts):
    label, *pixels = b"".join(parts)
    shape = 1, *dataset.image.shape
    return Batch(np.array(pixels, np.uint8).reshape(shape), np.array([label], np.uint8))


def refuses(dataset):
    if dataset.first_label:
        yield "format sheets counts labels from 0"


FORMAT = Format(
    name="sheets",
    roles={"sheets": Role(holds=("label", "pixels"), several=True)},
    code_version="7",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
)
'''


DEFAULTS = {name: option.default for name, option in stages.options().items()}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules lie in the room of the formats, too."""
    folder = tmp_path / "room"
    folder.mkdir()
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])
    formats.known.cache_clear()
    yield folder
    formats.known.cache_clear()
    for path in folder.glob("*.py"):
        sys.modules.pop(f"{formats.__name__}.{path.stem}", None)
        monkeypatch.delattr(formats, path.stem, raising=False)


@pytest.fixture
def sheets(tmp_path: Path, room: Path) -> Tiny:
    """Nine records on three sheets, one of them empty, in a zip among the data."""
    (room / "sheets.py").write_text(SHEETS)
    pixels, values = builders.images(9, 4, 3, 3), builders.labels(9, 5)
    edges = {"4 records\n": 4, "0 records, as sometimes\n": 4, "5 records, the rest of them\n": 9}
    members = {}
    for (line, stop), start in zip(edges.items(), [0, *edges.values()], strict=False):
        records = np.column_stack([values, pixels.reshape(9, -1)])[start:stop]
        members[f"sheets.zip/{line[:1]}.txt"] = line.encode() + records.tobytes()
    archive = {"sheets.zip": builders.zipped({name[11:]: data for name, data in members.items()})}
    declared, data = tmp_path / "catalogue", tmp_path / "data"
    archives = data / "archives/made_up"
    for folder in (declared, archives):
        folder.mkdir(parents=True)
    (archives / "sheets.zip").write_bytes(archive["sheets.zip"])
    (declared / "made_up.toml").write_text(
        builders.declare(archive)
        + f"""
[datasets.sheets]
title = "Sheets"
format = "sheets"
image = {{ height = 4, width = 3, channels = 3 }}
classes = ["a", "b", "c", "d", "e"]

[datasets.sheets.splits.train]
records = 9
counts = {builders.counts(values, 5)}
sheets = {list(members)}
"""
    )
    source = catalogue.load(declared).sources["made_up"]
    dataset = source.datasets["sheets"]
    return Tiny(source, dataset, dataset.splits["train"], members, archives)


def test_a_format_that_is_added_as_one_module_is_read_like_any_other(
    sheets: Tiny, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    table = data / "tables/sheets/train.parquet"
    table.parent.mkdir(parents=True)

    found = tables.read(sheets.table(table))

    np.testing.assert_array_equal(found.images, builders.images(9, 4, 3, 3))
    np.testing.assert_array_equal(found.labels, builders.labels(9, 5))
    assert tables.code_version(sheets.dataset).endswith(".7")
    for index in range(9):
        record = slice(index, index + 1)
        same(located(sheets, index), Batch(found.images[record], found.labels[record]))


def test_a_record_of_an_added_format_is_traced_to_its_bytes(sheets: Tiny, tmp_path: Path) -> None:
    """Though its member's header has any length, and no declaration says how much it holds."""
    declared, data = catalogue.load(tmp_path / "catalogue"), tmp_path / "data"
    (data / "tables/sheets").mkdir(parents=True)
    sheets.table(data / "tables/sheets/train.parquet")
    begin, size = len("5 records, the rest of them\n"), 1 + 4 * 3 * 3

    chain = trace.trace(plan.of(declared, DEFAULTS), Folder(data), "sheets/train:6")

    hops = {hop.what: hop for hop in chain.hops}
    assert hops["table"].holds
    assert hops["member"].holds
    assert hops["member"].path == "archives/made_up/sheets.zip/5.txt"
    assert hops["member"].bytes == (begin + 2 * size, begin + 3 * size)


def test_a_broken_header_is_blamed_on_the_member_where_a_record_is_traced(
    sheets: Tiny, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "tables/sheets").mkdir(parents=True)
    sheets.table(data / "tables/sheets/train.parquet")
    (data / "archives/made_up/sheets.zip").write_bytes(builders.zipped({"4.txt": b"4 records"}))

    declared = catalogue.load(tmp_path / "catalogue")
    chain = trace.trace(plan.of(declared, DEFAULTS), Folder(data), "sheets/train:0")

    [member] = [hop for hop in chain.hops if hop.what == "member"]
    assert "a sheet begins with a line, but the member ends too early" in member.problem
    assert chain.facts["label"] == builders.labels(9, 5)[0]


def test_the_columns_of_an_added_format_come_from_its_members(sheets: Tiny) -> None:
    archives = dg.AssetKey(["made_up", "archives"])
    shown = metadata.table_columns(sheets.source, sheets.dataset, sheets.split, archives)

    lineage = shown["dagster/column_lineage"].deps_by_column
    assert {name: {dep.column_name for dep in deps} for name, deps in lineage.items()} == {
        name: set(sheets.members) for name in ("index", "label", "class", "pixels")
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Sheets"', 'title = "x"\nfirst_label = 1', "sheets counts labels from 0"),
        ("sheets = [", "sheet = [", "train.sheet: unknown key. Did you mean 'sheets'?"),
        ("sheets = [", "images = 'x'\nsheets = [", "images: format sheets reads sheets only"),
        ("sheets = [", "# [", "sheets: missing key (format sheets reads sheets)"),
        ("sheets = [", "sheets = [3, ", "train.sheets.0: Input should be a valid string, found 3"),
        ('"sheets"', '"sheet"', "datasets.sheets.format: Input should be '"),
    ],
)
def test_what_is_wrong_with_a_dataset_of_an_added_format_is_told(
    sheets: Tiny, tmp_path: Path, old: str, new: str, words: str
) -> None:
    toml = tmp_path / "catalogue/made_up.toml"
    toml.write_text(toml.read_text().replace(old, new))

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(toml.parent)

    assert words in str(caught.value)


def test_without_the_module_its_keys_are_unknown(sheets: Tiny, room: Path, tmp_path: Path) -> None:
    (room / "sheets.py").unlink()
    formats.known.cache_clear()

    with pytest.raises(CatalogueError, match="sheets: unknown key"):
        catalogue.load(tmp_path / "catalogue")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("", "pipelines.formats.png is no format: it declares no FORMAT"),
        ("FORMAT = 'png'", "its FORMAT is 'png'. Expected FORMAT = Format(name='png', …)"),
        (SHEETS, "its FORMAT is Format(name='sheets'"),
    ],
)
def test_a_module_without_a_format_of_its_name_is_an_error(
    room: Path, module: str, words: str
) -> None:
    (room / "png.py").write_text(module)

    with pytest.raises(TypeError) as caught:
        formats.known()

    assert words in str(caught.value)
    assert "call it _png" in str(caught.value)


def test_a_module_that_begins_with_an_underscore_only_helps(room: Path) -> None:
    (room / "_png.py").write_text("raise AssertionError('nobody asked for it')")

    assert "_png" not in formats.known()
