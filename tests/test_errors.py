"""Every way to refuse: one tree, and each leaf survives a trip between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from pipelines import errors
from pipelines.errors import ImagesetsError

EVERY = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[ImagesetsError], protocol: int) -> None:
    more = (1234.5,) if kind is errors.TooSlow else ()
    error = kind("expected 28×28, found 27×28: “train”\nwhat next", *more)
    error.add_note("while building")

    back = pickle.loads(pickle.dumps(error, protocol))

    assert type(back) is kind
    assert back.args == error.args
    assert str(back) == str(error) == "expected 28×28, found 27×28: “train”\nwhat next"
    assert vars(back) == vars(error)
    assert back.__notes__ == ["while building"]


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_hangs_on_the_one_tree(kind: type[ImagesetsError]) -> None:
    assert issubclass(kind, ImagesetsError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.ArchiveUnavailable, errors.ArchiveError),
        (errors.DownloadFailed, errors.ArchiveError),
        (errors.OutOfReach, errors.DownloadFailed),
        (errors.TooSlow, errors.DownloadFailed),
        (errors.WrongBytes, errors.ArchiveError),
        (errors.WrongHash, errors.WrongBytes),
        (errors.MemberError, errors.ArchiveError),
        (errors.FormatError, ImagesetsError),
        (errors.MadeByNewer, ImagesetsError),
        (errors.TableError, ImagesetsError),
        (errors.ArtefactError, ImagesetsError),
        (errors.StorageError, ImagesetsError),
        (errors.StaleInput, ImagesetsError),
        (errors.CatalogueError, ImagesetsError),
        (errors.UnknownName, ImagesetsError),
    ],
)
def test_the_tree_is_the_one_that_is_drawn(
    kind: type[ImagesetsError], base: type[ImagesetsError]
) -> None:
    assert kind.__bases__ == (base,)
