"""Honest p-values: the same statistic on groups formed alike around honest accounts.

For every anchor among honest accounts, the accounts whose wording is nearest to its own are taken
as its group, as a block would be; group and block are compared at the same number of accounts and
of questions an account. Within the range of the groups the p-value is conformal: the rank of the
block among them. Beyond it, a rank only says 1 / (groups + 1), whatever the distance; there the
tail of the groups' log scores is taken to be no heavier than exponential (see `tail_p_value`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.interchange import (
    RARE_SHARE,
    Ownership,
    WordUse,
    measure_ownership,
    revisited_share,
)
from stillwatch.detect.discovery.asked import Asked, draw_honest
from stillwatch.detect.profiles.counting import distinct, shared_values
from stillwatch.detect.profiles.profile import Floats, Ints, Profiles
from stillwatch.stats.pvalues import conformal_p

#: A block's score is the median over draws of questions times subsets of members; a null group
#: needs one of each. A median of many is no more extreme than one, so this errs towards silence.
_DRAWS, _SUBSETS = 3, 5
#: Groups are only drawn from at least so many times their size.
_CROWD = 4
#: Neighbours of an anchor that make its group, in multiples of the compared size.
_REACH = 2
#: A block whose words pass as personal so much more easily than those of null groups is compared
#: with groups of its own size: without that, 14 % of honest groups of 12 had p <= 0.05.
_LOOSE = 1.1
#: Below this many expected pairs there is nothing to divide by.
_LEAST_EXPECTED = 0.05
#: The lowest fifth of the null carries its tail; with fewer groups than this only ranks count.
_TAIL_SHARE, _TAIL_LEAST = 0.2, 50
#: Members that a block is judged by: a sample of this size decides as well as all.
_MOST_MEMBERS = 2_000
#: Null groups have at most so many accounts altogether, and at least so many groups are drawn.
_LEAST_GROUPS, _MOST_SEATS = 150, 16_000
#: Questions an account at which groups may be compared; few steps, so that nulls are shared.
_QUESTIONS = (2, 3, 4, 6, 9, 12)


class Scale(NamedTuple):
    """At what size groups are compared.

    Attributes:
        accounts: accounts in a group.
        questions: questions of an account at most.
        tight: whether groups have no more accounts than are compared. Which words are personal is
            told inside a group, in steps of a whole account, and small groups tell it loosely.
    """

    accounts: int
    questions: int
    tight: bool = False


class Tested(NamedTuple):
    """A block against its null.

    Attributes:
        p_value: one-sided: low = more interchangeable than honest groups are.
        rank_p_value: the same without any assumption on the tail, never below 1 / (groups + 1).
        ratio: the block's ownership ratio at the compared size, 1 = interchangeable.
        upper: its upper bound, which is what is ranked.
        null: the honest groups' upper bounds, shape (n_groups,), sorted.
        scale: the compared size.
        whole: the ownership ratio of all members and all questions of the block.
    """

    p_value: float
    rank_p_value: float
    ratio: float
    upper: float
    null: Floats
    scale: Scale
    whole: Ownership


class Neighbourhoods:
    """Honest accounts, each with those whose wording is nearest: where null groups come from.

    Args:
        asked: questions of honest accounts.
        honest: their profiles.
        config: number of null groups, seed.
    """

    def __init__(self, asked: Asked, honest: Profiles, config: DetectConfig) -> None:
        self._config = config
        drawn = draw_honest(np.ones(honest.n_accounts, dtype=bool), config.seed)
        if not drawn.all():
            asked, honest = asked.take(drawn[asked.account]), honest.select(drawn)
        self.asked = asked
        counts = np.bincount(honest.digests.account, minlength=honest.n_accounts)
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        self._usable = np.flatnonzero(counts >= 2)
        self._wording = _account_wording(honest)[self._usable]
        self._nulls: dict[Scale, Floats] = {}

    @property
    def n_anchors(self) -> int:
        """Honest accounts with enough questions to stand in a group."""
        return len(self._usable)

    def null(self, scale: Scale) -> Floats:
        """Score the honest groups at a scale.

        Args:
            scale: accounts and questions.

        Returns:
            Upper bounds of the ownership ratio, sorted, one a group that asks distinct questions;
            none when the reference is too small.
        """
        if scale not in self._nulls:
            self._nulls[scale] = self._score(scale)
        return self._nulls[scale]

    def groups(self, n_accounts: int) -> list[Ints]:
        """Gather, around each anchor, the accounts whose wording is nearest to its own.

        Args:
            n_accounts: size of the groups wanted.

        Returns:
            The digests of each group, one array an anchor; none when the reference is too small.
        """
        n = len(self._usable)
        if n < n_accounts:
            return []
        rng = np.random.default_rng([self._config.seed, n_accounts])
        # Large groups overlap: many of them would say nothing new.
        enough = max(_LEAST_GROUPS, _MOST_SEATS // n_accounts)
        anchors = np.sort(rng.permutation(n)[: min(self._config.null_groups, enough)])
        likeness = (self._wording[anchors] @ self._wording.T).toarray()
        likeness += rng.random(likeness.shape) * 1e-9
        likeness[np.arange(len(anchors)), anchors] = np.inf
        near = np.argpartition(-likeness, n_accounts - 1, axis=1)[:, :n_accounts]
        return [
            np.concatenate([
                np.arange(self._starts[a], self._starts[a + 1]) for a in self._usable[group]
            ])
            for group in near
        ]

    def _score(self, scale: Scale) -> Floats:
        rng = np.random.default_rng([self._config.seed, scale.accounts, scale.questions])
        scores = []
        for group in self.groups(scale.accounts * (1 if scale.tight else _REACH)):
            rows, number = self.asked.draw(group, scale.questions, rng)
            lines = self.asked.lines.take(rows)
            if revisited_share(number, lines) <= self._config.most_revisited:
                use = self.asked.use(rows, number)
                scores.append(_score(use, scale, rng)[1])
        return np.sort([score for score in scores if np.isfinite(score)])


def compare_block(
    asked: Asked,
    rows: Ints,
    *,
    whole: Ints | None = None,
    honest: Neighbourhoods,
    config: DetectConfig,
) -> Tested | None:
    """Test whether the askers of some questions are more interchangeable than honest groups.

    Args:
        asked: the log.
        rows: digests of the block that it is judged by.
        whole: all digests of the block, as many as `rows` when None.
        honest: where the null comes from.
        config: sizes and seed.

    Returns:
        The test, or None when the block or the reference is too small for one.
    """
    rows = _sampled(asked, rows, config)
    members, counts = np.unique(asked.party[rows], return_counts=True)
    busy, counts = members[counts >= 2], counts[counts >= 2]
    if len(busy) < config.min_accounts:
        return None
    scale = _scale(counts, honest.n_anchors, config=config)
    null = honest.null(scale)
    if not len(null):
        return None
    rows = rows[np.isin(asked.party[rows], busy)]
    found = _block_scores(asked, rows, scale, seed=config.seed)
    if np.isfinite(found[:, 1]).mean() < 0.5:
        return None
    ratio, upper = np.nanmedian(found, axis=0)
    return Tested(
        p_value=tail_p_value(float(upper), null, honest.n_anchors / scale.accounts),
        rank_p_value=float(conformal_p([-upper], -null)[0]),
        ratio=float(ratio),
        upper=float(upper),
        null=null,
        scale=scale,
        whole=measure_block(asked, _sampled(asked, rows if whole is None else whole, config)),
    )


def _sampled(asked: Asked, rows: Ints, config: DetectConfig) -> Ints:
    return asked.sample(rows, _MOST_MEMBERS, config.seed)


def _scale(counts: Ints, n_anchors: int, *, config: DetectConfig) -> Scale:
    """Choose the largest size at which both a block and honest groups can be drawn."""
    typical = max(float(np.median(counts)), 2.0)
    sizes = [g for g in config.null_sizes if g <= len(counts) and n_anchors >= _CROWD * g]
    questions = max(q for q in _QUESTIONS if q <= typical)
    accounts = max([config.min_accounts, *sizes])
    tight = _personal_share(len(counts)) > _LOOSE * _personal_share(_REACH * accounts)
    return Scale(accounts, questions, tight=tight)


def _personal_share(n_accounts: int) -> float:
    """Say which share of a group's accounts a word may have, in whole accounts, to be personal."""
    return int(max(2.0, RARE_SHARE * n_accounts)) / n_accounts


def measure_block(asked: Asked, rows: Ints) -> Ownership:
    """Measure ownership over all members and all questions of a block.

    Args:
        asked: the log.
        rows: digests of the block.

    Returns:
        The ratio, which has no null of its own size and only serves as a limit.
    """
    rows = rows[asked.is_new[rows]]
    number = np.unique(asked.party[rows], return_inverse=True)[1]
    use = asked.use(rows, number)
    return measure_ownership(use, use.everybody)


def tail_p_value(upper: float, null: Floats, n_apart: float) -> float:
    """Rank a score among honest ones, and measure how far beyond the lowest of them it lies.

    Args:
        upper: the block's upper bound of the ownership ratio.
        null: those of honest groups, sorted, shape (n,), n >= 1.
        n_apart: groups that share no account: what the overlapping ones are worth.

    Returns:
        P(an honest group scores as low). The conformal rank among the groups; below the lowest
        fifth of them (and with 50 groups or more) the predictive tail of an exponential:
        (k + 1) / (n + 1) * (1 + d / (b m)) ** -m, with k scores under the threshold, b the mean
        of their distances to it and d the block's, in log ratios, and m = max(2, n_apart / 5)
        scores that b may be believed to rest on. A ratio under 1 counts as 1: more than
        interchangeable does not exist.
    Source: tail of a permutation null as in Knijnenburg et al. 2009, with the exponential member
        of the generalised Pareto family and its predictive distribution instead of a plug-in fit,
        which keeps small samples honest.
    Example:
        >>> tail_p_value(5.0, np.arange(1.0, 10.0), n_apart=9.0)
        0.6
    """
    rank = float(conformal_p([-upper], -null)[0])
    scores = np.log(np.maximum(null, 1.0))
    score = float(np.log(max(upper, 1.0)))
    k = int(np.ceil(_TAIL_SHARE * len(scores)))
    threshold = float(scores[min(k, len(scores) - 1)])
    spread = float(np.mean(threshold - scores[:k]))
    if len(scores) < _TAIL_LEAST or score >= threshold or spread <= 0.0:
        return rank
    believed = max(2.0, _TAIL_SHARE * n_apart)
    beyond = float((1.0 + (threshold - score) / (spread * believed)) ** -believed)
    return min(rank, (k + 1.0) / (len(scores) + 1.0) * beyond)


def _block_scores(asked: Asked, rows: Ints, scale: Scale, *, seed: int) -> Floats:
    """Score parts of a block: ratio and upper bound, a row for each part."""
    rng = np.random.default_rng([seed, len(rows)])
    scores = []
    for _ in range(_DRAWS):
        drawn, number = asked.draw(rows, scale.questions, rng)
        use = None if scale.tight else asked.use(drawn, number)
        for _ in range(_SUBSETS):
            part = _cut_down(asked, drawn, number, scale=scale, rng=rng) if use is None else use
            scores.append(_score(part, scale, rng))
    return np.array(scores)


def _cut_down(
    asked: Asked, rows: Ints, number: Ints, *, scale: Scale, rng: np.random.Generator
) -> WordUse:
    """Tabulate a small block as if it had no more accounts than are compared."""
    kept = np.isin(number, rng.permutation(int(number.max(initial=0)) + 1)[: scale.accounts])
    return asked.use(rows[kept], np.unique(number[kept], return_inverse=True)[1])


def _score(use: WordUse, scale: Scale, rng: np.random.Generator) -> tuple[float, float]:
    members = ~use.everybody
    members[rng.permutation(len(members))[: scale.accounts]] = True
    found = measure_ownership(use, members)
    if found.expected < _LEAST_EXPECTED:
        return (np.nan, np.nan)
    return found.ratio, found.upper


def _account_wording(profiles: Profiles) -> sparse.csr_matrix:
    """Give each account its shingles, weighted by rarity, rows of length 1."""
    digests = profiles.digests
    places = shared_values(digests.shingles, digests.account, least=2)
    rows = np.searchsorted(digests.shingles.offsets, places, side="right") - 1
    values, column = np.unique(digests.shingles.values[places], return_inverse=True)
    width = np.int64(len(values) + 1)
    code = distinct(digests.account[rows] * width + column)
    row, column = code // width, code % width
    users = np.bincount(column, minlength=len(values))
    weight = np.log(max(profiles.n_accounts, 1) / np.maximum(users, 1))
    shared = users[column] > 1
    row, column = row[shared], column[shared]
    length = np.sqrt(np.bincount(row, weight[column] ** 2, minlength=profiles.n_accounts))
    return sparse.csr_matrix(
        (weight[column] / np.maximum(length[row], 1e-12), (row, column)),
        shape=(profiles.n_accounts, len(values)),
    )
