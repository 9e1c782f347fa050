"""What errors advise: calls to those who have the library, commands to those in the repository."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipelines import advice
from tests.builders import Publisher
from tests.waiting import within

ROOT = Path(__file__).resolve().parent.parent.parent
OF_THE_REPOSITORY = re.compile(r"python -m|--\w|\bstage|materiali[sz]e|\.venv|\bbuild\b", re.I)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder to import from, in which the package goes by the name under which it is shipped."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "imagesets").symlink_to(ROOT / "pipelines")
    return folder


def told(installed: Path, *lines: str, **variables: str) -> str:
    """The error that some lines raise, or what they print."""
    indented = "".join(f"    {line}\n" for line in lines)
    code = (
        "import imagesets\n"
        f"try:\n{indented}"
        "except imagesets.ImagesetsError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(installed)} | variables,
        capture_output=True,
        text=True,
        timeout=within(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOAD = "imagesets.load('tiny_digits', 'test')"


def test_who_has_the_library_is_told_variables_and_no_options(
    installed: Path, publisher: Publisher, data: Path, tmp_path: Path
) -> None:
    said = told(installed, LOAD, IMAGESETS_MIRROR="")
    assert "or name a folder or URL that has it with IMAGESETS_MIRROR" in said
    assert not OF_THE_REPOSITORY.search(said)

    (tmp_path / "file").touch()
    said = told(installed, LOAD, IMAGESETS_DATA=str(tmp_path / "file/data"))
    assert "or choose another data folder with IMAGESETS_DATA (" in said
    assert not OF_THE_REPOSITORY.search(said)

    said = told(installed, "imagesets.load('tiny_digit')", "")
    assert "There is no dataset 'tiny_digit'. Did you mean 'tiny_digits'?" in said


def test_who_meets_newer_provenance_is_told_a_variable(
    installed: Path, publisher: Publisher, data: Path
) -> None:
    told(installed, LOAD)
    known = data / "lineage/tables/tiny_digits/test.parquet.json"
    said = json.loads(known.read_text()) | {"format": "imagesets-lineage/9"}
    del said["digest"]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    known.write_text(json.dumps(said | {"digest": digest}))
    shutil.rmtree(data / ".seen")

    said = told(installed, LOAD)

    assert said.startswith("MadeByNewer")
    assert said.endswith("or choose another data folder with IMAGESETS_DATA.\n")
    assert not OF_THE_REPOSITORY.search(said)


def test_who_meets_a_damaged_member_is_told_the_call_that_verifies(
    installed: Path, publisher: Publisher, tmp_path: Path
) -> None:
    catalogue, mirror = tmp_path / "declared", tmp_path / "served"
    shutil.copytree(publisher.catalogue, catalogue)
    shutil.copytree(publisher.mirror, mirror)
    toml = catalogue / "tiny_digits.toml"
    declared = tomllib.loads(toml.read_text())["archives"]
    name = next(name for name in declared if "test" in name)
    cut = gzip.compress(gzip.decompress((mirror / "tiny_digits" / name).read_bytes()))[:-9]
    (mirror / "tiny_digits" / name).write_bytes(cut)
    text = toml.read_text().replace(declared[name]["md5"], hashlib.md5(cut).hexdigest())
    text = text.replace(declared[name]["sha256"], hashlib.sha256(cut).hexdigest())
    toml.write_text(re.sub(rf"bytes( *)= {declared[name]['bytes']}\b", f"bytes = {len(cut)}", text))

    variables = {"IMAGESETS_CATALOGUE": str(catalogue), "IMAGESETS_MIRROR": str(mirror)}
    said = told(installed, LOAD, **variables)

    assert said.startswith("MemberError")
    assert "`imagesets.verify` says whether the archive is as declared" in said
    assert not OF_THE_REPOSITORY.search(said)


def test_who_meets_a_damaged_table_is_told_to_load_it_again(
    installed: Path, publisher: Publisher, tmp_path: Path
) -> None:
    reads = "from imagesets import reading; from pathlib import Path"
    said = told(installed, reads, f"reading.read(Path({str(tmp_path / 'no.parquet')!r}))")
    assert said.endswith("is not there. Load it, and it is made.\n")

    place = f"shutil.copyfile({LOAD.replace('load', 'path')}, {str(tmp_path / 'cut.parquet')!r})"
    table = tmp_path / "other.parquet"
    told(installed, "import shutil", place)
    import pyarrow.parquet as pq

    records = pq.read_table(tmp_path / "cut.parquet")
    pq.write_table(records.drop_columns(["label"]), table)
    said = told(installed, reads, f"reading.read(Path({str(table)!r}))")
    assert said.endswith("Something else wrote it. Delete it and load it again.\n")
    assert not OF_THE_REPOSITORY.search(said)


def test_who_traces_without_an_archive_is_told_the_call_that_fetches(
    installed: Path, publisher: Publisher, data: Path
) -> None:
    told(installed, LOAD)
    shutil.rmtree(data / "archives")

    trace = "chain = imagesets.trace('tiny_digits', 'test', 3)"
    said = told(installed, trace, "print(*(hop.problem for hop in chain.hops), sep='\\n')")

    assert 'Fetch it: imagesets.load("tiny_digits", "test")' in said
    assert not OF_THE_REPOSITORY.search(said)


def test_whoever_works_in_the_repository_is_told_commands(publisher: Publisher) -> None:
    assert not advice.IN_LIBRARY
    assert advice.VERIFY == "python -m assets verify"
    assert advice.ELSEWHERE.endswith("with --data or IMAGESETS_DATA")


def _texts(path: Path) -> list[str]:
    """All that a module says, but for its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    ]


# What they say is told by commands alone, or stands in a file that is made.
_NOT_OF_THE_LIBRARY = ("advice.py", "plan.py", "products.py", "overview.py", "openlineage.py")


def test_no_text_of_the_library_names_a_command_but_where_advice_is_chosen() -> None:
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipelines").rglob("*.py")
        if path.name not in _NOT_OF_THE_LIBRARY and path.parent.name != "descriptions"
        for text in _texts(path)
        if re.search(r"python -m assets|--(data|mirror|only|offline)\b|\.venv", text)
    }
    assert naming == set()


def _imported(path: Path) -> set[str]:
    """The packages of others that a module imports anywhere, but for annotations."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def test_everything_that_not_everybody_has_is_in_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[^\w.-]", one)[0] for one in project["dependencies"]}
    imported = set().union(*map(_imported, (ROOT / "pipelines").rglob("*.py")))
    imported -= {name.replace("-", "_") for name in needed} | {"urllib3", "pydantic_core"}
    frameworks = {"torch", "tensorflow", "grain"}
    come_along = {"markupsafe", "threadpoolctl"}  # with jinja2, scikit-learn
    asked = {"botocore"}  # for credentials, where it is there

    assert imported - frameworks - come_along - asked == {*advice._EXTRAS}
    for extra, package in advice._EXTRAS.values():
        wanted = project["optional-dependencies"][extra]
        assert package in {re.split(r"[^\w.-]", one)[0] for one in wanted}


@pytest.mark.parametrize(("module", "extra"), [("lmdb", "lmdb"), ("polars", None)])
def test_a_deep_verification_names_the_extra_that_it_lacks(
    installed: Path, publisher: Publisher, data: Path, module: str, extra: str | None
) -> None:
    """Of a folder that somebody with all of it made, where a library is not installed."""
    from pipelines import stages
    from pipelines.api import making, place
    from pipelines.building import Workshop

    everything = making.plan("tiny_digits")
    workshop = Workshop(place.store(), everything, making.web(), warns=False)
    wanted = everything.of(everything.declared.select(["tiny_digits"]), stages.DEFAULT)
    for asset in dict.fromkeys(one.asset for one in wanted):
        workshop.make(asset)

    said = told(
        installed,
        f"import sys; sys.modules[{module!r}] = None",
        "for one in imagesets.verify('tiny_digits', deep=True):",
        "    one.is_whole or print(one.path, one.condition, one.why)",
    )

    if extra is None:  # nothing that is made by default needs it to be compared
        assert said == ""
    else:
        assert said.count("uncompared") == said.count(f'pip install "imagesets[{extra}]"') == 2
        assert f"{module} is not installed, which not everybody has. Install it: " in said
        assert not OF_THE_REPOSITORY.search(said)
