"""The asset graph of the built-in catalogue, held against a golden text."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dagster import AssetKey

from assets.graph import assets_of, define
from assets.settings import Settings
from pipelines import plan as planning
from pipelines.declarations import Catalogue

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

GOLDEN = Path(__file__).parent / "graph.txt"


def resolved() -> AssetGraph:
    return define(Settings(), chosen()).resolve_asset_graph()


# Of the others there are thousands of assets, made as these are.
OF_THOSE_ON_REQUEST = ("fashion_mnist@1", "qmnist", "quickdraw", "stl10", "svhn", "usps")


def chosen() -> planning.Plan:
    """The plan of the sources by default, and of some on request, each otherwise than the rest."""
    sources = Settings().plan().declared.sources
    wanted = {
        k: one for k, one in sources.items() if not one.on_request or k in OF_THOSE_ON_REQUEST
    }
    assert {*OF_THOSE_ON_REQUEST} < wanted.keys()
    return planning.of(Catalogue(wanted), Settings().chosen)


def by_default() -> AssetGraph:
    """The graph that is written down: without sources that are made on request."""
    declared = chosen().declared
    sources = {name: one for name, one in declared.sources.items() if not one.on_request}
    plan = planning.of(Catalogue(sources), Settings().chosen)
    return define(Settings(), plan).resolve_asset_graph()


def as_text(graph: AssetGraph) -> str:
    """One line per asset: `key <- what it is made from [group] its checks`."""
    lines = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        above = " ".join(sorted(parent.to_user_string() for parent in node.parent_keys)) or "-"
        checks = " ".join(sorted(check.name for check in node.check_keys))
        lines.append(f"{key.to_user_string()} <- {above} [{node.group_name}] {checks}".rstrip())
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return resolved()


def test_the_graph_is_the_one_written_down() -> None:
    expected, found = GOLDEN.read_text(), as_text(by_default())
    difference = "\n".join(
        difflib.unified_diff(
            expected.splitlines(), found.splitlines(), "graph.txt", "the catalogue", "", "", 0, ""
        )
    )
    assert found == expected, (
        f"the asset graph is not the one in {GOLDEN.name}:\n\n{difference}\n\n"
        "If it is what you mean it to be: python -m tests.assets.test_graph"
    )


@pytest.mark.parametrize("dataset", ["cifar100", "mnist"])
def test_what_is_declared_for_a_run_is_what_it_makes_and_needs_as_the_whole_graph_has_it(
    graph: AssetGraph, dataset: str
) -> None:
    whole, plan = as_text(graph).splitlines(), chosen()
    for asset in [one for one in plan.assets() if one[0] == dataset]:
        some = assets_of(plan, wanted=[asset])
        found = as_text(define(Settings(), plan, some).resolve_asset_graph()).splitlines()
        key = AssetKey(asset)
        above = graph.get_ancestor_asset_keys(key, include_self=True)
        assert {line.partition(" ")[0] for line in found} == {one.to_user_string() for one in above}
        assert set(found) <= set(whole)


def test_the_graph_has_an_asset_for_everything_that_the_catalogue_promises(
    graph: AssetGraph,
) -> None:
    promised = {"/".join(asset) for asset in chosen().assets()}
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == promised


def test_within_a_group_no_two_assets_are_shown_by_the_same_name(graph: AssetGraph) -> None:
    # A box of the graph shows the last part of a key only.
    shown = [(graph.get(key).group_name, key.path[-1]) for key in graph.get_all_asset_keys()]
    assert len(shown) == len(set(shown))


def test_groups_lie_within_their_source_and_what_is_made_on_request_is_apart(
    graph: AssetGraph,
) -> None:
    def group(asset: str) -> str | None:
        return graph.get(AssetKey(asset.split("/"))).group_name

    assert group("emnist/archives") == "emnist"
    assert group("emnist_letters/train") == group("emnist_letters/test_csv") == "emnist/letters"
    assert group("emnist_letters/statistics") == group("emnist_letters/croissant")
    assert group("emnist_letters/npz") == "emnist/letters/on_request"
    assert group("mnist/archives") == group("mnist/train") == "mnist", "its only dataset"
    assert group("mnist/npz") == "mnist/on_request"
    assert group("cifar10/optional_archives") == "cifar10/on_request"


def test_no_asset_is_made_from_something_that_nothing_makes(graph: AssetGraph) -> None:
    # Dagster takes a misspelt dependency for an external asset, and says nothing.
    assert graph.external_asset_keys == set()
    assert graph.materializable_asset_keys == set(graph.get_all_asset_keys())


def test_only_archives_are_made_from_nothing(graph: AssetGraph) -> None:
    roots = {key.to_user_string() for key in graph.root_materializable_asset_keys}
    sources = chosen().declared.sources
    assert roots == {f"{source}/archives" for source in sources} | {
        "cifar10/optional_archives",
        "cifar100/optional_archives",
    }


def test_every_asset_says_what_it_is(graph: AssetGraph) -> None:
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        name = key.to_user_string()
        assert node.description, name
        assert node.description[0].isupper(), name
        assert node.description.rstrip().endswith("."), name
        assert node.code_version, f"{name}: without one, everything below looks new after each run"
        assert node.kinds, name
        assert node.group_name != "default", name


WARNINGS = {"no_duplicates_within_split", "no_leak_between_splits"}


def test_every_check_says_what_it_promises_and_all_but_warnings_block_what_lies_downstream(
    graph: AssetGraph,
) -> None:
    assert graph.asset_check_keys
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.description, key
        assert spec.blocking is (key.name not in WARNINGS), key


def test_every_table_is_checked_and_published_constants_are_too(graph: AssetGraph) -> None:
    published = {
        check.asset_key.path[0]
        for check in graph.asset_check_keys
        if check.name == "mean_and_std_as_published"
    }
    assert published == {"mnist", "fashion_mnist", "cifar10", "cifar100", "usps"}
    for key in graph.get_all_asset_keys():
        if key.path[-1] in ("train", "test"):
            of_parts = graph.get(key).partitions_def is not None  # duplicates are found across all
            assert len(graph.get(key).check_keys) == (4 if of_parts else 5), key


if __name__ == "__main__":
    GOLDEN.write_text(as_text(by_default()))
