"""LiteLLM's StandardLoggingPayload: what every LiteLLM callback writes, one object a call.

Account: `metadata.user_api_key_user_id`, else the hash of the virtual key as LiteLLM keeps it, else
`end_user`. The end user that an application names is kept, hashed, as the tag `end_user`: many of
them under one account are a busy application, not a web.

LiteLLM can be told not to log texts. It then writes the same placeholder in place of each, which
would make strangers look alike; such texts are taken as absent and the tag `redacted` says so.

This is the format of the largest logs, so it is read with care for speed: only the fields that are
used are decoded, and what one caller sends again and again is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from stillwatch.logs.fields import (
    account_of,
    epoch,
    first_text,
    flag,
    hash_tools,
    hashed,
    malformed,
    messages_from_openai,
    network,
    sampling,
    text,
    tokens,
)
from stillwatch.logs.reader import Conversion, Origin, ReadOptions
from stillwatch.logs.readers.litellm_words import outcome, own_answers, own_messages
from stillwatch.logs.replies import answers_of, asked_of, wire_of
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Answer, Exchange, Message

_WANTED = "a LiteLLM logging payload with startTime"
_encode = msgspec.json.Encoder().encode
#: Entries of a cache before it starts anew: some 30 MB at the most.
_CACHED = 65_536
_PLAIN_TURN = {"role", "content"}


class _Metadata(msgspec.Struct):
    user_api_key_hash: Any = None
    user_api_key_user_id: Any = None
    user_api_key_org_id: Any = None
    user_api_key_team_id: Any = None
    user_api_key_project_id: Any = None
    requester_ip_address: Any = None
    user_agent: Any = None


class Payload(msgspec.Struct):
    """The fields of a logging payload that are used; every one may be absent or of a wrong type."""

    id: Any = None
    litellm_call_id: Any = None
    trace_id: Any = None
    session_id: Any = None
    call_type: Any = None
    stream: Any = None
    status: Any = None
    status_fields: Any = None
    custom_llm_provider: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    started_at: Any = msgspec.field(default=None, name="startTime")
    ended_at: Any = msgspec.field(default=None, name="endTime")
    first_output_at: Any = msgspec.field(default=None, name="completionStartTime")
    model: Any = None
    model_group: Any = None
    metadata: _Metadata | str | float | bool | list[Any] | None = None
    cache_hit: Any = None
    end_user: Any = None
    requester_ip_address: Any = None
    user_agent: Any = None
    messages: Any = None
    response: Any = None
    error_information: Any = None
    model_parameters: Any = None
    standard_logging_object: Any = None


_decoder = msgspec.json.Decoder(Payload)
_NO_METADATA = _Metadata()
_FIELDS, _KNOWN = Payload.__struct_encode_fields__, _Metadata.__struct_fields__


class LiteLLMPayloads:
    """The reader of LiteLLM logging payloads.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: JSON, lines or array.
    """

    name = "litellm"
    title = "LiteLLM StandardLoggingPayload"
    shape = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded record.

        Returns:
            The ground, or None.
        """
        found = unwrapped(record)
        if not isinstance(found, Mapping) or "startTime" not in found or "call_type" not in found:
            return None
        metadata = found.get("metadata")
        if "hidden_params" in found or "model_map_information" in found:
            return "has startTime, call_type and hidden_params as LiteLLM's logging payload has"
        if "request_id" in found or not isinstance(metadata, Mapping):
            return None
        if any(str(name).startswith("user_api_key_") for name in metadata):
            return "has startTime, call_type and metadata.user_api_key_..."
        return None

    def decode(self, line: bytes) -> Any:
        """Decode one line of JSON, of a payload only the fields that are used.

        Args:
            line: without its newline.

        Returns:
            The payload; the whole record when it is not one itself but may hold one.

        Raises:
            MsgspecError: not JSON, or no object.
        """
        told = _decoder.decode(line)
        return told if told.started_at is not None else msgspec.json.decode(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log; see `Reader`.

        Args:
            options: how.

        Returns:
            The conversion.
        """
        return _Conversion(options)


# Kept by the ten thousand: where the collector of cycles does not look for them.
class _Sampled(msgspec.Struct, frozen=True, gc=False):
    """How an answer was asked for: sampling parameters, hash of the tools, whether as a stream."""

    parameters: dict[str, Any]
    tools_hash: str | None
    streamed: bool


class _Caller(msgspec.Struct, frozen=True, gc=False):
    """What follows from who called, from where and how, whatever was said."""

    account: str
    org: str | None
    key_hash: str | None
    ip_hash: str | None
    network_hash: str | None
    user_agent: str | None
    wire: str
    tags: dict[str, str]


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._sampled: dict[bytes, _Sampled] = {}
        self._callers: dict[tuple[Any, ...], _Caller] = {}

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        told = record if type(record) is Payload else _payload(record, origin)
        started_at = self._time(told.started_at)
        if started_at is None:
            malformed(origin, _WANTED, got="none that can be read")
        caller = self._caller(told)
        sampled = self._sampled_of(told.model_parameters)
        logged, replied = _messages(told.messages, caller.wire), _answers(told.response)
        messages, answers = own_messages(logged), own_answers(replied)
        tags = caller.tags
        if messages is not logged or answers is not replied:
            tags = {**tags, "redacted": "true"}
        status, error = 200, None
        if told.status == "failure":
            status, error = outcome("failure", told.error_information)
        return (
            Exchange(
                exchange_id=_first(told.id, told.litellm_call_id) or str(origin),
                account=caller.account,
                started_at=started_at,
                first_output_at=self._time(told.first_output_at),
                ended_at=self._time(told.ended_at),
                wire=caller.wire,
                model=_first(told.model_group, told.model) or "",
                model_returned=_returned(told) if status == 200 else None,
                messages=messages,
                answers=answers if status == 200 else (),
                parameters=sampled.parameters,
                tools_hash=sampled.tools_hash,
                input_tokens=_tokens(told.prompt_tokens),
                output_tokens=_tokens(told.completion_tokens),
                status=status,
                error=error,
                streamed=sampled.streamed or flag(told.stream),
                org=caller.org,
                key_hash=caller.key_hash,
                ip_hash=caller.ip_hash,
                network_hash=caller.network_hash,
                user_agent=caller.user_agent,
                session=_first(told.session_id, told.trace_id),
                origin=f"{origin.file}:{origin.line}",
                tags=tags,
            ),
        )

    def finish(self) -> Iterable[Exchange]:
        return ()

    def _time(self, value: Any) -> float | None:
        if type(value) is float and 0.0 < value < 1e11:  # seconds, as LiteLLM itself writes them
            return value
        return epoch(value, options=self._options)

    def _sampled_of(self, parameters: Any) -> _Sampled:
        if not parameters or not (type(parameters) is dict or isinstance(parameters, Mapping)):
            return _NOTHING
        key = _encode(parameters)
        sampled = self._sampled.get(key)
        if sampled is None:
            if len(self._sampled) >= _CACHED:
                self._sampled.clear()
            sampled = self._sampled[key] = _sampled(parameters)
        return sampled

    def _caller(self, told: Payload) -> _Caller:
        known = told.metadata if type(told.metadata) is _Metadata else _NO_METADATA
        key = (
            known.user_api_key_user_id,
            known.user_api_key_hash,
            told.end_user,
            told.requester_ip_address or known.requester_ip_address,
            told.user_agent or known.user_agent,
            known.user_api_key_org_id,
            known.user_api_key_team_id,
            known.user_api_key_project_id,
            told.call_type,
            told.custom_llm_provider,
            told.cache_hit,
            _guardrail(told.status_fields),
        )
        try:
            caller = self._callers.get(key)
        except TypeError:  # a value is a list or an object
            return _caller_of(self._options, key)
        if caller is None:
            if len(self._callers) >= _CACHED:
                self._callers.clear()
            caller = self._callers[key] = _caller_of(self._options, key)
        return caller


def _payload(record: Any, origin: Origin) -> Payload:
    found = unwrapped(record)
    if not isinstance(found, dict):
        malformed(origin, _WANTED, got=type(found).__name__)
    known = found.get("metadata")
    told = Payload(*map(found.get, _FIELDS))
    told.metadata = _Metadata(*map(known.get, _KNOWN)) if isinstance(known, dict) else None
    return told


def _caller_of(options: ReadOptions, key: tuple[Any, ...]) -> _Caller:
    user, virtual_key, end_user, ip, agent, org, team, project, call, provider, hit, guard = key
    where = network(options, ip)
    facts = {
        "end_user": hashed(options, "end_user", end_user),
        "team": text(team),
        "project": text(project),
        "call_type": text(call),
        "provider": text(provider),
        "cache_hit": "true" if flag(hit) else None,
        "guardrail": guard,
    }
    return _Caller(
        account=account_of(options, user, virtual_key, end_user),
        org=first_text(org, team),
        key_hash=hashed(options, "key", virtual_key),
        ip_hash=where.ip_hash,
        network_hash=where.network_hash,
        user_agent=text(agent),
        wire=wire_of(call) or "other",
        tags={name: value for name, value in facts.items() if value is not None},
    )


def _messages(given: Any, wire: str) -> tuple[Message, ...]:
    if type(given) is list:
        turns = []
        for turn in given:
            if type(turn) is dict and turn.keys() == _PLAIN_TURN:
                role, content = turn["role"], turn["content"]
                if type(content) is str and role in _ROLES:
                    turns.append(Message(role, content))
                    continue
            # Parts, tool calls, names: with all the care.
            if wire == "anthropic.messages":
                return asked_of({"messages": given}, wire=wire).messages
            return messages_from_openai(given)
        return tuple(turns)
    if isinstance(given, Mapping) and not {"role", "content"} & given.keys():
        return asked_of(given).messages
    return messages_from_openai(given)


_ROLES = frozenset({"system", "user", "assistant", "tool"})


def _answers(reply: Any) -> tuple[Answer, ...]:
    choices = reply.get("choices") if type(reply) is dict else None
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
        choice = choices[0]
        message, reason = choice.get("message"), choice.get("finish_reason")
        if type(message) is dict and type(reason) is str and choice.get("logprobs") is None:
            said = message.get("content")
            if type(said) is str and _is_plain(message):
                return (Answer(said, reason),)
    return answers_of(reply)


def _is_plain(message: dict[str, Any]) -> bool:
    # The other fields LiteLLM always writes and mostly leaves empty. No generator: it would take
    # three times as long.
    for name, value in message.items():
        if value is not None and name not in _PLAIN_TURN and value != []:
            return False
    return True


def _first(value: Any, other: Any) -> str | None:
    if type(value) is str and value and not value.isspace():
        return value
    return first_text(value, other)


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else tokens(value)


_NOTHING = _Sampled({}, None, False)


def _sampled(parameters: Mapping[str, Any]) -> _Sampled:
    return _Sampled(
        sampling(parameters),
        hash_tools(parameters.get("tools") or parameters.get("functions")),
        parameters.get("stream") is True,
    )


def unwrapped(record: Any) -> Any:
    """Take the payload out of the callback arguments that some loggers write around it.

    Args:
        record: as decoded.

    Returns:
        The payload, or the record itself.
    """
    inner = record.get("standard_logging_object") if isinstance(record, dict) else None
    return inner if isinstance(inner, dict) else record


def _returned(told: Payload) -> str | None:
    reply = told.response
    named = reply.get("model") if type(reply) is dict or isinstance(reply, Mapping) else None
    return _first(named, told.model)


def _guardrail(status_fields: object) -> str | None:
    if status_fields is None or not isinstance(status_fields, Mapping):
        return None
    told = text(status_fields.get("guardrail_status"))
    return None if told in {"success", "not_run"} else told


READER = LiteLLMPayloads()
