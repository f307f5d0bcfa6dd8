"""From profiles to campaigns: discovery, confirmation, members, words."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.calibrate import Neighbourhoods
from stillwatch.detect.confirmation.confirm import Judged, judge, might_be_web, reject, unite
from stillwatch.detect.confirmation.principals import Registry, parties_of
from stillwatch.detect.discovery.asked import Asked, draw_honest
from stillwatch.detect.discovery.blocks import Block, find_blocks
from stillwatch.detect.discovery.traits import Families, find_families, spread_of
from stillwatch.detect.evidence.evidence import Background, describe, skeleton_name
from stillwatch.detect.evidence.standing import describe_candidate, score_accounts
from stillwatch.detect.facts import Facts, facts_of
from stillwatch.detect.findings import Campaign, Candidate, Findings
from stillwatch.detect.members.companions import (
    NOBODY,
    Companions,
    Echo,
    Theme,
    drop_strays,
    find_companions,
    measure_echo,
)
from stillwatch.detect.members.kin import find_kin
from stillwatch.detect.members.listing import Listing, known_wording, list_exchanges
from stillwatch.detect.profiles.counting import rows_of
from stillwatch.detect.profiles.levels import at_level
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.stats.evalues import log10_e_from_p

if TYPE_CHECKING:
    from stillwatch.logs.accounts import AccountTable


def find_campaigns(
    profiles: Profiles,
    reference: Profiles | None = None,
    config: DetectConfig | None = None,
    *,
    table: AccountTable | None = None,
    listing: Listing | None = None,
) -> Findings:
    """Find campaigns among profiles.

    Groups are found by rare shared wording, or by marks that strangers do not share, and confirmed
    by something else: their members are interchangeable and no questions go round among them, which
    is not so of honest groups.

    Args:
        profiles: the log.
        reference: profiles of honest accounts, folded with the same configuration; None takes
            the log itself, without the groups under suspicion.
        config: how.
        table: what is known of the accounts beside the log.
        listing: the log's tape, and where every exchange of the campaigns is written down; None
            counts those kept in the profiles.

    Returns:
        Campaigns named at `config.fdr`, every candidate, and every account.
    """
    config = config or DetectConfig()
    profiles, reference = _alike(profiles, reference, config)
    ground = _Ground.of(profiles, reference, table, config=config)
    blocks = ground.blocks(config)
    vetted = ground.vetted(reference, blocks, config=config)
    honest = Neighbourhoods(vetted.asked, vetted.profiles, config)
    judged = [
        judge(ground.log.asked, block, honest=honest, registry=ground.registry, config=config)
        for block in blocks
    ]
    rejected = _settle(judged, (ground.log, vetted), registry=ground.registry, config=config)
    falling = [one for one, falls in zip(judged, rejected, strict=True) if falls]
    named = _named(ground, vetted, falling, reference=reference, config=config)
    findings = Findings(
        campaigns=tuple(campaign for _, _, campaign in named),
        accounts=score_accounts(profiles, judged, named),
        candidates=_candidates(ground, judged, rejected, fdr=config.fdr),
        fdr=config.fdr,
        n_accounts=profiles.n_accounts,
        n_exchanges=profiles.n_exchanges,
        n_anchors=honest.n_anchors,
        reference="the log itself" if reference is None else "given",
    )
    return findings if listing is None else _listed(findings, ground, named, listing=listing)


def _alike(
    profiles: Profiles, reference: Profiles | None, config: DetectConfig
) -> tuple[Profiles, Profiles | None]:
    """Bring log and reference to one level of resolution; an empty reference is none."""
    if reference is None or not reference.n_accounts:
        return profiles, None
    level = max(profiles.level, reference.level)
    return at_level(profiles, level, config.fold), at_level(reference, level, config.fold)


def _candidates(
    ground: _Ground, judged: list[Judged], rejected: list[bool], *, fdr: float
) -> tuple[Candidate, ...]:
    return tuple(
        describe_candidate(ground.log.profiles, ground.families, one, named=falls, fdr=fdr)
        for one, falls in zip(judged, rejected, strict=True)
    )


def _listed(
    findings: Findings,
    ground: _Ground,
    named: list[tuple[Judged, Companions, Campaign]],
    *,
    listing: Listing,
) -> Findings:
    """Write down every exchange of the campaigns."""
    profiles = ground.log.profiles
    blocks = [(campaign.campaign_id, one.block) for one, _, campaign in named]
    known = known_wording(profiles, ground.families, blocks)
    return list_exchanges(findings, known, listing, profiles=profiles)


def _named(
    ground: _Ground,
    vetted: _Side,
    falling: list[Judged],
    *,
    reference: Profiles | None,
    config: DetectConfig,
) -> list[tuple[Judged, Companions, Campaign]]:
    """Make campaigns of the rejected groups, with all that belongs to them."""
    whole = [
        _with_kin(one, ground.log.profiles)
        for one in unite(falling, ground.registry.parties, ground.log.asked.account)
    ]
    joined = [NOBODY] * len(whole)
    if reference is not None:
        joined = _join(ground, vetted, whole, config=config)
    background = Background(
        reference=reference,
        facts=ground.facts,
        registry=ground.registry,
        most_ratio=config.most_ratio,
    )
    return [
        (one, more, _campaign(ground, one, companions=more, background=background))
        for one, more in zip(whole, joined, strict=True)
    ]


class _Ground(NamedTuple):
    """What a search stands on: the log, what is known beside it, and its families of wording."""

    log: _Side
    families: Families
    facts: Facts
    registry: Registry

    @classmethod
    def of(
        cls,
        profiles: Profiles,
        reference: Profiles | None,
        table: AccountTable | None,
        *,
        config: DetectConfig,
    ) -> _Ground:
        facts = facts_of(profiles.accounts, table)
        registry = Registry(profiles, facts)
        known = None
        if reference is not None:
            known = spread_of(reference.digests, n_accounts=reference.n_accounts)
        families = find_families(profiles, registry.parties, known, config=config)
        side = _Side(profiles, Asked(profiles, registry.parties), config.seed)
        return cls(side, families, facts, registry)

    def blocks(self, config: DetectConfig) -> list[Block]:
        """List the groups worth a test: those of one wording, then those of one set of marks."""
        from stillwatch.detect.discovery.cotraits import (
            CotraitConfig,
            find_cogroups,
        )

        profiles, parties = self.log.profiles, self.registry.parties
        blocks = find_blocks(profiles, self.families, parties, config=config)
        cotraits = CotraitConfig(min_accounts=config.min_accounts, seed=config.seed)
        marks = self.registry.marks
        for group in find_cogroups(profiles, self.facts, config=cotraits, marks=marks):
            rows = rows_of(profiles.digests.account, group.accounts)
            n_principals = parties.count(group.accounts)
            if n_principals >= config.min_accounts and len(rows) >= config.min_exchanges:
                none = np.empty(0, dtype=np.int64)
                blocks.append(Block(none, group.accounts, rows, n_principals))
        return blocks

    def vetted(
        self, reference: Profiles | None, blocks: list[Block], *, config: DetectConfig
    ) -> _Side:
        """Give the honest side: the reference, or the log without groups that might be webs.

        Trimming makes the p-values optimistic, but a log that is mostly web would hide it
        otherwise.
        """
        if reference is not None:
            return _Side(reference, Asked(reference, parties_of(reference)), config.seed)
        profiles = self.log.profiles
        bulk = np.ones(profiles.n_accounts, dtype=bool)
        for block in blocks:
            if might_be_web(self.log.asked, block, config):
                bulk[block.accounts] = False
        bulk = draw_honest(bulk, config.seed)
        parties = self.registry.parties
        parties = parties._replace(of_account=parties.of_account[bulk])
        profiles = profiles.select(bulk)
        return _Side(profiles, Asked(profiles, parties), config.seed)


class _Side:
    """One side of a comparison; how much its accounts repeat themselves is seldom asked, and dear.

    Args:
        profiles: who.
        asked: their questions.
        seed: of the draw that echo is measured on.
    """

    def __init__(self, profiles: Profiles, asked: Asked, seed: int) -> None:
        self.profiles, self.asked, self._seed = profiles, asked, seed

    @cached_property
    def echo(self) -> Echo:
        """How much the accounts repeat themselves."""
        rows, n = np.arange(len(self.asked.account)), self.profiles.n_accounts
        return measure_echo(self.asked, rows, n_accounts=n, seed=self._seed)


def _settle(
    judged: list[Judged],
    sides: tuple[_Side, _Side],
    *,
    registry: Registry,
    config: DetectConfig,
) -> list[bool]:
    """Name blocks, and take the strays out of those named, in place."""
    log, vetted = sides
    rejected: list[bool] = reject(judged, config.fdr).tolist()
    for i in np.flatnonzero(rejected).tolist():
        judged[i] = _without_strays(judged[i], log, vetted, registry=registry)
        if judged[i].block.n_principals < config.min_accounts:
            reason = "too few members are left when those who repeat themselves leave"
            judged[i], rejected[i] = judged[i]._replace(reason=reason, p_value=1.0), False
    return rejected


def _without_strays(judged: Judged, log: _Side, vetted: _Side, *, registry: Registry) -> Judged:
    people = vetted.echo.score[vetted.echo.questions > 0]
    limit = float(np.median(people)) if len(people) else np.inf
    block = drop_strays(log.asked, judged.block, n_accounts=log.profiles.n_accounts, limit=limit)
    n_principals = registry.parties.count(block.accounts)
    return judged._replace(block=block._replace(n_principals=n_principals))


def _with_kin(judged: Judged, profiles: Profiles) -> Judged:
    block = judged.block
    kin = find_kin(profiles.digests, block.accounts, block.rows, n_accounts=profiles.n_accounts)
    return judged._replace(block=block._replace(rows=np.union1d(block.rows, kin)))


def _join(
    ground: _Ground, vetted: _Side, named: list[Judged], *, config: DetectConfig
) -> list[Companions]:
    """Add the accounts that work a named queue without sharing its wording."""
    log = ground.log
    outside = np.ones(log.profiles.n_accounts, dtype=bool)
    for one in named:
        outside[one.block.accounts] = False
    words, joined = log.profiles.digests.words, []
    for one in named:
        rows = one.block.rows
        family = ground.families.of_digest[rows]
        theme = Theme(words.take(rows), family, vetted.profiles.digests.words)
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
    ground: _Ground, judged: Judged, *, companions: Companions, background: Background
) -> Campaign:
    profiles, families = ground.log.profiles, ground.families
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
        evidence=describe(
            profiles,
            families,
            judged,
            companions=companions,
            given=background.reference is not None,
            background=background,
        ),
        exchange_ids=tuple(digests.exchange_id.take(pa.array(rows)).to_pylist()),
    )
