"""`status`: what an operator, cron and monitoring are told, without Dagster and at a glance."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from assets.running import mirrors
from assets.settings import ROOT, Settings
from tests.assets.conftest import Command, Said
from tests.assets.project import Project, Site, environment
from tests.assets.test_verify import ARCHIVE, CSV, TABLE, _other_kind, flip, rerecord
from tests.waiting import within

DATASETS = ["tiny_colours", "tiny_digits", "tiny_letters"]


def rows(said: Said) -> dict[str, list[str]]:
    """Dataset → what stands in its row."""
    _, *found = said.stdout.split("\n\n")[0].splitlines()
    return {name: rest for name, *rest in (re.split(r"  +", row) for row in found)}


def told(command: Command, project: Project, *arguments: str) -> dict[str, Any]:
    said = command("status", "--json", *arguments, *project.options)
    found: dict[str, Any] = json.loads(said.stdout)
    assert found["is_well"] == (said.code == 0)
    return found


def of(found: dict[str, Any], dataset: str) -> dict[str, Any]:
    [one] = [one for one in found["datasets"] if one["dataset"] == dataset]
    return dict(one)


def look_at_mirrors(project: Project, url: str, *sources: str) -> None:
    declared = project.plan().declared
    wanted = [declared.sources[name] for name in sources or DATASETS]
    settings = project.settings(mirror=url)
    mirrors.look(declared, wanted, settings, {s.name: {} for s in wanted}, fetch=False)


def test_where_all_is_well_the_exit_code_is_0_and_everything_fits_80_columns(
    built: Project, command: Command
) -> None:
    before = built.snapshot()
    said = command("status", *built.options)
    assert (said.code, said.stderr) == (0, "")
    found = rows(said)
    assert [*found] == DATASETS
    assert all(row[0] == "up to date" for row in found.values())
    assert found["tiny_digits"][1] == "12 of 12"
    assert found["tiny_digits"][-1] == "?", "nobody looked at a mirror"
    table = said.stdout.split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "last read:   20" in said.stdout
    assert built.snapshot() == before


def test_the_built_in_catalogue_fits_80_columns_and_nothing_here_is_not_well(
    command: Command,
) -> None:
    said = command("status", "--data", "/nowhere/at/all")
    assert said.code == 1, "the disk may be missing"
    assert {*rows(said)} == {*Settings().plan().declared.datasets}
    assert max(map(len, said.stdout.splitlines())) <= 80


def test_a_table_with_columns_of_another_kind_is_told_and_stops_nobody(
    built: Project, command: Command
) -> None:
    _other_kind(built.data / TABLE)
    rerecord(built, TABLE)

    said = command("status", *built.options)

    assert said.code == 1
    assert rows(said)["tiny_digits"][0] == "check failed"
    assert f"{TABLE}: check failed: readable: " in re.sub(r"\s+", " ", said.stdout)
    assert rows(said)["tiny_letters"][0] == "up to date"


def test_what_nobody_asked_for_is_no_trouble_unless_it_is_named(
    project: Project, command: Command
) -> None:
    project.build("tiny_digits")
    said = command("status", *project.options)
    assert said.code == 0
    assert rows(said)["tiny_letters"][0] == "not built"
    assert command("status", "tiny_digits", *project.options).code == 0
    assert command("status", "tiny_letters", *project.options).code == 1
    assert command("status", "tiny_letter", *project.options).code == 2


def test_it_needs_no_dagster_nor_polars(built: Project) -> None:
    script = (
        "import sys; from assets.command_line import main; code = main(sys.argv[1:]); "
        "print(sorted({'dagster', 'polars', 'sqlalchemy'} & {*sys.modules})); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "status", *built.options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n[]\n")


def test_damage_what_is_missing_and_what_moved_on_are_told_apart(
    built: Project, command: Command
) -> None:
    flip(built.data / "tables/tiny_colours/test.parquet")
    (built.data / CSV).unlink()
    built.redeclare("tiny_letters", '"A"', '"a"')

    said = command("status", *built.options)

    assert said.code == 1
    found = rows(said)
    assert found["tiny_colours"][0] == "damaged"
    assert found["tiny_digits"][0] == "damaged"
    assert found["tiny_letters"][0] == "out of date"
    assert f"  {CSV}: missing: it is not there" in said.stdout
    assert "  tables/tiny_colours/test.parquet: changed: " in said.stdout
    assert "more; --json has all" in said.stdout
    assert max(map(len, said.stdout.partition("\ndata folder")[0].splitlines())) <= 80
    digits = of(told(command, built), "tiny_digits")
    assert [(t["path"], t["condition"]) for t in digits["trouble"]] == [(CSV, "missing")]
    assert (digits["artefacts"], digits["up_to_date"]) == (12, 11)


def test_what_was_never_made_is_incomplete_and_only_says_what_is_expected(
    project: Project, command: Command
) -> None:
    project.build("tiny_digits", stages=["tables"])
    assert rows(command("status", *project.options))["tiny_digits"][0] == "incomplete"
    assert command("status", *project.options).code == 1
    assert command("status", "--only", "tables", *project.options).code == 0


def test_an_export_made_on_request_is_looked_at_too(built: Project, command: Command) -> None:
    built.build("tiny_digits", stages=["npz"])
    before = of(told(command, built), "tiny_digits")
    assert before["artefacts"] > 12
    flip(built.data / "exports/tiny_digits/tiny_digits.npz")
    after = of(told(command, built), "tiny_digits")
    assert after["standing"] == "damaged"
    assert after["up_to_date"] == before["up_to_date"] - 1


def test_a_check_that_fails_is_told(built: Project, command: Command) -> None:
    split = built.plan().declared.datasets["tiny_digits"].splits["train"]
    old = f"counts = [{', '.join(map(str, split.counts))}]"
    moved = [split.counts[0] + 1, split.counts[1] - 1, *split.counts[2:]]
    built.redeclare("tiny_digits", old, f"counts = [{', '.join(map(str, moved))}]")
    found = of(told(command, built), "tiny_digits")
    assert found["standing"] == "check failed"
    assert "class_counts_as_declared" in found["trouble"][0]["why"]


def test_an_archive_that_rotted_is_damage_even_where_nothing_was_made_of_it(
    project: Project, command: Command
) -> None:
    assert command("fetch", "tiny_digits", *project.options, *project.mirror).code == 0
    assert rows(command("status", *project.options))["tiny_digits"][0] == "not built"
    flip(project.data / ARCHIVE)
    said = command("status", *project.options)
    assert (said.code, rows(said)["tiny_digits"][0]) == (1, "damaged")


def test_bytes_count_as_read_when_they_last_were_and_verify_moves_that(
    built: Project, command: Command
) -> None:
    """Rot that moves no time is not seen, and not certified either: it says since when."""
    first = of(told(command, built), "tiny_digits")["last_read"]
    assert of(told(command, built), "tiny_digits")["last_read"] == first
    assert command("verify", *built.options).code == 0
    assert of(told(command, built), "tiny_digits")["last_read"] > first
    built.rot(TABLE)  # which claims to have been read in the year 2100
    assert of(told(command, built), "tiny_digits")["last_read"] < "2100"


def test_sizes_are_those_on_the_disk_and_archives_count_once(
    built: Project, command: Command
) -> None:
    found = told(command, built)

    def size(*folders: str) -> int:
        files = [p for folder in folders for p in (built.data / folder).rglob("*")]
        return sum(p.stat().st_size for p in files if p.is_file())

    assert found["archives_bytes"] == size("archives")
    made = size("tables", "statistics", "exports")
    made -= sum(p.stat().st_size for p in (built.data / "exports").rglob("*.lineage.json"))
    made += sum(p.stat().st_size for p in (built.data / "lineage").glob("*/croissant.json"))
    assert sum(one["size_bytes"] for one in found["datasets"]) == made
    assert found["records_of_runs_bytes"] == size("dagster")


def test_mirrors_are_as_they_were_when_they_were_last_looked_at(
    built: Project, site: Site, command: Command
) -> None:
    look_at_mirrors(built, site.url)
    said = command("status", *built.options)
    assert said.code == 0
    alive, _, mirrors_ = rows(said)["tiny_digits"][-1].partition(" of ")
    assert 1 <= int(alive) <= int(mirrors_)
    assert "mirrors:     last looked at 20" in said.stdout

    site.gone = True
    asked = len(site.methods)
    assert command("status", *built.options).code == 0, "nobody looked since"
    assert len(site.methods) == asked, "it opens no connection"

    look_at_mirrors(built, site.url)
    found = told(command, built)
    assert of(found, "tiny_digits")["mirrors"]["mirrors_alive"] == int(alive) - 1
    assert site.url not in json.dumps(found)


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b'{"looked": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_note_of_mirrors_is_no_knowledge(
    built: Project, command: Command, note: bytes
) -> None:
    place = built.data / ".seen/mirrors/tiny_digits.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(note)
    assert of(told(command, built), "tiny_digits")["mirrors"] is None


# --- Metrics --------------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? ({NUMBER})")
HEAD = re.compile(rf"# (TYPE|UNIT|HELP) ({NAME}) (.*)")


def parsed(text: str) -> dict[str, dict[str, float]]:
    """Metric → labels → value, by the grammar of OpenMetrics 1.0 for gauges; strictly."""
    assert text.endswith("# EOF\n")
    found: dict[str, dict[str, float]] = {}
    kinds: list[str] = []
    family = ""
    for line in text.removesuffix("# EOF\n").splitlines():
        if head := HEAD.fullmatch(line):
            kind, name, said = head.groups()
            if name != family:  # the families don't interleave, and each begins anew
                assert name not in found, name
                family, kinds = name, []
                found[family] = {}
            assert kind not in kinds, line
            assert not found[family], f"{line} after samples"
            kinds.append(kind)
            assert kind != "TYPE" or said == "gauge"
            assert kind != "UNIT" or name.endswith(f"_{said}")
            assert kind != "HELP" or re.fullmatch(r'(?:[^"\\]|\\[\\n"])+', said)
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            name, labels, value = sample.groups()
            assert name == family, line
            assert "TYPE" in kinds
            assert (labels or "") not in found[family], line
            found[family][labels or ""] = float(value)
    return found


def test_the_metrics_are_open_metrics_and_say_the_same_as_json(
    built: Project, site: Site, command: Command
) -> None:
    look_at_mirrors(built, site.url, "tiny_digits")
    json_ = of(told(command, built), "tiny_digits")

    said = command("status", "--metrics", *built.options)

    assert said.code == 0
    found = parsed(said.stdout)
    on, source = 'dataset="tiny_digits",source="tiny_digits"', 'source="tiny_digits"'
    assert found["imagesets_artefacts"][on] == json_["artefacts"] == 12
    assert found["imagesets_artefacts_up_to_date"][on] == 12
    assert found["imagesets_up_to_date"][on] == 1
    assert found["imagesets_artefacts_in_trouble"][on] == 0
    assert found["imagesets_size_bytes"][on] == json_["size_bytes"]
    assert found["imagesets_making_seconds"][on] == pytest.approx(json_["making_s"])
    assert found["imagesets_last_read_timestamp_seconds"][on] > 1.7e9
    assert found["imagesets_last_made_timestamp_seconds"][on] > 1.7e9
    assert found["imagesets_mirrors"] == {source: json_["mirrors"]["mirrors"]}
    assert found["imagesets_mirrors_alive"][source] == json_["mirrors"]["mirrors_alive"]
    assert found["imagesets_mirrors_looked_timestamp_seconds"][source] > 1.7e9
    assert found["imagesets_archives_bytes"][""] > 0


def test_metrics_of_what_nobody_knows_are_absent(project: Project, command: Command) -> None:
    project.build("tiny_digits")
    found = parsed(command("status", "--metrics", *project.options).stdout)
    assert [*found["imagesets_up_to_date"]] == ['dataset="tiny_digits",source="tiny_digits"']
    assert "imagesets_mirrors_alive" not in found


def test_metrics_tell_of_trouble(built: Project, command: Command) -> None:
    (built.data / CSV).unlink()
    said = command("status", "--metrics", *built.options)
    assert said.code == 1
    found = parsed(said.stdout)
    on = 'dataset="tiny_digits",source="tiny_digits"'
    assert found["imagesets_up_to_date"][on] == 0
    assert found["imagesets_artefacts_in_trouble"][on] == 1
