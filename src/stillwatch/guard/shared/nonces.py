"""Tokens that count once, whichever gateway they are shown to."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import translated
from stillwatch.guard.wall.challenge import Nonces

if TYPE_CHECKING:
    import redis.asyncio


class SharedNonces(Nonces):
    """Remembers nonces in Redis, and beside it in the gateway's own memory.

    A nonce that this gateway has seen is refused without Redis; with Redis away the own memory
    decides, so a token could then be shown once to every gateway.

    Args:
        client: for the event loop.
        config: names the prefix, and how long a question waits.
        local: the gateway's own memory.
        on_failure: told when Redis did not answer in time.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        config: SharedConfig,
        *,
        local: Nonces,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._config = config
        self._local = local
        self._on_failure = on_failure

    async def use(self, nonce: str, until: float) -> bool:
        """Use a nonce.

        Args:
            nonce: of a token.
            until: UTC epoch seconds after which the token is void anyway.

        Returns:
            True the first time.
        """
        if not await self._local.use(nonce, until):
            return False
        name = hashlib.blake2b(nonce.encode(), digest_size=16).hexdigest()
        # A minute more than it is good for: clocks differ.
        lasts_s = max(1, math.ceil(until - time.time())) + 60
        try:
            with translated("use a token"):
                async with asyncio.timeout(self._config.timeout_s):
                    first = await self._client.set(
                        self._config.key("nonce", name), b"1", nx=True, ex=lasts_s
                    )
        except EnvironmentUnfitError:
            self._on_failure()
            return True
        return bool(first)
