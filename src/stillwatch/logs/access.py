"""What access logs of any proxy share: paths of model APIs, client addresses, callers by header."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from stillwatch.logs.fields import account_of, hashed, text
from stillwatch.logs.reader import ReadOptions

#: Ends of the paths of model APIs, to the wire that they speak. A proxy may put anything before.
_WIRES = {
    "/chat/completions": "openai.chat",
    "/completions": "other",
    "/responses": "openai.responses",
    "/messages": "anthropic.messages",
    "/complete": "other",
    "/embeddings": "other",
    "/converse": "other",
    "/converse-stream": "other",
    "/invoke": "other",
    "/invoke-with-response-stream": "other",
    "/rerank": "other",
}
#: Google's paths name the method after a colon.
_METHODS = (":generateContent", ":streamGenerateContent", ":rawPredict", ":streamRawPredict")
_MODEL_IN_PATH = re.compile(r"/(?:deployments|models?)/([^/:]+)(?=[/:]|%3A)")
#: Headers that gateways pass on to say who asks, best first, as logs spell them after `plain_name`.
_ACCOUNTS = (
    "user.id", "enduser.id", "x-user-id", "x-account-id", "x-client-id", "x-consumer-id",
    "x-consumer-username", "x-consumer-custom-id", "x-jwt-sub", "x-auth-request-user",
    "x-auth-request-email", "account", "user-id",
)  # fmt: skip
_KEYS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "api-key-id", "x-api-key-id")
_ORGS = ("openai-organization", "x-org-id", "x-organization-id", "org", "x-tenant-id")


@lru_cache(4096)
def wire_of_path(path: str) -> str | None:
    """Say which wire a path speaks.

    Args:
        path: of a request, also with host and query.

    Returns:
        As `Exchange.wire`, or None for a path that is no model API's.
    """
    bare = bare_path(path)
    if bare.endswith(_METHODS):
        return "other"
    return next((wire for end, wire in _WIRES.items() if bare.endswith(end)), None)


def is_model_path(path: str) -> bool:
    """Say whether a path is a model API's.

    Args:
        path: of a request, also with host and query.

    Returns:
        Whether `wire_of_path` knows it.
    """
    return wire_of_path(path) is not None


def model_of_path(path: str) -> str | None:
    """Find the model that a path names (Azure's deployments, Bedrock's and Google's models).

    Args:
        path: of a request, also with host and query.

    Returns:
        The name, or None: most wires name the model in the body.

    Example:
        >>> model_of_path("/openai/deployments/gpt-4o/chat/completions?api-version=1")
        'gpt-4o'
    """
    match = _MODEL_IN_PATH.search(bare_path(path))
    return None if match is None else unquote(match[1])


def bare_path(path: str) -> str:
    """Take off a query, which may hold a key, and the ending slash.

    Args:
        path: of a request, also with host.

    Returns:
        The path.
    """
    return path.partition("?")[0].partition("#")[0].rstrip("/")


@lru_cache(4096)
def plain_name(name: str) -> str:
    """Spell a header's name in one way.

    Args:
        name: as a log's format spells it: `http_x_user_id`, `X-User-Id`, `x_user_id`.

    Returns:
        Lower case with hyphens, without nginx's `http_`: `x-user-id`.
    """
    return name.lower().removeprefix("$").removeprefix("http_").replace("_", "-")


def client_address(peer: object, chain: object) -> str | None:
    """Choose the client's address among those that a proxy logged.

    Whoever connected to the proxy is the client unless its address is private (a load balancer's);
    then it is the last public one of the chain, because clients can write the chain's beginning.

    Args:
        peer: who connected to the proxy, also with a port.
        chain: `X-Forwarded-For`.

    Returns:
        An address, or None when there is none.
    """
    return _client(text(peer) or "", text(chain) or "")


@lru_cache(65536)
def _client(peer: str, chain: str) -> str | None:
    told = [*(one.strip() for one in chain.split(",")), peer]
    candidates = [found for one in told if (found := _address(one))]
    public = [one for one in candidates if ipaddress.ip_address(one).is_global]
    return next(reversed(public or candidates), None)


def caller(options: ReadOptions, fields: Mapping[str, Any]) -> tuple[str, str | None]:
    """Say who asked.

    Args:
        options: holds the key that hashes keys.
        fields: values by `plain_name`.

    Returns:
        The account, "" unknown (without a name it is `key:` + the key's hash), and the API key's
        hash or None.
    """
    key = next((found for name in _KEYS if (found := text(fields.get(name))) is not None), None)
    secret = None if key is None else key.removeprefix("Bearer ").removeprefix("bearer ").strip()
    key_hash = hashed(options, "key", secret)
    named = account_of(options, *(fields.get(name) for name in _ACCOUNTS))
    return named or ("" if key_hash is None else f"key:{key_hash}"), key_hash


def org_of(fields: Mapping[str, Any]) -> str | None:
    """Say for which organisation.

    Args:
        fields: values by `plain_name`.

    Returns:
        As the log gave it, or None.
    """
    return next((found for name in _ORGS if (found := text(fields.get(name))) is not None), None)


def client_tags(fields: Mapping[str, Any]) -> dict[str, str]:
    """Keep what client libraries say about themselves (`X-Stainless-*`).

    Args:
        fields: values by `plain_name`.

    Returns:
        Tags by the header's name.
    """
    names: Iterable[str] = (name for name in fields if name.startswith("x-stainless-"))
    return {name: found for name in names if (found := text(fields[name])) is not None}


def _address(told: str) -> str | None:
    bare = told
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare.partition("%")[0]))
    except ValueError:
        return None
