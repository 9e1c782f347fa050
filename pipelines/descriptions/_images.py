"""Images on a card: the first of each class, mean images, and records with the same pixels.

They stand side by side in strips, as they are, enlarged by whole factors; each of the three has
room of its own, and of what takes more, smaller copies are shown. Not here: drawing (`_pictures`),
or which records are the same (`pipelines.statistics.duplicates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..products import Inputs
from ..records import Pixels
from ..statistics import duplicates as same
from . import _pages, _pictures

_LARGE, _SMALL = 84, 56  # pixels of an image's longer side on the page, where it was smaller
_IN_STRIP = 5  # as many samples stand side by side on a phone
_GROUPS, _IN_GROUP = 24, 6  # duplicates that are shown, and records of each

Values = dict[str, Any]
Group = list[tuple[str, int, str]]
"""Split, index and class of records with the same pixels."""


def samples(inputs: Inputs, room: float) -> Values:
    """Return the first records of each class, in strips of as many as a phone has room for."""
    subject = inputs.subject
    classes, first = subject.dataset.classes, subject.splits[0].name
    is_many = len(classes) > _pictures.FEW_CLASSES
    each = _pictures.samples_of_each(len(classes))
    each = min(each, _IN_STRIP) if is_many else each
    found: list[list[_pictures.Record]] = [[] for _ in classes]
    for record in _pictures.first_of_each(inputs.tables[first], each):
        found[record.label].append(record)
    most = -(-each // -(-each // _IN_STRIP))
    parts = [some[at : at + most] for some in found for at in range(0, len(some), most)]
    strips = _strips([[one.image for one in part] for part in parts], room, _SMALL)
    of_class: list[list[Values]] = [[] for _ in classes]
    for part, strip in zip(parts, strips, strict=True):
        told = f"records {_listed([f'{one.index:,}' for one in part])}"
        of_class[part[0].label].append({**strip, "alt": told})
    values = [
        {"label": _shown_label(at, name), "name": name, "strips": of_class[at]}
        for at, name in enumerate(classes)
    ]
    return {"is_many": is_many, "samples_split": first, "samples": values}


def means(figures: Path, room: float) -> Values:
    """Return the mean images of each class, those of all splits side by side."""
    found = _pictures.means(figures)
    is_many = len(found.names) > _pictures.FEW_CLASSES
    strips = _strips(found.images, room, _SMALL if is_many else _LARGE)
    told = f"mean of {_listed(found.heads)}"
    return {
        "means_splits": found.heads,
        "means": [
            {"label": _shown_label(at, name), "name": name, "strip": {**strip, "alt": told}}
            for at, (name, strip) in enumerate(zip(found.names, strips, strict=True))
        ],
    }


def _shown_label(label: int, name: str) -> str:
    """Return a label, but nothing where the class is called so."""
    return "" if name == str(label) else str(label)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _strips(rows: Sequence[Sequence[Pixels]], room: float, side: int) -> list[Values]:
    """Return images side by side, row by row, enlarged by a whole factor.

    Args:
        rows: of images; all are of one shape.
        room: bytes that all of them may take; smaller copies are shown where it is too small.
        side: about how long the longer side of an image is on the page.
    """
    longer = min(_LARGE, max((max(row[0].shape) for row in rows), default=1))
    while True:
        drawn = [_pictures.in_a_row(row, longer) for row in rows]
        strips = [(_pages.data_uri(png), size) for png, size in drawn]
        weight = sum(len(src) for src, _ in strips)
        if weight <= room or longer == 1:
            break
        longer = max(1, int(longer * (room / weight) ** 0.5))
    factor = max(1, round(side / longer))
    return [
        {"src": src, "width": size[0] * factor, "height": size[1] * factor} for src, size in strips
    ]


def duplicates(inputs: Inputs, room: float) -> Values:
    """Return the records with the same pixels: how many there are, and some of them as pictures."""
    subject = inputs.subject
    found = same.find(inputs.tables.values())
    groups: dict[int, Group] = {}
    for group, split, index, name in found.rows():
        groups.setdefault(group, []).append((split, index, name))
    ordered = sorted(groups.values(), key=lambda one: (not _differs(one), not _leaks(one)))
    kinds: dict[str, list[Group]] = {f"in {split.name}": [] for split in subject.splits}
    if len(kinds) > 1:
        kinds["in several splits"] = []
    for one in ordered:
        kinds["in several splits" if _leaks(one) else f"in {one[0][0]}"].append(one)
    shown = [one[:_IN_GROUP] for one in ordered[:_GROUPS]]
    wanted = {
        split.name: sorted({i for one in shown for name, i, _ in one if name == split.name})
        for split in subject.splits
    }
    images = {
        (name, index): image
        for name, indices in wanted.items()
        for index, image in _pictures.images_at(inputs.tables[name], indices)
    }
    strips = _strips([[image] for image in images.values()], room, _SMALL)
    drawn = dict(zip(images, strips, strict=True))
    differing = sum(map(_differs, ordered))
    said = f"{len(groups):,} stand there more than once, in {len(found):,} records"
    said += f"; {differing:,} of them have different labels." if differing else "."
    return {
        "records": subject.records,
        "groups": len(groups),
        "said": said,
        "kinds": [[kind, len(some), sum(map(_differs, some))] for kind, some in kinds.items()],
        "more": len(groups) - len(shown),
        "shown": [
            {
                "differs": _differs(one),
                "leaks": _leaks(one),
                "more": len(one) - len(some),
                "records": [
                    {
                        "split": split,
                        "index": index,
                        "class": name,
                        "picture": drawn[split, index],
                    }
                    for split, index, name in some
                ],
            }
            for one, some in zip(ordered, shown, strict=False)
        ],
    }


def _differs(group: Group) -> bool:
    return len({name for _, _, name in group}) > 1


def _leaks(group: Group) -> bool:
    return len({split for split, _, _ in group}) > 1
