"""Accounts unlike the reference, in no campaign: worth a look, never called one."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.evidence.lone import AccountSums, score_lone
from stillwatch.detect.findings import Findings, Lone
from stillwatch.detect.profiles.profile import Profiles

#: Honest accounts of so many questions that `score_lone` needs.
_LONE_REFERENCE, _LONE_QUESTIONS = 40, 8


def lone_accounts(
    profiles: Profiles, reference: Profiles, findings: Findings, *, config: DetectConfig
) -> tuple[Lone, ...]:
    """List the accounts, in no campaign and not vouched for, that are unlike the reference.

    Args:
        profiles: the log.
        reference: honest accounts.
        findings: of the log.
        config: the seed.

    Returns:
        Smallest p-value first; none when the reference is too small to tell.
    """
    if np.sum(reference.totals.exchanges >= _LONE_QUESTIONS) < _LONE_REFERENCE:
        return ()
    named = {name for campaign in findings.campaigns for name in campaign.accounts}
    known = pc.is_in(profiles.accounts, value_set=reference.accounts).to_pylist()
    names = profiles.accounts.to_pylist()
    outside = [i for i, name in enumerate(names) if name not in named and not known[i]]
    if not outside:
        return ()
    rng = np.random.default_rng([config.seed, len(outside)])
    scores = score_lone(_sums(profiles, outside), _sums(reference, None), rng=rng)
    unlike = np.flatnonzero(scores.is_unlike)
    totals = profiles.totals
    return tuple(
        Lone(
            account=names[outside[i]],
            p_value=float(scores.p_value[i]),
            exchanges=int(totals.exchanges[outside[i]]),
            output_tokens=int(totals.output_tokens[outside[i]]),
            reason=f"among {int(scores.compared[i])} honest accounts of like volume hardly one has "
            "wording, or forms of question, so unlike the rest",
        )
        for i in unlike[np.argsort(scores.p_value[unlike], kind="stable")].tolist()
    )


def _sums(profiles: Profiles, rows: list[int] | None) -> AccountSums:
    totals = profiles.totals
    kept = slice(None) if rows is None else np.array(rows, dtype=np.int64)
    return AccountSums(totals.kernel[kept], totals.exchanges[kept], totals.flags[kept])
