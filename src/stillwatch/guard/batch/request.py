"""What the handlers of files and batches share: one request, and the way it is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send

from stillwatch.guard.batch.held import Edit, Held
from stillwatch.guard.batch.routes import Route
from stillwatch.guard.connections.relay import Outgoing, Relay, Relayed
from stillwatch.guard.routes.ask_route import present_key, target
from stillwatch.guard.routes.asking import Came
from stillwatch.guard.routes.headers import to_upstream
from stillwatch.guard.routes.replies import Refusal, body_of, refuse
from stillwatch.guard.routes.wires import Wire

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

#: Longest answer that is read before it is sent (bytes): a page of ten thousand files has 4 MB.
_HELD_BYTES = 16 * 2**20
_TOO_LONG = Refusal(502, "The model server's answer is too long to be checked.", "answer_too_long")
GONE = Refusal(502, "The model server broke off.", "upstream_broken")


@dataclass(slots=True)
class Request:
    """One request about files or batches.

    Attributes:
        state: shared.
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
        route: what its path names.
        came: who asks, when and from where.
        shape: in whose shape errors are told.
    """

    state: GuardState
    scope: Scope
    receive: Receive
    send: Send
    route: Route
    came: Came
    shape: Wire

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's header lines, names in lower case."""
        return self.came.headers

    def outgoing_headers(self) -> CIMultiDict[str]:
        """Choose the header lines that go on.

        Returns:
            Header lines; the answer comes uncompressed, so that it can be read.
        """
        config = self.state.config
        headers = to_upstream(self.scope["headers"], keep_key=config.forward_key, plain_answer=True)
        present_key(headers, config.secrets.upstream_key, wire=self.shape)
        return headers

    def outgoing(
        self, body: bytes | AsyncIterator[bytes] | None, read: asyncio.Event | None = None
    ) -> Outgoing:
        """Write what goes to the model server.

        Args:
            body: as of `Outgoing`.
            read: as of `Outgoing`.

        Returns:
            It, method and target as the client sent them.
        """
        headers = self.outgoing_headers()
        return Outgoing(self.scope["method"], target(self.scope), headers, body, read)

    def streaming(self) -> Outgoing:
        """Write what goes to the model server, the body handed on as it comes.

        Returns:
            It, without a body where the client sends none.
        """
        if not self.headers.keys() & {b"content-length", b"transfer-encoding"}:
            return self.outgoing(None)
        body_read = asyncio.Event()
        return self.outgoing(body_of(self.receive, body_read), body_read)

    async def refuse(self, refusal: Refusal, *, request_id: str | None = None) -> None:
        """Answer with an error.

        Args:
            refusal: what to say.
            request_id: of the request, or None.
        """
        self.count("refused", refusal.status)
        await refuse(self.send, refusal, request_id=request_id, wire=self.shape)

    async def relay(self, outgoing: Outgoing, send: Send) -> Relayed:
        """Pass the request on and its answer back.

        Args:
            outgoing: what goes to the model server.
            send: takes the answer.

        Returns:
            What came of it; a model server that never answered was told of to the client.
        """
        return await self.run(Relay(self.receive, send, keep_bytes=0), outgoing)

    async def run(self, relay: Relay, outgoing: Outgoing) -> Relayed:
        """Let a relay pass the request on.

        Args:
            relay: not yet run.
            outgoing: what goes to the model server.

        Returns:
            What came of it; a model server that never answered was told of to the client.
        """
        relayed = await relay.run(self.state.upstream, outgoing)
        failure = relayed.failure
        if failure is not None:
            relayed.status = failure.status
            await self.refuse(Refusal(failure.status, str(failure), failure.code))
        else:
            self.count("allow", relayed.status)
        return relayed

    async def relay_held(self, outgoing: Outgoing, edit: Edit) -> Relayed:
        """Pass the request on, and read its answer before it is sent.

        Args:
            outgoing: what goes to the model server.
            edit: as of `Held`.

        Returns:
            What came of it.
        """
        held = Held(self.send, edit, limit=_HELD_BYTES)
        relayed = await self.relay(outgoing, held)
        if relayed.failure is None and not held.is_sent and relayed.error != "client_gone":
            # Nothing of it was sent, so the client can be told.
            await self.refuse(_TOO_LONG if held.is_too_long else GONE)
        return relayed

    def count(self, action: str, status: int) -> None:
        """Count the request.

        Args:
            action: allow or refused.
            status: HTTP status sent.
        """
        noun = self.route.noun
        self.state.metrics.count("batch_requests", noun=noun, action=action, status=str(status))
