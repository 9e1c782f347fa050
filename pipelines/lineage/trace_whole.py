"""Trace: an artefact as a whole, by its bytes and those of all that it was made from.

Not here: single records (`trace_record`).
"""

from __future__ import annotations

from dataclasses import asdict, replace

from .. import formats, tables
from ..archives import members
from ..declarations import Member, Split
from ..errors import (
    MemberError,
    TableError,
)
from ..plan import Plan
from ..store import Store, hashing, layout, provenance
from . import parts, targets
from .hops import Facts, Found, Hop, Way, blamed, hop_of
from .targets import Target


def whole(way: Way) -> Found:
    """Trace a table, an export or a description as a whole."""
    is_table = way.target.planned.stage == "tables"
    made = [] if is_table else [whole_file(way.plan, way.store, way.target)]
    pieces = [piece for split in way.splits for piece in there(way, split)]
    tables = [hop for piece in pieces for hop in table_and_members(way, piece)]
    names = [name for piece in pieces for name in piece.archives]
    sources = way.archives([*names, *way.needed_archives])
    facts: Facts = {"records": sum(piece.records for piece in pieces)}
    if len(way.splits) == 1:
        facts = {"split": way.splits[0].name} | facts
    return facts, None, (*made, *tables, *sources)


def there(way: Way, split: Split) -> list[Split]:
    """Return the parts of a split that what is traced was made from; of one in one, itself."""
    known = provenance.latest(way.store, way.target.planned.path)
    if known is None or not split.divided:
        return list(split.pieces)
    return parts.among(way.dataset, split, {made_from.path for made_from in known.inputs})


def table_and_members(way: Way, split: Split) -> list[Hop]:
    """Verify the table of a split, where the way leads over it, and its members, as wholes."""
    members = [_read(way, m, role) for role, part in split.members.items() for m in part]
    if not way.leads_over_tables:
        return members
    table = whole_file(way.plan, way.store, way.table(split))
    if table.hashes:
        try:
            table = blamed(table, mistaken(way, split))
        except TableError as error:
            table = blamed(table, str(error))
    return [table, *members]


def of_catalogue(plan: Plan, store: Store, target: Target) -> Found:
    """Trace what is of all datasets, back to what it was made from: each of these has a way too."""
    known = provenance.latest(store, target.planned.path)
    made_from = [plan.artefacts.get(one.path) for one in (known.inputs if known else ())]
    hops = [whole_file(plan, store, target)]
    hops += [whole_file(plan, store, Target(one)) for one in made_from if one]
    return {"datasets": len(target.planned.subjects)}, None, tuple(hops)


def whole_file(plan: Plan, store: Store, target: Target) -> Hop:
    """Hold the bytes of an artefact, and of what it was made from, against what was recorded."""
    hop, path = hop_of(target.what, target), target.at(store)
    if not target.planned.is_at(path):
        return blamed(hop, f"{path} is not there. {target.planned.remedy}")
    try:
        found = hashing.sha256(path)
    except OSError as error:
        return blamed(hop, str(error))
    hop = replace(hop, hashes={"sha256": found})
    made = provenance.latest(store, target.planned.path)
    said = targets.sidecar(target.copy) if target.copy else {}
    if made is not None and not said:
        said = asdict(made)
    if not said:
        expected = store.address(layout.lineage(target.planned.path))
        return blamed(hop, f"nothing says which bytes to expect: {expected} is not there")
    problems, known = [], plan.artefacts
    if said["sha256"] != found:
        problems.append(f"expected SHA-256 {said['sha256']}, as recorded; found {found}")
    for made_from in said["inputs"]:
        name, sha256 = made_from["path"], made_from["sha256"]
        if name not in known:  # whatever a file claims: nothing else is opened
            problems.append(f"made from {name!r:.80}, which the catalogue does not know")
            continue
        now = provenance.latest(store, name)
        if now is not None and now.sha256 != sha256:
            problems.append(
                f"made from {name} when its SHA-256 was {sha256}; now {now.sha256} is recorded"
            )
    return blamed(hop, *problems)


def _read(way: Way, member: Member, role: str) -> Hop:
    """Read a member to its end: its checksums and what is declared of it are held on the way."""
    hop = member_hop(way, member, role)
    try:
        with way.opened() as open_member:
            is_folder = formats.named(way.dataset.format).roles[role].is_folder
            files = open_member.below(member) if is_folder else [member]
            read = sum(members.pass_by(open_member(file)) for file in files)
            hop = replace(hop, bytes=(0, read))
    except MemberError as error:
        hop = blamed(hop, str(error))
    return hop


def mistaken(way: Way, split: Split) -> str:
    """Hold what a table says of itself against the catalogue; return what is wrong.

    Raises:
        TableError: it is no table of ours.
    """
    found = asdict(tables.info(way.table(split).at(way.store)))
    declared = asdict(tables.declared(way.source, way.dataset, split))
    return "; ".join(
        f"{name}: the catalogue declares {wanted}, found {found[name]}"
        for name, wanted in declared.items()
        if found[name] != wanted
    )


def member_hop(way: Way, member: Member, role: str) -> Hop:
    """Return the hop of a member, of which nothing is known yet."""
    return Hop("member", layout.archive(way.source.name, str(member)), facts={"role": role})
