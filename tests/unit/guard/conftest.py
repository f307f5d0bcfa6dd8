"""A scripted model server and a gateway in front of it, both on real loopback sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import Gateway, listen, server_config
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import read_journal
from stillwatch.record.privacy import KeyedHash

SECRETS = Secrets(
    hash_key=b"h" * 32,
    admin_token="admin-token",
    mark_secret=b"s" * 32,
    mark_master_key=b"m" * 32,
)
LADDER = Ladder(
    (
        LadderRule(
            "house-skills",
            (Rung("throttle", limit_per_day=24.0), Rung("block", after_s=86_400.0)),
        ),
        LadderRule("house-prose", (Rung("watermark"),)),
    ),
    mode="enforce",
)
ANSWER = json.dumps({
    "id": "chatcmpl-1",
    "model": "house-skills",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "XIV"},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}).encode()  # fmt: skip


@dataclass
class Seen:
    """One request as the model server saw it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header line of that name."""
        return next((v for n, v in self.headers if n.lower() == name), None)


Script = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def whole(body: bytes, *, status: str = "200 OK", extra: str = "") -> Script:
    """Answer with one body of known length."""

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra}"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return script


@dataclass
class ScriptedUpstream:
    """A model server that does what its script says."""

    script: Script = field(default_factory=lambda: whole(ANSWER))
    seen: list[Seen] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; several requests after another."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode("latin-1").rstrip().split("\r\n")
                headers = [tuple(row.split(": ", 1)) for row in rest]
                seen = Seen(line, headers, b"")
                length = int(seen.header("content-length") or 0)
                seen.body = await reader.readexactly(length)
                self.seen.append(seen)
                await self.script(seen, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A running scripted model server."""
    scripted = ScriptedUpstream()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    yield scripted
    server.close()


@pytest.fixture
def make_config(tmp_path: Path, upstream: ScriptedUpstream) -> Callable[..., GuardConfig]:
    """Build configurations; two accounts `ann` and `bob` with keys `key-ann` and `key-bob`."""

    def make(**changes: object) -> GuardConfig:
        keys = tmp_path / "keys.jsonl"
        issued = [Issued("ann", "key-ann", "org-a"), Issued("bob", "key-bob")]
        write_key_table(keys, issued, KeyedHash(SECRETS.hash_key))
        values = {
            "upstream": upstream.url,
            "state": tmp_path / "state",
            "port": 0,
            "secrets": SECRETS,
            "keys": keys,
            "ladder": LADDER,
            "learner": LearnerConfig(enabled=False),
        }
        return GuardConfig(**(values | changes))  # type: ignore[arg-type]

    return make


@dataclass
class Served:
    """A gateway that serves."""

    state: GuardState
    port: int
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        text: str = "roman 14",
        *,
        key: str = "key-ann",
        model: str = "house-skills",
        **more: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask one question; gives status, header lines and body."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **more}
        async with self.client.post(
            f"{self.url}/v1/chat/completions", data=body, headers=headers
        ) as response:
            lines = {name.lower(): value for name, value in response.headers.items()}
            return response.status, lines, await response.read()

    async def admin(self, method: str, path: str, **body: object) -> tuple[int, bytes]:
        """Call an admin route."""
        async with self.client.request(
            method,
            self.url + path,
            json=body or None,
            headers={"authorization": "Bearer admin-token"},
        ) as response:
            return response.status, await response.read()

    async def record(self) -> list[Exchange]:
        """The journal so far, in order of time."""
        await self.state.recorder.flush()
        found = [exchange for _, exchange in read_journal(self.state.config.journal_path)]
        return sorted(found, key=lambda exchange: exchange.started_at)


@asynccontextmanager
async def served(config: GuardConfig) -> AsyncIterator[Served]:
    """Serve a gateway in this loop."""
    async with GuardState(config) as state:
        listener = listen(config)
        server = uvicorn.Server(server_config(Gateway(state)))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with aiohttp.ClientSession(auto_decompress=False) as client:
                yield Served(state, listener.getsockname()[1], client)
        finally:
            server.should_exit = True
            await task
