"""Whose answer an id names, for answers that another gateway gave out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from stillwatch.errors import EnvironmentUnfitError, RecordError
from stillwatch.guard.routes.owners import Owner, Owners, key_of
from stillwatch.guard.shared.config import SharedConfig
from stillwatch.guard.shared.connect import octets, translated
from stillwatch.guard.shared.seal import Seal

if TYPE_CHECKING:
    import redis.asyncio

_MOST_WAITING: Final = 10_000  # ids on the way to Redis; more are dropped and counted
_AT_ONCE: Final = 500
_PATIENCE_S: Final = 5.0  # for writing: nobody waits for it
_LASTS_S: Final = 31 * 86_400  # as `responses.keep_days` has it


class SharedOwners(Owners):
    """Keeps ids of answers in Redis, beside the gateway's own store.

    Ids are hashed, accounts are as everywhere. An id that the gateway knows itself costs no round
    trip; writing costs no question anything.

    Args:
        client: for the event loop.
        config: names the prefix, and how long a question waits.
        seal: of the gateways.
        local: the gateway's own.
        on_failure: told when Redis did not answer in time.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        config: SharedConfig,
        *,
        seal: Seal,
        local: Owners,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._config, self._seal = client, config, seal
        self._local, self._on_failure = local, on_failure
        self._waiting: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, stored_id: str) -> Owner | None:
        """Look up an id.

        Args:
            stored_id: of an answer or a conversation.

        Returns:
            Its owner; None when no gateway knows, or Redis did not say in time.
        """
        known = await self._local.find(stored_id)
        if known is not None:
            return known
        key = self._key(stored_id)
        raw = self._waiting.get(key)
        if raw is None:
            try:
                with translated("look up an answer's owner"):
                    async with asyncio.timeout(self._config.timeout_s):
                        found = await self._client.get(key)
                raw = None if found is None else octets(found)
            except EnvironmentUnfitError:
                self._on_failure()
        return None if raw is None else self._opened(key, raw)

    def note(self, stored_id: str, owner: Owner) -> None:
        """Remember an id; returns at once, and the first owner of an id stays its owner.

        Args:
            stored_id: of an answer or a conversation.
            owner: who was given it.
        """
        self._local.note(stored_id, owner)
        if len(self._waiting) >= _MOST_WAITING:
            self._on_failure()
            return
        key = self._key(stored_id)
        self._waiting.setdefault(key, self._seal.close(key, msgspec.msgpack.encode(owner)))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write what is not written yet, and stop."""
        if self._task is not None:
            await self._task
        await self._local.close()

    async def _write(self) -> None:
        while self._waiting:
            batch = list(islice(self._waiting.items(), _AT_ONCE))
            try:
                with translated("note an answer's owner"):
                    async with (
                        asyncio.timeout(_PATIENCE_S),
                        self._client.pipeline(transaction=False) as pipe,
                    ):
                        for key, sealed in batch:
                            pipe.set(key, sealed, ex=_LASTS_S, nx=True)
                        await pipe.execute()
            except EnvironmentUnfitError:
                self._on_failure()
            for key, _ in batch:
                del self._waiting[key]

    def _opened(self, key: str, raw: bytes) -> Owner | None:
        try:
            return msgspec.msgpack.decode(self._seal.open(key, raw), type=Owner)
        except (RecordError, msgspec.DecodeError):  # not written by one of these gateways
            self._on_failure()
            return None

    def _key(self, stored_id: str) -> str:
        return self._config.key("owner", key_of(stored_id).hex())
