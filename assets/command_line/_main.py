"""From arguments to an exit code: the parser, the command that was named, and every refusal.

Exit codes: 0 if all is well, 1 if something is not (where that is an answer, 2: `diff` says by 1
that it found a difference), 2 for a name or an option that makes no sense,
130 after Ctrl-C, 141 where nobody reads what is printed.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from assets.command_line import options
from assets.command_line.declaring import Commands, declared
from assets.command_line.display import say
from assets.settings import misspelt
from pipelines import __version__, redaction
from pipelines.errors import ImagesetsError, UnknownName


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no × shows a ?
    arguments = sys.argv[1:] if arguments is None else arguments
    handler = _Warnings(logging.WARNING)
    logger = logging.getLogger("pipelines")
    logger.addHandler(handler)
    refused = 1
    try:
        given = _parser(arguments).parse_args(arguments)
        refused = given.refused
        for warning in misspelt(os.environ):
            say(f"warning: {warning}", error=True)
        code: int = given.run(options.settings(given), given)
        say(end="", flush=True)
        return code
    except BrokenPipeError:  # nobody reads on
        _silence_stdout()
        return 141
    except (ImagesetsError, OSError) as error:
        try:
            say(end="", flush=True)  # what was found before, where it can be printed
        except (ImagesetsError, OSError):
            _silence_stdout()
        text = _refused(error) if isinstance(error, OSError) else f"{error}"
        say(f"error: {_without_secrets(text, arguments)}", error=True)
        return 2 if isinstance(error, UnknownName) else refused
    except KeyboardInterrupt:
        say("\ninterrupted; what was finished is kept, nothing is half made", error=True)
        return 130
    finally:
        logger.removeHandler(handler)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; it refuses without repeating what opens an address."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            super().error(_without_secrets(message, arguments))

    parser: argparse.ArgumentParser = Parser(
        prog="python -m assets",
        description="MNIST, Fashion-MNIST, EMNIST, CIFAR-10 and CIFAR-100: fetched, verified, and\n"
        "made into Parquet tables, statistics, CSV and LMDB.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"imagesets {__version__}")
    commands = Commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    for module in declared():
        module.add(commands)
    parser.epilog = commands.examples_as_text()
    return parser


def _silence_stdout() -> None:
    """Drop what is still to be printed: Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(error: OSError) -> str:
    """Return what the system refused, where no stage has more to say of it."""
    where = f" {error.filename!r}" if error.filename else ""
    return (
        f"The system refuses{where}: {error.strerror or error}. Mend that, or choose another place "
        "(--help names the options)."
    )


def _without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Return a message that repeats no password, however an argument is mistyped or misplaced."""
    for argument in arguments:
        if "://" in argument:
            for repeated in (argument, repr(argument)[1:-1]):
                text = text.replace(repeated, redaction.named(argument))
    return redaction.without_secrets(text)


class _Warnings(logging.Handler):
    """Shows our own warnings, above the progress bars where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; `sys.stderr` is looked up each time, since the bars replace it."""
        say(self.format(record), error=True)
