"""What contradicts itself in a source, though every key of it is right by itself.

Each is told in a sentence, with where it stands. Not here: reading (`written`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from .. import formats
from ..declarations import Dataset, Member, Reported, Source, Split, base, of_version, version
from ..errors import did_you_mean
from ..records import MOST_CLASSES
from ._words import NAME, NO_NAME_FOR_A_SPLIT, shown

MOST_IMAGE_BYTES = 2**31 - 1  # Arrow counts the bytes of a `fixed_size_binary` in an int32

_TAKEN = ("index", "class", "coarse_label", "coarse_class", "pixels", "image")


def of_source(source: Source) -> Iterator[str]:
    """Yield what no single key is guilty of."""
    if not NAME.fullmatch(base(source.name)):
        yield "the file's name must be lower-case letters, digits and underscores"
    schemes = [url.partition(":")[0] for url in source.mirrors]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        yield "mirrors: an http mirror may not stand after an https one"
    yield from _archive_contradictions(source)
    yield from _apart_contradictions(source)
    read = {
        str(member)
        for dataset in source.datasets.values()
        for split in dataset.splits.values()
        for part in (*split.members.values(), _lists(split))
        for member in part
    }
    for text in source.members:
        if text not in read:
            yield f"members.{text}: no split reads it.{did_you_mean(text, read)}"
    for dataset in source.datasets.values():
        if (size := dataset.image.size_bytes) > MOST_IMAGE_BYTES:
            yield (
                f"datasets.{base(dataset.name)}.image: {dataset.image} takes {size:,} bytes, but a "
                f"record of a table has room for {MOST_IMAGE_BYTES:,}"
            )
        for problem in _dataset_contradictions(dataset):
            yield f"datasets.{base(dataset.name)}: {problem}"
        for split in dataset.splits.values():
            for problem in _split_contradictions(source, dataset, split):
                yield f"datasets.{base(dataset.name)}.splits.{split.name}: {problem}"


def _archive_contradictions(source: Source) -> Iterator[str]:
    for name, archive in (*source.archives.items(), *source.optional_archives.items()):
        if not archive.hashes:
            yield (
                f"archives.{name}: give md5 or sha256, or both; without a hash nobody could say "
                "whether a file is the right one"
            )
        if (
            not name.isprintable()
            or not name
            or "/" in name
            or "\\" in name
            or name.startswith(".")
        ):
            yield f"archives.{name}: must be a plain file name"
        if archive.members and not archive.optional:
            yield (
                f"archives.{name}.members: only an optional archive lists members so; what is "
                f'known of one that a split reads stands in [members."{name}/…"]'
            )
        for path in archive.members:
            if not _is_plain(path):
                yield f"archives.{name}.members: {path} is no plain path inside an archive"


def _apart_contradictions(source: Source) -> Iterator[str]:
    """Yield what keeps datasets from being sources of their own, where they are to be that."""
    if not source.apart:
        return
    read = Counter(
        archive
        for dataset in source.datasets.values()
        for archive in {name for split in dataset.splits.values() for name in split.archives}
    )
    for name in (*source.archives, *source.optional_archives):
        if read[name] != 1:
            yield (
                f"apart: each archive has to be read by one dataset, and {read[name] or 'none'} "
                f"read(s) {name}"
            )


def _is_plain(path: str) -> bool:
    """Return whether a path inside an archive leads nowhere else."""
    return not {"", ".", ".."} & set(path.split("/"))


def _lists(split: Split) -> tuple[Member, ...]:
    """Return the member that lists the rows of a split, if there is one."""
    return (split.rows.member,) if split.rows and split.rows.member else ()


def _dataset_contradictions(dataset: Dataset) -> Iterator[str]:
    is_its_sources = dataset.name == of_version(base(dataset.name), version(dataset.source))
    if not (NAME.fullmatch(base(dataset.name)) and is_its_sources):
        yield "a name is lower-case letters, digits and underscores"
    if not dataset.splits:
        yield "there is no split"
    for key, classes in (("classes", dataset.classes), ("coarse_classes", dataset.coarse_classes)):
        if twice := _duplicates(classes):
            yield f"{key}: {twice} stand(s) there twice"
    for key in ("classes", "coarse_classes"):
        if len(getattr(dataset, key)) > MOST_CLASSES:
            yield f"{key}: a label is two bytes at most, so there can be {MOST_CLASSES:,} at most"
    if not dataset.classes:
        yield "classes: there must be at least one"
    yield from _label_contradictions(dataset)
    yield from _folder_contradictions(dataset)
    yield from formats.named(dataset.format).refuses(dataset)
    for key in ("mean", "std"):
        if len(getattr(dataset, key)) not in (0, dataset.image.channels):
            yield f"{key}: expected {dataset.image.channels} value(s), one per channel"
    if bool(dataset.mean) != bool(dataset.std):
        yield "mean and std: give both or neither"
    for at, one in enumerate(dataset.reported):
        for problem in _report_contradictions(one, dataset.reported[:at]):
            yield f"reported.{at}: {problem}"


def _label_contradictions(dataset: Dataset) -> Iterator[str]:
    published, classes = dataset.class_labels, len(dataset.classes)
    if published and len(published) != classes:
        yield f"class_labels: expected {classes}, one per class, found {len(published)}"
    if len({*published}) != len(published):
        yield "class_labels: two classes have the same label"
    if published and dataset.first_label:
        yield "give first_label or class_labels, not both"
    if dataset.columns and "label" not in dataset.columns:
        yield "columns: one of them has to be called label"
    for name in dataset.extras:
        if name in _TAKEN or not NAME.fullmatch(name):
            yield (
                f"columns.{name}: a name is lower-case letters, digits and underscores, and none "
                f"of {', '.join(_TAKEN)}"
            )


def _folder_contradictions(dataset: Dataset) -> Iterator[str]:
    form = formats.named(dataset.format)
    if not any(role.is_folder for role in form.roles.values()):
        for key in ("folders", "grey"):
            if getattr(dataset, key):
                yield f"{key}: format {form.name} reads no folders of images"


def _report_contradictions(one: Reported, before: Sequence[Reported]) -> Iterator[str]:
    if (one.accuracy is None) == (one.error_percent is None):
        yield "give accuracy or error_percent, as it was published"
    if one in before:
        yield f"{one.method} stands there twice"


def _split_contradictions(source: Source, dataset: Dataset, split: Split) -> Iterator[str]:
    if not NAME.fullmatch(split.name):
        yield NO_NAME_FOR_A_SPLIT
    for key, counts, classes in (
        ("counts", split.counts, dataset.classes),
        ("coarse_counts", split.coarse_counts, dataset.coarse_classes),
    ):
        if counts and not split.labelled:
            yield f"{key}: a split without labels has none"
        elif counts and len(counts) != len(classes):
            yield f"{key}: expected {len(classes)} numbers, one per class, found {len(counts)}"
        elif counts and sum(counts) != split.records:
            yield f"{key}: they add up to {sum(counts):,}, but records is {split.records:,}"
    form = formats.named(dataset.format)
    yield from _part_contradictions(form, split)
    yield from _row_contradictions(split)
    yield from _role_contradictions(form, split)
    for role, members in (*split.members.items(), ("rows.listed", _lists(split))):
        for member in members:
            if member.path and not _is_plain(member.path):
                yield f"{role}: {member} is no plain path inside an archive"
            if member.archive in source.optional_archives:
                yield f"{role}: {member} is in an optional archive, and every split is fetched"
            elif member.archive not in source.archives:
                yield (
                    f"{role}: {member} is in no declared archive."
                    f"{did_you_mean(member.archive, source.archives)}"
                )


def _role_contradictions(form: formats.Format, split: Split) -> Iterator[str]:
    wanted = form.roles
    if not split.labelled and not form.label_roles:
        yield f"labelled: format {form.name} holds labels with the images"
    for role in sorted({*wanted, *split.members}):
        if role in form.label_roles and not split.labelled:
            if role in split.members:
                yield f"{role}: a split without labels has none"
        elif role not in split.members:
            if role in wanted and wanted[role].is_optional:
                continue
            yield f"{role}: missing key (format {form.name} reads {' and '.join(wanted)})"
        elif role not in wanted:
            yield f"{role}: format {form.name} reads {' and '.join(wanted)} only"


def _row_contradictions(split: Split) -> Iterator[str]:
    if (rows := split.rows) is None:
        return
    if (rows.first is None) == (rows.listed is None):
        yield "rows: give first, or listed and line"
    if (rows.listed is None) != (rows.line is None):
        yield "rows: listed names a member, and line which line of it"
    if (rows.first or 0) + split.records > rows.of:
        yield (
            f"rows: {split.records:,} records from {rows.first or 0:,} on, but the members hold "
            f"{rows.of:,}"
        )


def _part_contradictions(form: formats.Format, split: Split) -> Iterator[str]:
    if split.parts != "members":
        return
    if form.by_member is None:
        yield (
            f"parts: format {form.name} does not tell how many records each member holds; give a "
            "number of records for each part"
        )
    names = [PurePosixPath(str(m)).stem for of_role in split.members.values() for m in of_role]
    if twice := _duplicates(names):
        yield f"parts: {twice} would be the name of several parts"


def misnamed(dataset: Dataset, known: Mapping[str, Mapping[str, type]]) -> Iterator[str]:
    """Yield what is said for readers of exports that don't ask for it."""
    asking = [export for export in known if known[export]]
    for export, names in dataset.readers.items():
        if not (keys := known.get(export, {})):
            yield (
                f"{export}: no export asks for names of its readers.{did_you_mean(export, asking)}"
            )
            continue
        for key, value in names.items():
            if key not in keys:
                yield f"{export}.{key}: unknown key.{did_you_mean(key, keys)}"
            elif not isinstance(value, keys[key]):
                wanted = "true or false" if keys[key] is bool else "text"
                yield f"{export}.{key}: Input should be {wanted}, found {shown(value)}"


def _duplicates(names: Sequence[str]) -> str:
    return ", ".join(sorted(name for name, times in Counter(names).items() if times > 1))
