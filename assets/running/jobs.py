"""Jobs that people start: they materialize assets, or verify what is here.

Not here: the job that decides what to make (`refresh`).

Options that change the data (a header in CSV, the level of compression) stand in the launchpad of
the jobs that materialize assets, under `resources: options`.

Annotations are not postponed here: Dagster reads that of an op's context.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets import overview
from assets.archives import key
from assets.running import mirrors, runs
from assets.settings import Settings
from pipelines.declarations import Catalogue, Dataset
from pipelines.lineage.verification import Verdict
from pipelines.progress import Display

DEEP = "Decode the archives again, and compare every record of what was made from them."


def of_assets(settings: Settings, declared: Catalogue) -> Iterator[dg.JobDefinition]:
    """Yield jobs that materialize assets, each with what they need."""
    everything = tuple(declared.datasets.values())

    def job(name: str, keys: Sequence[dg.AssetKey], description: str) -> dg.JobDefinition:
        of_mirrors = [dg.AssetCheckKey(key(name), mirrors.CHECK) for name in declared.sources]
        selection = dg.AssetSelection.assets(*keys) - dg.AssetSelection.checks(*of_mirrors)
        return dg.define_asset_job(name, selection, description=description)  # type: ignore

    yield job("everything", keys_of(settings, declared, everything), "All assets.")
    for source in declared.sources.values():
        keys = keys_of(settings, declared, tuple(source.datasets.values()))
        yield job(f"everything_of_{source.name}", keys, f"All assets of {source.title}.")
    yield job("archives", runs.keys(everything, ["archives"]), "The publishers' archives.")
    yield job("tables", runs.keys(everything, ["tables"]), "The tables, and the archives.")
    yield job("exports", runs.keys(everything, ["csv", "lmdb"]), "CSV and LMDB, and the tables.")


def keys_of(
    settings: Settings, declared: Catalogue, datasets: Sequence[Dataset]
) -> list[dg.AssetKey]:
    """Return every asset of some datasets."""
    assets = {
        asset: None
        for dataset in datasets
        for asset, _ in overview.artefacts(declared, dataset, settings, lambda _table: None)
    }
    return [dg.AssetKey(asset) for asset in assets]


def verify(settings: Settings, declared: Catalogue) -> dg.JobDefinition:
    """Return the job that looks at what is here, and changes nothing."""

    @dg.op(
        config_schema={"deep": dg.Field(bool, default_value=False, description=DEEP)},
        description="Hold every artefact against its record.",
    )
    def verify_everything(context: dg.OpExecutionContext) -> None:
        if broken := not_whole(settings, declared, deep=context.op_config["deep"]):
            found = "\n".join(f"{v.path}: {v.condition}: {v.why}" for v in broken)
            text = (
                f"{found}\nThe job refresh, or python -m assets verify --repair, makes them again."
            )
            raise dg.Failure(text, allow_retries=False)

    @dg.job(
        name="verify", description="Is every artefact still what it was made as? Changes nothing."
    )
    def verifying() -> None:
        verify_everything()

    return verifying


def not_whole(settings: Settings, declared: Catalogue, *, deep: bool = False) -> list[Verdict]:
    """Return the artefacts that are not what they were made as, or would not be made so now."""
    datasets = tuple(declared.datasets.values())
    found = overview.verdicts(declared, datasets, settings, Display(), deep=deep)
    return [verdict for them in found.values() for verdict in them if not verdict.is_whole]
