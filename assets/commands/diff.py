"""`diff`: what changed from one dataset to another: versions, or any two of images of one shape."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from assets.command_line import display, options
from assets.command_line.declaring import Commands
from assets.command_line.display import say
from assets.settings import Settings, positive
from pipelines.declarations import Dataset

if TYPE_CHECKING:  # numpy takes long to import
    from pipelines.statistics.changes import Change, Changes, OfSplit

ORDER = 6
SHOWN = 5
FORMAT = "imagesets-diff/1"
SAME = "Pixels are compared by 128 bits of BLAKE2b over all of an image, labels by their names."


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add(
        "diff",
        run,
        help="what changed between two versions, or two datasets",
        description="Print how many records of the first dataset are in the second as they were, "
        "moved, relabelled or not at all, and how many that one has besides, split by split; then "
        "the first of each kind. Both must be built. A record is looked for by its pixels: at its "
        "own place first, then anywhere, each copy once. The exit code is 0 where both hold the "
        "same records in the same order, 1 where they do not, 2 where that can't be told.",
        examples={"diff mnist qmnist": "what of one the other has"},
        refused=2,
    )
    options.add_folders(parser)
    options.add_contents(parser)
    parser.add_argument("before", metavar="DATASET", help="a dataset, as fashion_mnist@1")
    parser.add_argument("after", metavar="OTHER", help="a dataset of images of the same shape")
    parser.add_argument("--split", metavar="SPLIT", help="only what concerns this split")
    parser.add_argument(
        "--show",
        type=options.explained(positive),
        default=SHOWN,
        metavar="N",
        help="how many changes of each kind are printed (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Print what changed, for people or as JSON."""
    from pipelines.lineage.diff import diff

    plan = settings.plan([given.before, given.after])
    before, after = (plan.declared.dataset(name) for name in (given.before, given.after))
    chosen = {"split": given.split, "show": given.show}
    found = diff(plan, settings.store, before, after, display.chosen(), **chosen)
    if given.json:
        say(json.dumps(_as_json(before, after, found), indent=1, ensure_ascii=False))
    else:
        _show(before, after, found)
    return 0 if found.are_none else 1


def _show(before: Dataset, after: Dataset, found: Changes) -> None:
    """Print a row for each split, then the first changes of each kind."""
    kinds = ("unchanged", "moved", "relabelled", "removed", "added")
    header = ("split", before.name, after.name, *kinds)
    rows: list[tuple[str, ...] | None] = [header]
    rows += [(one.split, *map("{:,}".format, _numbers(one))) for one in found.splits]
    if len(found.splits) > 1:
        totals = [sum(column) for column in zip(*map(_numbers, found.splits), strict=True)]
        rows += [None, ("total", *map("{:,}".format, totals))]
    say(display.columns(rows, right=header[1:]))
    if found.are_none:
        say("\nBoth hold the same records in the same order.")
    for (source, goal), records in found.across.items():
        say(f"\n{records:,} of {source} {'are' if records > 1 else 'is'} in {goal} now.")
    for kind, some in found.first.items():
        if some:
            say(f"\n{kind}:")
            for one in some:
                say(f"  {_in_words(one)}")
            if (more := found.totals[kind] - len(some)) > 0:
                say(f"  and {more:,} more; --show N names N of them")
    say(f"\n{SAME}")


def _numbers(one: OfSplit) -> tuple[int, ...]:
    kept = (one.unchanged, one.moved, one.relabelled)
    return (one.before, one.after, *kept, one.removed, one.added)


def _in_words(one: Change) -> str:
    if one.before and one.after:
        return f"{one.before} → {one.after}"
    return str(one.before or one.after)


def _as_json(before: Dataset, after: Dataset, found: Changes) -> dict[str, object]:
    across = [{"before": a, "after": b, "records": n} for (a, b), n in found.across.items()]
    return {
        "format": FORMAT,
        "before": before.name,
        "after": after.name,
        "are_equal": found.are_none,
        "compared_by": SAME,
        "splits": [asdict(one) for one in found.splits],
        "across": across,
        "totals": dict(found.totals),
        "first": {kind: [asdict(one) for one in some] for kind, some in found.first.items()},
    }
