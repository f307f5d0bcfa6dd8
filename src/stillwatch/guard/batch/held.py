"""Two ways to look at an answer on its way to the client: hold it whole, or watch it pass."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Message, Send

from stillwatch.guard.routes.headers import Pairs
from stillwatch.guard.routes.reading import inflated

Edit = Callable[[int, bytes], Awaitable[bytes]]
_LENGTH: Final = b"content-length"
_ENCODING: Final = b"content-encoding"


def header(pairs: Pairs, name: bytes) -> bytes | None:
    """Read a header line.

    Args:
        pairs: names in lower case.
        name: in lower case.

    Returns:
        The first line's value, or None.
    """
    return next((value for found, value in pairs if found == name), None)


class Held:
    """Holds a short answer until it is whole, so that it may be read before it is sent.

    Args:
        send: ASGI's.
        edit: told status and body, gives the body to send; the very same bytes leave the answer
            as it came.
        limit: longest answer held (bytes); a longer one is not sent.

    Attributes:
        is_sent: the client has got the answer.
        is_too_long: it was longer than the limit.
    """

    def __init__(self, send: Send, edit: Edit, *, limit: int) -> None:
        self._send = send
        self._edit = edit
        self._room = limit
        self._start: Message = {}
        self._parts: list[bytes] = []
        self.is_sent = False
        self.is_too_long = False

    async def __call__(self, message: Message) -> None:
        """Take a message in the place of `send`.

        Args:
            message: ASGI's.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        part: bytes = message.get("body", b"")
        self._room -= len(part)
        if self._room < 0:
            self.is_too_long = True
            self._parts.clear()
            return
        self._parts.append(part)
        if not message.get("more_body", False):
            await self._end(b"".join(self._parts))

    async def _end(self, body: bytes) -> None:
        pairs: Pairs = list(self._start["headers"])
        encoding = header(pairs, _ENCODING)
        try:
            plain = inflated(body, encoding.decode("latin-1") if encoding is not None else None)
        except zlib.error:
            plain = b""
        edited = await self._edit(self._start["status"], plain)
        if edited is not plain:
            body = edited
            pairs = [pair for pair in pairs if pair[0] not in {_LENGTH, _ENCODING}]
            pairs.append((_LENGTH, str(len(body)).encode()))
        # Set before sending: a client that leaves now must not be sent an error after it.
        self.is_sent = True
        await self._send({**self._start, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
