"""What the learner tells the gateway; apart from it, so that the gateway loads no detector."""

from __future__ import annotations

from typing import Literal

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
        role: alone, holder (finds campaigns for all gateways that share) or follower (puts its
            profiles up and leaves finding to the holder).
        seconds: that this learning took.
        lag_s: seconds from the end of the answer that waited longest to the end of this learning;
            None without any, and in a simulation.
        n_waiting: exchanges that were read and began after `at` (count).
        n_accounts: profiles that were compared (count).
        others: other gateways whose profiles were put together (count).
        n_vetted_out: accounts of webs that the reference itself held, left out of it (count).
    """

    at: float
    generation: int
    n_folded: int
    campaigns: tuple[FoundCampaign, ...]
    role: Literal["alone", "holder", "follower"] = "alone"
    seconds: float = 0.0
    lag_s: float | None = None
    n_waiting: int = 0
    n_accounts: int = 0
    others: int = 0
    n_vetted_out: int = 0
