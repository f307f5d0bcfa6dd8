"""One bucket for a campaign however many gateways it asks.

Every gateway keeps its own bucket too. It holds at least what the shared one holds, because it saw
only a part of the questions: so what it refuses is refused without asking Redis, and what it
grants is settled there, in one round trip that no other question waits for. When Redis is slow or
away the own bucket's word stands.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import translated
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.ladder import Rung, TokenBuckets

if TYPE_CHECKING:
    import redis.asyncio

# KEYS: bucket. ARGV: tokens a second, capacity, tokens wanted. Gives seconds to wait, and the
# level. The time is Redis's own: gateways' clocks need not agree.
_TAKE: Final = """
local rate, capacity, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(held[1] or capacity), tonumber(held[2] or now)
level = math.min(capacity, level + math.max(0, now - at) * rate)
local wait = 0
if level >= wanted - 1e-9 then level = math.max(0, level - wanted)
else wait = (wanted - level) / rate end
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level),
  'at', string.format('%.17g', math.max(now, at)))
redis.call('EXPIRE', KEYS[1], math.ceil(capacity / rate) + 60)
return {string.format('%.17g', wait), string.format('%.17g', level)}
"""


class Taken(NamedTuple):
    """What Redis said.

    Attributes:
        wait_s: seconds until the tokens will be there; 0.0 when they were and are taken.
        level: tokens that the bucket holds now.
    """

    wait_s: float
    level: float


class SharedBuckets:
    """Asks Redis for tokens that the gateway's own bucket has granted.

    Args:
        client: for the event loop.
        config: names the prefix, and how long a question waits.
        local: the gateway's own buckets.
        on_failure: told when Redis did not answer in time and the own bucket decided.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        config: SharedConfig,
        *,
        local: TokenBuckets,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._script = client.register_script(_TAKE)
        self._config = config
        self._local = local
        self._on_failure = on_failure
        self._asks_again_at = -math.inf

    @property
    def is_paused(self) -> bool:
        """Whether Redis failed a moment ago and is left alone."""
        return time.monotonic() < self._asks_again_at

    async def settle(self, decision: Decision, now: float) -> Decision:
        """Have Redis confirm the tokens that a decision took.

        Args:
            decision: of the gateway by itself.
            now: UTC epoch seconds, as it was decided with.

        Returns:
            The decision; a throttle when the campaign has asked elsewhere what was left, or in
            observe mode the same with what enforce mode had done.
        """
        rung, campaign_id = decision.took, decision.campaign_id
        if rung is None or campaign_id is None:
            return decision
        taken = await self.take(campaign_id, rung, amount=decision.n_took)
        if taken is None:
            return decision
        self._local.lower(campaign_id, taken.level, now)
        if taken.wait_s <= 0:
            return decision
        reason = "campaign over its limit"
        if decision.action == "observe":
            return decision._replace(reason=reason, would_have="throttle", took=None)
        return decision._replace(
            action="throttle", reason=reason, retry_after_s=taken.wait_s, took=None
        )

    async def take(self, campaign_id: str, rung: Rung, *, amount: float = 1.0) -> Taken | None:
        """Take tokens of a campaign's shared bucket, all or none.

        Args:
            campaign_id: whose bucket.
            rung: says rate and capacity.
            amount: tokens (count).

        Returns:
            What came of it, or None when Redis did not say in time.
        """
        if self.is_paused:
            self._on_failure()
            return None
        arguments = [repr(float(x)) for x in (rung.rate_per_s, rung.capacity, amount)]
        key = self._config.key("bucket", campaign_id)
        try:
            with translated("take a token"):
                async with asyncio.timeout(self._config.timeout_s):
                    wait_s, level = await self._script(keys=[key], args=arguments)
        except EnvironmentUnfitError:
            # One question waits for a server that is away, not all of them.
            self._asks_again_at = time.monotonic() + self._config.pause_s
            self._on_failure()
            return None
        return Taken(float(wait_s), float(level))
