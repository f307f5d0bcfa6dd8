"""Langfuse: observations from the blob storage export, the API or the table export, and traces.

Account: `user_id` of the observation, else that of its trace, else what LiteLLM's callback leaves
in the metadata (`user_api_key_user_id`, `user_api_key_hash`). Times are UTC without a zone in
exports.

A generation is one exchange; spans, events, tools and embeddings are not exchanges and give none.
The legacy export keeps the user in another file, `traces/`: an observation without a `user_id`
column waits for its trace, whichever comes first. Giving `traces/` first is cheapest; what waits is
bounded, and an observation that has waited too long goes on with an unknown account.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    hash_tools,
    hashed,
    malformed,
    messages_from_openai,
    network,
    record_of,
    sampling,
    text,
    tokens,
)
from stillwatch.logs.reader import JsonReader, Origin, ReadOptions
from stillwatch.logs.replies import answers_of, asked_of
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Answer, Exchange, Message, canonical_json

_WANTED = "a Langfuse observation or trace"
#: Observations that wait for their trace, at most: about 100 MB of conversations.
_MOST_WAITING = 20_000
#: Traces that are remembered for observations still to come, at most: about 150 MB.
_MOST_TRACES = 500_000
#: What observations are besides generations.
_OTHER_TYPES = frozenset({
    "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
})  # fmt: skip


class Langfuse(JsonReader):
    """The reader of Langfuse exports.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: rows of JSON, CSV or Parquet.
    """

    name = "langfuse"
    title = "Langfuse export"
    shape = "rows"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded row.

        Returns:
            The ground, or None.
        """
        if not isinstance(record, Mapping) or "id" not in record:
            return None
        if _has(record, "trace_id") and _has(record, "start_time") and "type" in record:
            return "has id, trace_id, type and start_time as a Langfuse observation has"
        if "timestamp" in record and "bookmarked" in record and _has(record, "user_id"):
            return "has id, timestamp, user_id and bookmarked as a Langfuse trace has"
        return None


class _Trace(NamedTuple):
    user: str | None
    session: str | None
    name: str | None


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._traces: dict[str, _Trace] = {}
        self._waiting: dict[str, list[Exchange]] = {}
        self._n_waiting = 0

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        row = record_of(record, origin=origin, wanted=_WANTED)
        if text(row.get("id")) is None:
            malformed(origin, _WANTED, got="one without id")
        if not _has(row, "trace_id"):
            return self._trace(row, origin)
        kind = (text(row.get("type")) or "GENERATION").upper()
        if kind != "GENERATION":
            named = f"type {kind.lower()}" if kind in _OTHER_TYPES else "another type"
            self.skipped[f"observation of {named}"] += 1
            return ()
        exchange = _exchange(row, origin, options=self._options)
        trace_id = text(_get(row, "trace_id"))
        if _has(row, "user_id") or exchange.account or trace_id is None:
            return (exchange,)
        self.is_apart = False
        known = self._traces.get(trace_id)
        if known is None:
            return self._wait(exchange, trace_id)
        return (self._joined(exchange, known),)

    def finish(self) -> Iterable[Exchange]:
        while self._waiting:
            yield from self._give_up()

    def _trace(self, row: Mapping[str, Any], origin: Origin) -> Iterable[Exchange]:
        if "timestamp" not in row:
            malformed(origin, _WANTED, got="neither")
        self.is_apart = False
        trace_id = text(row["id"]) or ""
        trace = _Trace(
            text(_get(row, "user_id")), text(_get(row, "session_id")), text(row.get("name"))
        )
        if len(self._traces) >= _MOST_TRACES:
            self._traces.pop(next(iter(self._traces)))
        self._traces[trace_id] = trace
        self.joined += 1
        found = self._waiting.pop(trace_id, [])
        self._n_waiting -= len(found)
        return [self._joined(exchange, trace) for exchange in found]

    def _wait(self, exchange: Exchange, trace_id: str) -> Iterator[Exchange]:
        self._waiting.setdefault(trace_id, []).append(exchange)
        self._n_waiting += 1
        return self._give_up() if self._n_waiting > _MOST_WAITING else iter(())

    def _give_up(self) -> Iterator[Exchange]:
        found = self._waiting.pop(next(iter(self._waiting)))
        self._n_waiting -= len(found)
        for exchange in found:
            tags = {**exchange.tags, "missing": "trace"}
            yield msgspec.structs.replace(exchange, tags=tags)

    def _joined(self, exchange: Exchange, trace: _Trace) -> Exchange:
        tags = exchange.tags if trace.name is None else {**exchange.tags, "trace_name": trace.name}
        return msgspec.structs.replace(
            exchange,
            account=account_of(self._options, trace.user),
            session=trace.session or exchange.session,
            tags=tags,
        )


def _exchange(row: Mapping[str, Any], origin: Origin, *, options: ReadOptions) -> Exchange:
    started_at = epoch(_get(row, "start_time"), options=options)
    if started_at is None:
        malformed(origin, _WANTED, got="an observation without start_time")
    metadata = decoded(row.get("metadata"))
    known: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    key = known.get("user_api_key_hash")
    where = network(options, known.get("requester_ip_address"))
    failed = (text(row.get("level")) or "").upper() == "ERROR"
    spoken = decoded(row.get("input"))
    first_output_at = epoch(_get(row, "completion_start_time"), options=options)
    used = decoded(_get(row, "usage_details")) or decoded(row.get("usage"))
    model = first_text(_get(row, "provided_model_name"), row.get("model")) or ""
    return Exchange(
        exchange_id=text(row["id"]) or str(origin),
        account=account_of(options, _get(row, "user_id"), known.get("user_api_key_user_id"), key),
        started_at=started_at,
        first_output_at=first_output_at,
        ended_at=epoch(_get(row, "end_time"), options=options),
        wire=_wire(spoken),
        model=model,
        messages=_messages(spoken),
        answers=() if failed else _answers(row),
        parameters=sampling(_get(row, "model_parameters")),
        tools_hash=_tools(row, spoken),
        input_tokens=_used(used, "input", older=_get(row, "prompt_tokens")),
        output_tokens=_used(used, "output", older=_get(row, "completion_tokens")),
        # Langfuse has no HTTP status: a call that it calls an error has none here.
        status=0 if failed else 200,
        error="error" if failed else None,
        streamed=first_output_at is not None,
        key_hash=hashed(options, "key", key),
        ip_hash=where.ip_hash,
        network_hash=where.network_hash,
        user_agent=text(known.get("user_agent")),
        session=first_text(_get(row, "session_id"), _get(row, "trace_id")),
        origin=str(origin),
        tags=_tags(row),
    )


def _messages(spoken: Any) -> tuple[Message, ...]:
    if isinstance(spoken, Mapping):
        if {"messages", "input", "prompt", "instructions"} & spoken.keys():
            return asked_of(spoken).messages
        if "role" not in spoken and "content" not in spoken:
            # Not a conversation but the arguments of the function that was traced.
            return (Message("user", _written(spoken)),) if spoken else ()
    if isinstance(spoken, str | list | Mapping):
        return messages_from_openai(spoken)
    return ()


def _wire(spoken: Any) -> str:
    wire = asked_of(spoken).wire if isinstance(spoken, Mapping) else "other"
    # A bare list of turns is what every integration writes, whatever wire it spoke.
    return wire if wire != "other" else "openai.chat" if isinstance(spoken, list) else "other"


def _answers(row: Mapping[str, Any]) -> tuple[Answer, ...]:
    told = decoded(row.get("output"))
    if told in (None, "", {}, []):
        return ()
    if isinstance(told, Mapping) and not _REPLY & told.keys():
        return (Answer(_written(told)),)
    return answers_of(told)


#: Fields of which a reply, or a message of one, has at least one.
_REPLY = frozenset({"choices", "output", "content", "tool_calls", "message", "text", "error"})


def _written(value: Mapping[str, Any]) -> str:
    try:
        return canonical_json(value)
    except (TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
        return ""


def _tools(row: Mapping[str, Any], spoken: Any) -> str | None:
    named = decoded(_get(row, "tool_definitions"))
    if isinstance(named, Mapping | list) and named:
        return hash_tools(named)
    return hash_tools(spoken.get("tools")) if isinstance(spoken, Mapping) else None


def _used(used: Any, kind: str, *, older: object) -> int | None:
    """Sum a kind of usage as Langfuse does: every type whose name holds the kind's."""
    if not isinstance(used, Mapping):
        return tokens(older)
    found = [tokens(count) for name, count in used.items() if kind in str(name).lower()]
    counts = [count for count in found if count is not None]
    return sum(counts) if counts else tokens(older)


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "project": text(_get(row, "project_id")),
        "environment": text(row.get("environment")),
        "release": text(row.get("release")),
        "trace_name": text(_get(row, "trace_name")),
        "level": text(row.get("level")),
        "prompt_name": text(_get(row, "prompt_name")),
    }
    return {
        name: value
        for name, value in facts.items()
        if value is not None and not (name == "level" and value in {"DEFAULT", "DEBUG"})
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_CAMEL = {
    name: _camel(name)
    for name in (
        "trace_id", "user_id", "session_id", "start_time", "end_time", "completion_start_time",
        "provided_model_name", "model_parameters", "usage_details", "tool_definitions",
        "project_id", "trace_name", "prompt_name", "prompt_tokens", "completion_tokens",
    )
}  # fmt: skip


def _get(row: Mapping[str, Any], name: str) -> Any:
    """Take a field by its export's name, else by its API's."""
    found = row.get(name)
    return row.get(_CAMEL[name]) if found is None else found


def _has(row: Mapping[str, Any], name: str) -> bool:
    return name in row or _CAMEL[name] in row


READER = Langfuse(_Conversion)
