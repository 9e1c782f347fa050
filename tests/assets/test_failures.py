"""What a person gets whose input is bad: one clear error, and nothing that looks like a result.

The commands run in this process, so that a traceback would fail the test by itself.
"""

from __future__ import annotations

import hashlib
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.running import runs
from assets.settings import ROOT, Settings
from pipelines.declarations import CONTROLS
from tests import builders
from tests.assets.conftest import Command, Start
from tests.assets.forked import command_line
from tests.assets.project import Project, environment, states
from tests.servers import Handler, serving
from tests.waiting import within

BELOW_TRAIN = [
    f"tiny_digits/{asset}" for asset in ("train_csv", "train_lmdb", "statistics", "croissant")
]


def _exist(project: Project, *patterns: str) -> list[str]:
    """The files of the data folder under some final names, and all that is half made anywhere."""
    return [
        path.relative_to(project.data).as_posix()
        for pattern in (*patterns, "**/*.partial")
        for path in project.data.glob(pattern)
    ]


class TestAWrongArchive:
    """A mirror has a web page where an archive should be; another dataset is asked for too."""

    @pytest.fixture(scope="class")
    @staticmethod
    def project(_published_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
        return _published_once.copied_to(tmp_path_factory.mktemp("wrong") / "project")

    @pytest.fixture(scope="class")
    @staticmethod
    def page(project: Project) -> bytes:
        page = b"<!DOCTYPE html><html><title>Moved</title></html>"
        project.publisher.archive("tiny_digits", "train-images.gz").write_bytes(page)
        return page

    @pytest.fixture(scope="class")
    @staticmethod
    def said(project: Project, page: bytes, forked: Start) -> tuple[int, str, str]:
        datasets = ("tiny_digits", "tiny_letters")
        done = forked("build", *datasets, *project.options, *project.mirror).communicate()
        return done.returncode, done.stdout, done.stderr

    def test_the_exit_code_is_1(self, said: tuple[int, str, str]) -> None:
        assert said[0] == 1

    def test_the_error_tells_expected_found_where_and_what_next(
        self, said: tuple[int, str, str], project: Project, page: bytes
    ) -> None:
        _, _, err = said
        declared = project.publisher.toml("tiny_digits").read_text()
        expected = declared.split('md5 = "')[1][:32]
        assert "error: tiny_digits/archives: train-images.gz (" in err
        assert expected in err
        assert hashlib.md5(page).hexdigest() in err
        assert f"{len(page)} bytes" in err
        assert "an HTML page titled 'Moved'" in err
        assert f"{project.publisher.mirror}/tiny_digits/train-images.gz" in err
        assert "--mirror" in err
        assert "IMAGESETS_MIRROR" in err
        assert f"{project.data}/archives/tiny_digits/train-images.gz" in err

    def test_it_is_said_in_our_words_and_without_a_traceback(
        self, said: tuple[int, str, str]
    ) -> None:
        for text in said[1:]:
            for word in ("Traceback", "dagster", "pipelines.errors", 'File "'):
                assert word not in text

    def test_what_needs_the_archive_is_blocked_and_the_other_dataset_is_made(
        self, said: tuple[int, str, str], project: Project
    ) -> None:
        found = states(said[1])
        assert found.pop("tiny_digits/archives") == "failed"
        digits = {state for asset, state in found.items() if asset.startswith("tiny_digits/")}
        letters = {state for asset, state in found.items() if asset.startswith("tiny_letters/")}
        assert (digits, letters) == ({"blocked"}, {"made"})
        assert "1 failed, 8 blocked by that." in said[2]
        found = _exist(project, "tables/tiny_letters/*", "exports/tiny_letters/**/*.*")
        assert len([path for path in found if not path.endswith(".lineage.json")]) == 6

    def test_nothing_of_it_has_a_final_name(
        self, said: tuple[int, str, str], project: Project
    ) -> None:
        assert (
            _exist(project, "archives/tiny_digits/train-images.gz", "*/tiny_digits/**/*.csv") == []
        )
        assert _exist(project, "tables/tiny_digits/*", "statistics/tiny_digits*") == []

    def test_dagster_has_recorded_a_failed_run(
        self, said: tuple[int, str, str], project: Project
    ) -> None:
        with dg.DagsterInstance.from_config(str(project.data / "dagster")) as instance:
            assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]


def test_another_archives_bytes_are_recognised(project: Project, command: Command) -> None:
    mirror = project.publisher.mirror / "tiny_digits"
    (mirror / "train-labels.gz").write_bytes((mirror / "test-labels.gz").read_bytes())
    options = [*project.options, *project.mirror]
    said = command("build", "tiny_digits", "--only", "archives", *options)
    assert said.code == 1
    assert "Those bytes are tiny_digits/test-labels.gz" in said.stderr


def test_a_good_archive_after_a_bad_one_heals_the_build(project: Project, command: Command) -> None:
    archive = project.publisher.archive("tiny_digits", "test-labels.gz")
    good = archive.read_bytes()
    archive.write_bytes(good[:-1])
    options = [*project.options, *project.mirror]
    assert command("build", "tiny_digits", "--only", "tables", *options).code == 1
    archive.write_bytes(good)
    assert command("build", "tiny_digits", "--only", "tables", *options).code == 0


def test_offline_without_archives_it_says_what_is_missing_and_where_to_put_it(
    project: Project, command: Command
) -> None:
    said = command("build", "tiny_digits", "--offline", *project.options)
    assert said.code == 1
    assert re.search(r"\boffline\b", said.stderr)
    folder = project.data / "archives" / "tiny_digits"
    for name in ("train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"):
        assert f"{folder / name}" in said.stderr, "all that is missing, not one after the other"


def test_without_any_mirror_it_does_not_say_that_it_is_offline(
    project: Project, command: Command
) -> None:
    # The made-up sources declare no mirrors, and --offline is not given.
    said = command("build", "tiny_letters", "--only", "archives", *project.options)
    assert said.code == 1
    assert "letters.zip" in said.stderr
    assert "--mirror" in said.stderr
    assert not re.search(r"\boffline\b", said.stderr)


def test_a_truncated_member_fails_its_split_alone(project: Project, command: Command) -> None:
    images = project.publisher.splits["tiny_digits", "train"][0]
    short = builders.gz(builders.idx(images[..., 0])[:-1])
    project.republish("tiny_digits", "train-images.gz", short)
    said = command("build", "tiny_digits", *project.options, *project.mirror)
    assert said.code == 1
    assert "error: tiny_digits/train: train-images.gz: the IDX header promises" in said.stderr
    assert "30" in said.stderr
    found = states(said.stdout)
    assert found["tiny_digits/train"] == "failed"
    assert {found[asset] for asset in BELOW_TRAIN} == {"blocked"}
    assert found["tiny_digits/test_csv"] == "made"
    assert _exist(project, "tables/tiny_digits/train.parquet") == []


def test_a_label_outside_the_classes_fails_the_table(project: Project, command: Command) -> None:
    labels = project.publisher.splits["tiny_digits", "train"][1].copy()
    labels[17] = 3
    project.republish("tiny_digits", "train-labels.gz", builders.gz(builders.idx(labels)))
    said = command("build", "tiny_digits", *project.options, *project.mirror)
    assert said.code == 1
    assert "train-labels.gz: record 17 has label 3" in said.stderr
    assert "0 to 2" in said.stderr
    found = states(said.stdout)
    assert found["tiny_digits/train"] == "failed"
    assert {found[asset] for asset in BELOW_TRAIN} == {"blocked"}
    assert found["tiny_digits/test"] == "made"
    assert _exist(project, "tables/tiny_digits/train.parquet", "exports/*/train*") == []


def test_counts_that_contradict_the_data_block_everything_downstream_each_time(
    project: Project, command: Command
) -> None:
    found = builders.counts(project.publisher.splits["tiny_digits", "train"][1], 3)
    declared = [found[0] + 1, found[1] - 1, found[2]]
    project.redeclare("tiny_digits", f"counts = {found}", f"counts = {declared}")
    options = [*project.options, *project.mirror]
    for there_before in ("made", "up to date"):
        said = command("build", "tiny_digits", *options)
        assert said.code == 1
        assert "error: tiny_digits/train: check class_counts_as_declared failed" in said.stderr
        assert f"expected {{'zero': {declared[0]}, 'one': {declared[1]}}}" in said.stderr
        assert f"found {{'zero': {found[0]}, 'one': {found[1]}}}" in said.stderr
        state = states(said.stdout)
        assert state["tiny_digits/train"] == "failed"
        assert {state[asset] for asset in BELOW_TRAIN} == {"blocked"}
        assert state["tiny_digits/test_csv"] == there_before
        assert _exist(project, "exports/tiny_digits/train*", "statistics/*") == []
    said = command("list", *options[:4])
    assert re.search(r"tiny_digits .* class_counts_as_declared failed", said.stdout)
    project.redeclare("tiny_digits", f"counts = {declared}", f"counts = {found}")
    said = command("build", "tiny_digits", *options)
    assert said.code == 0, "the table was right all along"
    assert states(said.stdout)["tiny_digits/train"] == "up to date"


def test_published_constants_that_contradict_the_data_fail_the_statistics_each_time(
    project: Project, command: Command
) -> None:
    images = project.publisher.splits["tiny_digits", "train"][0] / 255
    mean, std = round(float(images.mean()), 4), round(float(images.std()), 4)
    right = f'classes = ["zero", "one", "two"]\nmean = [{mean}]\nstd = [{std}]'
    wrong = right.replace(f"{mean}", f"{mean + 0.01:.4f}")
    project.redeclare("tiny_digits", 'classes = ["zero", "one", "two"]', wrong)
    options = [*project.options, *project.mirror]
    for _ in range(2):
        said = command("build", "tiny_digits", "--only", "statistics", *options)
        assert said.code == 1
        assert states(said.stdout)["tiny_digits/statistics"] == "failed"
        assert "check mean_and_std_as_published failed" in said.stderr
        assert f"{mean + 0.01:.4f}" in said.stderr
        assert f"{np.round(images.mean(), 6)}" in said.stderr
    project.redeclare("tiny_digits", wrong, right)
    assert command("build", "tiny_digits", "--only", "statistics", *options).code == 0


def test_every_problem_of_every_file_of_a_catalogue_is_listed(
    project: Project, command: Command
) -> None:
    project.redeclare("tiny_letters", "first_label", "first_lable")
    project.redeclare("tiny_digits", "records = 30", "records = 31")
    project.redeclare("tiny_colours", 'coarse_classes = ["red", "blue"]', "")
    (project.publisher.catalogue / "broken.toml").write_text("title = \n")
    for arguments in (["build", *project.mirror], ["list"], ["statistics"], ["ui"]):
        said = command(*arguments, *project.options)
        assert said.code == 1, arguments
        assert "tiny_letters.toml: " in said.stderr
        assert "Did you mean 'first_label'?" in said.stderr
        assert "tiny_digits.toml: " in said.stderr
        assert "records is 31" in said.stderr
        assert "tiny_colours.toml: " in said.stderr
        assert "broken.toml: " in said.stderr
        assert said.stdout == ""
    assert not project.data.exists()


def test_a_catalogue_that_is_no_folder_or_has_nothing_in_it_is_refused(
    project: Project, command: Command, tmp_path: Path
) -> None:
    said = command("list", "--catalogue", str(tmp_path / "nowhere"))
    assert said.code == 1
    assert f"{tmp_path / 'nowhere'} is no folder" in said.stderr
    (tmp_path / "empty").mkdir()
    said = command("list", "--catalogue", str(tmp_path / "empty"))
    assert said.code == 1
    assert "no .toml file" in said.stderr


@pytest.mark.parametrize(
    ("in_the_way", "named"),
    [
        (".", "dagster"),
        ("dagster", "dagster"),
        ("dagster/history", "dagster"),
        ("archives", "archives/tiny_digits/train-images.gz"),
        ("tables", "tables/tiny_digits/train.parquet"),
        ("lineage", "lineage/archives/tiny_digits/train-images.gz.json"),
    ],
)
def test_a_file_in_the_way_of_a_folder_is_named(
    project: Project, command: Command, in_the_way: str, named: str
) -> None:
    obstacle = project.data / in_the_way
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("not a folder")
    said = command("build", "tiny_digits", "--only", "csv", *project.options, *project.mirror)
    assert said.code == 1
    assert "error: " in said.stderr
    assert str(project.data / named) in said.stderr
    assert "in the way" in said.stderr
    assert "--data" in said.stderr
    assert obstacle.read_text() == "not a folder"


def test_damaged_records_of_dagster_are_named_and_do_no_harm(
    built: Project, command: Command
) -> None:
    before = built.snapshot()
    (built.data / "dagster" / "history" / "runs.db").write_bytes(b"not SQLite" * 1000)
    said = command("build", "tiny_digits", *built.options, *built.mirror)
    assert said.code == 1
    assert str(built.data / "dagster") in said.stderr
    assert built.snapshot() == before


def with_files_of_at_most(arguments: Sequence[str]) -> int:
    """Run a command in a process that may write no file of more than so many KiB."""
    size, *words = arguments
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size) << 10, int(size) << 10))
    return command_line(words)


def test_artefacts_that_the_disk_has_no_room_for_are_named_and_not_half_made(
    tmp_path: Path, forked: Start
) -> None:
    # A limit on the size of a file stands in for a full disk: only large files hit it (SQLite's
    # log of a run has up to 4 MiB), and LMDB reports both alike, as an input/output error.
    large = Project(builders.publish(tmp_path / "published", digits=160_000), tmp_path / "data")
    words = ["build", "tiny_digits", "--only", "exports", *large.options, *large.mirror]
    done = forked("5200", *words, run=with_files_of_at_most).communicate()
    assert done.returncode == 1
    found = states(done.stdout)
    bad = {asset for asset, state in found.items() if state != "made"}
    assert bad == {"tiny_digits/train_csv", "tiny_digits/train_lmdb"}
    assert "Traceback" not in done.stderr
    for path in ("exports/tiny_digits/train.csv", "exports/tiny_digits/train_lmdb/data.mdb"):
        assert f"{large.data / path} can't be written: " in done.stderr
        assert not (large.data / path).exists()
    assert _exist(large) == []


@pytest.mark.parametrize("verb", ["build", "statistics"])
def test_an_unknown_dataset_gets_a_suggestion(
    project: Project, command: Command, verb: str
) -> None:
    said = command(verb, "tiny_letters", "tiny_digts", *project.options)
    assert said.code == 2
    assert "'tiny_digts'" in said.stderr
    assert "Did you mean 'tiny_digits'?" in said.stderr
    assert "tiny_colours" in said.stderr
    assert said.stdout == ""
    assert not project.data.exists()


def test_an_unknown_stage_gets_a_suggestion(project: Project, command: Command) -> None:
    said = command("build", "--only", "tabels", *project.options)
    assert said.code == 2
    assert "'tabels'" in said.stderr
    assert "Did you mean 'tables'?" in said.stderr
    assert "lmdb" in said.stderr
    assert not project.data.exists()


def test_an_unknown_option_or_command_is_refused_with_the_usage(command: Command) -> None:
    for arguments in (["build", "--ofline-mode"], ["bild"], []):
        said = command(*arguments)
        assert said.code == 2
        assert "usage: python -m assets" in said.stderr


LONG, NOT_UTF_8 = "x" * 300, "\udcff"


@pytest.mark.parametrize("name", [LONG, NOT_UTF_8], ids=["long", "not UTF-8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--data"],
        ["list", "--catalogue"],
        ["build", "tiny_digits", "--offline", "--mirror"],
        ["build", "tiny_digits", "--offline", "--openlineage"],
        ["lock", "--check"],
        ["mirror", "--offline"],
    ],
    ids=" ".join,
)
def test_a_folder_that_can_not_exist_is_refused_in_a_sentence(
    project: Project, tmp_path: Path, command: Command, arguments: list[str], name: str
) -> None:
    verb, *more = arguments
    said = command(verb, *project.options, *more, str(tmp_path / name))
    assert (said.code, said.stdout) == (2, "")
    *_, last = said.stderr.splitlines()
    assert last.startswith("python -m assets ")
    assert ("255 at most" if name == LONG else "is not UTF-8") in last


@pytest.mark.parametrize("arguments", [["trace", LONG], ["trace", NOT_UTF_8], ["build", NOT_UTF_8]])
def test_a_name_of_nothing_is_refused_whatever_it_holds(
    project: Project, command: Command, arguments: list[str]
) -> None:
    said = command(*arguments, *project.options)
    assert said.code == 2
    assert re.match("error: There is no (artefact|dataset) ", said.stderr)


def test_a_path_that_is_too_long_as_a_whole_is_named(project: Project, command: Command) -> None:
    deep = str(project.data) + "/" + "/".join(["d" * 200] * 21)
    catalogue = ["--catalogue", str(project.publisher.catalogue)]
    said = command("build", "tiny_digits", *project.mirror, "--data", deep, *catalogue)
    assert (said.code, said.stdout) == (1, "")
    assert re.fullmatch(rf"error: .*{deep}.* File name too long\. .*\n", said.stderr)


def test_a_schedule_at_no_time_is_refused_before_the_ui_starts(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_REFRESH_CRON", "61 * * * *")
    said = command("ui", *project.options)
    assert (said.code, said.stdout) == (1, "")
    assert said.stderr.startswith("error: IMAGESETS_REFRESH_CRON is '61 * * * *': no such time")
    assert not project.data.exists()


def test_a_misspelt_variable_is_warned_of_once(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_MIROR", "https://me:s3cr3t@example.org/")
    said = command("list", *project.options)
    assert said.code == 0
    meant = "warning: IMAGESETS_MIROR is not a setting. Did you mean 'IMAGESETS_MIRROR'?\n"
    assert said.stderr == meant


def test_a_server_whose_answer_holds_commands_for_a_terminal_is_shown_as_it_is(
    project: Project, command: Command
) -> None:
    def answer(handler: Handler, _data: bytes) -> None:
        handler.send_response(404, "Gone\x1b]0;mine\x07\x9b2J")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(b"", answer) as server:
        options = [*project.options, "--mirror", server.url]
        said = command("build", "tiny_letters", "--only", "archives", *options)
    assert said.code == 1
    assert r"Gone\u001b]0;mine\u0007\u009b2J" in said.stderr
    assert CONTROLS.search(said.stdout + said.stderr) is None
    assert len(said.stderr.splitlines()) > 3, "our own lines stay lines"


def test_a_catalogue_that_holds_commands_for_a_terminal_is_refused(
    project: Project, command: Command
) -> None:
    project.redeclare("tiny_digits", '"one"', r'"one\u001b[2J"')
    project.redeclare("tiny_letters", "[datasets.tiny_letters]", '"x\\u001b" = 1\n[datasets.y]')
    said = command("list", *project.options)
    assert said.code == 1
    assert "classes.1: Text may not hold U+001B" in said.stderr
    assert CONTROLS.search(said.stderr) is None


def test_output_that_can_not_be_written_is_told_in_a_sentence(project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "assets", "list", *project.options],
            cwd=ROOT,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=within(60),
            check=False,
        )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: What is printed can't be written: No space left on device.")


def test_a_disk_without_room_for_dagsters_records_is_told_once(
    project: Project, forked: Start
) -> None:
    # A limit on the size of files, which the events of a run outgrow; its tables do not.
    words = ["build", "tiny_digits", "--only", "tables", *project.options, *project.mirror]
    done = forked("150", *words, run=with_files_of_at_most).communicate()
    assert done.returncode == 1
    assert (project.data / "archives/tiny_digits/train-images.gz").exists(), "the run had begun"
    *progress, last = done.stderr.splitlines()
    assert last.startswith(f"error: Dagster's records of runs in {project.data}/dagster can't be")
    assert " opened or written: disk I/O error. Make the folder writable, free some" in last
    assert all(re.match(r"(archives|tables)/", line) for line in progress), done.stderr


def test_what_the_system_refuses_in_a_run_is_not_blamed_on_dagsters_records(
    project: Project, tmp_path: Path
) -> None:
    settings = Settings(data=project.data)
    runs.home(settings)
    with pytest.raises(FileNotFoundError, match="gone"), runs.records(settings):
        (tmp_path / "gone").read_bytes()
