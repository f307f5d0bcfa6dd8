"""The gateway's decision and record for questions that another server receives and answers.

Whoever holds the question asks for a `Decision`, does it, and tells what came of it. What the
caller cannot do (mark an answer, rewrite a body) is not written into the record as done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, NamedTuple, Self

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.relay import Relayed
from stillwatch.guard.inside.told import Told
from stillwatch.guard.keys import KEY_KIND, Principal
from stillwatch.guard.recording.recorder import Asked
from stillwatch.guard.routes.asking import Came, judge, judge_unread, refusal_of
from stillwatch.guard.routes.replies import Refusal
from stillwatch.guard.routes.wires import Parsed, Wire
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.challenge import VERIFIED_HEADER
from stillwatch.guard.wall.decide import strongest
from stillwatch.wire.chat import BadRequestError

#: What only the gateway itself can do: the order to mark is signed over the bytes that it sends.
_OUT_OF_REACH: Final = frozenset({"watermark", "canary"})
_EVENTS: Final = [(b"content-type", b"text/event-stream")]


class Occasion(NamedTuple):
    """One question as the other server received it.

    Attributes:
        account: who asks.
        key: the key, or the hash by which the other server knows it; hashed again.
        org: the account's organisation, or None.
        wire: how it is asked.
        body: the question as that wire's JSON.
        headers: the client's that matter, names in lower case.
        address: the client's, or None.
    """

    account: str
    key: str
    org: str | None
    wire: Wire
    body: bytes
    headers: Mapping[bytes, bytes]
    address: str | None = None


class Answered(NamedTuple):
    """What came of a question.

    Attributes:
        status: HTTP status that the client got, 0 when it got none.
        body: the whole reply as JSON of some wire, or None when there is none to tell.
        wire: that wire.
        error: short code of a failure, or None.
        streamed: the client got it as server-sent events.
        first_s: seconds to its first byte.
        whole_s: seconds to its last byte.
        tags: further facts for the record.
    """

    status: int
    body: bytes | None
    wire: Wire
    error: str | None = None
    streamed: bool = False
    first_s: float = 0.0
    whole_s: float = 0.0
    tags: Mapping[str, str] = {}


class Desk:
    """Decides and records on a state that is open.

    Args:
        state: shared with whatever else serves from it.
        can_strip: the caller can take parameters out of a question.
    """

    def __init__(self, state: GuardState, *, can_strip: bool) -> None:
        self.state = state
        self._beyond = _OUT_OF_REACH if can_strip else _OUT_OF_REACH | {"strip"}
        self._hasher = state.config.secrets.hasher

    async def ask(self, occasion: Occasion) -> Asked:
        """Decide on one question.

        Args:
            occasion: the question.

        Returns:
            The question with the decision; pass it to `refused` or `answered` once it is done.

        Raises:
            InvalidInputError: the state is a simulation's, and the headers do not fit its clock.
        """
        state = self.state
        principal = self._principal(occasion)
        parsed = _parsed(occasion)
        token = occasion.headers.get(VERIFIED_HEADER)
        if token is not None:
            await state.challenges.present(occasion.account, token)
        now = await state.clock.admit(occasion.headers)
        # No await from here to the decision, as on the gateway's own routes.
        came = Came(principal, occasion.headers, now, occasion.address)
        asked = judge(state, came, parsed, wire=occasion.wire)
        if state.shared is not None and asked.decision.took is not None:
            asked.decision = await state.shared.settle(asked.decision, now)
        self._keep_within_reach(asked)
        return asked

    def refusal(self, asked: Asked) -> Refusal | None:
        """Say what to reply instead of an answer.

        Args:
            asked: the question with the decision.

        Returns:
            The reply, or None when the question may be answered.
        """
        if not asked.decision.is_refusal:
            return None
        return refusal_of(asked.decision, self.state.config.challenge, asked.exchange_id)

    def refusal_unread(self, occasion: Occasion, *, path: str) -> Refusal | None:
        """Decide on a request that is no question (embeddings, images, files).

        Args:
            occasion: who asks; its body is not looked at.
            path: of the route, which says what is asked for.

        Returns:
            What to reply instead, or None to let it pass.
        """
        principal = self._principal(occasion)
        decision = judge_unread(self.state, principal, path=path, address=occasion.address)
        if not decision.is_refusal:
            return None
        refusal = refusal_of(decision, self.state.config.challenge)
        self.state.metrics.count(
            "passed_through", action=decision.action, status=str(refusal.status)
        )
        return refusal

    def refused(self, asked: Asked, refusal: Refusal) -> None:
        """Record a question that was not answered.

        Args:
            asked: the question.
            refusal: what was replied.
        """
        self._count(asked, refusal.status)
        told = self.state.recorder.refused(asked, status=refusal.status, code=refusal.code)
        self.state.follow(asyncio.create_task(told))

    def answered(self, asked: Asked, answered: Answered) -> None:
        """Record a question that was forwarded, whatever came of it.

        Args:
            asked: the question.
            answered: what came of it.
        """
        self._count(asked, answered.status)
        asked.wire = Told(asked.wire, answered.wire)
        asked.tags |= answered.tags
        relayed = Relayed(
            status=answered.status,
            pairs=_EVENTS if answered.streamed else [],
            chunks=[answered.body] if answered.body else [],
            is_whole=answered.error is None,
            error=answered.error,
            first_s=answered.first_s,
            whole_s=answered.whole_s,
        )
        self.state.follow(asyncio.create_task(self.state.recorder.answered(asked, relayed)))

    def _principal(self, occasion: Occasion) -> Principal:
        key_hash = self._hasher.hash(KEY_KIND, occasion.key)
        return Principal(occasion.account, key_hash, occasion.org)

    def _keep_within_reach(self, asked: Asked) -> None:
        decision = asked.decision
        beyond = (decision.effects | {decision.action}) & self._beyond
        if not beyond:
            return
        effects = decision.effects - beyond
        asked.decision = decision._replace(effects=effects)
        for effect in sorted(beyond):
            self.state.metrics.count("out_of_reach", action=effect)
        if decision.action in beyond:
            left = strongest(effects, "observe")
            would_have = decision.would_have or decision.action
            asked.decision = asked.decision._replace(action=left, would_have=would_have)
        # Whoever decides this question again must know why less was done.
        asked.tags["decided_by"] = f"inside, without {', '.join(sorted(beyond))}"

    def _count(self, asked: Asked, status: int) -> None:
        action = asked.decision.action
        self.state.metrics.count("requests", action=action, status=str(status))


class Inside(Desk):
    """The wall as a library object; an async context manager that holds the state folder.

    Example:
        async with Inside(load_config(path, secrets=Secrets.from_env())) as wall:
            asked = await wall.ask(occasion)
            refusal = wall.refusal(asked)

    Args:
        config: the gateway's; `upstream` is not used.
    """

    def __init__(self, config: GuardConfig) -> None:
        super().__init__(GuardState(config), can_strip=True)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def _parsed(occasion: Occasion) -> Parsed | None:
    try:
        return occasion.wire.parse(occasion.body)
    except BadRequestError:
        return None
