"""The decision on a whole batch: on every model that its rows ask, and all its tokens at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from stillwatch.guard.batch.copies import Tally
from stillwatch.guard.routes.asking import Came, Requested, decide_through, refusal_of, wall_of
from stillwatch.guard.routes.replies import Refusal
from stillwatch.guard.routes.wires import wire_of
from stillwatch.guard.wall.decide import Action, Decision, decide, decide_posed, decide_unread
from stillwatch.guard.wall.ladder import Rung

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

_RANK: Final = {action: rank for rank, action in enumerate(get_args(Action))}
_BATCH: Final = frozenset({"batch"})


class Ruled(NamedTuple):
    """What is done with a batch.

    Attributes:
        decision: the strongest of its models'; refuses the whole batch or none of it.
        stripped: models whose rows are rewritten.
    """

    decision: Decision
    stripped: frozenset[str]


class _Asks:
    """Stands for the buckets while it is found out how many tokens a batch needs."""

    def __init__(self) -> None:
        self.amount = 0
        self.n_answers = 0
        self.rung: Rung | None = None
        self.campaign_id = ""

    def take(self, campaign_id: str, now: float, *, rung: Rung, amount: float = 1.0) -> float:
        self.amount += self.n_answers
        self.campaign_id = campaign_id
        # The campaign's models share one bucket; the tightest rung says how much it holds.
        if self.rung is None or rung.rate_per_s < self.rung.rate_per_s:
            self.rung = rung
        return 0.0


class _Answers(NamedTuple):
    """Stands for the buckets once it is known whether all tokens were there."""

    wait_s: float

    def take(self, campaign_id: str, now: float, *, rung: Rung, amount: float = 1.0) -> float:
        return self.wait_s


class _Ladder:
    """Asks the ladder about each model of a batch; takes the tokens of all when one is let pass."""

    def __init__(self, state: GuardState, came: Came, tally: Tally) -> None:
        self._state = state
        self._came = came
        self._wait_s: float | None = None
        self.asks = _Asks()
        for model, n_answers in tally.answers.items():
            self.asks.n_answers = n_answers
            # Where one model is refused anyway, all are: no token is taken for nothing.
            if self._decide(model, self.asks).is_refusal:
                self._wait_s = 0.0

    def __call__(self, model: str) -> Decision:
        if self._wait_s is None:
            self._wait_s = self._take()
        return self._decide(model, _Answers(self._wait_s))

    def _take(self) -> float:
        asks = self.asks
        if asks.rung is None:
            return 0.0
        return self._state.buckets.take(
            asks.campaign_id, self._came.now, rung=asks.rung, amount=float(asks.amount)
        )

    def _decide(self, model: str, buckets: _Asks | _Answers) -> Decision:
        state, account, now = self._state, self._came.principal.account, self._came.now
        return decide_posed(
            account, model, now, board=state.board, ladder=state.config.ladder, buckets=buckets
        )


def decide_batch(state: GuardState, came: Came, tally: Tally | None, *, endpoint: str) -> Ruled:
    """Decide on a batch; no await, no I/O.

    Args:
        state: shared.
        came: who asks, when and from where.
        tally: what its rows ask, or None when they cannot be read.
        endpoint: that all rows go to; "" where each row says.

    Returns:
        What is done with it.
    """
    is_asking = not endpoint or wire_of(endpoint) is not None
    if tally is None:
        return Ruled(_unread(state, came, None, is_read=is_asking), frozenset())
    ladder = _Ladder(state, came, tally)
    found = {model: _of_model(state, came, model, tally=tally, ladder=ladder)
             for model in tally.models}  # fmt: skip
    n_asked = sum(tally.models.values())
    decisions = list(found.values())
    if tally.n_unread or n_asked < tally.n_rows or not decisions:
        # A row that only the model server can read would be a way round throttle and mark.
        is_hidden = is_asking and (tally.n_unread > 0 or n_asked < max(1, tally.n_rows))
        decisions.append(_unread(state, came, tally, is_read=is_hidden))
    strongest = max(decisions, key=_rank)
    effects = frozenset[str]().union(*(decision.effects for decision in decisions))
    took = ladder.asks.rung if any(decision.took for decision in decisions) else None
    stripped = frozenset(model for model, made in found.items() if "strip" in made.effects)
    n_took = ladder.asks.amount if took is not None else 1
    return Ruled(strongest._replace(effects=effects, took=took, n_took=n_took), stripped)


def decide_fetch(state: GuardState, account: str, now: float, *, models: list[str]) -> Decision:
    """Decide whether results may be fetched: what is blocked or challenged gets no more answers.

    Args:
        state: shared.
        account: whose batch.
        now: UTC epoch seconds.
        models: that the batch asked, as far as they are known.

    Returns:
        The decision; tokens were taken when the batch was made.
    """
    board, wall = state.board, state.config.ladder
    free = _Answers(0.0)
    found = [
        decide(account, model, now, board=board, ladder=wall, buckets=free)
        for model in models
    ] or [decide_unread(account, now, board=board, ladder=wall)]  # fmt: skip
    return max(found, key=_rank)


def refusal_of_batch(state: GuardState, decision: Decision, *, request_id: str) -> Refusal:
    """Give the reply to a batch that is refused.

    Args:
        state: shared.
        decision: a refusal.
        request_id: of the request.

    Returns:
        The reply; one that no waiting helps says so.
    """
    wait_s = decision.retry_after_s
    if decision.action == "throttle" and (wait_s is None or not math.isfinite(wait_s)):
        message = decision.message or "This batch asks more than this account may ask at once."
        return Refusal(429, message, "batch_too_large", final=True)
    return refusal_of(decision, state.config.challenge, request_id)


def _of_model(
    state: GuardState, came: Came, model: str, *, tally: Tally, ladder: _Ladder
) -> Decision:
    asks = frozenset(tally.asks.get(model, ())) | _BATCH
    facts = Requested(model, asks, tally.models[model])
    return decide_through(wall_of(state), came, facts, ladder=lambda: ladder(model))


def _unread(state: GuardState, came: Came, tally: Tally | None, *, is_read: bool) -> Decision:
    account, now = came.principal.account, came.now
    board, wall = state.board, state.config.ladder

    def by_ladder() -> Decision:
        return decide_unread(account, now, board=board, ladder=wall, is_chat=is_read)

    n_rows = tally.n_rows - sum(tally.models.values()) if tally is not None else 1
    return decide_through(wall_of(state), came, Requested(None, _BATCH, n_rows), ladder=by_ladder)


def _rank(decision: Decision) -> tuple[int, int]:
    return _RANK[decision.action], _RANK[decision.would_have or "allow"]
