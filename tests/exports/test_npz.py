"""NPZ: all splits in one file, under Keras' names, as numpy itself writes one."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import plan, products, stages, tables
from pipelines.errors import ArtefactError
from pipelines.products import Inputs, Subject
from pipelines.progress import silent
from tests import builders
from tests.builders import Publisher
from tests.exports import arrays


def written(publisher: Publisher, folder: Path, name: str) -> tuple[Path, Subject]:
    """The NPZ of a dataset with two splits."""
    catalogue = plan.load(publisher.catalogue)
    dataset = catalogue.datasets[name]
    source = catalogue.source_of(dataset)
    subject = Subject(source, dataset, tuple(dataset.splits.values()))
    lying = {split.name: folder / f"{split.name}.parquet" for split in subject.splits}
    for split in subject.splits:
        archives = publisher.mirror / source.name
        tables.write(source, dataset, split, archives, lying[split.name])
    product = products.known()["npz"]
    goal = folder / "made.npz"
    product.write(Inputs((subject,), {}, (), lying), goal, product.chosen({}), silent)
    return goal, subject


def test_both_splits_are_there_under_the_names_of_keras(
    publisher: Publisher, tmp_path: Path
) -> None:
    goal, _ = written(publisher, tmp_path, "tiny_digits")

    with np.load(goal, allow_pickle=False) as found:
        assert [*found] == ["x_train", "y_train", "x_test", "y_test"]
        for split in ("train", "test"):
            images, labels, _ = publisher.splits["tiny_digits", split]
            np.testing.assert_array_equal(found[f"x_{split}"], images[..., 0], strict=True)
            np.testing.assert_array_equal(found[f"y_{split}"], labels, strict=True)


def test_coarse_labels_are_there_where_a_dataset_has_them(
    publisher: Publisher, tmp_path: Path
) -> None:
    goal, subject = written(publisher, tmp_path, "tiny_colours")

    with np.load(goal) as found:
        assert [*found][:3] == ["x_train", "y_train", "y_coarse_train"]
        for split in ("train", "test"):
            images, labels, coarse = publisher.splits["tiny_colours", split]
            np.testing.assert_array_equal(found[f"x_{split}"], images, strict=True)
            np.testing.assert_array_equal(found[f"y_{split}"], labels, strict=True)
            np.testing.assert_array_equal(found[f"y_coarse_{split}"], coarse, strict=True)
    read = products.known()["npz"].read
    assert read is not None
    for split in subject.splits:
        _, _, coarse = publisher.splits["tiny_colours", split.name]
        stored = read(goal, replace(subject, splits=(split,)), 0, split.records)
        found_coarse = [one.record.coarse_labels for one in stored]
        np.testing.assert_array_equal(np.concatenate(found_coarse), coarse)


def test_nothing_in_the_zip_tells_when_it_was_made(tmp_path: Path) -> None:
    goal = arrays.grey(tmp_path / "grey").write("npz", tmp_path / "made.npz")

    with zipfile.ZipFile(goal) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
            assert member.compress_type == zipfile.ZIP_DEFLATED
            assert member.external_attr == 0o600 << 16, "as numpy has it"


def test_a_record_says_between_which_bytes_its_split_is_deflated(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("npz", tmp_path / "made.npz")
    [first, *_, last] = made.read("npz", goal)

    assert (first.start, first.stop) == (last.start, last.stop)
    assert first.facts["key"] == "x_train"
    data = goal.read_bytes()[first.start : first.stop]
    header_and_pixels = zipfile.zlib.decompress(data, -15)
    assert header_and_pixels.endswith(made.images.tobytes())


def test_a_changed_byte_is_noticed_whichever_record_is_read(tmp_path: Path) -> None:
    """Unless it says the same in other words: deflate has several for one text."""
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("npz", tmp_path / "made.npz")
    good, refused = goal.read_bytes(), 0
    [stored] = made.read("npz", goal, 0, 1)

    for at in range(stored.start, stored.stop):
        goal.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            arrays.same(made.read("npz", goal), made)
        except ArtefactError as error:
            refused += "holds no such NPZ, or is damaged" in str(error)

    assert refused > 0.95 * (stored.stop - stored.start)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    objects = np.array([print] * 40, object)
    np.savez(tmp_path / "made.npz", x_train=objects, y_train=made.labels)

    with pytest.raises(ArtefactError, match=r"expected pixels as uint8 \(40, 4, 3\)"):
        made.read("npz", tmp_path / "made.npz", 0, 1)


def test_it_is_one_artefact_of_a_dataset(publisher: Publisher) -> None:
    defaults = {name: option.default for name, option in stages.options().items()}
    found = plan.of(plan.load(publisher.catalogue), defaults)

    planned = found.artefacts["exports/tiny_digits/tiny_digits.npz"]

    assert planned.asset == ("tiny_digits", "npz")
    assert planned.needs == tuple(f"tables/tiny_digits/{s}.parquet" for s in ("train", "test"))
    assert builders.files_under(publisher.mirror / "tiny_digits")
