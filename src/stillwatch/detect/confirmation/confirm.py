"""Which candidate groups are campaigns: the tests in order, and the error rate over all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.calibrate import (
    Neighbourhoods,
    Tested,
    compare_block,
    measure_block,
)
from stillwatch.detect.confirmation.interchange import confirms, revisited_share, revisits
from stillwatch.detect.confirmation.principals import Parties, Registry
from stillwatch.detect.discovery.asked import Asked
from stillwatch.detect.discovery.blocks import Block, drop_open_party, drop_threads
from stillwatch.detect.profiles.profile import Ints
from stillwatch.stats.multiple import benjamini_hochberg

#: A member with fewer questions in a group is not judged by them.
_LEAST = 5
#: Groups whose owners are in the open: there is somebody to ask, and nobody hides.
_OPEN = ("one party", "one institution")


class Judged(NamedTuple):
    """A candidate group after its tests.

    Attributes:
        block: the group.
        tested: its test of interchangeable members; None when it had none.
        revisited: share of its questions that go round among many members.
        p_value: what enters the error rate; 1.0 when it failed, or could not take, a test.
        reason: one clause that says why.
    """

    block: Block
    tested: Tested | None
    revisited: float
    p_value: float
    reason: str


def judge(
    asked: Asked,
    block: Block,
    *,
    honest: Neighbourhoods,
    registry: Registry,
    config: DetectConfig,
) -> Judged:
    """Test one candidate group, where it has enough of them on exchanges that did not find it.

    Args:
        asked: the log.
        block: the group.
        honest: where the null comes from.
        registry: who stands behind the accounts.
        config: limits and sizes.

    Returns:
        The verdict, before the error rate over all groups.
    """
    revisited = _revisited(asked, block)
    owners = registry.describe(block.accounts)
    if owners.kind in _OPEN:
        return Judged(block, None, revisited, 1.0, owners.text.rstrip("."))
    fresh = _queue_like(asked, block, config)
    if fresh is None:
        reason = f"{revisited:.0%} of its questions go round among many members: no queue"
        return Judged(block, None, revisited, 1.0, reason)
    left = _revisited(asked, fresh)
    held_back = fresh.rows[confirms(asked.key[fresh.rows])]
    test = compare_block(asked, held_back, whole=fresh.rows, honest=honest, config=config)
    if test is None:
        # A young web has too few questions to halve; those that found it must do.
        test = compare_block(asked, fresh.rows, honest=honest, config=config)
    if test is None:
        reason = "too few questions an account, or too small a reference, to tell"
        return Judged(fresh, None, left, 1.0, reason)
    p_value = test.p_value if _is_alike(test, config.most_ratio) else 1.0
    return Judged(fresh, test, left, p_value, _reason(test, config.most_ratio))


def _reason(test: Tested, most_ratio: float) -> str:
    if _is_alike(test, most_ratio):
        return "its members are interchangeable, and no questions go round among them"
    if _ratio(test) > most_ratio:
        return (
            f"its members are themselves: rare words return to the same account "
            f"{_ratio(test):.1f} times as often as chance"
        )
    return "too few words come back among its members to tell them from people"


def _is_alike(test: Tested, most_ratio: float) -> bool:
    """Tell whether a group plainly is interchangeable: the whole of it even at its upper bound."""
    return _ratio(test) <= most_ratio and test.whole.upper <= most_ratio


def _ratio(test: Tested) -> float:
    """Give the ratio that may not pass the limit; NaN counts as beyond it."""
    ratio = float(np.maximum(test.ratio, test.whole.ratio))
    return ratio if np.isfinite(ratio) else np.inf


def drop_repeaters(asked: Asked, block: Block) -> Block:
    """Take out the members whose questions mostly go round in the group.

    A busy test suite that happens to share a queue's wording must not hide the web around it; of a
    class, nobody is left.

    Args:
        asked: the log.
        block: the group.

    Returns:
        The group without them.
    """
    account = asked.account[block.rows]
    n_accounts = int(asked.account.max(initial=0)) + 1
    again = revisits(asked.party[block.rows], asked.lines.take(block.rows))
    count = np.bincount(account, minlength=n_accounts)
    repeated = np.bincount(account[again], minlength=n_accounts)
    return block.without((count >= _LEAST) & (repeated > 0.5 * count), asked.account)


def might_be_web(asked: Asked, block: Block, config: DetectConfig) -> bool:
    """Tell whether a group is better left out when the log itself must serve as reference.

    Args:
        asked: the log.
        block: the group.
        config: limits; twice the allowed ratio still counts as doubtful.

    Returns:
        True for groups that might be interchangeable, even at the upper bound, and in which no
        questions go round.
    """
    fresh = _queue_like(asked, block, config)
    return fresh is not None and bool(
        measure_block(asked, fresh.rows).upper <= 2.0 * config.most_ratio
    )


def _queue_like(asked: Asked, block: Block, config: DetectConfig) -> Block | None:
    """Take repeaters out; None when too few are left, or questions still go round among them."""
    fresh = drop_repeaters(asked, block)
    if len(fresh.accounts) < config.min_accounts:
        return None
    return fresh if _revisited(asked, fresh) <= config.most_revisited else None


def _revisited(asked: Asked, block: Block) -> float:
    return revisited_share(asked.party[block.rows], asked.lines.take(block.rows))


def unite(named: list[Judged], parties: Parties, account: Ints) -> list[Judged]:
    """Make one campaign of named groups that consist of the same accounts.

    A queue with many templates may come out as several groups; whoever shares half of the smaller
    group's accounts works the same queue.

    Args:
        named: named groups, in the order of their stakes.
        parties: who stands behind the accounts openly.
        account: account of every digest of the log.

    Returns:
        Groups that share less than half, without those who hang on by a thread; a united one has
        the lowest p-value of its parts, times their number.
    """
    united: list[list[Judged]] = []
    for one in named:
        mine = one.block.accounts
        home = [
            group
            for group in united
            if any(
                2 * len(np.intersect1d(mine, other.block.accounts))
                >= min(len(mine), len(other.block.accounts))
                for other in group
            )
        ]
        merged = [one, *(each for group in home for each in group)]
        united = [group for group in united if not any(group is other for other in home)]
        united.append(sorted(merged, key=lambda each: each.p_value))
    return [_trimmed(_as_one(group, parties), parties, account) for group in united]


def _trimmed(judged: Judged, parties: Parties, account: Ints) -> Judged:
    block = drop_threads(drop_open_party(judged.block, parties, account), account)
    return judged._replace(block=block._replace(n_principals=parties.count(block.accounts)))


def _as_one(group: list[Judged], parties: Parties) -> Judged:
    if len(group) == 1:
        return group[0]
    best = group[0]
    largest = sorted(group, key=lambda each: -len(each.block.rows))
    accounts = np.unique(np.concatenate([each.block.accounts for each in group]))
    rows = np.unique(np.concatenate([each.block.rows for each in group]))
    families = np.concatenate([each.block.families for each in largest])
    block = Block(families, accounts, rows, parties.count(accounts))
    revisited = float(np.average(
        [each.revisited for each in group], weights=[len(each.block.rows) for each in group]
    ))  # fmt: skip
    return best._replace(
        block=block, revisited=revisited, p_value=min(1.0, best.p_value * len(group))
    )


def reject(judged: list[Judged], fdr: float) -> NDArray[np.bool_]:
    """Name groups at a false discovery rate, the error budget shared out by what is at stake.

    Weighted Benjamini-Hochberg: a group's weight is its share of the exchanges of all tested
    groups, which is known before any test is made. No group is named at a p-value above `fdr`.

    Args:
        judged: all candidate groups.
        fdr: share of named groups that may be honest.

    Returns:
        Which are named, shape (n_groups,).
    Source: Genovese, Roeder and Wasserman 2006.
    """
    rejected = np.zeros(len(judged), dtype=bool)
    tested = np.array([i for i, one in enumerate(judged) if one.tested], dtype=np.int64)
    if len(tested):
        stake = np.array([len(judged[i].block.rows) for i in tested], dtype=np.float64)
        p_values = np.array([judged[i].p_value for i in tested])
        weighted = np.minimum(p_values * stake.mean() / stake, 1.0)
        rejected[tested] = benjamini_hochberg(weighted, fdr).rejected & (p_values <= fdr)
    return rejected
