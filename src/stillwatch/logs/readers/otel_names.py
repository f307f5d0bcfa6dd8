"""Names of OpenTelemetry's GenAI conventions, the current ones before those they replaced.

Apart from the reader because they change several times a year and it does not.
"""

from __future__ import annotations

import re
from typing import Any

ACCOUNT = (
    "user.id", "enduser.id", "enduser.pseudo.id", "user.name", "gen_ai.user",
    "traceloop.association.properties.user_id", "gen_ai.openai.request.user", "llm.user",
)  # fmt: skip
MODEL = ("gen_ai.request.model", "llm.request.model")
MODEL_RETURNED = ("gen_ai.response.model", "llm.response.model")
PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
INPUT_TOKENS = (
    "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens",
)  # fmt: skip
OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens",
)  # fmt: skip
STATUS = ("http.response.status_code", "http.status_code")
ERROR = ("error.type", "exception.type")
STREAMED = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
SESSION = (
    "gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id",
)  # fmt: skip
USER_AGENT = ("user_agent.original", "http.user_agent")
#: Attributes of the request to the parameters of Chat Completions.
PARAMETERS = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.seed": "seed",
    "gen_ai.openai.request.seed": "seed",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.stop_sequences": "stop",
    "gen_ai.request.choice.count": "n",
    "gen_ai.output.type": "response_format",
    "gen_ai.openai.request.response_format": "response_format",
    "openai.request.service_tier": "service_tier",
    "gen_ai.openai.request.service_tier": "service_tier",
    "llm.request.temperature": "temperature",
    "llm.top_k": "top_k",
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
}
DETAILS_EVENT = "gen_ai.client.inference.operation.details"
#: Events of one message each (conventions 1.27 to 1.36), to the role they stand for.
TURN_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
ANSWER_EVENT = "gen_ai.choice"
#: Operations that are not one question to one model: they surround such calls, or use no language
#: model. Reading them too would count a question twice.
OTHER_OPERATIONS = frozenset({
    "embeddings", "embedding", "execute_tool", "create_agent", "invoke_agent", "invoke_workflow",
    "plan", "rerank", "retrieval", "create_memory_store", "delete_memory_store", "search_memory",
    "create_memory", "update_memory", "upsert_memory", "delete_memory",
})  # fmt: skip
#: `openai.api.type` and providers to wires; other providers speak wires of their own.
WIRES = {
    "chat_completions": "openai.chat",
    "responses": "openai.responses",
    "openai": "openai.chat",
    "azure.ai.openai": "openai.chat",
    "az.ai.openai": "openai.chat",
    "azure.ai.inference": "openai.chat",
    "az.ai.inference": "openai.chat",
    "deepseek": "openai.chat",
    "groq": "openai.chat",
    "x_ai": "openai.chat",
    "xai": "openai.chat",
    "anthropic": "anthropic.messages",
}
_PLACE = re.compile(r"(\d{1,6})\.(.+)")


def unflattened(attributes: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Put together messages that were flattened into `prefix.0.role`, `prefix.0.content`, ...

    Args:
        attributes: by name.
        prefix: what the names begin with.

    Returns:
        One object a place, in order; tool calls inside as Chat writes them.

    Example:
        >>> unflattened({"p.1.role": "b", "p.0.role": "a"}, "p")
        [{'role': 'a'}, {'role': 'b'}]
    """
    places: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        match = _PLACE.fullmatch(name[len(prefix) + 1 :]) if name.startswith(prefix + ".") else None
        if match is not None:
            places.setdefault(int(match[1]), {})[match[2]] = value
    return [_nested(places[place]) for place in sorted(places)]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in flat.items() if not name.startswith("tool_calls.")}
    calls = [
        {"id": call["id"], "type": "function", "function": function}
        if call.get("id")
        else {"type": "function", "function": function}
        for call in unflattened(flat, "tool_calls")
        if (function := {n: v for n, v in call.items() if n in {"name", "arguments"}})
    ]
    return found | {"tool_calls": calls} if calls else found
