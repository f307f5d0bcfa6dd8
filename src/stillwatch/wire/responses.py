"""OpenAI Responses: bytes to questions and replies, and back. No I/O.

What differs from Chat Completions and how it is brought to the same record:

- `instructions` become the first message, with role system; a bare text `input` one user message;
- items that are no messages (calls, their outputs, reasoning, references) become messages of role
  assistant or, for what a tool gave back, tool; the whole item is kept as JSON in `extra["item"]`;
- earlier turns may lie at the provider (`previous_response_id`, `conversation`): those stay in the
  question's parameters, and `session_of` reads them;
- of a reply, the texts of all output messages join into one answer, reasoning (summaries and
  texts) becomes `reasoning`, every other item stays in `extra["items"]`.
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
from stillwatch.wire.chat_stream import dict_of, list_of, text_of
from stillwatch.wire.question import PosedQuestion, Question, Reply

_encode = msgspec.json.Encoder().encode
_WIRE = "responses"
_ENVELOPE = frozenset({"input", "instructions", "model", "stream", "stream_options"})
#: Parameters that say who asks, or where the conversation lies; `prompt` carries variables' texts.
_NOT_SAMPLING = frozenset({
    "prompt", "previous_response_id", "conversation", "prompt_cache_options", "background",
    "background_options", "context_management",
})  # fmt: skip
#: With one of these a question needs no `input` of its own.
_ELSEWHERE = ("prompt", "previous_response_id", "conversation", "instructions")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
#: States of a response that are not a reason to have stopped short.
_STATES = frozenset({"completed", "failed", "cancelled"})


def parse_request(body: bytes) -> Question:
    """Read the question from a body.

    Args:
        body: JSON bytes.

    Returns:
        The question; every further field of the body is in its `parameters`, by the wire's names.

    Raises:
        BadRequestError: not JSON, or nothing is asked.
    """
    return parse_responses_request(body).question


def parse_responses_request(body: bytes) -> PosedQuestion:
    """Read the question from a body, and whether the answer shall be streamed.

    Args:
        body: JSON bytes.

    Returns:
        The question and how its answer shall travel.

    Raises:
        BadRequestError: not JSON, or nothing is asked.
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
        BadRequestError: nothing is asked.
    """
    asked, model = found.get("input"), found.get("model")
    if not isinstance(asked, str | list | None):
        refuse(_WIRE, "input", "a text or a list of items", got=asked)
    if asked is None and not any(found.get(name) for name in _ELSEWHERE):
        refuse(_WIRE, "input", "a text or a list of items", got=asked)
    if model is not None and not isinstance(model, str):
        refuse(_WIRE, "model", "a text", got=model)
    items: list[Any] = (
        [{"role": "user", "content": asked}] if isinstance(asked, str) else asked or []
    )
    instructions = found.get("instructions")
    messages = (
        [Message("system", instructions)] if instructions and isinstance(instructions, str) else []
    )
    for n, item in enumerate(items):
        if not isinstance(item, dict):
            refuse(_WIRE, f"input[{n}]", "an object", got=item)
        messages.append(_message(item, n=n))
    parameters = {k: v for k, v in found.items() if k not in _ENVELOPE and v is not None}
    if isinstance(instructions, list):  # as a reply echoes them
        parameters["instructions"] = instructions
    return Question(messages=tuple(messages), model=model or "", parameters=parameters)


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
    if turns and turns[0].role == "system" and turns[0].content and not turns[0].extra:
        body["instructions"] = turns.pop(0).content
    body["input"] = [_wire_item(message) for message in turns]
    body.update(question.parameters)
    if stream:
        body["stream"] = True
    return _encode(body)


def parse_response(body: bytes) -> Reply:
    """Read a whole (not streamed) reply.

    Args:
        body: JSON bytes of a reply with status 200.

    Returns:
        The reply, with at most one answer.

    Raises:
        ModelError: not JSON, or no list of output items.
    """
    found = open_reply(body)
    if not isinstance(found.get("output"), list):
        message = f"responses reply: body must be JSON with output, got {len(body)} bytes without"
        raise ModelError(message)
    return reply_from(found)


def reply_from(found: Mapping[str, Any]) -> Reply:
    """Read the reply from a decoded response; never fails.

    Args:
        found: the response, whole or as far as it came.

    Returns:
        The reply; no answer when there is no output item and the response is not complete.
    """
    items = [item for item in map(dict_of, list_of(found.get("output"))) if item]
    told = dict_of(found.get("usage"))
    model = found.get("model")
    status = text_of(found.get("status"))
    stopped = text_of(dict_of(found.get("incomplete_details")).get("reason")) or status
    if stopped in {"in_progress", "queued"}:
        stopped = ""  # a stream that was cut has no end to name
    has_answer = bool(items) or status in {"completed", "incomplete"}
    return Reply(
        answers=(_answer(items, stopped),) if has_answer else (),
        model_returned=model if isinstance(model, str) else "",
        input_tokens=count(told.get("input_tokens")),
        output_tokens=count(told.get("output_tokens")),
    )


def session_of(found: Mapping[str, Any]) -> str | None:
    """Name the conversation that a request or a response belongs to.

    Args:
        found: the decoded body of either.

    Returns:
        The conversation's id, else the id of the response that it continues, else None.
    """
    conversation = found.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    session = conversation or found.get("previous_response_id")
    return session if isinstance(session, str) else None


def wire_response(head: ReplyHead, reply: Reply) -> dict[str, Any]:
    """Lay a reply out as the wire's response.

    Args:
        head: id, model and time of the reply.
        reply: what was answered, one answer at most; its `model_returned` goes before the head's.

    Returns:
        The response, ready to be encoded.
    """
    body: dict[str, Any] = {
        "id": head.response_id,
        "object": "response",
        "created_at": head.created,
        "status": "failed",
        "error": None,
        "incomplete_details": None,
        "model": reply.model_returned or head.model,
        "output": [],
    }
    for answer in reply.answers[:1]:
        stopped = answer.finish_reason
        body["status"] = stopped if stopped in _STATES else "incomplete" if stopped else None
        if body["status"] == "incomplete" and stopped != "incomplete":
            body["incomplete_details"] = {"reason": stopped}
        body["output"] = _wire_output(answer, response_id=head.response_id)
    if reply.input_tokens is not None and reply.output_tokens is not None:
        body["usage"] = {
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
        }
    return body


def encode_response(head: ReplyHead, reply: Reply) -> bytes:
    """Write a whole reply; `parse_response` reads the same reply from it.

    Args:
        head: id, model and time of the reply.
        reply: what was answered, one answer at most.

    Returns:
        JSON bytes.
    """
    return _encode(wire_response(head, reply))


def exchange_from(question: Question, reply: Reply | None, *, circumstances: Exchange) -> Exchange:
    """Join what was asked and answered to who asked, when and how.

    Args:
        question: as it was parsed.
        reply: as it was parsed or assembled; None when there was none.
        circumstances: id, account, times, status, action and the like; its own content is replaced.

    Returns:
        The exchange to record, without parameters that name a person or a conversation; the latter
        is its session unless the circumstances have one.
    """
    joined = chat.exchange_from(question, reply, circumstances=circumstances)
    return msgspec.structs.replace(
        joined,
        wire="openai.responses",
        parameters={k: v for k, v in joined.parameters.items() if k not in _NOT_SAMPLING},
        session=circumstances.session or session_of(question.parameters),
    )


def _message(item: dict[str, Any], *, n: int) -> Message:
    kind = item.get("type", "message")
    if kind != "message":
        whole = {"item": {k: v for k, v in item.items() if v is not None}}
        is_output = isinstance(kind, str) and kind.endswith("_output")
        # The text of a tool's output is worth searching; it stays in the item as well.
        said = _texts(item.get("output")) if is_output else ""
        return Message("tool" if is_output else "assistant", said, keep(whole))
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or not role:
        refuse(_WIRE, f"input[{n}].role", "a text", got=role)
    if not isinstance(content, str | list):
        refuse(_WIRE, f"input[{n}].content", "a text or a list of parts", got=content)
    skipped = {"type", "role", "content"}
    more = {k: v for k, v in item.items() if k not in skipped and v is not None}
    parts = [part for part in list_of(content) if not _is_text(part)]
    if parts:
        more["parts"] = parts
    return Message("system" if role == "developer" else role, _texts(content), keep(more))


def _wire_item(message: Message) -> dict[str, Any]:
    more = kept(message.extra)
    if item := dict_of(more.get("item")):
        return item
    parts = more.pop("parts", [])
    content: object = message.content
    if parts:
        kind = "output_text" if message.role == "assistant" else "input_text"
        text = [{"type": kind, "text": message.content}] if message.content else []
        content = [*text, *parts]
    return {"type": "message", "role": message.role, "content": content, **more}


def _answer(items: list[dict[str, Any]], stopped: str) -> Answer:
    texts: list[str] = []
    thoughts: list[str] = []
    more: dict[str, list[Any]] = {"items": [], "refusal": [], "logprobs": [], "annotations": []}
    for item in items:
        if item.get("type") == "message":
            _read_parts(item, texts, more)
        elif item.get("type") == "reasoning":
            pieces = [*list_of(item.get("summary")), *list_of(item.get("content"))]
            thoughts += [p["text"] for p in map(dict_of, pieces) if isinstance(p.get("text"), str)]
            if item.get("encrypted_content"):
                more["items"].append({
                    k: v for k, v in item.items() if k not in {"summary", "content"}
                })
        else:
            more["items"].append(item)
    extra: dict[str, Any] = {name: found for name, found in more.items() if found}
    if "refusal" in extra:
        extra["refusal"] = "".join(extra["refusal"])
    return Answer(
        text="".join(texts),
        finish_reason=stopped,
        reasoning="\n".join(thoughts) if thoughts else None,
        extra=keep(extra),
    )


def _read_parts(item: dict[str, Any], texts: list[str], more: dict[str, list[Any]]) -> None:
    for part in map(dict_of, list_of(item.get("content"))):
        if _is_text(part):
            texts.append(part["text"])
            more["logprobs"] += list_of(part.get("logprobs"))
            more["annotations"] += list_of(part.get("annotations"))
        elif isinstance(part.get("refusal"), str):
            more["refusal"].append(part["refusal"])
        elif part:
            more["items"].append(part)


def _wire_output(answer: Answer, *, response_id: str) -> list[dict[str, Any]]:
    more = kept(answer.extra)
    output: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        output.append({"id": f"rs_{response_id}", "type": "reasoning", "summary": summary})
    parts: list[dict[str, Any]] = []
    if answer.text or more.keys() & {"logprobs", "annotations"}:
        text = {"annotations": more.get("annotations", []), "logprobs": more.get("logprobs", [])}
        parts.append({"type": "output_text", "text": answer.text, **text})
    if "refusal" in more:
        parts.append({"type": "refusal", "refusal": more["refusal"]})
    if parts or not (output or more.get("items")):
        head = {"id": f"msg_{response_id}", "type": "message", "role": "assistant"}
        output.append({**head, "status": "completed", "content": parts})
    return output + list_of(more.get("items"))


def _is_text(part: object) -> bool:
    found = dict_of(part)
    return isinstance(found.get("text"), str) and text_of(found.get("type", "text")) in _TEXT_PARTS


def _texts(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in list_of(content) if _is_text(part))
