"""Every way to refuse, drawn as a tree. Nothing here decides or does anything.

ImagesetsError
├── CatalogueError          a declaration is wrong (lists every problem of every file)
├── UnknownName             a name that nobody declared
├── ArchiveError            the publisher's files
│   ├── ArchiveUnavailable  no mirror gave the declared bytes (lists every attempt)
│   ├── DownloadFailed      one mirror can't give a file
│   │   ├── OutOfReach      its host does not answer as it should, however often it is asked
│   │   └── TooSlow         it could, but too slowly
│   ├── WrongBytes          a file is there, and is not what the catalogue declares
│   │   └── WrongHash       it is whole: only its MD5 or SHA-256 is another
│   └── MemberError         an archive lacks a member, or holds it damaged or unsafely
├── FormatError             a member's bytes break their format, or the declaration
├── NoLabels                labels are asked for of a split whose publisher gives none
├── MadeByNewer             provenance in a format that only a newer Imagesets can read
├── StaleInput              what an artefact is made from is missing or out of date itself
├── TableError              a Parquet file is not a table of ours, or lacks the rows asked for
├── ArtefactError           an artefact is not there, lacks the row asked for, or is out of shape
└── StorageError            the data folder can't be written: rights, space, a file in the way
    ├── Conflict            somebody else wrote there meanwhile
    └── NotAsRecorded       it gives other bytes than provenance says, or none

Every error takes one sentence or more that say what was expected, what was found, where, and what
to do next. All arguments are in `args`, so errors survive pickling between processes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImagesetsError(Exception):
    """Base of everything that Imagesets raises on purpose.

    The first argument is the message. Some have a second one, for callers that go on by it.
    """

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0]) if self.args else ""


class CatalogueError(ImagesetsError):
    """A catalogue file can't be read, or declares something impossible."""


class UnknownName(ImagesetsError):
    """A dataset, stage or source that the catalogue does not have."""


class ArchiveError(ImagesetsError):
    """Base of what goes wrong with the publisher's files."""


class ArchiveUnavailable(ArchiveError):
    """No mirror gave the declared bytes.

    The second argument says whether it may pass by itself: a place did not answer as it should.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        """Keep both arguments, so that the error survives pickling."""
        super().__init__(message, may_pass)
        self.may_pass = may_pass


class DownloadFailed(ArchiveError):
    """One mirror can't give a file; another may."""


class OutOfReach(DownloadFailed):
    """A mirror's host does not answer as it should.

    The second argument says whether that is news: no other file of the host failed so before.
    """

    def __init__(self, message: str, is_news: bool = True) -> None:
        """Keep both arguments, so that the error survives pickling."""
        super().__init__(message, is_news)
        self.is_news = is_news


class TooSlow(DownloadFailed):
    """A mirror stayed below the least rate, given as the second argument in bytes per second."""

    def __init__(self, message: str, rate: float) -> None:
        """Keep both arguments, so that the error survives pickling."""
        super().__init__(message, rate)
        self.rate = rate


class WrongBytes(ArchiveError):
    """A file exists, but its size, MD5 or SHA-256 differs from the declaration."""


class WrongHash(WrongBytes):
    """A whole file, with another hash than declared.

    The second argument says whether the MD5 at least is the declared one: then no damage on the way
    explains it.
    """

    def __init__(self, message: str, md5_is_right: bool = False) -> None:
        """Keep both arguments, so that the error survives pickling."""
        super().__init__(message, md5_is_right)
        self.md5_is_right = md5_is_right


class MemberError(ArchiveError):
    """An archive lacks a member, or the member is unsafe, damaged or of the wrong size."""


class FormatError(ImagesetsError):
    """A member's bytes break the rules of their format, or differ from what the split declares."""


class NoLabels(ImagesetsError):
    """Labels are asked for of records that have none."""


class MadeByNewer(ImagesetsError):
    """Provenance is sound, but of a format that this version does not know."""


class StaleInput(ImagesetsError):
    """An artefact can't be made yet: what it is made from is missing or out of date."""


class TableError(ImagesetsError):
    """A Parquet file is not one of our tables, or does not have the rows asked for."""


class ArtefactError(ImagesetsError):
    """An artefact is not there, lacks the row asked for, or holds something else in its place."""


class StorageError(ImagesetsError):
    """The data folder refuses to be written to."""


class Conflict(StorageError):
    """Somebody else wrote in a place of the store between looking at it and writing."""


class NotAsRecorded(StorageError):
    """What lies in a store is not what its provenance says, or can't be read."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
