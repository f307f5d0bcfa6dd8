"""Streamed OpenAI Chat Completions: replies to chunks, and chunks of any split back to a reply.

The names here are offered by `stillwatch.wire.chat`, which is what the rest of the package imports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from stillwatch.record.exchange import Answer, canonical_json
from stillwatch.wire.question import Reply
from stillwatch.wire.sse import EventParser, ServerSentEvent, encode_event

#: The event that ends a stream.
DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ReplyHead(NamedTuple):
    """What every chunk and every whole reply repeats.

    Attributes:
        response_id: the reply's id, by custom "chatcmpl-...".
        model: the model that answers.
        created: UTC epoch seconds, whole.
    """

    response_id: str
    model: str
    created: int


def encode_chunk(
    head: ReplyHead,
    delta: Mapping[str, Any],
    *,
    index: int = 0,
    finish_reason: str | None = None,
    logprobs: object = None,
) -> bytes:
    """Write one chunk as a server-sent event.

    Args:
        head: id, model and time of the reply.
        delta: what is new, by the wire's names: role, content, reasoning_content, tool_calls.
        index: which choice it belongs to.
        finish_reason: why the choice ended, in its last chunk only.
        logprobs: the wire's log-probability object of these tokens, or None.

    Returns:
        The event's bytes.
    """
    choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish_reason}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return encode_event(_encode({**_envelope(head), "choices": [choice]}))


def encode_usage_chunk(head: ReplyHead, *, input_tokens: int, output_tokens: int) -> bytes:
    """Write the last chunk of a stream that was asked for with `stream_options.include_usage`.

    Args:
        head: id, model and time of the reply.
        input_tokens: tokens of the question (count).
        output_tokens: tokens of all answers (count).

    Returns:
        The event's bytes; its `choices` are empty.
    """
    body = {**_envelope(head), "choices": [], "usage": usage(input_tokens, output_tokens)}
    return encode_event(_encode(body))


def encode_stream(head: ReplyHead, reply: Reply, *, include_usage: bool = False) -> Iterator[bytes]:
    """Write a whole reply as a stream: per choice its role, its content, its end; then DONE.

    Args:
        head: id, model and time of the reply.
        reply: what was answered.
        include_usage: add the chunk with the token counts, if the reply knows both.

    Yields:
        One event at a time.
    """
    for index, answer in enumerate(reply.answers):
        first: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if answer.reasoning is not None:
            first["reasoning_content"] = answer.reasoning
        more: dict[str, Any] = _decode(answer.extra) if answer.extra is not None else {}
        logprobs = more.pop("logprobs", None)
        calls = more.pop("tool_calls", [])
        if calls:
            first["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        first.update(more)
        yield encode_chunk(head, first, index=index, logprobs=logprobs)
        yield encode_chunk(head, {}, index=index, finish_reason=answer.finish_reason or None)
    if include_usage and reply.input_tokens is not None and reply.output_tokens is not None:
        yield encode_usage_chunk(
            head, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens
        )
    yield DONE


class ChunkReader:
    """Reads the chunks of a streamed reply from its bytes, split anywhere; what the wires share.

    Watches and never fails: what it cannot read it counts and skips, because the client gets the
    same bytes whatever we make of them.

    Attributes:
        done: whether the stream said that it was complete.
        error_code: code or type of an error that came inside the stream, or None.
        n_chunks: chunks read (count).
        n_unreadable: events that were not a chunk (count).
    """

    def __init__(self) -> None:
        self.done = False
        self.error_code: str | None = None
        self.n_chunks = 0
        self.n_unreadable = 0
        self._parser = EventParser()
        self._model = ""
        self._tokens: tuple[int | None, int | None] = (None, None)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream.

        Args:
            data: any number of bytes, split anywhere.
        """
        for event in self._parser.feed(data):
            self._take(event)

    def reply(self) -> Reply:
        """Say what has been answered so far; a cut stream gives what came before the cut.

        Returns:
            The reply; no answers when no choice has come; token counts None unless the stream told.
        """
        for event in self._parser.close():
            self._take(event)
        return Reply(
            answers=tuple(self._answers()),
            model_returned=self._model,
            input_tokens=self._tokens[0],
            output_tokens=self._tokens[1],
        )

    def _answers(self) -> Iterator[Answer]:
        """Give the answers so far, by their index."""
        raise NotImplementedError

    def _grow(self, index: int, choice: dict[str, Any]) -> None:
        """Add to a choice."""
        raise NotImplementedError

    def _take(self, event: ServerSentEvent) -> None:
        if event.data == "[DONE]":
            self.done = True
            return
        try:
            chunk = _decode(event.data)
        except (msgspec.DecodeError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            self.n_unreadable += 1
            return
        if chunk.get("error") is not None:
            self.error_code = error_code(chunk["error"])
        self.n_chunks += 1
        self._model = text_of(chunk.get("model")) or self._model
        if isinstance(chunk.get("usage"), dict):
            self._tokens = token_counts(chunk["usage"])
        for choice in list_of(chunk.get("choices")):
            if isinstance(choice, dict):
                index = choice.get("index")
                self._grow(index if isinstance(index, int) else 0, choice)


class ChunkAssembler(ChunkReader):
    """Puts a streamed chat completion together.

    Attributes:
        has_output: whether any text, reasoning or tool call has come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_output = False
        self._choices: dict[int, _Choice] = {}

    def _answers(self) -> Iterator[Answer]:
        return (self._choices[index].answer() for index in sorted(self._choices))

    def _grow(self, index: int, choice: dict[str, Any]) -> None:
        taken = self._choices.setdefault(index, _Choice()).take(choice)
        self.has_output = self.has_output or taken


class _Choice:
    """One choice while it grows."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason = ""
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: dict[str, Any] = {}
        self.more: dict[str, Any] = {}

    def take(self, choice: dict[str, Any]) -> bool:
        """Add one chunk's choice; True when it brought output."""
        self.finish_reason = text_of(choice.get("finish_reason")) or self.finish_reason
        for name, value in dict_of(choice.get("logprobs")).items():
            if isinstance(value, list) and isinstance(self.logprobs.get(name), list):
                self.logprobs[name] = [*self.logprobs[name], *value]
            else:
                self.logprobs[name] = value
        brought = False
        for name, value in dict_of(choice.get("delta")).items():
            if name != "role" and value is not None and value != "":
                brought = self._add(name, value) or brought
        return brought

    def _add(self, name: str, value: object) -> bool:
        if name == "content":
            self.text.append(text_of(value))
        elif name in {"reasoning_content", "reasoning"}:
            self.reasoning.append(text_of(value))
        elif name == "tool_calls":
            for call in list_of(value):
                self._add_call(dict_of(call))
        elif isinstance(value, str) and isinstance(self.more.get(name), str):
            self.more[name] += value
        else:
            self.more[name] = value
        return name != "obfuscation"

    def _add_call(self, call: dict[str, Any]) -> None:
        index = call.pop("index", None)
        grown = self.calls.setdefault(index if isinstance(index, int) else 0, {})
        for name, value in call.items():
            if isinstance(value, dict):
                # A function's name comes once, its arguments in pieces.
                inner = grown.setdefault(name, {})
                for key, piece in value.items():
                    joins = isinstance(piece, str) and isinstance(inner.get(key), str)
                    inner[key] = inner[key] + piece if joins else piece
            elif value is not None:
                grown[name] = value

    def answer(self) -> Answer:
        """The choice as it stands."""
        self.more.pop("obfuscation", None)  # padding against traffic analysis, never content
        more = dict(self.more)
        if self.calls:
            more["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        if self.logprobs:
            more["logprobs"] = self.logprobs
        return Answer(
            text="".join(self.text),
            finish_reason=self.finish_reason,
            reasoning="".join(self.reasoning) if self.reasoning else None,
            extra=canonical_json(more) if more else None,
        )


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Write token counts by the wire's names.

    Args:
        input_tokens: tokens of the question (count).
        output_tokens: tokens of all answers (count).

    Returns:
        The wire's `usage` object.
    """
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def token_counts(told: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Read the wire's `usage` object.

    Args:
        told: the object as it came.

    Returns:
        Tokens of the question and of the answers (counts), None where not a whole number.
    """
    found = (told.get("prompt_tokens"), told.get("completion_tokens"))
    return tuple(n if type(n) is int and 0 <= n < 2**63 else None for n in found)  # type: ignore[return-value]


def error_code(error: object) -> str:
    """Name an error of the wire without its message, which may quote the question.

    Args:
        error: the wire's `error` value.

    Returns:
        Its code, else its type, else "error".
    """
    found = dict_of(error)
    return str(found.get("code") or found.get("type") or "error")[:64]


def text_of(value: object) -> str:
    """Take a text where one is expected.

    Args:
        value: a text, a list of content parts, or anything else.

    Returns:
        The text; the text parts joined by newlines; "" for anything else.
    """
    if isinstance(value, list):
        return "\n".join(p["text"] for p in value if is_text_part(p))
    return value if isinstance(value, str) else ""


def is_text_part(part: object) -> bool:
    """Say whether a content part is plain text.

    Args:
        part: one element of a list of content parts.

    Returns:
        Whether it is an object with a text and, if any type, the type `text`.
    """
    found = dict_of(part)
    return isinstance(found.get("text"), str) and found.get("type", "text") == "text"


def dict_of(value: object) -> dict[str, Any]:
    """Take an object where one is expected.

    Args:
        value: anything.

    Returns:
        The value if it is an object, else an empty one.
    """
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """Take a list where one is expected.

    Args:
        value: anything.

    Returns:
        The value if it is a list, else an empty one.
    """
    return value if isinstance(value, list) else []


def _envelope(head: ReplyHead) -> dict[str, Any]:
    return {
        "id": head.response_id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
    }
