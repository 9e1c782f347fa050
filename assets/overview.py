"""What became of everything: verification with progress for people, shallow or deep.

Not here: how anything is verified (`pipelines.lineage`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assets.command_line.display import Display
from pipelines.declarations import Dataset
from pipelines.lineage import deep as deeply
from pipelines.lineage import verify
from pipelines.lineage.verify import Verdict
from pipelines.plan import Plan


def verdicts(
    data: Path, plan: Plan, datasets: Sequence[Dataset], display: Display, *, deep: bool = False
) -> list[Verdict]:
    """Return what became of those artefacts of some datasets that were ever made, all hashed anew.

    With `deep`, all that was made from whole archives is compared with them, record by record.
    """
    wanted = plan.of(datasets)
    there = [path for path in (data / one.path for one in wanted) if path.is_file()]
    total = sum(path.stat().st_size for path in there)
    with (display if there else Display()).task("verify", total, "bytes") as advance:
        found = {verdict.path: verdict for verdict in verify.verify(data, wanted, advance)}
    for dataset in datasets if deep else ():
        whole = {path for path, verdict in found.items() if verdict.is_whole}
        mine = {one.path for one in plan.of([dataset])}
        if not any(path in mine for path in whole):
            continue
        records = sum(split.records for split in dataset.splits.values())
        with display.task(f"verify --deep {dataset.name}", records, "records") as advance:
            compared = deeply.verify(data, plan, dataset, whole, advance)
        for verdict in compared:
            found[verdict.path] = replace(verdict, sha256=found[verdict.path].sha256)
    return list(found.values())
