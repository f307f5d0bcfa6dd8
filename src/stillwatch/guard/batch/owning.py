"""Whose files and batches are: known here for as long as they are, and shared between gateways."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stillwatch.guard.batch.copies import Copy
from stillwatch.guard.keys import Principal
from stillwatch.guard.routes.owners import Owner

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState


async def owner_of(state: GuardState, object_id: str) -> str | None:
    """Tell whose a file, an upload or a batch is.

    Args:
        state: shared.
        object_id: its id.

    Returns:
        The account, "" for a file of the gateway's own, None when it is not known.

    Raises:
        RecordError: it cannot be known now; whoever asks must refuse.
    """
    desk = state.batches
    account = await desk.run(desk.ids.account_of, object_id)
    if account is not None:
        return account
    # Made at another gateway of ours, perhaps.
    owner = await state.owners.find(object_id)
    return owner.account if owner is not None else None


async def foreign(state: GuardState, account: str, object_ids: Iterable[str]) -> frozenset[str]:
    """Tell which ids an account must not see.

    Args:
        state: shared.
        account: whose request it is.
        object_ids: any number.

    Returns:
        The ids of others, and, where `batches.unknown` is "refuse", those of nobody known.

    Raises:
        RecordError: as for `owner_of`.
    """
    passes = state.config.batches.unknown == "pass"
    found = {one: await owner_of(state, one) for one in dict.fromkeys(object_ids)}
    return frozenset(
        one for one, owner in found.items() if owner != account and not (owner is None and passes)
    )


async def note_owner(
    state: GuardState,
    object_id: str,
    principal: Principal,
    *,
    now: float,
    copy: Copy | None = None,
    batch: str | None = None,
) -> None:
    """Remember whose a file, an upload or a batch is; the first word counts.

    Args:
        state: shared.
        object_id: its id.
        principal: who got it.
        now: UTC epoch seconds.
        copy: of its content, or None.
        batch: whose results it holds, or None.
    """
    desk = state.batches
    number = copy.number if copy is not None else None
    await desk.run(desk.ids.note, object_id, principal.account, now=now, copy=number, batch=batch)
    state.owners.note(object_id, Owner(principal.account, principal.org, object_id))
