"""safetensors: the arrays of a split one after another, under a header in JSON.

    8 bytes, little-endian   size of the header, a multiple of 8
    header                   {"__metadata__": {…}, "images": {"dtype": "U8", "shape": […], …}, …}
    tensors                  without gaps; the widest type first, then by name

Source: the format's own page (github.com/huggingface/safetensors, "Format"); the order is that of
its library, which leaves float64 aligned. Of metadata there is one key: the library keeps several
in no order, and would write other bytes from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ArtefactError
from ..products import Choices, Inputs, Product, Reader, Stored, Subject
from ..progress import Advance
from ..store import Facts, writing
from . import _about, _arrays

_DTYPES = {"|u1": "U8", "<u2": "U16", "<f8": "F64"}
_METADATA = "imagesets"  # the one key
_MOST_HEADER_BYTES = 1 << 20


def write(inputs: Inputs, goal: Path, chosen: Choices, advance: Advance) -> Facts:
    """Write a split's table as a file of tensors.

    Raises:
        TableError: what it is made from is no table of ours.
        StorageError: `goal` can't be written.
    """
    from .. import tables

    subject = inputs.subject
    image = subject.dataset.image.shape
    about = tables.description(subject.source, subject.dataset, subject.split)
    arrays = sorted(
        _arrays.of(subject, chosen),
        key=lambda one: (-int(one.dtype[-1]), _arrays.NAMES[one.column]),
    )
    with writing.atomic(goal) as partial, writing.hashed(partial) as append:
        append(_header(arrays, about))
        for array in arrays:
            for piece in _arrays.pieces(inputs.table, array, image, advance):
                append(piece)
    return {"records": subject.records}


def _header(arrays: list[_arrays.Array], about: Mapping[str, Any]) -> bytes:
    metadata = json.dumps(about, ensure_ascii=False)
    said: dict[str, Any] = {"__metadata__": {_METADATA: metadata}}
    at = 0
    for array in arrays:
        said[_arrays.NAMES[array.column]] = _described(array) | {
            "data_offsets": [at, at + array.size_bytes]
        }
        at += array.size_bytes
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _described(array: _arrays.Array) -> dict[str, Any]:
    return {"dtype": _DTYPES[array.dtype], "shape": [*array.shape]}


def read(path: Path, subject: Subject, start: int, stop: int) -> Iterator[Stored]:
    """Yield records `start` to `stop` of such a file, each with the bytes of its pixels.

    Raises:
        ArtefactError: it does not hold the tensors of such a split, without gaps.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        begins, arrays = _found(file, path, subject)
        files = dict.fromkeys(arrays, file)
        for record, places in _arrays.stored(path, subject, arrays, files, begins, start, stop):
            first, last = places.pop("images")
            yield Stored(record, first, last, {"key": "images", "bytes_of": places})


def _found(
    file: BinaryIO, path: Path, subject: Subject
) -> tuple[dict[str, int], dict[str, _arrays.Array]]:
    """Return column → where its tensor begins in the file, and column → the tensor."""
    size = int.from_bytes(file.read(8), "little")
    try:
        if size > _MOST_HEADER_BYTES:
            raise ValueError(f"it promises a header of {size:,} bytes")
        said = json.loads(file.read(size))
        said.pop("__metadata__", None)
        offsets = {name: one.pop("data_offsets") for name, one in said.items()}
        inside = {name: column for column, name in _arrays.NAMES.items()}
        columns = {inside.get(name, name): json.dumps(one) for name, one in said.items()}
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ArtefactError(f"{path} holds no safetensors, or is damaged: {error}.") from error
    arrays = _arrays.named(subject, columns, lambda one: json.dumps(_described(one)), path)
    begins, at = {}, 0
    for column, array in arrays.items():
        begins[column], end = 8 + size + at, at + array.size_bytes
        name = _arrays.NAMES[column]
        if offsets[name] != [at, end]:
            raise ArtefactError(
                f"{path}: expected {name} in bytes {at:,} to {end:,} after the header, found "
                f"{offsets[name]!r:.100}."
            )
        at = end
    if (found := file.seek(0, 2)) != 8 + size + at:
        raise ArtefactError(f"{path}: expected {8 + size + at:,} bytes, found {found:,}.")
    return begins, arrays


EXPORT = Product(
    name="safetensors",
    title="as safetensors: images and labels, for torch, numpy and others.",
    scope="split",
    needs_labels=False,
    files="exports/{dataset}/{split}.safetensors",
    code_version="1",
    write=write,
    read=read,
    columns=_arrays.columns("images", "labels", "coarse_labels"),
    options=_arrays.OPTIONS,
    parameters=_about.parameters,
    room=lambda image: image + 2,
    sidecar=True,
    measured=(47.1, 0.1),
    read_by=(
        Reader(
            "safetensors 0.8.0",
            ("safetensors==0.8.0", "numpy==2.4.6"),
            "from safetensors.numpy import load_file\n\n"
            'arrays = load_file("{path}")\n'
            'images, labels = arrays["images"], arrays["labels"]\n',
        ),
        Reader(
            "safetensors 0.8.0 and torch",
            ("safetensors==0.8.0", "torch"),
            "from safetensors import safe_open\n\n"
            'with safe_open("{path}", framework="pt") as file:\n'
            '    labels = file.get_tensor("labels").long()\n'
            '    first = file.get_slice("images")[:1000]\n',
            "Labels are uint8, which torch's losses refuse: .long() makes them int64.",
        ),
    ),
)
