"""A bucket: artefacts in an object store, for many machines; what is read is fetched first.

    tables/mnist/train.<16 hex digits>.parquet   an artefact, named by its SHA-256
    exports/mnist/train_npy.<16>/images.npy      a folder: its files, below a name of that kind
    lineage/tables/mnist/train.parquet.json      its provenance: which of them is the one
    lineage/history/…                            provenance of the past
    tables/mnist/train.parquet                   a copy for people, without a promise

Bytes never change under a name, and provenance is only ever swapped for another where it is still
the one that was read: so no reader finds provenance that contradicts the bytes, no lock is needed,
and a process that is killed leaves at most an object that nobody names (`sweeping` removes it).

The scratch folder is laid out as a data folder is, and holds what is made or read on this machine,
with notes and locks of this machine; it may be deleted at any time. Not here: opening an object
store (`objects`), or what provenance says (`provenance`).
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import logging
import operator
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .. import advice
from ..errors import Conflict, NotAsRecorded, StorageError
from . import clock, hashing, layout, provenance, seen, writing
from .folder import Folder
from .hashing import Identity, Sight
from .objects import Objects
from .provenance import Provenance
from .store import Taking

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

AT_ONCE = 8  # requests side by side
MANY = 50  # artefacts of a dataset: listing all of its objects costs less than asking for each
_LARGEST_COPY_BYTES = 5 << 30  # that a store copies by itself, in one request


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a bucket held at one moment.

    lineage: what it said of all small files.
    files: what some of them hold; None of one that is not there.
    objects: what it said of some objects, by their keys; None of one that is not there.
    folders: the same of the objects of some folders, by the folders' keys.
    """

    lineage: Mapping[str, ObjectMeta]
    files: Mapping[str, bytes | None]
    objects: Mapping[str, ObjectMeta | None]
    folders: Mapping[str, Mapping[str, ObjectMeta]]


@dataclass(frozen=True, slots=True)
class Bucket:
    """What lies below a prefix of an object store.

    objects: those below the prefix.
    scratch: a folder of this machine.
    snapshot: what was there at one moment, where it is only looked at (`at_once`).
    """

    objects: Objects
    scratch: Folder
    snapshot: Snapshot | None = None
    is_folder = False

    def address(self, path: str) -> str:
        """Return the URL of a path."""
        return self.objects.address(path)

    def place(self, path: str) -> Path:
        """Return the place of a path in the scratch folder."""
        return self.scratch.place(path)

    # --- Small files ------------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        """Return what a small file holds; None without one. An empty one was removed.

        Raises:
            StorageError: the store can't be reached.
        """
        if self.snapshot is not None and path in self.snapshot.files:
            return self.snapshot.files[path]
        return self.objects.small(path)[0] or None

    def swap(
        self, path: str, expected: bytes | None, new: bytes | None, *, lasting: bool = True
    ) -> None:
        """Write a small file, or empty it, if it still holds what is expected.

        Stores can write under a condition, and not remove: so an empty file is none.

        Raises:
            Conflict: the file holds something else.
            StorageError: the store can't be written to.
        """
        there, meta = self.objects.small(path)
        if (there or None) != expected:
            raise Conflict(
                f"{self.address(path)} was written by somebody else meanwhile, so it is left as "
                "it is."
            )
        if there is None and new is None:
            return
        self.objects.replace(path, meta, new or b"")

    def forget(self, path: str) -> None:
        """Remove a small file."""
        self.objects.forget(path)

    def names(self, folder: str) -> dict[str, Identity]:
        """Return the paths of all small files below a folder, in order, and what tells of each."""
        found: Iterable[tuple[str, ObjectMeta]]
        if self.snapshot is not None and f"{folder}/".startswith(f"{layout.LINEAGE}/"):
            there = self.snapshot.lineage.items()
            found = ((path, meta) for path, meta in there if path.startswith(f"{folder}/"))
        else:
            found = self.objects.below(f"{folder}/")
        return {path: identity_of(meta) for path, meta in found if meta["size"] > 0}

    # --- Views ------------------------------------------------------------------------------------

    def at_once(self, paths: Iterable[str]) -> Bucket:
        """Return the bucket as it is now, to look at some artefacts; such a view as it is.

        It is decided by what the store lists: which small files there are, and which objects, each
        with its tag and size. A small file is read only if it is not the one that was read here
        before, by its tag; what is listed of many objects is not asked for one by one.

        Raises:
            MadeByNewer: the provenance of one can only be read by a newer Imagesets.
            StorageError: the store can't be reached.
        """
        if self.snapshot is not None:
            return self
        paths = list(dict.fromkeys(paths))
        there = dict(self.objects.below(f"{layout.LINEAGE}/"))
        files = self._read(paths, there)
        view = replace(self, snapshot=Snapshot(there, files, {}, {}))
        known = [one for path in paths if (one := provenance.load(view, path))]
        objects, folders = self._listed(known)
        return replace(self, snapshot=Snapshot(there, files, objects, folders))

    def _read(
        self, paths: Iterable[str], listed: Mapping[str, ObjectMeta]
    ) -> dict[str, bytes | None]:
        """Return what is kept of artefacts in small files, as the store lists them.

        A tag stands for the bytes of an object: where it is the one of before, so are these. What
        had to be read is noted for the next time, in a note for each dataset or source.
        """
        by_note: dict[str, list[str]] = {}
        for path in paths:
            names = by_note.setdefault(layout.seen(f"files/{path.split('/')[1]}"), [])
            names += [layout.lineage(path), layout.judged(path)]
        found, noted = dict[str, bytes | None](), {note: self._noted(note) for note in by_note}
        for note, names in by_note.items():
            for name in names:
                tag, text = noted[note].get(name, ("", ""))
                if name not in listed or listed[name]["size"] == 0:  # that is how one is removed
                    found[name] = None
                elif tag and tag == _tag(listed[name]):
                    found[name] = text.encode()
        new = [(note, name) for note, names in by_note.items() for name in names]
        new = [(note, name) for note, name in new if name not in found]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = list(pool.map(self.objects.small, [name for _, name in new]))
        for (note, name), (content, meta) in zip(new, read, strict=True):
            found[name] = content or None
            tag = _tag(meta) if meta else ""
            if content and not tag.startswith("W/"):  # which stands for nearly these bytes
                with contextlib.suppress(UnicodeDecodeError):
                    noted[note][name] = tag, content.decode()
        for note in dict.fromkeys(note for note, _ in new):
            seen.keep(self, note, {"store": self.objects.url, "files": noted[note]})
        return found

    def _noted(self, note: str) -> dict[str, tuple[str, str]]:
        """Return name → tag and content of the small files that a note tells of."""
        found = dict[str, tuple[str, str]]()
        for said in seen.kept(self, note):
            match said:
                case {"store": self.objects.url, "files": dict(files)}:
                    for name, one in files.items():
                        match one:
                            case [str(tag), str(content)]:
                                found[name] = tag, content
        return found

    def _listed(
        self, known: Iterable[Provenance]
    ) -> tuple[dict[str, ObjectMeta | None], dict[str, dict[str, ObjectMeta]]]:
        """Return what the store says of the objects of artefacts; of folders only if it is listed.

        Of a dataset, or source, of which there are many, all objects are listed.
        """
        by_folder: dict[str, list[Provenance]] = {}
        for one in known:
            by_folder.setdefault("/".join(one.path.split("/")[:2]), []).append(one)
        listed = [folder for folder, ones in by_folder.items() if len(ones) >= MANY]
        asked = [
            stored(one.path, one.sha256)
            for folder, ones in by_folder.items()
            if folder not in listed
            for one in ones
            if one.files is None
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            objects = dict(zip(asked, pool.map(self._head_or_none, asked), strict=True))
            below = list(pool.map(lambda folder: [*self.objects.below(f"{folder}/")], listed))
        folders: dict[str, dict[str, ObjectMeta]] = {}
        for folder, found in zip(listed, below, strict=True):
            metas = dict(found)
            for one in by_folder[folder]:
                key = stored(one.path, one.sha256)
                if one.files is None:
                    objects[key] = metas.get(key)
                else:
                    name = operator.itemgetter(0)  # they are in order, and 0 comes after the slash
                    first = bisect.bisect_left(found, f"{key}/", key=name)
                    folders[key] = dict(
                        found[first : bisect.bisect_left(found, f"{key}0", key=name)]
                    )
        return objects, folders

    def _head_or_none(self, key: str) -> ObjectMeta | None:
        with contextlib.suppress(FileNotFoundError):
            return self.objects.head(key)
        return None

    # --- Artefacts --------------------------------------------------------------------------------

    def stat(self, path: str) -> Identity | None:
        """Return what tells of an artefact, or of a small file; None without one."""
        with contextlib.suppress(FileNotFoundError):
            return self.look(path).identity
        with contextlib.suppress(FileNotFoundError):
            if path.startswith(f"{layout.LINEAGE}/") and (meta := self._head(path))["size"]:
                return identity_of(meta)
        return None

    def look(self, path: str, *, anew: bool = False) -> Sight:
        """Return what was seen of the artefact that provenance names; read its bytes `anew`.

        An object of the recorded size has the bytes that it is named after, unless some were read
        here that are not. One that was read here, and has another tag since, is read again.

        Raises:
            FileNotFoundError: no provenance names one, or it is not there.
            StorageError: the store can't be reached.
        """
        known = provenance.load(self, path)
        if known is None:
            raise FileNotFoundError(f"nothing names an object at {self.address(path)}")
        recorded = (
            {"": known.sha256}
            if known.files is None
            else {file.path: file.sha256 for file in known.files}
        )

        def sight(name: str, meta: ObjectMeta) -> Sight:
            return self._sight(meta, recorded.get(name), anew=anew)

        metas = self._metas(known)
        if not anew:
            return hashing.joined({name: sight(name, meta) for name, meta in metas.items()})
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sights = dict(zip(metas, pool.map(sight, metas, metas.values()), strict=True))
        return hashing.joined(sights)

    def _metas(self, known: Provenance) -> dict[str, ObjectMeta]:
        """Return name → what the store says of each file of an artefact; "" of a file itself."""
        key = stored(known.path, known.sha256)
        if known.files is None:
            return {"": self._head(key)}
        if self.snapshot is not None and key in self.snapshot.folders:
            found = self.snapshot.folders[key]
        else:
            found = dict(self.objects.below(f"{key}/"))
        there = {path.removeprefix(f"{key}/"): meta for path, meta in found.items()}
        if known.files and not there:
            raise FileNotFoundError(f"{self.address(key)} is not there")
        # Whatever else somebody put there is named by nothing, so it is no part of it.
        return {file.path: there[file.path] for file in known.files if file.path in there}

    def _sight(self, meta: ObjectMeta, recorded: str | None, *, anew: bool) -> Sight:
        identity, note = identity_of(meta), layout.seen(f"{meta['path']}.object")
        noted = [sight for said in seen.kept(self, note) if (sight := seen.sight_of(said))]
        same = (one for one in noted if one.identity.inode == identity.inode)
        before = next((one for one in same if one.identity.size_bytes == meta["size"]), None)
        if before is not None and not anew:
            return before
        if recorded is not None and not anew and not noted:
            return Sight(recorded, identity, clock.told(meta["last_modified"].timestamp()))
        looked, digest = clock.now(), hashlib.sha256()
        for piece in self.objects.pieces(meta["path"]):
            digest.update(piece)
        sight = Sight(digest.hexdigest(), identity, looked)
        seen.keep(self, note, seen.said_of(sight))
        return sight

    def _head(self, key: str) -> ObjectMeta:
        if self.snapshot is not None and key in self.snapshot.objects:
            if (there := self.snapshot.objects[key]) is None:
                raise FileNotFoundError(self.address(key))
            return there
        return self.objects.head(key)

    def local(self, path: str) -> Path:
        """Return where an artefact can be read, fetched if it is not here as provenance says.

        Of a folder that holds artefacts, all of them are fetched.

        Raises:
            StorageError: the store can't be reached, or gives other bytes than recorded.
        """
        if not self._have(path):
            for name in self.names(f"{layout.LINEAGE}/{path}"):
                self._have(artefact_of(name))
        return self.place(path)

    def _have(self, path: str) -> bool:
        """Fetch an artefact that may be replaced meanwhile; return whether there is one."""
        known = provenance.load(self, path)
        while known is not None:
            try:
                self._fetch(known)
                return True
            except FileNotFoundError as error:
                if (now := provenance.load(self, path)) == known:
                    raise NotAsRecorded(
                        f"{self.address(stored(path, known.sha256))} is not there, though "
                        f"provenance names it. {advice.AGAIN}: what is missing is made anew."
                    ) from error
                known = now
        return False

    def _fetch(self, known: Provenance) -> None:
        """Have an artefact in the scratch folder, unless what is there is known to be it.

        Raises:
            FileNotFoundError: it is not there.
            StorageError: the store can't be reached, or gives other bytes than recorded.
        """
        if self._has(known):
            return
        place = self.place(known.path)
        with writing.locked(place.with_name(f"{place.name}.fetched")):
            if self._has(known):  # another process here fetched it meanwhile
                return
            staged = place.with_name(f".{place.name}.fetched.partial")
            writing.remove(staged)
            try:
                if known.files is not None:
                    with writing.storage_errors(staged):
                        staged.mkdir()
                for name, meta in self._metas(known).items():
                    goal = staged / name if name else staged
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    with writing.storage_errors(goal), writing.hashed(goal) as write:
                        for piece in self.objects.pieces(meta["path"]):
                            write(piece)
                sight = hashing.remembered(staged) or hashing.look(staged)
                if not provenance.is_of(known, sight):
                    raise NotAsRecorded(
                        f"{self.address(known.path)} has other bytes than recorded: expected "
                        f"SHA-256 {known.sha256}, found {sight.sha256}. Find what else is wrong: "
                        f"{advice.VERIFY}"
                    )
                self.scratch.publish(staged, known.path)
            finally:
                writing.remove(staged)
        if (here := hashing.remembered(place)) is not None:
            seen.note(self, known.path, here)

    def _has(self, known: Provenance) -> bool:
        with contextlib.suppress(OSError):
            return provenance.is_of(known, seen.look(self, known.path))
        return False

    def publish(self, staged: Path, path: str) -> None:
        """Send a finished local file, or a folder, under the name of its content; keep it here.

        Nobody finds it before provenance names it.

        Raises:
            StorageError: the store can't be written to.
        """
        self._send(path, staged)
        self.scratch.publish(staged, path)

    def _send(self, path: str, here: Path) -> str:
        """Send what lies at a local path; return its SHA-256."""
        sight = hashing.remembered(here) or hashing.look(here)
        key = stored(path, sight.sha256)

        def send(name: str) -> None:
            goal = f"{key}/{name}" if name else key
            self.objects.send(goal, here / name if name else here)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(send, hashing.names(here)))
        return sight.sha256

    def take(self, path: str, made: Path | None, taking: Taking) -> None:
        """Send an artefact, then swap its provenance for the one before.

        Raises:
            Conflict: somebody else made it meanwhile.
            StorageError: the store can't be written to.
        """
        if made is None:
            self._send(path, self.place(path))
        else:
            self.publish(made, path)
        if taking.past is not None and taking.before is not None:
            self._keep(taking.past, taking.before)  # first: who is killed in between loses nothing
        self.swap(layout.lineage(path), taking.before, taking.said)
        self._copy_for_people(path, taking)

    def retire(self, path: str, said: bytes, past: str) -> None:
        """Let the provenance of an artefact, as it lay there, be one of the past.

        Raises:
            Conflict: another one is there by now.
            StorageError: the store can't be written to.
        """
        self._keep(past, said)
        self.swap(layout.lineage(path), said, None)

    def _keep(self, past: str, said: bytes) -> None:
        with contextlib.suppress(Conflict):  # it was kept before
            self.swap(past, None, said)

    def _copy_for_people(self, path: str, taking: Taking) -> None:
        """Let the store copy a file to the name that people know; nothing relies on it."""
        if layout.is_archive(path) or self.place(path).is_dir():
            return
        try:
            if self.place(path).stat().st_size <= _LARGEST_COPY_BYTES:
                self.objects.copy(stored(path, taking.sha256), path)
            if taking.beside is not None:
                self.objects.send(*taking.beside)
        except (StorageError, OSError) as error:
            logger.warning("%s: no copy for people was made: %s", self.address(path), error)


@functools.cache
def opened(address: str, scratch: Path) -> Bucket:
    """Return the bucket at an address: one for all who ask, since its connections are kept.

    Raises:
        StorageError: obstore is not installed, or the address names no store.
    """
    return Bucket(Objects.at(address), Folder(scratch))


def stored(path: str, sha256: str) -> str:
    """Return the key of an artefact with some bytes."""
    named = PurePosixPath(path)
    return str(named.with_name(f"{named.stem}.{sha256[:16]}{named.suffix}"))


def artefact_of(lineage: str) -> str:
    """Return the path of the artefact whose provenance lies at a path."""
    return lineage.removeprefix(f"{layout.LINEAGE}/").removesuffix(".json")


def identity_of(meta: ObjectMeta) -> Identity:
    """Return what tells of an object: its tag stands for its bytes, where a file has an inode.

    It is the same whether the object was asked for or listed. Stores that tell its time to the
    second where it is asked for, or put its tag in quotes, may not do so in a list; and a list says
    nothing of versions.
    """
    tag = _tag(meta) or f"{meta['version']} {meta['last_modified']}"
    when = int(meta["last_modified"].timestamp()) * 10**9
    stands_for = hashlib.sha256(tag.encode()).digest()
    return Identity(meta["size"], when, when, int.from_bytes(stands_for[:7]))


def _tag(meta: ObjectMeta) -> str:
    """Return the tag that a store gives an object with these bytes; nothing where it gives none."""
    return (meta["e_tag"] or "").strip('"')
