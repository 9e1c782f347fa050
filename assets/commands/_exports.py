"""What there is to tell of an export: a row, a page for a terminal, a page of docs/exports.md.

All of it comes from the declarations. Not here: printing it (`exports`).
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePath
from typing import TYPE_CHECKING

from assets.command_line import display
from pipelines.declarations import Dataset
from pipelines.products import Option, Product, Reader
from pipelines.stages import DEFAULT, OPTIONAL

if TYPE_CHECKING:  # numpy and Arrow take long to import
    from pipelines.plan import Plan, Planned

COLUMNS = 80

BEGINNING = """\
# Exports: every loader opens it

<!-- fmt: off -->

Verified files in the formats that existing loaders read, with a way back to the publisher:
`verify --deep` holds them against the archives, `trace` follows a record of them to its bytes
there. What is no default is made where it is named:

    python -m assets build mnist --only lmdb      # and what it is made from
    IMAGESETS_EXPORTS=csv,lmdb make run           # in place of the default

Of a split that comes in [parts](parts.md) there is one of each part; what is one of each dataset
is not made of such a one. Options are variables as well: `--csv-header` is
`IMAGESETS_CSV_HEADER=1`. `python -m assets exports NAME` says what stands here in a terminal, with
the paths of your data folder. This page is made from the declarations by `python -m assets exports
--markdown > docs/exports.md`.
"""

WARNING = """\
**Never write into `~/.keras` or `~/MNIST`, or any other cache that a loader keeps for itself.**
Keras deletes a `~/.keras/datasets/mnist.npz` whose SHA-256 is not the one that it knows; DL4J
deletes the folder `~/MNIST` where a file in it has another checksum. Give loaders the paths below.
"""

PEERS = """\
## Where others differ

The publisher's bytes decide; what others made of them is not copied.

- **CIFAR-100's class 26 is `crab`.** The Hugging Face Hub's copy calls it `cra`, and
  Fashion-MNIST's `T-shirt/top` is `T - shirt / top` there. Exports have the publishers' names.
- **EMNIST is published column by column**, every character on its side and mirrored. Tables and
  most exports hold it upright. The publisher's own files, and those in the place of TFDS' or
  torchvision's, stay as published: code for these turns the images, and would turn upright ones
  wrong.
- **EMNIST Letters has labels from 1** as published: torchvision's classes begin with "N/A", and
  TFDS counts 37. Elsewhere they begin at 0.
- **EMNIST Letters is cut in TFDS**: 88,800 + 14,800 records, as in the paper. The published files
  hold 124,800 + 20,800, and so do all exports.
- **`read_data_sets` of TensorFlow 1** took the first 5,000 records of train for validation, and
  divided pixels by 255.
"""

# Loaders of old pages that are gone: what does their work today, where that export is there.
GONE = {
    "read_data_sets (TensorFlow 1)": (
        "npz",
        'numpy.load("data/exports/mnist/mnist.npz")["x_train"].reshape(-1, 784) / 255',
    ),
}


@dataclass(frozen=True, slots=True)
class Export:
    """An export, and the places where it can be in a catalogue.

    planned: each artefact that there can be.
    is_everywhere: whether there is one of every dataset that it can be of.
    """

    product: Product
    planned: tuple[Planned, ...]
    is_everywhere: bool

    @property
    def example(self) -> Planned:
        """The one that is shown: of MNIST, where there is one."""
        of_mnist = (one for one in self.planned if self.dataset(one).name == "mnist")
        return next(of_mnist, self.planned[0])

    @property
    def datasets(self) -> list[str]:
        """The datasets that there is one of."""
        return list(dict.fromkeys(self.dataset(one).name for one in self.planned))

    @staticmethod
    def dataset(planned: Planned) -> Dataset:
        """The dataset that one is of."""
        if planned.subject is None:
            raise TypeError(f"{planned.path} is an archive")
        return planned.subject.dataset

    def lines(self, reader: Reader, data: PurePath) -> str:
        """Return the lines with which a reader opens the example, in a data folder."""
        subject = self.example.subject
        assert subject is not None
        return self.product.lines(reader, subject, data)


def found(plan: Plan, names: Iterable[str]) -> list[Export]:
    """Return exports by their names, but for those that there are of no dataset."""
    exports = []
    for name in names:
        some = tuple(one for one in plan.artefacts.values() if one.stage == name)
        if some and (product := some[0].product):
            datasets = {Export.dataset(one).name for one in some}
            known = plan.declared.datasets.values()
            others = [one for one in known if product.is_made_of_parts or not one.is_in_parts]
            exports.append(Export(product, some, datasets == {one.name for one in others}))
    return exports


def table(exports: Sequence[Export]) -> str:
    """Return a row for each export, no wider than a terminal."""
    rows: list[tuple[str, ...]] = [("export", "what it is", "MB", "s", "opened by")]
    longest = max(len("export"), *(len(export.product.name) for export in exports))
    left = COLUMNS - longest - len("  1,234.5  12.34    ")
    for export in exports:
        product = export.product
        figures = [f"{figure:,}" for figure in product.measured or ()] or ["–", "–"]
        opened = ", ".join(dict.fromkeys(name(reader) for reader in product.read_by))
        texts = zip_longest(
            textwrap.wrap(short(product), left // 2, break_on_hyphens=False),
            textwrap.wrap(opened, left - left // 2, break_on_hyphens=False),
            fillvalue="",
        )
        for number, (what, by) in enumerate(texts):
            head = [product.name, *figures] if number == 0 else ["", "", ""]
            rows.append((head[0], what, head[1], head[2], by))
    return display.columns(rows, right={"MB", "s"})


def short(product: Product) -> str:
    """Return what an export is, in a few words."""
    return product.title.removeprefix("as ").partition(":")[0].rstrip(".")


def name(reader: Reader) -> str:
    """Return a reader's name without its version."""
    return re.sub(r" v?\d[\w.]*", "", reader.name)


def facts(export: Export, data: PurePath) -> Iterator[tuple[str, str]]:
    """Yield what is to be known of an export, each with its name."""
    product, one = export.product, export.example
    assert one.subject is not None
    yield "files", f"{data / one.path}" + ("/ (a folder)" if product.is_folder else "")
    some = "" if export.is_everywhere else f" of {', '.join(export.datasets)}"
    yield "one of", f"each {product.scope}{some}"
    when = "by default" if product.name in DEFAULT else "on request"
    build = f"python -m assets build {one.subject.dataset.name} --only {product.name}"
    yield "made", f"{when}: {build}"
    if OPTIONAL in product.needs:
        yield "made from", "optional archives, which are fetched for it"
    elif "archives" in product.needs:
        yield "made from", "archives, not tables"
    if product.measured:
        mb, s = product.measured
        yield "size", f"{mb:,} MB for MNIST{'' if product.scope == 'dataset' else ' train'}"
        yield "seconds", f"{s:,} to make it, on two cores with nothing else to do"
    if product.requires:
        wants = " ".join(product.requires)
        yield "needs", f"{wants}: .venv/bin/python -m pip install {wants}"
    same = {
        "everywhere": "come out everywhere",
        "same libraries": "come out wherever the libraries are the same",
        "one machine": "come out on one machine",
        "never": "never come out twice",
    }
    yield "bytes", f"the same ones {same[product.reproducible]}"


def choices(product: Product) -> Iterator[tuple[str, str]]:
    """Yield an export's options as the command line takes them, each with what it does."""
    for option in product.options:
        spelt = f"--{product.name}-{option.name}".replace("_", "-")
        if option.choices:
            spelt += f" {{{','.join(option.choices)}}}"
        elif not isinstance(option.default, bool):
            spelt += " N"
        yield spelt, f"{option.help} ({_default(option)})"


def _default(option: Option) -> str:
    if isinstance(option.default, bool):
        return f"{'on' if option.default else 'off'} by default"
    return f"default: {option.default}"


def page(export: Export, data: PurePath) -> str:
    """Return all there is to tell of an export, for a terminal."""
    product = export.product
    parts = [f"{product.name}: {export.dataset(export.example).title} {product.title}"]
    parts.append("\n".join(_wrapped(*fact) for fact in facts(export, data)))
    if product.options:
        parts.append("\n".join(_wrapped(*choice, width=28) for choice in choices(product)))
    for reader in product.read_by:
        code = textwrap.indent(export.lines(reader, data), "    ")
        note = f"\n{textwrap.fill(reader.note, COLUMNS)}" if reader.note else ""
        parts.append(f"{reader.name}:{note}\n\n{code}")
    return "\n\n".join(parts)


def _wrapped(what: str, text: str, width: int = 11) -> str:
    indent = " " * width
    wrapped = textwrap.wrap(text, COLUMNS - width, break_long_words=False, break_on_hyphens=False)
    first = f"{what:{width - 1}} " if len(what) < width else f"{what}\n{indent}"
    return first + f"\n{indent}".join(wrapped)


def markdown(exports: Sequence[Export]) -> str:
    """Return docs/exports.md."""
    data = PurePath("data")
    rows = ["| your loader | export | the line |", "|---|---|---|"]
    lines = [
        (name(reader), one.product.name, _line(one.lines(reader, data)))
        for one in exports
        for reader in one.product.read_by
    ]
    known = {one.product.name for one in exports}
    lines += [(loader, *said) for loader, said in GONE.items() if said[0] in known]
    for loader, it, line in sorted(lines, key=lambda row: (row[0].lower(), row[1])):
        escaped = line.replace("|", "\\|")
        rows.append(f"| {loader} | [`{it}`](#{it}) | `{escaped}` |")
    sections = [_section(export, data) for export in exports]
    return "\n".join([BEGINNING, *rows, "", WARNING, PEERS, *sections])


def _line(code: str) -> str:
    """Return the statement that says most: the first that opens a path, but for preparations."""
    try:
        statements = [" ".join(_begun(code, one).split()) for one in _statements(code)]
    except SyntaxError:  # of another language
        statements = code.splitlines()
    opening = [one for one in statements if re.search(_OPENS, one)]
    return re.sub(r",? \)", ")", [*statements, *opening[:1]][-1].replace("( ", "("))


_OPENS = r"^(?!.*\b(?:glob|zipfile|shutil)\.).*\(.*data/exports/"  # a call, and no preparation


def _statements(code: str) -> Iterator[ast.stmt]:
    for one in ast.parse(code).body:
        yield from one.body if isinstance(one, ast.FunctionDef) else [one]


def _begun(code: str, statement: ast.stmt) -> str:
    """Return the text of a statement; of a block, that of its first line and what follows it."""
    text = ast.get_source_segment(code, statement) or ""
    return "\n".join(text.splitlines()[:2]) if isinstance(statement, ast.With) else text


def _section(export: Export, data: PurePath) -> str:
    product = export.product
    parts = [f"## {product.name}\n", f"{_capital(short_title(product))}\n"]
    parts += [f"- **{what}:** {_marked(text)}" for what, text in facts(export, data)]
    parts += [f"- `{spelt}`: {text}" for spelt, text in choices(product)]
    for reader in product.read_by:
        language = "python" if reader.versions or "import " in reader.code else ""
        parts.append(f"\n**{reader.name}**" + (f": {reader.note}" if reader.note else ""))
        parts.append(f"```{language}\n{export.lines(reader, data)}\n```")
    return "\n".join(parts) + "\n"


def short_title(product: Product) -> str:
    """Return what an export is, as a sentence."""
    return product.title.removeprefix("as ")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _marked(text: str) -> str:
    """Return text whose paths and commands are marked as such."""
    return re.sub(r"(data/\S+|(?:python -m|\.venv/).*)", r"`\1`", text)
