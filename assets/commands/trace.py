"""`trace`: follow a row back to the publisher's bytes."""

from __future__ import annotations

import argparse

from assets.command_line import options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings

ORDER = 8


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "trace",
        run,
        help="follow a row back to the publisher's bytes",
        description="Follow a record, or a row of statistics, back over its table and its place in "
        "the archive to where that came from, and verify every hop by reading its bytes. Without "
        "a row, follow the artefact as a whole. The exit code is 0 only if every hop holds.",
        examples={"trace mnist/test:1234": "a record, back to its publisher"},
    )
    options.add_folders(parser)
    parser.add_argument(
        "artefact",
        metavar="ARTEFACT[:ROW]",
        help="mnist/train:5, exports/mnist/test.csv:5, mnist/statistics:train/7, or the path of a "
        "copy; rows count from 0",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--no-picture", dest="picture", action="store_false", help="leave out the picture"
    )


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print every hop, for people or as JSON."""
    from assets.command_line import tracing
    from pipelines.lineage import trace

    chain = trace.trace(
        settings.plan([given.artefact.partition("/")[0]]), settings.store, given.artefact
    )
    if given.json:
        say(tracing.as_json(chain))
        return 0 if chain.holds else 1
    tracing.show(chain, picture=given.picture)
    if broken := sum(not hop.holds for hop in chain.hops):
        say(end="", flush=True)
        verb = "does" if broken == 1 else "do"
        say(f"\n{broken} of {len(chain.hops)} hops {verb} not hold.", error=True)
        return 1
    say(f"\nAll {len(chain.hops)} hops hold.")
    return 0
