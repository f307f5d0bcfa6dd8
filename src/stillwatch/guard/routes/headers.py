"""Which header lines cross the gateway, each way. Pure functions on ASGI's byte pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict

Pairs = list[tuple[bytes, bytes]]

#: RFC 9110, section 7.6.1: they speak of one connection, not of the message.
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
#: Ours. From a client they are forgeries, and to a client they would tell what is known of it.
OWN_PREFIX: Final = b"x-stillwatch-"
#: Longest wait (seconds) that all common SDKs keep to; beyond it many versions use their own.
PATIENCE_S: Final = 60.0
_KEYS: Final = frozenset({b"authorization", b"x-api-key", b"api-key"})
#: The HTTP client writes its own host; `expect` was answered here already; addresses of clients
#: are not the model server's business.
_NOT_UPSTREAM: Final = HOP_BY_HOP | {b"host", b"expect", b"x-forwarded-for"}
_EVENT_STREAM: Final = b"text/event-stream"


def to_upstream(
    pairs: Iterable[tuple[bytes, bytes]], *, keep_key: bool, plain_answer: bool
) -> CIMultiDict[str]:
    """Choose the header lines that go on to the model server, in order, names as sent.

    Args:
        pairs: the client's.
        keep_key: let the client's API key through; of several the one that was looked at, or a
            client could be judged as one account and billed as another.
        plain_answer: ask for an answer without compression, so that it can be recorded; any
            client must accept one.

    Returns:
        Header lines; `host` is left to the HTTP client.
    """
    pairs = list(pairs)
    kept_key = {_key_line(pairs)} if keep_key else set()
    dropped = _dropped(pairs, _NOT_UPSTREAM | (_KEYS - kept_key))
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in pairs:
        if name not in dropped and not name.startswith(OWN_PREFIX):
            kept.add(name.decode("latin-1"), value.decode("latin-1"))
    if plain_answer:
        kept["accept-encoding"] = "identity"
    return kept


def to_client(pairs: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Choose the header lines that go back to the client.

    Args:
        pairs: the model server's.

    Returns:
        Header lines, names in lower case as ASGI asks; an event stream also asks proxies on its
        way not to hold it back.
    """
    lowered = [(name.lower(), value) for name, value in pairs]
    dropped = _dropped(lowered, HOP_BY_HOP)
    kept = [
        (name, value)
        for name, value in lowered
        if name not in dropped and not name.startswith(OWN_PREFIX)
    ]
    if is_event_stream(kept):
        names = {name for name, _ in kept}
        extras = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        kept += [(name, value) for name, value in extras if name not in names]
    return kept


def is_event_stream(pairs: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a reply is server-sent events.

    Args:
        pairs: its header lines, names in lower case.

    Returns:
        True when its content type says so.
    """
    return any(
        name == b"content-type" and value.lower().startswith(_EVENT_STREAM) for name, value in pairs
    )


def error_headers(body: bytes, *, retry_after_s: float | None, final: bool) -> Pairs:
    """Write the header lines of a refusal.

    Clients retry 429 and 5xx on their own, so a final refusal says so and a slow-down says when:
    a bare 429 would triple the load (two retries in the common SDKs). A wait longer than they have
    patience for is ignored by some versions, which then ask again at once, and slept through by
    others, an hour long; so they are told to give up instead.

    Args:
        body: the refusal's body.
        retry_after_s: seconds to wait, or None; infinite when no wait can help.
        final: another try cannot help.

    Returns:
        Header lines.
    """
    pairs = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if final or (retry_after_s is not None and retry_after_s > PATIENCE_S):
        pairs.append((b"x-should-retry", b"false"))
    if retry_after_s is not None and math.isfinite(retry_after_s):
        pairs.append((b"retry-after-ms", str(math.ceil(retry_after_s * 1000)).encode()))
        pairs.append((b"retry-after", str(math.ceil(retry_after_s)).encode()))
    return pairs


def _key_line(pairs: Pairs) -> bytes:
    """Name the line that the key was read from, in the order of `keys.presented_key`."""
    found = dict(pairs)
    is_bearer = found.get(b"authorization", b"")[:7].lower() == b"bearer "
    lines = (b"x-api-key", b"api-key", b"authorization")
    return b"authorization" if is_bearer else next((n for n in lines if found.get(n)), b"")


def _dropped(pairs: Pairs, always: frozenset[bytes]) -> frozenset[bytes]:
    """Add the names that a `connection` line declares to be of one hop."""
    named = [value for name, value in pairs if name == b"connection"]
    if not named or named == [b"keep-alive"]:
        return always
    return always | {name.strip().lower() for value in named for name in value.split(b",")}
