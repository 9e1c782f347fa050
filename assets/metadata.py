"""What the Dagster UI shows of assets: descriptions, tags, columns, and each materialization.

Not here: making or checking anything. Everything is a pure function of declarations, provenance
and finished artefacts, which are only read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg
import pyarrow as pa

from assets import checks, spelling
from assets.settings import PAGES_PORT
from pipelines import formats, statistics, tables, wording
from pipelines.archives import pinning
from pipelines.building import Made
from pipelines.declarations import Archive, Dataset, Source, Split, base
from pipelines.plan import Plan, Planned
from pipelines.products import Product
from pipelines.stages import DEFAULT, OPTIONAL
from pipelines.store import Provenance, clock, layout

if TYPE_CHECKING:  # polars and Pillow: the UI, and a run until its first step, need neither
    from pipelines.descriptions import _pictures

OWNERS = ["team:imagesets"]
LAST_READ = checks.LAST_READ
_MOST_NAMES = 20  # of a source's files, in a description


def tags(
    stage: str,
    source: Source | None = None,
    dataset: Dataset | None = None,
    split: Split | None = None,
) -> dict[str, str]:
    """Return the tags that an asset can be selected by, for example `tag:dataset=mnist`."""
    named = {"source": source, "dataset": dataset, "split": split}
    given = {key: one.name for key, one in named.items() if one is not None}
    return {"stage": stage} | {key: spelling.legal(name) for key, name in given.items()}


def group(stage: str, source: Source | None = None, dataset: Dataset | None = None) -> str:
    """Return the group of assets that one is shown in: a part for each step of a path.

    A source has one, each of its datasets one inside (`emnist/letters`) unless it is the only one,
    and what is made on request is apart in `on_request`, inside either. What is of all sources has
    `catalogue`.
    """
    parts = [spelling.legal(source.name) if source else "catalogue"]
    if source and dataset and len(source.datasets) > 1:
        parts.append(base(dataset.name).removeprefix(f"{base(source.name)}_"))
    return "/".join(parts if stage in DEFAULT else [*parts, "on_request"])


def about_archives(source: Source, stage: str) -> str:
    """Return the description of a source's archives, in markdown."""
    titles = ", ".join(dataset.title for dataset in source.datasets.values())
    made = f"Made from them: {titles}."
    mirrors = f" Who serves them: [{source.name}/mirrors](/assets/{source.name}/mirrors)."
    if stage == OPTIONAL:
        made = f"Of {titles}; only what is made on request needs them."
        mirrors = ""
    if source.on_request:
        made += (
            " **Made on request:** in a run that names it, and in none of everything. Once these "
            "are here and the definitions are loaded again, the UI shows all that can be made."
        )
    names = list(_archives(source, stage))
    is_pinned = not any(map(pinning.lacking, _archives(source, stage).values()))
    as_declared = "" if is_pinned else ", as far as they are declared"
    forbidden = wording.restrictions(source, source.datasets.values())
    restricted = f" **Restriction:** {' '.join(forbidden)}" if forbidden else ""
    files = "\n".join(f"- `{name}`" for name in names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        files += f"\n- and {len(names) - _MOST_NAMES} more"
    return (
        f"{source.title}: the publisher's files, byte for byte, held against their size, MD5 and "
        f"SHA-256{as_declared}. {made}{mirrors}\n\n{files}\n\n[Homepage]({source.homepage}). "
        f"**Licence:** {source.licence}.{restricted}\n\n"
        f"```bibtex\n{source.citation.strip()}\n```\n\n{source.acknowledgements}"
    )


def about(lead: str, source: Source, dataset: Dataset) -> str:
    """Return the description of an asset of a dataset, in markdown; `lead` says what it is."""
    quirks = "".join(f"\n- {quirk}" for quirk in dataset.quirks)
    forbids = wording.restriction(source, dataset)
    restricted = f" **Restriction:** {forbids}" if forbids else ""
    parts = [
        lead,
        dataset.description,
        quirks and f"**Good to know**\n{quirks}",
        f"[Homepage]({source.homepage}). **Licence:** {source.licence}.{restricted} How to cite it "
        f"stands at `{source.name}/archives`.",
    ]
    return "\n\n".join(part for part in parts if part)


def materialized_now(plan: Plan, made: Sequence[Made]) -> dg.MaterializeResult[Any]:
    """Return what the step under way made; of each part of an asset in parts, Dagster is told.

    Dagster knows one version of the data for all parts that a run makes: that of what makes them,
    which their bytes follow from.
    """
    planned = plan.artefacts[made[0].provenance.path]
    context, key = dg.AssetExecutionContext.get(), dg.AssetKey(planned.asset)
    if not planned.part:
        told = materialized(planned, made)
        specs = context.assets_def.check_specs
        return dg.MaterializeResult(
            metadata=told.metadata,
            data_version=told.data_version,
            check_results=checks.with_unjudged(specs, told.check_results),
        )
    parts: dict[str, list[Made]] = {}
    for one in made:
        parts.setdefault(plan.artefacts[one.provenance.path].part, []).append(one)
    for part, of_part in parts.items():
        facts = materialized(plan.artefacts[of_part[0].provenance.path], of_part).metadata
        context.add_asset_metadata(facts or {}, partition_key=part)
    version = context.assets_def.specs_by_key[key].code_version
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(version)), check_results=checks.of_parts(parts)
    )


def materialized(planned: Planned, made: Sequence[Made]) -> dg.MaterializeResult[Any]:
    """Return what Dagster and people want to know of an asset's artefacts; `planned` is one."""
    rebuilt = [m for m in made if m.because]
    records = sum(m.provenance.records or 0 for m in made)
    digests = [m.provenance.sha256 for m in made]
    version = (
        digests[0] if len(made) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
    size_bytes = sum(m.provenance.size_bytes for m in made)
    seconds = max(m.ended_s for m in made) - min(m.begun_s for m in made)
    facts: dict[str, Any] = {
        "state": "made" if rebuilt else "up to date",
        **_reasons(rebuilt),
        **_shown(planned, made),
        **_options(planned, made[0].provenance),
        **_page(planned),
        "path": os.path.commonpath([m.provenance.path for m in made]),
        "dagster/uri": _uri(made),
        "size": f"{size_bytes:,} bytes",
        "bytes": size_bytes,
        "made": dg.MetadataValue.timestamp(max(m.provenance.run.ended_s for m in made)),
        LAST_READ: dg.MetadataValue.timestamp(min(clock.seconds(m.looked) for m in made)),
    }
    if rebuilt:
        facts["seconds"] = round(seconds, 3)  # what was up to date would plot as made in no time
    if len(made) == 1:
        facts["sha256"] = dg.MetadataValue.md(_halved(digests[0]))
    if records:
        facts["dagster/row_count"] = records
    if rebuilt and records:
        facts["records/s"] = round(records / seconds)
    elif rebuilt and made[0].provenance.stage == "archives":
        facts["MB/s"] = round(sum(m.provenance.size_bytes for m in rebuilt) / 1e6 / seconds, 1)
    return dg.MaterializeResult(
        metadata=facts,
        data_version=dg.DataVersion(version),
        check_results=checks.results(f for one in made for f in one.findings),
    )


def _uri(made: Sequence[Made]) -> str:
    path = os.path.commonpath([m.provenance.path for m in made])
    address = made[0].store.address(path)
    return Path(address).as_uri() if made[0].store.is_folder else address


def _shown(planned: Planned, made: Sequence[Made]) -> dict[str, Any]:
    """Return what an asset shows, by its stage; pictures would be dear for each part of one."""
    if planned.is_archive:
        names = [Path(m.provenance.path).name for m in made]
        declared = _archives(planned.source, planned.stage)
        some = {name: declared[name] for name in names}
        return _of_archives(planned.source, some, (m.provenance for m in made))
    if planned.part:
        return {}
    if planned.stage == "tables":
        return _of_table(made[0].path)
    return _of_statistics(made[0].path) if planned.stage == "statistics" else {}


def _page(planned: Planned) -> dict[str, Any]:
    """Return where what is made for people to look at is seen."""
    if not layout.is_for_people(planned.path):
        return {}
    place = f"{planned.path}/" if planned.product and planned.product.is_folder else planned.path
    page = f"http://127.0.0.1:{PAGES_PORT}/{quote(place)}"
    shown = f"[{place}]({page})\n\nwhile `python -m assets browse` runs"
    return {"look at it": dg.MetadataValue.md(shown)}


def _reasons(rebuilt: Iterable[Made]) -> dict[str, str]:
    """Return why artefacts were made: that one is not there was true before, and is no more."""
    reasons = {str(m.because).replace("it is not there", "it was not there") for m in rebuilt}
    return {"made because": "; ".join(sorted(reasons))} if reasons else {}


def _options(planned: Planned, known: Provenance) -> dict[str, str]:
    """Return the options that decided the bytes of an export, by the names in the launchpad."""
    if planned.product is None:
        return {}
    return {
        f"{planned.product.name}_{option.name}": str(known.parameters[option.name]).lower()
        for option in planned.product.options
        if option.name in known.parameters
    }


def _halved(sha256: str) -> str:
    """Return a SHA-256 in two parts, as markdown: a line of 64 letters is wider than the page."""
    return f"`{sha256[:32]}` `{sha256[32:]}`"


def _archives(source: Source, stage: str) -> Mapping[str, Archive]:
    return source.optional_archives if stage == OPTIONAL else source.archives


def _of_archives(
    source: Source, declared: Mapping[str, Archive], known: Iterable[Provenance]
) -> dict[str, Any]:
    """Return what archives tell, under their names: which bytes they are, from where, since when.

    Short texts: a table of hashes is wider than the page.
    """
    told: dict[str, Any] = {}
    for one, (name, archive) in zip(known, declared.items(), strict=True):
        origin, retrieved = (str(one.facts.get(key, "")) for key in ("origin", "retrieved"))
        when = f", retrieved {retrieved[:19].replace('T', ' ')} UTC" if retrieved else ""
        md5 = archive.md5 or next((made_from.md5 for made_from in one.inputs), None)
        told[name] = dg.MetadataValue.md(
            f"{one.size_bytes:,} bytes{when}\n\nMD5 `{md5}`\n\n"
            f"SHA-256 {_halved(one.sha256)}\n\nfrom `{origin}`"
        )
    return told | {"homepage": dg.MetadataValue.url(source.homepage)}


def _of_table(path: Path) -> dict[str, Any]:
    """Return what a table shows: examples of each class."""
    from pipelines.descriptions import _pictures

    return _in_two_sizes("examples", _pictures.examples(path), "the first records of each class")


def _in_two_sizes(title: str, rows: _pictures.Rows, alt: str) -> dict[str, Any]:
    """Return pictures at a glance, and all of them, which the UI shows on a click."""
    from pipelines.descriptions import _pictures

    large = _pictures.in_markdown(_pictures.sheet(rows), alt)
    return {
        title: dg.MetadataValue.md(_pictures.strip(rows, alt)),
        f"{title}, large": dg.MetadataValue.md(large),
    }


def _of_statistics(path: Path) -> dict[str, Any]:
    """Return what statistics show: the classic table, bars of each class, and mean images."""
    import polars as pl

    from pipelines.descriptions import _pictures

    found = pl.read_parquet(path, columns=["split", "class", "records", "mean_intensity"])
    found = found.drop_nulls("class").with_columns(pl.col("mean_intensity").fill_null(0))
    splits = found.partition_by("split", as_dict=True, maintain_order=True)
    names = next(iter(splits.values()))["class"].to_list()
    shown = {"classes": statistics.counts_as_markdown(path)}
    for title, figure in (("records", "records"), ("mean intensity (0–255)", "mean_intensity")):
        series = {str(name): part[figure].to_list() for (name,), part in splits.items()}
        shown[title] = _pictures.in_markdown(_pictures.bars(names, series), title)
    means = f"mean image of each class, in {' and '.join(name for (name,) in splits)}"
    return {
        **{title: dg.MetadataValue.md(text) for title, text in shown.items()},
        **_in_two_sizes("mean images", _pictures.means(path), means),
    }


def table_columns(
    source: Source, dataset: Dataset, split: Split, archives: dg.AssetKey
) -> dict[str, Any]:
    """Return the columns of a table, and the members of archives that each is read from."""

    def constraints(field: pa.Field) -> dg.TableColumnConstraints:
        other = {
            "index": f"0 to {split.records - 1:,}",
            "label": f"0 to {len(dataset.classes) - 1}",
            "class": f"one of {len(dataset.classes)}",
            "coarse_label": f"0 to {len(dataset.coarse_classes) - 1}",
            "coarse_class": f"one of {len(dataset.coarse_classes)}",
            "pixels": f"{dataset.image.size_bytes:,} bytes",
        }
        others = [other[field.name]] if field.name in other else []
        return dg.TableColumnConstraints(field.nullable, field.name == "index", others)

    def above(name: str) -> list[dg.TableColumnDep]:
        roles = formats.named(dataset.format).roles_of(name)
        read = [member for role in roles for member in split.members.get(role, ())]
        return [dg.TableColumnDep(archives, str(member)) for member in read]

    shape = {"pixels": f" As an array, uint8 of shape {dataset.image.shape}."}
    schema = tables.arrow_schema(source, dataset, split)
    return _columns(
        [
            dg.TableColumn(
                field.name,
                _type(field.type),
                tables.meaning(field.name, dataset) + shape.get(field.name, ""),
                constraints(field),
            )
            for field in schema
        ],
        {name: above(name) for name in schema.names},
        f"{split.records:,} rows",
    )


def statistics_columns(dataset: Dataset, split_tables: Iterable[dg.AssetKey]) -> dict[str, Any]:
    """Return the columns of statistics, and the columns of tables that each is computed from."""
    keys = list(split_tables)
    schema = statistics.arrow_schema(dataset.image.shape, len(dataset.classes))
    return _columns(
        [
            dg.TableColumn(field.name, _type(field.type), statistics.COLUMNS[field.name])
            for field in schema
        ],
        {
            name: [dg.TableColumnDep(key, column) for key in keys for column in read]
            for name in schema.names
            if (read := statistics.made_from(name))
        },
        f"{len(dataset.classes) + 1} rows per split",
    )


def product_columns(
    product: Product, datasets: Sequence[Dataset], needs: Sequence[Planned]
) -> dict[str, Any]:
    """Return the columns of an export or a description, and the tables' that each comes from."""
    tables_ = dict.fromkeys(needed.asset for needed in needs if needed.stage == "tables")
    keys = [dg.AssetKey(asset) for asset in tables_]  # of all parts of a split, one
    of_each = (column for dataset in datasets for column in product.columns_of(dataset))
    if not (columns := list(dict.fromkeys(of_each))):
        return {}
    return _columns(
        [
            dg.TableColumn(
                column.name, column.type, column.meaning or tables.COLUMNS[str(column.of)]
            )
            for column in columns
        ],
        {
            column.name: [dg.TableColumnDep(key, column.of) for key in keys]
            for column in columns
            if column.of
        },
    )


def _columns(
    columns: list[dg.TableColumn],
    above: Mapping[str, list[dg.TableColumnDep]],
    rows: str | None = None,
) -> dict[str, Any]:
    """Return columns and their lineage under the names that Dagster knows them by."""
    constraints = dg.TableConstraints([rows]) if rows else None
    return {
        "dagster/column_schema": dg.TableSchema(columns, constraints),
        "dagster/column_lineage": dg.TableColumnLineage(
            {name: deps for name, deps in above.items() if deps}
        ),
    }


def _type(kind: pa.DataType) -> str:
    """Return an Arrow type in the few words that matter."""
    if pa.types.is_dictionary(kind):
        return f"dictionary<{kind.value_type}>"
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.value_type}[{kind.list_size}]"
    return str(kind)
