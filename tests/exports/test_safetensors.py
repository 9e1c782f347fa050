"""safetensors: a header in JSON by the format's grammar, then tensors without gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import ArtefactError
from tests.exports import arrays
from tests.exports.arrays import Made


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put(path: Path, header: bytes, tensors: bytes) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + tensors)
    return path


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return arrays.colours(tmp_path / "colours")


def test_tensors_stand_in_the_order_of_the_format_s_own_library(made: Made, tmp_path: Path) -> None:
    """The widest type first, then by name: so float64 is aligned."""
    plain, _ = parts(made.write("safetensors", tmp_path / "plain"))
    one_hot, _ = parts(made.write("safetensors", tmp_path / "one_hot", one_hot=True))

    assert [*plain] == ["__metadata__", "coarse_labels", "images", "labels"]
    assert [*one_hot] == ["__metadata__", "coarse_labels", "labels", "images"]
    assert one_hot["labels"] == {"dtype": "F64", "shape": [40, 5], "data_offsets": [960, 2560]}


def test_it_says_what_it_holds(made: Made, tmp_path: Path) -> None:
    header, _ = parts(made.write("safetensors", tmp_path / "made"))

    about = json.loads(header["__metadata__"]["imagesets"])

    assert about["classes"] == [f"class {number}" for number in range(5)]
    assert about["records"] == 40
    assert about["source"]["licence"] == "not stated"


def changed(header: dict[str, Any], name: str, **facts: Any) -> bytes:
    return json.dumps(header | {name: header[name] | facts}).encode()


def test_tensors_elsewhere_or_of_another_kind_are_refused(made: Made, tmp_path: Path) -> None:
    header, tensors = parts(made.write("safetensors", tmp_path / "made"))
    without = {name: one for name, one in header.items() if name != "labels"}
    for wrong, words in (
        (changed(header, "labels", data_offsets=[1480, 1520]), "expected arrays|bytes, found"),
        (changed(header, "labels", data_offsets=[0, 40]), "expected labels in bytes 1,480 to"),
        (changed(header, "labels", data_offsets=None), "expected labels in bytes"),
        (changed(header, "labels", dtype="I8"), "expected label as uint8"),
        (changed(header, "images", shape=[40, 36, 1]), "expected pixels as uint8"),
        (changed(header, "images", more=1), "expected pixels as uint8"),
        (json.dumps(without).encode(), "expected arrays for pixels, label, coarse_label"),
        (json.dumps(header | {"more": header["labels"]}).encode(), "expected arrays for"),
        (b"[1, 2]", "holds no safetensors"),
        (b"{", "holds no safetensors"),
        (b"[" * 100_000, "holds no safetensors"),
        (b'{"images": 3}', "holds no safetensors"),
    ):
        path = put(tmp_path / "wrong", wrong, tensors + b"\0" * (words[-5:] == "found"))
        with pytest.raises(ArtefactError, match=words):
            made.read("safetensors", path, 0, 1)


def test_a_header_without_end_is_not_waited_for(made: Made, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(b"\xff" * 8 + b"{}")

    with pytest.raises(ArtefactError, match=r"it promises a header of 18,446,744,073"):
        made.read("safetensors", tmp_path / "wrong", 0, 1)
