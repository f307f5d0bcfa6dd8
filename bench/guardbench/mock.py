"""A model server that costs next to nothing: fixed answers, whole or as a stream of events."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, NamedTuple

import uvloop

from stillwatch.siege.processes import OnReady

#: Events of a stream, and the seconds between two: apart in time, as tokens are.
N_EVENTS = 66
GAP_S = 0.002
#: A question whose model is named so is answered after so many seconds.
SLOW_MODEL = "slow"
SLOW_S = 1.0
_EVENT = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}).encode()  # fmt: skip
_BODY = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 200},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400},
}).encode()  # fmt: skip
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_WHOLE = _HEAD % len(_BODY) + _BODY
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class MockConfig(NamedTuple):
    """Where the mock runs.

    Attributes:
        cpus: cores that it may use.
    """

    cpus: frozenset[int]


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end]).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(self.buffer) < end + 4 + length:
                return
            # What is asked for stands at the body's beginning, whoever wrote it.
            body = bytes(self.buffer[end + 4 : end + 4 + min(length, 400)])
            tail = bytes(self.buffer[max(end + 4, end + 4 + length - 400) : end + 4 + length])
            del self.buffer[: end + 4 + length]
            self.reply((body + tail).replace(b" ", b""))

    def reply(self, body: bytes) -> None:
        if b'"stream":true' in body:
            self.next_event(N_EVENTS)
        elif b'"model":"slow"' in body:
            asyncio.get_running_loop().call_later(SLOW_S, self.transport.write, _WHOLE)
        else:
            self.transport.write(_WHOLE)

    def next_event(self, left: int) -> None:
        if self.transport.is_closing():
            return
        data = b"data: " + (_EVENT if left > 1 else b"[DONE]") + b"\n\n"
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        self.transport.write(_STREAM + chunk if left == N_EVENTS else chunk)
        if left > 1:
            asyncio.get_running_loop().call_later(GAP_S, self.next_event, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def run_mock(config: MockConfig, on_ready: OnReady) -> None:
    """Serve until ended.

    Args:
        config: where.
        on_ready: told the port.
    """
    os.sched_setaffinity(0, config.cpus)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, "127.0.0.1", 0, backlog=2048)
        on_ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())
