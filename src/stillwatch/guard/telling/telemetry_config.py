"""Where telemetry goes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from stillwatch.errors import reject


@dataclass(frozen=True)
class OtelConfig:
    """Where telemetry goes; the `[otel]` table of the configuration.

    Attributes:
        endpoint: base URL of an OTLP/HTTP collector, without `/v1/traces`; None sends nothing.
        sample: share of answered questions that become a span (0..1); what was refused or failed
            always does.
        every_s: seconds between sendings.
        service: the service's name in what is sent.
        accounts: name the account in spans.
        follow_clients: a client's own trace is joined, and its word on sampling taken. For clients
            of one's own only: others could have everything sampled.
    """

    endpoint: str | None = None
    sample: float = 0.01
    every_s: float = 15.0
    service: str = "stillwatch-guard"
    accounts: bool = False
    follow_clients: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
                reject("guard.otel", "endpoint", "an http(s) base URL", got=self.endpoint)
        if not 0 <= self.sample <= 1:
            reject("guard.otel", "sample", "between 0 and 1", got=self.sample)
        if self.every_s <= 0:
            reject("guard.otel", "every_s", "above 0", got=self.every_s)
