"""What the learner tells the gateway; apart from it, so that the gateway loads no detector."""

from __future__ import annotations

import msgspec


class FoundCampaign(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign as it was found, under the name that it keeps.

    Attributes:
        campaign_id: stable over the days.
        accounts: every account that was found.
        new_accounts: those of them without a verdict before.
        p_value: of the finding.
        e_value: of the finding.
        exchanges: of all its accounts (count).
        output_tokens: given out to them (count).
        first_seen: UTC epoch seconds.
        last_seen: UTC epoch seconds.
        evidence: lines for a human.
    """

    campaign_id: str
    accounts: tuple[str, ...]
    new_accounts: tuple[str, ...]
    p_value: float
    e_value: float
    exchanges: int
    output_tokens: int
    first_seen: float
    last_seen: float
    evidence: tuple[str, ...]


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What one learning did.

    Attributes:
        at: the time it speaks for (UTC epoch seconds).
        generation: of the verdict table afterwards.
        n_folded: exchanges folded by this learning (count), without those that the wall refused.
        campaigns: everything found, known before or not.
    """

    at: float
    generation: int
    n_folded: int
    campaigns: tuple[FoundCampaign, ...]
