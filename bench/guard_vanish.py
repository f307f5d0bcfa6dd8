"""How soon the model server is left when a client leaves, on each route, streaming or not.

    python bench/guard_vanish.py [--times 40]

The gateway is a process of its own, as it is served; client and model server share this one, so one
clock measures both: from the client's close to the end of the connection at the model server.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.siege.processes import ProcessGroup

ROUTES = {
    "/v1/chat/completions": '{"model":"m","messages":[{"role":"user","content":"q"}]',
    "/v1/responses": '{"model":"m","input":"q"',
    "/v1/messages": '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}]',
    "/v1/embeddings": '{"model":"m","input":"q"',
}
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n"


class _Server:
    """A model server that begins, or only thinks, and notes when it is left."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self.left_at = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        if b'"stream":true' in body:
            writer.write(_STREAM)
        self.asked.set()
        await reader.read(1)
        self.left_at = time.perf_counter()
        self.left.set()
        writer.close()


async def leave_once(server: _Server, port: int, request: bytes, *, streamed: bool) -> float:
    """Ask, leave, and wait until the model server is left.

    Args:
        server: the model server.
        port: the gateway's.
        request: what to send.
        streamed: wait for the answer's begin first.

    Returns:
        Seconds from the client's close to the end of the connection at the model server.
    """
    server.asked.clear()
    server.left.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await server.asked.wait()
    if streamed:
        await reader.readuntil(b"data: {}\n\n")
    began = time.perf_counter()
    writer.close()
    await server.left.wait()
    return server.left_at - began


async def _measure(times: int, folder: Path) -> None:
    server = _Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    config = GuardConfig(
        upstream=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}",
        state=folder,
        port=0,
        secrets=Secrets(hash_key=b"h" * 32),
        learner=LearnerConfig(enabled=False),
    )
    with ProcessGroup() as processes:
        port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
        print("milliseconds from the client's close to the model server's: median, worst")
        for path, begin in ROUTES.items():
            for streamed in (False, True):
                body = (begin + (',"stream":true}' if streamed else "}")).encode()
                head = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: k\r\n".encode()
                request = head + b"content-length: %d\r\n\r\n" % len(body) + body
                found = sorted([
                    await leave_once(server, port, request, streamed=streamed) * 1000
                    for _ in range(times)
                ])  # fmt: skip
                how = "streamed" if streamed else "whole"
                print(f"{path:22} {how:9} {found[len(found) // 2]:6.1f} {found[-1]:6.1f}")
    listener.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=40, help="clients that leave, each route")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(options.times, Path(folder)))


if __name__ == "__main__":
    main()
