"""`exports`: what other people's loaders can open, and the lines that open it."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.commands import _exports
from assets.settings import Settings
from pipelines import stages
from pipelines.errors import UnknownName, did_you_mean

ORDER = 8


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "exports",
        run,
        help="what existing loaders can open, and how",
        description="Print every export there is with the loaders that open it as it is; its size "
        "and the seconds that making it takes are those of MNIST. Of a named one, print all there "
        "is to know, and the lines that open it.",
        examples={"exports csv": "who opens it, and how"},
    )
    options.add_folders(parser)
    parser.add_argument("export", nargs="?", metavar="EXPORT", help="one export, as csv")
    parser.add_argument(
        "--markdown", action="store_true", help="print the page docs/exports.md instead"
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print the table, or what there is to know of one."""
    known = stages.exports()
    if given.export is not None and given.export not in known:
        raise UnknownName(
            f"There is no export {given.export!r}.{did_you_mean(given.export, known)} Known: "
            f"{', '.join(known)}."
        )
    exports = _exports.found(settings.plan(), [given.export] if given.export else known)
    if given.markdown:
        say(_exports.markdown(exports), end="")
    elif not given.export:
        default = ", ".join(settings.exports)
        say(_exports.table(exports))
        say(f"\nMade where nobody names any: {default}. Another one, or the lines that open it:")
        say("  python -m assets build DATASET --only EXPORT\n  python -m assets exports EXPORT")
    elif exports:
        say(_exports.page(exports[0], settings.here))
    else:
        say(f"No dataset in {settings.catalogue} has a {given.export}.")
    return 0
