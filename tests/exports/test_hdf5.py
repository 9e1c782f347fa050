"""HDF5: chunks that h5py reads, and a full disk that HDF5 does not die of."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from assets.settings import ROOT
from pipelines.errors import ArtefactError
from tests import builders
from tests.exports import arrays


def test_images_stand_in_chunks_that_are_packed_once(tmp_path: Path) -> None:
    images, labels = builders.images(5000, 3, 3), builders.labels(5000, 5)
    made = arrays.made(tmp_path / "made", images, labels)

    with h5py.File(made.write("hdf5", tmp_path / "made.h5")) as file:
        assert file["images"].chunks == (1024, 3, 3)
        assert (file["images"].compression, file["images"].compression_opts) == ("gzip", 4)
        assert list(file["labels"].attrs["classes"]) == [f"class {n}" for n in range(5)]
        np.testing.assert_array_equal(file["images"][1023:2050], images[1023:2050, ..., 0])
    size = (tmp_path / "made.h5").stat().st_size
    assert size < 30_000 + images.size, "no chunk was written twice"


def test_a_record_says_in_which_chunk_it_is(tmp_path: Path) -> None:
    images, labels = builders.images(1500, 3, 3), builders.labels(1500, 5)
    made = arrays.made(tmp_path / "made", images, labels)
    goal = made.write("hdf5", tmp_path / "made.h5")

    [first] = made.read("hdf5", goal, 0, 1)
    [last] = made.read("hdf5", goal, 1499, 1500)

    assert first.facts["bytes_hold"] == "records 0 to 1024"
    assert last.facts["bytes_hold"] == "records 1024 to 1500"
    with h5py.File(goal) as file:
        for number, stored in enumerate((first, last)):
            _, packed = file["images"].id.read_direct_chunk((1024 * number, 0, 0))
            assert goal.read_bytes()[stored.start : stored.stop] == packed


def test_other_classes_or_chunks_are_refused(tmp_path: Path) -> None:
    made = arrays.grey(tmp_path / "grey")
    goal = made.write("hdf5", tmp_path / "made.h5")
    with h5py.File(goal, "a") as file:
        file["labels"].attrs["classes"] = ["a", "b", "c", "d", "e"]
    with pytest.raises(ArtefactError, match=r"expected the classes .* of /labels, found"):
        made.read("hdf5", goal, 0, 1)

    with h5py.File(goal, "a") as file:
        del file["images"]
        file["images"] = made.images[..., 0]
    with pytest.raises(ArtefactError, match=r"expected /images in chunks \(40, 4, 3\), found None"):
        made.read("hdf5", goal, 0, 1)


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """HDF5 would try again while the process ends, and end it by a signal."""
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from pipelines.errors import StorageError
from tests import builders
from tests.exports import arrays
folder = Path(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (4000, 20, 20, 1), np.uint8)
made = arrays.made(folder / "made", images, builders.labels(4000, 5))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
try:
    made.write("hdf5", folder / "made.h5")
except StorageError as error:
    print(error)
"""
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert hasattr(signal, "SIGXFSZ")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "made.h5 can't be written: File too large" in done.stdout
    assert [f for f in builders.files_under(tmp_path) if "made.h5" in f] == []
