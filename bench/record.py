"""CPU microseconds per exchange of the record and the wire: python bench/record.py [FOLDER]."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stillwatch.record.exchange import Answer, Exchange, Message, to_batch
from stillwatch.record.journal import Journal, read_journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.segments import encode_line
from stillwatch.record.store import compact, read_store, scan_store
from stillwatch.wire import chat
from stillwatch.wire.question import Question, Reply
from stillwatch.wire.signature import sign_mark, verify_mark

N = 13_000  # live exchanges of one default run of the siege
TEXT = "Please tell me which day follows the third of March in the year nineteen hundred. " * 12
HEAD = chat.ReplyHead("chatcmpl-1", "m", 1)


def _exchange(n: int) -> Exchange:
    return Exchange(
        exchange_id=f"r-{n:08d}",
        account=f"acct-{n % 450}",
        started_at=1.7e9 + n * 93.0,
        model="house-skills",
        messages=(
            Message(role="system", content="You are brief."),
            Message(role="user", content=TEXT[n % 50 :]),
        ),
        answers=(Answer(text="1904-03-04", finish_reason="stop"),),
        parameters={"temperature": 0.7, "max_tokens": 64},
        input_tokens=200,
        output_tokens=8,
        key_hash="a" * 24,
        network_hash="c" * 24,
        user_agent="OpenAI/Python 1.2.3",
    )


def _report(name: str, work: Callable[[], object], *, n: int = N) -> None:
    begun = time.process_time()
    work()
    print(f"{name:<44}{(time.process_time() - begun) / n * 1e6:8.2f} us")


def _repeat(call: Callable[[], object]) -> Callable[[], object]:
    return lambda: [call() for _ in range(N)]


async def _append(folder: Path, exchanges: list[Exchange]) -> None:
    rest = iter(exchanges)
    with Journal.open(folder) as journal:

        async def work() -> None:
            for exchange in rest:
                await journal.append(exchange)

        await asyncio.gather(*(work() for _ in range(64)))


def _record(folder: Path) -> None:
    exchanges = [_exchange(n) for n in range(N)]
    journal, store = folder / "journal", folder / "store"
    _report("write a line", lambda: [encode_line(e) for e in exchanges])
    _report("append, 64 callers", lambda: asyncio.run(_append(journal, exchanges)))
    _report("read_journal", lambda: sum(1 for _ in read_journal(journal)))
    _report("compact", lambda: compact(journal, store))
    _report("  of it to_batch", lambda: to_batch(exchanges))
    _report("scan_store, all columns", lambda: sum(b.num_rows for b in scan_store(store)))
    three = ["account", "started_at", "messages"]
    _report("scan_store, 3 columns", lambda: list(scan_store(store, columns=three)))
    _report("read_store", lambda: sum(1 for _ in read_store(store)))


def _wire() -> None:
    exchange = _exchange(0)
    question = Question(messages=exchange.messages, model="m", parameters=exchange.parameters)
    reply = Reply(answers=exchange.answers, input_tokens=200, output_tokens=8)
    body, told = chat.encode_request(question), chat.encode_response(HEAD, reply)
    _report(f"parse_request, {len(body)} bytes", _repeat(lambda: chat.parse_request(body)))
    _report("parse_response", _repeat(lambda: chat.parse_response(told)))
    _report(
        "exchange_from",
        _repeat(lambda: chat.exchange_from(question, reply, circumstances=exchange)),
    )
    _report("encode_chunk", _repeat(lambda: chat.encode_chunk(HEAD, {"content": " day"})))
    frame, assembler = chat.encode_chunk(HEAD, {"content": " day"}), chat.ChunkAssembler()
    _report("assemble a frame", _repeat(lambda: assembler.feed(frame)))
    hashed, secret = KeyedHash.generate(), b"s" * 32
    _report("keyed hash", _repeat(lambda: hashed.hash("key", "sk-1234567890")))
    _report("network hash", _repeat(lambda: hashed.network("203.0.113.7")))
    order = {"campaign_id": "c", "mark_key_id": "k"}
    header = sign_mark(secret, body=body, issued_at=1.0, **order)
    _report("sign_mark", _repeat(lambda: sign_mark(secret, body=body, issued_at=1.0, **order)))
    _report("verify_mark", _repeat(lambda: verify_mark(secret, header, body, now=None)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        _record(Path(name))
    _wire()
