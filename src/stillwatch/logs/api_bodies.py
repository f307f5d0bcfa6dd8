"""Bodies of the vendors' own APIs, whole, streamed or failed, joined to exchanges.

The wires read what a body says; here stands what only a log needs: a body that was refused must be
recorded too, a stream may lie there as text or as a list of events, and the person whom an
application names must be told from the account.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from stillwatch.errors import InvalidInputError
from stillwatch.logs.fields import (
    account_of,
    answers_from_openai,
    decoded,
    first_text,
    hash_tools,
    hashed,
    messages_from_openai,
    sampling,
    text,
)
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.exchange import Exchange
from stillwatch.wire import messages, responses
from stillwatch.wire.chat import ChunkAssembler
from stillwatch.wire.chat_stream import dict_of, error_code, list_of, token_counts
from stillwatch.wire.messages_stream import MessageAssembler
from stillwatch.wire.question import Question, Reply
from stillwatch.wire.responses_stream import ResponseAssembler
from stillwatch.wire.sse import encode_event

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
#: Statuses by the error types of both vendors, for logs that keep the body only.
_STATUSES = {
    "invalid_request_error": 400, "invalid_request": 400, "authentication_error": 401,
    "billing_error": 402, "insufficient_quota": 429, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429,
    "rate_limit_exceeded": 429, "requests": 429, "tokens": 429, "api_error": 500,
    "server_error": 500, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip


class Assembler(Protocol):
    """What puts a streamed reply together: the three wires' assemblers."""

    error_code: str | None
    done: bool

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        ...

    def reply(self) -> Reply:
        """Say what has been answered so far."""
        ...


class Returned(NamedTuple):
    """What came back for a question, of whatever kind.

    Attributes:
        body: the whole reply or error, decoded; of a stream what its events told; else empty.
        reply: the answers, None when nothing came back.
        error: short code of a failure, or None.
        status: HTTP status that the error's type goes with, 200 for an answer, 0 for nothing.
        streamed: whether it came as events.
    """

    body: Mapping[str, Any]
    reply: Reply | None
    error: str | None
    status: int
    streamed: bool


def openai_wire(request: Mapping[str, Any], response: object, endpoint: str) -> str:
    """Tell which of OpenAI's wires bodies speak.

    Args:
        request: the question's body, or empty.
        response: what came back, decoded.
        endpoint: the path that was asked, or "".

    Returns:
        openai.chat, openai.responses, or other (legacy completions, embeddings and the like).
    """
    path = endpoint.partition("?")[0].rstrip("/")
    if path.endswith("/chat/completions"):
        return "openai.chat"
    if path.endswith("/responses"):
        return "openai.responses"
    events = response if isinstance(response, list) else [response]
    first = dict_of(events[0] if events else None)
    kind = str(first.get("object") or first.get("type") or "")
    if "messages" in request or kind.startswith("chat.completion"):
        return "openai.chat"
    if kind.startswith("response") or ("output" in first and "status" in first):
        return "openai.responses"
    is_asked = "input" in request and kind != "list"
    return "openai.responses" if is_asked and not path else "other"


def read_returned(wire: str, response: object) -> Returned:
    """Read what came back, whole or as events.

    Args:
        wire: openai.chat, openai.responses, anthropic.messages or other.
        response: an object, a list of events, the text of an event stream, JSON text, or None.

    Returns:
        What came back; never fails.
    """
    found = decoded(response)
    if isinstance(found, str | bytes):
        found = found.encode("utf-8", "replace") if isinstance(found, str) else found
        return _streamed(wire, found) if b"data:" in found else _whole(wire, {})
    if isinstance(found, list):
        frames = [frame_of(event) for event in found]
        return _streamed(wire, b"".join(frame for frame in frames if frame))
    return _whole(wire, dict_of(found))


def join(
    request: Mapping[str, Any],
    returned: Returned,
    *,
    wire: str,
    circumstances: Exchange,
    status: int | None = None,
) -> Exchange:
    """Join a question's body and what came back to an exchange.

    Args:
        request: the question's body; empty when the log does not have it.
        returned: what came back.
        wire: the wire that both speak.
        circumstances: id, account, times and the like; its own content is replaced, its error kept.
        status: HTTP status as the log tells it, or None to take it from what came back.

    Returns:
        The exchange. A body that the wire would have refused is read as far as it can be, and the
        tag `question` says malformed.
    """
    base = msgspec.structs.replace(
        circumstances,
        status=returned.status if status is None else status,
        error=circumstances.error or returned.error,
        streamed=circumstances.streamed or returned.streamed or request.get("stream") is True,
    )
    if wire in {"openai.chat", "other"}:
        return _join_chat(request, returned.reply, wire=wire, base=base)
    is_anthropic = wire == "anthropic.messages"
    question = Question(messages=(), model=text(request.get("model")) or "")
    try:
        if request:
            read = messages.question_from if is_anthropic else responses.question_from
            question = read(request)
    except InvalidInputError:
        base = msgspec.structs.replace(base, tags={**base.tags, "question": "malformed"})
        turns = messages_from_openai(request.get("messages", request.get("input")))
        rest = {k: v for k, v in request.items() if k not in _CONTENT and v is not None}
        question = Question(messages=turns, model=question.model, parameters=rest)
    if is_anthropic:
        return messages.exchange_from(question, returned.reply, circumstances=base)
    if base.session is None:
        session = responses.session_of(question.parameters) or responses.session_of(returned.body)
        base = msgspec.structs.replace(base, session=session)
    return responses.exchange_from(question, returned.reply, circumstances=base)


_CONTENT = frozenset({"messages", "input", "instructions", "system", "model", "stream"})


class Person(NamedTuple):
    """Whom a body names as the one who asks.

    Attributes:
        account: id for `Exchange.account` when the log has no better one, "" without.
        end_user: keyed hash of the name, or None.
        session: the session that the name carries, or None.
    """

    account: str
    end_user: str | None
    session: str | None


def person_of(body: Mapping[str, Any], *, options: ReadOptions) -> Person:
    """Read whom a body names: `safety_identifier`, `user`, Anthropic's `metadata.user_id`.

    Claude Code packs device, account and session into `metadata.user_id`, as a text
    `user_DEVICE_account_ACCOUNT_session_SESSION` or, since 2.1.78, as JSON. Taken whole it would
    make every session an account of its own.

    Args:
        body: the question's body.
        options: holds the key for hashing.

    Returns:
        The person; empty for none.
    """
    named = text(dict_of(body.get("metadata")).get("user_id"))
    packed = decoded(named)
    session: object = None
    if isinstance(packed, Mapping):
        named = first_text(packed.get("account_uuid"), packed.get("device_id"))
        session = packed.get("session_id")
    elif named is not None and named.startswith("user_") and "_account_" in named:
        head, _, session = named.partition("_session_")
        device, _, account = head.partition("_account_")
        named = account or device
    found = first_text(body.get("safety_identifier"), body.get("user"), named)
    return Person(account_of(options, found), hashed(options, "end_user", found), text(session))


def frame_of(event: object) -> bytes:
    """Write one logged event of a stream as it went over the wire.

    Args:
        event: the decoded data, its text (with or without `data:`), or `{event, data}`.

    Returns:
        The bytes; none for what is no event.
    """
    event = decoded(event)
    if isinstance(event, Mapping) and isinstance(event.get("data"), str | Mapping):
        event = decoded(event["data"])  # {"event": ..., "data": ...} as loggers of events write
    if isinstance(event, str):
        bare = event.strip()
        return (
            bare if bare.startswith(("data:", "event:")) else f"data: {bare}"
        ).encode() + b"\n\n"
    try:
        return encode_event(_encode(event)) if isinstance(event, Mapping) else b""
    except (OverflowError, RecursionError):
        return b""


def assembler_of(wire: str) -> Assembler:
    """Begin to put a streamed reply together.

    Args:
        wire: openai.chat, openai.responses, anthropic.messages or other.

    Returns:
        The wire's assembler.
    """
    if wire == "anthropic.messages":
        return MessageAssembler()
    return ResponseAssembler() if wire == "openai.responses" else ChunkAssembler()


def assembled(assembler: Assembler) -> Returned:
    """Say what a stream brought, whole or cut.

    Args:
        assembler: fed with what there is.

    Returns:
        What came back; the error is "cut" when the answer has no end.
    """
    reply = assembler.reply()
    body = assembler.response if isinstance(assembler, ResponseAssembler) else {}
    error = assembler.error_code
    # A list of chunks seldom keeps the mark of the end; a reason to have stopped is as good.
    is_ended = assembler.done or all(answer.finish_reason for answer in reply.answers)
    if error is None and not is_ended:
        error = "cut"
    # A stream begins with 200 whatever happens later.
    return Returned(body, reply, error, 200, streamed=True)


def _streamed(wire: str, data: bytes) -> Returned:
    assembler = assembler_of(wire)
    assembler.feed(data)
    return assembled(assembler)


def _whole(wire: str, body: Mapping[str, Any]) -> Returned:
    if not body:
        return Returned({}, None, None, 0, streamed=False)
    failed = body.get("error")
    if failed is not None:
        told = dict_of(failed)
        error = error_code(failed)
        statuses = (_STATUSES.get(str(told.get(name))) for name in ("type", "code"))
        status = next((found for found in statuses if found is not None), 0)
        if wire == "openai.responses" and body.get("status") == "failed":
            status = 200  # the call succeeded, the model did not
        reply = responses.reply_from(body) if "output" in body else None
        return Returned(body, reply, error, status, streamed=False)
    if wire == "anthropic.messages":
        return Returned(body, messages.reply_from(body), None, 200, streamed=False)
    if wire == "openai.responses":
        return Returned(body, responses.reply_from(body), None, 200, streamed=False)
    input_tokens, output_tokens = token_counts(dict_of(body.get("usage")))
    reply = Reply(
        answers=answers_from_openai(list_of(body.get("choices"))),
        model_returned=text(body.get("model")) or "",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
    return Returned(body, reply, None, 200, streamed=False)


def _join_chat(
    request: Mapping[str, Any], reply: Reply | None, *, wire: str, base: Exchange
) -> Exchange:
    reply = reply or Reply(answers=())
    turns = request.get("messages")
    if wire == "other":
        asked = request.get("prompt", request.get("input"))
        asked = asked if isinstance(asked, list) else [asked]
        turns = [{"role": "user", "content": part} for part in asked if isinstance(part, str)]
    return msgspec.structs.replace(
        base,
        wire=wire,
        model=text(request.get("model")) or "",
        model_returned=reply.model_returned or None,
        messages=messages_from_openai(turns),
        answers=reply.answers,
        parameters=sampling(request),
        tools_hash=hash_tools(request.get("tools") or request.get("functions")),
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
    )
