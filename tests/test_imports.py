"""Imports flow one way: assets → pipelines, and within each wing from late rooms to early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIPELINES = sorted((ROOT / "pipelines").rglob("*.py"))
ASSETS = sorted((ROOT / "assets").rglob("*.py"))

# How late each room stands; one may import only what stands before it, whether at the top of a
# module or in a function. A room's own modules may import one another, but in no circle.
RANKS = {
    "pipelines": [
        {"advice", "errors", "redaction", "progress", "threads", "lazily"},
        {"declarations"},
        {"records"},
        {"reading"},
        {"store"},
        {"formats", "archives"},
        {"catalogue", "products"},
        {"stages", "wording"},
        {"tables"},
        {"statistics", "exports"},
        {"descriptions", "parts"},
        {"plan"},
        {"lineage"},
        {"building"},
        {"api"},
        {"torch", "tensorflow", "grain"},
    ],
    "assets": [
        {"settings", "checks", "partitions", "spelling"},
        {"metadata"},
        {"resources"},
        {"archives"},
        {"tables"},
        {"statistics", "products"},
        {"graph"},
        {"running"},
        {"definitions"},
        {"serving"},
        {"command_line"},
        {"commands"},  # which the command line finds, and names nowhere
        {"__main__"},
    ],
}


def modules(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {modules(path) for path in [*PIPELINES, *ASSETS]}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere: at its top, in a function, or by a string."""
    package = modules(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                start = package[: len(package) - level + 1] if level else []
                whole = ".".join([*start, *([module] if module else [])])
                for alias in names:
                    name = f"{whole}.{alias.name}"
                    yield name if name in NAMES else whole
            case ast.Call(
                func=ast.Name("__import__") | ast.Attribute(attr="__import__"), args=[name, *_]
            ):
                yield ast.literal_eval(name)


def room(module: str) -> str:
    """The room of a wing in which a module lies; nothing for the wing's own face."""
    return ".".join(module.split(".")[1:2])


@pytest.mark.parametrize("path", PIPELINES, ids=modules)
def test_pipelines_imports_neither_dagster_nor_the_rooms_above_it(path: Path) -> None:
    above = ("dagster", "assets", "tests", "benchmarks")

    assert [name for name in imported(path) if name.split(".")[0].startswith(above)] == []


@pytest.mark.parametrize("path", PIPELINES, ids=modules)
def test_pipelines_names_itself_by_relative_imports_alone(path: Path) -> None:
    """So it can be shipped under another name."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    absolute = [
        ast.unparse(node)
        for node in tree
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and str(node.module).startswith("pipelines")
        )
        or (
            isinstance(node, ast.Import) and any(a.name.startswith("pipelines") for a in node.names)
        )
    ]
    assert absolute == []


@pytest.mark.parametrize(
    "path",
    [path for path in [*PIPELINES, *ASSETS] if modules(path).split(".")[0] in RANKS],
    ids=modules,
)
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    wing, here = modules(path).split(".")[0], room(modules(path))
    ranks = {name: rank for rank, names in enumerate(RANKS[wing]) for name in names}
    for name in imported(path):
        there = room(name)
        if name.split(".")[0] != wing or there == here or not there or not here:
            continue  # a wing's own face offers names of any room, and imports them when asked
        assert ranks[there] < ranks[here], f"{modules(path)} imports {name}"


@pytest.mark.parametrize("wing", RANKS)
def test_every_room_has_its_rank(wing: str) -> None:
    rooms = {room(name) for name in NAMES if name.startswith(f"{wing}.")}
    assert rooms == set().union(*RANKS[wing])


def test_no_modules_import_one_another_in_a_circle() -> None:
    arrows = {modules(path): {*imported(path)} & NAMES for path in [*PIPELINES, *ASSETS]}
    faces = {modules(path) for path in [*PIPELINES, *ASSETS] if path.name == "__init__.py"}
    # A module may ask the face of its own room for what stands there.
    arrows = {name: there - faces for name, there in arrows.items()}
    while leaves := {name for name, there in arrows.items() if not there & arrows.keys()}:
        arrows = {name: there for name, there in arrows.items() if name not in leaves}
    assert arrows == {}


def test_a_process_that_works_without_dagster_never_loads_it() -> None:
    names = sorted(name for name in NAMES if name.startswith("pipelines."))
    code = f"import sys, {', '.join(names)}\nprint(*(m for m in sys.modules if 'dagster' in m))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "\n"
