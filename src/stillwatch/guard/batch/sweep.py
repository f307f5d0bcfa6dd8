"""Records what was asked and never given out, once nothing more will come of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from stillwatch.errors import StillwatchError
from stillwatch.guard.batch.given import asked_of, questions
from stillwatch.guard.batch.ledger import Known

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

_AT_ONCE: Final = 64
NOT_GIVEN: Final = "not_given_out"
#: What the record says of a row without an answer, by how its batch ended.
_CODES: Final = {
    "failed": "batch_failed",
    "expired": "batch_expired",
    "cancelled": "batch_cancelled",
}
_log = logging.getLogger("stillwatch.guard")


async def sweep_always(state: GuardState) -> None:
    """Sweep from time to time, for as long as the gateway serves.

    Args:
        state: shared.
    """
    while True:
        await asyncio.sleep(state.config.batches.sweep_s)
        try:
            await sweep(state)
        except (StillwatchError, OSError) as error:
            _log.error("batches cannot be swept, serving on: %s", error)


async def sweep(state: GuardState) -> int:
    """Sweep once: close batches of which nothing more will come, and remove what they needed.

    Args:
        state: shared.

    Returns:
        Questions recorded that were never answered (count).

    Raises:
        RecordError: the table of batches failed.
    """
    desk, now, keep_s = state.batches, state.clock.now(), state.config.batches.keep_s
    n_recorded = 0
    for batch_id in await desk.run(desk.ledger.due, now - keep_s):
        known = await desk.run(desk.ledger.find, batch_id)
        if known is None:
            continue
        is_old = known.submission.asked_at < now - keep_s
        if is_old or await desk.run(desk.ids.is_fetched, batch_id):
            n_recorded += await _close(state, known)
    await desk.run(desk.clean, now, keep_s=keep_s)
    return n_recorded


async def _close(state: GuardState, known: Known) -> int:
    desk, batch_id = state.batches, known.batch_id
    code = _CODES.get(known.ended or "", NOT_GIVEN)
    n_recorded = 0
    while places := await desk.run(desk.ledger.rest, batch_id, most=_AT_ONCE):
        keys = [place.key for place in places]
        if any((batch_id, key) in desk.claimed for key in keys):
            return n_recorded  # it is being fetched just now
        asked = await desk.run(questions, desk, known, keys)
        await asyncio.gather(*(
            state.recorder.refused(
                asked_of(state, known, key, wire=wire, parsed=parsed), status=0, code=code
            )
            for key, (wire, parsed) in asked.items()
        ))  # fmt: skip
        n_recorded += len(asked)
        await desk.run(desk.ledger.mark_given, batch_id, keys)
    await desk.run(desk.ledger.close_batch, batch_id)
    return n_recorded
