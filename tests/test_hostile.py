"""Damaged and hostile archives and members: the right arrays, or one of our errors. Never else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import catalogue, declarations, tables
from pipelines.declarations import Source
from pipelines.errors import ImagesetsError
from tests import builders
from tests.builders import Publisher

pytestmark = pytest.mark.slow

SOURCES = ("tiny_digits", "tiny_letters", "tiny_colours")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return builders.publish(tmp_path_factory.mktemp("hostile") / "published")


def mutated(data: bytes, draw: st.DataObject) -> bytes:
    """Some bytes flipped, taken out, put in, repeated, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3), "mutations")):
        if not changed:
            break
        at = draw.draw(st.integers(0, len(changed) - 1), "at")
        length = draw.draw(st.integers(1, 40), "length")
        match draw.draw(st.sampled_from(["flip", "out", "in", "repeat", "cut"]), "kind"):
            case "flip":
                changed[at] ^= draw.draw(st.integers(1, 255), "bits")
            case "out":
                del changed[at : at + length]
            case "in":
                changed[at:at] = draw.draw(st.binary(min_size=1, max_size=40), "bytes")
            case "repeat":
                changed[at:at] = changed[at : at + length]
            case "cut":
                del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("facts", [True, False], ids=["members declared", "members not declared"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(draw=st.data())
def test_a_mutated_archive_gives_the_right_arrays_or_our_own_error(
    name: str, facts: bool, draw: st.DataObject, published: Publisher, tmp_path: Path
) -> None:
    source = catalogue.load(published.catalogue).sources[name]
    if not facts:
        source = _without_member_facts(source)
    victim = draw.draw(st.sampled_from(sorted(source.archives)), "archive")
    folder, goal = tmp_path / "archives", tmp_path / "table.parquet"
    folder.mkdir(exist_ok=True)
    for archive in source.archives:
        data = published.archive(name, archive).read_bytes()
        (folder / archive).write_bytes(mutated(data, draw) if archive == victim else data)
    for dataset in source.datasets.values():
        for split in dataset.splits.values():
            goal.unlink(missing_ok=True)
            with contextlib.suppress(ImagesetsError):
                tables.write(source, dataset, split, folder, goal)
                batch = tables.read(goal)
                images, labels, coarse = published.splits[dataset.name, split.name]
                assert np.array_equal(batch.images, images)
                assert np.array_equal(batch.labels, labels)
                assert coarse is None or np.array_equal(batch.coarse_labels, coarse)
    assert not list(tmp_path.glob(".*"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(draw=st.data())
def test_mutated_idx_in_a_sound_archive_is_read_as_it_stands_or_refused(
    draw: st.DataObject, published: Publisher, tmp_path: Path
) -> None:
    source = catalogue.load(published.catalogue).sources["tiny_digits"]
    dataset = source.datasets["tiny_digits"]
    split, goal = dataset.splits["test"], tmp_path / "table.parquet"
    images, labels, _ = published.splits["tiny_digits", "test"]
    members = {"images": builders.idx(images[..., 0]), "labels": builders.idx(labels)}
    role = draw.draw(st.sampled_from(sorted(members)), "role")
    members[role] = mutated(members[role], draw)
    for part, data in members.items():
        (tmp_path / f"test-{part}.gz").write_bytes(builders.gz(data))
    found = {part: np.frombuffer(data, np.uint8) for part, data in members.items()}
    sound = (
        members["images"].startswith(bytes.fromhex("00000803 0000000c 00000004 00000003"))
        and members["labels"].startswith(bytes.fromhex("00000801 0000000c"))
        and len(found["images"]) == 16 + images.size
        and len(found["labels"]) == 8 + labels.size
        and (found["labels"][8:] < 3).all()
    )
    goal.unlink(missing_ok=True)
    try:
        tables.write(source, dataset, split, tmp_path, goal)
    except ImagesetsError:
        assert not sound
    else:
        assert sound
        batch = tables.read(goal)
        assert np.array_equal(batch.images.ravel(), found["images"][16:])
        assert np.array_equal(batch.labels, found["labels"][8:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(draw=st.data())
def test_mutated_cifar_in_a_sound_archive_is_read_as_it_stands_or_refused(
    draw: st.DataObject, published: Publisher, tmp_path: Path
) -> None:
    source = catalogue.load(published.catalogue).sources["tiny_colours"]
    dataset = source.datasets["tiny_colours"]
    split, goal = dataset.splits["test"], tmp_path / "table.parquet"
    images, fine, coarse = published.splits["tiny_colours", "test"]
    assert coarse is not None
    halves = {"test_1": slice(0, 6), "test_2": slice(6, 12)}
    members = {
        f"bin/{name}.bin": builders.cifar(images[rows], coarse[rows], fine[rows])
        for name, rows in halves.items()
    }
    victim = draw.draw(st.sampled_from(sorted(members)), "member")
    members[victim] = mutated(members[victim], draw)
    (tmp_path / "colours.tar.gz").write_bytes(builders.tarred(members))
    record_bytes = 2 + 4 * 4 * 3
    whole = all(len(data) % record_bytes == 0 for data in members.values())
    raw = np.frombuffer(b"".join(members.values()), np.uint8)
    sound = whole and len(raw) == 12 * record_bytes
    if sound:
        raw = raw.reshape(12, record_bytes)
        sound = bool((raw[:, 0] < 2).all() and (raw[:, 1] < 6).all())
    goal.unlink(missing_ok=True)
    try:
        tables.write(source, dataset, split, tmp_path, goal)
    except ImagesetsError:
        assert not sound
    else:
        assert sound
        batch = tables.read(goal)
        planes = raw[:, 2:].reshape(12, 3, 4, 4)
        assert np.array_equal(batch.images, planes.transpose(0, 2, 3, 1))
        assert np.array_equal(batch.labels, raw[:, 1])
        assert np.array_equal(batch.coarse_labels, raw[:, 0])


def _without_member_facts(source: Source) -> Source:
    def bare(members: Iterator[declarations.Member]) -> tuple[declarations.Member, ...]:
        return tuple(replace(member, facts=None) for member in members)

    datasets = {
        key: replace(
            dataset,
            splits={
                k: replace(split, members={r: bare(iter(ms)) for r, ms in split.members.items()})
                for k, split in dataset.splits.items()
            },
        )
        for key, dataset in source.datasets.items()
    }
    return replace(source, datasets=datasets)
