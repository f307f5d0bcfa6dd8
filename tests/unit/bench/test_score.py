"""Scores against a truth that is known by heart."""

import math

import numpy as np
import pytest

from yardstick.score import (
    COVER,
    HARVEST,
    HONEST,
    Group,
    Truth,
    best_cut,
    bootstrap_mean,
    false_groups,
    main_role,
    score_groups,
)


@pytest.fixture
def truth() -> Truth:
    """Ten accounts, two rows each: campaigns of 0-3 and 4-5, a class of 6-7, people."""
    kind = np.array([HARVEST, HARVEST] * 3 + [HARVEST, COVER] + [HARVEST] * 4 + [HONEST] * 8)
    campaign = np.array([0, 0, 0, 0, 1, 1, -1, -1, -1, -1])
    return Truth(
        role=["campaign"] * 6 + ["classroom"] * 2 + ["person"] * 2,
        group=["a"] * 4 + ["b"] * 2 + ["class"] * 2 + ["", ""],
        campaign=campaign,
        kind=kind,
        row_campaign=np.repeat(campaign, 2),
        live=np.ones(20, dtype=bool),
        tokens=np.arange(20),
    )


def _group(accounts, score=0.0, rows=None) -> Group:
    accounts = np.array(accounts)
    rows = np.concatenate((2 * accounts, 2 * accounts + 1)) if rows is None else np.array(rows)
    return Group(accounts, rows, score)


def test_perfect(truth) -> None:
    """Both campaigns named exactly: every recall 1, nothing false."""
    score = score_groups([_group(range(4), rows=range(7)), _group([4, 5])], truth)
    assert (2, 0, 0) == (score.named, score.false, score.look_alikes)
    assert (1.0, 1.0, 1.0) == (score.account_recall, score.exchange_recall, score.token_recall)
    assert (0.0, 0.0, 0.0) == (score.campaign_fdr, score.account_fdr, score.exchange_fdr)
    assert (1.0, 1.0, 1.0) == (score.purity, score.completeness, score.found)


def test_partly(truth) -> None:
    """Half a campaign with a stranger, and a class: each share is what counting says."""
    score = score_groups([_group([0, 3, 8]), _group([6, 7])], truth)
    assert (2, 1, 1) == (score.named, score.false, score.look_alikes)
    assert 2 / 6 == score.account_recall
    assert 3 / 5 == score.account_fdr
    assert 3 / 11 == score.exchange_recall  # the fourth row of the two is a cover
    assert 7 / 10 == score.exchange_fdr
    assert 6 / 10 == score.honest_share
    assert (0 + 1 + 6) / (0 + 1 + 2 + 3 + 4 + 5 + 6 + 8 + 9 + 10 + 11) == score.token_recall
    assert 2 / 5 == score.purity
    assert 2 / 6 == score.completeness
    assert 1 / 2 == score.found


def test_nothing_named(truth) -> None:
    """Silence has no false share and no recall."""
    score = score_groups([], truth)
    assert (0, 0.0, 0.0, 0.0) == (
        score.named, score.campaign_fdr, score.account_recall, score.exchange_fdr
    )  # fmt: skip
    assert math.isnan(score.purity)


def test_no_campaign(truth) -> None:
    """In an honest world recall has no meaning and every group is false."""
    honest = truth._replace(campaign=np.full(10, -1), kind=np.full(20, HONEST))
    score = score_groups([_group([8, 9])], honest)
    assert (1, 1, 0, 1.0) == (score.named, score.false, score.look_alikes, score.campaign_fdr)
    assert math.isnan(score.account_recall)


def test_half_is_not_false(truth) -> None:
    """A group is false when fewer than half of its accounts work for campaigns."""
    assert [False, True] == false_groups([_group([0, 8]), _group([0, 8, 9])], truth).tolist()
    assert "classroom" == main_role(_group([0, 6, 7]), truth)


def test_best_cut(truth) -> None:
    """The longest prefix that meets the rate is kept, ties stand or fall together."""
    groups = [_group([0, 1], 5), _group([6, 7], 4), _group([4], 3), _group([2], 3), _group([8], 1)]
    kept = best_cut(groups, truth, 0.25)
    assert [5, 4, 3, 3] == [g.score for g in kept]
    assert [5] == [g.score for g in best_cut(groups, truth, 0.1)]
    assert [] == best_cut([_group([8], 9), _group([0], 9)], truth, 0.1)
    assert [] == best_cut([], truth, 0.1)


def test_bootstrap() -> None:
    """The interval holds the mean, NaN is left out, no value gives NaN."""
    rng = np.random.default_rng(0)
    mean, low, high = bootstrap_mean(np.array([0.0, 1.0, np.nan, 1.0, 0.0]), rng=rng)
    assert 0.5 == mean
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert math.isnan(bootstrap_mean(np.array([np.nan]), rng=rng)[0])
