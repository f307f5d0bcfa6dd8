"""A scripted model server that speaks all four wires, for real clients to talk to."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.unit.guard.conftest import Seen

from stillwatch.record.exchange import Answer
from stillwatch.wire import chat, messages, messages_stream, responses, responses_stream
from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.question import Reply

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a":1}'},
}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
FUNCTION_CALL = {
    "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add",
    "arguments": '{"a":1}', "status": "completed",
}  # fmt: skip


@dataclass
class WireServer:
    """Answers every wire; the n-th answer has the number n in its id.

    Attributes:
        failures: replies to give before answering: (status line, body).
        n_answers: answers given.
        stored: ids of answers and conversations that rest here.
    """

    failures: list[tuple[str, bytes]] = field(default_factory=list)
    n_answers: int = 0
    stored: set[str] = field(default_factory=set)

    async def __call__(
        self, seen: Seen, _: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request."""
        if self.failures:
            status, body = self.failures.pop(0)
            _write(writer, body, status=status)
            await writer.drain()
            return
        method, path, _ = seen.line.split(" ")
        asked = json.loads(seen.body) if seen.body else {}
        if method != "POST" or path.endswith(("/cancel", "/input_tokens", "/conversations")):
            _write(writer, self._stored(path))
            await writer.drain()
            return
        self.n_answers += 1
        answer = self._answer(path, asked)
        if isinstance(answer, bytes):
            _write(writer, answer)
        else:
            await _stream(writer, answer)
        await writer.drain()

    def _stored(self, path: str) -> bytes:
        if path.endswith("/conversations"):
            return b'{"id": "conv_1", "object": "conversation", "created_at": 1, "metadata": {}}'
        if path.endswith("/input_items"):
            return b'{"object": "list", "data": [], "has_more": false}'
        if path.endswith("/input_tokens"):
            return b'{"object": "response.input_tokens", "input_tokens": 4}'
        return responses.encode_response(ReplyHead("resp_1", "m", 1), _reply(Answer("kept")))

    def _answer(self, path: str, asked: dict[str, object]) -> bytes | Iterable[bytes]:
        streamed = asked.get("stream") is True
        has_tools = bool(asked.get("tools"))
        head = ReplyHead(f"{self.n_answers}", "m-1", 1)
        if path.endswith("/messages"):
            extra = {"signatures": ["sig"], **({"parts": [TOOL_USE]} if has_tools else {})}
            answer = Answer("XIV", "end_turn", "it is 14", json.dumps(extra))
            head = head._replace(response_id=f"msg_{self.n_answers}")
            reply = _reply(answer)
            encode = messages_stream.encode_stream if streamed else messages.encode_response
            return encode(head, reply)
        if path.endswith("/responses"):
            extra = {"items": [FUNCTION_CALL]} if has_tools else None
            answer = Answer("XIV", "completed", extra=json.dumps(extra) if extra else None)
            head = head._replace(response_id=f"resp_{self.n_answers}")
            reply = _reply(answer)
            encode = responses_stream.encode_stream if streamed else responses.encode_response
            return encode(head, reply)
        if path.endswith("/chat/completions"):
            extra = json.dumps({"tool_calls": [CALL]}) if has_tools else None
            reply = _reply(Answer("XIV", "tool_calls" if has_tools else "stop", extra=extra))
            head = head._replace(response_id=f"chatcmpl-{self.n_answers}")
            if streamed:
                return chat.encode_stream(head, reply, include_usage=True)
            return chat.encode_response(head, reply)
        return _legacy(self.n_answers, streamed=streamed)


def _reply(answer: Answer) -> Reply:
    return Reply(answers=(answer,), model_returned="m-1", input_tokens=9, output_tokens=3)


def _legacy(number: int, *, streamed: bool) -> bytes | list[bytes]:
    body = {"id": f"cmpl-{number}", "object": "text_completion", "created": 1, "model": "m-1"}
    end = {"index": 0, "text": "IV", "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    if not streamed:
        choice = end | {"text": "XIV"}
        return json.dumps(body | {"choices": [choice], "usage": usage}).encode()
    begin = {"index": 0, "text": "X", "finish_reason": None, "logprobs": None}
    chunks = [body | {"choices": [choice]} for choice in (begin, end)]
    chunks.append(body | {"choices": [], "usage": usage})
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [chat.DONE]


def _write(writer: asyncio.StreamWriter, body: bytes, *, status: str = "200 OK") -> None:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


async def _stream(writer: asyncio.StreamWriter, events: Iterable[bytes]) -> None:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    writer.write(f"{head}\r\n".encode())
    for event in events:
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
