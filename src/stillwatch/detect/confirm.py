"""Which candidate groups are campaigns: the tests in order, and the error rate over all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.detect.blocks import Block
from stillwatch.detect.calibrate import (
    Asked,
    Neighbourhoods,
    Tested,
    compare_block,
    measure_block,
)
from stillwatch.detect.config import DetectConfig
from stillwatch.detect.interchange import revisited_share, revisits
from stillwatch.stats.multiple import benjamini_hochberg

#: A member with fewer questions in a group is not judged by them.
_LEAST = 5


class Judged(NamedTuple):
    """A candidate group after its tests.

    Attributes:
        block: the group.
        tested: its test of interchangeable members; None when it had none.
        revisited: share of its questions that several members asked.
        p_value: what enters the error rate; 1.0 when it failed, or could not take, a test.
        reason: one clause that says why.
    """

    block: Block
    tested: Tested | None
    revisited: float
    p_value: float
    reason: str


def judge(asked: Asked, block: Block, *, honest: Neighbourhoods, config: DetectConfig) -> Judged:
    """Test one candidate group.

    Args:
        asked: the log.
        block: the group.
        honest: where the null comes from.
        config: limits and sizes.

    Returns:
        The verdict, before the error rate over all groups.
    """
    revisited = revisited_share(asked.account[block.rows], asked.lines.take(block.rows))
    fresh = drop_repeaters(asked, block)
    left = revisited_share(asked.account[fresh.rows], asked.lines.take(fresh.rows))
    if len(fresh.accounts) < config.min_accounts or left > config.most_revisited:
        reason = f"{revisited:.0%} of its questions were asked by several members: no queue"
        return Judged(block, None, revisited, 1.0, reason)
    block, revisited = fresh, left
    tested = compare_block(asked, block.rows, honest=honest, config=config)
    if tested is None:
        reason = "too few questions an account, or too small a reference, to tell"
        return Judged(block, None, revisited, 1.0, reason)
    ratio = float(np.maximum(tested.ratio, tested.whole.ratio))  # NaN stays NaN, and fails
    if not ratio <= config.most_ratio:
        reason = (
            f"its members are themselves: rare words return to the same account "
            f"{ratio:.1f} times as often as chance"
        )
        return Judged(block, tested, revisited, 1.0, reason)
    reason = "its members are interchangeable and ask nothing twice"
    return Judged(block, tested, revisited, tested.p_value, reason)


def drop_repeaters(asked: Asked, block: Block) -> Block:
    """Take out the members of whose questions most were asked by other members too.

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
    again = revisits(account, asked.lines.take(block.rows))
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
        False for groups that are plainly people, or that ask the same questions.
    """
    fresh = drop_repeaters(asked, block)
    if len(fresh.accounts) < config.min_accounts:
        return False
    if revisited_share(asked.account[fresh.rows], asked.lines.take(fresh.rows)) > (
        config.most_revisited
    ):
        return False
    return not measure_block(asked, fresh.rows).ratio > 2.0 * config.most_ratio


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
