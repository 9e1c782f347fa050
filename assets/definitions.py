"""All definitions together: `workspace.yaml` points here.

For each source of the catalogue its archives; for each dataset its tables, statistics, exports, and
its description for other catalogues.

    mnist/archives ─┬─ mnist/train ─┬─ mnist/train_csv
                    │               ├─ mnist/train_lmdb
                    │               ├─ mnist/statistics
                    │               └─ mnist/croissant
                    └─ mnist/test ── …
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, _root)  # nothing of ours is installed: Dagster may load us from anywhere

import dagster as dg

from assets import archives, croissant, exports, statistics, tables
from assets.display import Display
from assets.resources import AtHand, Store, Web
from assets.settings import ROOT, Settings
from pipelines import catalogue, openlineage
from pipelines.catalogue import Catalogue


def all_assets(declared: Catalogue, settings: Settings) -> Iterator[dg.AssetsDefinition]:
    """Yield every asset of the catalogue."""
    for source in declared.sources.values():
        yield archives.asset(source, declared.identify)
        for dataset in source.datasets.values():
            yield statistics.asset(source, dataset)
            yield croissant.asset(source, dataset)
            for split in dataset.splits.values():
                yield tables.asset(source, dataset, split)
                yield exports.csv(source, dataset, split, settings.csv_header)
                yield exports.lmdb(source, dataset, split)


def define(
    settings: Settings, display: Display | None = None, *, links: bool = False
) -> dg.Definitions:
    """Return the definitions for some settings; people see progress on `display`.

    With `links`, assets link to their code: for the UI, which a run need not wait for.
    """
    if settings.openlineage:
        openlineage.require_client()
    made = list(all_assets(catalogue.load(settings.catalogue), settings))
    return dg.Definitions(
        assets=linked(made, repository()) if links else made,
        resources={
            "store": Store(data=str(settings.data), openlineage=settings.openlineage),
            "web": Web(mirror=settings.mirror, offline=settings.offline),
            "display": display or Display(),
            "at_hand": AtHand(),
        },
        executor=dg.in_process_executor,
    )


def linked(
    made: Sequence[dg.AssetsDefinition], repository: tuple[str, str] | None
) -> Sequence[Any]:
    """Return assets that link to their code: in a repository (URL, commit) or on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # nothing but a link depends on it
        local = dg.with_source_code_references(made)
        if repository is None:
            return local
        here = dg.AnchorBasedFilePathMapping(ROOT / "README.md", "README.md")
        return dg.link_code_references_to_git(local, *repository, file_path_mapping=here)


def repository(folder: Path = ROOT) -> tuple[str, str] | None:
    """Return (URL, commit) of a checkout, if it came from where people can look at it."""
    try:
        url, commit = (
            subprocess.run(["git", *said], cwd=folder, capture_output=True, text=True, check=True)
            for said in (["remote", "get-url", "origin"], ["rev-parse", "HEAD"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, no checkout, or no origin
    if found := re.fullmatch(
        r"(?:https://|git@|ssh://git@)(github\.com|gitlab\.com)[:/](.+?)(?:\.git)?/?",
        url.stdout.strip(),
    ):
        return f"https://{found[1]}/{found[2]}", commit.stdout.strip()
    return None


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the environment's settings: what the UI and schedules load."""
    return define(Settings.from_environment(), links=True)
