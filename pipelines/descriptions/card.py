"""Card: what there is to know of a dataset before one uses it, on one page that opens from disk.

    index.html    the page; it needs no other file, and asks nobody for anything
    README.md     the same in short, as Markdown for a repository

It shows samples, counts, intensities and mean images of each class, what surprises people, records
with the same pixels, how to load it, whose it is, and the hashes of the files that it is about.
Pictures, the map and the benchmark are shown where they have been made. Nothing in it depends on
when or where it was made.

Samples are the first records of each class in the split that is declared first. Images are shown as
they are, enlarged by whole factors; of large images, or of very many, smaller copies are shown, so
that no card weighs more than `MOST_BYTES`.

Not here: what the words are (the catalogue, `wording`), how a page looks (`_pages`), which images
stand on it (`_images`), or how charts are drawn (`_charts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .. import products, stages, wording
from ..declarations import Dataset, Source
from ..products import Choices, Inputs, Product, Subject
from ..progress import Advance
from ..store import Facts, layout, writing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from .benchmark import Result

MOST_BYTES = 3_000_000
_WORDS_BYTES = 250_000  # that are left for all but pictures and charts
_SAMPLES, _MEANS, _DUPLICATES = 0.55, 0.25, 0.2  # of what is left for pictures
_MIDDLE = (0.1, 0.9)  # of the images of a class, without the darkest and the brightest tenth

Values = dict[str, Any]


def write(inputs: Inputs, goal: Path, _chosen: Choices, advance: Advance) -> Facts:
    """Write the card of a dataset into a folder.

    Raises:
        TableError: what it is made from are no tables or statistics of ours.
        StorageError: the folder can't be written to.
    """
    from . import _pages

    values = _declared(inputs.subject) | _found(inputs)
    values |= _results(inputs, values.pop("reported"))
    page = _pages.render("card.html", **values, pictures=[])
    pictures = _fitting(_made_by_others(inputs), MOST_BYTES - len(page.encode()))
    if pictures:
        page = _pages.render("card.html", **values, pictures=pictures)
    with writing.storage_errors(goal):
        (goal / "index.html").write_bytes(page.encode())
        (goal / "README.md").write_bytes(_pages.render("card.md", **values).encode())
    advance(inputs.subject.records)
    return {}


# --- What is declared -----------------------------------------------------------------------------


def _parameters(subject: Subject, _chosen: Choices) -> Values:
    from . import _pages

    return _declared(subject) | {"looks": _pages.looks("card.html", "card.md")}


def _declared(subject: Subject) -> Values:
    """Return what is known before there is any table, in JSON's types."""
    source, dataset = subject.source, subject.dataset
    return {
        "title": dataset.title,
        "name": dataset.name,
        "description": (dataset.description or wording.summary(dataset)).strip(),
        "facts": dict(_facts(source, dataset)),
        "homepage": source.homepage,
        "quirks": list(wording.quirks(dataset)),
        "licence": wording.licence(source, dataset),
        "citation": source.citation.strip(),
        "acknowledgements": source.acknowledgements.strip(),
        "archives": _archives(source, dataset),
        "mirrors": list(source.mirrors),
        "exports": list(_exports(subject)),
        "library_lines": _library_lines(subject),
        "table_lines": _table_lines(subject),
        "reported": [
            {
                "method": f"{one.method} ({one.year})" if one.year else one.method,
                "parameters": "",
                "accuracy": one.share_right,
                "told": one.published if one.accuracy is not None else f"{one.share_right:.4f}",
                "published": "" if one.accuracy is not None else one.published,
                "source": one.source,
                "url": one.url or "",
            }
            for one in dataset.reported
        ],
    }


def _library_lines(subject: Subject) -> str:
    name, split = subject.dataset.name, subject.splits[0]
    shape = ", ".join(map(str, (split.records, *subject.dataset.image.shape)))
    return f"""\
import imagesets
{split.name} = imagesets.load("{name}", "{split.name}")
{split.name}.images, {split.name}.labels, {split.name}.classes  # uint8 ({shape}), …"""


def _table_lines(subject: Subject) -> str:
    path = layout.table(subject.dataset.name, subject.splits[0].name)
    shape = ", ".join(map(str, subject.dataset.image.shape))
    return f"""\
import numpy
import polars
table = polars.read_parquet("data/{path}")
images = numpy.frombuffer(b"".join(table["pixels"]), "uint8").reshape(-1, {shape})
labels = table["label"].to_numpy()"""


def _facts(source: Source, dataset: Dataset) -> Iterator[tuple[str, str]]:
    records = [split.records for split in dataset.splits.values()]
    parts = ", ".join(f"{split.records:,} {name}" for name, split in dataset.splits.items())
    yield "Images", f"{sum(records):,}: {parts}" if len(records) > 1 else parts
    kind = "grey" if dataset.image.channels == 1 else "red, green, blue"
    yield "Pixels", f"{dataset.image.height}×{dataset.image.width}, {kind}, a byte each (0–255)"
    coarse = f", in {len(dataset.coarse_classes)} coarse ones" if dataset.coarse_classes else ""
    yield "Classes", f"{len(dataset.classes)}{coarse}"
    if source.creators:
        yield "Made by", ", ".join(source.creators)
    if source.published:
        yield "Released", source.published.isoformat()
    yield "Licence", wording.licence(source, dataset)


def _archives(source: Source, dataset: Dataset) -> list[Values]:
    names = dict.fromkeys(name for split in dataset.splits.values() for name in split.archives)
    return [
        {
            "name": name,
            "size": source.archives[name].size_bytes,
            "md5": source.archives[name].md5,
            "sha256": source.archives[name].sha256,
            "package": source.archives[name].package or "",
        }
        for name in names
    ]


def _exports(subject: Subject) -> Iterator[Values]:
    """Yield each export that there is of a dataset, with the lines of those who read it."""
    first = replace(subject, splits=subject.splits[:1])
    for product in products.known().values():
        if not (product.read_by and stages.applies(product, subject.source, subject.dataset)):
            continue
        of_what = first if product.scope == "split" else subject
        yield {
            "name": product.name,
            "title": product.title.removesuffix("."),
            "readers": [
                {
                    "name": reader.name,
                    "code": product.lines(reader, of_what, PurePosixPath("data")),
                    "note": reader.note,
                }
                for reader in product.read_by
            ],
        }


# --- What is found in tables and statistics -------------------------------------------------------


def _found(inputs: Inputs) -> Values:
    from .. import statistics
    from . import _images

    dataset = inputs.subject.dataset
    figures = inputs.paths[layout.statistics(dataset.name)]
    counted = statistics.counts(figures)
    charts = _counts(counted, dataset) | _intensities(figures, inputs)
    drawn = [*charts["counts_charts"].values(), *charts["intensities_charts"].values()]
    room = MOST_BYTES - _WORDS_BYTES - sum(map(len, drawn))
    return {
        **charts,
        **_images.samples(inputs, room * _SAMPLES),
        **_images.means(figures, room * _MEANS),
        "duplicates": _images.duplicates(inputs, room * _DUPLICATES),
        "tables": list(_tables(inputs)),
        "has_pictures": _made(inputs, "pictures") is not None,
        "has_map": _made(inputs, "embedding") is not None,
        "map_said": _map_said(inputs.subject),
    }


def _counts(counted: pl.DataFrame, dataset: Dataset) -> Values:
    """Return the table of counts and its chart; a sentence where all classes have as many."""
    from . import _charts

    *classes, total = counted.rows()
    series = _charts.of_classes(counted)
    values: Values = {
        "counts_head": ["class", "label", *counted.columns[1:]],
        "counts": [
            [name, label, *("" if number is None else number for number in numbers)]
            for label, (name, *numbers) in [*enumerate(classes), ("", total)]
        ],
        "counts_said": "",
        "counts_charts": {},
    }
    if len(classes) > 1 and all(len({*of_split}) == 1 for of_split in series.values()):
        each = " and ".join(f"{of_split[0]:,} in {name}" for name, of_split in series.items())
        return values | {"counts_said": f"Every class has as many records: {each}."}
    said = _extremes(dataset.classes, series, "{:,}", "Records")
    charts = {
        "wide": _charts.counts(counted, dataset.title),
        "narrow": _charts.counts(counted, dataset.title, _charts.PHONE),
    }
    title = f"Records of each class of {dataset.title}"
    return values | {"counts_said": said, "counts_charts": _inlined(charts, "counts", title, said)}


def _extremes(
    classes: Sequence[str], series: Mapping[str, Sequence[float | None]], form: str, of_what: str
) -> str:
    """Return from what to what some figures go in each split, and of which class."""
    parts = []
    for split, values in series.items():
        some = [(x, name) for x, name in zip(values, classes, strict=True) if x is not None]
        (low, least), (high, most) = (f(some, key=lambda one: one[0]) for f in (min, max))
        parts.append(f"{split} {form.format(low)} ({least}) to {form.format(high)} ({most})")
    return f"{of_what} of a class: {'; '.join(parts)}."


def _inlined(charts: Mapping[str, str], ident: str, title: str, said: str) -> Values:
    from . import _pages

    return {
        width: _pages.inline_svg(svg, f"{ident}-{width}", title, said)
        for width, svg in charts.items()
    }


def _intensities(figures: Path, inputs: Inputs) -> Values:
    import polars as pl

    from . import _charts

    dataset = inputs.subject.dataset
    columns = ["split", "label", "mean_intensity", "std_intensity", "nonzero_share"]
    channels = ["channel_mean_intensity", "channel_std_intensity"]
    every = pl.read_parquet(figures, columns=[*columns, *channels])
    found = {
        split.name: every.filter(pl.col("split") == split.name).drop("split")
        for split in inputs.subject.splits
    }
    means = {
        name: rows.drop_nulls("label")["mean_intensity"].to_list() for name, rows in found.items()
    }
    middles = {name: _middles(inputs.tables[name], len(dataset.classes)) for name in found}
    rows: list[list[object]] = []
    for label, name in [*enumerate(dataset.classes), (None, "all")]:
        row: list[object] = [name, "" if label is None else label]
        for split, part in found.items():
            mean, std, share = part.filter(pl.col("label").eq_missing(label)).row(0)[1:4]
            middle = middles[split][-1 if label is None else label]
            row += [
                _number(mean),
                f"{middle[0]:.1f}–{middle[1]:.1f}" if middle else "–",
                _number(std),
                "–" if share is None else f"{share:.1%}",
            ]
        rows.append(row)
    kinds = ("mean", "middle 80 %", "std", "not 0")
    head = ["class", "label", *(f"{split} {kind}" for split in found for kind in kinds)]
    said = _extremes(dataset.classes, means, "{:.1f}", "Mean intensity")
    of_classes = {name: some[:-1] for name, some in middles.items()}
    charts = {
        width: _charts.intensities(dataset.classes, means, of_classes, dataset.title, across)
        for width, across in (("wide", _charts.PAGE), ("narrow", _charts.PHONE))
    }
    title = f"Mean intensity of each class of {dataset.title}"
    return {
        "intensities_head": head,
        "intensities": rows,
        "intensities_said": said,
        "normalising": _normalising(every, inputs.subject.splits[0].name),
        "intensities_charts": _inlined(charts, "intensities", title, said),
    }


def _normalising(every: pl.DataFrame, split: str) -> str:
    """Return the constants with which people normalise pixels."""
    import polars as pl

    row = every.filter(pl.col("label").is_null(), split=split).row(0, named=True)
    mean, std = (
        ", ".join(f"{value / 255:.4f}" for value in row[f"channel_{figure}_intensity"])
        for figure in ("mean", "std")
    )
    colours = " of red, green and blue" if "," in mean else ""
    return (
        f"Over all pixels of {split}, on a scale of 0 to 1: mean {mean}; standard deviation {std}"
        f"{colours}."
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _middles(table: Path, classes: int) -> list[tuple[float, float] | None]:
    """Return between which means the middle 80 % of images lie: of each class, then of all."""
    import numpy as np

    from .. import tables

    labels, sums, size = [], [], 1
    for batch in tables.batches(table):
        size = batch.images[0].size
        labels.append(np.array(batch.labels))
        sums.append(batch.images.reshape(len(batch), -1).sum(1, dtype=np.uint32))
    of_class, of_image = np.concatenate(labels), np.concatenate(sums)

    def middle(some: npt.NDArray[np.uint32]) -> tuple[float, float] | None:
        if not len(some):
            return None
        low, high = np.quantile(some, _MIDDLE) / size
        return float(low), float(high)

    return [*(middle(of_image[of_class == at]) for at in range(classes)), middle(of_image)]


# --- What was made of it besides ------------------------------------------------------------------


def _results(inputs: Inputs, reported: Sequence[Values]) -> Values:
    """Return what classic classifiers reach, where that was tried, beside what others reported."""
    from . import benchmark

    said, ours = [], []
    if folder := _made(inputs, "benchmark"):
        found = benchmark.results(folder)  # the best first
        settings = Counter(one.classifier for one in found)
        best = {one.classifier: one for one in reversed(found)}
        ours = [_our_result(one, settings[name]) for name, one in best.items()]
        said.append(_how_tried(benchmark.about(folder)))
        if not all(one.converged for one in best.values()):
            said.append("An asterisk marks what stopped after the iterations stated.")
    if reported:
        said.append("What others reported is theirs, and was not tried again.")
    results = sorted([*ours, *reported], key=lambda one: -float(one["accuracy"]))
    return {
        "results": results,
        "results_said": " ".join(said),
    }


def _our_result(one: Result, settings: int) -> Values:
    of_several = f"the best of {settings} settings" if settings > 1 else ""
    deviation = f" ± {one.std:.4f}" if one.std is not None else ""
    return {
        "method": one.classifier,
        "parameters": "; ".join(filter(None, (one.text, of_several))),
        "accuracy": one.accuracy,
        "told": f"{one.accuracy:.4f}{deviation}{'' if one.converged else '*'}",
        "published": "",
        "source": "tried here",
        "url": "",
    }


def _how_tried(how: Mapping[str, Any]) -> str:
    train, repeats = how["train"], how["repeats"]
    some = f"{train['records']:,} of the" if train["records"] < train["of"] else "all"
    return (
        f"Classifiers of scikit-learn were fitted here to {some} {train['of']:,} records of train, "
        "each pixel scaled to mean 0 and variance 1, and tried on all of test"
        f"{f', {repeats} times' if repeats > 1 else ''}."
    )


def _map_said(subject: Subject) -> str:
    from . import embedding

    of = embedding.settings(subject)["tsne"]
    some = "All" if of["records"] == of["of"] else f"{of['records']:,} of the {of['of']:,}"
    return f"{some} records of {of['split']} as points"


def _made_by_others(inputs: Inputs) -> Iterator[Values]:
    """Yield the pictures that other descriptions drew, the most telling one first."""
    from PIL import Image

    from . import _pages

    for stage, name in (("embedding", "tsne"), ("embedding", "pca"), ("pictures", "sprite")):
        folder = _made(inputs, stage)
        if folder and (path := folder / f"{name}.png").is_file():
            with Image.open(path) as image:
                width, height = image.size
            src = _pages.data_uri(path.read_bytes())
            yield {"name": name, "src": src, "width": width, "height": height}


def _fitting(pictures: Iterator[Values], room: int) -> list[Values]:
    """Return those for which there is room, with the words about each."""
    found = []
    for one in pictures:
        if len(one["src"]) + 1000 < room:
            room -= len(one["src"]) + 1000
            found.append(one)
    return found


def _made(inputs: Inputs, stage: str) -> Path | None:
    """Return where a description lies, if it was made."""
    product = products.known().get(stage)
    return inputs.paths.get(product.path(inputs.subject)) if product else None


def _tables(inputs: Inputs) -> Iterator[Values]:
    known = {one.path: one for one in inputs.known}
    for split in inputs.subject.splits:
        path = layout.table(inputs.subject.dataset.name, split.name)
        if path in known:
            one = known[path]
            yield {"path": path, "size": one.size_bytes, "sha256": one.sha256}


DESCRIPTION = Product(
    name="card",
    title="as a card: all there is to know before one uses it, on one page, and in Markdown.",
    scope="dataset",
    files="descriptions/{dataset}/card/",
    code_version="1",
    write=write,
    needs=("statistics", "tables"),
    uses=("benchmark", "embedding", "pictures"),
    parameters=_parameters,
    reproducible="same libraries",
    kind="html",
    libraries=("jinja2", "markdown-it-py", "matplotlib", "numpy", "pillow", "polars"),
    extra="cards",
    requires=("jinja2", "markdown-it-py", "matplotlib"),
)
