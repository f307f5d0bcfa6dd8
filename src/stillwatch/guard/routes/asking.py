"""What becomes of one question: the decision of policy and ladder, and the reply of a refusal.

It knows nothing of sockets or of any web framework: routes, plug-ins and batches call it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from stillwatch.guard.keys import Principal
from stillwatch.guard.policy.apply import decide_by_policy
from stillwatch.guard.policy.facts import Asking, capabilities, route_capabilities
from stillwatch.guard.policy.live import LivePolicy
from stillwatch.guard.recording.recorder import Asked, new_exchange_id
from stillwatch.guard.routes.owners import SOUND, Standing
from stillwatch.guard.routes.replies import BLOCKED, Refusal
from stillwatch.guard.routes.wires import Parsed, Wire
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.challenge import CHALLENGED, ChallengeConfig, challenge_message
from stillwatch.guard.wall.decide import Decision, decide_posed, decide_unread
from stillwatch.guard.wall.ladder import Buckets, Ladder, Rung
from stillwatch.guard.wall.verdict import Board

#: Tag of a question that was refused for the stored answers that it names: says what was wrong.
STORED_TAG: Final = "stored"


class Came(NamedTuple):
    """How a question came.

    Attributes:
        principal: who asks.
        headers: the request's, names in lower case.
        now: UTC epoch seconds.
        address: the client's, or None.
    """

    principal: Principal
    headers: Mapping[bytes, bytes]
    now: float
    address: str | None


def judge(
    state: GuardState,
    came: Came,
    parsed: Parsed | None,
    *,
    wire: Wire,
    standing: Standing = SOUND,
) -> Asked:
    """Decide on one question; no await, no I/O.

    Args:
        state: shared.
        came: who asks, when and from where.
        parsed: the question, or None when it cannot be read.
        wire: the wire that it came on.
        standing: how the account stands to the stored answers that it names; with a fault nothing
            else is asked, and `refusal_of` the question says what to reply.

    Returns:
        The question with the decision, ready to be answered and recorded.
    """
    if standing.fault:
        decision = _barred(state, standing)
    else:
        decision = decide_asked(wall_of(state), came, parsed)
    asked = _asked(state, came, parsed, wire=wire, decision=decision)
    asked.session = standing.session or asked.session
    _note(state, came, decision)
    if parsed is None and not standing.fault:
        # An account that nobody can read is worth a look of its own.
        asked.tags["question"] = "unreadable"
        state.metrics.count("unread")
    if state.link.state == "dead":
        asked.tags["unscored"] = "learner dead"
    return asked


def _asked(
    state: GuardState, came: Came, parsed: Parsed | None, *, wire: Wire, decision: Decision
) -> Asked:
    question, session = None, None
    if parsed is not None:
        question, session = parsed.question, parsed.session
    parameters = question.parameters if question is not None else None
    agent = came.headers.get(b"user-agent")
    return Asked(
        exchange_id=_exchange_id(state, came.headers),
        principal=came.principal,
        question=question,
        decision=decision,
        started_at=came.now,
        address=came.address,
        user_agent=agent.decode("utf-8", "replace") if agent else None,
        tags={**state.callers.tags(came.headers, parameters), **(decision.tags or {})},
        wire=wire,
        session=session,
        keeps_bodies="log_full" in decision.effects,
        traceparent=came.headers.get(b"traceparent"),
    )


def _note(state: GuardState, came: Came, decision: Decision) -> None:
    if decision.would_have is not None:
        state.metrics.count("would_have", action=decision.would_have)
    if decision.campaign_id is not None:
        verdict = state.board.verdict(came.principal.account, came.now)
        state.deeds.note(decision, verdict, came.now)


def _barred(state: GuardState, standing: Standing) -> Decision:
    fault = standing.fault or ""
    state.metrics.count("stored_refused", fault=fault)
    tags = {STORED_TAG: fault}
    if standing.owner is not None:
        # Whoever holds another's ids may well be the other: that links accounts.
        tags["stored_owner"] = standing.owner
    return Decision("block", None, f"stored answer: {fault}", tags=tags)


class Wall(NamedTuple):
    """What a decision depends on besides the question; a replay puts an earlier one together.

    Attributes:
        board: verdicts, orders and clearances.
        ladder: what is done to campaigns.
        buckets: the campaigns' token buckets.
        policy: the rules, or None.
    """

    board: Board
    ladder: Ladder
    buckets: Buckets
    policy: LivePolicy | None


class _Several:
    """Buckets of which a question takes a token for every answer that it asks for."""

    def __init__(self, buckets: Buckets, n_answers: int) -> None:
        self._buckets = buckets
        self._n_answers = n_answers

    def take(self, campaign_id: str, now: float, *, rung: Rung, amount: float = 1.0) -> float:
        amount *= self._n_answers
        return self._buckets.take(campaign_id, now, rung=rung, amount=amount)


def decide_asked(wall: Wall, came: Came, parsed: Parsed | None) -> Decision:
    """Decide on a question by policy and ladder; no await, no I/O.

    Args:
        wall: what it depends on.
        came: who asks, when and from where.
        parsed: the question, or None when it cannot be read.

    Returns:
        The decision.
    """
    account, now, board, ladder = came.principal.account, came.now, wall.board, wall.ladder

    def by_ladder() -> Decision:
        if parsed is None:
            return decide_unread(account, now, board=board, ladder=ladder, is_chat=True)
        n, model = parsed.n_answers, parsed.question.model
        buckets = wall.buckets if n == 1 else _Several(wall.buckets, n)
        decision = decide_posed(account, model, now, board=board, ladder=ladder, buckets=buckets)
        return decision if decision.took is None else decision._replace(n_took=n)

    if wall.policy is None:
        return by_ladder()
    model, asks = None, None
    if parsed is not None:
        model = parsed.question.model
        asks = capabilities(parsed.question.parameters, streamed=parsed.is_streamed)
    return decide_through(wall, came, Requested(model, asks), ladder=by_ladder)


class Requested(NamedTuple):
    """What a policy is told of a request besides who sent it.

    Attributes:
        model: asked for, or None.
        asks: capabilities asked for, or None when they are not known.
        questions: that it counts as (count).
    """

    model: str | None = None
    asks: frozenset[str] | None = None
    questions: int = 1


def decide_through(
    wall: Wall, came: Came, facts: Requested, *, ladder: Callable[[], Decision]
) -> Decision:
    """Decide by the policy, where there is one, and by the ladder if that lets it.

    Args:
        wall: what it depends on.
        came: who asks, when and from where.
        facts: what the policy is told.
        ladder: gives the ladder's decision.

    Returns:
        The decision.
    """
    if wall.policy is None:
        return ladder()
    account, now = came.principal.account, came.now
    asking = Asking(
        account,
        came.principal.org,
        facts.model,
        facts.asks,
        came.address,
        wall.board.verdict(account, now),
        is_verified=wall.board.is_verified(account, now),
        questions=facts.questions,
    )
    return decide_by_policy(wall.policy, asking, now, ladder=ladder)


def wall_of(state: GuardState) -> Wall:
    """Give what decisions depend on now.

    Args:
        state: shared.

    Returns:
        The wall.
    """
    return Wall(state.board, state.config.ladder, state.buckets, state.policy)


def judge_unread(
    state: GuardState, principal: Principal, *, path: str, address: str | None
) -> Decision:
    """Decide on a request on a route that is passed without reading.

    Args:
        state: shared.
        principal: who asks.
        path: of the request.
        address: the client's, or None.

    Returns:
        The decision.
    """
    wall = wall_of(state)
    came = Came(principal, {}, state.clock.now(), address)

    def by_ladder() -> Decision:
        return decide_unread(principal.account, came.now, board=wall.board, ladder=wall.ladder)

    if wall.policy is None:
        return by_ladder()
    return decide_through(wall, came, Requested(asks=route_capabilities(path)), ladder=by_ladder)


def _exchange_id(state: GuardState, headers: Mapping[bytes, bytes]) -> str:
    # Outside a simulation a client's word for its request is not unique, and not ours to record.
    named = headers.get(b"x-request-id") if state.config.simulation else None
    return named.decode("latin-1") if named else new_exchange_id()


def refusal_of(decision: Decision, challenge: ChallengeConfig, request_id: str = "") -> Refusal:
    """Give the reply to a question that is not answered.

    Args:
        decision: block, challenge or throttle.
        challenge: where challenged people are sent.
        request_id: of the question, for them to be known by.

    Returns:
        The reply; a rule's own message goes before the usual one.
    """
    if decision.action == "challenge":
        message = challenge_message(challenge, request_id, message=decision.message)
        return Refusal(403, message, CHALLENGED, final=True)
    if decision.action == "throttle":
        message = decision.message or "Too many requests. Please slow down."
        wait_s = decision.retry_after_s
        # A bare 429 would be asked again at once, twice.
        return Refusal(429, message, "rate_limit_exceeded", wait_s, final=wait_s is None)
    return BLOCKED if decision.message is None else BLOCKED._replace(message=decision.message)
