"""The `[ask]` table of a run, and what asking reports: progress, and a summary at the end."""

from __future__ import annotations

from typing import Literal

import msgspec

from stillwatch.distill.money.budget import Spend
from stillwatch.errors import reject

#: Outcomes that may be bought a second time, if the user wants it.
Again = Literal["truncated", "refused", "filtered", "empty"]
#: Why asking ended. `held`: the endpoint wants a longer rest than allowed; `unanswered`: it failed
#: too many questions in a row; `rejected`: it refused the form of the first questions.
Stopped = Literal["done", "budget", "interrupted", "held", "unanswered", "rejected"]


class AskTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[ask]` table of a run.

    Attributes:
        concurrency: questions under way at once, at most (count); how many there are is found out.
        start: questions under way at once, to begin with (count).
        requests_per_minute: a hard limit, or None.
        tokens_per_minute: a hard limit on questions and answers together, or None.
        retries: further tries at a question that failed on the endpoint's side (count); being told
            to slow down is no failure.
        first_wait_s: before the first of them (seconds), doubled for each next.
        longest_wait_s: the longest rest that an endpoint may ask for (seconds); a longer one ends
            the run, to be resumed later.
        connect_s: to wait for a connection (seconds).
        silence_s: to wait between two pieces of an answer, and for its first (seconds).
        total_s: to wait for a whole answer (seconds).
        stream: have answers sent in pieces, so that `silence_s` guards long ones.
        batch: ask through the vendor's batch API instead, later and cheaper.
        batch_size: questions that a local folder answers at once (count).
        again: outcomes on record that are to be bought again: truncated, refused, filtered, empty.
    """

    concurrency: int = 256
    start: int = 20
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    retries: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 300.0
    connect_s: float = 10.0
    silence_s: float = 120.0
    total_s: float = 600.0
    stream: bool = False
    batch: bool = False
    batch_size: int = 32
    again: tuple[Again, ...] = ()

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for name in ("concurrency", "start", "batch_size"):
            if getattr(self, name) < 1:
                reject("[ask]", name, "at least 1", got=getattr(self, name))
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                reject("[ask]", name, "at least 1, or left out", got=value)
        for name in ("connect_s", "silence_s", "total_s"):
            if not getattr(self, name) > 0:
                reject("[ask]", name, "above 0", got=getattr(self, name))
        for name in ("retries", "first_wait_s", "longest_wait_s"):
            if getattr(self, name) < 0:
                reject("[ask]", name, "at least 0", got=getattr(self, name))


class AskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Where asking stands.

    Attributes:
        n_items: items to be asked, or None when nobody knows yet.
        n_done: items with a final answer on record, those of earlier runs included (count).
        n_sent: attempts sent by this run (count).
        n_given_up: items that failed for good in this run (count).
        in_flight: questions under way now (count).
        limit: questions allowed under way now (count).
        rate_per_s: final answers a second, lately.
        spend: what the ledger has paid and holds.
        seconds_left: at that rate (seconds), or None when it cannot be told.
        held_s: how long the endpoint still wants nothing (seconds).
    """

    n_items: int | None = None
    n_done: int = 0
    n_sent: int = 0
    n_given_up: int = 0
    in_flight: int = 0
    limit: int = 0
    rate_per_s: float = 0.0
    spend: Spend = Spend()
    seconds_left: float | None = None
    held_s: float = 0.0


class AskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What asking came to.

    Attributes:
        stopped: why it ended.
        n_items: items seen (count).
        n_known: items that the record had answered before (count).
        n_repeated: items that ask what an earlier item asks (count).
        n_answered: items that got a final answer now (count), of whatever outcome.
        outcomes: final answers got now, by outcome (counts).
        n_given_up: items that failed for good now (count); the next run asks them again.
        n_sent: attempts sent (count).
        n_limited: attempts that the endpoint put off (count).
        failures: failed attempts by code (counts), those put off included.
        most_in_flight: questions under way at once, at most (count).
        seconds: from the first question to the last answer (seconds).
        spend: what the ledger has paid in all.
        problem: why it ended early, one sentence, or "".
        hint: what to do about it, or "".
    """

    stopped: Stopped = "done"
    n_items: int = 0
    n_known: int = 0
    n_repeated: int = 0
    n_answered: int = 0
    outcomes: dict[str, int] = {}
    n_given_up: int = 0
    n_sent: int = 0
    n_limited: int = 0
    failures: dict[str, int] = {}
    most_in_flight: int = 0
    seconds: float = 0.0
    spend: Spend = Spend()
    problem: str = ""
    hint: str = ""

    @property
    def exit_code(self) -> int:
        """0 when all is answered, 3 when the budget is reached, 5 when something is missing."""
        if self.stopped == "budget":
            return 3
        return 0 if self.stopped == "done" and not self.n_given_up else 5
