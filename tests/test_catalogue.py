"""The catalogue: declarations are read strictly, and every problem of every file is told."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import catalogue, declarations, formats, plan
from pipelines.declarations import Catalogue
from pipelines.errors import CatalogueError, UnknownName
from pipelines.stages import DEFAULT
from tests.builders import Publisher

BUILT_IN = Path(__file__).parent.parent / "assets" / "catalogue"

Edit = Callable[[str], str]


def replaced(old: str, new: str) -> Edit:
    """An edit of a TOML's text, at one place that must be there."""

    def edit(text: str) -> str:
        assert old in text, f"the text to edit is gone: {old}"
        return text.replace(old, new, 1)

    return edit


def edited(publisher: Publisher, edit: Edit, source: str = "tiny_digits") -> Path:
    path = publisher.toml(source)
    path.write_text(edit(path.read_text("utf-8")), "utf-8")
    return publisher.catalogue


# --- what is read ---------------------------------------------------------------------------------


def test_a_catalogue_is_read_as_it_is_written(publisher: Publisher) -> None:
    found = plan.load(publisher.catalogue)

    assert list(found.sources) == ["tiny_colours", "tiny_digits", "tiny_letters"]
    letters = found.datasets["tiny_letters"]
    assert (letters.name, letters.source, letters.title) == (
        "tiny_letters",
        "tiny_letters",
        "Tiny letters",
    )
    assert letters.classes == ("A", "B", "C", "D")
    assert letters.first_label == 1
    assert letters.orientation == "transposed"
    assert (str(letters.image), letters.image.size_bytes) == ("5×5", 25)
    train = letters.splits["train"]
    assert (train.name, train.records, sum(train.counts)) == ("train", 30, 30)
    assert train.archives == ("letters.zip",)
    [images] = train.members["images"]
    assert (images.archive, images.path) == ("letters.zip", "gzip/train-images.gz")
    assert str(images) == "letters.zip/gzip/train-images.gz"
    assert images.facts is not None
    assert images.facts.size_bytes > 0
    source = found.source_of(letters)
    assert source.archives["letters.zip"].name == "letters.zip"
    size = publisher.archive("tiny_letters", "letters.zip").stat().st_size
    assert source.archives["letters.zip"].size_bytes == size


def test_defaults_lie_under_every_dataset_and_a_dataset_overrides_them(
    publisher: Publisher,
) -> None:
    found = plan.load(
        edited(publisher, replaced("first_label = 1", 'orientation = "upright"'), "tiny_letters")
    )

    letters = found.datasets["tiny_letters"]
    assert letters.format == "idx"
    assert letters.orientation == "upright"
    assert letters.first_label == 0


def test_a_member_may_be_the_archive_itself(publisher: Publisher) -> None:
    digits = plan.load(publisher.catalogue).datasets["tiny_digits"]

    [labels] = digits.splits["test"].members["labels"]
    assert (labels.archive, labels.path, labels.facts) == ("test-labels.gz", "", None)
    assert digits.splits["test"].archives == ("test-images.gz", "test-labels.gz")


def test_batches_keep_their_order(publisher: Publisher) -> None:
    colours = plan.load(publisher.catalogue).datasets["tiny_colours"]

    paths = [member.path for member in colours.splits["train"].members["batches"]]
    assert paths == ["bin/train_1.bin", "bin/train_2.bin"]
    assert (str(colours.image), colours.image.size_bytes) == ("4×4×3", 48)


def test_what_was_read_can_not_be_changed(publisher: Publisher) -> None:
    digits = plan.load(publisher.catalogue).datasets["tiny_digits"]

    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.title = "Other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.splits["train"].records = 1  # type: ignore[misc]


def test_files_that_are_not_toml_are_left_alone(publisher: Publisher) -> None:
    (publisher.catalogue / "notes.txt").write_text("not a source")

    assert len(plan.load(publisher.catalogue).sources) == 3


# --- what is asked for ----------------------------------------------------------------------------


@pytest.fixture
def built_in() -> Catalogue:
    return plan.load(BUILT_IN)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["mnist"], ["mnist"]),
        (["fashion_mnist", "mnist"], ["fashion_mnist", "mnist"]),
        (["mnist", "mnist"], ["mnist"]),
        (["emnist_letters", "cifar10"], ["emnist_letters", "cifar10"]),
        (
            ["emnist"],
            [
                "emnist_byclass",
                "emnist_bymerge",
                "emnist_balanced",
                "emnist_letters",
                "emnist_digits",
                "emnist_mnist",
            ],
        ),
        ([], []),
    ],
)
def test_datasets_are_chosen_by_their_name_or_their_sources(
    built_in: Catalogue, names: list[str], chosen: list[str]
) -> None:
    assert [dataset.name for dataset in built_in.select(names)] == chosen


@pytest.mark.parametrize(
    ("name", "meant"),
    [("mnits", "mnist"), ("fashion-mnist", "fashion_mnist"), ("emnits", "emnist")],
)
def test_a_misspelt_dataset_gets_a_suggestion(built_in: Catalogue, name: str, meant: str) -> None:
    with pytest.raises(UnknownName) as caught:
        built_in.select(["cifar10", name])

    assert f"no dataset {name!r}" in str(caught.value)
    assert f"Did you mean {meant!r}?" in str(caught.value)
    assert "cifar100" in str(caught.value)


def test_a_name_like_no_other_gets_no_suggestion(built_in: Catalogue) -> None:
    with pytest.raises(UnknownName, match="no dataset 'xyzzy'") as caught:
        built_in.select(["xyzzy"])

    assert "Did you mean" not in str(caught.value)


def test_an_archive_is_known_by_its_md5(built_in: Catalogue) -> None:
    assert (
        built_in.identify("9fb629c4189551a2d022fa330f9573f3") == "mnist/t10k-images-idx3-ubyte.gz"
    )
    assert (
        built_in.identify("bef4ecab320f06d8554ea6380940ec79")
        == "fashion_mnist/t10k-images-idx3-ubyte.gz"
    )
    assert built_in.identify("58c8d27c78d21e728a6bc7b3cc06412e") == "emnist/gzip.zip"
    assert built_in.identify("8915284f01051e4c8f6eaefd635931f7") == (
        "fashion_mnist@1/train-labels-idx1-ubyte.gz"
    )
    assert built_in.identify("0" * 32) is None


# --- what is built in -----------------------------------------------------------------------------

# (records of train, of test, classes, shape): as published, or counted in the publishers' files.
PUBLISHED = {
    "mnist": (60_000, 10_000, 10, "28×28"),
    "fashion_mnist": (60_000, 10_000, 10, "28×28"),
    "emnist_byclass": (697_932, 116_323, 62, "28×28"),
    "emnist_bymerge": (697_932, 116_323, 47, "28×28"),
    "emnist_balanced": (112_800, 18_800, 47, "28×28"),
    "emnist_letters": (124_800, 20_800, 26, "28×28"),
    "emnist_digits": (240_000, 40_000, 10, "28×28"),
    "emnist_mnist": (60_000, 10_000, 10, "28×28"),
    "cifar10": (50_000, 10_000, 10, "32×32×3"),
    "cifar100": (50_000, 10_000, 100, "32×32×3"),
}


def test_the_built_in_datasets_are_described_in_whole_sentences(built_in: Catalogue) -> None:
    for name, dataset in built_in.datasets.items():
        texts = (dataset.description, *dataset.quirks)
        assert dataset.quirks, name
        assert not any(text[0].islower() for text in texts if not text.startswith("ciFAIR")), name
        assert all(re.search(r"[^.]\.$", text) and "\n" not in text for text in texts), name


# As torchvision 0.29.2 and tensorflow_datasets 4.9.10 have them: bytes, MD5, beginning of SHA-256.
ARCHIVES = {
    "mnist/train-images-idx3-ubyte.gz": (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "440fcabf"),
    "mnist/train-labels-idx1-ubyte.gz": (28_881, "d53e105ee54ea40749a09fcbcd1e9432", "3552534a"),
    "mnist/t10k-images-idx3-ubyte.gz": (1_648_877, "9fb629c4189551a2d022fa330f9573f3", "8d422c7b"),
    "mnist/t10k-labels-idx1-ubyte.gz": (4_542, "ec29112dd5afa0611ce80d1b7f02629c", "f7ae60f9"),
    "fashion_mnist/train-images-idx3-ubyte.gz": (
        26_421_880,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "3aede38d",
    ),
    "fashion_mnist/train-labels-idx1-ubyte.gz": (
        29_515,
        "25c81989df183df01b3e8a0aad5dffbe",
        "a04f1713",
    ),
    "fashion_mnist/t10k-images-idx3-ubyte.gz": (
        4_422_102,
        "bef4ecab320f06d8554ea6380940ec79",
        "346e55b9",
    ),
    "fashion_mnist/t10k-labels-idx1-ubyte.gz": (
        5_148,
        "bb300cfdad3c16e7a12a480ee83cd310",
        "67da17c7",
    ),
    "emnist/gzip.zip": (561_753_746, "58c8d27c78d21e728a6bc7b3cc06412e", "fb9bb67e"),
    "cifar10/cifar-10-binary.tar.gz": (170_052_171, "c32a1d4ab5d03f1284b67883e8d87530", "c4a38c50"),
    "cifar100/cifar-100-binary.tar.gz": (
        168_513_733,
        "03b5dce01913d631647c71ecec9e9cb8",
        "58a81ae1",
    ),
}


def test_the_built_in_datasets_have_the_published_sizes(built_in: Catalogue) -> None:
    found = {
        name: (
            dataset.splits["train"].records,
            dataset.splits["test"].records,
            len(dataset.classes),
            str(dataset.image),
        )
        for dataset in built_in.by_default
        for name in [dataset.name]
    }

    assert found == PUBLISHED
    sources = list(dict.fromkeys(dataset.source for dataset in built_in.by_default))
    assert sources == ["cifar10", "cifar100", "emnist", "fashion_mnist", "mnist"]
    assert all(list(dataset.splits) == ["train", "test"] for dataset in built_in.by_default)


def test_the_built_in_archives_are_those_that_other_libraries_pin(built_in: Catalogue) -> None:
    found = {
        f"{source.name}/{archive.name}": (archive.size_bytes, archive.md5, archive.sha256[:8])
        for source in built_in.sources.values()
        if not source.on_request
        for archive in source.archives.values()
    }

    assert found == ARCHIVES


@pytest.mark.parametrize(
    ("dataset", "mean", "std"),
    [
        ("mnist", [0.1307], [0.3081]),
        ("fashion_mnist", [0.2860], [0.3530]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("cifar100", [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ],
)
def test_the_built_in_constants_are_the_published_ones(
    built_in: Catalogue, dataset: str, mean: list[float], std: list[float]
) -> None:
    found = built_in.datasets[dataset]

    assert found.mean == pytest.approx(mean, abs=5e-5)
    assert found.std == pytest.approx(std, abs=5e-5)


def test_the_quirks_of_emnist_and_cifar_100_are_declared(built_in: Catalogue) -> None:
    datasets = {one.name: one for one in built_in.by_default}

    transposed = {name for name, d in datasets.items() if d.orientation == "transposed"}
    assert transposed == {name for name in PUBLISHED if name.startswith("emnist")}
    assert {name for name, d in datasets.items() if d.first_label} == {"emnist_letters"}
    assert datasets["emnist_letters"].classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert len(datasets["cifar100"].coarse_classes) == 20
    assert datasets["cifar100"].classes[26] == "crab"  # and not "cra", as one copy of it says
    assert datasets["mnist"].splits["train"].counts == (
        (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949)
    )


# As the encyclopedia's page on MNIST and the publisher's page on Fashion-MNIST have them.
REPORTED = {
    "mnist": [
        *("12 % error", "0.8 % error", "0.42 % error", "0.39 % error", "0.27 % error"),
        *("0.31 % error", "0.26 % error", "0.21 % error", "0.21 % error", "0.18 % error"),
    ],
    "fashion_mnist": ["0.835", "0.898", "0.926", "0.934", "0.950", "0.954", "0.963", "0.967"],
    "kmnist": ["0.921", "0.9398", "0.9463"],
}


def test_results_that_others_reported_are_as_published_and_each_has_its_source(
    built_in: Catalogue,
) -> None:
    declared = {name: dataset.reported for name, dataset in built_in.datasets.items()}
    found = {name: [one.published for one in some] for name, some in declared.items() if some}
    assert found == REPORTED
    assert {one.source for one in declared["mnist"]} == {"Wikipedia, MNIST database"}
    assert {one.source for one in declared["fashion_mnist"]} == {"Fashion-MNIST's README"}
    assert all(one.url for some in declared.values() for one in some)
    assert [one.share_right for one in declared["mnist"]][:3] == [0.88, 0.992, 0.9958]


def test_what_others_reported_decides_nothing_of_what_a_plain_build_makes(
    publisher: Publisher,
) -> None:
    def declared() -> list[Any]:
        found = plan.of(plan.load(publisher.catalogue), {"compression_level": -1})
        some = found.of(found.declared.datasets.values(), DEFAULT)
        return [(one.path, one.artefact().code_version, one.artefact().parameters) for one in some]

    before = declared()
    edited(publisher, _dataset("reported", f"[{_RESULT}]"))
    assert plan.load(publisher.catalogue).datasets["tiny_digits"].reported
    assert declared() == before


# --- what is refused ------------------------------------------------------------------------------

TRAIN = "[datasets.tiny_digits.splits.train]"
DATASET = "[datasets.tiny_digits]"
HOMEPAGE = 'homepage = "https://example.org/"'
HASH = 'md5 = "'
NO_MIRRORS = "mirrors = []"
NAMELESS = f'"" = {{ bytes = 1, md5 = "{"0" * 32}", sha256 = "{"0" * 64}" }}'


def _split(key: str, value: str) -> Edit:
    return replaced(f"{TRAIN}\n", f"{TRAIN}\n{key} = {value}\n")


def _dataset(key: str, value: str) -> Edit:
    return replaced(f"{DATASET}\n", f"{DATASET}\n{key} = {value}\n")


_RESULT = '{ method = "SVM", source = "A page", accuracy = 0.9 }'


def _reported(facts: str) -> Edit:
    return _dataset("reported", f"[{{ {facts} }}]")


def _renamed_archive(name: str) -> Edit:
    def edit(text: str) -> str:
        return text.replace('"train-images.gz"', f'"{name}"')

    return edit


BAD = [
    # unknown keys, and keys that are only set while loading
    (replaced(HOMEPAGE, f"{HOMEPAGE}\nhomepag = 1"), ["homepag: unknown key", "'homepage'"]),
    (_dataset("clases", '["a"]'), ["datasets.tiny_digits.clases: unknown key", "'classes'"]),
    (_split("labelz", '"x"'), ["splits.train.labelz: unknown key", "'labels'"]),
    (_split("qqq", "1"), ["splits.train.qqq: unknown key"]),
    (_split("name", '"test"'), ["splits.train.name: unknown key"]),
    (_split("members", "{}"), ["splits.train.members: unknown key"]),
    (_dataset("source", '"mnist"'), ["tiny_digits.source: unknown key"]),
    (_dataset("name", '"mnist"'), ["tiny_digits.name: unknown key"]),
    (replaced(HOMEPAGE, f'{HOMEPAGE}\nname = "mnist"'), ["name: unknown key"]),
    (replaced("{ bytes =", '{ name = "x", bytes ='), ["name: unknown key"]),
    (replaced("{ bytes =", "{ size_bytes ="), ["size_bytes: unknown key"]),
    (replaced("width = 3,", "width = 3, depth = 3,"), ["image.depth: unknown key"]),
    # missing keys
    (replaced(HOMEPAGE, ""), ["homepage: missing key"]),
    (replaced('licence = "not stated"', ""), ["licence: missing key"]),
    (replaced(NO_MIRRORS, ""), ["mirrors: missing key"]),
    (replaced('title = "Tiny digits"', ""), ["datasets.tiny_digits.title: missing key"]),
    (replaced("records = 30", ""), ["splits.train.records: missing key"]),
    (replaced("height = 4, ", ""), ["image.height: missing key"]),
    (replaced('images = "train-images.gz"', ""), ["images: missing key", "images and labels"]),
    (replaced("bytes = ", "size = "), ["archives.train-images.gz.size: unknown key"]),
    # wrong types and impossible values
    (replaced("records = 30", 'records = "30"'), ["splits.train.records", "integer", "found '30'"]),
    (replaced("records = 30", "records = 30.0"), ["splits.train.records", "found 30.0"]),
    (replaced("records = 30", "records = true"), ["splits.train.records", "found True"]),
    (replaced("records = 30", "records = 0"), ["splits.train.records", "found 0"]),
    (replaced("records = 30", "records = -30"), ["splits.train.records", "found -30"]),
    (replaced("counts = [", "counts = [-1, "), ["splits.train.counts.0", "found -1"]),
    (replaced('["zero", "one", "two"]', '["zero", 1, "two"]'), ["classes.1", "string", "found 1"]),
    (replaced('["zero", "one", "two"]', '"zero"'), ["classes", "found 'zero'"]),
    (replaced('"zero"', '""'), ["classes.0", "at least 1 character", "found ''"]),
    (replaced("channels = 1", "channels = 2"), ["image.channels", "1 or 3", "found 2"]),
    (replaced("height = 4", "height = 0"), ["image.height", "found 0"]),
    (
        replaced('format = "idx"', 'format = "png"'),
        ["format: Input should be '", *formats.known(), "' or '", ", found 'png'"],
    ),
    (_dataset("orientation", '"sideways"'), ["orientation", "found 'sideways'"]),
    (_dataset("first_label", "256"), ["first_label", "found 256"]),
    (_dataset("mean", "[33.3]"), ["mean.0", "found 33.3"]),
    (_dataset("description", '" "'), ["description", "at least 1 character"]),
    (_dataset("description", '["x"]'), ["description", "string", "found ['x']"]),
    (_dataset("quirks", '"x"'), ["quirks", "found 'x'"]),
    (_dataset("quirks", '["x", ""]'), ["quirks.1", "at least 1 character"]),
    (_dataset("quirk", '["x"]'), ["quirk: unknown key", "Did you mean 'quirks'?"]),
    (replaced(HASH, f"{HASH}x"), ["train-images.gz.md5", "pattern"]),
    (replaced(HASH, f"{HASH}A"), ["train-images.gz.md5", "pattern"]),
    (replaced('sha256 = "', 'sha256 = "0'), ["train-images.gz.sha256", "pattern"]),
    (replaced("[archives]", "archives = 1\n[other]"), ["archives", "found 1"]),
    (lambda text: "defaults = 5\n" + text, ["defaults"]),
    # mirrors
    (replaced(NO_MIRRORS, 'mirrors = "https://example.org/"'), ["mirrors"]),
    (replaced(NO_MIRRORS, 'mirrors = ["ftp://example.org/"]'), ["mirrors.0", "ftp://example.org"]),
    (replaced(NO_MIRRORS, 'mirrors = ["https://example.org"]'), ["mirrors.0", "pattern"]),
    (replaced(NO_MIRRORS, 'mirrors = ["https://example.org/data"]'), ["mirrors.0", "pattern"]),
    (replaced(NO_MIRRORS, 'mirrors = ["https:///data/"]'), ["mirrors.0", "pattern"]),
    (replaced(NO_MIRRORS, 'mirrors = ["https://me:word@example.org/"]'), ["mirrors.0", "pattern"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://[::1/"]'), ["mirrors.0: can't be asked: Invalid"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.example:99999/"]'), ["can't be asked: Port out"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.example:b/"]'), ["can't be asked: Port could not"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.example:0/"]'), ["names no host, or port 0"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://:80/"]'), ["names no host"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.example/b c/"]'), ["a space or a control"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.example/b\\tc/"]'), ["a space or a control"]),
    (replaced(NO_MIRRORS, 'mirrors = ["http://a.ex\\u0000mple/"]'), ["a space or a control"]),
    (
        replaced(NO_MIRRORS, 'mirrors = ["https://a.example/", "http://b.example/"]'),
        ["mirrors", "http mirror may not stand after an https one"],
    ),
    # what no single key is guilty of
    (replaced("records = 30", "records = 31"), ["counts", "add up to 30", "records is 31"]),
    (replaced("counts = [", "counts = [0, "), ["counts", "expected 3 numbers", "found 4"]),
    (_split("coarse_counts", "[30]"), ["coarse_counts", "expected 0 numbers", "found 1"]),
    (replaced('"one", "two"', '"two", "two"'), ["classes", "two", "twice"]),
    (replaced('["zero", "one", "two"]', "[]"), ["classes", "at least one"]),
    (_dataset("first_label", "254"), ["classes", "one byte", "at most 2"]),
    (_dataset("coarse_classes", '["all"]'), ["format idx has one channel and no coarse_classes"]),
    (replaced("channels = 1", "channels = 3"), ["format idx has one channel"]),
    (_dataset("mean", "[0.1]"), ["mean and std", "both or neither"]),
    # what others report
    (_reported('method = "SVM", accuracy = 0.9'), ["reported.0.source: missing key"]),
    (
        _reported('method = "SVM", accuracy = 0.9, source = " "'),
        ["reported.0.source: ", "found ' '"],
    ),
    (_reported('source = "A page", accuracy = 0.9'), ["reported.0.method: missing key"]),
    (
        _reported('method = "SVM", source = "A page"'),
        ["reported.0: give accuracy or error_percent"],
    ),
    (
        _reported('method = "SVM", source = "A page", accuracy = 0.992, error_percent = 0.8'),
        ["reported.0: give accuracy or error_percent, as it was published"],
    ),
    (_reported('method = "SVM", source = "x", accuracy = 99.2'), ["reported.0.accuracy", "99.2"]),
    (
        _reported('method = "SVM", source = "x", error_percent = 101'),
        ["reported.0.error_percent", "found 101"],
    ),
    (_reported('method = "a", source = "x", accuracy = 1, year = 98'), ["reported.0.year", "98"]),
    (_reported('method = "a", source = "x", accuracy = 1, url = "x.org"'), ["reported.0.url"]),
    (_reported('method = "a", acuracy = 1'), ["acuracy: unknown key. Did you mean 'accuracy'?"]),
    (
        _dataset("reported", f"[{_RESULT}, {_RESULT}]"),
        ["reported.1: SVM stands there twice"],
    ),
    (
        _dataset("mean", "[0.1, 0.2]\nstd = [0.1, 0.2]"),
        ["mean: expected 1 value(s)", "std: expected 1 value(s)"],
    ),
    (_split("batches", '["train-images.gz"]'), ["batches", "images and labels only"]),
    (
        replaced('images = "train-images.gz"', 'images = "train-image.gz"'),
        ["train-image.gz is in no declared archive", "Did you mean 'train-images.gz'?"],
    ),
    (
        lambda text: text + f'[members."train-images.gz/x"]\nbytes = 1\nsha256 = "{"0" * 64}"\n',
        ["members.train-images.gz/x: no split reads it", "Did you mean 'train-images.gz'?"],
    ),
    (_renamed_archive("../train.gz"), ["archives.../train.gz", "plain file name"]),
    (_renamed_archive(".hidden.gz"), ["archives..hidden.gz", "plain file name"]),
    (replaced("[archives]", f"[archives]\n{NAMELESS}"), ["archives.: must be a plain file name"]),
    (lambda text: text.replace("splits.train", "splits.archives"), ["archives", "not allowed"]),
    (lambda text: text.replace("splits.train", "splits.statistics"), ["statistics", "not allowed"]),
    (lambda text: text.replace("splits.train", "splits.test_csv"), ["test_csv", "not allowed"]),
    (lambda text: text.replace("splits.train", "splits.croissant"), ["croissant", "not allowed"]),
    (lambda text: text.replace("splits.train", "splits.Train"), ["splits.Train", "not allowed"]),
    (lambda text: text.replace("s.tiny_digits", 's."../x"'), ["../x", "a name is lower-case"]),
    (lambda text: text.replace("s.tiny_digits", 's.""'), ["datasets.: a name is lower-case"]),
    (lambda text: text.replace("splits.train", 'splits.""'), ["splits.: a split is called train"]),
    # no TOML, or none of ours
    (replaced(DATASET, f'{DATASET}\nformat = "idx"'), ["not readable as TOML", "overwrite"]),
    (replaced(DATASET, "[datasets.tiny_digits"), ["not readable as TOML", "line"]),
    (lambda _text: "", ["title: missing key", "mirrors: missing key", "datasets: missing key"]),
    (lambda text: text[: text.index(DATASET)], ["datasets: missing key"]),
    (lambda text: text[: text.index(TRAIN)], ["splits: missing key"]),
    (lambda text: text[: text.index(TRAIN)] + "splits = {}", ["there is no split"]),
]


@pytest.mark.parametrize(
    ("edit", "words"), [pytest.param(*case, id=" ".join(case[1])[:60]) for case in BAD]
)
def test_a_declaration_that_can_not_be_true_is_refused(
    publisher: Publisher, edit: Edit, words: list[str]
) -> None:
    with pytest.raises(CatalogueError) as caught:
        plan.load(edited(publisher, edit))

    text = str(caught.value)
    assert str(publisher.catalogue) in text
    for word in ["tiny_digits.toml: ", *words]:
        assert word in text
    assert "tiny_letters.toml" not in text


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            replaced('"blue"]', '"blue"]\norientation = "transposed"'),
            ["format cifar is always upright"],
        ),
        (
            replaced("batches = ", "images = 'x'\nbatches = "),
            ["images: format cifar reads batches"],
        ),
        (
            lambda text: "\n".join(
                line for line in text.splitlines() if not line.startswith("batches")
            ),
            ["train: batches: missing key", "test: batches: missing key"],
        ),
        (replaced("coarse_counts = [", "coarse_counts = [1, "), ["coarse_counts: expected 2"]),
        (replaced('"red", "blue"', '"red", "red"'), ["coarse_classes: red stand(s) there twice"]),
    ],
)
def test_a_declaration_of_cifar_that_can_not_be_true_is_refused(
    publisher: Publisher, edit: Edit, words: list[str]
) -> None:
    with pytest.raises(CatalogueError) as caught:
        plan.load(edited(publisher, edit, "tiny_colours"))

    for word in ["tiny_colours.toml: ", *words]:
        assert word in str(caught.value)


def test_a_default_with_a_misspelt_key_is_refused(publisher: Publisher) -> None:
    folder = edited(publisher, replaced("orientation", "orientatoin"), "tiny_letters")

    with pytest.raises(
        CatalogueError, match=r"orientatoin: unknown key\. Did you mean 'orientation'"
    ):
        plan.load(folder)


def test_a_dataset_of_two_files_is_refused(publisher: Publisher) -> None:
    publisher.toml("other").write_text(publisher.toml("tiny_digits").read_text())

    with pytest.raises(CatalogueError) as caught:
        plan.load(publisher.catalogue)

    assert "'tiny_digits' is declared in other.toml too" in str(caught.value)
    assert "tiny_digits.toml: " in str(caught.value)


def test_a_source_has_a_name_that_can_be_a_folder(publisher: Publisher) -> None:
    publisher.toml("tiny_digits").rename(publisher.toml("Tiny-Digits"))

    with pytest.raises(CatalogueError, match=r"Tiny-Digits\.toml: the file's name must be lower"):
        plan.load(publisher.catalogue)


def test_all_problems_of_all_files_are_told_at_once(publisher: Publisher) -> None:
    edited(publisher, replaced("records = 30", "records = 31"))
    edited(publisher, replaced("[4, 4, 4]", "[4, 4, 5]"))
    edited(publisher, replaced(HOMEPAGE, "homepag = 1"), "tiny_letters")
    edited(publisher, replaced("first_label = 1", "first_label = 1.5"), "tiny_letters")
    publisher.toml("broken").write_bytes(b"\xff\xfe")

    with pytest.raises(CatalogueError) as caught:
        plan.load(publisher.catalogue)

    header, *problems = str(caught.value).splitlines()
    assert "has 6 problem(s)" in header
    assert [problem.split(":")[0].strip() for problem in problems] == [
        "broken.toml",
        *["tiny_digits.toml"] * 2,
        *["tiny_letters.toml"] * 3,
    ]


def test_all_problems_of_one_file_are_told_whatever_their_kind(publisher: Publisher) -> None:
    edited(publisher, replaced("records = 30", "records = 31"))
    edited(publisher, replaced(HOMEPAGE, f"{HOMEPAGE}\nhomepag = 1"))

    with pytest.raises(CatalogueError) as caught:
        plan.load(publisher.catalogue)

    assert "homepag: unknown key" in str(caught.value)
    assert "records is 31" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x = " + "[" * 9000, "not readable as TOML: it is nested too deeply"),
        ("x = " + "9" * 5000, "not readable as TOML: Exceeds the limit"),
        ("licence = 0x" + "f" * 9000, "found a number that is too large"),
        ("licence." + "a." * 3000 + "a = 1", "found tables that are nested too deeply"),
        ("defaults = 0x" + "f" * 9000, "defaults: expected a table, found a number that is too"),
        ("published = 0x" + "f" * 9000, "published: "),
    ],
    ids=lambda text: text[:12],
)
def test_a_file_that_python_can_not_read_or_show_is_refused_beside_the_others(
    publisher: Publisher, line: str, words: str
) -> None:
    text = publisher.toml("tiny_digits").read_text().replace('licence = "not stated"\n', "")
    publisher.toml("tiny_digits").write_text(f"{line}\n{text}")
    edited(publisher, replaced("first_label", "first_lable"), "tiny_letters")
    with pytest.raises(CatalogueError) as caught:
        plan.load(publisher.catalogue)
    assert words in str(caught.value)
    assert "Did you mean 'first_label'?" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("bytes = ", "bytes = 99999999999999999999", "less than or equal to 9223372036854775807"),
        ("records = 30", "records = 4294967297", "less than or equal to 4294967296"),
        ("height = 4, width = 3", "height = 65536, width = 32768", "65536×32768 takes 2,147,483,"),
        ("height = 4, width = 3", "height = 2147483648, width = 1", "has room for 2,147,483,647"),
        ("height = 4", "height = 0x" + "f" * 9000, "less than or equal to"),
    ],
    ids=lambda text: text[:40],
)
def test_a_number_that_nothing_can_hold_is_refused_beside_all_else(
    publisher: Publisher, old: str, new: str, words: str
) -> None:
    edited(publisher, replaced(old, new))
    edited(publisher, replaced("first_label", "first_lable"), "tiny_letters")
    with pytest.raises(CatalogueError) as caught:
        plan.load(publisher.catalogue)
    assert words in str(caught.value)
    assert "Did you mean 'first_label'?" in str(caught.value)


def test_an_image_may_be_as_large_as_a_record_of_a_table_can_be(publisher: Publisher) -> None:
    most = "height = 2147483647, width = 1"
    found = plan.load(edited(publisher, replaced("height = 4, width = 3", most)))
    size = found.datasets["tiny_digits"].image.size_bytes
    assert pa.binary(size).byte_width == size
    with pytest.raises((OverflowError, ValueError)):
        pa.binary(size + 1)


@pytest.mark.parametrize(
    "control", ["\\u001b[2J", "\\u009b", "\\u202e", "\\u2067", "\\u007f", "\\r"]
)
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('title = "Tiny digits', "datasets.tiny_digits.title"),
        ('"one', "datasets.tiny_digits.classes.1"),
        ('title = "Tiny', "title"),
        ('licence = "not', "licence"),
        ('citation = "@misc', "citation"),
        ('acknowledgements = "Made', "acknowledgements"),
    ],
)
def test_text_that_would_command_a_terminal_is_refused(
    publisher: Publisher, text: str, where: str, control: str
) -> None:
    with pytest.raises(CatalogueError) as caught:
        plan.load(edited(publisher, replaced(text, text + control + "x")))
    code = "000D" if control == "\\r" else control[2:6].upper()
    assert f"tiny_digits.toml: {where}: Text may not hold U+{code}, a control" in str(caught.value)
    assert declarations.CONTROLS.search(str(caught.value)) is None


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('citation = "@misc', True),
        ('licence = "not', True),
        ('title = "Tiny digits', False),
        ('"one', False),
    ],
)
def test_only_prose_may_have_several_lines(publisher: Publisher, text: str, is_read: bool) -> None:
    folder = edited(publisher, replaced(text, text + "\\n\\tx"))
    if is_read:
        assert plan.load(folder)
    else:
        with pytest.raises(CatalogueError, match=r"Text may not hold U\+000A"):
            plan.load(folder)


def test_a_coarse_class_that_would_command_a_terminal_is_refused(publisher: Publisher) -> None:
    with pytest.raises(CatalogueError, match=r"coarse_classes\.1: Text may not hold U\+001B"):
        plan.load(edited(publisher, replaced('"blue', '"blue\\u001b'), "tiny_colours"))


def test_a_name_that_is_too_long_for_a_folder_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="is no folder"):
        plan.load(tmp_path / ("x" * 300))


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder"])
def test_a_folder_without_declarations_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "catalogue"
    if what == "a file":
        folder.write_text("x")
    elif what == "an empty folder":
        folder.mkdir()

    with pytest.raises(CatalogueError, match=str(folder)) as caught:
        plan.load(folder)

    assert "one TOML file per source" in str(caught.value) or "no .toml file" in str(caught.value)


def test_whatever_a_line_says_it_is_read_or_refused(publisher: Publisher) -> None:
    """Every line of every file in turn gets every kind of value: no other error comes through."""
    for path in sorted(publisher.catalogue.glob("*.toml")):
        whole = path.read_text()
        lines = whole.splitlines(keepends=True)
        for number, line in enumerate(lines):
            for value in ("1", '""', "[]", "{}", "true", "1.5", "1979-05-27", "[[1]]", "nan", None):
                changed = "" if value is None else line.partition("=")[0] + f"= {value}\n"
                path.write_text("".join([*lines[:number], changed, *lines[number + 1 :]]))
                with contextlib.suppress(CatalogueError):
                    plan.load(publisher.catalogue)
        path.write_text(whole)


# --- what readers insist on -----------------------------------------------------------------------


def test_names_for_readers_are_read_as_they_are_declared(built_in: Catalogue) -> None:
    letters = built_in.datasets["emnist_letters"].readers
    assert letters["tfds"] == {
        "name": "emnist",
        "config": "letters",
        "version": "3.1.0",
        "as_published": True,
    }
    assert built_in.datasets["fashion_mnist"].readers["raw"]["folder"] == "FashionMNIST/raw"
    columns = built_in.datasets["cifar100"].readers["huggingface"]
    assert columns == {"image": "img", "label": "fine_label", "coarse_label": "coarse_label"}


READERS = """
[datasets.tiny_digits.readers]
plain  = { folder = "tiny", turned = false }
"""


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('plaim = { folder = "a" }', "readers.plaim: no export asks for names of its readers. Did"),
        ('csv = { folder = "a" }', "readers.csv: no export asks for names of its readers."),
        ('plain = { foldr = "a" }', "readers.plain.foldr: unknown key. Did you mean 'folder'?"),
        ("plain = { folder = true }", "readers.plain.folder: Input should be text, found True"),
        ('plain = { turned = "a" }', "readers.plain.turned: Input should be true or false, found"),
        ("plain = { folder = 3 }", "readers.plain.folder: Input should be text, true or false, "),
        ('plain = { folder = " " }', "readers.plain.folder: Input should be text, true or false, "),
    ],
)
def test_a_name_for_readers_that_no_export_asks_for_is_a_mistake_like_any_other(
    publisher: Publisher, said: str, problem: str
) -> None:
    names: dict[str, dict[str, type]] = {"csv": {}, "plain": {"folder": str, "turned": bool}}
    folder = edited(publisher, lambda text: text + READERS)
    found = catalogue.load(folder, names=names).datasets["tiny_digits"].readers
    assert found == {"plain": {"folder": "tiny", "turned": False}}
    wrong = READERS.splitlines()[-1]
    with pytest.raises(CatalogueError, match=re.escape(f"tiny_digits.{problem}")):
        catalogue.load(edited(publisher, replaced(wrong, said)), names=names)


def test_names_for_readers_decide_nothing_of_a_table(publisher: Publisher) -> None:
    def parameters() -> list[Any]:
        found = plan.of(plan.load(publisher.catalogue), {"compression_level": -1})
        made = (one.artefact() for one in found.artefacts.values() if one.stage != "raw")
        return [(artefact.path, dict(artefact.parameters)) for artefact in made]

    before = parameters()
    edited(
        publisher, lambda text: text + '\n[datasets.tiny_digits.readers]\nraw = { folder = "x" }'
    )
    assert parameters() == before


OPTIONAL = f"""
[archives."tiny-python.tar.gz"]
bytes = 10
md5 = "{"0" * 32}"
sha256 = "{"0" * 64}"
optional = true
members."tiny/batch" = {{ md5 = "{"1" * 32}", bytes = 3 }}
members."tiny/meta" = {{ md5 = "{"2" * 32}" }}
"""


def with_optional(text: str) -> str:
    """A source's TOML with an optional archive, which stands before its datasets."""
    head, _, rest = text.partition("\n[datasets.")
    return f"{head}\n{OPTIONAL}\n[datasets.{rest}"


def test_an_optional_archive_lists_its_members_by_their_md5(publisher: Publisher) -> None:
    source = plan.load(edited(publisher, with_optional)).sources["tiny_digits"]
    assert "tiny-python.tar.gz" not in source.archives, "a split is never read from it"
    archive = source.optional_archives["tiny-python.tar.gz"]
    listed = {path: (one.md5[0], one.size_bytes) for path, one in archive.members.items()}
    assert listed == {"tiny/batch": ("1", 3), "tiny/meta": ("2", None)}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("optional = true\n", "", "members: only an optional archive lists members so"),
        ("optional = true", "optional = 1", "optional: Input should be a valid boolean"),
        ('"tiny/meta"', '"../meta"', "../meta is no plain path inside an archive"),
        ('md5 = "2', 'md6 = "2', "unknown key. Did you mean 'md5'?"),
        ('images = "train-images.gz"', 'images = "tiny-python.tar.gz/x"', "in an optional archive"),
    ],
)
def test_a_mistake_about_an_optional_archive_is_told(
    publisher: Publisher, old: str, new: str, problem: str
) -> None:
    folder = edited(publisher, lambda text: replaced(old, new)(with_optional(text)))
    with pytest.raises(CatalogueError, match=re.escape(problem)):
        plan.load(folder)
