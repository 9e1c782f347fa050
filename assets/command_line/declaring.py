"""How commands are found, and what they declare themselves to.

Not here: a command, or an option (`options` has those that several commands share).
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType

from assets.settings import Settings
from pipelines.errors import ImagesetsError

ROOM = "assets.commands"

Run = Callable[[Settings, argparse.Namespace], int]
"""Does what a command is for, by the settings and the options that were given; its exit code."""


class Commands:
    """What a command adds itself to."""

    def __init__(self, parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Have no command yet."""
        self._parsers = parsers
        self._examples: dict[str, str] = {}

    def add(
        self,
        name: str,
        run: Run,
        *,
        help: str,  # noqa: A002 # as argparse calls it
        description: str,
        examples: Mapping[str, str] | None = None,
        refused: int = 1,
    ) -> argparse.ArgumentParser:
        """Add a command; return its parser, which takes its options and arguments.

        Args:
            name: how it is called.
            run: what it does.
            help: a line of `python -m assets --help`.
            description: what its own --help says first, in sentences.
            examples: what follows `python -m assets` → what that is for; for --help's last lines.
            refused: the exit code where it can't be done.
        """
        self._examples.update(examples or {})
        parser = self._parsers.add_parser(name, help=help, description=description)
        parser.set_defaults(run=run, refused=refused)
        return parser

    def examples_as_text(self) -> str:
        """Return the examples of all commands, a line each."""
        width = max(map(len, self._examples), default=0) + 3
        lines = (f"  python -m assets {x:{width}}{what}\n" for x, what in self._examples.items())
        return "examples:\n" + "".join(lines)


def declared() -> list[ModuleType]:
    """Return the modules that declare a command, in the order of their `ORDER`, then by name.

    Raises:
        ImagesetsError: one declares none.
    """
    room = importlib.import_module(ROOM)
    names = sorted(found.name for found in pkgutil.iter_modules(room.__path__))
    modules = [importlib.import_module(f"{ROOM}.{x}") for x in names if not x.startswith("_")]
    for module in modules:
        if not callable(getattr(module, "add", None)):
            raise ImagesetsError(
                f"{module.__file__} declares no command: expected a function add(commands), found "
                f"none. Write one ({ROOM} says how); or, if the module only helps others, give it "
                "a name that begins with _."
            )
    return sorted(modules, key=lambda module: getattr(module, "ORDER", len(modules)))
