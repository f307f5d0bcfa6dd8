"""The client of the three wires: one outcome a question, failures told as values."""

from typing import Any

import pytest

from stillwatch.errors import InvalidInputError, ModelAuthError, ModelError, ModelRateError
from stillwatch.model.client import EndpointClient, ModelUnavailableError, Outcome, Timeouts
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.exchange import Message
from stillwatch.wire import chat, messages, responses
from stillwatch.wire.question import Question

ENCODERS = {
    "openai.chat": chat.encode_request,
    "openai.responses": responses.encode_request,
    "anthropic.messages": messages.encode_request,
}
QUESTION = Question(messages=(Message("user", "1+1?"),), model="m", parameters={"max_tokens": 9})


async def _ask(
    config: FakeConfig, *, wire: str = "openai.chat", stream: bool = False, **options: Any
) -> Outcome:
    with FakeEndpoint(config) as endpoint:
        async with EndpointClient(endpoint.base_url, wire=wire, **options) as client:
            return await client.ask(ENCODERS[wire](QUESTION, stream=stream), stream=stream)


@pytest.mark.parametrize("wire", list(ENCODERS))
@pytest.mark.parametrize("stream", [False, True])
async def test_answer(wire: str, *, stream: bool) -> None:
    """Each wire gives the same answer, whole or streamed, with its token counts."""
    outcome = await _ask(FakeConfig(answers={"1+1?": "two"}), wire=wire, stream=stream)
    assert (None, 200, None, False) == (
        outcome.error, outcome.status, outcome.code, outcome.may_be_billed
    )  # fmt: skip
    assert outcome.reply is not None
    assert "two" == outcome.reply.answers[0].text
    assert (outcome.reply.input_tokens or 0) > 0
    assert (outcome.reply.output_tokens or 0) > 0


async def test_facts() -> None:
    """A reply's id and fingerprint are kept beside it."""
    facts = (await _ask(FakeConfig(fingerprint="fp_7"))).facts
    assert "fp_7" == facts["system_fingerprint"]
    assert facts["response_id"]


@pytest.mark.parametrize(
    ("config", "kind", "code", "billed"),
    [
        ({"error_share": 1.0}, ModelUnavailableError, "server_error", False),
        ({"dropped_share": 1.0}, ModelUnavailableError, "disconnected", True),
        ({"cut_share": 1.0}, ModelUnavailableError, "cut", True),
        ({"malformed_share": 1.0}, ModelError, "unreadable", True),
        ({"wrong_type_share": 1.0}, ModelError, "unreadable", True),
        ({"api_key": "sk-right"}, ModelAuthError, "invalid_api_key", False),
        ({"rate_per_s": 1e-6, "burst": 1e-6}, ModelRateError, "rate_limit_exceeded", False),
    ],
)
async def test_failures(
    config: dict[str, Any], kind: type[ModelError], code: str, *, billed: bool
) -> None:
    """Each way to fail has its error and code, and says whether it may be billed."""
    headers = {"authorization": "Bearer sk-wrong"}
    outcome = await _ask(FakeConfig(**config), headers=headers)
    assert outcome.reply is None
    assert (kind, code, billed) == (type(outcome.error), outcome.code, outcome.may_be_billed)
    assert "sk-" not in str(outcome.error)


async def test_cut_stream() -> None:
    """A stream that breaks off is no answer."""
    outcome = await _ask(FakeConfig(cut_share=1.0, answer_bytes=500), stream=True)
    assert (None, True) == (outcome.reply, outcome.may_be_billed)


async def test_timeout() -> None:
    """Silence beyond the limit is a failure that may be billed."""
    timeouts = Timeouts(connect_s=1.0, silence_s=0.05, total_s=1.0)
    outcome = await _ask(FakeConfig(delay_s=5.0), timeouts=timeouts)
    assert ("timeout", 0, True) == (outcome.code, outcome.status, outcome.may_be_billed)
    assert outcome.error is not None
    assert outcome.error.retryable


async def test_nobody_there() -> None:
    """A port where nobody listens is told, and cost nothing."""
    with FakeEndpoint() as endpoint:
        url = endpoint.base_url
    async with EndpointClient(url) as client:
        outcome = await client.ask(b"{}")
    assert ("connect", False) == (outcome.code, outcome.may_be_billed)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"endpoint": "ftp://x"}, "endpoint"),
        ({"endpoint": "http://u:secret@x"}, "endpoint"),
        ({"endpoint": "http://x", "wire": "carrier-pigeon"}, "wire"),
        ({"endpoint": "http://x", "connections": 0}, "connections"),
    ],
)
def test_refused(options: dict[str, Any], rule: str) -> None:
    """What cannot be asked is refused, without showing a secret."""
    with pytest.raises(InvalidInputError, match=rule) as caught:
        EndpointClient(**options)
    assert "secret" not in str(caught.value)
