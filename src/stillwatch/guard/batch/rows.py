"""The rows of the two vendors' batches: one question a row, one result a row, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from stillwatch.guard.policy.facts import capabilities
from stillwatch.guard.routes.wires import MESSAGES, Parsed, Wire, wire_of
from stillwatch.wire.chat import BadRequestError, parse_error_code
from stillwatch.wire.messages import ERROR_STATUSES

Vendor = Literal["openai", "anthropic"]
_encode: Final = msgspec.json.Encoder().encode
_JSON_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MODEL_CHARS: Final = 200  # of a model's name, which a client may invent


class Row(NamedTuple):
    """One question of a batch.

    Attributes:
        custom_id: by which its result names it.
        wire: how it asks, or None for what is no question to a model that answers in words.
        body: the question's own body.
    """

    custom_id: str
    wire: Wire | None
    body: bytes

    def parsed(self) -> Parsed | None:
        """Read the question.

        Returns:
            The question, or None when it cannot be read.
        """
        if self.wire is None:
            return None
        try:
            return self.wire.parse(self.body)
        except BadRequestError:
            return None


class RowFacts(NamedTuple):
    """What decides on a row.

    Attributes:
        model: asked for, "" when the row names none.
        asks: capabilities that it asks for.
        refers_to: ids of stored answers and conversations that it builds on.
        is_question: it asks a model for words.
        n_answers: answers that it asks for (count).
    """

    model: str
    asks: frozenset[str]
    refers_to: tuple[str, ...]
    is_question: bool
    n_answers: int = 1


class Result(NamedTuple):
    """One answer of a batch.

    Attributes:
        custom_id: of its question.
        status: HTTP status of the answer, 0 when none was made.
        body: the answer's own body, empty when none was made.
        error: why none was made, a short code, or None.
    """

    custom_id: str
    status: int
    body: bytes
    error: str | None


class _OpenAIRow(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw
    url: str = ""


class _AnthropicRow(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _OpenAIResponse(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class _OpenAIError(msgspec.Struct):
    code: str | None = None


class _OpenAIResult(msgspec.Struct):
    custom_id: str
    response: _OpenAIResponse | None = None
    error: _OpenAIError | None = None


class _AnthropicOutcome(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _AnthropicResult(msgspec.Struct):
    custom_id: str
    result: _AnthropicOutcome


_OPENAI_ROW: Final = msgspec.json.Decoder(_OpenAIRow)
_ANTHROPIC_ROW: Final = msgspec.json.Decoder(_AnthropicRow)
_OPENAI_RESULT: Final = msgspec.json.Decoder(_OpenAIResult)
_ANTHROPIC_RESULT: Final = msgspec.json.Decoder(_AnthropicResult)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()


def row_key(custom_id: str) -> int:
    """Shorten a custom id, which may be long and may name a person.

    Args:
        custom_id: the client's.

    Returns:
        64 bits, signed as SQLite stores them.
    """
    digest = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)


def read_row(vendor: Vendor, line: bytes, *, endpoint: str = "") -> Row | None:
    """Read one question of a batch.

    Args:
        vendor: whose batch.
        line: one line of an OpenAI file, or one element of Anthropic's `requests`.
        endpoint: of the whole batch, for a row that names none.

    Returns:
        The row, or None when it cannot be read.
    """
    try:
        if vendor == "anthropic":
            asked = _ANTHROPIC_ROW.decode(line)
            return Row(asked.custom_id, MESSAGES, bytes(asked.params))
        row = _OPENAI_ROW.decode(line)
    except _JSON_FAULTS:
        return None
    return Row(row.custom_id, wire_of(row.url) or wire_of(endpoint), bytes(row.body))


def row_facts(row: Row) -> RowFacts | None:
    """Find out what decides on a row.

    Args:
        row: the row.

    Returns:
        The facts, or None when a question's body cannot be read.
    """
    if row.wire is None:
        return RowFacts("", frozenset(), (), is_question=False)
    parsed = row.parsed()
    if parsed is None:
        return None
    question = parsed.question
    asks = capabilities(question.parameters, streamed=parsed.is_streamed)
    return RowFacts(
        model=question.model[:_MODEL_CHARS],
        asks=asks,
        refers_to=parsed.refers_to,
        is_question=True,
        n_answers=parsed.n_answers,
    )


def with_body(vendor: Vendor, line: bytes, body: bytes) -> bytes:
    """Put another body into a row; every other field stays as it was written.

    Args:
        vendor: whose batch.
        line: the row.
        body: the new body.

    Returns:
        The new row, without the white space between its fields.
    """
    fields = _FIELDS.decode(line)
    fields["body" if vendor == "openai" else "params"] = msgspec.Raw(body)
    return _encode(fields)


def read_result(vendor: Vendor, line: bytes) -> Result | None:
    """Read one answer of a batch.

    Args:
        vendor: whose batch.
        line: one line of a file of results.

    Returns:
        The answer, or None when the line is none.
    """
    try:
        if vendor == "anthropic":
            return _anthropic_result(_ANTHROPIC_RESULT.decode(line))
        told = _OPENAI_RESULT.decode(line)
    except _JSON_FAULTS:
        return None
    if told.response is not None and told.error is None:
        return Result(told.custom_id, told.response.status_code, bytes(told.response.body), None)
    if told.error is None:
        return None
    return Result(told.custom_id, 0, b"", told.error.code or "error")


def _anthropic_result(told: _AnthropicResult) -> Result:
    outcome = told.result
    if outcome.type == "succeeded":
        return Result(told.custom_id, 200, bytes(outcome.message), None)
    if outcome.type != "errored":
        return Result(told.custom_id, 0, b"", outcome.type)
    code = _anthropic_code(bytes(outcome.error))
    return Result(told.custom_id, ERROR_STATUSES.get(code, 0), b"", code)


def _anthropic_code(error: bytes) -> str:
    """Name an error, whether it is the wire's whole error body or the inner object alone."""
    try:
        found = _ANY.decode(error)
    except _JSON_FAULTS:
        return "errored"
    if isinstance(found, Mapping) and "error" not in found:
        error = _encode({"error": found})
    return parse_error_code(error)


def json_object(body: bytes) -> dict[str, Any]:
    """Open a JSON object.

    Args:
        body: bytes.

    Returns:
        The object; an empty one for what is none.
    """
    try:
        found = _ANY.decode(body)
    except _JSON_FAULTS:
        return {}
    return found if isinstance(found, dict) else {}
