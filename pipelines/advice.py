"""Advice: what to do next, in words for whoever reads it; errors end with it.

The package is called `pipelines` in the repository, whose commands build, fetch and verify, and
`imagesets` where it is installed, whose users have calls and environment variables and nothing
else. Not here: which errors there are (`errors`), or what a single one says.
"""

from __future__ import annotations

IN_LIBRARY = not __name__.startswith("pipelines.")


def fitting(in_repository: str, in_library: str) -> str:
    """Return one of two ways to say the same."""
    return in_library if IN_LIBRARY else in_repository


AGAIN = fitting("Build again", "Load it again")
TABLE_AGAIN = fitting("Delete it and build the tables stage again.", "Delete it and load it again.")
TABLE_FIRST = fitting("Build the tables stage of this dataset.", "Load it, and it is made.")
ARCHIVE_FIRST = fitting(
    "Fetch it first: build the archives stage.", "Load the split, and it is fetched."
)
ELSEWHERE = fitting(
    "choose another data folder with --data or IMAGESETS_DATA",
    "choose another data folder with IMAGESETS_DATA",
)
MIRROR = fitting("--mirror or IMAGESETS_MIRROR", "IMAGESETS_MIRROR")
VERIFY = fitting("python -m assets verify", "imagesets.verify")


def pin(source: str) -> str:
    """Return how to have printed what a source's file lacks; "" where nobody edits it."""
    return fitting(f"; python -m assets pin {source} prints it to paste", "")


# What not everybody has → the extra of the library that brings it, and what pip calls it.
_EXTRAS = {
    "PIL": ("png", "pillow"),
    "array_record": ("arrayrecord", "array_record"),
    "google_crc32c": ("tfrecord", "google-crc32c"),
    "h5py": ("hdf5", "h5py"),
    "jinja2": ("cards", "jinja2"),
    "lmdb": ("lmdb", "lmdb"),
    "markdown_it": ("cards", "markdown-it-py"),
    "matplotlib": ("figures", "matplotlib"),
    "obstore": ("s3", "obstore"),
    "openTSNE": ("embedding", "openTSNE"),
    "openlineage": ("openlineage", "openlineage-python"),
    "polars": ("statistics", "polars"),
    "sklearn": ("benchmark", "scikit-learn"),
}


def how_to_install(error: ModuleNotFoundError) -> str:
    """Return what is missing, and how to have it.

    Raises:
        ModuleNotFoundError: it is nothing that some do without.
    """
    name = (error.name or "").partition(".")[0]
    if name not in _EXTRAS:
        raise error
    extra, package = _EXTRAS[name]
    command = fitting(
        f".venv/bin/python -m pip install {package}", f'pip install "imagesets[{extra}]"'
    )
    return f"{package} is not installed, which not everybody has. Install it: {command}"
