"""Sources whose records are files: as published, built of small archives, and decoded elsewhere.

Figures were taken from the publishers' pages and from other repositories; nothing is read off the
catalogue.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from assets.settings import BUILT_IN_CATALOGUE
from pipelines import plan
from pipelines.declarations import Catalogue, Dataset
from pipelines.errors import FormatError
from pipelines.formats import images
from pipelines.lineage import trace, verify
from pipelines.lineage.shallow import Verdict
from pipelines.progress import Display
from pipelines.store import Folder, layout, provenance
from tests import builders, published

ARCHIVES = {
    "eurosat/EuroSAT_RGB.zip": (94_658_721, "f46e308c4d50d4bf32fedad2d3d62f3b", "b4f5b234"),
    "omniglot/images_background.zip": (9_464_212, "68d2efa1b9178cc56df9314c21c6e718", "ad41ab67"),
    "omniglot/images_evaluation.zip": (6_462_886, "6b91aef0f799c5bb55b94e3f2daec811", "1f61a8f3"),
    "omniglot/images_background_small1.zip": (
        1_319_022,
        "e704a628b5459e08445c13499850abc4",
        "f38eb80f",
    ),
    "omniglot/images_background_small2.zip": (
        1_580_917,
        "b75a71a51d3b13f821f212756fe481fd",
        "3ccaa407",
    ),
    "tiny_imagenet/tiny-imagenet-200.zip": (
        248_100_043,
        "90528d7ca1a48142e341f4ef8d21d0de",
        "6198c8ae",
    ),
}
RECORDS = {
    "eurosat/all": (27_000, [3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000]),
    "omniglot_background/all": (19_280, [20] * 964),
    "omniglot_evaluation/all": (13_180, [20] * 659),
    "omniglot_small1/all": (2_720, [20] * 136),
    "omniglot_small2/all": (3_120, [20] * 156),
    "tiny_imagenet/train": (100_000, [500] * 200),
    "tiny_imagenet/val": (10_000, [50] * 200),
    "tiny_imagenet/test": (10_000, []),
}
# Height, width and channels; the first class and the last.
SHAPES = {
    "eurosat": ("64×64×3", "AnnualCrop", "SeaLake"),
    "omniglot_background": ("105×105", "Alphabet_of_the_Magi/character01", "Tifinagh/character55"),
    "omniglot_evaluation": ("105×105", "Angelic/character01", "ULOG/character26"),
    "omniglot_small1": ("105×105", "Balinese/character01", "Latin/character26"),
    "omniglot_small2": ("105×105", "Greek/character01", "Tagalog/character17"),
    "tiny_imagenet": ("64×64×3", "goldfish", "acorn"),
}
FOLDERS = {
    "eurosat/all": "EuroSAT_RGB.zip/EuroSAT_RGB",
    "omniglot_background/all": "images_background.zip/images_background",
    "omniglot_evaluation/all": "images_evaluation.zip/images_evaluation",
    "omniglot_small1/all": "images_background_small1.zip/images_background_small1",
    "omniglot_small2/all": "images_background_small2.zip/images_background_small2",
    "tiny_imagenet/train": "tiny-imagenet-200.zip/tiny-imagenet-200/train",
    "tiny_imagenet/val": "tiny-imagenet-200.zip/tiny-imagenet-200/val/images",
    "tiny_imagenet/test": "tiny-imagenet-200.zip/tiny-imagenet-200/test/images",
}
NAMES = ("eurosat", "omniglot_small1", "omniglot_evaluation", "tiny_imagenet")


@pytest.fixture(scope="module")
def built_in() -> Catalogue:
    return plan.load(BUILT_IN_CATALOGUE)


# --- as published ---------------------------------------------------------------------------------


def test_their_archives_are_those_that_others_pin(built_in: Catalogue) -> None:
    found = {
        f"{name}/{one.name}": (one.size_bytes, one.md5, one.sha256 and one.sha256[:8])
        for name in ("eurosat", "omniglot", "tiny_imagenet")
        for one in built_in.sources[name].archives.values()
    }

    assert found == ARCHIVES
    assert {d.name for d in built_in.datasets.values() if d.format == "images"} == {*SHAPES}
    assert not {*SHAPES} & {dataset.name for dataset in built_in.by_default}


@pytest.mark.parametrize("where", RECORDS)
def test_they_have_the_published_records(built_in: Catalogue, where: str) -> None:
    name, split = where.split("/")
    found = built_in.datasets[name].splits[split]

    assert (found.records, [*found.counts]) == RECORDS[where]
    assert [str(folder) for folder in found.members["files"]] == [FOLDERS[where]]
    assert found.labelled == (where != "tiny_imagenet/test")


@pytest.mark.parametrize("name", SHAPES)
def test_they_have_the_published_shapes_and_classes(built_in: Catalogue, name: str) -> None:
    dataset = built_in.datasets[name]

    assert (str(dataset.image), dataset.classes[0], dataset.classes[-1]) == SHAPES[name]


def test_a_character_of_omniglot_is_in_the_background_or_new(built_in: Catalogue) -> None:
    classes = {
        name: {*built_in.datasets[f"omniglot_{name}"].classes}
        for name in ("background", "evaluation", "small1", "small2")
    }
    alphabets = {name: {c.partition("/")[0] for c in some} for name, some in classes.items()}

    assert not classes["background"] & classes["evaluation"]
    assert classes["small1"] | classes["small2"] < classes["background"]
    assert {name: len(some) for name, some in alphabets.items()} == {
        "background": 30,
        "evaluation": 20,
        "small1": 5,
        "small2": 5,
    }


def test_a_class_of_tiny_imagenet_is_the_folder_of_its_synset(built_in: Catalogue) -> None:
    dataset = built_in.datasets["tiny_imagenet"]
    known = dict(zip(dataset.folders, dataset.classes, strict=True))

    assert list(known) == sorted(known)
    assert known["n02124075"] == "Egyptian cat"
    assert known["n01443537"] == "goldfish"
    assert known["n04540053"] == "volleyball"
    assert dataset.grey == "repeated"


# --- built of small archives ----------------------------------------------------------------------


@dataclass(frozen=True)
class Small(published.Published):
    """A built-in dataset whose archive holds few files, and what its splits should have."""

    known: Catalogue
    wanted: Mapping[str, tuple[Any, list[int | None]]]

    @property
    def declared(self) -> Catalogue:
        return self.known


def file_of(dataset: Dataset, random: np.random.Generator) -> tuple[bytes, Any]:
    """A file as its publisher writes it, and the record that another reader makes of it."""
    height, width, channels = dataset.image.shape
    pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((width, height))
    file = io.BytesIO()
    if channels == 1:
        image.convert("1").save(file, "PNG")
    else:  # of Tiny ImageNet, some are grey
        is_grey = dataset.grey and random.random() < 0.3
        (image.convert("L") if is_grey else image).save(file, "JPEG")
    found = np.asarray(Image.open(file).convert("L" if channels == 1 else "RGB"))
    return file.getvalue(), found.reshape(dataset.image.shape)


def small(built_in: Catalogue, name: str, folder: Path) -> Small:
    """Publish an archive of few files, laid out as its publisher does."""
    dataset = built_in.datasets[name]
    source, random = built_in.source_of(dataset), np.random.default_rng(len(name))
    folders = dataset.folders or dataset.classes
    suffix = "png" if dataset.image.channels == 1 else "JPEG" if dataset.folders else "jpg"
    files: dict[str, bytes] = {}
    splits, wanted = {}, {}
    for key, split in dataset.splits.items():
        [root] = split.members["files"]
        found: list[tuple[Any, int | None]] = []
        lines = []
        for label, called in enumerate(folders if len(folders) < 500 else folders[:40]):
            for number in range(2):
                data, record = file_of(dataset, random)
                if "labels" in split.members or not split.labelled:
                    path = f"{key}_{len(found):04}.{suffix}"
                    lines.append(f"{path}\t{called}\t0\t0\t62\t62\n")
                else:
                    inside = "/images" if dataset.folders else ""
                    path = f"{called}{inside}/{number:04}.{suffix}"
                    files[f"{root.path}/{called}/{called[-9:]}_boxes.txt"] = b"\t0\n"
                files[f"{root.path}/{path}"] = data
                found.append((record, label if split.labelled else None))
        for member in split.members.get("labels", ()):
            files[member.path] = "".join(lines).encode()
        labels = [label for _, label in found if label is not None]
        counts = np.bincount(labels, minlength=len(folders)).tolist() if labels else ()
        splits[key] = replace(split, records=len(found), counts=tuple(counts))
        wanted[key] = (np.stack([record for record, _ in found]), [label for _, label in found])
        archive = root.archive
    data = builders.zipped({".DS_Store": b"", "__MACOSX/x.png": b"", **files})
    (folder / source.name).mkdir(parents=True)
    (folder / source.name / archive).write_bytes(data)
    made = replace(dataset, splits=splits)
    known = replace(
        source.archives[archive],
        size_bytes=len(data),
        md5=hashlib.md5(data).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    only = replace(source, archives={archive: known}, datasets={name: made})
    return Small(folder, folder, name, Catalogue({source.name: only}), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_verified_and_traced_as_it_is_declared(
    built_in: Catalogue, name: str, tmp_path: Path
) -> None:
    here, store = small(built_in, name, tmp_path / "mirror"), Folder(tmp_path / "data")

    made = here.build(store)

    assert all(one.is_sound for one in made.values())
    for key, (records, labels) in here.wanted.items():
        table = pl.read_parquet(store.local(layout.table(name, key)))
        found = np.frombuffer(b"".join(table["pixels"].to_list()), np.uint8)
        np.testing.assert_array_equal(found.reshape(records.shape), records)
        assert table["label"].to_list() == labels
        chain = trace.trace(here.plan, store, f"{name}/{key}:7")
        assert chain.holds, [hop.problem for hop in chain.hops]
        np.testing.assert_array_equal(chain.image, records[7])
    assert conditions(here, store) == {"whole"}


def verified(here: Small, store: Folder) -> list[Verdict]:
    return [*verify.verify(store, here.plan, [here.dataset], Display(), deep=True)]


def conditions(here: Small, store: Folder) -> set[str]:
    return {verdict.condition for verdict in verified(here, store)}


def test_a_trace_names_the_very_file_and_its_line_of_labels(
    built_in: Catalogue, tmp_path: Path
) -> None:
    here, store = small(built_in, "tiny_imagenet", tmp_path / "mirror"), Folder(tmp_path / "data")
    here.build(store)

    chain = trace.trace(here.plan, store, "tiny_imagenet/val:7")

    root = "archives/tiny_imagenet/tiny-imagenet-200.zip/tiny-imagenet-200/val"
    file, labels = [hop for hop in chain.hops if hop.what == "member"]
    line = len("val_0000.JPEG\tn01443537\t0\t0\t62\t62\n")
    assert (file.path, file.facts) == (f"{root}/images/val_0007.JPEG", {"role": "files"})
    assert file.bytes
    assert file.bytes[0] == 0
    assert labels.path == f"{root}/val_annotations.txt"
    assert labels.bytes == (7 * line, 8 * line)
    assert chain.facts["class"] == here.dataset.classes[3]


def test_a_table_is_traced_over_the_folder_that_it_was_made_from(
    built_in: Catalogue, tmp_path: Path
) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    here.build(store)

    chain = trace.trace(here.plan, store, "eurosat/all")

    assert chain.holds, [hop.problem for hop in chain.hops]
    [folder] = [hop for hop in chain.hops if hop.what == "member"]
    assert folder.path == "archives/eurosat/EuroSAT_RGB.zip/EuroSAT_RGB"
    assert folder.bytes
    assert folder.bytes[1] > 20 * 500


def test_a_damaged_file_is_blamed_where_its_record_is_traced(
    built_in: Catalogue, tmp_path: Path
) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    here.build(store)
    archive = store.local("archives/eurosat/EuroSAT_RGB.zip")
    data = archive.read_bytes()
    at = data.index(b"EuroSAT_RGB/Forest/0001.jpg") + 100
    archive.write_bytes(data[:at] + bytes(200) + data[at + 200 :])

    chain = trace.trace(here.plan, store, "eurosat/all:3")

    [member] = [hop for hop in chain.hops if hop.what == "member"]
    assert member.path.endswith("EuroSAT_RGB/Forest/0001.jpg")
    assert "damaged" in member.problem
    assert chain.facts["class"] == "Forest"


def test_an_archive_cut_short_of_a_file_makes_nothing(built_in: Catalogue, tmp_path: Path) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    splits = {"all": replace(here.dataset.splits["all"], records=21, counts=(3, *[2] * 9))}
    [source] = here.known.sources.values()
    more = replace(source, datasets={"eurosat": replace(here.dataset, splits=splits)})
    wrong = replace(here, known=Catalogue({"eurosat": more}))

    with pytest.raises(FormatError, match="3 images of class AnnualCrop are declared, but there a"):
        wrong.build(store)

    assert not store.local(layout.table("eurosat", "all")).exists()


# --- decoded elsewhere ----------------------------------------------------------------------------

ELSEWHERE = {"libjpeg-turbo": "2.0.0", "pillow": "9.0.0"}


def built_elsewhere(
    here: Small, store: Folder, stages: tuple[str, ...], versions: Mapping[str, str]
) -> None:
    """Build as on a machine of these libraries, whose decoder makes some pixels lighter by one."""
    decode, known = images._pixels, provenance.versions
    lighter = bytes(min(255, value + (value % 7 == 0)) for value in range(256))

    def others(*given: Any) -> Mapping[str, str]:
        found = known(*given)
        return {**found, **{name: versions[name] for name in versions if name in found}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_pixels", lambda *given: decode(*given).translate(lighter))
        patch.setattr(provenance, "versions", others)
        here.build(store, stages)


def test_provenance_tells_the_decoder(built_in: Catalogue, tmp_path: Path) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")

    here.build(store)

    known = provenance.latest(store, layout.table("eurosat", "all"))
    assert known
    assert {"pillow", "libjpeg-turbo"} <= known.run.versions.keys()
    assert known.format == "imagesets-lineage/2"


def test_what_another_decoder_made_is_not_called_changed_and_what_it_became_is_compared(
    built_in: Catalogue, tmp_path: Path
) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    built_elsewhere(here, store, (*published.BASIC, "csv", "npy"), ELSEWHERE)

    found = {verdict.path: verdict for verdict in verified(here, store)}

    table = found.pop(layout.table("eurosat", "all"))
    assert table.condition == "uncompared"
    assert "pixel (row" in table.why
    assert "it was made by pillow 9.0.0, and here is" in table.why
    assert "it was made by libjpeg-turbo 2.0.0, and here is" in table.why
    assert {verdict.condition for verdict in found.values()} == {"whole"}
    assert {"statistics/eurosat.parquet", "exports/eurosat/all.csv"} <= found.keys()
    chain = trace.trace(here.plan, store, "eurosat/all:3")
    [row] = [hop for hop in chain.hops if hop.what == "table"]
    assert "differ): it was made by pillow 9.0.0" in row.problem


def test_what_the_same_decoder_makes_otherwise_is_changed(
    built_in: Catalogue, tmp_path: Path
) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    built_elsewhere(here, store, published.BASIC, {})

    found = {verdict.path: verdict for verdict in verified(here, store)}

    assert found[layout.table("eurosat", "all")].condition == "changed"


@pytest.mark.parametrize("part", ["labels", "images"])
def test_a_decoder_is_no_excuse_for_other_labels_or_other_images(
    built_in: Catalogue, tmp_path: Path, part: str
) -> None:
    here, store = small(built_in, "eurosat", tmp_path / "mirror"), Folder(tmp_path / "data")
    labels, files = images._labels, images._files
    with pytest.MonkeyPatch.context() as patch:
        if part == "labels":
            patch.setattr(images, "_labels", lambda *given: labels(*given)[::-1].copy())
        else:  # Forest's stand where AnnualCrop's should
            order = [2, 3, 0, 1, *range(4, 20)]
            patch.setattr(images, "_files", lambda *given: [files(*given)[at] for at in order])
            patch.setattr(images, "_labels", lambda *given: np.sort(labels(*given)))
        built_elsewhere(here, store, published.BASIC, ELSEWHERE)

    found = {verdict.path: verdict for verdict in verified(here, store)}

    assert found[layout.table("eurosat", "all")].condition == "changed"
