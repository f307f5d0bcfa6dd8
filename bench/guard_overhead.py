"""CPU time that the gateway spends on a question, in front of a trivial model server.

Wall times on a shared machine are noise; CPU microseconds of the gateway's own process are not.
Everything is on: authentication, decision, record with sync to disk, headers, client watch.

    python bench/guard_overhead.py [--questions 5000] [--connections 16]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege.processes import OnReady, ProcessGroup

_TICKS = os.sysconf("SC_CLK_TCK")
_N_EVENTS = 66
_EVENT = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}).encode()  # fmt: skip
_WHOLE = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 200},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400},
}).encode()  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kind of question."""

    name: str
    streamed: bool
    questions: int
    question_bytes: int = 1200


class _TrivialServer(asyncio.Protocol):
    """Answers each request by its body's first byte; no HTTP library."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            if b'"stream": true' in body:
                self.next_event(_N_EVENTS)
            else:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d"
                self.transport.write(head % len(_WHOLE) + b"\r\n\r\n" + _WHOLE)

    def next_event(self, left: int) -> None:
        if left == _N_EVENTS:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
        data = b"data: " + (_EVENT if left > 1 else b"[DONE]") + b"\n\n"
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if left > 1:
            # Apart in time, as tokens are: frames that arrive together would be carried together.
            asyncio.get_running_loop().call_later(0.002, self.next_event, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def run_trivial_server(_: object, on_ready: OnReady) -> None:
    """Serve until ended.

    Args:
        on_ready: told the port.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_TrivialServer, "127.0.0.1", 0)
        on_ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _request(case: Case) -> bytes:
    text = "w" * case.question_bytes
    body = json.dumps({
        "model": "m", "stream": case.streamed, "messages": [{"role": "user", "content": text}]
    }).encode()  # fmt: skip
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer key-7\r\n"
    head += "content-type: application/json\r\nuser-agent: bench\r\naccept: */*\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _ask(port: int, request: bytes, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await reader.readexactly(len(_WHOLE))
    writer.close()


async def _load(port: int, case: Case, connections: int) -> None:
    request = _request(case)
    share = case.questions // connections
    await asyncio.gather(*(_ask(port, request, share) for _ in range(connections)))


def measure(case: Case, *, port: int, pid: int, connections: int) -> float:
    """Measure one case after a warm-up.

    Args:
        case: what is asked.
        port: the gateway's.
        pid: the gateway's process id.
        connections: clients at once.

    Returns:
        CPU seconds of the gateway for a question.
    """
    asyncio.run(_load(port, Case(case.name, case.streamed, 10 * connections), connections))
    before = _cpu_s(pid)
    asyncio.run(_load(port, case, connections))
    return (_cpu_s(pid) - before) / (case.questions // connections * connections)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    cases = [
        Case("whole answer, 1.2 KB question", False, options.questions),
        Case("whole answer, 34 KB question", False, options.questions // 5, 34_000),
        Case(f"stream of {_N_EVENTS} events", True, options.questions // 10),
    ]
    secrets = Secrets(hash_key=b"bench-key-of-the-guard")
    with tempfile.TemporaryDirectory() as folder, ProcessGroup() as processes:
        keys = Path(folder, "keys.jsonl")
        issued = [Issued(f"account-{n}", f"key-{n}") for n in range(100_000)]
        write_key_table(keys, issued, KeyedHash(secrets.hash_key))
        upstream = processes.start("model server", run_trivial_server, None)
        config = GuardConfig(
            upstream=f"http://127.0.0.1:{upstream}",
            state=Path(folder, "state"),
            secrets=secrets,
            port=0,
            keys=keys,
            learner=LearnerConfig(enabled=False),
        )
        port = processes.start("gateway", run_gateway, config)
        pid = processes.pids["gateway"]
        for case in cases:
            cost_s = measure(case, port=port, pid=pid, connections=options.connections)
            events = f", {1e6 * cost_s / _N_EVENTS:.0f} us an event" if case.streamed else ""
            print(f"{case.name}: {1e6 * cost_s:.0f} us CPU a question{events}")
        print(f"memory with 100,000 keys: {_rss_mb(pid):.0f} MB")


if __name__ == "__main__":
    main()
