"""What people order about a campaign, and which accounts have shown who they are.

An order goes before the ladder's own calendar: a campaign is let alone until a time (lift), held at
one rung until a time (pin), or a rung that waits for a person's word may hold now (approve). All of
it lies beside the verdicts in the same file, so that it travels with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from stillwatch.errors import reject
from stillwatch.guard.wall.ladder import NOBODY, QUIET, Held, Ladder, Rung, RungAction, climb
from stillwatch.guard.wall.table import StateTable, Steps

OrderKind = Literal["lift", "pin", "approve", "false_positive"]
FOREVER: Final = math.inf
_EVERY: Final = "*"


@dataclass(frozen=True, slots=True)
class Order:
    """What a person ordered about a campaign.

    Attributes:
        campaign_id: which.
        kind: lift (nothing is done to it), pin (it is held at one rung), approve (a rung that needs
            approval may hold), false_positive (it was none; its accounts are honest).
        action: the rung that is pinned or approved; "" for the others.
        until: when the order ends (UTC epoch seconds); None for none.
        at: when it was given.
        by: who gave it.
        why: the reason given.
        limit_per_day: for a pin to throttle, questions a day for the whole campaign; None takes the
            ladder's.
    """

    campaign_id: str
    kind: OrderKind
    action: str = ""
    until: float | None = None
    at: float = 0.0
    by: str = ""
    why: str = ""
    limit_per_day: float | None = None

    def __post_init__(self) -> None:
        where = "order"
        if self.kind not in get_args(OrderKind):
            reject(where, "kind", f"one of {', '.join(get_args(OrderKind))}", got=self.kind)
        names = get_args(RungAction) if self.kind in {"pin", "approve"} else ("",)
        if self.action not in names:
            rule = f"one of {', '.join(names)}" if names[0] else f"empty for {self.kind}"
            reject(where, "action", rule, got=self.action)
        if self.limit_per_day is not None and not self.limit_per_day > 0:
            reject(where, "limit_per_day", "above 0", got=self.limit_per_day)

    def holds_at(self, now: float) -> bool:
        """Say whether the order is in force.

        Args:
            now: UTC epoch seconds.

        Returns:
            True until its end.
        """
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Clearance:
    """That an account has shown who it is; answers the challenge until it ends.

    Attributes:
        account: which.
        until: when it has to show it again (UTC epoch seconds).
        at: when it did.
        by: "token", or the admin who said so.
        nonce: of the token; "" without one.
    """

    account: str
    until: float
    at: float = 0.0
    by: str = ""
    nonce: str = ""


def approved_of(orders: tuple[Order, ...], now: float) -> frozenset[str]:
    """List the actions that are approved.

    Args:
        orders: of one campaign.
        now: UTC epoch seconds.

    Returns:
        Actions.
    """
    return frozenset(o.action for o in orders if o.kind == "approve" and o.holds_at(now))


def ruling_order(orders: tuple[Order, ...], now: float) -> Order | None:
    """Find the order that goes before the ladder.

    Args:
        orders: of one campaign.
        now: UTC epoch seconds.

    Returns:
        A lift or else a pin in force, or None.
    """
    held = [o for o in orders if o.kind in {"lift", "pin"} and o.holds_at(now)]
    return min(held, key=lambda o: o.kind == "pin", default=None)


def held_for(
    ladder: Ladder, orders: tuple[Order, ...], model: str, *, age_s: float, now: float
) -> Held:
    """Find what holds for a campaign on one model, orders first.

    Args:
        ladder: what is done to campaigns.
        orders: of the campaign; () for most.
        model: the model asked for.
        age_s: seconds since the campaign's first verdict.
        now: UTC epoch seconds.

    Returns:
        The rung and the quiet effects.
    """
    if not orders:
        return ladder.held(model, age_s)
    order = ruling_order(orders, now)
    if order is None:
        return ladder.held(model, age_s, approved_of(orders, now))
    return Held() if order.kind == "lift" else _pinned(ladder, order, ladder.rungs(model))


def held_anywhere(
    ladder: Ladder, orders: tuple[Order, ...], *, age_s: float, now: float
) -> list[Held]:
    """Find what holds for a campaign rule by rule, orders first.

    Args:
        ladder: what is done to campaigns.
        orders: of the campaign; () for most.
        age_s: seconds since the campaign's first verdict.
        now: UTC epoch seconds.

    Returns:
        What holds, in the order of the rules; a lift leaves nothing, a pin holds on every model.
    """
    order = ruling_order(orders, now)
    if order is None:
        return list(ladder.held_anywhere(age_s, approved_of(orders, now)))
    return [] if order.kind == "lift" else [_pinned(ladder, order, ())]


def _pinned(ladder: Ladder, order: Order, rungs: tuple[Rung, ...]) -> Held:
    """Hold a campaign at one rung, the quiet ones before it included."""
    for index, rung in enumerate(rungs):
        if rung.action == order.action and order.limit_per_day is None:
            return climb(rungs[: index + 1], math.inf, frozenset(r.action for r in rungs))
    rung = _bare(ladder, order)
    return Held(rung, frozenset({rung.action}) if rung.action in QUIET else NOBODY)


def _bare(ladder: Ladder, order: Order) -> Rung:
    every = (rung for rule in ladder.rules for rung in rule.rungs)
    if order.action != "throttle":
        return Rung(cast("RungAction", order.action))
    known = next((rung for rung in every if rung.action == "throttle"), None)
    if order.limit_per_day is not None or known is None:
        # Without any figure the pin must still hold: one question a day is near to nothing.
        return Rung("throttle", limit_per_day=order.limit_per_day or 1.0)
    return known


class OrderTable(StateTable):
    """Orders, clearances, false positives and used tokens, on disk."""

    def order(self, order: Order) -> int:
        """Give an order; a second one of the kind replaces the first.

        Args:
            order: what is ordered; a false positive is given by `false_positive`.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        return self._change(_order_steps(order))

    def withdraw(self, campaign_id: str, kind: OrderKind, action: str = _EVERY) -> int:
        """Take an order back.

        Args:
            campaign_id: which campaign's.
            kind: of the order.
            action: which approval; all unless given.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        return self._change([(
            "DELETE FROM campaign_orders WHERE campaign_id = ? AND kind = ? AND ? IN ('*', action)",
            [(campaign_id, kind, action)],
        )])  # fmt: skip

    def false_positive(self, order: Order) -> int:
        """Say that a campaign was none: its accounts are let go and held to be honest.

        Args:
            order: of kind false_positive; until its end no account of it is named again.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        name = order.campaign_id
        # What never ends is written as an end that nobody lives to see.
        until = order.until if order.until is not None else 1e12
        return self._change([
            *_order_steps(order),
            (
                "INSERT OR REPLACE INTO false_positives "
                "SELECT account, campaign_id, ? FROM members WHERE campaign_id = ?",
                [(order.at, name)],
            ),
            (
                "INSERT OR REPLACE INTO cleared "
                "SELECT account, ? FROM false_positives WHERE campaign_id = ?",
                [(until, name)],
            ),
            ("DELETE FROM members WHERE campaign_id = ?", [(name,)]),
        ])  # fmt: skip

    def not_false_positive(self, campaign_id: str) -> int:
        """Take it back: its accounts may be named again, and are no example of honest ones.

        Args:
            campaign_id: which.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        of_campaign = "(SELECT account FROM false_positives WHERE campaign_id = ?)"
        kind = "false_positive"
        return self._change([
            (f"DELETE FROM cleared WHERE account IN {of_campaign}", [(campaign_id,)]),  # noqa: S608 - our own words
            ("DELETE FROM false_positives WHERE campaign_id = ?", [(campaign_id,)]),
            (
                "DELETE FROM campaign_orders WHERE campaign_id = ? AND kind = ?",
                [(campaign_id, kind)],
            ),
        ])  # fmt: skip

    def false_positives(self) -> frozenset[str]:
        """List the accounts that were named and are held to be honest.

        Returns:
            Accounts.

        Raises:
            RecordError: the file cannot be read.
        """
        return frozenset(
            account for (account,) in self._rows("SELECT account FROM false_positives")
        )

    def verify(self, clearance: Clearance) -> int:
        """Note that an account has shown who it is; forgets clearances that have ended.

        Args:
            clearance: whose, and until when.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        row = (clearance.account, clearance.until, clearance.at, clearance.by, clearance.nonce)
        return self._change([
            ("DELETE FROM clearances WHERE until <= ?", [(clearance.at,)]),
            ("INSERT OR REPLACE INTO clearances VALUES (?, ?, ?, ?, ?)", [row]),
        ])

    def unverify(self, account: str) -> int:
        """Take a clearance back.

        Args:
            account: whose.

        Returns:
            The new generation number.

        Raises:
            RecordError: the file cannot be written.
        """
        return self._change([("DELETE FROM clearances WHERE account = ?", [(account,)])])

    def use_nonce(self, nonce: str, *, until: float, now: float) -> bool:
        """Use a token's number; changes nothing that a gateway decides from, so no generation.

        Args:
            nonce: the number.
            until: when the token ends by itself (UTC epoch seconds); remembered so long.
            now: UTC epoch seconds.

        Returns:
            True the first time, False ever after.

        Raises:
            RecordError: the file cannot be written.
        """
        with self._translated("written"):
            self._db.execute("DELETE FROM nonces WHERE until <= ?", (now,))
            used = self._db.execute("INSERT OR IGNORE INTO nonces VALUES (?, ?)", (nonce, until))
            return used.rowcount == 1

    def _orders(self) -> dict[str, tuple[Order, ...]]:
        found: dict[str, tuple[Order, ...]] = {}
        for row in self._rows("SELECT * FROM campaign_orders ORDER BY campaign_id, kind, action"):
            order = Order(*row)
            found[order.campaign_id] = (*found.get(order.campaign_id, ()), order)
        return found

    def _clearances(self) -> dict[str, Clearance]:
        rows = self._rows("SELECT * FROM clearances ORDER BY account")
        return {row[0]: Clearance(*row) for row in rows}


def _order_steps(order: Order) -> Steps:
    replaced = order.action if order.kind == "approve" else _EVERY
    row = (
        order.campaign_id, order.kind, order.action, order.until, order.at, order.by, order.why,
        order.limit_per_day,
    )  # fmt: skip
    return [
        (
            "DELETE FROM campaign_orders WHERE campaign_id = ? AND kind = ? AND ? IN ('*', action)",
            [(order.campaign_id, order.kind, replaced)],
        ),
        ("INSERT INTO campaign_orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [row]),
    ]
