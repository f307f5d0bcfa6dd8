"""From profiles to campaigns: discovery, confirmation, members, words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.detect.blocks import Block, count_principals, find_blocks
from stillwatch.detect.calibrate import Asked, Neighbourhoods
from stillwatch.detect.companions import (
    NOBODY,
    Companions,
    Echo,
    Theme,
    drop_strays,
    find_companions,
    measure_echo,
)
from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirm import Judged, judge, might_be_web, reject
from stillwatch.detect.evidence import describe, skeleton_name
from stillwatch.detect.findings import Campaign, Findings
from stillwatch.detect.fold import fold
from stillwatch.detect.profile import Profiles
from stillwatch.detect.standing import describe_candidate, score_accounts
from stillwatch.detect.traits import Families, Spread, find_families, spread_of
from stillwatch.stats.evalues import log10_e_from_p


def detect(
    batches: Iterable[pa.RecordBatch],
    *,
    reference: Iterable[pa.RecordBatch] | Profiles | None = None,
    config: DetectConfig | None = None,
) -> Findings:
    """Find campaigns in a log.

    Args:
        batches: rows of the store's schema.
        reference: honest exchanges, or their profiles; None takes the log's own bulk.
        config: how.

    Returns:
        Campaigns, candidates and accounts.

    Raises:
        InvalidInputError: a column that is needed is absent.
    """
    config = config or DetectConfig()
    profiles = fold(batches, config.fold)
    if reference is not None and not isinstance(reference, Profiles):
        reference = fold(reference, config.fold)
    return find_campaigns(profiles, reference, config)


def find_campaigns(
    profiles: Profiles, reference: Profiles | None = None, config: DetectConfig | None = None
) -> Findings:
    """Find campaigns among profiles.

    Groups are found by rare shared wording and confirmed by something else: their members are
    interchangeable and ask nothing twice, which honest groups that share wording do not.

    Args:
        profiles: the log.
        reference: profiles of honest accounts, folded with the same configuration; None takes
            the log itself, without the groups under suspicion.
        config: how.

    Returns:
        Campaigns named at `config.fdr`, every candidate, and every account.
    """
    config = config or DetectConfig()
    given = reference is not None and reference.n_accounts > 0
    families = find_families(profiles, _known_wording(reference), config)
    blocks = find_blocks(profiles, families, config)
    asked = Asked(profiles)
    vetted = (
        reference
        if reference is not None and given
        else _bulk(profiles, asked, blocks, config=config)
    )
    honest = Neighbourhoods(vetted, config)
    judged = [judge(asked, block, honest=honest, config=config) for block in blocks]
    parties = (_Party.of(profiles, asked, config), _Party.of(vetted, honest.asked, config))
    rejected = _settle(judged, *parties, config=config)
    named = [one for one, falls in zip(judged, rejected, strict=True) if falls]
    joined = _join(families, named, parties, config=config) if given else [NOBODY] * len(named)
    campaigns = tuple(
        _campaign(profiles, families, one, companions=more, given=given)
        for one, more in zip(named, joined, strict=True)
    )
    return Findings(
        campaigns=campaigns,
        accounts=score_accounts(profiles, judged, list(zip(named, joined, campaigns, strict=True))),
        candidates=tuple(
            describe_candidate(profiles, one, named=falls, fdr=config.fdr)
            for one, falls in zip(judged, rejected, strict=True)
        ),
        fdr=config.fdr,
        n_accounts=profiles.n_accounts,
        n_exchanges=profiles.n_exchanges,
        n_anchors=honest.n_anchors,
        reference="given" if given else "the log itself",
    )


def _known_wording(reference: Profiles | None) -> Spread | None:
    if reference is None or not reference.n_accounts:
        return None
    shingles, account = reference.digests.shingles, reference.digests.account
    return spread_of(shingles, account, n_accounts=reference.n_accounts)


def _bulk(
    profiles: Profiles, asked: Asked, blocks: list[Block], *, config: DetectConfig
) -> Profiles:
    """Take the log without the groups that might be webs: a trimmed reference.

    Trimming makes the p-values optimistic, but a log that is mostly web would hide it otherwise.
    """
    suspects = np.zeros(profiles.n_accounts, dtype=bool)
    for block in blocks:
        if might_be_web(asked, block, config):
            suspects[block.accounts] = True
    return profiles.select(~suspects)


class _Party(NamedTuple):
    profiles: Profiles
    asked: Asked
    echo: Echo

    @classmethod
    def of(cls, profiles: Profiles, asked: Asked, config: DetectConfig) -> _Party:
        rows, n = np.arange(len(asked.account)), profiles.n_accounts
        echo = measure_echo(asked, rows, n_accounts=n, seed=config.seed)
        return cls(profiles, asked, echo)


def _settle(
    judged: list[Judged], log: _Party, vetted: _Party, *, config: DetectConfig
) -> list[bool]:
    """Name blocks, and take the strays out of those named, in place."""
    rejected: list[bool] = reject(judged, config.fdr).tolist()
    for i in np.flatnonzero(rejected).tolist():
        judged[i] = _without_strays(judged[i], log, vetted)
        if judged[i].block.n_principals < config.min_accounts:
            reason = "too few members are left when those who repeat themselves leave"
            judged[i], rejected[i] = judged[i]._replace(reason=reason, p_value=1.0), False
    return rejected


def _without_strays(judged: Judged, log: _Party, vetted: _Party) -> Judged:
    people = vetted.echo.score[vetted.echo.questions > 0]
    limit = float(np.median(people)) if len(people) else np.inf
    block = drop_strays(log.asked, judged.block, n_accounts=log.profiles.n_accounts, limit=limit)
    n_principals = count_principals(log.profiles.digests, block.rows)
    return judged._replace(block=block._replace(n_principals=n_principals))


def _join(
    families: Families,
    named: list[Judged],
    parties: tuple[_Party, _Party],
    *,
    config: DetectConfig,
) -> list[Companions]:
    """Add the accounts that work a named queue without sharing its wording."""
    log, vetted = parties
    outside = np.ones(log.profiles.n_accounts, dtype=bool)
    for one in named:
        outside[one.block.accounts] = False
    words, joined = log.profiles.digests.words, []
    for one in named:
        rows = one.block.rows
        theme = Theme(words.take(rows), families.of_digest[rows], vetted.profiles.digests.words)
        more = find_companions(
            theme,
            (log.profiles, log.echo),
            (vetted.profiles, vetted.echo),
            outside=outside,
            fdr=config.member_fdr,
        )
        outside[more.accounts] = False
        joined.append(more)
    return joined


def _campaign(
    profiles: Profiles,
    families: Families,
    judged: Judged,
    *,
    companions: Companions,
    given: bool,
) -> Campaign:
    digests, totals = profiles.digests, profiles.totals
    rows = np.union1d(judged.block.rows, companions.rows)
    members = np.union1d(judged.block.accounts, companions.accounts)
    times = digests.started_at[rows]
    return Campaign(
        campaign_id=skeleton_name(families, judged.block),
        accounts=tuple(profiles.accounts.take(pa.array(members)).to_pylist()),
        p_value=judged.p_value,
        e_value=float(10.0 ** log10_e_from_p(judged.p_value)),
        exchanges=int(totals.exchanges[members].sum()),
        output_tokens=int(totals.output_tokens[members].sum()),
        first_seen=float(times.min()),
        last_seen=float(times.max()),
        evidence=describe(profiles, families, judged, companions=companions, given=given),
        exchange_ids=tuple(digests.exchange_id.take(pa.array(rows)).to_pylist()),
    )
