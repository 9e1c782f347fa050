"""The options that several commands share, and the settings that come of them.

Not here: options of one command alone; its module declares those.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from assets.settings import (
    Settings,
    file_or_endpoint,
    folder,
    folder_or_bucket,
    folder_or_url,
    refusal,
    variables,
)
from pipelines import stages


def settings(given: argparse.Namespace) -> Settings:
    """Return the environment's settings, overruled by the options that were given."""
    found = {key: value for key in variables() if (value := getattr(given, key, None)) is not None}
    return Settings.from_environment().with_(found)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add where everything lies: the data, and the catalogue."""
    parser.add_argument(
        "--data",
        type=explained(folder_or_bucket),
        metavar="FOLDER-OR-BUCKET",
        help="where everything is made, also s3://… (IMAGESETS_DATA; default: data/ of this "
        "project)",
    )
    parser.add_argument(
        "--catalogue",
        type=explained(folder),
        metavar="FOLDER",
        help="your own declarations instead of the built-in ones (IMAGESETS_CATALOGUE)",
    )


def add_contents(parser: argparse.ArgumentParser) -> None:
    """Add what decides the bytes of artefacts; --help shows that of a default build."""
    shown = stages.options(stages.DEFAULT)
    for name, option in stages.options().items():
        default = ""
        form: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if not isinstance(option.default, bool):
            default = f"; default: {option.default}"
            metavar = f"{{{','.join(option.choices)}}}" if option.choices else "N"
            form = {"type": explained(option.read), "metavar": metavar}
        said = f"{option.help} ({variables()[name]}{default})"
        spelt = f"--{name.replace('_', '-')}"
        parser.add_argument(spelt, help=said if name in shown else argparse.SUPPRESS, **form)
    parser.epilog = (
        "Exports that are made on request have options of their own: python -m assets exports NAME "
        "lists them."
    )


def add_mirrors(parser: argparse.ArgumentParser) -> None:
    """Add where archives come from."""
    parser.add_argument(
        "--mirror",
        type=explained(folder_or_url),
        metavar="FOLDER-OR-URL",
        help="look here first for archives, laid out <source>/<file> (IMAGESETS_MIRROR)",
    )
    parser.add_argument(
        "--offline",
        action=argparse.BooleanOptionalAction,
        help="never open a connection (IMAGESETS_OFFLINE)",
    )


def add_openlineage(parser: argparse.ArgumentParser) -> None:
    """Add where events about what is made go."""
    parser.add_argument(
        "--openlineage",
        type=explained(file_or_endpoint),
        metavar="FILE-OR-URL",
        help="tell a lineage catalogue what is made: JSON lines, or an endpoint "
        "(IMAGESETS_OPENLINEAGE)",
    )


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add the datasets that a command is about; none stands for all."""
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help="a dataset, or a source")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the same for a command that is about archives, which are a source's."""
    parser.add_argument("datasets", nargs="*", metavar="SOURCE", help="a source, or a dataset")


def add_only(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the stages that a command is about; `what` says what it does with one."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="STAGE",
        help=f"{what}: {', '.join(stages.known())} (may be repeated)",
    )


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add the parts that a command is about, of a dataset that comes in parts."""
    parser.add_argument(
        "--parts",
        nargs="+",
        action="extend",
        metavar="PART",
        help="only these parts of a dataset that comes in parts, as its classes are called, or "
        "00000, 00001, …",
    )


def add_page(parser: argparse.ArgumentParser, port: int, more: str = "") -> None:
    """Add where a page is served, by default at a port, and whether a browser is opened."""
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=port, help=f"port to serve on (%(default)s{more})"
    )
    parser.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="open no page; without a terminal or a display none is opened anyway",
    )


def explained(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader of an option's value whose refusal says why."""

    def reading(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(refusal(text, error)) from error

    return reading
