"""Per dataset, or split of it: an export or a description, whatever it is.

Not here: what there is of these (`pipelines.exports`, `pipelines.descriptions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from assets import metadata
from assets.ahead import Ahead
from assets.resources import Known, Made, Options, Plans, Store
from pipelines.plan import Plan, Planned
from pipelines.products import Product, Subject, room_of
from pipelines.progress import Advance, Display
from pipelines.store import Facts, layout


def asset(plan: Plan, planned: Planned, product: Product, subject: Subject) -> dg.AssetsDefinition:
    """Return the asset of an export or a description."""
    needs = [plan.artefacts[path] for path in (*planned.needs, *planned.uses)]
    split = subject.split if product.scope == "split" else None
    is_export = room_of(product.name) == "exports"

    @dg.asset(
        key=planned.asset,
        deps=list(dict.fromkeys(dg.AssetKey(needed.asset) for needed in needs)),
        kinds={product.kind or product.name},
        code_version=product.code_version,
        description=metadata.about(_lead(product, subject), subject.source, subject.dataset),
        metadata=metadata.product_columns(product, needs),
        group_name=subject.source.name,
        owners=metadata.OWNERS,
        tags=metadata.tags(product.name, subject.source, subject.dataset, split),
        output_required=not is_export,
    )
    def made_for_others(
        store: Store,
        options: Options,
        display: dg.ResourceParam[Display],
        known: dg.ResourceParam[Known],
        plans: dg.ResourceParam[Plans],
        ahead: dg.ResourceParam[Ahead],
    ) -> Iterator[dg.MaterializeResult]:
        if is_export and product.name not in options.exports:
            return
        plan = plans.by(options)
        one = plan.artefacts[planned.path]
        yield metadata.materialized([ahead.take(make, store, plan, one, display, known)])

    return made_for_others


def make(store: Store, plan: Plan, planned: Planned, display: Display, _known: Known) -> Made:
    """Bring an export or a description up to date."""
    product, subject = planned.product, planned.subject
    if product is None or subject is None:
        raise TypeError(f"{planned.path} is no export and no description")
    inputs = store.inputs(plan, planned)

    def build(goal: Path, advance: Advance) -> Facts:
        names = {s.name: layout.table(subject.dataset.name, s.name) for s in subject.splits}
        tables = {split: store.path(path) for split, path in names.items()}
        opened = planned.opened(store.folder, inputs, tables)
        return product.write(opened, goal, product.chosen(plan.options), advance)

    return store.make(planned.made_from(inputs), display, subject.records, "records", build)


def _lead(product: Product, subject: Subject) -> str:
    """Return what an export or a description is of, and what it is."""
    title = subject.dataset.title
    if product.scope == "split":
        title += f", {subject.split.name},"
    return f"{title} {product.title}"
