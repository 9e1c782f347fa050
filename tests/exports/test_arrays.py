"""NPZ, NPY, safetensors and HDF5: the same arrays under the same options, and back."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import products
from pipelines.errors import ArtefactError, TableError
from pipelines.exports import _arrays
from pipelines.reading import opening
from tests import builders
from tests.exports import arrays
from tests.exports.arrays import CHANNELS, Made

Arrays = dict[str, npt.NDArray[Any]]
EVERY = ("hdf5", "npy", "npz", "safetensors")
NAMES = ("images", "labels", "coarse_labels")


def from_hdf5(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def from_npy(path: Path) -> Arrays:
    return {file.stem: np.load(file, allow_pickle=False) for file in path.iterdir()}


def from_npz(path: Path) -> Arrays:
    names = {"x_train": "images", "y_train": "labels", "y_coarse_train": "coarse_labels"}
    with np.load(path, allow_pickle=False) as found:
        return {names[name]: found[name] for name in found.files}


def from_safetensors(path: Path) -> Arrays:
    """As the format's own page describes it."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    assert size % 8 == 0
    assert data[8:9] == b"{"
    assert len(header.pop("__metadata__")) == 1, "several would come in any order"
    ends = [0]
    found = {}
    for name, one in header.items():
        start, stop = one["data_offsets"]
        assert start == ends[-1], "there are no gaps"
        ends.append(stop)
        values = np.frombuffer(rest[start:stop], {"U8": "u1", "F64": "<f8"}[one["dtype"]])
        assert start % values.itemsize == 0, "aligned"
        found[name] = values.reshape(one["shape"])
    assert ends[-1] == len(rest)
    return found


OPENED: dict[str, Callable[[Path], Arrays]] = {
    "hdf5": from_hdf5,
    "npy": from_npy,
    "npz": from_npz,
    "safetensors": from_safetensors,
}


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return arrays.grey(tmp_path_factory.mktemp("grey"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return arrays.colours(tmp_path_factory.mktemp("colours"))


@pytest.mark.parametrize("kind", ["grey", "colours"])
@pytest.mark.parametrize("name", EVERY)
def test_every_shape_is_read_by_others_and_back_by_us(
    name: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made: Made = request.getfixturevalue(kind)
    for one_hot, flat, channels in itertools.product((False, True), (False, True), CHANNELS):
        chosen = {"one_hot": one_hot, "flat": flat, "channels": channels}
        goal = made.write(name, tmp_path / str(chosen), **chosen)

        found = OPENED[name](goal)

        expected = dict(zip(NAMES, made.expected(**chosen), strict=False))
        assert found.keys() == expected.keys()
        for array, values in expected.items():
            np.testing.assert_array_equal(found[array], values, strict=True)
        arrays.same(made.read(name, goal), made)


@pytest.mark.parametrize("name", EVERY)
def test_by_default_the_shapes_are_those_of_keras(name: str, grey: Made, tmp_path: Path) -> None:
    found = OPENED[name](grey.write(name, tmp_path / "made"))

    assert {key: (str(one.dtype), one.shape) for key, one in found.items()} == {
        "images": ("uint8", (40, 4, 3)),
        "labels": ("uint8", (40,)),
    }


@given(
    some=st.one_of(
        builders.some_records(channels=1, classes=256),
        builders.some_records(channels=3, classes=256),
    ),
    name=st.sampled_from(EVERY),
    channels=st.sampled_from(("none", "last")),
    one_hot=st.booleans(),
    batch=st.integers(1, 10),
)
@settings(deadline=None, max_examples=60)
def test_any_records_come_back_and_no_batch_size_changes_a_byte(
    tmp_path_factory: pytest.TempPathFactory,
    some: tuple[builders.Array, builders.Array],
    name: str,
    channels: str,
    one_hot: bool,
    batch: int,
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BATCH_RECORDS", batch)
        patch.setattr(_arrays, "_PIECE_RECORDS", batch)
        made = arrays.made(folder, *some, classes=256)
        first = made.write(name, folder / "a", told.append, channels=channels, one_hot=one_hot)
    again = arrays.made(folder / "again", *some, classes=256)
    second = again.write(name, folder / "b", channels=channels, one_hot=one_hot)

    assert sum(told) == len(some[1])
    arrays.same(made.read(name, first), made)
    for file in builders.files_under(first) if first.is_dir() else [""]:
        assert (first / file).read_bytes() == (second / file).read_bytes()


@pytest.mark.parametrize("name", EVERY)
def test_single_records_are_read_from_anywhere(
    name: str, colours: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arrays, "_READ_BYTES", 100)  # two records at once
    goal = colours.write(name, tmp_path / "made", one_hot=True)

    arrays.same(colours.read(name, goal, 33), colours, 33)
    for index in (0, 1, 17, 39):
        [stored] = colours.read(name, goal, index, index + 1)
        np.testing.assert_array_equal(stored.record.images[0], colours.images[index])
        assert stored.record.labels.tolist() == [colours.labels[index]]
    assert colours.read(name, goal, 40, 40) == []
    with pytest.raises(ArtefactError, match="has 40 records: no record 40"):
        colours.read(name, goal, 40, 41)


@pytest.mark.parametrize("name", ["npy", "safetensors"])
def test_the_bytes_of_a_record_are_where_it_says(name: str, colours: Made, tmp_path: Path) -> None:
    goal = colours.write(name, tmp_path / "made")

    for index, stored in enumerate(colours.read(name, goal)):
        data = (goal / stored.file).read_bytes()
        assert data[stored.start : stored.stop] == colours.images[index].tobytes()
        for column, labels in (("labels", colours.labels), ("coarse_labels", colours.coarse)):
            start, stop = stored.facts["bytes_of"][column]
            data = (goal / f"{column}.npy" if name == "npy" else goal).read_bytes()
            assert labels is not None
            assert data[start:stop] == bytes([labels[index]])


@pytest.mark.parametrize("name", EVERY)
def test_an_export_of_another_split_is_refused(
    name: str, grey: Made, colours: Made, tmp_path: Path
) -> None:
    other = arrays.grey(tmp_path / "other", records=41)
    wider = arrays.made(tmp_path / "w", builders.images(40, 4, 4), builders.labels(40, 5))

    for made in (other, wider, colours):
        goal = made.write(name, tmp_path / f"{id(made)}.made")
        with pytest.raises(ArtefactError, match=r"expected (pixels|label|arrays|x_train)"):
            grey.read(name, goal)


@pytest.mark.parametrize("name", EVERY)
def test_labels_that_are_not_one_hot_are_refused(
    name: str, grey: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(*given: Any) -> Any:
        for some in honest(*given):
            if given[1].column == "label":
                some[3] = wrong
            yield some

    honest = _arrays.values
    monkeypatch.setattr(_arrays, "values", values)
    for number, row in enumerate(([0] * 5, [1, 1, 0, 0, 0], [0.5] * 5, [2, 0, 0, 0, 0], [1] * 5)):
        wrong = row
        goal = grey.write(name, tmp_path / str(number), one_hot=True)

        with pytest.raises(ArtefactError, match=r"expected 1 in one place and 0 .* in record 3"):
            grey.read(name, goal)


@pytest.mark.parametrize("name", EVERY)
def test_a_table_that_is_none_of_ours_is_refused(name: str, grey: Made, tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"no table")
    wrong = Made(grey.subject, tmp_path / "table.parquet", grey.images, grey.labels, None)

    with pytest.raises(TableError, match=r"table\.parquet is not"):
        wrong.write(name, tmp_path / "made")

    assert [f for f in builders.files_under(tmp_path) if "partial" in f] == []


@given(
    name=st.sampled_from(EVERY),
    cut=st.floats(0, 1) | st.none(),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    added=st.binary(max_size=3),
    index=st.integers(0, 39),
    one_hot=st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_what_is_damaged_anywhere_gives_a_record_or_is_refused(
    grey: Made,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    cut: float | None,
    flips: list[tuple[float, int]],
    added: bytes,
    index: int,
    one_hot: bool,
) -> None:
    goal = grey.write(name, tmp_path_factory.mktemp("damaged") / "made", one_hot=one_hot)
    for file in sorted(goal.iterdir()) if goal.is_dir() else [goal]:
        data = bytearray(file.read_bytes())
        for where, byte in flips:
            data[int(where * len(data))] = byte
        file.write_bytes((data if cut is None else data[: int(cut * len(data))]) + added)

    try:
        [stored] = grey.read(name, goal, index, index + 1)
    except ArtefactError:
        return

    assert stored.record.images.shape == (1, 4, 3, 1)
    assert stored.record.images.dtype == stored.record.labels.dtype == np.uint8


@pytest.mark.parametrize("name", EVERY)
def test_a_file_that_is_not_there_is_named(name: str, grey: Made, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        grey.read(name, tmp_path / "nothing")


@pytest.mark.parametrize("shape", [(5,), (60_000, 28, 28), (698_000, 62), (10**6, 32, 32, 3)])
@pytest.mark.parametrize("dtype", ["|u1", "<f8"])
def test_the_header_of_npy_is_that_of_numpy(shape: tuple[int, ...], dtype: str) -> None:
    for longer in range(1, 70):  # past the next multiple of 64
        whole = (*shape, 10**longer) if len(shape) > 1 else shape
        file = io.BytesIO()
        said = {"descr": dtype, "fortran_order": False, "shape": whole}
        np.lib.format.write_array_header_1_0(file, said)

        assert _arrays.npy_header(_arrays.Array("pixels", dtype, whole)) == file.getvalue()


def test_they_say_that_labels_can_be_one_hot_and_images_of_three_shapes() -> None:
    for name in EVERY:
        options = {option.name: option for option in products.known()[name].options}
        assert options.keys() == {"one_hot", "flat", "channels"}
        assert options["channels"].choices == CHANNELS
