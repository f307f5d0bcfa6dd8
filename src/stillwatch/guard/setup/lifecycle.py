"""Reading the files again while questions are served: taken whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from signal import Signals
from typing import Final, NamedTuple

from stillwatch.errors import ConfigError, StillwatchError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.keys import KeyTable
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.state import GuardState

_log = logging.getLogger("stillwatch.guard")
#: What is read at each use, so that a new value holds from the next question on. The rest is built
#: into sockets, files and the learner: it takes a restart.
RELOADABLE: Final = frozenset({
    "ladder", "keys", "limits", "forward_key", "trusted_hops", "challenge",
})  # fmt: skip


class Reloaded(NamedTuple):
    """What came of a reload.

    Attributes:
        taken: the files hold from now on; False means that everything stays as it was.
        changed: the keys of the configuration that changed, sorted.
        reason: why it was refused, or None.
    """

    taken: bool
    changed: tuple[str, ...] = ()
    reason: str | None = None


async def reload(state: GuardState) -> Reloaded:
    """Read configuration, keys and policy again, and decide by them from now on.

    Args:
        state: the running gateway's.

    Returns:
        What came of it. A policy that is refused alone leaves the running one in place and is told
        by `state.policy.refused`, as when its file changes without a reload.
    """
    async with state.reloading:
        try:
            config = await asyncio.to_thread(_read, state)
            changed = _changed(state.config, config)
            hasher = config.secrets.hasher
            keys = await asyncio.to_thread(KeyTable.load, config.keys, hasher)
        except StillwatchError as error:
            return await _refused(state, str(error))
        state.config, state.keys = config, keys
        state.upstream.limits = config.limits
        await state.reload_policy()
        state.metrics.count("reloads", result="taken")
        _log.warning("reloaded; changed: %s", ", ".join(changed) or "no value of the file")
        await state.audit_running("reloaded")
        return Reloaded(taken=True, changed=changed)


def reload_on(number: Signals, state: GuardState, reread: Callable[[], GuardConfig] | None) -> None:
    """Reload whenever a signal comes.

    Args:
        number: the signal.
        state: the running gateway's.
        reread: reads the configuration again, or None.
    """
    state.reread = reread
    running: set[asyncio.Task[Reloaded]] = set()

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(reload(state))
        running.add(task)
        task.add_done_callback(running.discard)

    asyncio.get_running_loop().add_signal_handler(number, begin)


def _read(state: GuardState) -> GuardConfig:
    if state.reread is None:
        return state.config
    # The environment of a process does not change: its secrets stay.
    return replace(state.reread(), secrets=state.config.secrets)


def _changed(old: GuardConfig, new: GuardConfig) -> tuple[str, ...]:
    names = sorted(f.name for f in fields(old) if getattr(old, f.name) != getattr(new, f.name))
    fixed = [name for name in names if name not in RELOADABLE]
    if old.limits.record_queue_bytes != new.limits.record_queue_bytes:
        fixed.append("limits.record_queue_bytes")
    if fixed:
        message = f"reload: {', '.join(fixed)} cannot change while the gateway runs"
        raise ConfigError(message, hint="restart the gateway, or take the change back")
    return tuple(names)


async def _refused(state: GuardState, reason: str) -> Reloaded:
    state.metrics.count("reloads", result="refused")
    _log.error("reload refused, everything stays as it was: %s", reason)
    await state.books.note([AuditEvent("reload-refused", state.clock.now(), {"reason": reason})])
    return Reloaded(taken=False, reason=reason)
