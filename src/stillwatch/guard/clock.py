"""Time as the gateway sees it: the wall's, or a simulation's that repeats exactly.

In a simulation every question carries its time and its place in the order. Sockets deliver in any
order, so the simulated clock holds early ones back until their turn; the caller must then decide
without awaiting anything, and decisions fall strictly in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

from stillwatch.errors import InvalidInputError, reject

SIM_TIME: Final = b"x-stillwatch-sim-time"
SIM_SEQ: Final = b"x-stillwatch-sim-seq"
#: Simulated answers start after 0.4 s and then take 0.02 s a token (50 tokens/s, a common pace
#: of hosted models); only gaps between questions are read from these times.
FIRST_OUTPUT_S: Final = 0.4
TOKEN_S: Final = 0.02


class Clock(Protocol):
    """Says when a question came and when its answer ended."""

    async def admit(self, headers: Mapping[bytes, bytes]) -> float:
        """Wait for the question's turn.

        Args:
            headers: the request's, names in lower case.

        Returns:
            When the question came, UTC epoch seconds.

        Raises:
            InvalidInputError: the headers do not fit this clock.
        """
        ...

    def now(self) -> float:
        """Tell the time for what no question asks for.

        Returns:
            UTC epoch seconds.
        """
        ...

    def give_up(self, headers: Mapping[bytes, bytes]) -> None:
        """Let the others pass: this question will never be decided.

        Args:
            headers: the request's.
        """
        ...

    def answered(
        self, started_at: float, output_tokens: int, *, first_s: float, whole_s: float
    ) -> tuple[float, float]:
        """Say when an answer began and ended.

        Args:
            started_at: as `admit` returned.
            output_tokens: of the answer (count).
            first_s: measured seconds to the first byte.
            whole_s: measured seconds to the last byte.

        Returns:
            (first_output_at, ended_at), UTC epoch seconds.
        """
        ...


class WallClock:
    """The machine's own time; nobody waits."""

    async def admit(self, headers: Mapping[bytes, bytes]) -> float:
        """Return the time now.

        Args:
            headers: not looked at.

        Returns:
            UTC epoch seconds.
        """
        return time.time()

    def now(self) -> float:
        """Return the time now.

        Returns:
            UTC epoch seconds.
        """
        return time.time()

    def give_up(self, headers: Mapping[bytes, bytes]) -> None:
        """Do nothing: nobody waits.

        Args:
            headers: not looked at.
        """

    def answered(
        self,
        started_at: float,
        output_tokens: int,
        *,
        first_s: float,
        whole_s: float,
    ) -> tuple[float, float]:
        """Add the measured times.

        Args:
            started_at: as `admit` returned.
            output_tokens: not looked at.
            first_s: measured seconds to the first byte.
            whole_s: measured seconds to the last byte.

        Returns:
            (first_output_at, ended_at).
        """
        return started_at + first_s, started_at + whole_s


class SimulatedClock:
    """A calendar carried by the questions themselves, admitted in order of their sequence number.

    Args:
        patience_s: seconds of real time without any admission after which a waiting question is
            refused; a gap in the sequence is a fault of the driver and must not hang the run.
    """

    def __init__(self, *, patience_s: float = 30.0) -> None:
        self._next = 0
        self._now = 0.0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._given_up: set[int] = set()
        self._patience_s = patience_s

    async def admit(self, headers: Mapping[bytes, bytes]) -> float:
        """Wait until every question with a lower number was admitted.

        After the return the caller must take its decision before it awaits: the next question is
        already woken, and runs at the first suspension.

        Args:
            headers: with `x-stillwatch-sim-time` and `x-stillwatch-sim-seq`.

        Returns:
            The simulated time, UTC epoch seconds.

        Raises:
            InvalidInputError: a header is missing or no number, the number was seen before, or the
                question before it did not come.
        """
        seq = _number(headers, SIM_SEQ)
        at = _time(headers)
        if seq < self._next or seq in self._waiting:
            reject("gateway", SIM_SEQ.decode(), f"{self._next} or later, once each", got=seq)
        if seq > self._next:
            await self._turn(seq)
        self._now = at
        self._advance()
        return at

    def now(self) -> float:
        """Return the time of the question admitted last.

        Returns:
            UTC epoch seconds, 0.0 before the first question.
        """
        return self._now

    async def _turn(self, seq: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[seq] = turn
        try:
            while not turn.done():
                before = self._next
                await asyncio.wait({turn}, timeout=self._patience_s)
                if self._next == before and not turn.done():
                    _out_of_patience(before, seq)
        except BaseException:
            # Cancelled or out of patience: nobody may wait for this one.
            self._given_up.add(seq)
            raise
        finally:
            del self._waiting[seq]
            self._skip_given_up()

    def give_up(self, headers: Mapping[bytes, bytes]) -> None:
        """Count a question as admitted that will never ask, so that the others pass.

        Args:
            headers: the request's; without a usable number nothing happens.
        """
        try:
            seq = _number(headers, SIM_SEQ)
        except InvalidInputError:
            return
        if seq >= self._next and seq not in self._waiting:
            self._given_up.add(seq)
            self._skip_given_up()

    def answered(
        self,
        started_at: float,
        output_tokens: int,
        *,
        first_s: float,
        whole_s: float,
    ) -> tuple[float, float]:
        """Compute times from the token count, so that they repeat.

        Args:
            started_at: as `admit` returned.
            output_tokens: of the answer (count).
            first_s: not looked at.
            whole_s: not looked at.

        Returns:
            (first_output_at, ended_at).
        """
        first = started_at + FIRST_OUTPUT_S
        return first, first + TOKEN_S * output_tokens

    def _advance(self) -> None:
        self._next += 1
        self._skip_given_up()

    def _skip_given_up(self) -> None:
        while self._next in self._given_up:
            self._given_up.discard(self._next)
            self._next += 1
        turn = self._waiting.get(self._next)
        if turn is not None and not turn.done():
            turn.set_result(None)


def _out_of_patience(missing: int, seq: int) -> NoReturn:
    message = f"gateway: question {missing} did not come, {seq} waits for it"
    raise InvalidInputError(message, hint="number the questions without a gap")


def _number(headers: Mapping[bytes, bytes], name: bytes) -> int:
    raw = headers.get(name, b"")
    if not raw.isdigit() or len(raw) > 18:
        reject(
            "gateway", name.decode(), "a whole number in a simulation", got=raw.decode("latin-1")
        )
    return int(raw)


def _time(headers: Mapping[bytes, bytes]) -> float:
    raw = headers.get(SIM_TIME, b"").decode("latin-1")
    try:
        at = float(raw)
    except ValueError:
        at = -1.0
    if not 0.0 <= at < 1e11:
        reject("gateway", SIM_TIME.decode(), "epoch seconds in a simulation", got=raw)
    return at
