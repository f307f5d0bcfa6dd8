"""OpenTelemetry GenAI: spans and events, by current and deprecated names, as OTLP JSON.

Contents are found wherever an instrumentation put them: attributes of the span
(`gen_ai.input.messages`), the event `gen_ai.client.inference.operation.details`, one event a
message (conventions up to 1.36), span events, or flattened attributes (`gen_ai.prompt.0.content`).
A span and its events share trace and span id and become one exchange; they wait for each other
while `WINDOW` other operations or `WINDOW_BYTES` of texts pass, and what comes later stands alone
under the same id.

Account, the first of: user.id, enduser.id, enduser.pseudo.id, user.name, gen_ai.user,
traceloop.association.properties.user_id, gen_ai.openai.request.user, llm.user. The conventions
require none of them: without, all exchanges have the account "".

Source: semantic-conventions-genai docs/gen-ai (spans, events, message schemas); the older
semantic-conventions 1.27 to 1.36 for the deprecated names; OpenLLMetry's flattened names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from stillwatch.logs.blocks import answer_of, turns_of
from stillwatch.logs.fields import (
    account_of,
    answers_from_openai,
    decoded,
    epoch,
    first_text,
    flag,
    hash_tools,
    malformed,
    messages_from_openai,
    network,
    number,
    record_of,
    text,
    tokens,
)
from stillwatch.logs.otlp import Attributes, Signal, SpanEvent, is_otlp, signals, weight_of
from stillwatch.logs.reader import Conversion, Origin, ReadOptions
from stillwatch.logs.readers.otel_names import (
    ACCOUNT,
    ANSWER_EVENT,
    DETAILS_EVENT,
    ERROR,
    INPUT_TOKENS,
    MODEL,
    MODEL_RETURNED,
    OTHER_OPERATIONS,
    OUTPUT_TOKENS,
    PARAMETERS,
    PROVIDER,
    SESSION,
    STATUS,
    STREAMED,
    TURN_EVENTS,
    USER_AGENT,
    WIRES,
    unflattened,
)
from stillwatch.logs.tally import Tally
from stillwatch.logs.unit import Fault
from stillwatch.record.exchange import Answer, Exchange, Message

#: Operations whose parts may lie apart. A collector writes batches of up to 8,192 records.
WINDOW = 8192
#: Bytes of texts that may wait, whatever their number.
WINDOW_BYTES = 64 * 2**20


@dataclass
class _Operation:
    """One call of a model while its parts come in."""

    origin: Origin
    spans: list[Signal] = field(default_factory=list)
    turns: list[tuple[str, Any]] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    n_bytes: int = 0


class OtelReader:
    """Reads OpenTelemetry GenAI spans and events."""

    name = "otel"
    title = "OpenTelemetry GenAI"
    shape: Literal["json", "text", "rows"] = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format."""
        if not isinstance(record, Mapping) or not is_otlp(record):
            return None
        kind = next((k for k in ("resourceSpans", "resourceLogs") if k in record), None)
        if kind is not None:
            return f"has {kind}, as OTLP JSON does"
        names = (name for one in filter(None, signals(record)) for name in one.attributes)
        found = next(filter(_is_genai, names), None)
        return f"is a span or event with the attribute {found}" if found else None

    def decode(self, line: bytes) -> Any:
        """Decode a line (records of this format are decoded for it)."""
        return decoded(line)

    def begin(self, options: ReadOptions) -> Conversion:
        """Begin to read a log, of one or many files."""
        return OtelConversion(options)


class OtelConversion(Tally):
    """One OpenTelemetry log being read."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._waiting: OrderedDict[str, _Operation] = OrderedDict()
        self._n_bytes = 0
        self.window = (WINDOW, WINDOW_BYTES)

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        """Take one record; give the exchanges that it pushes out of the window."""
        found = record_of(record, origin=origin, wanted="OTLP JSON, a span or an event")
        if not is_otlp(found):
            malformed(origin, "OTLP JSON, a span or an event", got="another object")
        n_parts = n_timeless = 0
        for signal in signals(found):
            try:
                n_timeless += self._take(signal, origin, n_parts)
            except RecursionError:
                self.faults.append(Fault(*origin, "a span or an event is nested too deep"))
            n_parts += 1
        if not n_parts:
            self.skipped["export of nothing"] += 1
        # All that have no time are one fault.
        self.split += max(0, n_parts - max(n_timeless, 1))
        if n_timeless:
            # Everything else of this record is kept: it waits in the window.
            malformed(origin, "spans and events with a time", got=f"{n_timeless} without")
        return self._release(WINDOW, WINDOW_BYTES)

    def finish(self) -> Iterable[Exchange]:
        """Give back what still waits."""
        yield from self._release(0, 0)

    def _release(self, limit: int, n_bytes: int) -> Iterator[Exchange]:
        while self._waiting and (len(self._waiting) > limit or self._n_bytes > n_bytes):
            key, operation = self._waiting.popitem(last=False)
            self._n_bytes -= operation.n_bytes
            self.joined += len(operation.spans) - 1
            build = partial(_exchange, key, operation, self._options)
            yield from self.built(build, operation.origin)

    def _take(self, signal: Signal | None, origin: Origin, n: int) -> int:
        """Put one signal where it belongs; 1 when it is a call without any time."""
        if signal is None:
            raise RecursionError
        kind = _kind(signal)
        if kind not in {"operation", "turn", "choice"}:
            self.skipped[kind] += 1
            return 0
        if epoch(signal.started_at, options=self._options) is None:
            return 1
        response = text(signal.attributes.get("gen_ai.response.id"))
        key = signal.key or response or f"otel:{origin}:{n}"
        weight = weight_of([signal.attributes, signal.body])
        weight += weight_of([event.attributes for event in signal.events])
        if self.keys is not None:
            self.keys.add(key)
            self.weight += weight
        operation = self._waiting.setdefault(key, _Operation(origin))
        if signal.is_span and any(one.is_span for one in operation.spans):
            self.skipped["span sent twice"] += 1
            return 0
        operation.spans.append(signal)
        operation.n_bytes += weight
        self._n_bytes += weight
        if kind == "operation":
            for event in signal.events:
                _add_event(operation, event)
        else:
            _add_event(operation, signal)
        return 0


READER = OtelReader()


def _kind(signal: Signal) -> str:
    """Say what a signal is: operation, turn, choice, or the reason to skip it."""
    if not signal.is_span:
        if signal.name == DETAILS_EVENT:
            return "operation"
        if signal.name in TURN_EVENTS:
            return "turn"
        return "choice" if signal.name == ANSWER_EVENT else "other event"
    attributes = signal.attributes
    if not any(_is_genai(name) for name in attributes):
        return "other span"
    operation = text(attributes.get("gen_ai.operation.name")) or ""
    kind = operation or text(attributes.get("llm.request.type")) or ""
    if kind in OTHER_OPERATIONS or text(attributes.get("traceloop.span.kind")):
        return f"span of {kind if kind in OTHER_OPERATIONS else 'a workflow'}"
    names = (*MODEL, *MODEL_RETURNED, "gen_ai.input.messages", "gen_ai.output.messages")
    return "operation" if any(name in attributes for name in names) else "span without a model"


def _is_genai(name: str) -> bool:
    return name.startswith(("gen_ai.", "llm."))


def _add_event(operation: _Operation, event: Signal | SpanEvent) -> None:
    """Keep what one of the older events says."""
    name, attributes = event.name, event.attributes
    body = event.body if isinstance(event, Signal) else None
    payload = body if body is not None else decoded(attributes.get("gen_ai.event.content"))
    payload = attributes if payload is None else payload
    if not isinstance(payload, Mapping):
        payload = {"content": payload}
    if name in TURN_EVENTS:
        operation.turns.append((TURN_EVENTS[name], payload))
    elif name == ANSWER_EVENT:
        operation.choices.append(payload)
    elif name == "gen_ai.content.prompt":
        operation.turns += [("", turn) for turn in _listed(attributes.get("gen_ai.prompt"))]
    elif name == "gen_ai.content.completion":
        operation.choices += _listed(attributes.get("gen_ai.completion"))


def _exchange(key: str, operation: _Operation, options: ReadOptions) -> Exchange:
    """Put the parts of one call together."""
    spans = sorted(operation.spans, key=lambda signal: signal.is_span)
    attributes = {name: v for signal in spans for name, v in signal.attributes.items()}
    resource = {name: v for signal in spans for name, v in signal.resource.items()}
    whole = spans[-1]
    started_at = epoch(whole.started_at, options=options)
    first_after = number(attributes.get("gen_ai.response.time_to_first_chunk"))
    error = _error(attributes, has_failed=whole.has_failed)
    address = network(options, _first(attributes, ("client.address", "http.client_ip")))
    assert started_at is not None  # `_take` kept no signal without a time
    return Exchange(
        exchange_id=key,
        account=account_of(options, *(attributes.get(name) for name in ACCOUNT)),
        started_at=started_at,
        first_output_at=None if first_after is None else started_at + max(0.0, first_after),
        ended_at=_end(whole, operation, options=options),
        wire=_wire(attributes),
        model=first_text(*(attributes.get(name) for name in MODEL)) or "",
        model_returned=first_text(*(attributes.get(name) for name in MODEL_RETURNED)),
        messages=_messages(attributes, operation),
        answers=_answers(attributes, operation),
        parameters=_parameters(attributes),
        tools_hash=hash_tools(_tools(attributes)),
        input_tokens=tokens(_first(attributes, INPUT_TOKENS)),
        output_tokens=tokens(_first(attributes, OUTPUT_TOKENS)),
        status=_status(attributes, error),
        error=error,
        streamed=flag(_first(attributes, STREAMED)),
        ip_hash=address.ip_hash,
        network_hash=address.network_hash,
        user_agent=first_text(*(attributes.get(name) for name in USER_AGENT)),
        session=first_text(*(attributes.get(name) for name in SESSION), whole.trace_id),
        origin=str(operation.origin),
        tags=_tags(attributes, resource, has_span=whole.is_span),
    )


def _end(whole: Signal, operation: _Operation, *, options: ReadOptions) -> float | None:
    """The span's end; without a span the time of its last event."""
    if whole.is_span:
        return epoch(whole.ended_at, options=options)
    times = [epoch(signal.started_at, options=options) for signal in operation.spans]
    return max((time for time in times if time is not None), default=None)


def _messages(attributes: Attributes, operation: _Operation) -> tuple[Message, ...]:
    system = decoded(attributes.get("gen_ai.system_instructions"))
    turns = turns_of("system", system) if system else []
    listed = _listed(attributes.get("gen_ai.input.messages"))
    listed = listed or unflattened(attributes, "gen_ai.prompt")
    listed = listed or _listed(attributes.get("gen_ai.prompt"))
    if listed:
        return tuple(turns + [turn for one in listed for turn in _turns(one, role="user")])
    return tuple(
        turns + [turn for role, one in operation.turns for turn in _turns(one, role=role or "user")]
    )


def _turns(one: Any, *, role: str) -> list[Message]:
    """One message in any of the shapes that were ever written."""
    if not isinstance(one, Mapping):
        return turns_of(role, one)
    role = text(one.get("role")) or role
    content = decoded(one.get("parts", one.get("content")))
    more = {
        ("tool_call_id" if n == "id" and role == "tool" else n): v
        for n, v in one.items()
        if n not in _TURN_FIELDS and v is not None
    }
    if isinstance(content, list | Mapping):
        return turns_of(role, content, more=more)
    return list(messages_from_openai([{"role": role, "content": content, **more}]))


#: Not kept beside the content: what the turn is made of, and what events say about themselves.
_TURN_FIELDS = frozenset({
    "role", "parts", "content", "gen_ai.system", "gen_ai.provider.name", "event.name",
    "gen_ai.event.content", "finish_reason",
})  # fmt: skip


def _answers(attributes: Attributes, operation: _Operation) -> tuple[Answer, ...]:
    reasons = _listed(attributes.get("gen_ai.response.finish_reasons"))
    listed = _listed(attributes.get("gen_ai.output.messages"))
    listed = listed or unflattened(attributes, "gen_ai.completion")
    listed = listed or _listed(attributes.get("gen_ai.completion")) or operation.choices
    found: list[tuple[int, Answer]] = []
    for n, one in enumerate(listed):
        reason = text(reasons[n]) if n < len(reasons) else None
        index = one.get("index") if isinstance(one, Mapping) else None
        found.append((index if isinstance(index, int) else n, _answer(one, reason or "")))
    return tuple(answer for _, answer in sorted(found, key=lambda pair: pair[0]))


def _answer(one: Any, reason: str) -> Answer:
    if not isinstance(one, Mapping):
        return answer_of(one, reason)
    reason = text(one.get("finish_reason")) or reason
    inner = decoded(one.get("message", one))
    message: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {"content": inner}
    content = decoded(message.get("parts", message.get("content")))
    if isinstance(content, list | Mapping) and "tool_calls" not in message:
        return answer_of(content, reason)
    message = {n: v for n, v in message.items() if n not in {*_TURN_FIELDS, "index"}}
    choice = {"message": {**message, "content": content}, "finish_reason": reason}
    return next(iter(answers_from_openai([choice])), Answer("", reason))


def _parameters(attributes: Attributes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, wire_name in PARAMETERS.items():
        value = decoded(attributes.get(name))
        if value is not None and value != []:
            found.setdefault(wire_name, value)
    return found


def _tools(attributes: Attributes) -> object:
    told = decoded(attributes.get("gen_ai.tool.definitions"))
    return told or unflattened(attributes, "llm.request.functions")


def _wire(attributes: Attributes) -> str:
    told = text(attributes.get("openai.api.type")) or ""
    if told in WIRES:
        return WIRES[told]
    provider = first_text(*(attributes.get(name) for name in PROVIDER)) or ""
    return WIRES.get(provider.lower(), "other")


def _error(attributes: Attributes, *, has_failed: bool) -> str | None:
    told = first_text(*(attributes.get(name) for name in ERROR))
    return told[:64] if told else ("error" if has_failed else None)


def _status(attributes: Attributes, error: str | None) -> int:
    told = tokens(_first(attributes, STATUS))
    if told is not None and told < 1000:
        return told
    if error is None:
        return 200
    return int(error) if error.isdecimal() and len(error) == 3 else 0


def _tags(attributes: Attributes, resource: Attributes, *, has_span: bool) -> dict[str, str]:
    told = {
        "provider": first_text(*(attributes.get(name) for name in PROVIDER)),
        "service": text(resource.get("service.name")),
        "response_id": text(attributes.get("gen_ai.response.id")),
        "cache_read_tokens": text(attributes.get("gen_ai.usage.cache_read.input_tokens")),
        "reasoning_tokens": text(attributes.get("gen_ai.usage.reasoning.output_tokens")),
        "missing": None if has_span else "span",
    }
    return {name: value for name, value in told.items() if value is not None}


def _first(attributes: Attributes, names: tuple[str, ...]) -> Any:
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _listed(value: Any) -> list[Any]:
    """A list, also as JSON text; anything else that is there as its only member."""
    value = decoded(value)
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]
