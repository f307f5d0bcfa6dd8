"""What a fake endpoint answers: replies, and their bytes on each of the three wires."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from stillwatch.errors import StillwatchError
from stillwatch.model.fake_server.asked import Asked, count_tokens
from stillwatch.model.fake_server.behaviour import Behaviour
from stillwatch.record.exchange import Answer
from stillwatch.wire import chat, messages, messages_stream, responses
from stillwatch.wire.chat_stream import ReplyHead
from stillwatch.wire.question import Question, Reply
from stillwatch.wire.sse import encode_event

#: Answers a question by itself: a text, a whole reply, or a failure, which becomes a 500.
Handler = Callable[[Question], str | Reply | StillwatchError]

_FILLER = (
    "the lamp at the harbour is lit before the boats come in and the keeper writes the hour into "
    "his book because the book is what the owners read when the winter is over "
)
_REFUSAL = "I'm sorry, but I can't help with that."
#: Why an answer ends, by wire: of itself, for its length, by the provider's filter.
_ENDINGS = {
    "openai.chat": ("stop", "length", "content_filter"),
    "openai.responses": ("completed", "max_output_tokens", "content_filter"),
    "anthropic.messages": ("end_turn", "max_tokens", "refusal"),
}
_ID_HEADS = {"openai.chat": "chatcmpl", "openai.responses": "resp", "anthropic.messages": "msg"}
_READERS = {
    "openai.chat": chat.parse_request,
    "openai.responses": responses.parse_request,
    "anthropic.messages": messages.parse_request,
}
#: Characters in a piece of a streamed Chat Completions answer.
_PIECE = 64
_encode = msgspec.json.Encoder().encode


class Answers:
    """Answers questions as a configuration says.

    Args:
        behaviour: what is drawn, and the configuration.
        handler: answers instead of the configuration, or None.
    """

    def __init__(self, behaviour: Behaviour, handler: Handler | None) -> None:
        self._behaviour = behaviour
        self._config = behaviour.config
        self._handler = handler
        self._n_replies = 0
        size = max(0, self._config.answer_bytes - 17)
        self._filler = (_FILLER * (size // len(_FILLER) + 1))[:size]

    def reply(self, asked: Asked) -> Reply:
        """Answer.

        Args:
            asked: the question.

        Returns:
            The reply, its tokens counted as if `n` answers were written.

        Raises:
            StillwatchError: the handler's failure.
        """
        handled = self._handled(asked)
        if isinstance(handled, Reply):
            return handled
        answer = self._answer(asked, handled)
        written = count_tokens(answer.text) + (count_tokens(answer.reasoning or " ") - 1)
        return Reply(
            answers=(answer,) * asked.n,
            model_returned=asked.model or self._config.model,
            input_tokens=asked.input_tokens,
            output_tokens=written * asked.n,
        )

    def head(self, asked: Asked) -> ReplyHead:
        """Give a reply its id.

        Args:
            asked: the question.

        Returns:
            Id, model and time.
        """
        self._n_replies += 1
        reply_id = f"{_ID_HEADS[asked.wire]}-{self._n_replies:08d}"
        return ReplyHead(reply_id, asked.model or self._config.model, int(time.time()))

    def encode(self, asked: Asked, reply: Reply) -> bytes:
        """Write a whole reply.

        Args:
            asked: the question.
            reply: its answer.

        Returns:
            JSON bytes.
        """
        head = self.head(asked)
        if asked.wire == "anthropic.messages":
            return messages.encode_response(head, reply)
        if asked.wire == "openai.responses":
            whole = _complete_response(responses.wire_response(head, reply))
            return _encode(whole)
        body = chat.encode_response(head, reply)
        return body[:-1] + b',"system_fingerprint":%s}' % _encode(self._config.fingerprint)

    def stream(self, asked: Asked, reply: Reply) -> list[bytes]:
        """Write a reply as server-sent events.

        Args:
            asked: the question.
            reply: its answer.

        Returns:
            The events.
        """
        head = self.head(asked)
        if asked.wire == "anthropic.messages":
            return list(messages_stream.encode_stream(head, reply))
        if asked.wire == "openai.responses":
            whole = _complete_response(responses.wire_response(head, reply))
            return list(_response_events(whole))
        told = asked.body.get("stream_options")
        wants_usage = isinstance(told, dict) and told.get("include_usage") is True
        return list(_chat_events(head, reply, include_usage=wants_usage))

    def _handled(self, asked: Asked) -> str | Reply:
        if self._handler is None:
            return self._config.answers.get(asked.text, f"{asked.key} {self._filler}")
        handled = self._handler(_READERS[asked.wire](_encode(asked.body)))
        if isinstance(handled, StillwatchError):
            raise handled
        return handled

    def _answer(self, asked: Asked, text: str) -> Answer:
        config, draw = self._config, self._behaviour.draw
        ended, too_long, filtered = _ENDINGS[asked.wire]
        if config.refused_share and draw("refused", asked.key) < config.refused_share:
            if config.refusal == "filter":
                return Answer(text="", finish_reason=filtered)
            if config.refusal == "field" and asked.wire != "anthropic.messages":
                sign = _encode({"refusal": _REFUSAL}).decode()
                return Answer(text="", finish_reason=ended, extra=sign)
            # The Messages wire's own sign of a refusal is its stop reason.
            reason = filtered if config.refusal == "field" else ended
            return Answer(text=_REFUSAL, finish_reason=reason)
        reasoning = None
        if config.reasoning_share and draw("reasoning", asked.key) < config.reasoning_share:
            reasoning = f"thinking about {asked.key}"
        if config.truncated_share and draw("truncated", asked.key) < config.truncated_share:
            text, ended = text[: len(text) // 2], too_long
        if asked.max_tokens is not None and count_tokens(text) > asked.max_tokens:
            text, ended = text[: 4 * asked.max_tokens], too_long
        extra = self._logprobs(asked, text)
        return Answer(text=text, finish_reason=ended, reasoning=reasoning, extra=extra)

    def _logprobs(self, asked: Asked, text: str) -> str | None:
        if asked.wire != "openai.chat" or asked.body.get("logprobs") is not True:
            return None
        n_top = asked.body.get("top_logprobs") or 0
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
        content = [_token(piece, n_top=n_top) for piece in pieces]
        return _encode({"logprobs": {"content": content, "refusal": None}}).decode()


def _token(text: str, *, n_top: int) -> dict[str, Any]:
    def told(piece: str, logprob: float) -> dict[str, Any]:
        return {"token": piece, "logprob": logprob, "bytes": list(piece.encode())}

    # Half of what is left goes to each next alternative, so the tail is never empty.
    top = [told(text if n == 0 else f"{text}~{n}", -0.6931 * (n + 1)) for n in range(n_top)]
    return {**told(text, -0.6931), "top_logprobs": top}


def _chat_events(head: ReplyHead, reply: Reply, *, include_usage: bool) -> Iterable[bytes]:
    """Stream as the vendors do: a role, the text in pieces, the end, the counts."""
    for index, answer in enumerate(reply.answers):
        if answer.extra is not None:
            single = Reply(answers=(answer,))
            yield from list(chat.encode_stream(head, single))[:-1]
            continue
        yield chat.encode_chunk(head, {"role": "assistant", "content": ""}, index=index)
        if answer.reasoning is not None:
            yield chat.encode_chunk(head, {"reasoning_content": answer.reasoning}, index=index)
        for at in range(0, len(answer.text), _PIECE):
            piece = {"content": answer.text[at : at + _PIECE]}
            yield chat.encode_chunk(head, piece, index=index)
        yield chat.encode_chunk(head, {}, index=index, finish_reason=answer.finish_reason)
    if include_usage:
        yield chat.encode_usage_chunk(
            head, input_tokens=reply.input_tokens or 0, output_tokens=reply.output_tokens or 0
        )
    yield chat.DONE


def _response_events(whole: dict[str, Any]) -> Iterable[bytes]:
    """Stream as the vendor does: each item and each part begins, grows and is done."""
    number = 0

    def event(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        told = {"type": kind, "sequence_number": number, **fields}
        return encode_event(_encode(told), event=kind)

    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    for at, item in enumerate(whole["output"]):
        parts = item.get("content", [])
        empty = {**item, "content": [], "status": "in_progress"} if parts else item
        yield event("response.output_item.added", output_index=at, item=empty)
        for n, part in enumerate(parts):
            place = {"item_id": item["id"], "output_index": at, "content_index": n}
            kind = "refusal" if part["type"] == "refusal" else "text"
            name = "response.refusal" if kind == "refusal" else "response.output_text"
            probed: dict[str, list[object]] = {} if kind == "refusal" else {"logprobs": []}
            yield event("response.content_part.added", **place, part={**part, kind: ""})
            for begin in range(0, len(part[kind]), _PIECE):
                piece = part[kind][begin : begin + _PIECE]
                yield event(f"{name}.delta", **place, delta=piece, **probed)
            yield event(f"{name}.done", **place, **{kind: part[kind]}, **probed)
            yield event("response.content_part.done", **place, part=part)
        yield event("response.output_item.done", output_index=at, item=item)
    ending = "completed" if whole["status"] == "completed" else "incomplete"
    yield event(f"response.{ending}", response=whole)


def _complete_response(body: dict[str, Any]) -> dict[str, Any]:
    """Add what the vendor's own client insists on and our reader does not need."""
    usage = body.get("usage", {})
    details = {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        **body,
        "usage": {**usage, **details},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
