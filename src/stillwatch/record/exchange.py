"""The exchange: one question and its answer, who asked, when and how.

Everything in the package is this record: `distill` and `guard` write it, logs are read into it,
`detect` folds it into profiles, `trace` looks up in it what was served. The Arrow schema of the
store is derived from the same fields, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of the conversation that was sent.

    Attributes:
        role: system, user, assistant or tool, as the wire named it (developer becomes system).
        content: the text; the text parts of a multi-part content joined by newlines.
        extra: JSON of what is not text (images, tool calls, tool call ids), or None.
    """

    role: str
    content: str
    extra: str | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One choice of the reply.

    Attributes:
        text: the visible text.
        finish_reason: stop, length, tool_calls, content_filter, as the wire named it; "" unknown.
        reasoning: reasoning text that was returned, or None.
        extra: JSON of tool calls, log-probabilities and the like, or None.
    """

    text: str
    finish_reason: str = ""
    reasoning: str | None = None
    extra: str | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question and its answer. Times are UTC epoch seconds; None means not known.

    Attributes:
        exchange_id: unique in its log.
        account: the account id as the log gave it; "" when the log has none.
        started_at: when the question arrived.
        first_output_at: when the first byte of the answer left.
        ended_at: when the last byte of the answer left.
        wire: the format spoken: openai.chat, openai.responses, anthropic.messages, other.
        model: the model asked for.
        model_returned: the model that the answer names, or None.
        messages: the conversation sent, system turns included, in order.
        answers: the choices returned; empty when refused or failed.
        parameters: sampling parameters that the question set, by the wire's names.
        tools_hash: hash of the tool definitions sent, or None.
        input_tokens: tokens billed for the question (count).
        output_tokens: tokens billed for the answer (count).
        status: HTTP status of the reply, 0 when none came.
        error: short code of a failure (never a body), or None.
        streamed: whether the answer came as server-sent events.
        org: organisation of the account, or None.
        key_hash: keyed hash of the API key, or None.
        ip_hash: keyed hash of the whole client address, or None.
        network_hash: keyed hash of its /24 or /48, or None.
        user_agent: client software as it named itself, or None.
        session: conversation or trace id, or None.
        action: what the wall did: allow, throttle, strip, challenge, watermark, block, ...
        campaign_id: the campaign whose verdict caused the action, or None.
        mark_key_id: id of the watermark key that the answer carries, or None.
        origin: the file and line, or the endpoint, that this record was read from.
        tags: further facts, by name.
    """

    exchange_id: str
    account: str
    started_at: float
    first_output_at: float | None = None
    ended_at: float | None = None
    wire: str = "openai.chat"
    model: str = ""
    model_returned: str | None = None
    messages: tuple[Message, ...] = ()
    answers: tuple[Answer, ...] = ()
    parameters: dict[str, Any] = {}
    tools_hash: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    status: int = 200
    error: str | None = None
    streamed: bool = False
    org: str | None = None
    key_hash: str | None = None
    ip_hash: str | None = None
    network_hash: str | None = None
    user_agent: str | None = None
    session: str | None = None
    action: str = "allow"
    campaign_id: str | None = None
    mark_key_id: str | None = None
    origin: str = ""
    tags: dict[str, str] = {}

    @property
    def question(self) -> str:
        """The last user turn's text, or "" when there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def system(self) -> str:
        """The system turns' text joined by newlines, or "" when there is none."""
        return "\n".join(m.content for m in self.messages if m.role == "system")

    @property
    def answer(self) -> str:
        """The first choice's text, or "" when there is none."""
        return self.answers[0].text if self.answers else ""


_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", pa.string())])
_ANSWER = pa.struct([
    ("text", pa.string()),
    ("finish_reason", pa.string()),
    ("reasoning", pa.string()),
    ("extra", pa.string()),
])
_ARROW_TYPES: dict[str, pa.DataType] = {
    "started_at": pa.float64(),
    "first_output_at": pa.float64(),
    "ended_at": pa.float64(),
    "messages": pa.list_(_MESSAGE),
    "answers": pa.list_(_ANSWER),
    # Parameters keep their JSON types, so they rest as canonical JSON text.
    "parameters": pa.string(),
    "input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "status": pa.int32(),
    "streamed": pa.bool_(),
    "tags": pa.map_(pa.string(), pa.string()),
}
#: The store's columns, in the order of the fields of `Exchange`; text unless named above.
ARROW_SCHEMA: pa.Schema = pa.schema([
    (name, _ARROW_TYPES.get(name, pa.string())) for name in Exchange.__struct_fields__
])


def to_batch(exchanges: Iterable[Exchange]) -> pa.RecordBatch:
    """Turn exchanges into one Arrow batch of `ARROW_SCHEMA`, in the order given.

    Args:
        exchanges: any number, held in memory at once.

    Returns:
        One row an exchange.
    """
    rows = [_to_row(exchange) for exchange in exchanges]
    return pa.RecordBatch.from_pylist(rows, schema=ARROW_SCHEMA)


def from_batch(batch: pa.RecordBatch) -> list[Exchange]:
    """Turn an Arrow batch back into exchanges; absent columns take their defaults.

    Args:
        batch: columns named as the fields of `Exchange`, any subset with the three required ones.

    Returns:
        One exchange a row, equal to what `to_batch` was given.
    """
    return [_from_row(row) for row in batch.to_pylist()]


def _to_row(exchange: Exchange) -> dict[str, Any]:
    row = msgspec.structs.asdict(exchange)
    row["messages"] = [msgspec.structs.asdict(m) for m in exchange.messages]
    row["answers"] = [msgspec.structs.asdict(a) for a in exchange.answers]
    row["parameters"] = canonical_json(exchange.parameters)
    row["tags"] = sorted(exchange.tags.items())
    return row


def _from_row(row: dict[str, Any]) -> Exchange:
    known: dict[str, Any] = {
        name: value
        for name, value in row.items()
        if value is not None and name in Exchange.__struct_fields__
    }
    known["messages"] = tuple(Message(**m) for m in known.get("messages", ()))
    known["answers"] = tuple(Answer(**a) for a in known.get("answers", ()))
    known["parameters"] = msgspec.json.decode(known.get("parameters", "{}"))
    known["tags"] = dict(known.get("tags", ()))
    return Exchange(**known)


def canonical_json(value: object) -> str:
    """Write a value as JSON with sorted keys, so that equal values give equal text.

    Args:
        value: plain data, or a msgspec struct.

    Returns:
        The JSON text.

    Example:
        >>> canonical_json({"b": 1, "a": [True, None]})
        '{"a":[true,null],"b":1}'
    """
    return msgspec.json.encode(value, order="sorted").decode()


def total_output_tokens(exchanges: Sequence[Exchange]) -> int:
    """Count the output tokens of exchanges, unknown ones as 0.

    Args:
        exchanges: any number.

    Returns:
        Tokens (count).
    """
    return sum(exchange.output_tokens or 0 for exchange in exchanges)
