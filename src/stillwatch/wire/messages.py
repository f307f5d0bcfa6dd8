"""Anthropic Messages: bytes to questions and replies, and back. No I/O.

What differs from Chat Completions and how it is brought to the same record:

- `system` at the top becomes the first message, with role system;
- a user turn that carries tool results becomes one message with role tool per result, before the
  user's own words, so that what a tool said is never taken for a question;
- blocks that are not text are kept as JSON in `extra["parts"]`, in order;
- of an answer, text blocks join without a separator (citations cut one sentence into many blocks),
  thinking becomes `reasoning`, its signatures and all other blocks stay in `extra`;
- tokens of the question count what was read from and written to the prompt cache too, which the
  wire tells apart from `input_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stillwatch.errors import ModelError
from stillwatch.record.exchange import Answer, Exchange, Message
from stillwatch.wire import chat
from stillwatch.wire.body import count, keep, kept, open_reply, open_request, refuse
from stillwatch.wire.chat import ReplyHead
from stillwatch.wire.chat_stream import dict_of, is_text_part, list_of, text_of
from stillwatch.wire.question import PosedQuestion, Question, Reply

_encode = msgspec.json.Encoder().encode
_WIRE = "messages"
_ENVELOPE = frozenset({"messages", "model", "system", "stream"})
#: Parameters that say who asks or what else may be done; `mcp_servers` holds access tokens.
_NOT_SAMPLING = frozenset({
    "mcp_servers", "user_profile_id", "workspace_id", "container", "diagnostics", "cache_control",
})  # fmt: skip
_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
#: HTTP status of the wire's error types; a batch's rows carry the type without one.
ERROR_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_ERROR_TYPES = {status: name for name, status in ERROR_STATUSES.items()}


def parse_request(body: bytes) -> Question:
    """Read the question from a body.

    Args:
        body: JSON bytes.

    Returns:
        The question; every further field of the body is in its `parameters`, by the wire's names.

    Raises:
        BadRequestError: not JSON, or not a conversation.
    """
    return parse_messages_request(body).question


def parse_messages_request(body: bytes) -> PosedQuestion:
    """Read the question from a body, and whether the answer shall be streamed.

    Args:
        body: JSON bytes.

    Returns:
        The question and how its answer shall travel.

    Raises:
        BadRequestError: not JSON, or not a conversation.
    """
    found = open_request(body, wire=_WIRE)
    return PosedQuestion(question_from(found), found.get("stream") is True)


def question_from(found: Mapping[str, Any]) -> Question:
    """Read the question from a decoded body.

    Args:
        found: the body.

    Returns:
        The question.

    Raises:
        BadRequestError: not a conversation.
    """
    turns, system, model = found.get("messages"), found.get("system"), found.get("model")
    if not isinstance(turns, list) or not turns:
        refuse(_WIRE, "messages", "a list with at least one message", got=turns)
    if system is not None and not isinstance(system, str | list):
        refuse(_WIRE, "system", "a text or a list of text blocks", got=system)
    if model is not None and not isinstance(model, str):
        refuse(_WIRE, "model", "a text", got=model)
    messages = _turn("system", system) if system else []
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict):
            refuse(_WIRE, f"messages[{n}]", "an object", got=turn)
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not role:
            refuse(_WIRE, f"messages[{n}].role", "a text", got=role)
        if not isinstance(content, str | list):
            refuse(_WIRE, f"messages[{n}].content", "a text or a list of blocks", got=content)
        messages += _turn(role, content)
    return Question(
        messages=tuple(messages),
        model=model or "",
        parameters={k: v for k, v in found.items() if k not in _ENVELOPE and v is not None},
    )


def encode_request(question: Question, *, stream: bool = False) -> bytes:
    """Write a question's body; `parse_request` reads the same question from it.

    Args:
        question: what is asked; an empty model is left out.
        stream: ask for server-sent events.

    Returns:
        JSON bytes.
    """
    body: dict[str, Any] = {"model": question.model} if question.model else {}
    turns = list(question.messages)
    # The last message cannot move up: the wire wants at least one turn.
    if len(turns) > 1 and turns[0].role == "system" and turns[0].content and not turns[0].extra:
        body["system"] = turns.pop(0).content
    body["messages"] = [_wire_turn(message) for message in turns]
    body.update(question.parameters)
    if stream:
        body["stream"] = True
    return _encode(body)


def parse_response(body: bytes) -> Reply:
    """Read a whole (not streamed) reply.

    Args:
        body: JSON bytes of a reply with status 200.

    Returns:
        The reply, with one answer.

    Raises:
        ModelError: not JSON, or no list of content blocks.
    """
    found = open_reply(body)
    if not isinstance(found.get("content"), list):
        message = f"messages reply: body must be JSON with content, got {len(body)} bytes without"
        raise ModelError(message)
    return reply_from(found)


def reply_from(found: Mapping[str, Any]) -> Reply:
    """Read the reply from a decoded message; never fails.

    Args:
        found: the message, whole or as far as it came.

    Returns:
        The reply; no answer when there is neither a block nor a reason to have stopped.
    """
    blocks = [block for block in map(dict_of, list_of(found.get("content"))) if block]
    input_tokens, output_tokens = token_counts(dict_of(found.get("usage")))
    has_answer = bool(blocks) or bool(found.get("stop_reason"))
    # A fallback block names the model that took over; the message's own field may still name the
    # first one when it was streamed.
    moved = [dict_of(b.get("to")).get("model") for b in blocks if b.get("type") == "fallback"]
    return Reply(
        answers=(_answer(blocks, found),) if has_answer else (),
        model_returned=text_of(moved[-1] if moved else None) or text_of(found.get("model")),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def encode_response(head: ReplyHead, reply: Reply) -> bytes:
    """Write a whole reply; `parse_response` reads the same reply from it.

    Args:
        head: id and model of the reply; the wire has no place for its time.
        reply: what was answered, one answer at most; its `model_returned` goes before the head's.

    Returns:
        JSON bytes.
    """
    return _encode(wire_message(head, reply))


def wire_message(head: ReplyHead, reply: Reply) -> dict[str, Any]:
    """Lay a reply out as the wire's message.

    Args:
        head: id and model of the reply.
        reply: what was answered, one answer at most.

    Returns:
        The message, ready to be encoded.
    """
    body: dict[str, Any] = {
        "id": head.response_id,
        "type": "message",
        "role": "assistant",
        "model": reply.model_returned or head.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    for answer in reply.answers[:1]:
        more = kept(answer.extra)
        body["content"] = _wire_blocks(answer, more)
        body["stop_reason"] = answer.finish_reason or None
        body |= {name: more[name] for name in ("stop_sequence", "stop_details") if name in more}
    told = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens}
    body["usage"] = {name: n for name, n in told.items() if n is not None}
    return body


def encode_error(
    status: int, message: str, *, error_type: str | None = None, request_id: str | None = None
) -> bytes:
    """Write an error in the wire's shape.

    Args:
        status: HTTP status that goes with it; chooses the type when none is given.
        message: one sentence for the person who asked.
        error_type: the wire's error type.
        request_id: the request's id, or None.

    Returns:
        JSON bytes.

    Example:
        >>> encode_error(529, "busy", request_id="req_1")
        b'{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_1"}'
    """
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    error = {"type": error_type or _ERROR_TYPES.get(status, fallback), "message": message}
    return _encode({"type": "error", "error": error, "request_id": request_id})


def exchange_from(question: Question, reply: Reply | None, *, circumstances: Exchange) -> Exchange:
    """Join what was asked and answered to who asked, when and how.

    Args:
        question: as it was parsed.
        reply: as it was parsed or assembled; None when there was none.
        circumstances: id, account, times, status, action and the like; its own content is replaced.

    Returns:
        The exchange to record, without parameters that name a person or hold an access token.
    """
    joined = chat.exchange_from(question, reply, circumstances=circumstances)
    parameters = {k: v for k, v in joined.parameters.items() if k not in _NOT_SAMPLING}
    return msgspec.structs.replace(joined, wire="anthropic.messages", parameters=parameters)


def token_counts(told: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Read the wire's `usage` object.

    Args:
        told: the object as it came.

    Returns:
        Tokens of the question, cached ones included, and of the answer (counts); None when not
        told.
    """
    counts = [n for n in (count(told.get(name)) for name in _INPUT_COUNTS) if n is not None]
    return sum(counts) if counts else None, count(told.get("output_tokens"))


def _turn(role: str, content: str | list[Any]) -> list[Message]:
    if isinstance(content, str):
        return [Message(role, content)]
    results: list[Message] = []
    parts: list[Any] = []
    for block in content:
        if role == "user" and dict_of(block).get("type") == "tool_result":
            results.append(_tool_message(block))
        elif not is_text_part(block):
            parts.append(block)
    said = text_of(content)
    if results and not parts and not any(is_text_part(block) for block in content):
        return results
    return [*results, Message(role, said, keep({"parts": parts} if parts else {}))]


def _tool_message(block: dict[str, Any]) -> Message:
    content = block.get("content")
    more = {k: v for k, v in block.items() if k not in {"type", "content"} and v is not None}
    parts = [part for part in list_of(content) if not is_text_part(part)]
    if parts:
        more["parts"] = parts
    return Message("tool", text_of(content), keep(more))


def _wire_turn(message: Message) -> dict[str, Any]:
    more = kept(message.extra)
    parts = more.pop("parts", [])
    if message.role == "tool":
        content = [*_text_blocks(message.content), *parts] if parts else message.content
        return {"role": "user", "content": [{"type": "tool_result", "content": content, **more}]}
    if not parts:
        return {"role": message.role, "content": message.content}
    return {"role": message.role, "content": [*_text_blocks(message.content), *parts]}


def _text_blocks(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}] if text else []


def _answer(blocks: list[dict[str, Any]], found: Mapping[str, Any]) -> Answer:
    texts, thoughts, signatures, parts, citations = [], [], [], [], []
    for block in blocks:
        if is_text_part(block):
            texts.append(block["text"])
            citations += list_of(block.get("citations"))
        elif block.get("type") == "thinking":
            thoughts.append(text_of(block.get("thinking")))
            if signature := text_of(block.get("signature")):
                signatures.append(signature)
        else:
            parts.append(block)
    more: dict[str, Any] = {"parts": parts, "signatures": signatures, "citations": citations}
    more |= {name: found.get(name) for name in ("stop_sequence", "stop_details")}
    return Answer(
        text="".join(texts),
        finish_reason=text_of(found.get("stop_reason")),
        reasoning="\n".join(filter(None, thoughts)) if thoughts else None,
        extra=keep({name: value for name, value in more.items() if value}),
    )


def _wire_blocks(answer: Answer, more: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        signed = list_of(more.get("signatures")) or [""]
        thoughts = [answer.reasoning, *[""] * (len(signed) - 1)]
        for thought, signature in zip(thoughts, signed, strict=True):
            blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
    blocks += list_of(more.get("parts"))
    if answer.text or not blocks:
        text: dict[str, Any] = {"type": "text", "text": answer.text}
        if citations := list_of(more.get("citations")):
            text["citations"] = citations
        blocks.append(text)
    return blocks
