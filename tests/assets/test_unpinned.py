"""Archives of which one hash is declared, from their fetch to what `pin` prints of them."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.lineage import status
from pipelines.store import layout, provenance
from tests import builders
from tests.assets.conftest import Command
from tests.assets.project import Project, Site, made

DIGITS = "tiny_digits"
IMAGES = "train-images.gz"
PATH = layout.archive(DIGITS, IMAGES)
TABLE = layout.table(DIGITS, "train")

pytestmark = [pytest.mark.slow, pytest.mark.sources(DIGITS)]


def facts(project: Project, archive: str = IMAGES) -> dict[str, Any]:
    data = project.publisher.archive(DIGITS, archive).read_bytes()
    return {
        "bytes": len(data),
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def declare(project: Project, *keys: str, archive: str = IMAGES) -> None:
    """Declare nothing but some facts of an archive."""
    known = facts(project, archive)
    said = ", ".join(f"{key} = {known[key]!r}" for key in keys).replace("'", '"')
    toml = project.publisher.toml(DIGITS)
    lines = [
        f'"{archive}" = {{ {said} }}' if line.startswith(f'"{archive}" =') else line
        for line in toml.read_text().splitlines()
    ]
    toml.write_text("\n".join(lines) + "\n")


def uncount(project: Project) -> dict[str, list[int]]:
    """Declare no counts; return what they were, by split."""
    toml = project.publisher.toml(DIGITS)
    found = tomllib.loads(toml.read_text())["datasets"][DIGITS]["splits"]
    toml.write_text(re.sub(r"(?m)^counts = .*\n", "", toml.read_text()))
    return {name: split["counts"] for name, split in found.items()}


declared_so = pytest.mark.parametrize("keys", [["md5"], ["sha256"], ["bytes", "md5"]], ids=str)


@declared_so
def test_everything_is_made_of_an_archive_with_one_hash_and_knows_the_others(
    project: Project, command: Command, keys: list[str]
) -> None:
    declare(project, *keys)
    known = facts(project)

    said = command("build", DIGITS, *project.options, *project.mirror)

    assert said.code == 0, said.stderr
    lacking = [f"{k} = {known[k]:_}" if k == "bytes" else f'{k} = "{known[k]}"' for k in known]
    lacking = [line for line in lacking if line.split()[0] not in keys]
    told = f'{DIGITS}.toml: [archives."{IMAGES}"] {", ".join(lacking)} (measured; python -m assets '
    assert said.stdout.count(told) == 1
    store = project.settings().store
    for path in (PATH, TABLE):
        one = provenance.latest(store, path)
        assert one is not None
        [origin] = [i for i in one.inputs if i.path in (PATH, one.facts.get("origin"))]
        assert (origin.size_bytes, origin.md5, origin.sha256) == (*known.values(),)
    about = json.loads(pq.read_schema(project.data / TABLE).metadata[b"imagesets"])
    assert about["inputs"][PATH] == {key: known[key] for key in keys if key != "bytes"}
    assert tables.info(project.data / TABLE).inputs[PATH] == known[keys[-1]]
    croissant = json.loads((project.data / f"lineage/{DIGITS}/croissant.json").read_text())
    [archive] = [one for one in croissant["distribution"] if one["name"] == IMAGES]
    assert ("contentSize" in archive) == ("bytes" in keys)
    assert {"md5", "sha256"} & archive.keys() == {*keys} - {"bytes"}

    again = command("build", DIGITS, *project.options, *project.mirror)
    assert (again.code, "Nothing to do" in again.stdout) == (0, True), again
    assert IMAGES not in again.stdout, "it is told once"


@declared_so
def test_every_question_is_answered_where_one_hash_is_declared(
    project: Project, command: Command, keys: list[str]
) -> None:
    declare(project, *keys)
    assert made(project.build()) != set()
    others = project.build(stages=["raw", "card", "npz"])
    assert [o.error for o in others.values() if not o.is_good] == []

    assert command("verify", "--deep", *project.options).code == 0
    assert command("status", *project.options).code == 0
    assert command("list", *project.options).code == 0
    assert command("lock", DIGITS, *project.options).code == 0
    traced = command("trace", f"{DIGITS}/train:3", *project.options)
    assert traced.code == 0, traced
    for fact in ("md5", "sha256"):
        assert str(facts(project)[fact]) in traced.stdout
    folder = project.data / "descriptions" / DIGITS / "card"
    page = (folder / "index.html").read_text()
    for key in ("md5", "sha256"):
        assert (str(facts(project)[key]) in page) == (key in keys)
    assert str(facts(project)[keys[-1]]) in (folder / "README.md").read_text()


@declared_so
def test_a_rotten_archive_is_found_by_what_was_recorded_and_fetched_again(
    project: Project, command: Command, keys: list[str]
) -> None:
    declare(project, *keys)
    project.build()
    project.rot(PATH)

    assert command("status", *project.options).code == 0, "nobody can see it"
    found = command("verify", *project.options)
    assert found.code == 1
    assert PATH in found.stdout
    outcomes = project.build()
    assert f"{DIGITS}/archives" in made(outcomes)
    assert (project.data / PATH).read_bytes() == project.publisher.archive(
        DIGITS, IMAGES
    ).read_bytes()


@declared_so
def test_tables_stay_where_the_archive_is_gone(project: Project, keys: list[str]) -> None:
    declare(project, *keys)
    project.build()
    (project.data / PATH).unlink()

    plan = project.plan()
    [state] = status.states(project.settings().store, [plan.artefacts[TABLE]]).values()

    assert state.is_up_to_date, state.reason


def test_other_bytes_under_the_same_name_make_the_table_again(project: Project) -> None:
    declare(project, "md5")
    project.build()
    random = builders.images(30, 4, 3, seed=99)[..., 0]
    project.publisher.archive(DIGITS, IMAGES).write_bytes(builders.gz(builders.idx(random)))
    declare(project, "md5")

    again = project.build()

    assert {f"{DIGITS}/archives", f"{DIGITS}/train"} <= made(again)
    assert f"{DIGITS}/test" not in made(again)
    told = provenance.latest(project.settings().store, TABLE)
    assert told is not None
    assert facts(project)["sha256"] in [one.sha256 for one in told.inputs]


def test_wrong_bytes_are_refused_by_the_one_hash(project: Project, command: Command) -> None:
    declare(project, "md5")
    other = project.publisher.archive(DIGITS, "test-images.gz").read_bytes()
    project.publisher.archive(DIGITS, IMAGES).write_bytes(other)

    said = command("fetch", DIGITS, *project.options, *project.mirror)

    assert said.code == 1
    assert "Those bytes are tiny_digits/test-images.gz" in said.stderr
    assert f"{IMAGES} (MD5 " in said.stderr


def test_what_came_is_logged(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    declare(project, "md5")
    with caplog.at_level(logging.INFO, "pipelines"):
        project.build(stages=["archives"])
    assert f'{DIGITS}.toml: [archives."{IMAGES}"] bytes = ' in caplog.text


def test_the_library_loads_what_has_one_hash(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pipelines

    declare(project, "md5")
    monkeypatch.setenv("IMAGESETS_CATALOGUE", str(project.publisher.catalogue))
    monkeypatch.setenv("IMAGESETS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGESETS_MIRROR", str(project.publisher.mirror))
    for _ in range(2):
        assert len(pipelines.load(DIGITS, "train").labels) == 30
    monkeypatch.setenv("IMAGESETS_OFFLINE", "1")
    monkeypatch.setenv("IMAGESETS_MIRROR", str(tmp_path / "nothing"))
    assert len(pipelines.load(DIGITS, "train").labels) == 30


def test_mirrors_are_looked_at_and_a_mirror_is_made(
    project: Project, command: Command, site_of_project: Site, tmp_path: Path
) -> None:
    from assets.running import mirrors

    declare(project, "sha256")
    project.build(stages=["archives"])
    declared = project.plan().declared
    settings = project.settings(mirror=site_of_project.url)
    [found] = mirrors.look(declared, [declared.sources[DIGITS]], settings, {DIGITS: {}}, fetch=True)
    assert (found.trouble, found.wrong) == ("", {})
    before = {DIGITS: {one.probe.place: one for one in found.standings}}
    site_of_project.etag = '"v2"'
    site_of_project.root.joinpath(DIGITS, IMAGES).write_bytes(b"another")
    [found] = mirrors.look(declared, [declared.sources[DIGITS]], settings, before, fetch=True)
    assert [place.rpartition("/")[2] for place in found.wrong] == [IMAGES]

    said = command("mirror", str(tmp_path / "others"), DIGITS, *project.options)
    assert said.code == 0, said.stderr
    assert (tmp_path / "others" / DIGITS / IMAGES).read_bytes() == (
        project.data / PATH
    ).read_bytes()


# --- pin ------------------------------------------------------------------------------------------


def test_what_is_pinned_can_be_pasted_and_leaves_nothing_to_pin(
    project: Project, command: Command
) -> None:
    declare(project, "md5")
    declare(project, "sha256", archive="test-labels.gz")
    counts = uncount(project)
    assert command("build", DIGITS, "--only", "tables", *project.options, *project.mirror).code == 0
    before = pq.read_table(project.data / TABLE)

    said = command("pin", DIGITS, *project.options)

    assert (said.code, said.stderr) == (0, "")
    found = tomllib.loads(said.stdout)
    known, labels = facts(project), facts(project, "test-labels.gz")
    assert found["archives"] == {
        IMAGES: {key: known[key] for key in ("bytes", "sha256")},
        "test-labels.gz": {key: labels[key] for key in ("bytes", "md5")},
    }
    splits = found["datasets"][DIGITS]["splits"]
    assert {name: split["counts"] for name, split in splits.items()} == counts

    declare(project, "bytes", "md5", "sha256")
    declare(project, "bytes", "md5", "sha256", archive="test-labels.gz")
    for name, split in splits.items():
        heading = f"[datasets.{DIGITS}.splits.{name}]"
        project.redeclare(DIGITS, heading, f"{heading}\ncounts = {split['counts']}")
    said = command("pin", DIGITS, *project.options)
    assert (said.code, said.stdout) == (0, "")
    assert said.stderr.startswith("Nothing to pin")
    assert all(outcome.is_good for outcome in project.build().values())
    assert pq.read_table(project.data / TABLE).equals(before), "the records are the same"


def test_what_is_not_here_is_named_with_what_to_run(project: Project, command: Command) -> None:
    declare(project, "md5")
    uncount(project)

    said = command("pin", DIGITS, *project.options)

    assert (said.code, said.stdout) == (1, "")
    assert f"{PATH} is not here. Fetch it: python -m assets fetch {DIGITS}" in said.stderr
    assert f"{TABLE}: it is not there. Build it: python -m assets build {DIGITS}" in said.stderr


def test_other_bytes_are_never_pinned(project: Project, command: Command) -> None:
    declare(project, "md5")
    project.build(stages=["archives"])
    (project.data / PATH).write_bytes(b"another file")

    said = command("pin", DIGITS, *project.options)

    assert (said.code, said.stdout) == (1, "")
    assert f"error: {PATH}: 12 bytes with MD5" in said.stderr


def test_of_what_is_declared_there_is_nothing_to_pin(project: Project, command: Command) -> None:
    said = command("pin", *project.options)

    assert (said.code, said.stdout) == (0, "")
    assert said.stderr == "Nothing to pin: everything that can be measured is declared.\n"


@pytest.mark.parametrize("name", [f"{DIGITS}@1", DIGITS])
def test_what_is_to_be_pasted_says_into_which_file_and_under_which_heading(
    project: Project, command: Command, name: str
) -> None:
    """A version has a file of its own, and sources that stand apart share one."""
    uncount(project)
    toml = project.publisher.toml(DIGITS)
    file = f"{name}.toml" if "@" in name else "sets.toml"
    if "@" in name:
        toml.with_name(file).write_text(toml.read_text())
        mirror = project.publisher.mirror
        (mirror / name).symlink_to(mirror / DIGITS)
    else:
        toml.write_text(f"apart = true\n{toml.read_text()}")
        toml.rename(toml.with_name(file))

    built = command("build", name, "--only", "tables", *project.options, *project.mirror)
    said = command("pin", name, *project.options)

    assert built.code == said.code == 0, built.stderr + said.stderr
    assert said.stdout.startswith(f"# {file}: ")
    assert tomllib.loads(said.stdout)["datasets"][DIGITS]["splits"].keys() == {"train", "test"}
