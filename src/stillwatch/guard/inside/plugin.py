"""What the LiteLLM plug-in does, apart from LiteLLM's own classes.

A fault of ours is never a fault of the service: what fails here is logged, once until it works
again, and the call goes on, unless the operator wants it refused (`fail_closed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stillwatch.errors import EnvironmentUnfitError, StillwatchError
from stillwatch.guard.config import GuardConfig, Secrets, load_config
from stillwatch.guard.inside.awaiting import Awaiting
from stillwatch.guard.inside.decide import Inside
from stillwatch.guard.inside.litellm_call import (
    Calls,
    answered_of,
    failed_of,
    stamped,
    take_over,
    wire_of_call,
)
from stillwatch.guard.routes.replies import Refusal
from stillwatch.guard.wall.strip import stripped
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.privacy import KeyedHash

_log = logging.getLogger("stillwatch.guard")
_MOST: Final = 64  # workers of one LiteLLM
_AGAIN_S: Final = 10.0  # between two tries to open
UNAVAILABLE: Final = Refusal(503, "The gateway cannot decide on this request.", "guard_unavailable")


class Plugin:
    """The wall inside a LiteLLM proxy; opens with its first call and closes with its event loop.

    Args:
        path: the configuration file.

    Raises:
        ConfigError: the file or the environment breaks a rule; LiteLLM does not start then.
    """

    def __init__(self, path: Path) -> None:
        self.config: GuardConfig = load_config(path, secrets=Secrets.from_env())
        self._calls = Calls(
            ReadOptions(KeyedHash(self.config.secrets.hash_key)),
            whose=self.config.inside.account,
            trusted_hops=self.config.trusted_hops,
        )
        self._opening: asyncio.Future[Inside] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._awaiting: Awaiting | None = None
        self._is_failing = False
        self._tried_at = 0.0
        with contextlib.suppress(RuntimeError):  # no loop yet: the first call opens
            self._open(asyncio.get_running_loop())

    async def before(
        self, data: dict[str, Any], call_type: str, *, fail_open: bool = True
    ) -> Refusal | None:
        """Decide on a call before it is made; a stripped one is changed in place.

        Args:
            data: the call.
            call_type: LiteLLM's word for its kind.
            fail_open: let a call pass that cannot be judged.

        Returns:
            What to reply instead, or None to let it be made.
        """
        try:
            # A caller that is cancelled must not cancel the opening for the others.
            wall = await asyncio.shield(self._open(asyncio.get_running_loop()))
            refusal = await self._judge(wall, data, call_type)
        except Exception as error:
            self._failed("decide", error)
            return None if fail_open else UNAVAILABLE
        self._is_failing = False
        return refusal

    def succeeded(self, payload: object, call_id: object) -> None:
        """Record a call that was answered.

        Args:
            payload: LiteLLM's standard logging payload.
            call_id: LiteLLM's id of the call.
        """
        if self._awaiting is None or not isinstance(call_id, str):
            return
        try:
            if call_id in self._awaiting and isinstance(payload, Mapping):
                self._awaiting.tell(call_id, answered_of(payload))
        except Exception as error:
            self._failed("record", error)

    def failed(self, call_id: object, error: BaseException) -> None:
        """Record a call that failed.

        Args:
            call_id: LiteLLM's id of the call.
            error: what ended it.
        """
        if self._awaiting is not None and isinstance(call_id, str):
            self._awaiting.tell(call_id, failed_of(error))

    async def _judge(self, wall: Inside, data: dict[str, Any], call_type: str) -> Refusal | None:
        wire = wire_of_call(call_type)
        occasion = self._calls.occasion(data, wire)
        if wire is None:
            path = str(stamped(data).get("user_api_key_request_route") or "")
            return wall.refusal_unread(occasion, path=path)
        asked = await wall.ask(occasion)
        refusal = wall.refusal(asked)
        if refusal is not None:
            wall.refused(asked, refusal)
            return refusal
        if "strip" in asked.decision.effects:
            take_over(data, occasion.body, stripped(wire.name, occasion.body))
        call_id = data.get("litellm_call_id")
        assert self._awaiting is not None, "opened"
        self._awaiting.expect(call_id if isinstance(call_id, str) else asked.exchange_id, asked)
        return None

    def _open(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Inside]:
        now, opening = time.monotonic(), self._opening
        if opening is not None and opening.get_loop() is not loop:
            opening = None  # that loop has ended, and the wall with it
        has_failed = opening is not None and opening.done() and opening.exception() is not None
        if opening is None or (has_failed and now - self._tried_at >= _AGAIN_S):
            self._tried_at = now
            self._opening = opening = loop.create_future()
            self._keeper = loop.create_task(self._keep(opening))
        return opening

    async def _keep(self, opening: asyncio.Future[Inside]) -> None:
        """Hold the wall open until the loop ends and cancels every task."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                wall = await stack.enter_async_context(_free_wall(self.config))
                self._awaiting = Awaiting(wall, time.monotonic)
                # Of several workers the first one has the port.
                if self.config.inside.serve_admin and wall.state.config is self.config:
                    # Pages and a server, for those who want them.
                    from stillwatch.guard.inside.admin_server import serving_admin

                    await stack.enter_async_context(serving_admin(wall.state))
                stack.callback(self._awaiting.close)
                opening.set_result(wall)
                await self._awaiting.sweep_forever()
        except StillwatchError as error:
            if not opening.done():
                opening.set_exception(error)
                # Whoever waits takes it from the future; nobody may wait yet.
                opening.exception()
            self._failed("open", error)

    def _failed(self, what: str, error: Exception) -> None:
        if not self._is_failing:
            _log.error("the wall inside LiteLLM cannot %s: %s", what, _words(error))
        self._is_failing = True


@contextlib.asynccontextmanager
async def _free_wall(config: GuardConfig) -> AsyncIterator[Inside]:
    """Open the wall on the state folder or, where workers share through Redis, on a free one."""
    folders = [config.state]
    if config.shared.url is not None:
        folders += [config.state.with_name(f"{config.state.name}-{n}") for n in range(2, _MOST + 1)]
    for folder in folders:
        own = config if folder is config.state else replace(config, state=folder)
        async with contextlib.AsyncExitStack() as stack:
            try:
                wall = await stack.enter_async_context(Inside(own))
            except EnvironmentUnfitError:
                # Another worker has it.
                if folder is folders[-1]:
                    raise
                continue
            yield wall
            return


def _words(error: Exception) -> str:
    """Only our own errors are written to be read; others may quote a question."""
    return str(error) if isinstance(error, StillwatchError) else type(error).__name__
