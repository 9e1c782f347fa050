"""Labels of more classes than a byte tells apart: in every export, as others read them.

Coarse classes too. No format that is built in has so many of them: one is made up here.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue, formats, products, stages, statistics, tables
from pipelines.declarations import Dataset, Split
from pipelines.descriptions import _fitting, croissant, embedding
from pipelines.formats import Format, Role
from pipelines.products import Subject
from pipelines.records import Batch, Members, OpenMember, Place
from pipelines.statistics import expectations
from tests import builders, caffe, tensorflow
from tests.exports import sets
from tests.exports.sets import Set

CLASSES, GROUPS, RECORDS = 300, 400, 40
SHAPE = (2, 3, 1)
ROW = np.dtype([("group", "<u2"), ("label", "<u2"), ("pixels", "u1", SHAPE)])


def decode(
    open_member: OpenMember, _dataset: Dataset, split: Split, batch_records: int
) -> Iterator[Batch]:
    [member] = split.members["stacked"]
    data = bytearray(split.records * ROW.itemsize)
    assert open_member(member).readinto(memoryview(data)) == len(data)
    for start in range(0, split.records, batch_records):
        yield batch(np.frombuffer(data, ROW)[start : start + batch_records])


def batch(rows: npt.NDArray[Any]) -> Batch:
    return Batch(*(np.ascontiguousarray(rows[name]) for name in ("pixels", "label", "group")))


def locate(_dataset: Dataset, split: Split, index: int, _members: Members) -> list[Place]:
    [member] = split.members["stacked"]
    return [Place("stacked", member, index * ROW.itemsize, (index + 1) * ROW.itemsize)]


def assemble(_dataset: Dataset, _split: Split, _places: object, parts: Sequence[bytes]) -> Batch:
    return batch(np.frombuffer(parts[0], ROW))


WIDE = Format(
    name="wide",
    roles={"stacked": Role(holds=("label", "coarse_label", "pixels"))},
    code_version="1",
    decode=decode,  # type: ignore[arg-type]
    locate=locate,
    assemble=assemble,
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    """Forty records of 300 classes and 400 coarse ones; the first and the last have some."""
    folder = tmp_path_factory.mktemp("wide")
    labels, groups = builders.labels(RECORDS, CLASSES), builders.labels(RECORDS, GROUPS, 7)
    labels[:3], groups[:3] = (0, 256, CLASSES - 1), (GROUPS - 1, 255, 0)
    images = builders.images(RECORDS, *SHAPE)
    rows = np.empty(RECORDS, ROW)
    rows["pixels"], rows["label"], rows["group"] = images, labels, groups
    facts = {
        "title": "Tiny",
        "format": "wide",
        "image": dict(zip(("height", "width", "channels"), SHAPE, strict=True)),
        "classes": [f"class {number}" for number in range(CLASSES)],
        "coarse_classes": [f"group {number}" for number in range(GROUPS)],
    }
    split = {
        "records": RECORDS,
        "counts": builders.counts(labels, CLASSES),
        "coarse_counts": builders.counts(groups, GROUPS),
        "stacked": "rows.bin",
    }
    (folder / "catalogue").mkdir()
    (folder / "rows.bin").write_bytes(rows.tobytes())
    (folder / "catalogue/tiny.toml").write_text(
        builders.declare({"rows.bin": rows.tobytes()})
        + f"[datasets.tiny]\n{builders.as_toml(facts)}"
        + f"[datasets.tiny.splits.train]\n{builders.as_toml(split)}"
    )
    with pytest.MonkeyPatch.context() as patch:
        known = {**formats.known(), "wide": WIDE}
        patch.setattr(formats, "known", lambda: known)
        source = catalogue.load(folder / "catalogue").sources["tiny"]
        dataset = source.datasets["tiny"]
        table = folder / "train.parquet"
        tables.write(source, dataset, dataset.splits["train"], folder, table)
        subject = Subject(source, dataset, tuple(dataset.splits.values()))
        yield Set(subject, {"train": table}, {"train": (images, labels, groups)})


def strictly_same(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)


def test_a_table_has_labels_of_two_bytes_whole_streamed_and_in_part(wide: Set) -> None:
    images, labels, groups = wide.arrays["train"]
    table = wide.tables["train"]

    schema = pq.read_schema(table)
    assert [str(schema.field(name).type) for name in ("label", "coarse_label")] == 2 * ["uint16"]
    [streamed] = tables.batches(table, 1, 30)
    for found, part in ((tables.read(table), slice(None)), (streamed, slice(1, 30))):
        strictly_same(found.images, images[part])
        strictly_same(found.labels, labels[part])
        assert found.coarse_labels is not None
        strictly_same(found.coarse_labels, groups[part])
    strictly_same(tables.labels(table)["coarse_label"], groups)
    dataset = wide.subject.dataset
    findings = expectations.of_table(table, dataset, dataset.splits["train"])
    assert all(one.passed for one in findings)


def test_a_name_beside_the_wrong_label_is_found_among_many_classes(
    wide: Set, tmp_path: Path
) -> None:
    table, wrong = pq.read_table(wide.tables["train"]), tmp_path / "wrong.parquet"
    at = table.schema.get_field_index("class")
    names = table["class"].cast("string").to_pylist()
    names[1] = "class 0"
    pq.write_table(table.set_column(at, "class", [names]), wrong)
    dataset = wide.subject.dataset

    findings = expectations.of_table(wrong, dataset, dataset.splits["train"])

    assert [one.check_name for one in findings if not one.passed] == ["labels_within_classes"]


def test_statistics_count_every_class(wide: Set, tmp_path: Path) -> None:
    _, labels, _ = wide.arrays["train"]

    statistics.write(wide.tables.values(), tmp_path / "statistics.parquet")

    found = pq.read_table(tmp_path / "statistics.parquet")
    assert str(found.schema.field("label").type) == "uint16"
    assert found["label"].to_pylist() == [*range(CLASSES), None]
    assert found["records"].to_pylist() == [*builders.counts(labels, CLASSES), RECORDS]


@pytest.mark.parametrize(
    ("name", "one_hot"),
    [
        (product.name, one_hot)
        for product in products.known().values()
        if product.read and "archives" not in product.needs
        for one_hot in (0, 1)
        if not one_hot or "one_hot" in {option.name for option in product.options}
    ],
)
def test_what_holds_records_gives_their_labels_back(
    wide: Set, tmp_path: Path, name: str, one_hot: int
) -> None:
    product = products.known()[name]
    assert stages.applies(product, wide.subject.source, wide.subject.dataset)
    goal = tmp_path / Path(product.path(wide.of("train"))).name
    split = "train" if product.scope == "split" else ""
    wide.write(name, goal, split, **({"one_hot": 1} if one_hot else {}))

    found = list(wide.read(name, goal, "train"))

    images, labels, groups = wide.arrays["train"]
    has_groups = any(str(column.of).startswith("coarse") for column in product.columns)
    sets.assert_same(found, (images, labels, groups if has_groups else None))
    records = [one.record for one in found]
    kinds = {one.labels.dtype for one in records}
    kinds |= {one.coarse_labels.dtype for one in records if one.coarse_labels is not None}
    assert kinds == {np.dtype(np.uint16)}


# --- as others read them --------------------------------------------------------------------------


def in_csv(path: Path) -> list[int]:
    return [int(line[0]) for line in np.loadtxt(path, np.int64, delimiter=",")]


def in_npy(path: Path) -> list[int]:
    found = np.load(path / "labels.npy")
    assert found.dtype == np.uint16
    return found.tolist()


def in_npz(path: Path) -> list[int]:
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["y_coarse_train"].dtype == arrays["y_train"].dtype == np.uint16
        return arrays["y_train"].tolist()


def in_hdf5(path: Path) -> list[int]:
    import h5py

    with h5py.File(path) as file:
        assert file["labels"].dtype == np.uint16
        assert len(file["coarse_labels"].attrs["classes"]) == GROUPS
        return file["labels"][:].tolist()


def in_safetensors(path: Path) -> list[int]:
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__")
    assert [*header] == ["coarse_labels", "labels", "images"], "the widest type first, then by name"
    about = header["labels"]
    assert about["dtype"] == "U16"
    start, stop = about["data_offsets"]
    return np.frombuffer(data[begin + start : begin + stop], "<u2").tolist()


def in_libsvm(path: Path) -> list[int]:
    from sklearn.datasets import load_svmlight_file

    return load_svmlight_file(path, n_features=6)[1].astype(int).tolist()


def in_arff(path: Path) -> list[int]:
    from scipy.io import arff

    records, _ = arff.loadarff(path)
    return [int(name.decode().split()[1]) for name in records["class"]]


def in_lmdb(path: Path) -> list[int]:
    return caffe.read(path.parent)[2]


def in_tfds(path: Path) -> list[int]:
    [file] = path.rglob("*.tfrecord-*")
    names = next(path.rglob("coarse_label.labels.txt")).read_text().splitlines()
    assert len(names) == GROUPS
    return [tensorflow.features(data)["label"] for data in tensorflow.records(file)]


def in_array_record(path: Path) -> list[int]:
    from array_record.python.array_record_module import ArrayRecordReader

    [file] = path.rglob("*.array_record-*")
    return [tensorflow.features(data)["label"] for data in ArrayRecordReader(str(file)).read_all()]


def in_huggingface(path: Path) -> list[int]:
    [file] = path.rglob("*.parquet")
    return pq.read_table(file)["label"].to_pylist()


def in_imagefolder(path: Path) -> list[int]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".png")]
    return [int(name.split("/")[1]) for name in names]


def in_webdataset(path: Path) -> list[int]:
    [shard] = path.iterdir()
    with tarfile.open(fileobj=io.BytesIO(shard.read_bytes())) as archive:
        cls = [m for m in archive.getmembers() if m.name.partition(".")[2] == "cls"]
        return [int(file.read()) for one in cls if (file := archive.extractfile(one))]


OTHERS: dict[str, Callable[[Path], list[int]]] = {
    name.removeprefix("in_"): value for name, value in globals().items() if name.startswith("in_")
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_libraries_find_the_labels(wide: Set, tmp_path: Path, name: str) -> None:
    product = products.known()[name]
    goal = tmp_path / Path(product.path(wide.of("train"))).name

    wide.write(name, goal, "train" if product.scope == "split" else "")

    assert OTHERS[name](goal) == wide.arrays["train"][1].tolist()


def test_no_export_of_records_is_forgotten() -> None:
    read = {name for name, product in products.known().items() if product.read}

    assert read - {*OTHERS} == {"raw"}, "publishers' files, in which labels are as they are"


# --- what is told of them -------------------------------------------------------------------------


def test_columns_are_of_the_type_that_they_have_in_this_dataset(wide: Set, tmp_path: Path) -> None:
    few = sets.build(tmp_path, coarse=3).subject.dataset
    for product in products.known().values():
        for column in product.columns_of(few):
            assert column.type != "uint16"
        for column in product.columns_of(wide.subject.dataset):
            assert not (column.of in ("label", "coarse_label") and column.type == "uint8")
    kinds = {column.name: column.type for column in embedding.DESCRIPTION.columns_of(few)}
    assert {field.name: str(field.type) for field in embedding._schema(5)} | kinds == {
        "index": "uint32",
        "label": "uint8",
        "x": "float32",
        "y": "float32",
    }
    assert str(embedding._schema(CLASSES).field("label").type) == "uint16"


def test_the_lines_that_open_a_csv_have_room_for_the_labels(wide: Set, tmp_path: Path) -> None:
    """A label above 255 that is read as a byte is another one's."""
    csv = products.known()["csv"]
    wide.write("csv", tmp_path / csv.path(wide.of("train")), "train")
    read = 0
    for reader in csv.read_by:
        if reader.name.startswith(("pandas", "polars")):
            found: dict[str, Any] = {}
            exec(csv.lines(reader, wide.of("train"), tmp_path), found)
            strictly_same(found["labels"], wide.arrays["train"][1])
            read += 1
    assert read == 2


def test_croissant_tells_the_type(wide: Set) -> None:
    said = croissant.document(wide.subject.source, wide.subject.dataset)

    fields = {field["@id"]: field["dataType"] for field in said["recordSet"][-1]["field"]}
    for name in ("train/label", "train/coarse_label"):
        assert fields[name] == ["sc:Integer", "cr:UInt16", "cr:Label"]


def test_classifiers_are_judged_by_whole_labels(wide: Set) -> None:
    """A label above 255 that is cut to a byte is another one's."""
    images, labels, _ = wide.arrays["train"]
    rows = images.reshape(len(images), -1)
    _, first = np.unique(rows, axis=0, return_index=True)  # no two that look alike
    data = _fitting.scaled(rows[first], labels[first], rows[first], labels[first])

    found = _fitting.outcome(_fitting.Task("KNeighborsClassifier", {"n_neighbors": 1}, 0), data)

    assert found.accuracy == 1


def test_no_hdf5_is_made_of_classes_whose_names_do_not_fit_into_an_attribute() -> None:
    hdf5 = products.known()["hdf5"]
    facts: Any = {"coarse_classes": ()}

    def applies(classes: int) -> bool:
        dataset: Any = type("", (), {"classes": ("a",) * classes, **facts})
        return hdf5.applies(dataset)

    assert applies(4_000)
    assert not applies(4_001)
