"""Archives with spaces, quotes, #, % and other letters in their names, wherever a path is shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import dagster as dg
import pytest

from assets.running import mirrors
from pipelines.stages import DEFAULT
from pipelines.store import layout
from tests import builders, object_stores
from tests.assets.conftest import Command
from tests.assets.project import Project
from tests.servers import Handler, good, serving, status

NAMES = ("The Eiffel Tower.npy", "rock'n'roll #1 (100%).npy", "Zürich + 東京 & [a~b].npy")


@pytest.fixture
def spaced(tmp_path: Path) -> Project:
    """A project of one source, whose archives are called so."""
    published = tmp_path / "published"
    tiny = builders.images(9, seed=1)
    rows = tiny.reshape(9, -1)
    files = {name: builders.npy(rows[3 * n : 3 * n + 3]) for n, name in enumerate(NAMES)}
    (published / "catalogue").mkdir(parents=True)
    (published / "mirror" / "tiny").mkdir(parents=True)
    for name, data in files.items():
        (published / "mirror" / "tiny" / name).write_bytes(data)
    arrays = ", ".join(f'"{name}"' for name in NAMES)
    (published / "catalogue" / "tiny.toml").write_text(
        builders.declare(files)
        + "[datasets.tiny]\n"
        + builders.as_toml(
            {
                "title": "Tiny",
                "format": "npy",
                "image": {"height": 4, "width": 3, "channels": 1},
                "classes": ["tower", "music", "towns"],
            }
        )
        + "[datasets.tiny.splits.train]\n"
        + builders.as_toml({"records": 9, "counts": [3, 3, 3]})
        + f"arrays = [{arrays}]\n",
        "utf-8",
    )
    publisher = builders.Publisher(published / "catalogue", published / "mirror", {})
    return Project(publisher, tmp_path / "data")


@pytest.fixture
def site(spaced: Project) -> Iterator[str]:
    """The address of a server of those files, as their mirror."""

    def answer(handler: Handler, _data: bytes) -> None:
        file = spaced.publisher.mirror / unquote(handler.path).removeprefix("/")
        if file.is_file():
            good()(handler, file.read_bytes())
        else:
            status(404)(handler, b"")

    with serving(b"", answer) as server:
        yield server.url


def test_commands_show_them_as_they_are(spaced: Project, site: str, command: Command) -> None:
    options, told = spaced.options, spaced.data.parent / "told.jsonl"
    built = command("build", *options, "--mirror", site, "--openlineage", str(told))
    assert built.code == 0, built.stderr

    assert "up to date (" in command("list", *options).stdout
    assert command("verify", "--deep", *options).code == 0
    assert command("status", *options).code == 0
    locked = command("lock", *options).stdout
    assert locked.startswith("tiny  sha256:")
    for name in NAMES:
        archive = f"archives/tiny/{name}"
        assert (spaced.data / archive).is_file()
        traced = command("trace", archive, "--json", *options)
        assert traced.code == 0, traced.stderr
        hops = json.loads(traced.stdout)["hops"]
        assert any(hop.get("path") == archive for hop in hops)
        assert any(hop.get("url") == f"{site}tiny/{quote(name)}" for hop in hops)
    traced = command("trace", "tiny/train:4", "--no-picture", *options)
    assert (traced.code, NAMES[1] in traced.stdout) == (0, True)

    events = [json.loads(line) for line in told.read_text("utf-8").splitlines()]
    done = {one["job"]["name"]: one for one in events if one["eventType"] == "COMPLETE"}
    for name in NAMES:
        archive = f"archives/tiny/{name}"
        [output] = done[archive]["outputs"]
        assert output["name"] == f"{spaced.data}/{archive}"
    read = {one["name"] for one in done["tables/tiny/train.parquet"]["inputs"]}
    assert read == {f"{spaced.data}/archives/tiny/{name}" for name in NAMES}

    (spaced.data / "archives/tiny" / NAMES[1]).write_bytes(b"rotten")
    said = command("verify", *options).stdout
    assert f"archives/tiny/{NAMES[1]}: changed" in said
    assert command("verify", "--repair", *options, "--mirror", site).code == 0
    assert command("lock", *options).stdout == locked


def test_a_mirror_that_was_made_of_them_is_one(
    spaced: Project, command: Command, tmp_path: Path
) -> None:
    goal = tmp_path / "my mirror"
    made = command("mirror", str(goal), *spaced.options, *spaced.mirror)

    assert made.code == 0, made.stderr
    assert {path.name for path in (goal / "tiny").iterdir() if path.is_file()} == {*NAMES}
    line = made.stdout.splitlines()[-1].removeprefix("Use it with ").partition(", or")[0]
    assert shlex.split(line) == ["--mirror", str(goal)], "it can be copied as it stands"
    assert command("build", *spaced.options, *shlex.split(line), "--offline").code == 0


def test_dagster_knows_them_and_their_mirror_is_one(
    spaced: Project, site: str, instance: dg.DagsterInstance
) -> None:
    definitions = spaced.definitions(site)
    job = definitions.resolve_job_def("everything")
    found = job.execute_in_process(instance=instance)
    assert found.success
    [made] = found.asset_materializations_for_node("tiny__archives")
    assert {*NAMES} <= made.metadata.keys()
    for name in NAMES:
        assert f"from `{site}tiny/{quote(name)}`" in str(made.metadata[name].value)
    [table] = found.asset_materializations_for_node("tiny__train")
    assert str(table.metadata["dagster/uri"].value).endswith("/tables/tiny/train.parquet")

    assert definitions.resolve_job_def("refresh").execute_in_process(instance=instance).success

    [record] = instance.fetch_materializations(mirrors.key("tiny"), limit=1).records
    assert record.asset_materialization is not None
    facts = record.asset_materialization.metadata
    assert facts["by mirror"].value == f"- **every archive**: {site}tiny/"
    assert (facts["mirrors"].value, facts["mirrors_alive"].value) == (1, 1)


def test_a_folder_that_is_a_mirror_is_one_whatever_its_files_are_called(
    spaced: Project, instance: dg.DagsterInstance
) -> None:
    spaced.build("tiny")
    refresh = spaced.definitions(str(spaced.publisher.mirror)).resolve_job_def("refresh")
    assert refresh.execute_in_process(instance=instance).success

    [record] = instance.fetch_materializations(mirrors.key("tiny"), limit=1).records
    assert record.asset_materialization is not None
    facts = record.asset_materialization.metadata
    assert facts["by mirror"].value == f"- **every archive**: {spaced.publisher.mirror}/tiny/"


def test_they_lie_in_a_bucket_and_come_back(
    spaced: Project, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced.build("tiny")
    locked = command("lock", *spaced.options).stdout
    catalogue = ["--catalogue", str(spaced.publisher.catalogue)]
    with object_stores.serving() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("IMAGESETS_SCRATCH", str(tmp_path / "scratch"))
        monkeypatch.setenv("IMAGESETS_HOME", str(tmp_path / "home"))
        built = ["--data", "s3://bucket/built", *catalogue]
        assert command("build", *built, *spaced.mirror).code == 0
        assert command("verify", *built).code == 0
        assert command("lock", *built).stdout == locked
        for name in NAMES:
            assert command("trace", f"archives/tiny/{name}", *built).code == 0

        copied = ["--data", "s3://bucket/copied", *catalogue]
        assert command("copy", str(spaced.data), "s3://bucket/copied").code == 0
        assert command("lock", *copied).stdout == locked
        back = tmp_path / "back"
        assert command("copy", "s3://bucket/copied", str(back)).code == 0
        assert command("lock", "--data", str(back), *catalogue).stdout == locked
    plan = spaced.plan()
    wanted = plan.of(plan.declared.datasets.values(), DEFAULT)
    assert all((back / one.path).exists() for one in wanted)
    assert (back / layout.archive("tiny", NAMES[2])).read_bytes() == (
        spaced.publisher.archive("tiny", NAMES[2]).read_bytes()
    )
