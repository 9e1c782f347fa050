"""What a person may choose, in the environment's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assets.settings import BUILT_IN_CATALOGUE, ROOT, Settings, misspelt, variables
from pipelines import stages
from pipelines.errors import ImagesetsError


def test_without_a_setting_everything_is_in_the_project() -> None:
    found = Settings.from_environment({})
    assert found == Settings()
    assert found.data == ROOT / "data"
    assert found.catalogue == BUILT_IN_CATALOGUE
    by_default = {"cifar10", "cifar100", "emnist", "fashion_mnist", "mnist"}
    assert by_default < {path.stem for path in found.catalogue.glob("*.toml")}
    assert (found.mirror, found.offline, found.chosen["csv_header"]) == (None, False, False)


def test_every_setting_has_a_variable_that_is_explained() -> None:
    own = set(Settings.__dataclass_fields__) - {"options"}
    assert set(variables()) == own | set(stages.options())
    for name in own:
        assert variables()[name] in (Settings.__doc__ or "")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_environment(dict.fromkeys(variables().values(), "")) == Settings()


def test_dagsters_home_is_in_the_data_folder(tmp_path: Path) -> None:
    assert Settings(data=tmp_path).dagster_home == tmp_path / "dagster"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *((word, True) for word in ("1", "true", "Yes", "ON")),
        *((word, False) for word in ("0", "false", "No", "off")),
    ],
)
@pytest.mark.parametrize("switch", ["offline", "csv_header"])
def test_a_switch_is_on_or_off_in_the_usual_words(switch: str, word: str, value: bool) -> None:
    found = Settings.from_environment({variables()[switch]: word})
    assert {"offline": found.offline, **found.chosen}[switch] is value


def test_a_refusal_tells_no_password() -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_MIRROR is not usable: ") as caught:
        Settings.from_environment({"IMAGESETS_MIRROR": "https://me:s3cr3t@[bad"})
    assert "s3cr3t" not in str(caught.value)


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_DATA is '~no-such/x'.*nobody"):
        Settings.from_environment({"IMAGESETS_DATA": "~no-such/x"})


@pytest.mark.parametrize("word", ["2", "maybe", "ja", " "])
def test_any_other_word_for_a_switch_is_refused_by_name(word: str) -> None:
    with pytest.raises(ImagesetsError, match=rf"IMAGESETS_OFFLINE is '{word}'.*1.*0"):
        Settings.from_environment({"IMAGESETS_OFFLINE": word})


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(Path("/d"), Path("/c"), "/m", True),
        Settings(mirror="https://example.org/mirror", options={"csv_header": True}),
        Settings(openlineage="http://127.0.0.1:5000"),
        Settings(openlineage="/events.jsonl"),
        Settings(datasets=("mnist", "emnist")),
        Settings(refresh_cron="30 2 * * *", refresh_timezone="Europe/Paris"),
        Settings(
            executor="multiprocess",
            postgres="postgresql+psycopg2://user:word@host/runs",
            webhook="https://example.org/hook",
        ),
    ],
)
def test_another_process_that_gets_the_environment_has_the_same_settings(
    settings: Settings,
) -> None:
    assert Settings.from_environment(settings.as_environment()) == settings


def test_relative_folders_mean_the_same_in_a_process_that_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `python -m assets ui` hands its settings to a server that has another working directory.
    monkeypatch.chdir(tmp_path)
    given = {"IMAGESETS_DATA": "d", "IMAGESETS_CATALOGUE": "c", "IMAGESETS_MIRROR": "../m"}
    given["IMAGESETS_OPENLINEAGE"] = "e.jsonl"
    said = Settings.from_environment(given).as_environment()
    monkeypatch.chdir("/")
    elsewhere = Settings.from_environment(said)
    assert elsewhere.data == tmp_path / "d"
    assert elsewhere.catalogue == tmp_path / "c"
    assert elsewhere.openlineage == str(tmp_path / "e.jsonl")
    assert Path(elsewhere.mirror or "").resolve() == tmp_path.parent / "m"


def test_a_variable_may_begin_with_the_home_folder_as_an_option_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"IMAGESETS_DATA": "~/d", "IMAGESETS_CATALOGUE": "~/c", "IMAGESETS_MIRROR": "~/m"}
    found = Settings.from_environment(given)
    assert (found.data, found.catalogue) == (tmp_path / "d", tmp_path / "c")
    assert found.mirror == str(tmp_path / "m")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("IMAGESETS_DATA", " "),
        ("IMAGESETS_EXECUTOR", "dask"),
    ],
)
def test_a_variable_that_is_a_slip_is_named(variable: str, text: str) -> None:
    with pytest.raises(ImagesetsError, match=re.escape(f"{variable} is {text!r}: ")):
        Settings.from_environment({variable: text})


@pytest.mark.parametrize(
    ("variable", "text", "why"),
    [
        ("IMAGESETS_MIRROR", "http://[", "not an address"),
        ("IMAGESETS_MIRROR", "http:///folder", "an address without a host"),
        ("IMAGESETS_MIRROR", "https://me:%E2%82%AC@h/", "HTTP takes only letters of Latin-1"),
        ("IMAGESETS_MIRROR", "me:word@host/folder", "neither a folder that is there nor an addr"),
        ("IMAGESETS_OPENLINEAGE", "s3://bucket/events", "neither a file nor an http(s) URL"),
    ],
)
def test_an_address_that_is_a_slip_is_refused_without_repeating_it(
    variable: str, text: str, why: str
) -> None:
    with pytest.raises(ImagesetsError, match=re.escape(f"{variable} is not usable: {why}")) as got:
        Settings.from_environment({variable: text})
    assert text not in str(got.value)


@pytest.mark.parametrize("text", ["weekly", "0 6 * *", "0 6 * * 1 2026"])
def test_a_cron_line_without_five_fields_is_refused_by_name(text: str) -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_REFRESH_CRON is .*five fields"):
        Settings.from_environment({"IMAGESETS_REFRESH_CRON": text})


@pytest.mark.parametrize("text", ["Europe/Pariss", "/etc/passwd", "../UTC", "Europe"])
def test_a_time_zone_that_does_not_exist_is_refused_by_name(text: str) -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_REFRESH_TIMEZONE is .*time zone"):
        Settings.from_environment({"IMAGESETS_REFRESH_TIMEZONE": text})


@pytest.mark.parametrize("text", ["61 * * * *", "0 25 * * *", "a b c d e", "0 6 31 2 x"])
def test_a_cron_line_that_dagster_can_not_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_REFRESH_CRON is .*: no such time; write"):
        Settings.from_environment({"IMAGESETS_REFRESH_CRON": text})


FOLDERS = ["IMAGESETS_DATA", "IMAGESETS_CATALOGUE", "IMAGESETS_MIRROR", "IMAGESETS_OPENLINEAGE"]


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_name_that_is_longer_than_file_systems_take_is_refused(variable: str) -> None:
    assert Settings.from_environment({variable: "/tmp/" + "x" * 255})
    for name in ("x" * 256, "é" * 128):
        with pytest.raises(ImagesetsError, match=rf"{variable} is .*a name of 256 bytes.*255"):
            Settings.from_environment({variable: f"/tmp/{name}/data"})


@pytest.mark.parametrize("variable", FOLDERS)
def test_a_name_that_is_not_utf_8_is_refused(variable: str) -> None:
    with pytest.raises(ImagesetsError, match=rf"{variable} is '/tmp/\\udcff': .* is not UTF-8"):
        Settings.from_environment({variable: "/tmp/\udcff"})


def test_a_misspelt_variable_is_told_with_the_one_that_is_meant_and_never_its_value() -> None:
    given = {
        "IMAGESETS_MIROR": "https://me:s3cr3t@example.org/",
        "IMAGESET_DATA": "s3cr3t",
        "IMAGESETS_NONSENSE": "s3cr3t",
        "HOME": "/home/me",
    }
    miror, nonsense, data = misspelt(given)
    assert data == "IMAGESET_DATA is not a setting. Did you mean 'IMAGESETS_DATA'?"
    assert miror == "IMAGESETS_MIROR is not a setting. Did you mean 'IMAGESETS_MIRROR'?"
    assert nonsense.startswith("IMAGESETS_NONSENSE is not a setting. ")
    assert "s3cr3t" not in data + miror + nonsense


def test_no_variable_that_exists_counts_as_misspelt() -> None:
    of_tests = ("IMAGESETS_TEST_BROWSER", "IMAGESETS_TEST_REGISTRIES")
    schemas = "IMAGESETS_OPENLINEAGE_SCHEMAS"
    assert misspelt(dict.fromkeys([*variables().values(), *of_tests, schemas], "x")) == []


def test_every_variable_of_this_project_counts_as_known() -> None:
    sources = [*ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py"), ROOT / "README.md", ROOT / ".ci/run"]
    used = {
        name
        for path in sources
        if path.name not in ("test_settings.py", "test_failures.py")
        for name in re.findall(r"IMAGESETS_[A-Z][A-Z_]*[A-Z]", path.read_text("utf-8"))
    }
    # Those of options stand nowhere in full: they come of the option's name.
    named = {*variables().values()} - {variables()[name] for name in stages.options()}
    assert named <= used
    assert misspelt(dict.fromkeys(used - {"IMAGESETS_TEST", "IMAGESETS_MIROR"}, "x")) == []
