"""The door to the admin: from where, by which name, and with what proof.

Three things are asked of every request: that it comes from this machine or a network that the
configuration names, that it calls the gateway by a name that is the gateway's (a foreign page can
point a name of its own at 127.0.0.1, and then reads what it likes), and the token or a login.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal, NamedTuple

from stillwatch.guard.admin.settings import AdminConfig
from stillwatch.guard.keys import client_address, presented_key
from stillwatch.guard.routes.replies import Refusal

COOKIE: Final = "stillwatch_admin"
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MOST_SESSIONS: Final = 64
#: Wrong tokens a minute after which the login form takes none: 20 hex digits need 10^17 years.
_MOST_FAILURES: Final = 20
#: A line that a proxy writes. One that the configuration does not know of makes every client look
#: like this machine.
_PROXIED: Final = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"})

ELSEWHERE: Final = Refusal(403, "The admin is not open from there.", "admin_not_here", final=True)
WRONG_HOST: Final = Refusal(421, "The admin has another name.", "admin_host", final=True)
UNAUTHORISED: Final = Refusal(401, "This needs the admin token.", "admin_token_needed", final=True)
FORGED: Final = Refusal(403, "The form is out of date. Load it again.", "csrf", final=True)
TOO_OFTEN: Final = Refusal(429, "Too many wrong tokens. Wait a minute.", "too_often", 60.0)

Headers = Mapping[bytes, bytes]


@dataclass(slots=True)
class Session:
    """One login.

    Attributes:
        by: the name that the person gave, for the audit log.
        csrf: what every form of this login carries.
        began: monotonic seconds.
        used: monotonic seconds of its last request.
        notice: one sentence to show on the next page, or "".
    """

    by: str
    csrf: str
    began: float
    used: float
    notice: str = ""


class Caller(NamedTuple):
    """Whoever passed the door.

    Attributes:
        by: the name for the audit log.
        via: by the API or by a page.
        session: the login, or None for a token.
    """

    by: str
    via: Literal["api", "page"]
    session: Session | None = None


def refuse_place(
    config: AdminConfig, peer: str | None, headers: Headers, *, trusted_hops: int
) -> Refusal | None:
    """Say whether a request comes from a wrong place or calls a wrong name.

    Args:
        config: what is allowed besides loopback.
        peer: the address of the socket's other end.
        headers: the request's, names in lower case.
        trusted_hops: proxies of ours in front (count).

    Returns:
        The refusal, or None when it may go on.
    """
    if trusted_hops == 0 and not _PROXIED.isdisjoint(headers):
        return ELSEWHERE
    address = client_address(peer, headers, trusted_hops=trusted_hops)
    if not _is_near(address, config.peers):
        return ELSEWHERE
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return None if _is_own(host, config.hosts) else WRONG_HOST


def _is_near(address: str | None, peers: tuple[str, ...]) -> bool:
    if address is None:
        return False
    found = ipaddress.ip_address(address)
    return found.is_loopback or any(found in ipaddress.ip_network(peer) for peer in peers)


def _is_own(host: str, hosts: tuple[str, ...]) -> bool:
    name, colon, port = host.rpartition(":")
    bare = name if colon and port.isdigit() else host
    allowed = {known.lower() for known in hosts}
    return bare in _LOCAL_NAMES or bare in allowed or host in allowed


def is_token(token: str, headers: Headers) -> bool:
    """Say whether a request carries the admin token.

    Args:
        token: the deployment's.
        headers: the request's.

    Returns:
        True when it does; the comparison takes the same time for every wrong one.
    """
    presented = presented_key(headers) or ""
    return hmac.compare_digest(presented.encode(), token.encode())


@dataclass
class Sessions:
    """The logins; in memory, so that a restart ends them all.

    Attributes:
        config: how long they last.
    """

    config: AdminConfig
    _open: dict[bytes, Session] = field(default_factory=dict)
    _failed: list[float] = field(default_factory=list)

    def login(self, offered: str, *, token: str, by: str) -> tuple[str, Session] | None:
        """Begin a login.

        Args:
            offered: what the form carried.
            token: the deployment's admin token.
            by: the name that the person gave.

        Returns:
            The cookie's value and the login; None for a wrong token.
        """
        now = time.monotonic()
        if not hmac.compare_digest(offered.encode(), token.encode()):
            self._failed = [at for at in self._failed if at > now - 60] + [now]
            return None
        self._sweep(now)
        if len(self._open) >= _MOST_SESSIONS:
            self._open.pop(next(iter(self._open)))
        secret = secrets.token_urlsafe(32)
        session = Session(by, secrets.token_urlsafe(32), now, now)
        self._open[_digest(secret)] = session
        return secret, session

    @property
    def is_tired(self) -> bool:
        """Whether so many wrong tokens came that none is looked at for a while."""
        now = time.monotonic()
        return sum(at > now - 60 for at in self._failed) >= _MOST_FAILURES

    def find(self, headers: Headers) -> Session | None:
        """Find the login of a request's cookie.

        Args:
            headers: the request's.

        Returns:
            The login, or None when there is none or it has ended.
        """
        secret = _cookie(headers)
        if secret is None:
            return None
        now = time.monotonic()
        self._sweep(now)
        session = self._open.get(_digest(secret))
        if session is not None:
            session.used = now
        return session

    def end(self, headers: Headers) -> None:
        """End the login of a request's cookie.

        Args:
            headers: the request's.
        """
        secret = _cookie(headers)
        if secret is not None:
            self._open.pop(_digest(secret), None)

    def _sweep(self, now: float) -> None:
        config = self.config
        self._open = {
            key: session
            for key, session in self._open.items()
            if now < session.began + config.session_s and now < session.used + config.idle_s
        }


def is_forged(session: Session, headers: Headers, offered: str) -> bool:
    """Say whether a form was sent by another site than this one.

    Args:
        session: the login that the browser sent along on its own.
        headers: the request's.
        offered: the token of the form.

    Returns:
        True when the form does not carry the login's token, or the browser says that another
        site sent it.
    """
    if not hmac.compare_digest(offered.encode(), session.csrf.encode()):
        return True
    if headers.get(b"sec-fetch-site", b"same-origin") not in {b"same-origin", b"none"}:
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def set_cookie(secret: str, *, max_age_s: float, is_https: bool) -> tuple[bytes, bytes]:
    """Write the header line that gives a browser its login, or takes it away.

    Args:
        secret: the cookie's value; "" takes it away.
        max_age_s: how long the browser keeps it.
        is_https: the page came by TLS.

    Returns:
        The header line.
    """
    age = int(max_age_s) if secret else 0
    line = f"{COOKIE}={secret}; Path=/stillwatch; HttpOnly; SameSite=Strict; Max-Age={age}"
    return b"set-cookie", (line + ("; Secure" if is_https else "")).encode()


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
