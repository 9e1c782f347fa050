"""The description `records`: its sheets, labels, distances and places are those of the records."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipelines import plan, stages
from pipelines.descriptions import _sheets, records
from pipelines.lineage import trace
from pipelines.products import Inputs
from pipelines.progress import silent
from pipelines.records import Members, Place
from pipelines.store import hashing
from tests import builders
from tests.assets.project import Project
from tests.builders import Array
from tests.descriptions.showing import published

TEN = [*"0123456789"]
KINDS = {"label": "<u1", "coarse_label": "<u1", "distances": "<f4", "indices": "<u4"}


def of_split(inputs: Inputs, split: str) -> Inputs:
    """The same, for one split alone."""
    [subject] = inputs.subjects
    return replace(inputs, subjects=(replace(subject, splits=(subject.dataset.splits[split],)),))


def written(folder: Path, images: Array, labels: Array, classes: list[str] = TEN) -> Path:
    """The page of a split of these records."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = published(folder / "made", {"train": (images, labels)}, classes)
    goal = folder / "train_records"
    goal.mkdir()
    records.write(of_split(inputs, "train"), goal, {}, silent)
    return goal


def data(folder: Path) -> dict[str, Any]:
    """What the script beside a page holds."""
    text = (folder / "records.js").read_text("utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("const RECORDS = ").removesuffix(";\n"))
    for name in KINDS.keys() & {name for name, packed in found.items() if packed}:
        found[name] = np.frombuffer(zlib.decompress(base64.b64decode(found[name])), KINDS[name])
    return found


def on_sheets(folder: Path) -> Array:
    """All images that stand on the sheets, as another library reads them."""
    about = data(folder)
    height, width, channels = about["image"]
    across, _ = about["sheet"]
    found = []
    for path in sorted(folder.glob("*.png")):
        whole = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
        rows = len(whole) // height
        apart = whole.reshape(rows, height, across, width, channels).transpose(0, 2, 1, 3, 4)
        found.append(apart.reshape(-1, height, width, channels))
    return np.concatenate(found)


def to_means(images: Array, labels: Array) -> npt.NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64)
    means = {label: flat[labels == label].mean(axis=0) for label in np.unique(labels)}
    return np.linalg.norm(flat - np.stack([means[label] for label in labels]), axis=1)


@pytest.mark.parametrize(
    ("count", "shape", "classes", "files"),
    [
        (2001, (28, 28, 1), 10, ["000.png", "001.png"]),
        (4000, (5, 3, 1), 47, ["000.png", "001.png"]),
        (150, (32, 32, 3), 10, ["000.png"]),
        (20, (28, 28, 1), 3, ["000.png"]),
        (1, (2, 7, 3), 2, ["000.png"]),
        (5, (1100, 2100, 1), 2, [f"00{number}.png" for number in range(5)]),
    ],
)
def test_the_sheets_hold_every_record_in_order_and_the_script_what_is_known_of_it(
    tmp_path: Path, count: int, shape: tuple[int, int, int], classes: int, files: list[str]
) -> None:
    images, labels = builders.images(count, *shape), builders.labels(count, classes)
    folder = written(tmp_path, images, labels, [f"class {label}" for label in range(classes)])

    assert builders.files_under(folder) == [*files, "index.html", "records.js"]
    found, shown = data(folder), on_sheets(folder)
    np.testing.assert_array_equal(shown[:count], images)
    assert not shown[count:].any(), "what is left of the last row is black"
    assert len(shown) - count < found["sheet"][0]
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_allclose(found["distances"], to_means(images, labels), rtol=1e-6, atol=1e-4)
    assert (found["records"], found["indices"], found["image"]) == (count, None, [*shape])


def test_the_distance_of_a_record_that_is_the_mean_of_its_class_is_0(tmp_path: Path) -> None:
    one, other = builders.images(1, 28, 28), builders.images(1, 28, 28, seed=1)
    images = np.concatenate([one, other, other, other])
    folder = written(tmp_path, images, np.array([4, 7, 7, 7], np.uint8))
    assert data(folder)["distances"].tolist() == [0, 0, 0, 0]


def test_a_sheet_has_no_more_pixels_than_any_device_draws() -> None:
    assert _sheets.Layout.of((28, 28, 1)) == _sheets.Layout(50, 40)
    assert _sheets.Layout.of((32, 32, 3)).records == 2000
    assert _sheets.Layout.of((224, 224, 3)) == _sheets.Layout(9, 9)
    assert _sheets.Layout.of((4096, 4096, 3)) == _sheets.Layout(1, 1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.publish(tmp_path)


@pytest.mark.slow
def test_every_byte_range_is_the_one_that_trace_verifies(project: Project) -> None:
    project.build(stages=("records",))
    settings = project.settings()
    chosen = settings.plan()
    for dataset in chosen.declared.datasets.values():
        for split in dataset.splits.values():
            name = f"{dataset.name}/{split.name}"
            known = data(settings.store.local(f"descriptions/{name}_records"))
            for index in range(0, split.records, 3):
                chain = trace.trace(chosen, settings.store, f"{name}:{index}")
                assert chain.holds
                hops = [hop for hop in chain.hops if hop.what == "member"]
                run = [run for run in known["runs"] if run["index"] <= index][-1]
                for hop, part in zip(hops, run["parts"], strict=True):
                    member = known["members"][part["member"]]
                    start = part["start"] + part["step"] * (index - run["index"])
                    assert hop.bytes == (start, start + part["bytes"])
                    said = "/".join(filter(None, (member["archive"], member["path"])))
                    assert hop.path.endswith(said)


def test_a_rule_tells_where_records_stand_and_each_is_told_where_there_is_none(
    project: Project,
) -> None:
    chosen = plan.of(
        plan.load(project.publisher.catalogue),
        {name: option.default for name, option in stages.options().items()},
    )
    declared = chosen.declared.datasets
    known = Members(lambda _: pytest.fail("nothing is opened"), lambda _: 15 * (2 + 48))

    def runs(name: str) -> list[tuple[int, int]]:
        dataset = declared[name]
        _, found = records.places(dataset, dataset.splits["train"], range(30), known)
        return [(run["index"], run["parts"][0]["step"]) for run in found]

    assert runs("tiny_digits") == [(0, 12)]
    assert runs("tiny_colours") == [(0, 50), (15, 50)], "it stands in two batches"


def test_records_that_stand_by_no_rule_are_each_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import formats

    dataset = plan.load(project.publisher.catalogue).datasets["tiny_digits"]
    split = dataset.splits["train"]
    [member] = split.members["images"]
    starts = [0, 7, 9, 40]

    def located(_dataset: Any, _split: Any, index: int, _members: Members) -> list[Place]:
        return [Place("images", member, starts[index], starts[index] + 2)]

    monkeypatch.setattr(
        formats, "named", lambda name: replace(formats.known()[name], locate=located)
    )
    known = Members(lambda _: pytest.fail("nothing is opened"), lambda _: 0)
    members, runs = records.places(dataset, split, range(4), known)

    assert members == [member]
    assert [(run["index"], run["parts"][0]["start"]) for run in runs] == [*enumerate(starts)]


def test_a_large_split_shows_a_share_of_each_class_evenly_spaced_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST", 100)
    images, labels = builders.images(1000, 4, 4), builders.labels(1000, 4)
    folder = written(tmp_path, images, labels, [*"abcd"])

    found = data(folder)
    indices = found["indices"]
    assert len(indices) == 100
    assert (np.diff(indices.astype(int)) > 0).all()
    np.testing.assert_array_equal(on_sheets(folder)[:100], images[indices])
    np.testing.assert_array_equal(found["label"], labels[indices])
    for label in range(4):
        of_class = np.flatnonzero(labels == label)
        here = indices[labels[indices] == label]
        assert len(here) == pytest.approx(len(of_class) / 10, abs=1)
        assert (np.diff(np.searchsorted(of_class, here)) == 10).all(), "every tenth of its class"
    expected = to_means(images, labels)[indices]
    np.testing.assert_allclose(found["distances"], expected, rtol=1e-6)
    for run in found["runs"]:
        assert (run["index"], run["parts"][0]["step"]) == (indices[0], 17)
        assert run["parts"][0]["what"] == "label, image"
    page = " ".join((folder / "index.html").read_text("utf-8").split())
    assert "<title>Shown, train: 100 of 1,000 records</title>" in page
    assert "100 of its 1,000 records are shown, evenly spaced within each class." in page


def test_all_of_a_split_of_100000_records_is_shown() -> None:
    labels = np.zeros(100_000, np.uint8)
    np.testing.assert_array_equal(records.sample(labels, records.MOST), np.arange(100_000))
    assert len(records.sample(np.zeros(100_001, np.uint8), records.MOST)) == 100_000


def test_the_page_is_html_asks_nobody_for_anything_and_names_mean_nothing_in_it(
    tmp_path: Path,
) -> None:
    names = ["<script>alert(1)</script>", '" onclick="x', "{{ 7 * 7 }}", "1"]
    folder = written(tmp_path, builders.images(20), builders.labels(20, 4), names)

    page = (folder / "index.html").read_text("utf-8")
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    root = parser.parse(page)
    assert [option.text for option in root.iter("option")][1:5] == [
        f"{label} · {name} ({np.sum(builders.labels(20, 4) == label)})"
        for label, name in enumerate(names)
    ]
    assert [script.get("src") for script in root.iter("script")] == ["records.js", None]
    [policy] = [
        meta.get("content") for meta in root.iter("meta") if "Policy" in meta.get("http-equiv", "")
    ]
    assert policy.startswith("default-src 'none'; img-src 'self' data: blob:; ")
    assert "http" not in policy
    assert data(folder)["classes"] == names


def test_the_same_bytes_come_out_whatever_lies_in_other_splits(tmp_path: Path) -> None:
    images, labels = builders.images(300, 8, 8), builders.labels(300, 10)
    both = published(
        tmp_path / "both", {"train": (images, labels), "test": (images[:9], labels[:9])}, TEN
    )
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    written(alone, images, labels)
    beside.mkdir()
    records.write(of_split(both, "train"), beside, {}, silent)
    assert hashing.sha256(beside) == hashing.sha256(alone / "train_records")
