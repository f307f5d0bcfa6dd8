"""What the admin changes: each change takes effect at once and is a line of the audit log.

The line says who, by which way, and why.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from stillwatch.errors import reject
from stillwatch.guard.admin.gate import Caller
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.ladder import DAY_S
from stillwatch.guard.wall.orders import Clearance, Order, OrderKind
from stillwatch.guard.wall.verdict import VerdictTable

_MOST_WORDS: Final = 500
Doer = Callable[[GuardState, Caller, Any], Awaitable[None]]


class Act(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every change carries.

    Attributes:
        by: who; a login's own name goes before it.
        why: the reason, for the audit log.
    """

    by: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        for name in ("by", "why"):
            length = len(getattr(self, name))
            if length > _MOST_WORDS:
                reject("body", name, f"at most {_MOST_WORDS} characters", got=length)


class Clear(Act, kw_only=True):
    """Lift the verdict on one account, and hold off new ones.

    Attributes:
        account: whose.
        days: for how long.
    """

    account: str
    days: float = 90.0


class Verify(Act, kw_only=True):
    """Say that an account has shown who it is, or take that back.

    Attributes:
        account: whose.
        days: for how long; 0 takes it back.
    """

    account: str
    days: float = 30.0


class CampaignOrder(Act, kw_only=True):
    """Order what is done to a campaign.

    Attributes:
        campaign_id: which.
        order: lift, pin or approve; false_positive.
        action: the rung that is pinned or approved; "" for the others.
        days: how long it holds; None until it is taken back.
        limit_per_day: for a pin to throttle, questions a day for the whole campaign.
    """

    campaign_id: str
    order: OrderKind
    action: str = ""
    days: float | None = None
    limit_per_day: float | None = None


class Withdraw(Act, kw_only=True):
    """Take an order back.

    Attributes:
        campaign_id: which campaign's.
        order: lift, pin, approve or false_positive.
        action: which approval; all when empty.
    """

    campaign_id: str
    order: OrderKind
    action: str = ""


async def clear(state: GuardState, caller: Caller, act: Clear) -> None:
    """Lift the verdict on an account.

    Args:
        state: shared.
        caller: who does it.
        act: which account, for how long.
    """
    now, until = _span(state, act.days)
    await state.change(lambda table: table.clear(act.account, until=until))
    await _note(state, caller, act, kind="cleared", account=act.account, days=act.days, at=now)


async def verify(state: GuardState, caller: Caller, act: Verify) -> None:
    """Note that an account has shown who it is, or that it has not.

    Args:
        state: shared.
        caller: who does it.
        act: which account, for how long.
    """
    if act.days == 0:
        await state.change(lambda table: table.unverify(act.account))
        await _note(state, caller, act, kind="unverified", account=act.account)
        return
    now, until = _span(state, act.days)
    clearance = Clearance(act.account, until, now, caller.by)
    await state.change(lambda table: table.verify(clearance))
    await _note(
        state, caller, act, kind="verified", account=act.account, until=until, at=now
    )  # fmt: skip


async def order(state: GuardState, caller: Caller, act: CampaignOrder) -> None:
    """Give an order about a campaign.

    Args:
        state: shared.
        caller: who gives it.
        act: the order.

    Raises:
        InvalidInputError: there is no such campaign, or the order breaks a rule.
    """
    members = state.board.members().get(act.campaign_id)
    if members is None:
        reject("body", "campaign_id", "a campaign with accounts", got=act.campaign_id)
    now, until = (state.clock.now(), None) if act.days is None else _span(state, act.days)
    given = Order(
        act.campaign_id, act.order, act.action, until, now, caller.by, act.why, act.limit_per_day
    )
    change: Callable[[VerdictTable], object] = (
        (lambda table: table.false_positive(given))
        if act.order == "false_positive"
        else (lambda table: table.order(given))
    )
    await state.change(change)
    more: dict[str, Any] = {"accounts": sorted(members)} if act.order == "false_positive" else {}
    await _note(
        state, caller, act, kind=_KINDS[act.order], campaign_id=act.campaign_id, until=until,
        action=act.action or None, limit_per_day=act.limit_per_day, at=now, **more,
    )  # fmt: skip


async def withdraw(state: GuardState, caller: Caller, act: Withdraw) -> None:
    """Take an order about a campaign back.

    Args:
        state: shared.
        caller: who takes it back.
        act: the order.
    """

    def change(table: VerdictTable) -> object:
        if act.order == "false_positive":
            return table.not_false_positive(act.campaign_id)
        return table.withdraw(act.campaign_id, act.order, act.action or "*")

    await state.change(change)
    await _note(
        state, caller, act, kind="withdrawn", campaign_id=act.campaign_id, order=act.order,
        action=act.action or None,
    )  # fmt: skip


_KINDS: Final[Mapping[OrderKind, str]] = {
    "lift": "lifted",
    "pin": "pinned",
    "approve": "approved",
    "false_positive": "false-positive",
}


def _span(state: GuardState, days: float) -> tuple[float, float]:
    if not (math.isfinite(days) and 0 < days <= 36_500):
        reject("body", "days", "above 0 and at most 36500", got=days)
    now = state.clock.now()
    return now, now + days * DAY_S


async def _note(
    state: GuardState,
    caller: Caller,
    act: Act,
    *,
    kind: str,
    at: float | None = None,
    **detail: Any,
) -> None:
    said = {name: value for name, value in detail.items() if value is not None}
    said |= {"by": caller.by, "via": caller.via, "why": act.why}
    await state.books.note([AuditEvent(kind, state.clock.now() if at is None else at, said)])


#: What a form or a body of each name is read as, and what does it.
ACTS: Final[Mapping[str, tuple[type[Act], Doer]]] = {
    "clear": (Clear, clear),
    "verify": (Verify, verify),
    "campaign": (CampaignOrder, order),
    "campaign/withdraw": (Withdraw, withdraw),
}
