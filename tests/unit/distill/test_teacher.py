"""The teacher's table: refused where it breaks a promise, its identity without secrets."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillwatch.distill.asking.teacher import (
    TeacherTable,
    identify,
    max_output,
    secret_headers,
)
from stillwatch.distill.file_digests import model_digest
from stillwatch.distill.permit.addresses import is_loopback_host
from stillwatch.errors import ConfigError, InvalidInputError

URL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "endpoint must be set"),
        ({"endpoint": URL, "folder": "f"}, "folder not"),
        ({"wire": "folder", "endpoint": URL}, "folder must be set"),
        ({"endpoint": "ftp://x"}, "http or https"),
        ({"endpoint": "https://user:pw@x/v1"}, "without user"),
        ({"endpoint": "https://x/v1?key=secret"}, "without user, query"),
        ({"endpoint": "http://x:99999/v1"}, "http or https"),
        ({"endpoint": URL, "parameters": {"n": 2}}, "n must be left out"),
        ({"endpoint": URL, "parameters": {"stream": True}}, "stream must be left out"),
        ({"endpoint": URL, "headers": {"X-Api-Key": "secret"}}, "it is secret"),
        ({"endpoint": URL, "logprobs": 21}, "between 0 and 20"),
        ({"endpoint": URL, "wire": "anthropic.messages"}, "max_tokens must be set"),
    ],
)
def test_refused(fields: dict[str, Any], rule: str) -> None:
    """A table that cannot be asked, or would break a promise, is refused without its secrets."""
    with pytest.raises(InvalidInputError, match=rule) as caught:
        TeacherTable(**fields)
    assert "secret" not in str(caught.value).replace("it is secret", "")
    assert "pw" not in str(caught.value)


def test_unknown_key() -> None:
    """A misspelt key of the table is refused."""
    with pytest.raises(msgspec.ValidationError, match="modle"):
        msgspec.convert({"endpoint": URL, "modle": "m"}, TeacherTable)


def test_identity() -> None:
    """One endpoint spelt in several ways is one; only loopback is local."""
    spelt = ["https://Api.Example.com/v1", "https://api.example.com:443/v1/"]
    assert 1 == len({identify(TeacherTable(endpoint=url)).endpoint for url in spelt})
    local = [
        identify(TeacherTable(endpoint=url)).is_local for url in (*spelt, URL, "http://[::1]/")
    ]
    assert [False, False, True, True] == local
    assert [True, True, False, False] == [
        is_loopback_host(host)
        for host in ("127.8.0.1", "localhost", "10.0.0.1", "localhost.example.com")
    ]


def test_secrets() -> None:
    """Keys come from the environment, in the header that the wire wants."""
    environ = {"K": "sk-1", "P": "proj"}
    chat = TeacherTable(endpoint=URL, api_key_env="K", headers_env={"openai-project": "P"})
    assert {"authorization": "Bearer sk-1", "openai-project": "proj"} == secret_headers(
        chat, environ
    )
    messages = TeacherTable(
        endpoint=URL, wire="anthropic.messages", api_key_env="K", parameters={"max_tokens": 1}
    )
    assert {"x-api-key": "sk-1"} == secret_headers(messages, environ)
    with pytest.raises(ConfigError, match="variable K must be set"):
        secret_headers(messages, {})


def test_output_limit() -> None:
    """The answer's limit is read by any of its names."""
    found = [
        max_output(TeacherTable(endpoint=URL, parameters=parameters))
        for parameters in ({}, {"max_tokens": 3}, {"max_completion_tokens": 4, "max_tokens": 3})
    ]
    assert [None, 3, 4] == found


def test_folder(tmp_path: Path) -> None:
    """A folder is known by what it holds, not by where it lies."""
    digests = []
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        digests.append(model_digest(folder))
    assert digests[0] == digests[1] != digests[2]
    identity = identify(TeacherTable(wire="folder", folder=str(tmp_path / "a")))
    assert (f"folder:{digests[0]}", "a", True) == (
        identity.endpoint, identity.model, identity.is_local
    )  # fmt: skip
    (tmp_path / "a" / "model.safetensors").write_bytes(b"22")
    assert digests[0] != model_digest(tmp_path / "a")
    with pytest.raises(InvalidInputError, match=r"config\.json"):
        model_digest(tmp_path)
