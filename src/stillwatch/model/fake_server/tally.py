"""What a fake endpoint was asked: counted per question, whatever the client believes."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable

import msgspec


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint saw since it started, or since its counts were reset.

    A question is known by `question_key`: its turns, whatever model or parameters came with it.

    Attributes:
        n_requests: attempts at questions, of whatever end (count).
        n_distinct: different questions among them (count).
        n_billed: answers that were produced, and that a vendor would charge, batch rows included;
            an answer whose client has gone is one of them (count).
        n_billed_distinct: different questions among them (count).
        n_delivered: answers handed whole to an open connection (count).
        n_streamed: answers sent as server-sent events (count).
        n_batch_rows: rows of batches that were answered (count).
        n_batches: batches taken (count).
        n_connections: connections opened (count).
        most_at_once: questions under way at once, at most (count).
        input_tokens: tokens of the questions billed (count).
        output_tokens: tokens of the answers billed (count).
        statuses: replies by HTTP status (counts); 0 is a connection closed without one.
        faults: faults met, by name (counts).
        seconds: from the first attempt to the last reply (seconds).
        asked: attempts by question; empty unless it was asked for.
        billed: answers by question; empty unless it was asked for.
    """

    n_requests: int = 0
    n_distinct: int = 0
    n_billed: int = 0
    n_billed_distinct: int = 0
    n_delivered: int = 0
    n_streamed: int = 0
    n_batch_rows: int = 0
    n_batches: int = 0
    n_connections: int = 0
    most_at_once: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    statuses: dict[int, int] = {}
    faults: dict[str, int] = {}
    seconds: float = 0.0
    asked: dict[str, int] = {}
    billed: dict[str, int] = {}

    @property
    def n_billed_again(self) -> int:
        """Answers beyond the first to the same question (count)."""
        return self.n_billed - self.n_billed_distinct


class Tally:
    """The running counts of an endpoint. One event loop writes it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.n_delivered = self.n_streamed = self.n_batch_rows = self.n_batches = 0
        self.n_connections = self.under_way = self.most_at_once = 0
        self.input_tokens = self.output_tokens = 0
        self._first_at = self._last_at = 0.0

    def arrive(self, key: str) -> int:
        """Count an attempt.

        Args:
            key: the question's.

        Returns:
            Which attempt at this question it is, from 1.
        """
        if not self._first_at:
            self._first_at = time.monotonic()
        self.asked[key] += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        return self.asked[key]

    def bill(self, key: str, *, input_tokens: int, output_tokens: int) -> None:
        """Count an answer that was produced.

        Args:
            key: the question's.
            input_tokens: of the question (count).
            output_tokens: of the answer (count).
        """
        self.billed[key] += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def leave(self, status: int) -> None:
        """Count the end of an attempt.

        Args:
            status: of its reply, 0 when there was none.
        """
        self.statuses[status] += 1
        self.under_way -= 1
        self._last_at = time.monotonic()

    def counts(self, *, with_keys: bool) -> Counts:
        """Say what was counted.

        Args:
            with_keys: tell the counts of each question too.

        Returns:
            The counts.
        """
        return Counts(
            n_requests=self.asked.total(),
            n_distinct=len(self.asked),
            n_billed=self.billed.total(),
            n_billed_distinct=len(self.billed),
            n_delivered=self.n_delivered,
            n_streamed=self.n_streamed,
            n_batch_rows=self.n_batch_rows,
            n_batches=self.n_batches,
            n_connections=self.n_connections,
            most_at_once=self.most_at_once,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            statuses=dict(self.statuses),
            faults=dict(self.faults),
            seconds=max(0.0, self._last_at - self._first_at),
            asked=dict(self.asked) if with_keys else {},
            billed=dict(self.billed) if with_keys else {},
        )


def question_key(turns: Iterable[tuple[str, str]]) -> str:
    """Know a question by its turns, whatever wire and client brought it.

    Args:
        turns: role and text of each, the system's first; `developer` counts as `system`.

    Returns:
        16 hex digits.

    Example:
        >>> question_key([("user", "1+1?")])
        '97000d2a786b2815'
    """
    digest = hashlib.blake2b(digest_size=8)
    for role, text in turns:
        shown = "system" if role == "developer" else role
        digest.update(f"{shown}\x1f{text}\x1e".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
