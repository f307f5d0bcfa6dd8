"""A method at every threshold, so that one threshold can be chosen for all worlds at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yardstick.observed import Floats
from yardstick.score import HARVEST, Group, Truth, false_groups

#: Points kept of a curve: beyond, every k-th.
_MOST_POINTS = 100
#: Thresholds tried of one setting.
_MOST_CUTS = 200


class Point(NamedTuple):
    """What a method gives when it names groups down to a score.

    Attributes:
        score: the lowest named.
        named: groups (count).
        false: groups that are false (count).
        recall: harvest exchanges listed, 0..1; 0 where there is no harvest.
        account_fdr: named accounts that work for no campaign, 0..1.
    """

    score: float
    named: float
    false: float
    recall: float
    account_fdr: float


class Choice(NamedTuple):
    """One setting and one threshold for all worlds.

    Attributes:
        setting: of the method.
        cut: groups with at least this score are named.
        fdr: false groups of those named in all worlds together.
    """

    setting: str
    cut: float
    fdr: float


NOTHING = Point(np.inf, 0, 0, 0.0, 0.0)


def trace(groups: Sequence[Group], truth: Truth) -> list[Point]:
    """Name one group after another, the highest score first.

    Args:
        groups: of one setting.
        truth: of the world.

    Returns:
        One point a distinct score, scores falling; a hundred at most.
    """
    ordered = sorted(groups, key=lambda g: -g.score)
    wrong = np.cumsum(false_groups(ordered, truth))
    is_harvest = (truth.kind == HARVEST) & truth.live
    n_harvest, listed = max(int(is_harvest.sum()), 1), np.zeros(len(is_harvest), dtype=bool)
    named = np.zeros(len(truth.campaign), dtype=bool)
    points = []
    for place, group in enumerate(ordered):
        listed[group.rows], named[group.accounts] = True, True
        if place + 1 < len(ordered) and ordered[place + 1].score == group.score:
            continue
        recall = float((listed & is_harvest).sum() / n_harvest)
        strangers = float((truth.campaign[named] < 0).mean())
        points.append(Point(group.score, place + 1, int(wrong[place]), recall, strangers))
    step = -(-len(points) // _MOST_POINTS)
    return points[::step] if step else points


def read_at(points: Sequence[Point], cut: float) -> Point:
    """Read a curve at a threshold.

    Args:
        points: as `trace` gives them.
        cut: lowest score that is named.

    Returns:
        The last point with at least that score; `NOTHING` when there is none.
    """
    kept = [point for point in points if point.score >= cut]
    return kept[-1] if kept else NOTHING


def choose(
    worlds: Sequence[dict[str, list[Point]]], has_harvest: Sequence[bool], fdr: float
) -> Choice | None:
    """Choose the setting and threshold that list most harvest over all worlds together.

    It reads the truth of all worlds, so it is more than a user has, but not a new threshold for
    each world.

    Args:
        worlds: curves by setting, one a world.
        has_harvest: whether a world has a campaign; the others only count false names.
        fdr: share of all named groups that may be false.

    Returns:
        The choice; None when no threshold meets the rate.
    """
    best, best_recall = None, 0.0
    has = np.array(has_harvest, dtype=bool)
    for setting in worlds[0]:
        scores = np.unique([p.score for world in worlds for p in world[setting]])
        cuts = scores[:: -(-len(scores) // _MOST_CUTS) or 1]
        # Shape (n_worlds, n_cuts, 3): named, false, recall.
        read = np.array([_read_all(world[setting], cuts) for world in worlds])
        named, false = read[..., 0].sum(axis=0), read[..., 1].sum(axis=0)
        recall = read[has, :, 2].mean(axis=0) if has.any() else np.zeros(len(cuts))
        recall = np.where((named > 0) & (false <= fdr * named), recall, 0.0)
        place = int(recall.argmax()) if len(cuts) else 0
        if len(cuts) and recall[place] > best_recall:
            share = float(false[place] / named[place])
            best, best_recall = Choice(setting, float(cuts[place]), share), float(recall[place])
    return best


def _read_all(points: Sequence[Point], cuts: Floats) -> Floats:
    """Read named, false and recall at many thresholds; shape (n_cuts, 3)."""
    table = np.array([(0.0, 0.0, 0.0), *((p.named, p.false, p.recall) for p in points)])
    falling = -np.array([p.score for p in points])
    read: Floats = table[np.searchsorted(falling, -cuts, side="right")]
    return read
