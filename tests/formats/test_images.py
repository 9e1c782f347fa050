"""Images that are files: what other programs wrote comes back; what breaks an image is refused."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines import catalogue, tables
from pipelines.declarations import Member
from pipelines.errors import CatalogueError, FormatError, MemberError
from pipelines.formats import images
from pipelines.records import Batch, Members
from tests import builders
from tests.builders import Tiny, as_toml

CLASSES = ("birch", "ash", "cedar/red", "dogwood")  # in no order of letters, and one of two steps


def saved(pixels: Any, kind: str = "PNG", mode: str | None = None, **more: Any) -> bytes:
    """An image as Pillow writes it."""
    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    image = Image.fromarray(squeezed)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **more)
    return file.getvalue()


def flat(intensity: int) -> bytes:
    """A PNG of 4×3 pixels of one intensity."""
    return saved(np.full((4, 3), intensity, np.uint8))


def opened(data: bytes) -> Any:
    """An image as Pillow reads it, channels last."""
    found = np.asarray(Image.open(io.BytesIO(data)))
    return found[..., np.newaxis] if found.ndim == 2 else found


def tiny(
    folder: Path,
    files: Mapping[str, bytes],
    records: int,
    shape: tuple[int, int, int] = (4, 3, 1),
    *,
    split: Mapping[str, Any] | None = None,
    **dataset: Any,
) -> Tiny:
    """A split of files in `images.zip/all`, in a real zip and in memory."""
    members = {f"images.zip/{name}": data for name, data in files.items()}
    archive = builders.zipped(files)
    height, width, channels = shape
    facts = {
        "title": "Tiny",
        "format": "images",
        "image": {"height": height, "width": width, "channels": channels},
        "classes": list(CLASSES),
        **dataset,
    }
    declared = {"records": records, "files": "images.zip/all", **(split or {})}
    toml = builders.declare({"images.zip": archive}) + "[datasets.tiny]\n" + as_toml(facts)
    toml += "[datasets.tiny.splits.train]\n" + as_toml(declared).replace("False", "false")
    for name, data in (("catalogue/tiny.toml", toml.encode()), ("archives/images.zip", archive)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    source = catalogue.load(folder / "catalogue").sources["tiny"]
    made = source.datasets["tiny"]
    return Tiny(source, made, made.splits["train"], members, folder / "archives")


def decoded(found: Tiny, members: Mapping[str, bytes] | None = None, batch: int = 4) -> Batch:
    opener = builders.opener(found.members if members is None else members)
    return Batch.joined([*images.decode(opener, found.dataset, found.split, batch)])


@st.composite
def splits(draw: st.DrawFn) -> Callable[[Path], tuple[Tiny, Batch]]:
    """Any split of PNG or JPEG files: by folders, by a file of labels, or without labels."""
    channels = draw(st.sampled_from([1, 3]))
    pixels, values = draw(builders.some_records(channels, len(CLASSES)))
    kind = draw(st.sampled_from(["PNG", "JPEG"]))
    suffix = {"PNG": ".png", "JPEG": draw(st.sampled_from([".jpg", ".JPEG"]))}[kind]
    way = draw(st.sampled_from(["folders", "labels", "unlabelled"]))
    is_shuffled = draw(st.booleans())

    def publish(folder: Path) -> tuple[Tiny, Batch]:
        order = np.argsort(values, kind="stable") if way == "folders" else np.arange(len(values))
        data = [saved(one, kind) for one in pixels[order]]
        labels = values[order]
        places = [f"{CLASSES[label]}/" if way == "folders" else "" for label in labels]
        files = {
            f"all/{place}{number:03}{suffix}": one
            for number, (place, one) in enumerate(zip(places, data, strict=True))
        }
        split: dict[str, Any] = {"counts": builders.counts(values, len(CLASSES))}
        if way == "labels":
            rows = [name.removeprefix("all/") for name in files]
            if is_shuffled:  # the records come as it lists them
                rows.reverse()
                data.reverse()
                labels = labels[::-1]
            lines = (f"{row}\t{CLASSES[n]}\t0\n" for row, n in zip(rows, labels, strict=True))
            files["labels.txt"] = "".join(lines).encode()
            split["labels"] = "images.zip/labels.txt"
        if way == "unlabelled":
            split = {"labelled": False}
        if is_shuffled:
            files = dict(reversed(files.items()))
        made = tiny(folder, files, len(values), pixels.shape[1:], split=split)
        found = np.stack([*map(opened, data)])
        return made, Batch(found, None if way == "unlabelled" else labels)

    return publish


def by_class(classes: tuple[str, ...] = CLASSES, each: int = 2, **more: bytes) -> dict[str, bytes]:
    """Files of 4×3 pixels, so many of each class; the n-th is all n."""
    numbers = iter(range(1, 100))
    return {
        f"all/{name}/{number}.png": flat(next(numbers))
        for name in classes
        for number in range(each)
    } | more


# --- Which files, in which order ------------------------------------------------------------------


def test_records_come_by_class_and_then_by_the_code_points_of_names(tmp_path: Path) -> None:
    names = ["b10", "b9", "B1", "é", "a", "b2"]
    numbered = dict(enumerate(names, 1))
    files = {f"all/ash/{name}.png": flat(n) for n, name in numbered.items()}
    files["all/birch/z.png"] = flat(99)
    made = tiny(tmp_path, files, 7, split={"counts": [1, 6, 0, 0]})

    found = decoded(made)

    order = [numbered[n] for n in found.images[1:, 0, 0, 0].tolist()]
    assert found.labels.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert found.images[0].max() == 99
    assert order == ["B1", "a", "b10", "b2", "b9", "é"] == sorted(names)


def test_a_folder_per_class_is_read_as_torchvisions_imagefolder_reads_it(tmp_path: Path) -> None:
    """By hand, as torchvision 0.29's `make_dataset` does: classes sorted, then os.walk sorted."""
    random = np.random.default_rng(3)
    wanted = sorted(["b", "a", "Z"])
    files = {
        f"all/{name}/{random.integers(1 << 30)}.jpg": saved(
            random.integers(0, 256, (8, 8, 3)).astype(np.uint8), "JPEG"
        )
        for name in wanted * 5
    }
    made = tiny(tmp_path, files, 15, (8, 8, 3), classes=wanted)
    with zipfile.ZipFile(made.archives / "images.zip") as archive:
        archive.extractall(tmp_path / "root")

    expected: list[tuple[Any, int]] = []
    for label, name in enumerate(sorted(p.name for p in (tmp_path / "root/all").iterdir())):
        for path in sorted((tmp_path / "root/all" / name).iterdir(), key=lambda path: path.name):
            expected.append((np.asarray(Image.open(path).convert("RGB")), label))

    found = decoded(made)
    np.testing.assert_array_equal(found.images, np.stack([one for one, _ in expected]))
    assert found.labels.tolist() == [label for _, label in expected]


def test_folders_may_be_called_otherwise_than_the_classes(tmp_path: Path) -> None:
    """As Tiny ImageNet has them: the number of a WordNet synset, and images one folder deeper."""
    files = {
        "all/n02/images/n02_0.png": flat(2),
        "all/n02/n02_boxes.txt": b"n02_0.png\t0\t0\n",
        "all/n01/images/n01_0.png": flat(1),
    }
    made = tiny(tmp_path, files, 2, classes=["toad", "frog"], folders=["n02", "n01"])

    found = decoded(made)

    assert found.labels.tolist() == [0, 1]
    assert found.images[:, 0, 0, 0].tolist() == [2, 1]


def test_what_came_along_is_left_out_and_all_other_files_are_records(tmp_path: Path) -> None:
    files = by_class()
    others = ["all/.DS_Store", "all/ash/Thumbs.db", "all/ash/._1.png", "all/.git/1.png", "1.png"]
    others += ["all/__MACOSX/ash/1.png", "all/readme.txt", "allow/birch/1.png", "all/ash/0.png.txt"]
    made = tiny(tmp_path, files | dict.fromkeys(others, b"nothing"), 8)

    found = decoded(made)

    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("split", "more", "words"),
    [
        ({}, {}, ["images.zip/all: 9 records are declared, but there are 8 images below it"]),
        ({"counts": [2, 3, 2, 2]}, {}, ["3 images of class ash are declared, but there are 2"]),
        ({}, {"all/elm/1.png": b""}, ["images.zip/all/elm/1.png: it lies in the folder of no cl"]),
        ({}, {"all/1.png": b""}, ["images.zip/all/1.png: it lies in the folder of no class"]),
        ({}, {"all/cedar/1.png": b""}, ["no class. Did you mean 'cedar/red'?", "`folders` says"]),
        ({}, {"all/ash/1.PNG": b""}, ["ash/1.PNG: its name is that of a PNG", "found nothing"]),
    ],
)
def test_files_that_are_not_as_declared_are_refused(
    tmp_path: Path, split: dict[str, Any], more: dict[str, bytes], words: list[str]
) -> None:
    made = tiny(tmp_path, by_class() | more, 9, split=split)

    with pytest.raises(FormatError) as caught:
        decoded(made)

    for word in words:
        assert word in str(caught.value)


LISTED = {f"all/{n}.png": flat(n) for n in (1, 2)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.png\tash\n2.png\telm\n", "labels.txt, line 2: there is no class 'elm'"),
        ("1.png\tash\n2.png\tbirsh\n", "no class 'birsh'. Did you mean 'birch'?"),
        ("1.png\tash\n3.png\tash\n", "line 2: there is no image '3.png' below images.zip/all"),
        ("1.png\tash\n1.png\tash\n", "line 2: '1.png' stands there twice"),
        (
            "1.png\tash\n",
            "1 of the images below images.zip/all do not stand there, such as '2.png'",
        ),
        ("1.png\tash\n2.png ash\n", "line 2: expected the path of an image, a tab, its class"),
        ("1.png\tash\n\n2.png\tash\n", "line 2: expected the path of an image"),
        ("1.png\tash\n2.png\tash", "line 2: expected the path of an image, a tab, its class, and "),
        ("1.png\tash\r2.png\tash\n", "line 1: expected the path of an image"),
        ("../1.png\tash\n2.png\tash\n", "line 1: there is no image '../1.png' below"),
        ("1.png\tash\n2.png\t\udcff\n", "line 2: b'2.png\\t\\xff\\n' is no UTF-8"),
    ],
)
def test_a_file_of_labels_lists_each_image_once_and_no_other(
    tmp_path: Path, text: str, words: str
) -> None:
    files = LISTED | {"labels.txt": text.encode(errors="surrogateescape")}
    made = tiny(tmp_path, files, 2, split={"labels": "images.zip/labels.txt"})

    with pytest.raises(FormatError) as caught:
        decoded(made)

    assert words in str(caught.value)


def test_lines_of_labels_may_end_as_on_windows(tmp_path: Path) -> None:
    files = LISTED | {"labels.txt": b"2.png\tash\r\n1.png\tbirch\r\n"}
    made = tiny(tmp_path, files, 2, split={"labels": "images.zip/labels.txt"})

    found = decoded(made)

    assert found.labels.tolist() == [1, 0]
    assert found.images[:, 0, 0, 0].tolist() == [2, 1]


def test_files_are_listed_once_however_many_records_are_located(tmp_path: Path) -> None:
    made = tiny(tmp_path, by_class(), 8)
    opener, asked = builders.opener(made.members), []

    def below(folder: Member) -> list[Member]:
        asked.append(folder)
        return opener.below(folder)

    members = Members(opener, lambda member: len(made.members[str(member)]), below=below)
    found = [images.locate(made.dataset, made.split, index, members) for index in (0, 7, 3)]

    assert [place.member.path for [place] in found] == [
        "all/birch/0.png",
        "all/dogwood/1.png",
        "all/ash/1.png",
    ]
    assert len(asked) == 1


# --- Kinds of images ------------------------------------------------------------------------------

GREY = (np.arange(12, dtype=np.uint8) * 20).reshape(4, 3)
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def one_file(
    folder: Path, data: bytes, channels: int = 1, suffix: str = "png", **more: Any
) -> Tiny:
    files = {f"all/ash/1.{suffix}": data}
    return tiny(folder, files, 1, (4, 3, channels), classes=["ash"], **more)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    bits: int, colours: int, rows: bytes, *more: bytes, width: int = 3, height: int = 4
) -> bytes:
    """A PNG by hand; `rows` without filters, as they are stored."""
    size = len(rows) // height
    filtered = b"".join(b"\0" + rows[n * size : (n + 1) * size] for n in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(filtered))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(8, 0, GREY.tobytes()), GREY),
        (png(1, 0, bytes([0b01000000] * 4)), [[0, 255, 0]] * 4),  # ink is 0, paper 255
        (png(2, 0, bytes([0b00011000] * 4)), [[0, 85, 170]] * 4),
        (png(4, 0, bytes([0x0F, 0x10] * 4)), [[0, 255, 17]] * 4),
        (png(1, 3, bytes([0b01000000] * 4), chunk(b"PLTE", b"\7\7\7\t\t\t")), [[7, 9, 7]] * 4),
        (png(8, 3, bytes(12), chunk(b"PLTE", b"\7\7\7")), [[7] * 3] * 4),
        (png(8, 0, GREY.tobytes(), chunk(b"gAMA", b"\0\0\x86\xa0")), GREY),  # which is not applied
        (saved(GREY, optimize=True), GREY),
        (saved(GREY.astype(bool)), np.where(GREY, 255, 0)),
    ],
)
def test_grey_of_any_depth_becomes_0_to_255(tmp_path: Path, data: bytes, expected: Any) -> None:
    found = decoded(one_file(tmp_path, data))

    np.testing.assert_array_equal(found.images[0, ..., 0], expected)


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(12)
    file = io.BytesIO()
    image.save(file, "PNG")

    found = decoded(one_file(tmp_path, file.getvalue(), 3))

    np.testing.assert_array_equal(found.images[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_where_colours_are_declared_is_repeated_if_that_is_declared(
    tmp_path: Path, kind: str
) -> None:
    """Tiny ImageNet has JPEGs of one channel among those of three."""
    data, suffix = saved(GREY, kind), {"PNG": "png", "JPEG": "JPEG"}[kind]
    declared = one_file(tmp_path / "1", data, 3, suffix, grey="repeated")
    nothing = one_file(tmp_path / "2", data, 3, suffix)

    found = decoded(declared)

    np.testing.assert_array_equal(found.images[0], np.repeat(opened(data), 3, axis=-1))
    with pytest.raises(FormatError, match=r'ash/1.*it is grey.*declare grey = "repeated"'):
        decoded(nothing)


def progressive(times: int) -> bytes:
    """A progressive JPEG whose last scan stands there so many times more."""
    data = saved(COLOURS, "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:-2] + data[at:-2] * times + data[-2:]


JPEG, PNG = saved(COLOURS, "JPEG"), saved(COLOURS)
SOF = JPEG.index(b"\xff\xc0") + 4  # where the frame says precision, height, width, components


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def sized(width: int, height: int) -> bytes:
    """A PNG of 4×3 pixels that says that it is larger."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG[:8] + chunk(b"IHDR", header) + PNG[33:]


@pytest.mark.parametrize(
    ("suffix", "data", "words"),
    [
        ("png", b"", ["that of a PNG, which begins 89504e470d0a1a0a; found nothing"]),
        ("png", JPEG, ["that of a PNG", "found ffd8ff"]),
        ("jpg", PNG, ["that of a JPEG, which begins ffd8ff; found 89504e"]),
        ("jpg", saved(COLOURS, "GIF"), ["that of a JPEG", "found 474946"]),
        ("png", saved(COLOURS, "BMP"), ["that of a PNG", "found 424d"]),
        (
            "png",
            sized(60_000, 60_000),
            ["3 pixels wide and 4 high is declared", "60,000 wide and 6"],
        ),
        ("png", sized(4, 3), ["the PNG says 4 wide and 3 high"]),
        (
            "jpg",
            patched(JPEG, SOF + 1, b"\xff\xff\xff\xff"),
            ["the JPEG says 65,535 wide and 65,5"],
        ),
        ("png", PNG[:-1], ["the PNG breaks off, after"]),
        ("png", PNG[:40], ["the PNG breaks off"]),
        ("png", PNG[:8], ["the PNG breaks off, after 8 bytes"]),
        ("png", PNG + b"\0", [f"the PNG ends after {len(PNG):,} bytes, but the file goes on"]),
        ("png", patched(PNG, 50, b"\xaa"), ["the checksum of its PNG chunk b'IDAT' is another"]),
        ("png", PNG[:8] + PNG[33:], ["a PNG begins with IHDR of 13 bytes, not with b'IDAT'"]),
        ("png", PNG[:33] + PNG[-12:], ["the PNG is damaged"]),
        ("png", png(8, 2, COLOURS.tobytes()[:24]), ["the PNG is damaged"]),
        (
            "png",
            png(16, 2, bytes(72)),
            ["expected grey, RGB or a palette", "16 bits and colour ty"],
        ),
        ("png", png(16, 0, bytes(24)), ["16 bits"]),
        ("png", saved(np.zeros((4, 3, 4), np.uint8)), ["colour type 6 (alpha)"]),
        ("png", saved(GREY, mode="LA"), ["colour type 4 (alpha)"]),
        ("png", png(8, 2, COLOURS.tobytes(), chunk(b"tRNS", bytes(6))), ["a transparent colour"]),
        ("png", png(8, 2, COLOURS.tobytes(), chunk(b"acTL", bytes(8))), ["an animation: not read"]),
        (
            "png",
            png(8, 3, bytes([9] * 12), chunk(b"PLTE", bytes(6))),
            ["colour 9 of a palette of 2"],
        ),
        ("png", png(8, 3, bytes(12)), ["the PNG is damaged"]),
        ("jpg", JPEG[:-1], ["the JPEG breaks off"]),
        ("jpg", JPEG[:-2], ["the JPEG breaks off"]),
        ("jpg", JPEG[: SOF + 3], ["the JPEG breaks off"]),
        ("jpg", JPEG + b"\0", [f"the JPEG ends after {len(JPEG):,} bytes, but the file goes on"]),
        ("jpg", JPEG + JPEG, ["but the file goes on"]),
        ("jpg", JPEG[:3] + b"\xd9", ["the JPEG ends without an image"]),
        ("jpg", b"\xff\xd8\xff\xfe\0\2ab", ["expected a JPEG marker at byte 6, found none"]),
        ("jpg", JPEG[:2] + JPEG, ["JPEG marker d8 has no place"]),
        ("jpg", patched(JPEG, SOF - 4, b"\xff\xc9"), ["kind c9 of 8 bits and 3 colours"]),
        ("jpg", patched(JPEG, SOF, b"\x0c"), ["kind c0 of 12 bits"]),
        ("jpg", saved(COLOURS, "JPEG", mode="CMYK"), ["8 bits and 4 colours"]),
        ("jpg", JPEG[: SOF - 4] + JPEG[SOF - 4 : SOF + 15] + JPEG[SOF - 4 :], ["several images"]),
        ("jpg", progressive(101), ["a JPEG has at most 100 scans"]),
        (
            "jpg",
            JPEG[:2] + 20 * (b"\xff\xfe\xff\xff" + bytes(65533)) + JPEG[2:],
            ["at most 1,048,72"],
        ),
        (
            "png",
            png(8, 2, COLOURS.tobytes(), chunk(b"quIt", bytes(1 << 21))),
            ["at most 1,048,720"],
        ),
    ],
)
def test_an_image_that_is_not_as_declared_is_refused_and_named(
    tmp_path: Path, suffix: str, data: bytes, words: list[str]
) -> None:
    made = one_file(tmp_path, data, 3, suffix)

    with pytest.raises(FormatError) as caught:
        decoded(made)

    for word in [f"images.zip/all/ash/1.{suffix}: ", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("data", [PNG, png(8, 3, bytes(12), chunk(b"PLTE", b"\1\2\3"))])
def test_colours_where_grey_is_declared_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError, match="grey is declared, but it has other colours"):
        decoded(one_file(tmp_path, data))


def test_a_bomb_is_refused_by_its_header_and_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though Pillow's own limit is off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(Image, "open", None)

    with pytest.raises(FormatError, match="60,000 wide"):
        decoded(one_file(tmp_path, sized(60_000, 60_000), 3))


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_the_bytes_are_they_are_an_image_as_declared_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix, whole = data.draw(st.sampled_from([("png", PNG), ("jpg", JPEG)]))
    made = one_file(tmp_path_factory.mktemp("tiny"), whole, 3, suffix)
    wrong = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        wrong[at] = data.draw(st.integers(0, 255))
    cut = bytes(
        wrong[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else wrong
    )

    try:
        found = decoded(made, {f"images.zip/all/ash/1.{suffix}": cut})
    except FormatError:
        return

    assert found.images.shape == (1, 4, 3, 3)


def test_the_first_file_that_is_wrong_is_named_whichever_thread_is_faster(tmp_path: Path) -> None:
    files = by_class(("ash",), 90)
    wrong = {name: data for name, data in files.items() if name >= "all/ash/5"}
    files |= {name: data[:-1] for name, data in wrong.items()}
    made = tiny(tmp_path, files, 90, classes=["ash"])

    for _ in range(10):
        with pytest.raises(FormatError, match=r"all/ash/5\.png: "):
            decoded(made, batch=100)


def test_without_pillow_the_error_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny(tmp_path, by_class(), 8)
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(FormatError, match=r"pillow is not installed.*pip install pillow"):
        decoded(made)


# --- What is declared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"orientation": "transposed"}, "format images has upright images"),
        ({"coarse_classes": ["a"]}, "no coarse_classes"),
        ({"first_label": 1}, "names of classes, and no numbers"),
        ({"class_labels": [4, 3, 2, 1]}, "names of classes, and no numbers"),
        ({"folders": ["a", "b"]}, "folders: expected 4, one for each class, found 2"),
        ({"folders": ["a", "b", "c", "a"]}, "folders: two classes have the same"),
        ({"folders": ["a", "b", "a/c", "d"]}, "folders: a/c lies in the folder of another class"),
        ({"folders": ["a", "b", "../c", "d"]}, "folders: '../c' is no plain path inside an archi"),
        ({"classes": ["a", "b/"]}, "folders: 'b/' is no plain path"),
        ({"grey": "twice"}, "grey: Input should be 'repeated'"),
        ({"grey": "repeated"}, "grey: images of one channel are grey anyway"),
        ({"format": "idx"}, "folders: format idx reads no folders of images"),
    ],
)
def test_what_folders_of_images_can_not_hold_is_refused_by_the_catalogue(
    tmp_path: Path, facts: dict[str, Any], words: str
) -> None:
    more = {"folders": ["p", "q", "r", "s"]} if "format" in facts else {}

    with pytest.raises(CatalogueError) as caught:
        tiny(tmp_path, by_class(), 8, **more, **facts)

    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["images.tar.gz", "images.tgz", "images.gz", "images"])
def test_only_a_zip_or_a_plain_tar_has_folders_of_images(tmp_path: Path, name: str) -> None:
    tiny(tmp_path, by_class(), 8)
    toml = tmp_path / "catalogue/tiny.toml"
    toml.write_text(toml.read_text().replace("images.zip", name))

    with pytest.raises(CatalogueError, match=f"files: {name} is neither a zip nor a plain tar"):
        catalogue.load(toml.parent)


# --- In archives ----------------------------------------------------------------------------------


def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    made = tiny(tmp_path, by_class() | {"all/../../x.png": PNG}, 9)

    with pytest.raises(
        MemberError, match=r"'all/\.\./\.\./x\.png' is no plain path inside an archive"
    ):
        made.table(tmp_path / "table.parquet")

    assert not (tmp_path / "table.parquet").exists()


def test_a_tar_is_read_as_a_zip_is(tmp_path: Path) -> None:
    files = by_class()
    made = tiny(tmp_path, files, 8)
    tar = gzip.decompress(builders.tarred(dict(reversed(files.items()))))
    (tmp_path / "archives/images.tar").write_bytes(tar)
    toml = tmp_path / "catalogue/tiny.toml"
    toml.write_text(toml.read_text().replace("images.zip", "images.tar"))
    source = catalogue.load(toml.parent).sources["tiny"]
    dataset = source.datasets["tiny"]
    found = {
        archive: Batch.joined([*tables.decoded(one, which, split, made.archives)])
        for archive, one, which, split in (
            ("zip", made.source, made.dataset, made.split),
            ("tar", source, dataset, dataset.splits["train"]),
        )
    }

    np.testing.assert_array_equal(found["tar"].images, found["zip"].images)
    np.testing.assert_array_equal(found["tar"].labels, found["zip"].labels)
    assert found["tar"].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
