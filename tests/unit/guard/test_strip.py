"""Strip: what is asked for beyond an answer goes, the rest of the body stays byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.guard.wall.strip import stripped

CHAT, OLD, RESPONSES, MESSAGES = (
    "openai.chat", "openai.completions", "openai.responses", "anthropic.messages"
)  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "body", "expected"),
    [
        (CHAT, '{"model":"m","logprobs":true,"top_logprobs":5,"n":8}', '{"model":"m"}'),
        (CHAT, '{"n":1,"seed":7,"logprobs":false}', '{"n":1,"seed":7}'),
        (CHAT, '{"n": 2.0, "temperature": 1.0}', '{"temperature":1.0}'),
        (CHAT, '{"include_reasoning":true}', '{"include_reasoning":false}'),
        (CHAT, '{"reasoning":{"effort":"high"}}', '{"reasoning":{"effort":"high","exclude":true}}'),
        (CHAT, '{"n":"many","reasoning_effort":"high"}', '{"reasoning_effort":"high"}'),
        (CHAT, '{"\\u006e":4,"a":"\\u006e"}', '{"a":"\\u006e"}'),
        (OLD, '{"prompt":"q","logprobs":5,"best_of":9,"n":3}', '{"prompt":"q"}'),
        (RESPONSES, '{"input":"q","top_logprobs":20}', '{"input":"q"}'),
        (
            RESPONSES,
            '{"include":["message.output_text.logprobs","reasoning.encrypted_content","file"]}',
            '{"include":["file"]}',
        ),
        (
            RESPONSES,
            '{"reasoning":{"effort":"low","summary":"detailed","generate_summary":"auto"}}',
            '{"reasoning":{"effort":"low"}}',
        ),
        (
            MESSAGES,
            '{"thinking":{"type":"enabled","budget_tokens":2048}}',
            '{"thinking":{"type":"enabled","budget_tokens":2048,"display":"omitted"}}',
        ),
        (
            MESSAGES,
            '{"thinking":{"type":"adaptive","display":"summarized"}}',
            '{"thinking":{"type":"adaptive","display":"omitted"}}',
        ),
    ],
)
def test_what_goes(wire: str, body: str, expected: str) -> None:
    """Log-probabilities, draws and reasoning detail are not asked for, on each wire."""
    assert expected == stripped(wire, body.encode()).decode()


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (CHAT, b'{ "model":"m" , "n":1, "messages":[{"content":"logprobs"}] }'),
        (CHAT, b'{"reasoning":{"exclude":true}}'),
        (CHAT, b"not json"),
        (CHAT, b'[{"n":2}]'),
        (CHAT, b"\xff"),
        (RESPONSES, b'{"include":["file"],"reasoning":{"effort":"low"},"n":4}'),
        (RESPONSES, b'{"include":"everything"}'),
        (MESSAGES, b'{"thinking":{"type":"disabled"},"logprobs":true}'),
        (MESSAGES, b'{"thinking":null}'),
        ("other", b'{"n":2,"logprobs":true}'),
    ],
)
def test_what_stays(wire: str, body: bytes) -> None:
    """A body that asks for nothing of the kind is the same object afterwards."""
    assert stripped(wire, body) is body


def test_values_are_not_rewritten() -> None:
    """Numbers, spaces and escapes of what stays are not touched, and neither is the order."""
    kept = '"seed":12345678901234567890123,"messages":[ {"content": "\\u00e9\\/", "x": 1.50} ]'
    body = "{" + kept + ',"n":3,"stop":[ ]}'
    assert "{" + kept + ',"stop":[ ]}' == stripped(CHAT, body.encode()).decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "n",
    "logprobs",
    "top_logprobs",
    "include",
    "reasoning",
    "thinking",
    "model",
    "best_of",
])


@given(st.sampled_from([CHAT, OLD, RESPONSES, MESSAGES]), st.dictionaries(NAMES, JSON))
def test_strip_is_once_and_for_all(wire: str, fields: dict[str, object]) -> None:
    """Whatever stands in the fields: the rest is equal, and a stripped body stays as it is."""
    body = json.dumps(fields).encode()
    once = stripped(wire, body)
    assert stripped(wire, once) is once
    found = json.loads(once)
    assert fields.get("model") == found.get("model")
    assert found.keys() <= fields.keys()
    if wire == CHAT:
        assert not {"logprobs", "top_logprobs"} & found.keys()
        assert found.get("n") in (None, 1)
