"""Rows gather into batches, keep their order, and leave when nobody waits."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from stillwatch.siege.batcher import Batcher, InferenceThread


@pytest.fixture
async def thread() -> AsyncIterator[InferenceThread]:
    """Return an inference thread that ends with the test."""
    thread = InferenceThread()
    yield thread
    thread.close()


async def test_rows_of_a_burst_share_batches(thread: InferenceThread) -> None:
    """A burst is computed in batches of at most `max_rows`, each result with its row."""
    sizes = []

    def double(rows):
        sizes.append(len(rows))
        return [2 * row for row in rows]

    batcher = Batcher(double, thread, max_rows=8)
    results = await asyncio.gather(*[batcher.submit(n) for n in range(20)])
    assert [2 * n for n in range(20)] == results
    assert [8, 8, 4] == sizes
    assert (20, 3) == (batcher.n_rows, batcher.n_batches)


async def test_rows_gather_while_a_batch_runs(thread: InferenceThread) -> None:
    """What arrives during a batch becomes one batch after it, whichever model it is for."""
    begun, go, sizes = threading.Event(), threading.Event(), []

    def compute(rows):
        sizes.append(len(rows))
        begun.set()
        go.wait(10)
        return rows

    one, other = Batcher(compute, thread), Batcher(compute, thread)
    first = one.submit(0)
    await asyncio.to_thread(begun.wait, 10)
    late = [other.submit(1)]
    await asyncio.sleep(0.01)
    late += [other.submit(n) for n in (2, 3)]
    go.set()
    assert [0, 1, 2, 3] == await asyncio.gather(first, *late)
    assert [1, 3] == sizes


async def test_a_cancelled_row_is_not_computed(thread: InferenceThread) -> None:
    """A row whose result is cancelled while it waits never reaches the model."""
    seen: list[int] = []

    def compute(rows):
        seen.extend(rows)
        return rows

    batcher = Batcher(compute, thread)
    results = [batcher.submit(n) for n in range(3)]
    results[1].cancel()
    assert [0, 2] == await asyncio.gather(results[0], results[2])
    assert [0, 2] == seen


async def test_a_failed_batch_fails_its_rows_alone(thread: InferenceThread) -> None:
    """An error of the model reaches every row of its batch, and the next batch is computed."""

    def compute(rows):
        if 0 in rows:
            raise ZeroDivisionError
        return rows

    batcher = Batcher(compute, thread)
    found = await asyncio.gather(*[batcher.submit(n) for n in (0, 1)], return_exceptions=True)
    assert [ZeroDivisionError] * 2 == [type(error) for error in found]
    assert 5 == await batcher.submit(5)


async def test_close_gives_up_waiting_rows(thread: InferenceThread) -> None:
    """Rows that wait at the close are cancelled, not left hanging."""
    batcher = Batcher(lambda rows: rows, thread, window_s=60.0)
    result = batcher.submit(1)
    await asyncio.sleep(0)
    batcher.close()
    assert result.cancelled()
