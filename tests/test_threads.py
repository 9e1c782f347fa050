"""Items made beforehand and tasks side by side: the results of a plain loop, only sooner."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import threads

PATIENCE_S = 30  # never waited for, unless a test fails


@given(st.lists(st.none() | st.integers()))
@settings(deadline=None, max_examples=30)
def test_prefetched_items_are_the_same(items: list[int | None]) -> None:
    assert list(threads.prefetched(items)) == items


def test_the_next_item_is_made_and_no_more_while_this_one_is_used() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    stream = threads.prefetched(items())

    assert made == []
    assert next(stream) == 0
    assert second.wait(PATIENCE_S)
    assert made == [0, 1]
    assert list(stream) == [1, 2, 3, 4]


def test_an_error_is_raised_where_it_stands_among_the_items() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    stream = threads.prefetched(items())

    assert (next(stream), next(stream)) == (1, 2)
    with pytest.raises(KeyError, match="third"):
        next(stream)


def test_no_thread_is_left_behind_when_the_items_are_abandoned() -> None:
    stream = threads.prefetched(iter(range(1000)))
    next(stream)

    stream.close()  # type: ignore[attr-defined]

    assert [t.name for t in threading.enumerate() if t.name.startswith("prefetched")] == []


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_stand_in_the_order_of_the_workers(workers: int) -> None:
    asked = [(worker, workers) for worker in range(workers)]

    assert threads.side_by_side(lambda worker, of: (worker, of), workers) == asked


def test_tasks_really_run_side_by_side() -> None:
    meet = threading.Barrier(2, timeout=PATIENCE_S)

    assert sorted(threads.side_by_side(lambda _worker, _of: meet.wait(), 2)) == [0, 1]


def test_what_a_worker_raises_is_raised() -> None:
    def task(worker: int, _workers: int) -> int:
        return 1 // worker

    with pytest.raises(ZeroDivisionError):
        threads.side_by_side(task, 2)
