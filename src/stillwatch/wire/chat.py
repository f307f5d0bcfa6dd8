"""OpenAI Chat Completions: bytes to questions and replies, and back. No I/O.

Reading is tolerant: fields that this version does not know are kept (`extra`, `parameters`) or
skipped, never refused, because a gateway must not be stricter than the model behind it. What it
does refuse, it refuses with the `param` and `code` that the wire's error shape has a place for.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, NoReturn

import msgspec

from stillwatch.errors import InvalidInputError, ModelError
from stillwatch.record.exchange import Answer, Exchange, Message, canonical_json
from stillwatch.wire.chat_stream import (
    DONE,
    ChunkAssembler,
    ReplyHead,
    dict_of,
    encode_chunk,
    encode_stream,
    encode_usage_chunk,
    error_code,
    is_text_part,
    list_of,
    text_of,
    token_counts,
    usage,
)
from stillwatch.wire.question import Question, Reply

__all__ = [
    "DONE",
    "BadRequestError",
    "ChatRequest",
    "ChunkAssembler",
    "ReplyHead",
    "encode_chunk",
    "encode_error",
    "encode_request",
    "encode_response",
    "encode_stream",
    "encode_usage_chunk",
    "exchange_from",
    "parse_chat_request",
    "parse_error_code",
    "parse_request",
    "parse_response",
    "sampling_parameters",
    "tools_hash",
]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
#: Fields of a body that are not parameters of the question.
_ENVELOPE = frozenset({"messages", "model", "stream", "stream_options"})
#: Parameters that say who asks, or what else may be done, not how to sample. They are not recorded:
#: the first five often hold an e-mail address or a name, and tool definitions rest as a hash.
_NOT_SAMPLING = frozenset({
    "user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention",
    "tools", "functions", "store",
})  # fmt: skip
#: Types of the wire's errors by status; others below 500 are invalid requests.
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class BadRequestError(InvalidInputError):
    """A body that no Chat Completions model could answer.

    Args:
        message: as for every error.
        param: the field, by the wire's name, or None for the whole body.
        code: short code of the rule that it breaks.
    """

    def __init__(self, message: str, *, param: str | None, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ChatRequest(NamedTuple):
    """A question, and how its answer shall travel.

    Attributes:
        question: what is asked.
        is_streamed: whether the answer shall come as server-sent events.
        include_usage: whether the stream shall end with the token counts.
    """

    question: Question
    is_streamed: bool
    include_usage: bool


def parse_request(body: bytes) -> Question:
    """Read the question from a body.

    Args:
        body: JSON bytes.

    Returns:
        The question; every further field of the body is in its `parameters`.

    Raises:
        BadRequestError: not JSON, or not a conversation.
    """
    return parse_chat_request(body).question


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read the question from a body, and whether the answer shall be streamed.

    Args:
        body: JSON bytes.

    Returns:
        The question and how its answer shall travel.

    Raises:
        BadRequestError: not JSON, or not a conversation.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = f"chat request: body must be JSON, got {len(body)} bytes that are not"
        raise BadRequestError(message, param=None, code="invalid_json") from None
    if not isinstance(found, dict):
        _refuse("body", "a JSON object", got=found)
    turns = found.get("messages")
    if not isinstance(turns, list) or not turns:
        _refuse("messages", "a list with at least one message", got=turns)
    model = found.get("model")
    if model is not None and not isinstance(model, str):
        _refuse("model", "a text", got=model)
    question = Question(
        messages=tuple(_message(turn, n=n) for n, turn in enumerate(turns)),
        model=model or "",
        parameters={k: v for k, v in found.items() if k not in _ENVELOPE and v is not None},
    )
    options = dict_of(found.get("stream_options"))
    return ChatRequest(question, found.get("stream") is True, options.get("include_usage") is True)


def encode_request(question: Question, *, stream: bool = False) -> bytes:
    """Write a question's body; `parse_request` reads the same question from it.

    Args:
        question: what is asked; an empty model is left out.
        stream: ask for server-sent events, with the token counts at their end.

    Returns:
        JSON bytes.
    """
    body: dict[str, Any] = {"model": question.model} if question.model else {}
    body["messages"] = [_wire_message(message) for message in question.messages]
    body.update(question.parameters)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encode(body)


def parse_response(body: bytes) -> Reply:
    """Read a whole (not streamed) reply.

    Args:
        body: JSON bytes of a reply with status 200.

    Returns:
        The reply, its choices in the order of their index.

    Raises:
        ModelError: not JSON, or no list of choices.
    """
    try:
        found = dict_of(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = {}
    choices = found.get("choices")
    if not isinstance(choices, list):
        message = f"chat reply: body must be JSON with choices, got {len(body)} bytes without"
        raise ModelError(message)
    ordered = sorted(filter(None, map(dict_of, choices)), key=_index)
    input_tokens, output_tokens = token_counts(dict_of(found.get("usage")))
    return Reply(
        answers=tuple(_answer(choice) for choice in ordered),
        model_returned=text_of(found.get("model")),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def encode_response(head: ReplyHead, reply: Reply) -> bytes:
    """Write a whole reply; `parse_response` reads the same reply from it.

    Args:
        head: id, model and time of the reply.
        reply: what was answered; its own `model_returned` goes before the head's model.

    Returns:
        JSON bytes.
    """
    choices = []
    for index, answer in enumerate(reply.answers):
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if answer.reasoning is not None:
            message["reasoning_content"] = answer.reasoning
        more: dict[str, Any] = _decode(answer.extra) if answer.extra is not None else {}
        choice: dict[str, Any] = {"index": index, "message": message}
        choice["logprobs"] = more.pop("logprobs", None)
        choice["finish_reason"] = answer.finish_reason or None
        message.update(more)
        choices.append(choice)
    body: dict[str, Any] = {
        "id": head.response_id,
        "object": "chat.completion",
        "created": head.created,
        "model": reply.model_returned or head.model,
        "choices": choices,
    }
    if reply.input_tokens is not None and reply.output_tokens is not None:
        body["usage"] = usage(reply.input_tokens, reply.output_tokens)
    return _encode(body)


def encode_error(
    status: int,
    message: str,
    *,
    type: str | None = None,  # noqa: A002 - the wire's own word
    code: str | None = None,
    param: str | None = None,
) -> bytes:
    """Write an error in the wire's shape.

    Args:
        status: HTTP status that goes with it; chooses the type when none is given.
        message: one sentence for the person who asked.
        type: the wire's error type.
        code: short code that programs switch on.
        param: the field at fault, or None.

    Returns:
        JSON bytes.

    Example:
        >>> encode_error(503, "try later", code="busy")
        b'{"error":{"message":"try later","type":"server_error","param":null,"code":"busy"}}'
    """
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    kind = type or _ERROR_TYPES.get(status, fallback)
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def parse_error_code(body: bytes) -> str:
    """Name the error in a body without its message, which may quote the question.

    Args:
        body: bytes of a reply that is not 200.

    Returns:
        The wire's code, else its type, else "error".
    """
    try:
        return error_code(dict_of(_decode(body)).get("error"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "error"


def exchange_from(question: Question, reply: Reply | None, *, circumstances: Exchange) -> Exchange:
    """Join what was asked and answered to who asked, when and how.

    Args:
        question: as it was parsed.
        reply: as it was parsed or assembled; None when there was none.
        circumstances: id, account, times, status, action and the like; its own content is replaced.

    Returns:
        The exchange to record. Parameters that name a person, and tool definitions, stay out;
        the latter leave their hash.
    """
    reply = reply or Reply(answers=())
    return msgspec.structs.replace(
        circumstances,
        wire="openai.chat",
        model=question.model,
        model_returned=reply.model_returned or None,
        messages=question.messages,
        answers=reply.answers,
        parameters=sampling_parameters(question),
        tools_hash=tools_hash(question),
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
    )


def sampling_parameters(question: Question) -> dict[str, Any]:
    """Keep the parameters that say how to sample.

    Args:
        question: as it was parsed.

    Returns:
        Parameters by the wire's names; a value that cannot be recorded becomes a text that says so,
        so that nothing sent can stop its own recording.
    """
    kept = {k: v for k, v in question.parameters.items() if k not in _NOT_SAMPLING}
    return {name: _storable(value) for name, value in kept.items()}


def tools_hash(question: Question) -> str | None:
    """Hash the tool definitions of a question.

    Args:
        question: as it was parsed.

    Returns:
        16 hex digits, equal for equal definitions whatever the order of their keys; None without.
    """
    tools = question.parameters.get("tools") or question.parameters.get("functions")
    if not tools:
        return None
    return hashlib.sha256(canonical_json(_storable(tools)).encode()).hexdigest()[:16]


def _storable(value: object) -> object:
    try:
        _encode(value)
    except (OverflowError, RecursionError):
        return "not recorded: too large a number, or nested too deep"
    return value


def _message(turn: object, *, n: int) -> Message:
    if not isinstance(turn, dict):
        _refuse(f"messages[{n}]", "an object", got=turn)
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or not role:
        _refuse(f"messages[{n}].role", "a text", got=role)
    if content is not None and not isinstance(content, str | list):
        _refuse(f"messages[{n}].content", "a text, a list of parts or null", got=content)
    more = {k: v for k, v in turn.items() if k not in {"role", "content"} and v is not None}
    parts = [p for p in list_of(content) if not is_text_part(p)]
    if parts:
        more["parts"] = parts
    return Message(
        role="system" if role == "developer" else role,
        content=text_of(content),
        extra=canonical_json(_storable(more)) if more else None,
    )


def _wire_message(message: Message) -> dict[str, Any]:
    more = dict_of(_decode(message.extra)) if message.extra is not None else {}
    parts = more.pop("parts", None)
    content: object = message.content
    if parts:
        text = [{"type": "text", "text": message.content}] if message.content else []
        content = [*text, *parts]
    return {"role": message.role, "content": content, **more}


def _answer(choice: dict[str, Any]) -> Answer:
    message = dict_of(choice.get("message"))
    skipped = {"role", "content", "reasoning_content", "reasoning"}
    more = {k: v for k, v in message.items() if k not in skipped and v not in (None, [])}
    if choice.get("logprobs") is not None:
        more["logprobs"] = choice["logprobs"]
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    return Answer(
        text=text_of(message.get("content", choice.get("text"))),
        finish_reason=text_of(choice.get("finish_reason")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        extra=canonical_json(_storable(more)) if more else None,
    )


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _refuse(name: str, rule: str, *, got: object) -> NoReturn:
    # The value may be somebody's text, so the message says its kind only.
    kind = "nothing" if got is None else type(got).__name__
    message = f"chat request: {name} must be {rule}, got {kind}"
    raise BadRequestError(message, param=None if name == "body" else name, code="invalid_value")
