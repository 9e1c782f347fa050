"""The plan: what there can be, in an order in which it can be made; and what is made by default."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from assets.settings import BUILT_IN_CATALOGUE, ROOT
from pipelines import plan, products, stages
from pipelines.declarations import Catalogue
from tests import builders

DEFAULTS = {name: option.default for name, option in stages.options().items()}


@pytest.fixture(scope="module")
def built_in() -> plan.Plan:
    return plan.of(plan.load(BUILT_IN_CATALOGUE), DEFAULTS)


def test_the_default_set_is_the_one_written_down(built_in: plan.Plan) -> None:
    """Growth must not change what people get who name nothing: neither files nor packages."""
    of_parts = ("sums", "manifest")  # of splits that come in parts alone
    expected = ("archives", "tables", "statistics", *of_parts, "croissant", "csv", "lmdb")
    assert expected == stages.DEFAULT
    made = built_in.of(built_in.declared.by_default, stages.DEFAULT)
    golden = (ROOT / "tests/assets/graph.txt").read_text("utf-8").splitlines()
    default = {line.partition(" ")[0] for line in golden}
    assert {"/".join(one.asset) for one in made} <= default
    assert len({one.asset for one in made}) == 5 + 10 * (2 + 2 * 3)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    def names(needed: list[str]) -> set[str]:
        return {line.split(">")[0].split("~")[0] for line in needed}

    library = {"filelock", "isal", "numpy", "platformdirs", "pyarrow", "pydantic", "requests"}
    assert names(declared["project"]["dependencies"]) == library
    build = {"dagster", "google-crc32c", "lmdb", "pillow", "polars", "rich"}
    assert names(declared["dependency-groups"]["build"]) == build


def test_each_artefact_stands_after_all_that_it_is_made_from(built_in: plan.Plan) -> None:
    before: set[str] = set()
    for path, one in built_in.artefacts.items():
        assert before >= {*one.needs, *one.uses}
        before.add(path)


def test_asking_for_a_stage_gives_what_it_needs_too(built_in: plan.Plan) -> None:
    mnist = built_in.declared.select(["mnist"])
    found = [one.stage for one in built_in.of(mnist, ["statistics"])]
    assert found == ["archives"] * 4 + ["tables"] * 2 + ["statistics"]
    known = products.known().values()
    made = {one.name for one in known if one.scope != "catalogue" and one.applies(mnist[0])}
    assert {one.stage for one in built_in.of(mnist)} == {*stages.BASIC, *made}


def test_what_is_of_all_datasets_is_planned_where_it_is_named_or_all_of_them_are(
    built_in: plan.Plan,
) -> None:
    everything = built_in.declared.by_default
    [index] = built_in.of_catalogue()
    assert (index.asset, index.path) == (("catalogue", "index"), "descriptions/index.html")
    assert built_in.of(everything[:1], ["index"]) == (index,), "it needs nothing"
    assert index in built_in.of(everything)
    assert index not in built_in.of(everything[1:]), "it shows others, too"
    assert index not in built_in.of(everything, stages.DEFAULT)
    by_default = [one for one in index.subjects if not one.source.on_request]
    assert (index.subject, len(by_default)) == (None, 10)
    assert len({one.source.name for one in by_default}) == 5
    shown = {one.path for one in built_in.with_shown([index])}
    assert shown > {*index.uses}
    assert "statistics/mnist.parquet" in shown, "cards are made from it"
    named = built_in.named()
    assert named["catalogue/index"] is named["descriptions/index.html"] is index
    assert "descriptions" not in named, "there is more in it"


def test_an_asset_is_planned_whole_where_only_a_part_of_it_is_needed(
    publisher: builders.Publisher,
) -> None:
    source = plan.load(publisher.catalogue).sources["tiny_digits"]
    digits = source.datasets["tiny_digits"]
    smaller = replace(digits, splits={"train": digits.splits["train"]})
    declared = Catalogue({source.name: replace(source, datasets={smaller.name: smaller})})
    found = plan.of(declared, DEFAULTS).of([smaller], ["tables"])
    assert [one.stage for one in found] == ["archives"] * 4 + ["tables"], (
        "two are of the test split"
    )


def test_a_number_may_be_any_from_the_lowest_to_the_highest() -> None:
    level = stages.options()["compression_level"]
    assert [level.read(text) for text in ("-7", "0", "+3", "22")] == [-7, 0, 3, 22]
    for text in ("-8", "23", "", "1.5", "1_0"):
        with pytest.raises(ValueError, match="write -7 to 22; -1 is the default"):
            level.read(text)


def test_a_product_may_need_or_show_whatever_is_made_before_it_but_not_itself(
    publisher: builders.Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = plan.load(publisher.catalogue)
    known = products.known()
    early = replace(known["csv"], name="early", files="exports/{dataset}/{split}.early")
    monkeypatch.setattr(
        products,
        "known",
        lambda: {"early": replace(early, needs=("lmdb",), uses=("statistics",)), **known},
    )
    paths = list(plan.of(declared, DEFAULTS).artefacts)
    at = paths.index("exports/tiny_digits/train.early")
    assert at > paths.index("statistics/tiny_digits.parquet")
    assert at > paths.index("exports/tiny_digits/train_lmdb/data.mdb")

    monkeypatch.setattr(products, "known", lambda: {"early": replace(early, needs=("early",))})
    with pytest.raises(TypeError, match=r"need one another: exports/tiny_colours/test\.early"):
        plan.of(declared, DEFAULTS)


def test_everything_has_its_path_and_its_name(built_in: plan.Plan) -> None:
    named = built_in.named()
    assert named["mnist/train_lmdb"] is named["exports/mnist/train_lmdb/data.mdb"]
    assert named["exports/mnist/train_lmdb"] is named["mnist/train_lmdb"]
    assert named["cifar10/statistics"].path == "statistics/cifar10.parquet"
    assert named["mnist/croissant"].path == "lineage/mnist/croissant.json"
    assert "mnist/archives" not in named, "four files"
