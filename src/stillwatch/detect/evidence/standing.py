"""How candidates and accounts stand after a search, named or not."""

from __future__ import annotations

import numpy as np

from stillwatch.detect.confirmation.confirm import Judged
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.evidence.evidence import skeleton_name
from stillwatch.detect.findings import AccountScore, Campaign, Candidate
from stillwatch.detect.members.companions import Companions
from stillwatch.detect.profiles.profile import Profiles


def describe_candidate(
    profiles: Profiles, families: Families, judged: Judged, *, named: bool, fdr: float
) -> Candidate:
    """Write down a group that was looked at.

    Args:
        profiles: the log.
        families: its families of wording.
        judged: the group.
        named: whether it became a campaign.
        fdr: the stated error rate.

    Returns:
        The candidate with its reason.
    """
    reason = judged.reason
    if not named and judged.p_value < 1.0:
        reason += (
            f", but p = {judged.p_value:.2g} is not enough at a false discovery rate of {fdr:g}"
        )
    return Candidate(
        name=skeleton_name(families, judged.block),
        accounts=len(judged.block.accounts),
        exchanges=len(judged.block.rows),
        p_value=judged.p_value,
        ratio=judged.tested.whole.ratio if judged.tested else None,
        revisited=judged.revisited,
        named=named,
        reason=reason,
        example=profiles.digests.excerpt[int(judged.block.rows[0])].as_py(),
    )


def score_accounts(
    profiles: Profiles,
    judged: list[Judged],
    named: list[tuple[Judged, Companions, Campaign]],
) -> tuple[AccountScore, ...]:
    """Give every account a standing.

    Below one half: the largest share of its exchanges that carries a candidate group's wording,
    weighed by how surprising the group is. Above: a member of a named campaign, by the share of
    its exchanges that belong to it.

    Args:
        profiles: the log.
        judged: all candidate groups.
        named: those that became campaigns, with their companions.

    Returns:
        Every account, the most suspicious first.
    """
    n = profiles.n_accounts
    account = profiles.digests.account
    kept = np.maximum(np.bincount(account, minlength=n), 1)
    score, matching = np.zeros(n), np.zeros(n, dtype=np.int64)
    names = [""] * n
    for one in judged:
        mine = np.bincount(account[one.block.rows], minlength=n)
        score = np.maximum(score, 0.5 * (1.0 - one.p_value) * mine / kept)
        matching = np.maximum(matching, mine)
    for one, more, campaign in named:
        rows = np.union1d(one.block.rows, more.rows)
        members = np.union1d(one.block.accounts, more.accounts)
        mine = np.bincount(account[rows], minlength=n)
        score[members] = 0.5 + 0.5 * mine[members] / kept[members]
        matching[members] = mine[members]
        for member in members.tolist():
            names[member] = names[member] or campaign.campaign_id
    ids = profiles.accounts.to_pylist()
    order = np.lexsort((np.arange(n), -score)).tolist()
    totals = profiles.totals
    return tuple(
        AccountScore(
            ids[i],
            float(score[i]),
            names[i],
            int(totals.exchanges[i]),
            int(matching[i]),
            int(totals.output_tokens[i]),
        )
        for i in order
    )
