"""Whatever a record holds, the readers of API bodies give exchanges or refuse it; nothing else."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.logs.columns import batch_of
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.registry import reader_of
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

FORMATS = ["openai_batch", "anthropic_batch", "openai_raw", "anthropic_raw"]
OPTIONS = ReadOptions(KeyedHash(bytes(32)))
NAMES = st.sampled_from([
    "request", "response", "body", "url", "headers", "status_code", "error", "code", "type",
    "custom_id", "params", "result", "message", "messages", "content", "role", "input", "output",
    "model", "system", "choices", "delta", "index", "usage", "input_tokens", "prompt_tokens",
    "metadata", "user_id", "user", "object", "id", "created", "created_at", "time", "log",
    "entries", "requests", "data", "text", "item", "output_index", "sequence_number", "stream",
    "tool_calls", "content_block", "conversation", "postData", "startedDateTime", "instructions",
])  # fmt: skip
WORDS = st.sampled_from([
    "", "a", "user", "succeeded", "errored", "expired", "message", "error", "text", "tool_result",
    "thinking", "function_call", "reasoning", "message_start", "content_block_delta",
    "message_stop", "response.created", "response.completed", "response.output_text.delta",
    "chat.completion", "chat.completion.chunk", "response", "batch", "list", "/v1/responses",
    "data: {}\n\n", 'data: {"type":"message_start"}\n\n', "{", "[1]", "2026-09-22T18:00:00Z",
    "user_a_account_b_session_c", '{"session_id":5}',
])  # fmt: skip
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS
)
JSON = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=6)),
    max_leaves=25,
)
RECORDS = st.lists(st.dictionaries(NAMES, JSON, max_size=8), min_size=1, max_size=4)


@pytest.mark.parametrize("name", FORMATS)
@given(RECORDS)
def test_readers(name: str, records: list[dict[str, Any]]) -> None:
    """A record is refused or gives exchanges that the store can hold; so does what waited."""
    reader = reader_of(name)
    conversion = reader.begin(OPTIONS)
    found: list[Exchange] = []
    for line, record in enumerate(records, start=1):
        reader.recognise(record)
        try:
            found += conversion.convert(record, Origin("f", line))
        except InvalidInputError:
            continue
    found += conversion.finish()
    assert len(found) == batch_of(found).num_rows
    assert found == [msgspec.json.decode(msgspec.json.encode(e), type=Exchange) for e in found]
