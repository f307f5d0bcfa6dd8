"""What a house model server is told: models, address, secrets and limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from stillwatch.errors import reject


@dataclass(frozen=True)
class MarkConfig:
    """What it takes to watermark an answer when the gateway orders it.

    Attributes:
        secret: shared with the gateway, verifies its orders.
        master_key: shared with the gateway, the campaigns' keys are derived from it.
        gamma: share of green tokens.
        delta: how hard green tokens are pushed (nats).
        max_age_s: how old an order may be; None for any age (a simulated clock).
    """

    secret: bytes = field(repr=False)
    master_key: bytes = field(repr=False)
    gamma: float = 0.25
    delta: float = 2.0
    max_age_s: float | None = 300.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """Read both secrets from the variables that the gateway reads.

        Args:
            environ: the environment.

        Returns:
            The configuration, or None when a variable is absent or empty.
        """
        secret = environ.get("STILLWATCH_MARK_SECRET")
        master_key = environ.get("STILLWATCH_MARK_MASTER_KEY")
        return cls(secret.encode(), master_key.encode()) if secret and master_key else None


@dataclass(frozen=True)
class ServerConfig:
    """What a model server is told.

    Attributes:
        models: model folders by the name that questions ask for.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        api_key: bearer token that questions must bring, or None for no such check.
        marks: how to watermark; None refuses every order to.
        max_batch: rows computed together (count).
        window_s: how long a batch gathers (s).
        max_body_bytes: longest question accepted (bytes).
    """

    models: Mapping[str, Path]
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str | None = field(default=None, repr=False)
    marks: MarkConfig | None = None
    max_batch: int = 128
    window_s: float = 0.002
    max_body_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.models:
            reject("model server", "models", "at least one folder by name", got={})
        if not 0 <= self.port <= 65_535:
            reject("model server", "port", "0 to 65535", got=self.port)
