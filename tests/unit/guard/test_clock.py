"""The simulated clock decides in order and never hangs."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.guard.clock import SimulatedClock, WallClock


def _lines(seq: int, at: float = 5.0) -> dict[bytes, bytes]:
    return {b"x-stillwatch-sim-seq": b"%d" % seq, b"x-stillwatch-sim-time": b"%f" % at}


@given(order=st.permutations(range(12)), lost=st.sets(st.integers(0, 11), max_size=4))
def test_order(order: list[int], lost: set[int]) -> None:
    """Whatever order questions arrive in, they are admitted in order; given-up ones are skipped."""

    async def run() -> list[int]:
        clock, admitted = SimulatedClock(), list[int]()

        async def ask(seq: int) -> None:
            if seq in lost:
                clock.give_up(_lines(seq))
                return
            assert 100.0 + seq == await clock.admit(_lines(seq, 100.0 + seq))
            admitted.append(seq)

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for seq in order:
                group.create_task(ask(seq))
        return admitted

    assert [n for n in range(12) if n not in lost] == asyncio.run(run())


async def test_cancelled_while_waiting() -> None:
    """A question whose client leaves while it waits holds nobody up."""
    clock = SimulatedClock()
    second = asyncio.create_task(clock.admit(_lines(1)))
    third = asyncio.create_task(clock.admit(_lines(2, 7.0)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    await clock.admit(_lines(0))
    assert 7.0 == await asyncio.wait_for(third, 5)
    assert 7.0 == clock.now()


async def test_gap() -> None:
    """A question that never comes fails those behind it instead of hanging them."""
    clock = SimulatedClock(patience_s=0.01)
    with pytest.raises(InvalidInputError, match="question 0 did not come, 1 waits"):
        await clock.admit(_lines(1))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        _lines(0) | {b"x-stillwatch-sim-time": b"nan"},
        _lines(0) | {b"x-stillwatch-sim-seq": b"-1"},
    ],
)
async def test_bad_headers(headers: dict[bytes, bytes]) -> None:
    """Headers that are missing or no numbers are refused by name."""
    with pytest.raises(InvalidInputError, match="x-stillwatch-sim"):
        await SimulatedClock().admit(headers)


async def test_twice() -> None:
    """A number is used once."""
    clock = SimulatedClock()
    await clock.admit(_lines(0))
    with pytest.raises(InvalidInputError, match="1 or later"):
        await clock.admit(_lines(0))


async def test_answered() -> None:
    """Simulated times follow from the tokens, real ones from the measurement."""
    assert (10.4, 11.4) == SimulatedClock().answered(10.0, 50, first_s=9.0, whole_s=9.0)
    assert (10.5, 12.0) == WallClock().answered(10.0, 50, first_s=0.5, whole_s=2.0)
