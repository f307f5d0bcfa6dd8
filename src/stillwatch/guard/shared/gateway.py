"""The gateway's side of sharing: verdicts, buckets, nonces and owners of answers."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.shared.buckets import SharedBuckets
from stillwatch.guard.shared.changes import ChangeLog
from stillwatch.guard.shared.connect import (
    connect,
    connect_async,
    demand_one_key,
    octets,
    translated,
)
from stillwatch.guard.shared.nonces import SharedNonces
from stillwatch.guard.shared.owners import SharedOwners
from stillwatch.guard.shared.seal import Seal
from stillwatch.guard.shared.table import SharedVerdictTable
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.ladder import TokenBuckets

if TYPE_CHECKING:
    from stillwatch.guard.routes.owners import Owners
    from stillwatch.guard.wall.challenge import Nonces


class GatewaySharing:
    """What a gateway shares; an async context manager.

    A gateway starts and serves without Redis: with what it knew, and its own buckets.

    Args:
        config: the gateway's, with a URL.
        metrics: counts failures.
    """

    def __init__(self, config: GuardConfig, metrics: Metrics) -> None:
        self._config = config.shared
        self._metrics = metrics
        self._seal = Seal(config.secrets.hash_key)
        password = config.secrets.redis_password
        self._blocking = connect(config.shared, password)
        self._client = connect_async(config.shared, password)
        self._buckets: SharedBuckets | None = None
        self.table = SharedVerdictTable(
            config.verdict_path,
            ChangeLog(self._blocking, config.shared, self._seal),
            on_failure=lambda: self._failed("verdicts"),
        )

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(demand_one_key, self._blocking, self._config, self._seal)
            await asyncio.to_thread(self.table.pull)
        except EnvironmentUnfitError:
            self._failed("verdicts")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()
        self._blocking.close()
        self.table.close()

    def share_buckets(self, local: TokenBuckets) -> None:
        """Settle from now on what a gateway's own buckets grant.

        Args:
            local: the gateway's own.
        """
        self._buckets = SharedBuckets(
            self._client, self._config, local=local, on_failure=lambda: self._failed("buckets")
        )

    def share_nonces(self, local: Nonces) -> SharedNonces:
        """Make tokens count once for all gateways.

        Args:
            local: the gateway's own memory.

        Returns:
            What to ask in its place.
        """
        return SharedNonces(
            self._client, self._config, local=local, on_failure=lambda: self._failed("nonces")
        )

    def share_owners(self, local: Owners) -> SharedOwners:
        """Make answers known to all gateways.

        Args:
            local: the gateway's own.

        Returns:
            What to ask in its place.
        """
        return SharedOwners(
            self._client,
            self._config,
            seal=self._seal,
            local=local,
            on_failure=lambda: self._failed("owners"),
        )

    async def settle(self, decision: Decision, now: float) -> Decision:
        """Have Redis confirm the tokens that a decision took; see `SharedBuckets.settle`.

        Args:
            decision: of the gateway by itself.
            now: UTC epoch seconds, as it was decided with.

        Returns:
            The decision that counts.
        """
        if self._buckets is None or decision.took is None:
            return decision
        settled = await self._buckets.settle(decision, now)
        if settled.would_have != decision.would_have:
            self._metrics.count("would_have", action=settled.would_have or "")
        return settled

    async def status(self) -> dict[str, Any]:
        """Tell how sharing goes, for people.

        Returns:
            Whether Redis answers, since when verdicts are in step (UTC epoch seconds), who finds
            campaigns, and when each gateway was last heard of.
        """
        known: dict[str, Any] = {"reachable": False, "in_step_at": self.table.synced_at}
        try:
            with translated("look"):
                async with asyncio.timeout(1.0):
                    holder = await self._client.get(self._config.key("lease"))
                    heard = await self._client.hgetall(self._config.key("gateways"))
        except EnvironmentUnfitError:
            return known
        return known | {
            "reachable": True,
            "asked_at": time.time(),
            "finder": octets(holder).decode().partition(" ")[0] if holder else None,
            "gateways": {octets(k).decode(): float(v) for k, v in heard.items()},
        }

    def _failed(self, what: str) -> None:
        self._metrics.count("shared_failures", what=what)
