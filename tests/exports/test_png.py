"""PNG: what Pillow reads, the same bytes always, and nothing but that read back."""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ArtefactError
from pipelines.exports import _png as png
from pipelines.reading import opening
from pipelines.store import provenance
from tests import builders
from tests.builders import Array

SOME = st.one_of(builders.some_records(channels=1), builders.some_records(channels=3))


@given(some=SOME)
@settings(deadline=None, max_examples=60)
def test_pillow_reads_what_was_encoded(some: tuple[Array, Array]) -> None:
    for image, file in zip(some[0], png.encode(some[0]), strict=True):
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.format == "PNG"
            assert picture.mode == ("L" if image.shape[-1] == 1 else "RGB")
            np.testing.assert_array_equal(np.asarray(picture).reshape(image.shape), image)
            assert picture.info == {}


@given(some=SOME)
@settings(deadline=None, max_examples=60)
def test_what_was_encoded_is_decoded(some: tuple[Array, Array]) -> None:
    for image, file in zip(some[0], png.encode(some[0]), strict=True):
        np.testing.assert_array_equal(png.decode(file, image.shape, "it")[0], image, strict=True)
        assert len(file) <= png.most_bytes(image.shape)


def gradient(height: int, width: int, channels: int) -> Array:
    """A hundred pictures whose pixels follow from arithmetic alone."""
    places = np.indices((100, height, width, channels)).astype(np.uint64)
    values = places[0] * 7 + places[1] * places[2] * 5 + places[3] * 11
    return (values % 251).astype(np.uint8)


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng makes other bytes")
@pytest.mark.parametrize(
    ("shape", "sha256"),
    [
        ((28, 28, 1), "25932b5a84d5fa1bd6f5a006fb77324636702b8e4a850474110fd69580392e1a"),
        ((32, 32, 3), "63e3792960f423f0d5f30ef4d350ffc08baea7e8f6526a20f33f3027f82d4be0"),
    ],
)
def test_the_bytes_are_those_that_zlib_made_first(shape: tuple[int, int, int], sha256: str) -> None:
    """If this fails with a newer zlib, exports with PNGs have other bytes from there on."""
    found = hashlib.sha256(b"".join(png.encode(gradient(*shape)))).hexdigest()

    assert found == sha256, f"zlib {zlib.ZLIB_RUNTIME_VERSION}"


def test_a_table_is_encoded_in_order_whatever_the_sizes_of_batches_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, fine = builders.images(100, 3, 2, 3), builders.labels(100, 5)
    coarse = builders.labels(100, 3, seed=5)
    monkeypatch.setattr(opening, "BATCH_RECORDS", 30)
    monkeypatch.setattr(png, "RUN", 7)
    table = builders.tiny(tmp_path, pixels, fine, coarse).table(tmp_path / "table.parquet")

    found = list(png.of_table(table))

    assert [file for _, files in found for file in files] == png.encode(pixels)
    assert np.concatenate([run.labels for run, _ in found]).tolist() == fine.tolist()
    groups = [run.coarse_labels for run, _ in found if run.coarse_labels is not None]
    assert np.concatenate(groups).tolist() == coarse.tolist()


@given(
    at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), channels=st.sampled_from([1, 3])
)
@settings(deadline=None)
def test_any_bit_that_flips_is_noticed(at: float, bit: int, channels: int) -> None:
    [file] = png.encode(builders.images(1, 9, 8, channels))
    place = int(at * len(file))
    damaged = file[:place] + bytes([file[place] ^ 1 << bit]) + file[place + 1 :]

    with pytest.raises(ArtefactError, match=r"^it: expected"):
        png.decode(damaged, (9, 8, channels), "it")


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_png_that_is_cut_short_or_goes_on_is_refused(cut: float) -> None:
    [file] = png.encode(builders.images(1, 9, 8))

    for damaged in (file[: int(cut * len(file))], file + file[: 1 + int(cut * len(file))]):
        with pytest.raises(ArtefactError, match=r"^it: expected"):
            png.decode(damaged, (9, 8, 1), "it")


def packing(data: bytes, shape: tuple[int, int, int] = (9, 8, 1)) -> bytes:
    """A PNG of a shape, with right checksums, that packs these bytes as they are."""
    return png._head(shape) + png._chunk(b"IDAT", data) + png._END


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (zlib.compress(bytes(80)), "expected 81 bytes"),
        (zlib.compress(bytes(82)), "expected 81 bytes"),
        (zlib.compress(bytes(1 << 26)), "expected 81 bytes"),  # a bomb
        (zlib.compress(bytes(81)) + b"x", "expected 81 bytes"),
        (zlib.compress(bytes(81))[:-5], "expected 81 bytes"),
        (zlib.compress(b"\1" * 81), "expected filter 0"),
        (b"no zlib", "damaged"),
        (zlib.compress(bytes(81))[:-1] + b"x", "damaged"),
        (b"", "expected 81 bytes"),
    ],
)
def test_what_packs_no_such_picture_is_refused(packed: bytes, words: str) -> None:
    with pytest.raises(ArtefactError, match=words):
        png.decode(packing(packed), (9, 8, 1), "it")


@pytest.mark.parametrize("shape", [(8, 9, 1), (9, 8, 3), (9, 8, 1)])
def test_a_png_of_another_shape_is_refused(shape: tuple[int, int, int]) -> None:
    [file] = png.encode(builders.images(1, 7, 7))

    with pytest.raises(ArtefactError, match=rf"expected a PNG of {shape[0]}×{shape[1]} pixels"):
        png.decode(file, shape, "it")


def test_provenance_tells_which_zlib_made_the_bytes() -> None:
    assert provenance.versions(("zlib",))["zlib"] == zlib.ZLIB_RUNTIME_VERSION
    assert "zlib" not in provenance.versions()
