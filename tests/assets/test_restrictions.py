"""What a licence forbids: told before the first fetch, and kept wherever the licence is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from pipelines import plan, wording
from tests.assets.conftest import Command
from tests.assets.project import Project
from tests.builders import Publisher

DIGITS = "tiny_digits"
FORBIDS = "For non-commercial use only."
OTHER = "What is made of it is shared alike."

pytestmark = [pytest.mark.slow, pytest.mark.sources(DIGITS)]


@pytest.fixture
def restricted(project: Project) -> Project:
    project.redeclare(DIGITS, 'licence = "not stated"', f'licence = "L"\nrestriction = "{FORBIDS}"')
    return project


def of_dataset(project: Project, text: str) -> None:
    project.redeclare(
        DIGITS, 'title = "Tiny digits"', f'title = "Tiny digits"\nrestriction = "{text}"'
    )


@pytest.mark.parametrize("name", ["build", "fetch"])
def test_a_restriction_is_told_once_before_the_first_fetch(
    restricted: Project, command: Command, name: str
) -> None:
    said = command(name, DIGITS, *restricted.options, *restricted.mirror)

    assert said.code == 0, said.stderr
    assert said.stderr.count(f"{DIGITS}: {FORBIDS}") == 1
    before, _, after = said.stderr.partition(FORBIDS)
    assert "archives/" not in before, "nothing came before"
    assert f"archives/{DIGITS}/train-images.gz" in after
    for more in ("fetch", "build"):
        (restricted.data / f"archives/{DIGITS}/train-images.gz").unlink()
        again = command(more, DIGITS, *restricted.options, *restricted.mirror)
        assert (again.code, FORBIDS in again.stderr) == (0, False)


def test_nothing_is_told_where_nothing_is_forbidden(project: Project, command: Command) -> None:
    said = command("fetch", DIGITS, *project.options, *project.mirror)
    assert (said.code, "warning" in said.stderr) == (0, False)


def test_a_mirror_for_others_tells_it_too(
    restricted: Project, command: Command, tmp_path: Path
) -> None:
    words = ["mirror", str(tmp_path / "others"), DIGITS, *restricted.options, *restricted.mirror]
    assert [FORBIDS in command(*words).stderr for _ in range(2)] == [True, False]


def test_the_restriction_of_a_dataset_wins(restricted: Project, command: Command) -> None:
    of_dataset(restricted, OTHER)

    said = command("fetch", DIGITS, *restricted.options, *restricted.mirror)

    assert OTHER in said.stderr
    assert FORBIDS not in said.stderr


def test_a_load_in_python_tells_it_once(
    restricted: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import pipelines

    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(restricted.publisher.catalogue))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(restricted.publisher.mirror))
    for split in ("train", "train", "test"):
        pipelines.load(DIGITS, split)

    assert [
        (one.levelno, one.getMessage()) for one in caplog.records if FORBIDS in one.getMessage()
    ] == [(logging.WARNING, f"{DIGITS}: {FORBIDS}")]
    assert pipelines.about(DIGITS).restriction == FORBIDS


def test_tables_keep_it_and_those_of_others_are_as_they_were(
    project: Project, restricted: Project
) -> None:
    restricted.build(stages=["tables"])
    for path in (restricted.data / "tables" / DIGITS).glob("*.parquet"):
        about = json.loads(pq.read_schema(path).metadata[b"imagesets"])
        assert about["source"]["restriction"] == FORBIDS
    restricted.redeclare(DIGITS, f'restriction = "{FORBIDS}"', "")
    restricted.build(stages=["tables"])
    for path in (restricted.data / "tables" / DIGITS).glob("*.parquet"):
        about = json.loads(pq.read_schema(path).metadata[b"imagesets"])
        assert [*about["source"]] == ["title", "homepage", "licence", "citation"]


def test_croissant_cards_and_pages_say_it(restricted: Project) -> None:
    stages = ["croissant", "card", "huggingface", "records", "index"]
    outcomes = restricted.build(stages=stages)
    assert [one.error for one in outcomes.values() if not one.is_good] == []

    document = restricted.data / f"lineage/{DIGITS}/croissant.json"
    assert json.loads(document.read_text())["license"]["description"].endswith(FORBIDS)
    told = {
        str(path.relative_to(restricted.data)): path.read_text()
        for path in restricted.data.rglob("*")
        if path.suffix in (".html", ".md") and FORBIDS[:-1] in path.read_text()
    }
    for name in ("card/index.html", "card/README.md", "records/", "huggingface/"):
        assert any(name in path for path in told), name
    assert (
        "Licence: L. For non-commercial use only." in told[f"descriptions/{DIGITS}/card/index.html"]
    )


def test_the_user_interface_says_it(restricted: Project) -> None:
    graph = restricted.definitions().resolve_asset_graph()
    for name in ("archives", "train", "statistics"):
        described = graph.get(dg.AssetKey([DIGITS, name])).description
        assert "**Restriction:** " in str(described)
        assert FORBIDS in str(described)


def test_a_restriction_may_be_of_some_datasets(publisher: Publisher) -> None:
    path = publisher.toml("tiny_letters")
    path.write_text(
        path.read_text().replace("first_label = 1", f'first_label = 1\nrestriction = "{OTHER}"')
    )
    source = plan.load(publisher.catalogue).sources["tiny_letters"]
    [dataset] = source.datasets.values()

    assert wording.restriction(source, dataset) == OTHER
    assert wording.restrictions(source, [dataset]) == [f"tiny_letters: {OTHER}"]
    assert wording.licence(source, dataset) == f"none stated. {OTHER[:-1]}"
    assert wording.restrictions(source, []) == []
