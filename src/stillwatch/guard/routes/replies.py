"""Reading bodies and writing the gateway's own replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from starlette.types import Receive, Send

from stillwatch.guard.routes.headers import Pairs, error_headers
from stillwatch.guard.routes.wires import CHAT, Wire


class Refusal(NamedTuple):
    """A reply that the gateway writes itself, in the wire's error shape.

    Attributes:
        status: HTTP status.
        message: one sentence for the person who asked; tells nothing of what is known of them.
        code: short code that programs switch on.
        retry_after_s: seconds to wait, or None.
        final: another try cannot help.
    """

    status: int
    message: str
    code: str
    retry_after_s: float | None = None
    final: bool = False


NO_KEY = Refusal(
    401,
    "You did not provide an API key. Send it as: Authorization: Bearer KEY.",
    "missing_api_key",
    final=True,
)
WRONG_KEY = Refusal(401, "Incorrect API key provided.", "invalid_api_key", final=True)
TOO_LONG = Refusal(413, "The request body is too long.", "request_too_large", final=True)
BLOCKED = Refusal(403, "This account may not use this model.", "access_denied", final=True)
NOT_FOUND = Refusal(404, "There is nothing here.", "not_found", final=True)


async def read_body(receive: Receive, *, limit: int) -> bytes | None:
    """Read the whole body of a request.

    Args:
        receive: ASGI's.
        limit: longest body accepted (bytes).

    Returns:
        The bytes; one byte more than `limit` when it is longer; None when the client left.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            return bytes(limit + 1)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def body_of(receive: Receive, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    """Hand a body on as it comes, so that a large upload needs no memory here.

    Args:
        receive: ASGI's.
        body_read: set once it has ended.

    Yields:
        Its pieces.

    Raises:
        ConnectionResetError: the client left before its end.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Breaking off is the only honest end of a body that never ended.
            error = "the client left"
            raise ConnectionResetError(error)
        more = message.get("more_body", False)
        if not more:
            body_read.set()
        if message.get("body"):
            yield message["body"]


async def refuse(
    send: Send, refusal: Refusal, *, request_id: str | None = None, wire: Wire = CHAT
) -> None:
    """Send a refusal.

    Args:
        send: ASGI's.
        refusal: what to say.
        request_id: the exchange's id, for the person who asks about it, or None.
        wire: in whose shape.
    """
    status, message = refusal.status, refusal.message
    body = wire.refusal(status, message, code=refusal.code, request_id=request_id)
    headers = error_headers(body, retry_after_s=refusal.retry_after_s, final=refusal.final)
    if request_id is not None:
        headers.append((wire.id_header, request_id.encode("latin-1", "replace")))
    await reply(send, refusal.status, headers, body=body)


async def reply(send: Send, status: int, headers: Pairs, *, body: bytes) -> None:
    """Send a whole reply.

    Args:
        send: ASGI's.
        status: HTTP status.
        headers: header lines.
        body: the bytes.
    """
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
