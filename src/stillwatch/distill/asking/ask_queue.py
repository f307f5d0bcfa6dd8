"""What is to be asked next: put off, then due again, then never asked."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from stillwatch.distill.asking.ask_table import AskTable
from stillwatch.distill.asking.attempts import AnswerIndex
from stillwatch.distill.asking.bodies import Bodies
from stillwatch.distill.asking.teacher import TeacherTable
from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import Ledger, Reservation
from stillwatch.distill.money.token_bounds import input_bound
from stillwatch.record.journal import Journal

#: Items that the record has answered and that are passed over before others get a turn.
_PASSED_OVER = 500


class Permit(Protocol):
    """What a run asks under: a permission's stamp, or whatever else says whom, where and why."""

    @property
    def permission_id(self) -> str:
        """What tags every attempt."""
        ...

    @property
    def model(self) -> str:
        """The model's name as it is asked for."""
        ...

    @property
    def endpoint(self) -> str:
        """Its base URL without secrets, or `folder:` and a hash."""
        ...

    def require(self, now: float) -> None:
        """Stop unless asking is still allowed.

        Args:
            now: the time (UTC epoch seconds).

        Raises:
            NotPermittedError: it is not.
        """
        ...


class Sources(NamedTuple):
    """What a run of asking works with.

    Attributes:
        items: what is to be asked.
        answers: what the journal has answered.
        bodies: the teacher's compiled table.
        teacher: the table.
        table: how to ask.
        ledger: what may be spent, charged with what the journal holds.
        journal: where attempts are recorded.
        permission: the stamp for this teacher.
    """

    items: Iterable[Item]
    answers: AnswerIndex
    bodies: Bodies
    teacher: TeacherTable
    table: AskTable
    ledger: Ledger
    journal: Journal
    permission: Permit


class Job:
    """An item on its way to an answer."""

    __slots__ = ("failures", "item", "key", "n_input", "reservation", "tries")

    def __init__(self, item: Item, key: str, n_input: int) -> None:
        self.item = item
        self.key = key
        self.n_input = n_input
        self.tries = 0
        self.failures = 0
        self.reservation: Reservation | None = None


class Queue:
    """Gives out what is to be asked next: put off, then due again, then never asked.

    Args:
        sources: the run's.

    Attributes:
        n_seen: items read (count).
        n_known: items that the record had answered (count).
        n_repeated: items that ask what an earlier one asks (count).
        is_read: whether all items are read.
    """

    def __init__(self, sources: Sources) -> None:
        self.n_seen = self.n_known = self.n_repeated = 0
        self.is_read = False
        self._index = sources.answers
        self._again = frozenset(sources.table.again)
        self._bodies = sources.bodies
        self._system = sources.teacher.system
        self._items: Iterator[Item] = iter(sources.items)
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._n_later = 0
        self._begun: set[int] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to give out, now or later."""
        return self.is_read and not self._ready and not self._later

    @property
    def n_waiting(self) -> int:
        """Jobs put off or to be tried again (count)."""
        return len(self._ready) + len(self._later)

    def due_in(self, now: float) -> float:
        """Seconds until the next job that is to be tried again; infinity when there is none."""
        return max(0.0, self._later[0][0] - now) if self._later else math.inf

    def take(self, now: float, *, fresh: bool) -> Job | None:
        """Take the next job; None when there is none now, or many items were passed over."""
        if self._ready:
            return self._ready.popleft()
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        return self._fresh() if fresh and not self.is_read else None

    def put_back(self, job: Job) -> None:
        """Give back a job to be taken next."""
        self._ready.appendleft(job)

    def put_off(self, job: Job, due: float) -> None:
        """Give back a job to be taken again at a time (monotonic seconds)."""
        self._n_later += 1
        heapq.heappush(self._later, (due, self._n_later, job))

    def _fresh(self) -> Job | None:
        for _ in range(_PASSED_OVER):
            item = next(self._items, None)
            if item is None:
                self.is_read = True
                return None
            self.n_seen += 1
            key = self._bodies.key(item)
            known = self._index.outcome(key)
            if known is not None and known not in self._again:
                self.n_known += 1
                continue
            half = int(key[:16], 16)
            if half in self._begun:  # the same question twice in one run
                self.n_repeated += 1
                continue
            self._begun.add(half)
            return Job(item, key, input_bound(item, self._system))
        return None
