"""Who is asked: the `[teacher]` table of a run, and the teacher's identity without its secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from stillwatch.distill.file_digests import model_digest
from stillwatch.distill.permit.addresses import PORTS, host_of, is_loopback_host, shown, split_url
from stillwatch.errors import ConfigError, reject

#: How a teacher is spoken to; `folder` is a local Hugging Face folder.
Wire = Literal["openai.chat", "openai.responses", "anthropic.messages", "folder"]

#: What says how much may be answered, in the order in which it is looked for.
OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_new_tokens")
#: What the package sets itself; in `parameters` it would break what is promised about a run.
_OURS = {
    "messages": "the questions come from [questions]",
    "input": "the questions come from [questions]",
    "model": "write model = in [teacher]",
    "system": "write system = in [teacher]",
    "instructions": "write system = in [teacher]",
    "stream": "write stream = in [ask]",
    "stream_options": "write stream = in [ask]",
    "tools": "tools belong to the questions",
    "n": "write samples = in [questions]: each choice is billed, and recorded, by itself",
    "logprobs": "write logprobs = in [teacher]",
    "top_logprobs": "write logprobs = in [teacher]",
    "store": "answers are kept in the run's own record",
    "background": "write batch = true in [ask] for cheaper answers later",
}
#: Headers that carry a secret; they are read from the environment.
_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "proxy-authorization"})


class TeacherTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[teacher]` table of a run.

    Attributes:
        wire: openai.chat, openai.responses, anthropic.messages, or folder.
        endpoint: base URL, the part before `/chat/completions`, `/responses` or `/messages`; for
            example `http://127.0.0.1:8000/v1`.
        endpoint_id: stands for the endpoint in the keys of the record, for a teacher of your own
            whose address changes from run to run; change it when its weights change.
        folder: a Hugging Face folder, for the wire `folder`.
        model: the model's name at its endpoint; "" lets the endpoint choose.
        api_key_env: the environment variable that holds the key; "" sends none.
        headers: further headers, none of them secret.
        headers_env: further headers by the environment variable that holds their value.
        parameters: sampling parameters by the wire's names; all of them are part of a key.
        system: put before every conversation that has no system turn of its own.
        logprobs: log-probabilities asked for, per token (count, 0..20); 0 asks for none.
    """

    wire: Wire = "openai.chat"
    endpoint: str = ""
    endpoint_id: str = ""
    folder: str = ""
    model: str = ""
    api_key_env: str = ""
    headers: dict[str, str] = {}
    headers_env: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    system: str = ""
    logprobs: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        if self.wire == "folder":
            if not self.folder or self.endpoint:
                reject("[teacher]", "folder", "set, and endpoint not, for this wire", got=self.wire)
        elif self.folder or not self.endpoint:
            reject("[teacher]", "endpoint", "set, and folder not, for this wire", got=self.wire)
        else:
            _check_endpoint(self.endpoint)
        for name in self.parameters:
            if name in _OURS:
                reject("[teacher.parameters]", name, "left out", got=name, hint=_OURS[name])
        for name in self.headers:
            if name.lower() in _SECRET_HEADERS:
                hint = "name the environment variable that holds it in headers_env or api_key_env"
                reject(
                    "[teacher.headers]", name, "left out: it is secret", got="a value", hint=hint
                )
        if not 0 <= self.logprobs <= 20:
            reject("[teacher]", "logprobs", "between 0 and 20", got=self.logprobs)
        if self.wire == "anthropic.messages":
            self._check_messages()

    def _check_messages(self) -> None:
        if "max_tokens" not in self.parameters:
            hint = "the Messages wire refuses a question without it"
            reject("[teacher.parameters]", "max_tokens", "set", got=None, hint=hint)
        if self.logprobs:
            rule = "0 for this wire, which gives none"
            reject("[teacher]", "logprobs", rule, got=self.logprobs)


class TeacherIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which teacher is asked; holds no secret, so it may stand in every artefact.

    Attributes:
        wire: as in the table.
        endpoint: scheme, host, port and path, spelt one way; for a folder `folder:` and the
            SHA-256 of what it holds.
        host: the endpoint's host, or "" for a folder.
        model: the model asked for; for a folder the folder's name when the table names none.
        is_local: whether it is a folder, or answers on a loopback address.
    """

    wire: str
    endpoint: str
    host: str = ""
    model: str = ""
    is_local: bool = False


def identify(teacher: TeacherTable) -> TeacherIdentity:
    """Say which teacher a table means.

    Args:
        teacher: the table.

    Returns:
        The identity. For a folder its files are read once per change.

    Raises:
        InvalidInputError: the folder holds no model.

    Example:
        >>> identify(TeacherTable(endpoint="HTTPS://Models.Example:443/v1/", model="m")).endpoint
        'https://models.example/v1'
    """
    if teacher.wire == "folder":
        folder = Path(teacher.folder)
        return TeacherIdentity(
            wire=teacher.wire,
            endpoint=f"folder:{model_digest(folder)}",
            model=teacher.model or folder.resolve().name,
            is_local=True,
        )
    host = host_of(teacher.endpoint)
    return TeacherIdentity(
        wire=teacher.wire,
        endpoint=shown(teacher.endpoint),
        host=host,
        model=teacher.model,
        is_local=is_loopback_host(host),
    )


def max_output(teacher: TeacherTable) -> int | None:
    """Read how many tokens an answer may have.

    Args:
        teacher: the table.

    Returns:
        Tokens (count), or None when the parameters do not say.
    """
    for name in OUTPUT_LIMITS:
        value = teacher.parameters.get(name)
        if isinstance(value, int):
            return value
    return None


def secret_headers(
    teacher: TeacherTable, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Read the key and the other secret headers from the environment.

    Args:
        teacher: the table.
        environ: the environment.

    Returns:
        Headers by name, the key in the one that the wire wants it in; never to be shown.

    Raises:
        ConfigError: a variable that the table names is not set.
    """
    found = {name: _read(variable, environ) for name, variable in teacher.headers_env.items()}
    if teacher.api_key_env:
        key = _read(teacher.api_key_env, environ)
        if teacher.wire == "anthropic.messages":
            found["x-api-key"] = key
        else:
            found["authorization"] = f"Bearer {key}"
    return found


def _read(variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable)
    if not value:
        message = f"[teacher]: the environment variable {variable} must be set, and is not"
        raise ConfigError(message, hint=f"export {variable}=...; keys never stand in the file")
    return value


def _check_endpoint(endpoint: str) -> None:
    rule = "an http or https URL without user, query or fragment"
    parts = split_url(endpoint)
    bad = parts.scheme not in PORTS or not parts.hostname
    if bad or parts.username or parts.password or parts.query or parts.fragment:
        reject("[teacher]", "endpoint", rule, got=f"{len(endpoint)} characters")
