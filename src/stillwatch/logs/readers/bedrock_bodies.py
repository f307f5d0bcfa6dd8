"""Bodies of Amazon Bedrock calls: Converse's, and those that each family of models has of its own.

An invocation log keeps bodies as the caller's operation spoke them: `Converse` and Nova one shape,
`InvokeModel` the model's own (Anthropic, Titan, Llama, Mistral, Cohere, AI21, OpenAI's weights).
They are told apart by their fields, not by the model's name, which may be an inference profile's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stillwatch.logs.blocks import answer_of, tool_call, turns_of
from stillwatch.logs.fields import (
    answers_from_openai,
    decoded,
    extra_of,
    first_text,
    sampling,
    text,
)
from stillwatch.logs.readers.bedrock_stream import Metrics, assemble, metrics_of
from stillwatch.record.exchange import Answer, Message


class Asked(NamedTuple):
    """What a request's body says.

    Attributes:
        messages: the conversation.
        parameters: sampling parameters; Converse's and the older families' by Chat's names.
        tools: tool definitions as they came, or None.
        wire: as `Exchange.wire`.
    """

    messages: tuple[Message, ...]
    parameters: dict[str, Any]
    tools: Any
    wire: str


class Told(NamedTuple):
    """What a reply's body says.

    Attributes:
        answers: the choices.
        metrics: tokens and times.
        model: that the reply names, or None.
        is_stream: the body is a list of a stream's events.
        wire: openai.chat when it has choices, else None.
    """

    answers: tuple[Answer, ...]
    metrics: Metrics
    model: str | None
    is_stream: bool
    wire: str | None


def read_input(body: object) -> Asked:
    """Read a request's body.

    Args:
        body: as logged, or its JSON text; None when it was not logged.

    Returns:
        What was asked; a body of an unknown shape is kept whole in `extra` of one user turn.
    """
    body = decoded(body)
    if not isinstance(body, Mapping):
        messages = () if body is None else (Message("user", body if isinstance(body, str) else ""),)
        return Asked(messages, {}, None, "other")
    if isinstance(body.get("messages"), list):
        return _conversation(body)
    turns = _older(body)
    if not turns:
        return Asked((Message("user", "", extra_of({"body": body})),), {}, None, "other")
    return Asked(tuple(turns), _parameters(body), body.get("tools"), "other")


def read_output(body: object) -> Told:
    """Read a reply's body.

    Args:
        body: as logged, or its JSON text: an object, or the list of a stream's events.

    Returns:
        What was answered; no answers for embeddings and bodies that were not logged.
    """
    body = decoded(body)
    if isinstance(body, list):
        reply = assemble([event for event in body if isinstance(event, Mapping)])
        wire = "openai.chat" if reply.has_choices else None
        return Told(reply.answers, reply.metrics, reply.model, is_stream=True, wire=wire)
    if not isinstance(body, Mapping):
        return Told((), Metrics(), None, is_stream=False, wire=None)
    wire = "openai.chat" if isinstance(body.get("choices"), list) else None
    found = tuple(_answers(body))
    return Told(found, metrics_of(body), text(body.get("model")), is_stream=False, wire=wire)


#: Fields that say what is asked, not how to sample.
_CONTENT = frozenset({
    "messages", "system", "prompt", "inputText", "message", "chat_history", "preamble", "texts",
    "toolConfig", "tools", "inferenceConfig", "textGenerationConfig", "anthropic_version",
    "additionalModelRequestFields", "schemaVersion", "api_version", "documents", "images",
    "inputImage", "requestMetadata", "modelId", "guardrailConfig", "promptVariables",
})  # fmt: skip
#: Names of Converse and the older families to Chat's.
_RENAMED = {
    "maxTokens": "max_tokens", "max_new_tokens": "max_tokens", "maxTokenCount": "max_tokens",
    "max_gen_len": "max_tokens", "max_tokens_to_sample": "max_tokens", "topP": "top_p",
    "topK": "top_k", "p": "top_p", "k": "top_k", "stopSequences": "stop",
}  # fmt: skip
_COHERE_ROLES = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}


def _conversation(body: Mapping[str, Any]) -> Asked:
    turns = turns_of("system", body["system"]) if body.get("system") else []
    for turn in body["messages"]:
        found = turn if isinstance(turn, Mapping) else {"content": turn}
        more = {n: v for n, v in found.items() if n not in {"role", "content"} and v is not None}
        turns += turns_of(text(found.get("role")) or "user", found.get("content"), more=more)
    config = body.get("toolConfig")
    tools = config.get("tools") if isinstance(config, Mapping) else body.get("tools")
    wire = "anthropic.messages" if "anthropic_version" in body else "other"
    return Asked(tuple(turns), _parameters(body), tools, wire)


def _older(body: Mapping[str, Any]) -> list[Message]:
    """Bodies without a list of messages: one text, or Cohere's message and history."""
    asked = first_text(body.get("prompt"), body.get("inputText"))
    if asked is not None:
        return [Message("user", asked)]
    turns: list[Message] = []
    if (preamble := text(body.get("preamble"))) is not None:
        turns.append(Message("system", preamble))
    history = body.get("chat_history")
    for turn in history if isinstance(history, list) else []:
        if isinstance(turn, Mapping):
            role = text(turn.get("role")) or "user"
            said = turn.get("message")
            content = said if isinstance(said, str) else ""
            turns.append(Message(_COHERE_ROLES.get(role.upper(), role), content))
    if (asked := text(body.get("message"))) is not None:
        turns.append(Message("user", asked))
    texts = body.get("texts")
    if isinstance(texts, list):
        turns += [Message("user", one) for one in texts if isinstance(one, str)]
    return turns


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    found = {n: v for n, v in body.items() if n not in _CONTENT}
    for name in ("inferenceConfig", "textGenerationConfig", "additionalModelRequestFields"):
        inner = body.get(name)
        if isinstance(inner, Mapping):
            found |= inner
    config = body.get("toolConfig")
    if isinstance(config, Mapping) and config.get("toolChoice") is not None:
        found["tool_choice"] = config["toolChoice"]
    kept = {_RENAMED.get(n, n): v for n, v in found.items() if v is not None and v != []}
    return sampling(kept)


def _answers(body: Mapping[str, Any]) -> list[Answer]:
    reason = first_text(body.get("stopReason"), body.get("stop_reason"), body.get("finish_reason"))
    outer = body.get("output")
    message = outer.get("message") if isinstance(outer, Mapping) else None
    if isinstance(message, Mapping):
        return [answer_of(message.get("content"), reason or "")]
    if isinstance(body.get("choices"), list):
        choices = [_with_reason(c) for c in body["choices"] if isinstance(c, Mapping)]
        return list(answers_from_openai(choices))
    if isinstance(body.get("content"), list):
        return [answer_of(body["content"], reason or "")]
    for name in ("results", "outputs", "generations", "completions"):
        if isinstance(body.get(name), list):
            return [_one_of(item) for item in body[name] if isinstance(item, Mapping)]
    said = next((body[n] for n in ("generation", "completion", "text") if n in body), None)
    if not isinstance(said, str):
        return []
    calls = body.get("tool_calls")
    called = [
        tool_call(call.get("name"), call.get("parameters"))
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, Mapping)
    ]
    return [Answer(said, reason or "", None, extra_of({"tool_calls": called or None}))]


def _one_of(item: Mapping[str, Any]) -> Answer:
    """One of several outputs: Titan's, Mistral's, Cohere's, AI21's."""
    data, ended = item.get("data"), item.get("finishReason")
    inner = data if isinstance(data, Mapping) else item
    said = first_text(inner.get("outputText"), inner.get("text")) or ""
    reason = ended.get("reason") if isinstance(ended, Mapping) else None
    told = (item.get("completionReason"), item.get("stop_reason"), item.get("finish_reason"))
    return Answer(said, first_text(*told, reason) or "")


def _with_reason(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"finish_reason": choice.get("stop_reason"), **choice}
