"""Bars, lines and silence: what people see while assets are made."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time

import pytest
from rich.console import Console

from assets.command_line import display
from assets.command_line._main import _Warnings
from assets.command_line.display import Bars, Lines
from pipelines.progress import Display, Unit, size


def test_the_silent_display_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Display().task("some/table", 3, "records") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_line_tells_what_was_done_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Lines().task("some/table", 60_000, "records") as advance:
        advance(60_000)
    with Lines().task("some/archive", 11_594_722, "bytes") as advance:
        advance(11_594_722)
    out, err = capsys.readouterr()
    assert out == "", "results go to stdout, not progress"
    assert re.fullmatch(
        r"some/table: 60,000 records in 0\.\d\d s\nsome/archive: 11\.6 MB in 0\.\d\d s\n", err
    )


def test_long_work_says_now_and_then_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(every_s=0.02).task("some/table", 1000, "records") as advance:
        advance(250)
        time.sleep(0.03)
        advance(250)
        advance(500)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "some/table: 500 records of 1,000 records"
    assert last.startswith("some/table: 1,000 records in ")


def test_work_that_fails_is_not_reported_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with Lines().task("some/table", 1000, "records") as advance:
            advance(10)
            raise ValueError("cut short")

    with pytest.raises(ValueError, match="cut short"):
        fail()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "unit"), [(3, "records"), (12_345, "bytes"), (0, "bytes")])
def test_a_bar_takes_progress_and_setbacks(
    capsys: pytest.CaptureFixture[str], total: int, unit: Unit
) -> None:
    with Bars().task("some/thing", total, unit) as advance:
        advance(total)
        advance(-total)  # a mirror's bytes were wrong; the next one begins again
        advance(total)
    assert capsys.readouterr().out == "", "results go to stdout, not progress"


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, Bars), (False, Lines)])
def test_a_terminal_gets_bars_and_a_log_gets_lines(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: type[Display]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert type(display.chosen()) is kind


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (28_881, "28.9 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (561_753_746, "561.8 MB"),
        (10**9, "1.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_a_size_is_written_in_powers_of_1000(number: int, text: str) -> None:
    assert size(number) == text


COMMANDS = "\x1b]0;title\x07\x1b[2J\x00\x08\r\x7f\x9b31m\u202egnp\u2066"
SHOWN = r"\u001b]0;title\u0007\u001b[2J\u0000\u0008\u000d\u007f\u009b31m\u202egnp\u2066"


def test_text_from_outside_commands_no_terminal_and_keeps_its_lines() -> None:
    assert display.plain(f"one\n\ttwo × {COMMANDS}") == f"one\n\ttwo × {SHOWN}"


def test_json_means_the_same_after_it_was_made_plain() -> None:
    said = {"a\\": [COMMANDS, "\\", "\n"]}
    text = json.dumps(said, ensure_ascii=False, indent=1)
    assert json.loads(display.plain(text)) == said


@pytest.mark.parametrize("error", [False, True])
def test_all_that_is_said_is_plain(capsys: pytest.CaptureFixture[str], error: bool) -> None:
    display.say(f"a{COMMANDS}", error=error)
    assert capsys.readouterr() == (("", f"a{SHOWN}\n") if error else (f"a{SHOWN}\n", ""))


def test_a_line_of_progress_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines().task(f"a{COMMANDS}", 1, "records") as watch:
        watch.note(f"b{COMMANDS}")
    err = capsys.readouterr().err
    assert re.fullmatch(rf"a{re.escape(SHOWN)}: .*\(b{re.escape(SHOWN)}\)\n", err)


def test_a_bar_shows_names_as_they_are_and_takes_none_for_a_command_or_a_colour() -> None:
    bars = Bars()
    with bars.task(f"[red]a[/red]{COMMANDS}", 1, "records") as watch:
        watch.note("[/b]\x1b")
        table = bars._bars.make_tasks_table(bars._bars.tasks)
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    console.print(table)
    assert rf"[red]a[/red]{SHOWN} ([/b]\u001b)" in console.file.getvalue()


def test_a_warning_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("pipelines.x", 30, "x.py", 1, "%s", (f"w{COMMANDS}",), None)
    _Warnings(logging.WARNING).emit(record)
    assert capsys.readouterr().err == f"w{SHOWN}\n"


def test_columns_are_as_wide_as_their_longest_cell_and_numbers_stand_to_the_right() -> None:
    rows = [["category", "train", ""], ["class 0", "1,000", "made"], None, ["total", "12,005", ""]]

    assert display.columns(rows, right={"train"}).splitlines() == [
        "category   train",
        "class 0    1,000  made",
        "────────  ──────  ────",
        "total     12,005",
    ]
