"""Images that are files of their own, PNG or JPEG, below a folder of a zip or a tar: a record each.

    EuroSAT_RGB/Forest/Forest_1.jpg                     the class is the folder
    tiny-imagenet-200/train/n01443537/images/….JPEG     `folders` says whose it is
    tiny-imagenet-200/val/images/val_0.JPEG             the class stands in a file of labels
    tiny-imagenet-200/test/images/test_0.JPEG           no class: the split is not `labelled`

Records come by class, in the order of the classes, and within a class by the names of their files,
code point by code point. Where a file of labels lists them, they come in its order; without labels,
by name. A file of labels has a line for each image: its path below the folder, a tab, the class (as
its folder is called), and what else the publisher says behind another tab. The last line ends, too.

Files are left out that are hidden or lie in a hidden folder or `__MACOSX`, and those whose names do
not end in .png, .jpg or .jpeg. All others are records: one in no class's folder is refused, and so
is a folder, a link, or a name that stands there twice.

Before anything is decoded, the bytes are walked through: the kind is that of the name, width and
height are the declared ones, no chunk or segment leads outside, checksums are right (PNG), and the
last byte is the last of the image: nothing may follow. Not read: 16 bits, an alpha channel, colours
for print, animations, and JPEG that is not baseline or progressive. Grey of 1, 2, 4 bits and
palettes become 0–255; where colours are declared, grey is an error unless `grey` says what to do.
What is said of orientation, gamma or colour profiles is not applied: records are what is stored.

Pillow decodes. Of PNG there is one result. JPEG leaves decoders room, so that pixels may differ a
little where Pillow brings another libjpeg: a table's provenance tells the versions of both.

Not here: how files are found and read in archives (`archives.members`).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .. import advice
from ..declarations import Dataset, Member, Split
from ..errors import FormatError, did_you_mean
from ..records import Batch, ByteStream, Labels, Members, OpenMember, Pixels, Place, label_type
from ..threads import WORKERS
from . import Format, Role

KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

_MOST_LABELS_BYTES = 64 << 20
_MORE_BYTES = 1 << 20  # than four times its pixels, that a file may have: names, profiles, previews
_MOST_SCANS = 100  # of a progressive JPEG, each of which costs a pass over all pixels
_TOGETHER = 64  # files that a thread decodes at a time
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # that ends a scan
_IS_LINEAR = frozenset([0xC0, 0xC1, 0xC2])  # baseline, extended, progressive; 8 bits, Huffman
_IS_FRAME = frozenset([*range(0xC0, 0xD0)]) - {0xC4, 0xC8, 0xCC}

_PLAIN = {"1": "L", "P": "RGB"}  # what Pillow makes of one bit, and of a palette

# What Pillow raises on damaged input.
_DAMAGE: tuple[type[Exception], ...] = (ArithmeticError, AttributeError, EOFError, LookupError)
_DAMAGE += (MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError, UserWarning)
_DAMAGE += (struct.error, zlib.error)


class _File(NamedTuple):
    """An image: where it lies, its class, and between which bytes its line of labels stands."""

    member: Member
    label: int
    line: tuple[int, int] = (0, 0)


class _Header(NamedTuple):
    """What an image says of itself; `entries` is how many colours its palette has."""

    kind: str
    width: int
    height: int
    entries: int = 0


def decode(
    open_member: OpenMember, dataset: Dataset, split: Split, batch_records: int
) -> Generator[Batch]:
    """Yield the records of a split, a file each; threads decode them, in no order that shows.

    Raises:
        FormatError: the files, their number or one of them differ from what is declared, or nothing
            is here that decodes them.
    """
    decoder = _decoder()
    files = _files(open_member, open_member.below, dataset, split)
    if len(files) != split.records:
        raise FormatError(
            f"{_folder(split)}: {split.records:,} records are declared, but there are "
            f"{len(files):,} images below it."
        )
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="images") as pool:
        for start in range(0, len(files), batch_records):
            some = files[start : start + batch_records]
            pixels = np.empty((len(some), *dataset.image.shape), np.uint8)
            waiting: list[Future[None]] = []
            for at in range(0, len(some), _TOGETHER):
                read = [
                    (str(file.member), _read(open_member(file.member), dataset))
                    for file in some[at : at + _TOGETHER]
                ]
                if len(waiting) > 2 * WORKERS:  # so many are read and not yet decoded, at most
                    waiting.pop(0).result()
                waiting.append(pool.submit(_fill, pixels[at:], read, dataset, decoder))
            for one in waiting:
                one.result()
            yield Batch(pixels, _labels(some, dataset) if split.labelled else None)


def locate(dataset: Dataset, split: Split, index: int, members: Members) -> list[Place]:
    """Return where a record stands: its whole file, and its line where there is one of labels.

    Raises:
        FormatError: the files are not those that are declared.
    """
    key = (split.members["files"], split.members.get("labels"))
    if key not in members.noted:
        members.noted[key] = _files(members.open, members.below, dataset, split)
    files: list[_File] = members.noted[key]
    if index >= len(files):
        raise FormatError(f"{_folder(split)}: there are {len(files):,} images below it.")
    file = files[index]
    places = [Place("files", file.member, 0, members.size_bytes(file.member))]
    for labels in split.members.get("labels", ()):
        places.append(Place("labels", labels, *file.line))
    return places


def assemble(
    dataset: Dataset, split: Split, places: Sequence[Place], parts: Sequence[bytes]
) -> Batch:
    """Return the record of a file, and of its line of labels.

    Raises:
        FormatError: the file is no image as is declared, or its class is none.
    """
    classes, member = _classes(dataset), places[0].member
    pixels = np.empty((1, *dataset.image.shape), np.uint8)
    _fill(pixels, [(str(member), parts[0])], dataset, _decoder())
    if not split.labelled:
        return Batch(pixels)
    if "labels" in split.members:
        _, word = _words(parts[1], "its line")
        label = _class_called(word, classes, "its line")
    else:
        label = _class_of(_below(member, split), classes, str(member))
    return Batch(pixels, _labels([_File(member, label)], dataset))


def refuses(dataset: Dataset) -> Iterator[str]:
    """Yield what no folders of images could hold of such a dataset."""
    if dataset.orientation != "upright" or dataset.coarse_classes or dataset.columns:
        yield "format images has upright images, no coarse_classes and no columns"
    if dataset.first_label or dataset.class_labels:
        yield "format images has names of classes, and no numbers: first_label and class_labels"
    if dataset.folders and len(dataset.folders) != len(dataset.classes):
        yield (
            f"folders: expected {len(dataset.classes)}, one for each class, found "
            f"{len(dataset.folders)}"
        )
    folders = dataset.folders or dataset.classes
    known = {*folders}
    if dataset.folders and len(known) < len(folders):
        yield "folders: two classes have the same"
    for folder in folders:
        steps = folder.split("/")
        if {"", ".", ".."} & {*steps}:
            yield f"folders: {folder!r} is no plain path inside an archive"
        if any("/".join(steps[:depth]) in known for depth in range(1, len(steps))):
            yield f"folders: {folder} lies in the folder of another class"
    archives = {m.archive for one in dataset.splits.values() for m in one.members.get("files", ())}
    for archive in sorted(name for name in archives if not name.endswith((".zip", ".tar"))):
        yield (
            f"files: {archive} is neither a zip nor a plain tar, of which each file can be reached "
            "without what lies before it"
        )
    if dataset.grey and dataset.image.channels == 1:
        yield "grey: images of one channel are grey anyway"


# --- Which files there are ------------------------------------------------------------------------


def _files(
    open_member: Callable[[Member], ByteStream],
    below: Callable[[Member], Sequence[Member]],
    dataset: Dataset,
    split: Split,
) -> list[_File]:
    """Return the images of a split in the order of its records.

    Raises:
        FormatError: they are not those that are declared.
    """
    classes, folder = _classes(dataset), _folder(split)
    found = {_below(member, split): member for member in below(folder)}
    found = {path: member for path, member in found.items() if _is_image(path)}
    if not split.labelled:
        return [_File(member, 0) for member in found.values()]
    if "labels" in split.members:
        [labels] = split.members["labels"]
        files = _listed(open_member(labels), found, classes, folder)
    else:
        files = [
            _File(member, _class_of(path, classes, str(member))) for path, member in found.items()
        ]
        files.sort(key=lambda file: file.label)  # which leaves those of a class in their order
    if split.counts:
        there = Counter(file.label for file in files)
        for label, count in enumerate(split.counts):
            if there[label] != count:
                raise FormatError(
                    f"{folder}: {count:,} images of class {dataset.classes[label]} are declared, "
                    f"but there are {there[label]:,}."
                )
    return files


def _is_image(path: str) -> bool:
    """Whether a file is a record, and not something that came along."""
    steps = path.split("/")
    if any(step.startswith(".") or step == "__MACOSX" for step in steps):
        return False
    return PurePosixPath(path).suffix.lower() in KINDS


def _listed(
    labels: ByteStream, found: Mapping[str, Member], classes: Mapping[str, int], folder: Member
) -> list[_File]:
    """Return the images that a file of labels lists, which must be those that there are.

    Raises:
        FormatError: it lists others, or one twice, or breaks off.
    """
    data = _bytes(labels, _MOST_LABELS_BYTES)
    files: dict[str, _File] = {}
    at = 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        where = f"{labels.name}, line {number:,}"
        path, word = _words(line, where)
        if path not in found:
            raise FormatError(f"{where}: there is no image {path!r:.200} below {folder}.")
        if path in files:
            raise FormatError(f"{where}: {path!r:.200} stands there twice.")
        label = _class_called(word, classes, where)
        files[path] = _File(found[path], label, (at, at + len(line)))
        at += len(line)
    if left := sorted(found.keys() - files.keys()):
        raise FormatError(
            f"{labels.name}: {len(left):,} of the images below {folder} do not stand there, such "
            f"as {left[0]!r:.200}."
        )
    return [*files.values()]


def _words(line: bytes, where: str) -> tuple[str, str]:
    """Return the path and the class that a line tells.

    Raises:
        FormatError: it tells none.
    """
    words = line.removesuffix(b"\n").removesuffix(b"\r").split(b"\t")
    if len(words) < 2 or not line.endswith(b"\n"):
        raise FormatError(
            f"{where}: expected the path of an image, a tab, its class, and the end of a line; "
            f"found {line!r:.80}."
        )
    try:
        return words[0].decode(), words[1].decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: {line!r:.80} is no UTF-8.") from error


def _classes(dataset: Dataset) -> dict[str, int]:
    """Return the folder of each class, and its label."""
    return {folder: label for label, folder in enumerate(dataset.folders or dataset.classes)}


def _class_called(word: str, classes: Mapping[str, int], where: str) -> int:
    if word not in classes:
        raise FormatError(f"{where}: there is no class {word!r:.80}.{did_you_mean(word, classes)}")
    return classes[word]


def _class_of(path: str, classes: Mapping[str, int], where: str) -> int:
    """Return the label of a file by the folder that it lies in."""
    steps = path.split("/")
    for depth in range(1, len(steps)):
        if (label := classes.get("/".join(steps[:depth]))) is not None:
            return label
    inside = path.rpartition("/")[0]
    raise FormatError(
        f"{where}: it lies in the folder of no class.{did_you_mean(inside, classes)} The catalogue "
        "has a folder for each class, called like it, or as `folders` says."
    )


def _folder(split: Split) -> Member:
    [folder] = split.members["files"]
    return folder


def _below(member: Member, split: Split) -> str:
    """Return the path of a file below the folder of the split."""
    folder = _folder(split).path
    return member.path[len(folder) + 1 :] if folder else member.path


def _labels(files: Sequence[_File], dataset: Dataset) -> Labels:
    found: Labels = np.array([file.label for file in files], label_type(len(dataset.classes)))
    return found


# --- What an image says of itself -----------------------------------------------------------------


def _read(stream: ByteStream, dataset: Dataset) -> bytes:
    return _bytes(stream, _MORE_BYTES + 4 * dataset.image.size_bytes)


def _bytes(stream: ByteStream, most_bytes: int) -> bytes:
    """Return all of a member.

    Raises:
        FormatError: it is longer than such a member can be.
    """
    data = bytearray()
    piece = memoryview(bytearray(1 << 14))
    while got := stream.readinto(piece):
        data += piece[:got]
        if len(data) > most_bytes:
            raise FormatError(
                f"{stream.name}: expected at most {most_bytes:,} bytes, but it goes on."
            )
    return bytes(data)


def _header(name: str, data: bytes) -> _Header:
    """Walk through the bytes of an image and return what it says of itself.

    Raises:
        FormatError: it is of another kind than its name says, breaks off, goes on after its end, or
            has what is not read.
    """
    kind = KINDS[PurePosixPath(name).suffix.lower()]
    magic, walk = {"PNG": (_PNG, _png), "JPEG": (_JPEG, _jpeg)}[kind]
    if not data.startswith(magic):
        raise FormatError(
            f"{name}: its name is that of a {kind}, which begins {magic.hex()}; found "
            f"{data[: len(magic)].hex() or 'nothing'}."
        )
    try:
        header, end = walk(name, data)
    except (IndexError, struct.error) as error:
        raise FormatError(f"{name}: the {kind} breaks off, after {len(data):,} bytes.") from error
    if end != len(data):
        raise FormatError(
            f"{name}: the {kind} ends after {end:,} bytes, but the file goes on to {len(data):,}."
        )
    return header


def _png(name: str, data: bytes) -> tuple[_Header, int]:
    """Return what a PNG says of itself, and where it ends."""
    at, kind, header = len(_PNG), b"", None
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        [checksum] = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(data[at + 4 : end - 4]) != checksum:
            raise FormatError(f"{name}: the checksum of its PNG chunk {kind!r} is another.")
        if header is None:
            if (kind, size) != (b"IHDR", 13):
                raise FormatError(f"{name}: a PNG begins with IHDR of 13 bytes, not with {kind!r}.")
            width, height, depth, colours = struct.unpack_from(">IIBB", data, at + 8)
            if depth not in (1, 2, 4, 8) or colours not in (0, 2, 3):
                raise FormatError(
                    f"{name}: expected grey, RGB or a palette of at most 8 bits; found a PNG of "
                    f"{depth} bits and colour type {colours}{' (alpha)' * (colours in (4, 6))}."
                )
            header = _Header("PNG", width, height)
        elif kind in (b"acTL", b"tRNS"):
            what = "an animation" if kind == b"acTL" else "a transparent colour"
            raise FormatError(f"{name}: its PNG chunk {kind.decode()} makes it {what}: not read.")
        elif kind == b"PLTE":
            header = header._replace(entries=size // 3)
        at = end
    assert header is not None  # the first chunk is one, or refused
    return header, at


def _jpeg(name: str, data: bytes) -> tuple[_Header, int]:
    """Return what a JPEG says of itself, and where it ends."""
    at, scans, header = 2, 0, None
    while True:
        if data[at] != 0xFF:
            raise FormatError(f"{name}: expected a JPEG marker at byte {at:,}, found none.")
        while (marker := data[at]) == 0xFF:
            at += 1
        at += 1
        if marker == 0xD9:
            break
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            raise FormatError(f"{name}: JPEG marker {marker:02x} has no place at byte {at:,}.")
        [size] = struct.unpack_from(">H", data, at)
        if marker in _IS_FRAME:
            if header is not None:
                raise FormatError(f"{name}: the JPEG has several images.")
            bits, height, width, colours = struct.unpack_from(">BHHB", data, at + 2)
            if marker not in _IS_LINEAR or bits != 8 or colours not in (1, 3):
                raise FormatError(
                    f"{name}: expected a baseline or progressive JPEG of 8 bits, grey or RGB; "
                    f"found kind {marker:02x} of {bits} bits and {colours} colours."
                )
            header = _Header("JPEG", width, height)
        at += size
        if marker == 0xDA:
            scans += 1
            if scans > _MOST_SCANS:
                raise FormatError(f"{name}: a JPEG has at most {_MOST_SCANS} scans.")
            if (found := _MARKER.search(data, at)) is None:
                raise IndexError
            at = found.start()
    if header is None or not scans:
        raise FormatError(f"{name}: the JPEG ends without an image.")
    return header, at


# --- Decoding -------------------------------------------------------------------------------------


def _decoder() -> ModuleType:
    """Return what decodes.

    Raises:
        FormatError: it is not here; with the command that installs it.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise FormatError(f"PNG and JPEG: {advice.how_to_install(error)}") from error
    return Image


def _fill(
    pixels: Pixels, files: Sequence[tuple[str, bytes]], dataset: Dataset, decoder: ModuleType
) -> None:
    """Decode files, each with its name, into the first of these records.

    Raises:
        FormatError: one is no image as is declared.
    """
    for record, (name, data) in zip(pixels, files, strict=False):
        found = _pixels(name, data, dataset, decoder)
        record[:] = np.frombuffer(found, np.uint8).reshape(*dataset.image.shape[:2], -1)


def _pixels(name: str, data: bytes, dataset: Dataset, decoder: ModuleType) -> bytes:
    """Return the pixels of an image: channels last, one where grey may stand for all."""
    header, shape = _header(name, data), dataset.image
    if (header.width, header.height) != (shape.width, shape.height):
        raise FormatError(
            f"{name}: {shape.width:,} pixels wide and {shape.height:,} high is declared, but the "
            f"{header.kind} says {header.width:,} wide and {header.height:,} high."
        )
    try:
        with decoder.open(io.BytesIO(data), formats=[header.kind]) as image:
            image.load()
            if image.size != (shape.width, shape.height):
                raise ValueError(f"decoded, its size is {image.size}")
            mode, plain = image.mode, image
            if mode == "P" and (most := image.getextrema()[1]) >= header.entries:
                raise ValueError(f"colour {most} of a palette of {header.entries}")
            if mode in _PLAIN:
                plain = image.convert(_PLAIN[mode])
            found: bytes = plain.tobytes()
    except (*_DAMAGE, decoder.DecompressionBombError) as error:
        raise FormatError(
            f"{name}: the {header.kind} is damaged ({type(error).__name__}: {error})."
        ) from error
    is_grey = plain.mode == "L"
    if mode == "P" and shape.channels == 1 and found[::3] == found[1::3] == found[2::3]:
        return found[::3]
    if is_grey if shape.channels == 1 else plain.mode == "RGB" or (is_grey and dataset.grey):
        return found
    if is_grey:
        raise FormatError(
            f"{name}: colours are declared, but it is grey ({mode}). Where grey images are to have "
            'the same in all three channels, declare grey = "repeated" of the dataset.'
        )
    raise FormatError(f"{name}: grey is declared, but it has other colours ({mode}).")


FORMAT = Format(
    name="images",
    roles={
        "files": Role(holds=("label", "pixels"), is_folder=True),
        "labels": Role(holds=("label",), is_optional=True),
    },
    code_version="1",
    decode=decode,
    locate=locate,
    assemble=assemble,
    refuses=refuses,
    libraries=("pillow", "libjpeg-turbo"),
)
