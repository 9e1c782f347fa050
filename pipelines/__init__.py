"""Image benchmarks as their publishers released them: verified, traceable, and quick to load.

    import imagesets

    train = imagesets.load("mnist", "train")  # fetched, verified, decoded once; then from the cache
    train.images, train.labels, train.classes

`names` and `about` tell what there is, `load`, `batches`, `table`, `path` and `arrays` give it,
`trace` and `verify` say where it comes from and whether it is still so. In the repository this
package is called `pipelines`; nothing in it imports Dagster. Data flows one way:

    catalogue → archives → formats → tables → statistics, exports, descriptions

`catalogue` reads what there is to make (`declarations`), and `plan` says what follows from it:
every artefact, and what each is made from. `store` keeps artefacts with their provenance, and
`lineage` asks of all of them where they come from and whether they are still so. A format, an
export or a description is one module in its package; `products` is the contract of the latter two,
and `stages` names all kinds of artefacts. `records` is what flows; `errors`, `redaction`,
`progress` and `threads` serve everyone. `docs/architecture.md` is the map, and `CONTRIBUTING.md`
says where things go.
"""

from typing import TYPE_CHECKING

from .lazily import found_in

if TYPE_CHECKING:
    from .api.asking import About, about, names, trace, verify
    from .api.loading import Records, arrays, batches, load, path, table
    from .errors import ImagesetsError

__version__ = "0.2.0"

__all__ = [
    "About",
    "ImagesetsError",
    "Records",
    "__version__",
    "about",
    "arrays",
    "batches",
    "load",
    "names",
    "path",
    "table",
    "trace",
    "verify",
]

# Importing this package imports nothing else: whoever asks for a name waits for what it needs.
_LOADING = dict.fromkeys(("Records", "arrays", "batches", "load", "path", "table"), "api.loading")
_ASKING = dict.fromkeys(("About", "about", "names", "trace", "verify"), "api.asking")

__getattr__ = found_in(__name__, {**_LOADING, **_ASKING, "ImagesetsError": "errors"})


def __dir__() -> list[str]:
    return __all__
