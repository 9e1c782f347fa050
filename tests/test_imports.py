"""Imports flow one way: assets → pipelines, and there from the late stages to the early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINES = sorted((ROOT / "pipelines").rglob("*.py"))

# How late each module of pipelines stands; one may import only what stands before it.
RANKS = {
    "errors": 0,
    "redaction": 0,
    "work": 0,
    "hashing": 0,
    "files": 1,
    "seen": 2,
    "catalogue": 2,
    "lineage": 3,
    "formats": 3,
    "downloads": 3,
    "packages": 4,
    "members": 4,
    "probes": 5,
    "archives": 5,
    "tables": 5,
    "duplicates": 6,
    "pictures": 7,
    "statistics": 6,
    "exports": 6,
    "croissant": 6,
    "targets": 6,
    "openlineage": 7,
    "trace": 7,
    "verification": 7,
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere: at its top, in a function, or by a string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                assert not level, f"{path}: a relative import hides where it goes"
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name("__import__" | "import_module")
                | ast.Attribute(attr="__import__" | "import_module"),
                args=[name, *_],
            ):
                yield ast.literal_eval(name.values[0] if isinstance(name, ast.JoinedStr) else name)


def stage(path: Path) -> str:
    return path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pipelines_imports_neither_dagster_nor_the_rooms_above_it(path: Path) -> None:
    above = ("dagster", "assets", "tests", "benchmarks")

    assert [name for name in imported(path) if name.split(".")[0].startswith(above)] == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stage_imports_only_stages_before_it(path: Path) -> None:
    here = stage(path)
    if here == "__init__":
        assert not any(name.startswith("pipelines") for name in imported(path))
        return
    for name in imported(path):
        room, _, rest = name.partition(".")
        there = rest.split(".")[0]
        if room == "pipelines" and there not in (here, "__version__"):
            assert RANKS[there] < RANKS[here], f"{here} imports {there}"


def test_every_stage_has_its_rank() -> None:
    assert {stage(path) for path in PIPELINES} == {*RANKS, "__init__"}


def test_a_process_that_works_without_dagster_never_loads_it() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PIPELINES]
    modules = [name for name in modules if not name.endswith("__init__")]
    code = f"import sys, {', '.join(modules)}\nprint(*(m for m in sys.modules if 'dagster' in m))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "\n"
