"""Browsing: which file answers for a path, and the pages that tell how what is shown came to be.

    /                                        what there is of each dataset, and what is missing
    /made/mnist                              how all that is here of MNIST came to be
    /descriptions/mnist/card/index.html      a file, where the plan names it or the folder it is in

Files are sent as they are, but for a card: beside it stands what depends on the run, and so in no
file: when it was made, by what, from which mirror, and whether its bytes are still those. Nothing
is made, and nothing that lies elsewhere can be asked for. Not here: sending it
(`assets.serving.sites`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from assets.command_line.display import plain
from assets.serving.sites import Answer
from pipelines.declarations import Dataset
from pipelines.descriptions import _pages
from pipelines.errors import MadeByNewer
from pipelines.lineage import status
from pipelines.plan import Plan, Planned
from pipelines.progress import size
from pipelines.store import Provenance, Store, layout, provenance
from pipelines.store.state import State

CARD = "card"
_HTML = "text/html; charset=utf-8"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": _HTML,
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",  # that browsers show, and do not save
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
}
_UNKNOWN_TYPE = "application/octet-stream"
_PICTURES = (".png", ".svg", ".webp")
# An SVG that is opened by itself could run scripts.
_NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, slots=True)
class Shown:
    """A description that there can be.

    name: what it is called beside others of its dataset.
    href: where it is; nothing where it was not made.
    """

    planned: Planned
    name: str
    href: str


@dataclass(frozen=True)
class Pages:
    """All that there is to look at in a data folder."""

    store: Store
    plan: Plan

    def answer(self, path: str) -> Answer:
        """Return what is at a path."""
        try:
            if path == "/":
                return _page(self._overview())
            if path.startswith("/made/"):
                found = self.plan.declared.datasets.get(path.removeprefix("/made/"))
                return _page(self._made(found)) if found else self._missing(path)
            return self._file(path.removeprefix("/"))
        except MadeByNewer as error:
            return self._missing(path, str(error))

    def start(self, dataset: Dataset | None = None) -> str:
        """Return the path at which to begin: the index or a card, where there is one."""
        for one in self._descriptions(dataset):
            is_start = one.planned.stage == CARD if dataset else one.planned.is_of_catalogue
            if is_start and one.href:
                return one.href
        return f"/made/{dataset.name}" if dataset else "/"

    @functools.cached_property
    def _known(self) -> Mapping[str, Planned]:
        """What may be asked for: path → artefact."""
        return {p: one for p, one in self.plan.artefacts.items() if layout.is_for_people(p)}

    # --- Files ------------------------------------------------------------------------------------

    def _file(self, path: str) -> Answer:
        """Return a file that the plan names, or one of a folder that it names."""
        planned, name = self._named(path)
        known = self._provenance(planned) if planned else None
        if planned is None or known is None or not self._is_here(planned):
            return self._missing(path, planned.remedy if planned else "")
        if known.files is None:
            return self._sent(planned, self.store.local(planned.path), known)
        if name is None:  # what its page shows is found from inside the folder
            there = {"Location": f"/{quote(path)}/"}
            return Answer(b"", "text/plain", HTTPStatus.MOVED_PERMANENTLY, there)
        files = [file.path for file in known.files]
        if not name and "index.html" not in files:
            return _page(self._folder(planned, known))
        name = name or "index.html"
        is_its = name in files
        file = self.store.local(planned.path) / name
        return self._sent(planned, file, known) if is_its else self._missing(path)

    def _named(self, path: str) -> tuple[Planned | None, str | None]:
        """Return the artefact that a path leads to, and behind a folder's slash what file of it."""
        if path in self._known:
            return self._known[path], None
        for parent in map(str, PurePosixPath(path).parents):
            found = self._known.get(parent)
            if found and found.product and found.product.is_folder:
                return found, path[len(parent) + 1 :]
        if path.endswith("/") and (found := self._known.get(path[:-1])):
            return found, ""
        return None, None

    def _sent(self, planned: Planned, file: Path, known: Provenance) -> Answer:
        suffix = file.suffix
        if file.is_symlink() or not file.is_file():
            return self._missing(planned.path, planned.remedy)
        kind = _TYPES.get(suffix, _UNKNOWN_TYPE)
        if suffix == ".svg":
            return Answer(file, kind, headers={"Content-Security-Policy": _NO_SCRIPTS})
        if planned.stage == CARD and suffix == ".html" and planned.subject:
            return Answer(self._beside(planned, file.read_text("utf-8"), known).encode(), kind)
        return Answer(file, kind)

    # --- Pages of our own -------------------------------------------------------------------------

    def _overview(self) -> str:
        datasets = [
            (dataset, [*self._descriptions(dataset)])
            for dataset in self.plan.declared.datasets.values()
        ]
        samples = {
            dataset.name: f"{one.href}samples.png"
            for dataset, shown in datasets
            for one in shown
            if one.planned.stage == "pictures" and one.href
        }
        return _pages.render(
            "browse.html",
            policy=_pages.WITH_FILES,
            index=[*self._descriptions(None)],
            here=[(dataset, shown) for dataset, shown in datasets if any(o.href for o in shown)],
            rest=[
                (dataset, shown) for dataset, shown in datasets if not any(o.href for o in shown)
            ],
            samples=samples,
            data=self.store.address(""),
        )

    def _folder(self, planned: Planned, known: Provenance) -> str:
        """Return a page that shows a folder which brings none."""
        files = [(file.path, size(file.size_bytes)) for file in known.files or ()]
        return _pages.render(
            "browse-folder.html",
            policy=_pages.WITH_FILES,
            subject=planned.subject,
            product=planned.product,
            pictures=[(name, n) for name, n in files if PurePosixPath(name).suffix in _PICTURES],
            files=[(name, n) for name, n in files if PurePosixPath(name).suffix not in _PICTURES],
            made=_made_when(known),
        )

    def _made(self, dataset: Dataset) -> str:
        """Return the page of how all that is here of a dataset came to be."""
        own = (one for one in self.plan.of([dataset]) if not one.is_of_catalogue)
        wanted = status.ever_made(self.store, own)
        states = status.states(self.store, self.plan.with_shown(wanted))
        archives = [one for one in wanted if one.is_archive]
        return _pages.render(
            "browse-made.html",
            policy=_pages.WITH_FILES,
            dataset=dataset,
            source=self.plan.declared.source_of(dataset),
            shown=[one for one in self._descriptions(dataset) if one.href],
            missing=[one for one in self._descriptions(dataset) if not one.href],
            archives=[_archive_row(one, states[one.path]) for one in archives],
            rest=[_row(one, states[one.path]) for one in wanted if not one.is_archive],
        )

    def _beside(self, planned: Planned, page: str, known: Provenance) -> str:
        """Return a card's page with what depends on the run beside it."""
        assert planned.subject is not None
        states = status.states(self.store, self.plan.with_shown([planned]))
        needed = [self.plan.artefacts[path] for path in states]
        fetched = [one.path for one in needed if one.is_archive]
        facts = [state.provenance.facts for p in fetched if (state := states[p]).provenance]
        text = _pages.render(
            "browse-beside.html",
            dataset=planned.subject.dataset,
            others=[one for one in self._descriptions(planned.subject.dataset) if one.href][1:],
            made=_made_when(known),
            by=_made_by(known),
            origins=sorted({_place(str(fact.get("origin", ""))) for fact in facts}),
            retrieved=max((str(fact.get("retrieved", "")) for fact in facts), default=""),
            archives_are_whole=all(states[path].is_up_to_date for path in fetched),
            state=_state(states[planned.path]),
        )
        style, aside = text.split("<!-- -->")
        above, end, below = page.replace("</head>", f"{style}</head>", 1).rpartition("</body>")
        return f"{above}{aside}{end}{below}"

    def _missing(self, path: str, why: str = "") -> Answer:
        said = {"path": plain(path), "why": why}
        text = _pages.render("browse-missing.html", policy=_pages.WITH_FILES, **said)
        return Answer(text.encode(), _HTML, HTTPStatus.NOT_FOUND)

    # --- What there is ----------------------------------------------------------------------------

    def _descriptions(self, dataset: Dataset | None) -> Iterator[Shown]:
        """Yield what there can be to look at of a dataset; without one, of all together."""
        for one in sorted(self._known.values(), key=_card_first):
            if one.is_of_catalogue if dataset is None else _is_of(one, dataset):
                is_here = self._provenance(one) and self._is_here(one)
                slash = "/" if one.product and one.product.is_folder else ""
                href = f"/{quote(one.path)}{slash}" if is_here else ""
                yield Shown(one, one.asset[1].replace("_", " "), href)

    def _is_here(self, planned: Planned) -> bool:
        return planned.is_at(self.store.local(planned.path))

    def _provenance(self, planned: Planned) -> Provenance | None:
        return provenance.latest(self.store, planned.path)


def _card_first(planned: Planned) -> tuple[bool, bool]:
    """Sort a card before all else, and what is of splits behind."""
    return planned.stage != CARD, bool(planned.product and planned.product.scope == "split")


def _is_of(planned: Planned, dataset: Dataset) -> bool:
    return planned.subject is not None and planned.subject.dataset.name == dataset.name


def _page(text: str) -> Answer:
    return Answer(text.encode(), _HTML)


def _archive_row(planned: Planned, found: State) -> list[str]:
    """Return an archive's name, where it came from, when, and what is known of its bytes."""
    facts = found.provenance.facts if found.provenance else {}
    retrieved = _minute(str(facts.get("retrieved", "")))
    return [
        Path(planned.path).name,
        str(facts.get("origin", "nobody knows")),
        retrieved or "nobody knows",
        _state(found),
    ]


def _row(planned: Planned, found: State) -> list[str]:
    known = found.provenance
    made = [_made_when(known), _made_by(known)] if known else ["nobody knows", ""]
    return ["/".join(planned.asset), *made, _state(found)]


def _state(found: State) -> str:
    """Return what is known of the bytes of an artefact, in a phrase."""
    if found.is_up_to_date and found.sight:
        return f"whole; last read {_minute(found.sight.looked)} UTC"
    return f"{found.condition}: {found.reason}"


def _made_when(known: Provenance) -> str:
    return f"{_minute(known.run.ended)} UTC"


def _made_by(known: Provenance) -> str:
    versions: Mapping[str, Any] = known.run.versions
    imagesets = f"Imagesets {versions.get('imagesets', '?')}"
    return f"{imagesets}, {known.stage} version {known.code_version}"


def _place(origin: str) -> str:
    """Return where an archive came from, without its own name."""
    return origin.rpartition("/")[0] or origin


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
