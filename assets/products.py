"""Exports and descriptions, whatever they are: of a dataset, of a split of it, or of all datasets.

Not here: what there is of these (`pipelines.exports`, `pipelines.descriptions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from assets import metadata, partitions, spelling
from assets.resources import Options, Store, Work
from pipelines.plan import Plan, Planned
from pipelines.products import Product, Subject, room_of
from pipelines.stages import DEFAULT


def asset(
    plan: Plan,
    planned: Planned,
    product: Product,
    subject: Subject,
    parts: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset of what is made of a dataset, or of a split of it, or of its `parts`."""
    source, dataset = subject.source, subject.dataset
    split = subject.split if product.scope in ("split", "whole") else None
    return _asset(
        plan,
        planned,
        product,
        description=metadata.about(_lead(product, subject), source, dataset),
        group=metadata.group(product.name, source, dataset),
        tags=metadata.tags(product.name, source, dataset, split),
        parts=parts,
    )


def of_catalogue(plan: Plan, planned: Planned, product: Product) -> dg.AssetsDefinition:
    """Return the asset of a description of all datasets together."""
    return _asset(
        plan,
        planned,
        product,
        description=f"All datasets of the catalogue {product.title}",
        group=metadata.group(product.name),
        tags=metadata.tags(product.name),
    )


def _asset(
    plan: Plan,
    planned: Planned,
    product: Product,
    description: str,
    group: str,
    tags: Mapping[str, str],
    parts: Sequence[str] = (),
) -> dg.AssetsDefinition:
    needs = [plan.artefacts[path] for path in (*planned.needs, *planned.uses)]
    datasets = [subject.dataset for subject in planned.subjects]

    @spelling.asset(
        key=planned.asset,
        deps=list(dict.fromkeys(dg.AssetKey(needed.asset) for needed in needs)),
        kinds={product.kind or product.name},
        code_version=product.code_version,
        description=description,
        metadata=metadata.product_columns(product, datasets, needs),
        group_name=group,
        owners=metadata.OWNERS,
        tags=tags,
        output_required=product.name in DEFAULT and room_of(product.name) != "exports",
        partitions_def=partitions.definition(tuple(parts)),
    )
    def made_for_others(
        store: Store, options: Options, work: dg.ResourceParam[Work]
    ) -> Iterator[Any]:
        if work.is_wanted(store, options, product.name):
            yield from work.do(store, options, planned.asset)

    return made_for_others


def _lead(product: Product, subject: Subject) -> str:
    """Return what an export or a description is of, and what it is."""
    title = subject.dataset.title
    if product.scope in ("split", "whole"):
        title += f", {subject.split.name},"
    return f"{title} {product.title}"
