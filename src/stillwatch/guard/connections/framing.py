"""What a request's head must look like before anything acts on it. Pure functions.

The parser (llhttp) refuses what is malformed. Refused here is what is well formed and yet could be
read in two ways by two servers in a row, or as another route by the model server than by the
gateway: whoever reads it another way than the gateway does could be made to answer what the gateway
never saw. The bounds on connections stand here too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from stillwatch.errors import reject
from stillwatch.guard.routes.headers import OWN_PREFIX

#: No other method is used by the APIs served; CONNECT and TRACE are tools of attackers here.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: A second line of one of these makes two readers disagree.
_ONCE: Final = frozenset({
    b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key", b"api-key",
    b"content-type", b"content-encoding",
})  # fmt: skip
#: Servers behind CGI-like interfaces read `_` as `-`: these would arrive under their true names.
_FORGEABLE: Final = _ONCE | {b"x-forwarded-for", b"connection", b"upgrade", b"te", b"trailer"}
#: What servers climb or cut: `/./`, `/../`, `\`, `;x`, control characters. `//`, which clients
#: write by mistake, is passed: the routes read it as one slash.
_UNPLAIN: Final = re.compile(r"/\.{1,2}(?:/|$)|[\\;\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ServerConfig:
    """Bounds on what one client can take up, and how the gateway ends.

    Attributes:
        header_bytes: longest head of a request (bytes).
        target_bytes: longest request target (bytes).
        header_s: seconds in which a head must have come.
        body_s: seconds of silence in a body; the body as a whole gets these and as many more as
            its bytes so far take at `body_bytes_per_s`.
        body_bytes_per_s: slowest upload (bytes per second) that is waited for.
        idle_s: seconds that a client's idle connection is kept; above what clients and proxies in
            front keep theirs, or they run into closing ones.
        stall_s: seconds that a client may leave its answer unread.
        drain_s: seconds that answers under way get when the gateway is told to end.
        connections: most connections at once (count).
    """

    header_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    header_s: float = 10.0
    body_s: float = 30.0
    body_bytes_per_s: int = 1024
    idle_s: float = 75.0
    stall_s: float = 120.0
    drain_s: float = 20.0
    connections: int = 10_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                reject("guard.server", field.name, "above 0", got=value)


class Fault(NamedTuple):
    """Why a request is refused at the door.

    Attributes:
        status: HTTP status.
        code: short code that programs switch on, also the metric's label.
        message: one sentence for the person who wrote the client.
    """

    status: int
    code: str
    message: str


NOT_HTTP: Final = Fault(400, "bad_request", "This is not HTTP as RFC 9112 has it.")
HEAD_TOO_LONG: Final = Fault(431, "header_too_large", "The request's head is too long.")
TARGET_TOO_LONG: Final = Fault(414, "target_too_long", "The request's target is too long.")
HEAD_TOO_SLOW: Final = Fault(408, "header_timeout", "The request's head did not come in time.")
BODY_TOO_SLOW: Final = Fault(408, "body_timeout", "The request's body did not come in time.")
BODY_BROKEN: Final = Fault(400, "bad_body", "The request's body is not framed as it says.")
BUSY: Final = Fault(503, "too_many_connections", "Too many connections. Please try again.")
ENDING: Final = Fault(503, "gateway_ending", "The gateway is about to end. Please try again.")
_BAD_VERSION: Final = Fault(505, "bad_version", "Only HTTP/1.0 and 1.1 are served.")
_BAD_METHOD: Final = Fault(501, "bad_method", "This method is not served.")
_BAD_TARGET: Final = Fault(400, "bad_target", "The target must be a plain absolute path.")
_BAD_HOST: Final = Fault(400, "bad_host", "A request must name its host once.")
_BAD_CODING: Final = Fault(501, "bad_transfer_coding", "The one transfer coding read is: chunked.")
_REPEATED: Final = Fault(400, "repeated_header", "A header that may come once came twice.")
_UPGRADE: Final = Fault(501, "no_upgrade", "Connections are not upgraded; send HTTP/1.1.")

_Pairs = Sequence[tuple[bytes, bytes]]


def is_forged(name: bytes) -> bool:
    """Say whether a header's name would become one of ours, or one that is checked, further on.

    Args:
        name: in lower case, with an underscore in it.

    Returns:
        True when the line must not go on.
    """
    dashed = name.replace(b"_", b"-")
    return dashed in _FORGEABLE or dashed.startswith(OWN_PREFIX)


@lru_cache(1024)
def split_target(target: bytes, method: str) -> tuple[str, bytes, bytes] | Fault:
    """Split a request's target.

    Args:
        target: as sent.
        method: in upper case.

    Returns:
        Path (decoded), path (as sent) and query; or why it is refused. The absolute form is for
        proxies, a fragment never leaves a client, and a path that servers normalise differently
        could name one route here and another at the model server.
    """
    if target == b"*" and method == "OPTIONS":
        return "*", target, b""
    raw, _, query = target.partition(b"?")
    if not raw.startswith(b"/") or b"#" in target or not target.isascii():
        return _BAD_TARGET
    path = raw.decode("ascii")
    if "%" in path:
        path = unquote(path)
    return (path, raw, query) if _UNPLAIN.search(path) is None else _BAD_TARGET


def fault_of(
    method: str, version: str, headers: _Pairs, *, is_upgrade: bool = False
) -> Fault | None:
    """Find what is wrong with a head that the parser accepted.

    Args:
        method: in upper case.
        version: "1.1" or another.
        headers: names in lower case.
        is_upgrade: the parser takes it for a request to change the protocol.

    Returns:
        The first fault, or None.
    """
    if version not in {"1.1", "1.0"}:
        return _BAD_VERSION
    if method not in METHODS:
        return _BAD_METHOD
    found = dict(headers)
    if b"host" not in found and version == "1.1":
        return _BAD_HOST
    if len(found) != len(headers) and (repeated := _repeated(headers)) is not None:
        return repeated
    coding = found.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
        return _BAD_CODING
    return _upgrade_fault(found, headers) if is_upgrade else None


def _repeated(headers: _Pairs) -> Fault | None:
    counts = Counter(name for name, _ in headers if name in _ONCE)
    twice = {name for name, n in counts.items() if n > 1}
    if b"host" in twice:
        return _BAD_HOST
    if b"transfer-encoding" in twice:
        return _BAD_CODING
    return _REPEATED if twice else None


def _upgrade_fault(found: Mapping[bytes, bytes], headers: _Pairs) -> Fault | None:
    # The parser stops before such a request's body: what follows could be read as a request.
    has_body = found.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in found
    wanted = b",".join(value.lower() for name, value in headers if name == b"upgrade")
    return _UPGRADE if has_body or b"websocket" in wanted else None
