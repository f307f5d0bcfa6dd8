"""The signed orders that a forwarded question carries to one's own model server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillwatch.guard.wall.decide import Decision
from stillwatch.wire.canary_order import CANARY_HEADER, canary_key, sign_canary
from stillwatch.wire.signature import MARK_HEADER, sign_mark

if TYPE_CHECKING:
    from stillwatch.guard.config import Secrets


def signed_orders(
    secrets: Secrets, decision: Decision, body: bytes, *, issued_at: float
) -> dict[str, str]:
    """Write the header lines that order a mark or canaries.

    Args:
        secrets: the gateway's.
        decision: on the question.
        body: the bytes as they are forwarded.
        issued_at: UTC epoch seconds, by the wall clock: the model server checks the age against
            its own, in simulations too.

    Returns:
        Header lines; none when nothing is ordered, or without the secrets that it needs.
    """
    effects, secret, master_key = decision.effects, secrets.mark_secret, secrets.mark_master_key
    if not effects or secret is None or master_key is None:
        return {}
    lines, campaign_id = {}, decision.campaign_id or ""
    if "watermark" in effects:
        lines[MARK_HEADER] = sign_mark(
            secret,
            campaign_id=campaign_id,
            mark_key_id=decision.mark_key_id or "",
            body=body,
            issued_at=issued_at,
        )
    if "canary" in effects:
        lines[CANARY_HEADER] = sign_canary(
            secret,
            campaign_id=campaign_id,
            canary_key_id=canary_key(master_key, campaign_id).key_id,
            body=body,
            issued_at=issued_at,
        )
    return lines
