"""`[shared]` of the configuration: where several gateways keep what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stillwatch.errors import reject

_WHERE = "guard.shared"
_SCHEMES = ("redis", "rediss")


@dataclass(frozen=True)
class SharedConfig:
    """State that several gateways share; without a URL everything is embedded.

    Attributes:
        url: `redis://host:port/db`, or `rediss://` for TLS; None shares nothing. A password never
            stands in it: it comes from the environment.
        prefix: what every key begins with; gateways of one prefix are one wall.
        ca_file: authorities that a TLS server's certificate is checked against; None takes the
            system's.
        timeout_s: seconds that a question waits for Redis before the gateway's own bucket decides.
        pause_s: seconds that Redis is left alone after it failed, before questions ask it again.
        lease_s: seconds after which another gateway may find campaigns when the one that did is
            gone.
        keep_days: days that a gateway's profiles stay after the day that they speak of, whether the
            gateway still runs or not.
        excerpts: send the beginnings of questions along with profiles; without them evidence
            quotes only what the finding gateway has seen itself.
    """

    url: str | None = None
    prefix: str = "stillwatch"
    ca_file: Path | None = None
    timeout_s: float = 0.05
    pause_s: float = 1.0
    lease_s: float = 30.0
    keep_days: float = 30.0
    excerpts: bool = False

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_url(self.url)
        if not self.prefix or any(mark in self.prefix for mark in " {}*?[]\\"):
            reject(_WHERE, "prefix", "plain text without blanks or patterns", got=self.prefix)
        for name in ("timeout_s", "lease_s", "keep_days"):
            if getattr(self, name) <= 0:
                reject(_WHERE, name, "above 0", got=getattr(self, name))
        if self.pause_s < 0:
            reject(_WHERE, "pause_s", "at least 0", got=self.pause_s)

    def key(self, *parts: str) -> str:
        """Name a key.

        Args:
            parts: of the name.

        Returns:
            The name; the braces keep all keys of a prefix in one slot of a cluster.
        """
        return ":".join((f"{{{self.prefix}}}", *parts))


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        got = f"{len(url)} characters"
        reject(_WHERE, "url", "redis://host:port/db or rediss://host:port/db", got=got)
    if parts.password is not None:
        hint = "put it into STILLWATCH_REDIS_PASSWORD"
        reject(_WHERE, "url", "without a password", got="one with", hint=hint)
