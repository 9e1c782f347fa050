"""Per dataset, or split of it: an export or a description, whatever it is.

Not here: what there is of these (`pipelines.exports`, `pipelines.descriptions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets import metadata
from assets.resources import Options, Store, Work
from pipelines.plan import Plan, Planned
from pipelines.products import Product, Subject, room_of
from pipelines.stages import DEFAULT


def asset(plan: Plan, planned: Planned, product: Product, subject: Subject) -> dg.AssetsDefinition:
    """Return the asset of an export or a description."""
    needs = [plan.artefacts[path] for path in (*planned.needs, *planned.uses)]
    split = subject.split if product.scope == "split" else None

    @dg.asset(
        key=planned.asset,
        deps=list(dict.fromkeys(dg.AssetKey(needed.asset) for needed in needs)),
        kinds={product.kind or product.name},
        code_version=product.code_version,
        description=metadata.about(_lead(product, subject), subject.source, subject.dataset),
        metadata=metadata.product_columns(product, subject.dataset, needs),
        group_name=metadata.group(product.name, subject.source, subject.dataset),
        owners=metadata.OWNERS,
        tags=metadata.tags(product.name, subject.source, subject.dataset, split),
        output_required=product.name in DEFAULT and room_of(product.name) != "exports",
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
    if product.scope == "split":
        title += f", {subject.split.name},"
    return f"{title} {product.title}"
