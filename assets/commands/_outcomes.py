"""What is printed of a run: a line for each asset, what went wrong, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assets.command_line import display
from assets.command_line.display import say
from assets.settings import Settings
from pipelines import progress
from pipelines.declarations import Source

if TYPE_CHECKING:
    from assets.running.outcomes import Outcome

MOST_LINES = 5  # on what to declare of a source


def show(outcomes: Sequence[Outcome], settings: Settings, start: float) -> int:
    """Print what became of the assets of a run that began at `start`; return the exit code."""
    _show_table(outcomes)
    say(end="", flush=True)
    warnings = [(o.asset, warning) for o in outcomes for warning in o.warnings]
    for number, (asset, warning) in enumerate(warnings):
        say(f"{'' if number else chr(10)}warning: {asset}: {warning}", error=True)
    if bad := [outcome for outcome in outcomes if not outcome.is_good]:
        for outcome in bad:
            if outcome.error:
                say(f"\nerror: {outcome.asset}: {outcome.error}", error=True)
        blocked = sum(outcome.state == "blocked" for outcome in bad)
        text = f", {blocked} blocked by that" if blocked else ""
        say(f"\n{len(bad) - blocked} failed{text}.", error=True)
        return 1
    passed = "passed their checks" + (f" but for {len(warnings)} warning(s)" if warnings else "")
    if made := sum(outcome.state == "made" for outcome in outcomes):
        seconds = time.perf_counter() - start
        say(f"\nMade {made} of {len(outcomes)} in {seconds:.1f} s; all {passed}.")
        say(f"They are in {settings.shown_data}.")
    else:
        say(f"\nNothing to do: all {len(outcomes)} are up to date and {passed}.")
    if read := [outcome.read_s for outcome in outcomes if outcome.state == "up to date"]:
        say(f"Up to date: {display.last_read(min(read))}.")
    return 0


def show_unpinned(
    outcomes: Sequence[Outcome], sources: Iterable[Source], settings: Settings
) -> None:
    """Say what can be declared of the archives that just came, and is not: once, a line each."""
    from pipelines.archives import pinning
    from pipelines.stages import OPTIONAL
    from pipelines.store import layout, provenance

    made = {outcome.asset for outcome in outcomes if outcome.state == "made"}
    for source in sources:
        kinds = {"archives": source.archives, OPTIONAL: source.optional_archives}
        some = [
            one for kind in kinds if f"{source.name}/{kind}" in made for one in kinds[kind].values()
        ]
        lines = []
        for archive in filter(pinning.lacking, some):
            path = layout.archive(source.name, archive.name)
            if known := provenance.latest(settings.store, path):
                lines.append(pinning.told(source, archive, known))
        for line in lines[:MOST_LINES]:
            say(line)
        if len(lines) > MOST_LINES:
            say(f"and {len(lines) - MOST_LINES} more: python -m assets pin {source.name}")


def _show_table(outcomes: Sequence[Outcome]) -> None:
    rows = [("artefact", "records", "size", "seconds", "")]
    for outcome in outcomes:
        records = f"{outcome.records:,}" if outcome.records else ""
        size = progress.size(outcome.size_bytes) if outcome.size_bytes else ""
        took = f"{outcome.seconds:.2f}" if outcome.state == "made" else ""
        rows.append((outcome.asset, records, size, took, outcome.in_words or outcome.state))
    say(display.columns(rows, right={"records", "size", "seconds"}))
