"""Calls of the Anthropic API as people log them: request and response bodies, what is around them.

Read are `{request, response, ...}` with the bodies or with whole HTTP messages, `{request_body,
response_body, ...}`, entries of an HTTP archive (HAR), a body alone a line, and the events of
streams one a line, all of the Messages API. Names of the fields around: docs/formats-apis.md.

Account: the account that the log names (`account`, `account_id`, `customer_id`, `tenant_id`,
`user_id`, `user`), else the keyed hash of the API key, else `metadata.user_id` of the body (of
Claude Code's packed form the account in it). Whom the body names is also kept, hashed, as the tag
`end_user`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from stillwatch.logs.calls import CallConversion, Dialect, Event, model_of, stream_text
from stillwatch.logs.envelope import Envelope, entries_of, open_envelope
from stillwatch.logs.reader import JsonReader
from stillwatch.wire.chat_stream import dict_of, text_of

_EVENTS = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop",
    "message_delta", "message_stop", "ping",
})  # fmt: skip
#: What a lone request never has, but other formats' records do.
_BESIDE = frozenset({
    "output", "response", "id", "exchange_id", "call_type", "startTime", "start_time", "type",
    "traceId", "trace_id", "timestamp", "choices", "custom_id", "modelId",
})  # fmt: skip


class AnthropicRaw(JsonReader):
    """The reader of Anthropic API calls.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: JSON, lines or array.
    """

    name = "anthropic_raw"
    title = "Anthropic API requests and responses"
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
            return "is a whole message with content blocks"
        if _event(first) is not None:
            return "is an event of a Messages stream"
        return (
            "is a request with max_tokens and a Claude model or system"
            if _is_request(first)
            else None
        )


def _ground(envelope: Envelope) -> str | None:
    if envelope.endpoint.endswith("/v1/messages"):
        return "was asked at /v1/messages"
    if "anthropic-version" in envelope.headers:
        return "has the header anthropic-version"
    if _is_response(dict_of(envelope.response)):
        return "has a response of type message or error as Anthropic's have"
    if '"message_start"' in stream_text(envelope.response):
        return "has a response streamed in Anthropic's events"
    if _asks_claude(envelope.request) and "object" not in dict_of(envelope.response):
        return "has a request with max_tokens and a Claude model or system"
    return None


def _is_response(body: Mapping[str, Any]) -> bool:
    if body.get("type") == "error":
        return "type" in dict_of(body.get("error"))
    is_message = body.get("type") == "message" and body.get("role") == "assistant"
    return is_message and isinstance(body.get("content"), list) and "stop_reason" in body


def _is_request(body: Mapping[str, Any]) -> bool:
    return _asks_claude(body) and _BESIDE.isdisjoint(body)


def _asks_claude(body: Mapping[str, Any]) -> bool:
    is_asked = "max_tokens" in body and isinstance(body.get("messages"), list)
    return is_asked and ("system" in body or "claude" in model_of(body))


def _event(body: Mapping[str, Any]) -> Event | None:
    kind = text_of(body.get("type"))
    if kind not in _EVENTS:
        return None
    # Events carry no id; those of one file follow each other.
    return Event("anthropic.messages", "", kind == "message_start", kind == "message_stop")


def _wire(request: Mapping[str, Any], response: object, endpoint: str) -> str:
    return "anthropic.messages"


_DIALECT = Dialect(
    wanted="an Anthropic API call: request and response, a body, or an event of a stream",
    wire_of=_wire,
    event_of=_event,
    is_request=_is_request,
    is_response=_is_response,
)
READER = AnthropicRaw(partial(CallConversion, _DIALECT))
