"""CPU time of the Messages and Responses wires and of the readers of the vendors' own formats.

Run as `python bench/api_bodies.py [THOUSANDS]`: so many thousand records a reader (10).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.registry import reader_of
from stillwatch.record.exchange import Answer
from stillwatch.record.privacy import KeyedHash
from stillwatch.wire import messages, responses
from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.messages_stream import MessageAssembler
from stillwatch.wire.question import Reply
from stillwatch.wire.responses_stream import ResponseAssembler
from stillwatch.wire.sse import encode_event

TEXT = "The tide turns twice a day and nobody waits for it. " * 8
CHAT = {
    "model": "m",
    "messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": TEXT}],
}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "m",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
ASKED = {
    "model": "claude",
    "max_tokens": 5,
    "system": TEXT,
    "messages": [{"role": "user", "content": TEXT}],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 8},
}
HEADERS = {"authorization": "Bearer sk-aaaaaaaaaaaaaaaaaa", "user-agent": "OpenAI/Python"}
AROUND = {"timestamp": "2026-09-22T18:00:00Z", "user_id": "a", "client_ip": "203.0.113.7"}
HEAD = ReplyHead("r", "m", 1)


def microseconds(work: Callable[[], object], *, times: int = 3000) -> float:
    """Measure the CPU time of one call.

    Args:
        work: what to call.
        times: how often.

    Returns:
        Microseconds of CPU a call.
    """
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1e6


def measure_reader(name: str, records: list[dict[str, Any]]) -> None:
    """Print how fast a reader turns lines into exchanges, decoding included.

    Args:
        name: the format.
        records: one log.
    """
    lines = [json.dumps(record).encode() for record in records]
    conversion = reader_of(name).begin(ReadOptions(KeyedHash(bytes(32))))
    start = time.process_time()
    n = sum(
        len(list(conversion.convert(msgspec.json.decode(line), Origin("f", number))))
        for number, line in enumerate(lines)
    )
    n += len(list(conversion.finish()))
    taken = time.process_time() - start
    size = sum(map(len, lines)) / len(lines)
    print(f"{name:16} {len(lines) / taken:9,.0f} records/s of {size:,.0f} B, {n:,} exchanges")


def measure_wires() -> None:
    """Print the CPU time of reading one body, and one frame of a stream, of either wire."""
    asked, told = json.dumps(ASKED).encode(), json.dumps(MESSAGE).encode()
    body = {"model": "m", "instructions": TEXT, "input": [{"role": "user", "content": TEXT}]}
    other = json.dumps(body).encode()
    reply = Reply(answers=(Answer(TEXT, "completed"),), input_tokens=1, output_tokens=2)
    answered = responses.encode_response(HEAD, reply)
    print(f"messages  request {microseconds(lambda: messages.parse_request(asked)):.1f} us, "
          f"reply {microseconds(lambda: messages.parse_response(told)):.1f} us")  # fmt: skip
    print(f"responses request {microseconds(lambda: responses.parse_request(other)):.1f} us, "
          f"reply {microseconds(lambda: responses.parse_response(answered)):.1f} us")  # fmt: skip
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "a "},
    }
    text = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "a ",
    }
    for name, make, event in (
        ("messages", MessageAssembler, delta),
        ("responses", ResponseAssembler, text),
    ):
        frames = [encode_event(json.dumps(event), event=str(event["type"]))] * 500

        def assemble(make: Any = make, frames: list[bytes] = frames) -> None:
            assembler = make()
            for frame in frames:
                assembler.feed(frame)
            assembler.reply()

        print(f"{name:9} stream {microseconds(assemble, times=20) / 500:.2f} us a frame")


def main() -> None:
    """Measure everything once."""
    n = 1000 * int(sys.argv[1] if len(sys.argv) > 1 else "10")
    request = {"method": "POST", "url": "https://x/v1/chat/completions", "headers": HEADERS}
    response = {"status_code": 200, "headers": {"x-request-id": "r"}, "body": COMPLETION}
    measure_reader(
        "openai_raw", [{**AROUND, "request": {**request, "body": CHAT}, "response": response}] * n
    )
    measure_reader("anthropic_raw", [{**AROUND, "request": ASKED, "response": MESSAGE}] * n)
    told = {"status_code": 200, "request_id": "r", "body": COMPLETION}
    ids = [f"q{number}" for number in range(n // 2)]
    asked = [
        {"custom_id": i, "method": "POST", "url": "/v1/chat/completions", "body": CHAT} for i in ids
    ]
    done = [{"id": f"b{i}", "custom_id": i, "response": told, "error": None} for i in ids[::-1]]
    measure_reader("openai_batch", asked + done)
    result = {"type": "succeeded", "message": MESSAGE}
    measure_reader(
        "anthropic_batch",
        [{"custom_id": i, "params": ASKED} for i in ids]
        + [{"custom_id": i, "result": result} for i in ids[::-1]],
    )
    measure_wires()


if __name__ == "__main__":
    main()
