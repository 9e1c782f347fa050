"""The command line as a person meets it: help, options, settings, and what goes to which stream."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from assets import commands
from assets.command_line.declaring import declared
from assets.resources import Options
from assets.settings import ROOT, folder_or_url
from tests import builders
from tests.assets.conftest import Command, Start
from tests.assets.project import Project, environment, made, serving, states
from tests.contributing import COMMAND
from tests.waiting import until, within

COMMANDS = [module.__name__.rpartition(".")[2].replace("_", "-") for module in declared()]


class TestHelp:
    """The help of every command, on a terminal of 80 columns."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")

    def test_the_help_names_every_command_and_gives_examples(self, command: Command) -> None:
        said = command("--help")
        assert (said.code, said.stderr) == (0, "")
        for name in COMMANDS:
            assert re.search(rf"^    {name}\b", said.stdout, re.MULTILINE), name
        assert "python -m assets build mnist fashion_mnist" in said.stdout

    @pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=" ".join)
    def test_no_line_is_wider_than_80_columns(
        self, command: Command, arguments: Sequence[str]
    ) -> None:
        wide = [
            line for line in command(*arguments, "--help").stdout.splitlines() if len(line) > 80
        ]
        assert wide == []

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_says_what_it_does(self, command: Command, name: str) -> None:
        usage, purpose, *_ = command(name, "--help").stdout.split("\n\n")
        assert usage.startswith(f"usage: python -m assets {name}")
        assert re.match(r"[A-Z][^:]+\.", purpose), f"no sentence follows the usage: {purpose!r}"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_and_argument_is_explained(self, command: Command, name: str) -> None:
        lines = command(name, "--help").stdout.splitlines()
        options = 0
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if re.match(r"  (-|[A-Z])", line):
                explained = re.search(r"\S  +\S", line) or following.startswith(" " * 8)
                assert explained, line
                options += 1
        assert options > 1, "--help itself, and more"

    def test_settings_are_given_with_their_environment_variables(self, command: Command) -> None:
        text = " ".join(command("build", "--help").stdout.split())
        for name in ("DATA", "CATALOGUE", "MIRROR", "OFFLINE", "CSV_HEADER", "OPENLINEAGE"):
            assert f"IMAGESETS_{name}" in text
        for stage in ("archives", "tables", "statistics", "exports", "croissant", "csv", "lmdb"):
            assert re.search(rf"--only STAGE .*\b{stage}\b", text)

    def test_the_version_is_told(self, command: Command) -> None:
        assert re.fullmatch(r"imagesets \d+\.\d+\.\d+\n", command("--version").stdout)


class TestOneModulePerCommand:
    """A command is found because its module lies there: that of CONTRIBUTING.md, for one."""

    COUNT = COMMAND.replace("return 0", "return 7").replace(
        "said = {", 'said = {"examples": {"count": "how many there are"}, '
    )

    @pytest.fixture
    @staticmethod
    def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A folder whose modules count as lying beside the commands."""
        monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
        before = {*sys.modules}
        yield tmp_path
        for name in {*sys.modules} - before:
            if name.startswith(f"{commands.__name__}."):
                del sys.modules[name]

    def test_a_module_is_all_that_a_command_takes(
        self, room: Path, project: Project, command: Command
    ) -> None:
        (room / "count.py").write_text(self.COUNT)
        (room / "_helps.py").write_text("raise AssertionError('a helper is no command')")

        said = command("--help").stdout
        assert re.search(r"^    ui .*\n    count +count the datasets$", said, re.MULTILINE)
        assert said.endswith("  python -m assets count                        how many there are\n")
        said = command("count", *project.options)
        assert (said.code, said.stdout, said.stderr) == (7, "3 datasets\n", "")

    def test_a_module_without_a_command_is_refused(self, room: Path, command: Command) -> None:
        (room / "forgotten.py").write_text("def run(settings, given): ...\n")

        said = command("list")

        assert (said.code, said.stdout) == (1, "")
        path, _, text = said.stderr.removeprefix("error: ").partition(" declares no command: ")
        assert Path(path) == room / "forgotten.py"
        assert "expected a function add(commands)" in text
        assert "begins with _" in text

    def test_help_loads_none_of_the_heavy_libraries(self) -> None:
        code = (
            "import sys\nfrom assets.command_line.declaring import declared\ndeclared()\n"
            "print(*{'dagster', 'polars', 'pyarrow', 'numpy', 'rich'} & {*sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout == "\n"


class TestList:
    """What `list` says before, while and after datasets are built."""

    def test_where_nothing_is_built(self, project: Project, command: Command) -> None:
        said = command("list", *project.options)
        assert (said.code, said.stderr) == (0, "")
        header, *rows = said.stdout.split("\n\n")[0].splitlines()
        assert header.split() == ["dataset", "records", "classes", "image", "archives", "here"]
        sizes = [
            sum(path.stat().st_size for path in (project.publisher.mirror / source).iterdir())
            for source in ("tiny_colours", "tiny_digits", "tiny_letters")
        ]
        assert sizes[1] < 1000 < min(sizes[0], sizes[2])
        records = "30 train + 12 test"
        colours, letters = (f"{size / 1000:.1f} kB" for size in (sizes[0], sizes[2]))
        assert [re.split(r"  +", row) for row in rows] == [
            ["tiny_colours", records, "6", "4×4×3", colours, "nothing yet"],
            ["tiny_digits", records, "3", "4×3", f"{sizes[1]} B", "nothing yet"],
            ["tiny_letters", records, "4", "5×5", letters, "nothing yet"],
        ]
        assert f"data folder: {project.data}\n" in said.stdout
        assert f"catalogue:   {project.publisher.catalogue}\n" in said.stdout
        assert not project.data.exists(), "looking leaves nothing behind"

    def test_where_everything_is_built(self, built: Project, command: Command) -> None:
        before = built.snapshot()
        here = _here(command("list", *built.options).stdout)
        assert here == {
            "tiny_colours": "up to date (9 artefacts)",
            "tiny_digits": "up to date (12 artefacts)",
            "tiny_letters": "up to date (9 artefacts)",
        }
        assert built.snapshot() == before

    def test_where_a_part_is_built_or_out_of_date(self, built: Project, command: Command) -> None:
        (built.data / "exports/tiny_digits/test.csv").unlink()
        (built.data / "tables/tiny_colours/test.parquet").unlink()
        built.redeclare("tiny_letters", '"A"', '"a"')
        here = _here(command("list", *built.options).stdout)
        # Two exports, statistics and the Croissant document are made from the table.
        assert here["tiny_colours"] == "4 of 9 artefacts up to date"
        assert here["tiny_digits"] == "11 of 12 artefacts up to date"
        assert here["tiny_letters"] == "1 of 9 artefacts up to date", "the archive"

    def test_the_built_in_catalogue_has_ten_datasets_and_others_on_request(
        self, command: Command
    ) -> None:
        shown = command("list", "--data", "/nowhere/at/all").stdout
        here = _here(shown)
        on_request = {name for name, state in here.items() if state == "on request"}
        assert {"quickdraw", "kmnist", "cifar10_c", "breastmnist_64"} <= on_request
        assert {*here} - on_request == {
            "cifar10",
            "cifar100",
            "emnist_balanced",
            "emnist_byclass",
            "emnist_bymerge",
            "emnist_digits",
            "emnist_letters",
            "emnist_mnist",
            "fashion_mnist",
            "mnist",
        }
        assert set(here.values()) == {"nothing yet", "on request"}
        assert max(map(len, shown.splitlines())) < 160
        assert "950,000 in 95 splits" in shown


TABLES = {"tables/tiny_digits/train.parquet", "tables/tiny_digits/test.parquet"}
STATISTICS = {"statistics/tiny_digits.parquet"}
CROISSANT = {"lineage/tiny_digits/croissant.json"}
CSV = {"exports/tiny_digits/train.csv", "exports/tiny_digits/test.csv"}
LMDB = {"exports/tiny_digits/train_lmdb/data.mdb", "exports/tiny_digits/test_lmdb/data.mdb"}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (["archives"], set()),
        (["tables"], TABLES),
        (["statistics"], TABLES | STATISTICS),
        (["croissant"], TABLES | CROISSANT),
        (["csv"], TABLES | CSV),
        (["lmdb"], TABLES | LMDB),
        (["exports"], TABLES | CSV | LMDB),
        (["statistics", "csv"], TABLES | STATISTICS | CSV),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_only_makes_a_stage_and_what_it_needs(
    project: Project, command: Command, stages: list[str], expected: set[str]
) -> None:
    only = [word for stage in stages for word in ("--only", stage)]
    said = command("build", "tiny_digits", *only, *project.options, *project.mirror)
    assert said.code == 0
    found = set(project.snapshot(lineage=False)) | (CROISSANT & set(project.snapshot()))
    assert {path for path in found if not path.startswith("archives/")} == expected
    assert len(found - expected) == 4, "the archives"
    assert set(states(said.stdout).values()) == {"made"}


def test_a_sources_name_stands_for_its_datasets(project: Project, command: Command) -> None:
    toml = project.publisher.toml("tiny_letters")
    toml.write_text(toml.read_text().replace("datasets.tiny_letters", "datasets.latin"))
    toml.rename(toml.with_name("letters_source.toml"))
    archives = project.publisher.mirror / "tiny_letters"
    archives.rename(archives.with_name("letters_source"))
    options = [*project.options, *project.mirror]
    said = command("build", "letters_source", "--only", "tables", *options)
    assert said.code == 0
    assert list(states(said.stdout)) == ["letters_source/archives", "latin/train", "latin/test"]


Give = Callable[[str, str, str], list[str]]


class TestSettings:
    """Each option and its environment variable do the same; where both are given, options win."""

    @pytest.fixture(params=["option", "variable", "option against variable"])
    @staticmethod
    def given(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Give:
        """Give a setting one way or the other; return the words for the command line."""

        def give(name: str, value: str, contrary: str) -> list[str]:
            option = "--" + name.lower().replace("_", "-")
            if request.param == "variable":
                monkeypatch.setenv(f"IMAGESETS_{name}", value)
                return []
            if request.param == "option against variable":
                monkeypatch.setenv(f"IMAGESETS_{name}", contrary)
            return [option] if value == "1" else [option, value]

        return give

    def test_data(self, project: Project, command: Command, given: Give) -> None:
        words = given("DATA", str(project.data), "/nowhere/at/all")
        catalogue = ["--catalogue", str(project.publisher.catalogue)]
        assert f"data folder: {project.data}\n" in command("list", *words, *catalogue).stdout

    def test_catalogue(self, project: Project, command: Command, given: Give) -> None:
        words = given("CATALOGUE", str(project.publisher.catalogue), "/nowhere/at/all")
        here = _here(command("list", *words, "--data", str(project.data)).stdout)
        assert list(here) == ["tiny_colours", "tiny_digits", "tiny_letters"]

    def test_mirror(self, project: Project, command: Command, given: Give) -> None:
        words = given("MIRROR", str(project.publisher.mirror), "/nowhere/at/all")
        said = command("build", "tiny_letters", "--only", "archives", *words, *project.options)
        assert (said.code, states(said.stdout)) == (0, {"tiny_letters/archives": "made"})

    def test_offline(self, project: Project, command: Command, given: Give) -> None:
        with serving(project.publisher.mirror) as server:
            words = [*given("OFFLINE", "1", "0"), "--mirror", server.url]
            said = command("build", "tiny_letters", "--only", "archives", *words, *project.options)
        assert said.code == 1
        assert re.search(r"\boffline\b", said.stderr)
        assert server.asked == [], "a connection was opened"

    def test_csv_header(self, project: Project, command: Command, given: Give) -> None:
        words = [*given("CSV_HEADER", "1", "0"), *project.mirror, *project.options]
        assert command("build", "tiny_digits", "--only", "csv", *words).code == 0
        header, first, *_ = (project.data / "exports/tiny_digits/test.csv").read_text().split("\n")
        assert header == "label," + ",".join(f"pixel{number}" for number in range(1, 13))
        assert re.fullmatch(r"\d+(,\d+){12}", first)


def test_the_ui_on_a_port_that_is_taken_is_refused_before_anything_starts(
    project: Project, command: Command
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = command("ui", "--port", str(taken.getsockname()[1]), "--data", str(project.data))
    assert (said.code, said.stdout) == (1, "")
    assert "Address already in use. Is it running already?" in said.stderr
    assert "--port" in said.stderr
    assert not project.data.exists()


def test_a_mirror_may_be_a_url(project: Project, command: Command) -> None:
    with serving(project.publisher.mirror) as server:
        words = ["--mirror", f"{server.url}/", *project.options]
        said = command("build", "tiny_letters", "--only", "archives", *words)
    assert said.code == 0
    assert server.asked == ["/tiny_letters/letters.zip"]


def test_offline_takes_archives_from_a_folder(project: Project, command: Command) -> None:
    words = ["--offline", *project.mirror, *project.options]
    assert command("build", "tiny_letters", "--only", "archives", *words).code == 0


def test_a_switch_that_is_neither_on_nor_off_is_refused(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESETS_OFFLINE", "maybe")
    said = command("build", *project.options)
    assert said.code == 1
    assert "IMAGESETS_OFFLINE is 'maybe'" in said.stderr
    assert not project.data.exists()


class TestStatistics:
    """The classic table: category × split, with totals."""

    def test_it_is_printed_with_totals(self, built: Project, command: Command) -> None:
        said = command("statistics", "tiny_digits", *built.options)
        assert (said.code, said.stderr) == (0, "")
        train, test = (
            np.bincount(built.publisher.splits["tiny_digits", split][1]).tolist()
            for split in ("train", "test")
        )
        title, table = said.stdout.rstrip("\n").split("\n\n")
        assert title == "Tiny digits"
        assert [line.split() for line in table.splitlines() if "─" not in line] == [
            ["category", "train", "test"],
            ["zero", str(train[0]), str(test[0])],
            ["one", str(train[1]), str(test[1])],
            ["two", str(train[2]), str(test[2])],
            ["total", "30", "12"],
        ]
        assert len({len(line) for line in table.splitlines()}) == 1, "columns do not line up"

    def test_all_that_are_built_are_printed_apart(self, built: Project, command: Command) -> None:
        (built.data / "statistics/tiny_colours.parquet").unlink()
        said = command("statistics", *built.options)
        assert said.code == 0
        assert said.stdout.startswith("Tiny digits\n\ncategory")
        assert re.search(r"^total +30 +12\n\nTiny letters\n\ncategory", said.stdout, re.MULTILINE)
        assert "\n\n\n" not in said.stdout

    def test_where_one_is_not_built_it_says_how_to(
        self, project: Project, command: Command
    ) -> None:
        said = command("statistics", "tiny_digits", *project.options)
        assert said.code != 0
        assert said.stdout == ""
        assert "python -m assets build tiny_digits" in said.stderr

    def test_where_none_is_built_it_says_how_to(self, project: Project, command: Command) -> None:
        said = command("statistics", *project.options)
        assert said.stdout.strip() == ""
        assert "python -m assets build" in said.stderr


def test_a_terminal_gets_bars_and_nothing_of_dagsters(project: Project, forked: Start) -> None:
    ours, theirs = pty.openpty()
    arguments = ["build", "tiny_digits", *project.options, *project.mirror]
    terminal = {"stderr": os.ttyname(theirs), "TERM": "xterm-256color", "COLUMNS": "80"}
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_all_of, ours)
        done = forked(*arguments, **terminal).communicate(timeout=30)
        os.close(theirs)
        out, shown = done.stdout, reading.result()
    assert done.returncode == 0
    assert "\x1b" not in out
    assert set(states(out).values()) == {"made"}
    assert "━" in shown
    for label in ("tiny_digits/train-images.gz", "tiny_digits/train.parquet", "tiny_digits/test"):
        assert label in shown
    assert "30 of 30 records" in shown
    size = project.publisher.archive("tiny_digits", "train-images.gz").stat().st_size
    assert f"{size} B of {size} B" in shown
    assert not re.search(r"debug|dagster|STEP_|Traceback|Warning", shown, re.IGNORECASE)
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", shown)]
    assert max(map(len, frames)) <= 80
    erased, cursor_shown = r"\x1b\[2K", r"(\x1b\[\?25h)?\r?"
    assert re.search(rf"{erased}{cursor_shown}$", shown), "the last bar stays on the screen"


def test_ctrl_c_ends_a_build_in_the_middle_and_nothing_is_half_made(
    project: Project, forked: Start
) -> None:
    with serving(project.publisher.mirror, stall=True) as server:
        process = forked("build", "tiny_digits", *project.options, "--mirror", server.url)
        assert server.stalled.wait(within(30)), "nothing was fetched"
        until(lambda: any(path.stat().st_size for path in project.data.rglob(".*.partial")))
        process.send_signal(signal.SIGINT)
        done = process.communicate(timeout=20)
    out, err = done.stdout, done.stderr
    files = [path for path in project.data.rglob("*") if path.is_file()]
    left = [path.name for path in files if "dagster" not in path.parts]
    assert left, "what had arrived is kept"
    assert all(name.startswith(".") for name in left), "only what the next build goes on with"
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "dagster" not in out + err
    assert done.returncode == 130
    assert "tiny_digits/train" in made(project.build("tiny_digits"))


def test_ctrl_c_while_a_run_is_planned_is_no_error_of_dagsters(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[bool] = []
    made = Options.__init__

    def press_once(self: Options, **given: object) -> None:
        if given and not pressed:  # what was chosen is checked while a run is planned
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        made(self, **given)

    monkeypatch.setattr(Options, "__init__", press_once)
    said = command("build", "tiny_digits", *project.options, *project.mirror)
    assert pressed
    assert (said.code, "interrupted; what was finished is kept" in said.stderr) == (130, True)


def _here(stdout: str) -> dict[str, str]:
    """Dataset → what `list` says of it."""
    table, _, _ = stdout.partition("\n\ndata folder")
    rows = [re.split(r"  +", row) for row in table.splitlines()[1:] if row]
    return {row[0]: row[-1] for row in rows}


def _all_of(terminal: int) -> str:
    """Everything that is written to a terminal until it is closed."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return shown.decode()


@pytest.mark.slow
class TestRoughTreatment:
    """Output that goes nowhere, terminals that know little, settings that are slips."""

    def test_a_terminal_without_the_signs_gets_question_marks(self) -> None:
        said = _list_with(PYTHONIOENCODING="ascii")
        assert said.returncode == 0
        assert "28?28" in said.stdout

    def test_a_reader_that_goes_away_is_no_error(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "assets", "list"],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr as stderr:
            assert stderr.read() == b""
        assert process.wait(within(30)) == 141

    @pytest.mark.parametrize(
        ("option", "text"), [("--data", ""), ("--catalogue", " "), ("--mirror", " ")]
    )
    def test_a_setting_that_is_a_slip_is_refused(
        self, command: Command, option: str, text: str
    ) -> None:
        said = command("build", "mnist", option, text)
        assert said.code == 2
        assert f"argument {option}: {text!r}: " in said.stderr

    def test_a_file_url_is_a_folder(self) -> None:
        assert folder_or_url("file:///srv/my%20mirror") == "/srv/my mirror"

    def test_damaged_statistics_are_told(self, project: Project, command: Command) -> None:
        path = project.data / "statistics" / "tiny_digits.parquet"
        path.parent.mkdir(parents=True)
        path.write_text("junk")
        said = command("statistics", "tiny_digits", *project.options)
        assert said.code == 1
        assert f"error: {path} holds no statistics of ours" in said.stderr


def _list_with(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assets", "list"],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_warnings_are_told_in_a_line_each_and_fail_nothing(
    project: Project, command: Command
) -> None:
    train = project.publisher.splits["tiny_digits", "train"][0].copy()
    test = project.publisher.splits["tiny_digits", "test"][0].copy()
    train[4], test[0], test[1] = train[0], train[2], train[3]
    for name, images in (("train-images.gz", train), ("test-images.gz", test)):
        project.republish("tiny_digits", name, builders.gz(builders.idx(images[..., 0])))

    said = command("build", "tiny_digits", *project.options, *project.mirror)

    assert said.code == 0
    assert set(states(said.stdout).values()) == {"made"}
    assert "all passed their checks but for 2 warning(s)." in said.stdout
    warnings = [line for line in said.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.split(": ")[1:3] for line in warnings] == [
        ["tiny_digits/train", "no_duplicates_within_split"],
        ["tiny_digits/statistics", "no_leak_between_splits"],
    ]
    assert "found 1 image(s) in 2 records" in warnings[0]
    assert "found 2 image(s) in 4 records" in warnings[1]

    again = command("build", "tiny_digits", *project.options, *project.mirror)
    assert again.code == 0
    assert again.stderr.count("warning: ") == 2
    assert "failed" not in command("list", *project.options).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--mirror", "https://me:s3cr3t@[bad"], "argument --mirror: not usable: "),
        (["list", "--data", ""], "argument --data: '': an empty path"),
        (["list", "--data", "~no-such/x"], "argument --data: '~no-such/x': nobody of that name"),
        (["build", "--openlineage", "ftp://x"], "neither a file nor an http(s) URL"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_the_reason(
    command: Command, arguments: list[str], words: str
) -> None:
    said = command(*arguments)
    assert (said.code, said.stdout) == (2, "")
    assert words in said.stderr
    assert "s3cr3t" not in said.stderr
