"""What the UI shows of assets, held against the files and declarations that it speaks of."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from assets.definitions import linked, repository
from assets.graph import assets_of
from assets.settings import ROOT, Settings
from pipelines import products
from pipelines.declarations import Catalogue
from pipelines.store import layout
from tests.assets.project import Project, of_all
from tests.assets.test_graph import chosen

pytestmark = pytest.mark.sources("tiny_digits")

TYPES = {  # as Parquet's own reader calls them, and as people read them
    "dictionary<values=string, indices=int32, ordered=0>": "dictionary<string>",
    "fixed_size_list<element: double>[3]": "double[3]",
    "fixed_size_list<element: uint8>[3]": "uint8[3]",
    "fixed_size_list<element: float>[48]": "float[48]",
}


@pytest.fixture(scope="module")
def declared() -> Catalogue:
    return chosen().declared


@pytest.fixture(scope="module")
def specs(declared: Catalogue) -> dict[str, dg.AssetSpec]:
    made = assets_of(chosen())
    return {spec.key.to_user_string(): spec for asset in made for spec in asset.specs}


def specs_of(project: Project) -> dict[str, dg.AssetSpec]:
    made = assets_of(project.plan(csv_header=True))
    return {spec.key.to_user_string(): spec for asset in made for spec in asset.specs}


def columns(spec: dg.AssetSpec) -> dict[str, dg.TableColumn]:
    return {column.name: column for column in spec.metadata["dagster/column_schema"].columns}


def above(spec: dg.AssetSpec) -> dict[str, list[tuple[str, str]]]:
    """Column → (asset, column) that it comes from."""
    lineage = spec.metadata["dagster/column_lineage"]
    return {
        name: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
        for name, deps in lineage.deps_by_column.items()
    }


@pytest.mark.sources("tiny_colours")
@pytest.mark.parametrize(
    ("asset", "path"),
    [
        ("tiny_colours/train", layout.table("tiny_colours", "train")),
        ("tiny_colours/statistics", layout.statistics("tiny_colours")),
    ],
)
def test_the_columns_shown_are_those_of_the_file(built: Project, asset: str, path: str) -> None:
    schema = pq.read_schema(built.data / path)
    spec = specs_of(built)[asset]
    shown = columns(spec)
    assert [(name, column.type) for name, column in shown.items()] == [
        (field.name, TYPES.get(str(field.type), str(field.type))) for field in schema
    ]
    for field in schema:
        assert shown[field.name].constraints.nullable == field.nullable
        assert shown[field.name].description


def test_a_table_tells_what_must_hold_of_its_columns(specs: dict[str, dg.AssetSpec]) -> None:
    told = {name: column.constraints for name, column in columns(specs["cifar100/train"]).items()}
    assert [name for name, constraints in told.items() if constraints.unique] == ["index"]
    assert {name: constraints.other for name, constraints in told.items()} == {
        "index": ["0 to 49,999"],
        "label": ["0 to 99"],
        "class": ["one of 100"],
        "coarse_label": ["0 to 19"],
        "coarse_class": ["one of 20"],
        "pixels": ["3,072 bytes"],
    }
    pixels = columns(specs["cifar100/train"])["pixels"]
    assert pixels.description is not None
    assert "(32, 32, 3)" in pixels.description


def test_the_columns_of_a_csv_are_those_of_its_header(built: Project) -> None:
    built.build("tiny_digits", stages=["csv"], csv_header=True)
    with (built.data / "exports/tiny_digits/test.csv").open(newline="") as file:
        label, *pixels = next(csv.reader(file))
    shown = columns(specs_of(built)["tiny_digits/test_csv"])
    assert list(shown) == [label, "pixels"]
    assert f"`{pixels[0]}`, `{pixels[1]}`, …: " in str(shown["pixels"].description)


@of_all
def test_every_column_comes_from_a_column_or_a_member_that_exists(
    declared: Catalogue, specs: dict[str, dg.AssetSpec]
) -> None:
    members = {
        f"{source.name}/archives": {
            str(member)
            for dataset in source.datasets.values()
            for split in dataset.splits.values()
            for part in split.members.values()
            for member in part
        }
        for source in declared.sources.values()
    }
    without = {name for name, product in products.known().items() if not product.columns}
    no_tables = {"archives", "optional_archives", *without}
    for name, spec in specs.items():
        if spec.tags["stage"] in no_tables:
            continue
        shown = above(spec)
        assert set(shown) <= set(columns(spec)), name
        for asset, column in (dep for deps in shown.values() for dep in deps):
            assert asset in {dep.asset_key.to_user_string() for dep in spec.deps}, name
            assert column in (members.get(asset) or columns(specs[asset])), name


@of_all
def test_pixels_come_from_images_and_labels_from_labels(specs: dict[str, dg.AssetSpec]) -> None:
    shown = above(specs["emnist_letters/test"])
    member = "gzip.zip/gzip/emnist-letters-test-{}-ubyte.gz"
    assert shown["pixels"] == [("emnist/archives", member.format("images-idx3"))]
    assert shown["label"] == shown["class"] == [("emnist/archives", member.format("labels-idx1"))]
    assert len(above(specs["cifar10/train"])["pixels"]) == 5
    assert above(specs["mnist/train_lmdb"])["data"] == [("mnist/train", "pixels")]
    read = {column for _, column in above(specs["mnist/statistics"])["mean_intensity"]}
    assert read == {"label", "pixels"}
    assert {column for _, column in above(specs["mnist/statistics"])["records"]} == {"label"}
    assert "split" not in above(specs["mnist/statistics"])


def test_descriptions_tell_what_a_dataset_shows_its_quirks_and_its_licence(
    declared: Catalogue, specs: dict[str, dg.AssetSpec]
) -> None:
    for dataset in declared.by_default:
        name, last = dataset.name, list(dataset.splits)[-1]
        for asset in ("train", f"{last}_csv", "train_lmdb", "statistics", "croissant"):
            text = specs[f"{name}/{asset}"].description
            assert text is not None
            assert text.startswith(dataset.title)
            for part in (dataset.description, *dataset.quirks):
                assert part is not None
                assert part in text
            assert declared.source_of(dataset).licence in text
    for source in declared.sources.values():
        text = specs[f"{source.name}/archives"].description
        assert text is not None
        assert source.citation.strip() in text
        assert all(f"`{archive}`" in text for archive in [*source.archives][:10])


def test_a_dataset_without_description_is_described_by_what_is_declared(project: Project) -> None:
    text = specs_of(project)["tiny_digits/train"].description
    assert text is not None
    assert text.startswith("Tiny digits, train: 30 images of 4×3 pixels in 3 classes")
    assert "None" not in text
    assert "Good to know" not in text


def test_assets_can_be_selected_by_stage_source_dataset_and_split(
    specs: dict[str, dg.AssetSpec],
) -> None:
    def selected(**tags: str) -> set[str]:
        return {n for n, s in specs.items() if all(s.tags.get(k) == v for k, v in tags.items())}

    assert selected(stage="archives") == {n for n in specs if n.endswith("/archives")}
    assert selected(source="emnist", stage="csv", split="test") == {
        n for n in specs if n.startswith("emnist_") and n.endswith("/test_csv")
    }
    assert selected(dataset="cifar10") == {n for n in specs if n.startswith("cifar10/")} - {
        "cifar10/archives",
        "cifar10/optional_archives",
    }
    assert {owner for spec in specs.values() for owner in spec.owners} == {"team:imagesets"}


def _code(made: object) -> set[str]:
    assert isinstance(made, dg.AssetsDefinition)
    [found] = made.metadata_by_key.values()
    references = found["dagster/code_references"].code_references
    return {reference.source for reference in references}


def test_assets_link_to_their_code_here_or_in_a_repository(declared: Catalogue) -> None:
    # Beta in Dagster: it must not warn, which would fail this test.
    made = {asset.key.to_user_string(): asset for asset in assets_of(chosen())}
    [archives] = linked([made["mnist/archives"]], None)
    [here] = _code(archives)
    path, _, line = here.rpartition(":")
    assert Path(path) == ROOT / "assets" / "archives.py"
    assert "@spelling.asset(" in Path(path).read_text().splitlines()[int(line) - 1]

    some = [made["mnist/statistics"]]
    [statistics] = linked(some, ("https://github.com/example/imagesets", "0123abc"))
    [there] = _code(statistics)
    url = "https://github.com/example/imagesets/tree/0123abc/assets/statistics.py#L"
    assert there.startswith(url)


def test_an_asset_of_every_kind_links_to_where_dagster_itself_would_find_its_code() -> None:
    made = assets_of(
        Settings().plan(), wanted=[("emnist_letters", "statistics"), ("mnist", "croissant")]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        wanted = dg.with_source_code_references(made)

    found = linked(made, None)

    assert [_code(one) for one in found] == [_code(one) for one in wanted]
    assert len({link for one in found for link in _code(one)}) == 4, "a place for each kind"
    assert [one.metadata_by_key.keys() for one in found] == [
        one.metadata_by_key.keys() for one in made
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://github.com/example/imagesets.git", "https://github.com/example/imagesets"),
        ("git@github.com:example/imagesets.git", "https://github.com/example/imagesets"),
        ("ssh://git@gitlab.com/group/sub/imagesets", "https://gitlab.com/group/sub/imagesets"),
        ("https://git.example.org/imagesets", None),
        ("/srv/git/imagesets", None),
        (None, None),
    ],
)
def test_a_repository_is_one_that_people_can_look_at(
    tmp_path: Path, origin: str | None, url: str | None
) -> None:
    def git(*said: str) -> str:
        who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        done = subprocess.run(
            ["git", *who, *said], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "Begin")
    if origin:
        git("remote", "add", "origin", origin)
    assert repository(tmp_path) == (url and (url, git("rev-parse", "HEAD")))


def test_what_the_ui_loads_needs_neither_polars_nor_pillow_and_collects_garbage_again() -> None:
    code = (
        "import gc, sys; from assets import definitions; assert gc.isenabled(); definitions.defs();"
        "assert gc.isenabled(); print(*{'polars', 'PIL'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
