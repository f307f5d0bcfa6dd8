"""Calls of the OpenAI API as people log them: request and response bodies, and what is around them.

Read are `{request, response, ...}` with the bodies or with whole HTTP messages, `{request_body,
response_body, ...}`, entries of an HTTP archive (HAR), listings of stored completions, a body alone
a line, and the events of streams one a line; Chat Completions, Responses, and, as wire `other`,
legacy completions and embeddings. Names of the fields around: docs/formats-apis.md.

Account: the account that the log names (`account`, `account_id`, `customer_id`, `tenant_id`,
`user_id`, `user`), else the keyed hash of the API key, else `safety_identifier` or `user` of the
body. Whom the body names is also kept, hashed, as the tag `end_user`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from stillwatch.logs.api_bodies import openai_wire
from stillwatch.logs.calls import CallConversion, Dialect, Event, model_of, stream_text
from stillwatch.logs.envelope import Envelope, entries_of, open_envelope
from stillwatch.logs.reader import JsonReader
from stillwatch.wire.chat_stream import dict_of, text_of

_PATHS = ("/chat/completions", "/responses", "/completions", "/embeddings")
_WHOLE = frozenset({"chat.completion", "text_completion", "response"})
_ENDINGS = frozenset({
    "response.completed", "response.incomplete", "response.failed", "error",
})  # fmt: skip
#: What a lone request never has, but other formats' records do.
_BESIDE = frozenset({
    "output", "response", "id", "exchange_id", "call_type", "startTime", "start_time", "type",
    "traceId", "trace_id", "timestamp", "choices", "custom_id", "modelId", "system",
})  # fmt: skip


class OpenAIRaw(JsonReader):
    """The reader of OpenAI API calls.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: JSON, lines or array.
    """

    name = "openai_raw"
    title = "OpenAI API requests and responses"
    shape = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded record.

        Returns:
            The ground, or None.
        """
        if not isinstance(record, Mapping):
            return None
        calls = entries_of(record)
        first = dict_of(calls[0] if calls else None)
        envelope = open_envelope(first) if _event(first) is None else None
        if envelope is not None:
            return _ground(envelope)
        if _is_response(first):
            return f"is a whole reply, object {first.get('object')}"
        if _event(first) is not None:
            return "is an event of a Chat or Responses stream"
        return "is a request with a model and a conversation" if _is_request(first) else None


def _ground(envelope: Envelope) -> str | None:
    if envelope.endpoint.endswith(_PATHS):
        return f"was asked at a path that ends like OpenAI's: {_ending(envelope.endpoint)}"
    if _is_response(dict_of(envelope.response)):
        return "has a response with object as OpenAI's have"
    told = stream_text(envelope.response)
    if "chat.completion.chunk" in told or '"response.' in told:
        return "has a response streamed in OpenAI's events"
    asked = envelope.request
    if "anthropic-version" in envelope.headers or "stop_reason" in dict_of(envelope.response):
        return None
    if model_of(asked) and ("messages" in asked or "input" in asked) and "system" not in asked:
        return "has a request with a model and messages or input"
    return None


def _ending(endpoint: str) -> str:
    return next(path for path in _PATHS if endpoint.endswith(path))


def _is_response(body: Mapping[str, Any]) -> bool:
    return text_of(body.get("object")) in _WHOLE and ("choices" in body or "output" in body)


def _is_request(body: Mapping[str, Any]) -> bool:
    asked = body.get("messages", body.get("input"))
    return bool(model_of(body)) and isinstance(asked, str | list) and _BESIDE.isdisjoint(body)


def _event(body: Mapping[str, Any]) -> Event | None:
    if body.get("object") == "chat.completion.chunk":
        # The counts may follow the end of a choice, so only the log's end is a stream's.
        return Event("openai.chat", text_of(body.get("id")), is_first=False, is_last=False)
    kind = text_of(body.get("type"))
    if "sequence_number" in body and (kind == "error" or kind.startswith("response.")):
        return Event("openai.responses", "", kind == "response.created", kind in _ENDINGS)
    return None


_DIALECT = Dialect(
    wanted="an OpenAI API call: request and response, a body, or an event of a stream",
    wire_of=openai_wire,
    event_of=_event,
    is_request=_is_request,
    is_response=_is_response,
)
READER = OpenAIRaw(partial(CallConversion, _DIALECT))
