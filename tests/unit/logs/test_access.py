"""Access logs: paths of model APIs, client addresses, callers."""

import pytest

from stillwatch.logs import access
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.privacy import KeyedHash

OPTIONS = ReadOptions(KeyedHash(bytes(range(32))))


@pytest.mark.parametrize(
    ("path", "wire", "model"),
    [
        ("/v1/chat/completions", "openai.chat", None),
        ("https://a.example/openai/v1/responses/?key=x", "openai.responses", None),
        ("/anthropic/v1/messages?beta=true", "anthropic.messages", None),
        ("/openai/deployments/gpt-4o/chat/completions", "openai.chat", "gpt-4o"),
        ("/model/eu.amazon.nova-lite-v1%3A0/converse-stream", "other", "eu.amazon.nova-lite-v1:0"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "other", "gemini-2.5-pro"),
        ("/healthz", None, None),
        ("/v1/messages/count_tokens", None, None),
        ("", None, None),
    ],
)
def test_paths(path: str, wire: str | None, model: str | None) -> None:
    """A path says which wire it speaks, sometimes which model, and a query never counts."""
    assert (wire, model) == (access.wire_of_path(path), access.model_of_path(path))


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("8.8.8.8:5120", None, "8.8.8.8"),
        ("8.8.8.8", "1.1.1.1", "8.8.8.8"),  # a client of the open proxy writes what it likes
        ("10.0.0.2", "6.6.6.6, 8.8.4.4, 10.0.0.7", "8.8.4.4"),
        ("[2606:4700::1]:443", "", "2606:4700::1"),
        ("10.0.0.2", "unknown, -", "10.0.0.2"),
        (None, "192.168.1.4", "192.168.1.4"),
        ("unix:", None, None),
    ],
)
def test_client_address(peer: str | None, chain: str | None, client: str | None) -> None:
    """The last public address of chain and peer is the client; without one the last."""
    assert client == access.client_address(peer, chain)


def test_caller_by_name_then_key() -> None:
    """A header's name goes before a key; keys show as hashes, equal with and without Bearer."""
    secret = "sk-invented-0123456789"
    named = access.caller(OPTIONS, {"x-user-id": "u7", "authorization": f"Bearer {secret}"})
    keyed = access.caller(OPTIONS, {"x-api-key": secret})
    assert ("u7", keyed[1]) == named
    assert f"key:{keyed[1]}" == keyed[0]
    assert ("", None) == access.caller(OPTIONS, {"x-user-id": None})


def test_names_of_headers() -> None:
    """Headers are one name however a format spells them."""
    spelled = ("http_x_user_id", "X-User-Id", "$http_x_user_id", "x_user_id")
    assert {"x-user-id"} == {access.plain_name(name) for name in spelled}
