"""CPU microseconds of reading and judging one question: python bench/guard_reading.py."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from starlette.types import Message

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.keys import Principal
from stillwatch.guard.routes.asking import Came, judge
from stillwatch.guard.routes.callers import Callers
from stillwatch.guard.routes.owners import Owner, OwnerTable, ResponsesConfig
from stillwatch.guard.routes.reading import readable
from stillwatch.guard.routes.stored import IdWatch
from stillwatch.guard.routes.wires import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Wire, wire_of
from stillwatch.guard.state import GuardState
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.verdict import Board
from stillwatch.record.privacy import KeyedHash

TEXT = "which day follows the third of march " * 25
TURNS = [{"role": "user", "content": TEXT}]
QUESTIONS: dict[Wire, dict[str, object]] = {
    CHAT: {"messages": TURNS, "temperature": 0.5},
    RESPONSES: {"input": TURNS, "previous_response_id": "resp_1"},
    MESSAGES: {"messages": TURNS, "max_tokens": 64, "system": "be brief"},
    COMPLETIONS: {"prompt": TEXT},
}
LIMIT = 2**25
N_OWNERS = 100_000
EVENT = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":'
    b'"msg_1","output_index":0,"content_index":0,"delta":" day","sequence_number":7}\n\n'
)


def _report(name: str, call: Callable[[], object], *, n: int = 20_000) -> None:
    begun = time.process_time()
    for _ in range(n):
        call()
    print(f"{name:<58}{(time.process_time() - begun) / n * 1e6:10.2f} us")


def _questions(state: GuardState) -> None:
    headers = {b"host": b"h", b"user-agent": b"sdk/1", b"authorization": b"Bearer key"}
    came = Came(Principal("ann", "hash"), headers, 1.7e9, "127.0.0.1")
    _report("which wire a path speaks", lambda: wire_of("/v1/chat/completions"))
    for wire, fields in QUESTIONS.items():
        body = json.dumps({"model": "m", **fields}).encode()
        parsed = wire.parse(body)
        _report(f"{wire.name}: read {len(body)} bytes", partial(wire.parse, body))
        _report(f"{wire.name}: judge", partial(judge, state, came, parsed, wire=wire))


def _large() -> None:
    noise = np.random.default_rng(7).bytes(3_750_000)
    picture = f"data:image/png;base64,{base64.b64encode(noise).decode()}"
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": picture}}]
    body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    light = readable(body, encoding=None, limit=LIMIT)
    _report("picture of 3.75 MB: read as it came", lambda: CHAT.parse(body), n=10)
    _report("  its base64 left out", lambda: readable(body, encoding=None, limit=LIMIT), n=10)
    _report("  what is left, read", lambda: CHAT.parse(light), n=1000)
    words = json.dumps({"messages": [{"role": "user", "content": TEXT * 108}]}).encode()
    _report(f"text of {len(words)} bytes: read", lambda: CHAT.parse(words), n=1000)
    _report("  looked at for base64", lambda: readable(words, encoding=None, limit=LIMIT), n=1000)


def _tags() -> None:
    callers = Callers(KeyedHash.generate())
    sdk = {b"x-stainless-lang": b"python", b"x-stainless-os": b"Linux"}
    _report("tags: nothing to tell", lambda: callers.tags({}, {"temperature": 1}))
    _report("tags: the client library", lambda: callers.tags(sdk, {"temperature": 1}))
    _report("tags: and a person", lambda: callers.tags(sdk, {"user": "eve"}))


async def _watch() -> None:
    async def send(message: Message) -> None:
        """Take it."""

    watch = IdWatch(send, lambda stored_id: None, keep_bytes=LIMIT, in_events=True)
    pairs = [(b"content-type", b"text/event-stream")]
    await watch({"type": "http.response.start", "status": 200, "headers": pairs})
    first = b'data: {"type":"response.created","response":{"id":"resp_1","output":[]}}\n\n'
    await watch({"type": "http.response.body", "body": first, "more_body": True})
    event: Message = {"type": "http.response.body", "body": EVENT, "more_body": True}
    begun = time.process_time()
    for _ in range(20_000):
        await watch(event)
    spent = (time.process_time() - begun) / 20_000 * 1e6
    print(f"{'ids of stored answers: an event of a stream':<58}{spent:10.2f} us")


async def _owners(folder: Path) -> None:
    table = OwnerTable(folder / "owners.sqlite", ResponsesConfig(), metrics=Metrics())
    stored_ids = [f"resp_{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(N_OWNERS)]
    begun = time.process_time()
    for n, stored_id in enumerate(stored_ids):
        table.note(stored_id, Owner(f"account-{n % 5000}", "org", stored_id))
        if n % 2000 == 0:
            await asyncio.sleep(0.12)
    await table.close()
    spent = (time.process_time() - begun) / N_OWNERS * 1e6
    print(f"{'owners: note one, on disk':<58}{spent:10.2f} us")
    size = (folder / "owners.sqlite").stat().st_size / N_OWNERS
    print(f"{'owners: a row':<58}{size:10.0f} bytes")
    table = OwnerTable(folder / "owners.sqlite", ResponsesConfig(), metrics=Metrics())
    for where in ("disk", "memory"):
        begun = time.process_time()
        for stored_id in stored_ids[:2000]:
            assert await table.find(stored_id) is not None
        spent = (time.process_time() - begun) / 2000 * 1e6
        print(f"{f'owners: find one, in {where}':<58}{spent:10.2f} us")
    await table.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        config = GuardConfig(
            upstream="http://127.0.0.1:1",
            state=Path(name),
            secrets=Secrets(hash_key=b"h" * 32),
            learner=LearnerConfig(enabled=False),
        )
        opened = GuardState(config)
        opened.board = Board()
        _questions(opened)
    _large()
    _tags()
    asyncio.run(_watch())
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_owners(Path(name)))
