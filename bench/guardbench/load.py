"""Load: so many questions at once (closed), or so many a second whatever comes back (open).

Open load is what users are: a slow answer does not keep the next person from asking. Latency counts
from the moment at which a question is sent; a connection is always free, so no question waits
here, and how late the sender itself was is told beside the figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import uvloop

_END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Target:
    """Who is asked.

    Attributes:
        port: on loopback.
        api_key: presented.
    """

    port: int
    api_key: str


@dataclass(frozen=True)
class Kind:
    """One kind of question.

    Attributes:
        n_bytes: of its text.
        streamed: ask for events.
        model: the model asked for.
    """

    n_bytes: int = 1200
    streamed: bool = False
    model: str = "m"

    def request(self, target: Target) -> bytes:
        """Write the question as it goes over the wire.

        Args:
            target: who is asked.

        Returns:
            Head and body.
        """
        text = "What does the word mean that stands here? " * (self.n_bytes // 42 + 1)
        body = json.dumps({
            "model": self.model, "stream": self.streamed,
            "messages": [{"role": "user", "content": text[: self.n_bytes]}],
        }).encode()  # fmt: skip
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n"
            f"authorization: Bearer {target.api_key}\r\ncontent-type: application/json\r\n"
            f"user-agent: bench\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Sample:
    """What a load found.

    Attributes:
        first_s: seconds to the first byte of each answer's body.
        whole_s: seconds to its last byte.
        n_failed: answers that were none (count).
        lateness_s: how late each question was sent (open load).
        span_s: from the first question to the last answer.
    """

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    n_failed: int = 0
    lateness_s: list[float] = field(default_factory=list)
    span_s: float = 0.0

    def quantile_ms(self, q: float, *, first: bool = False) -> float:
        """Read a quantile.

        Args:
            q: 0..1.
            first: of the first byte, not the last.

        Returns:
            Milliseconds; NaN without answers.
        """
        values = self.first_s if first else self.whole_s
        return 1000 * float(np.quantile(values, q)) if values else float("nan")


class _Line(asyncio.Protocol):
    """One connection that asks one question at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.done: asyncio.Future[bool] | None = None
        self.began = self.first = 0.0
        self._head = b""
        self._left: int | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[bool]:
        self.done = asyncio.get_running_loop().create_future()
        self._head, self._left, self._tail, self.first = b"", None, b"", 0.0
        self.began = time.perf_counter()
        self.transport.write(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.done is None or self.done.done():
            return
        if self._left is None and not self._tail:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + 4 :]
            self._is_good = head.startswith(b"http/1.1 200")
            if b"transfer-encoding: chunked" in head:
                self._tail = b"-"
            else:
                self._left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if data and not self.first:
            self.first = time.perf_counter()
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self.done.set_result(self._is_good)
        else:
            self._tail = (self._tail + data)[-5:]
            if self._tail == _END:
                self.done.set_result(self._is_good)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(False)


class _Lines:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._free: deque[_Line] = deque()

    async def open(self, n: int) -> None:
        self._free.extend([await self._new() for _ in range(n)])

    async def _new(self) -> _Line:
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(_Line, "127.0.0.1", self._target.port)
        return line

    async def ask(self, request: bytes, sample: Sample) -> None:
        line = self._free.popleft() if self._free else await self._new()
        is_good = await line.ask(request)
        ended = time.perf_counter()
        if is_good:
            sample.whole_s.append(ended - line.began)
            sample.first_s.append((line.first or ended) - line.began)
        else:
            sample.n_failed += 1
        if line.transport.is_closing():
            line = await self._new()
        self._free.append(line)

    def close(self) -> None:
        for line in self._free:
            line.transport.abort()


def closed(target: Target, kind: Kind, *, n: int, at_once: int) -> Sample:
    """Ask `n` questions, `at_once` at a time.

    Args:
        target: who is asked.
        kind: what is asked.
        n: questions (count).
        at_once: in flight (count).

    Returns:
        What was found.
    """

    async def run() -> Sample:
        lines, sample, request = _Lines(target), Sample(), kind.request(target)
        await lines.open(at_once)

        async def one(times: int) -> None:
            for _ in range(times):
                await lines.ask(request, sample)

        began = time.perf_counter()
        await asyncio.gather(*(one(n // at_once) for _ in range(at_once)))
        sample.span_s = time.perf_counter() - began
        lines.close()
        return sample

    return _quietly(run())


@dataclass(frozen=True)
class Stream:
    """Questions that come at a rate.

    Attributes:
        kind: what is asked.
        rate_hz: how many a second.
        is_counted: False for the company that disturbs those that are counted.
    """

    kind: Kind
    rate_hz: float
    is_counted: bool = True


def opened(target: Target, streams: list[Stream], *, span_s: float, seed: int = 1) -> Sample:
    """Ask at a rate, whatever comes back.

    Args:
        target: who is asked.
        streams: what is asked how often.
        span_s: seconds to go on for.
        seed: of the moments (Poisson).

    Returns:
        What was found of the streams that count.
    """

    async def run() -> Sample:
        lines, counted, other = _Lines(target), Sample(), Sample()
        await lines.open(32)
        began = time.perf_counter()
        await asyncio.gather(*(
            _Sender(lines, stream.kind.request(target), counted if stream.is_counted else other)
            .send(_moments(stream.rate_hz, span_s, seed + number))
            for number, stream in enumerate(streams)
        ))  # fmt: skip
        counted.span_s = time.perf_counter() - began
        counted.n_failed += other.n_failed
        lines.close()
        return counted

    return _quietly(run())


class _Sender(NamedTuple):
    lines: _Lines
    request: bytes
    sample: Sample

    async def send(self, moments: list[float]) -> None:
        asking = []
        began = time.perf_counter()
        for moment in moments:
            # The loop's timers are good for a millisecond: sleep short of it, then look again.
            while (wait_s := began + moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - a time
                await asyncio.sleep(max(wait_s - 0.0005, 0))
            self.sample.lateness_s.append(-wait_s)
            asking.append(asyncio.ensure_future(self.lines.ask(self.request, self.sample)))
        await asyncio.wait(asking, timeout=30)


def _moments(rate_hz: float, span_s: float, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    moments = np.cumsum(rng.exponential(1 / rate_hz, int(2 * rate_hz * span_s) + 20))
    return [float(moment) for moment in moments[moments < span_s]]


def _quietly(work: Any) -> Sample:
    gc.collect()
    gc.disable()
    try:
        sample: Sample = uvloop.run(work)
    finally:
        gc.enable()
    return sample
