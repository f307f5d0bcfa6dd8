"""Whether a copy curve ends at a wall, and which: questions, compute, or the student itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillwatch.distill.curves.curve_draws import ClusterSums, Items
from stillwatch.distill.curves.curve_fit import Fitted
from stillwatch.distill.curves.curve_point import CurvePoint
from stillwatch.stats.intervals import percentile_interval

Floats = NDArray[np.float64]

# A last step that gains less than this (share), far below the teacher, is a wall.
_FLAT_GAIN = 0.03
_NEAR_TEACHER = 0.9
# A record is learnt when this little is lost on it (nats a token), or hardly more than on the
# record before; a third more says that the same training is spread over more than it can hold.
_LEARNT, _THIRD = 0.05, 1.33
_Z = 1.96

Kind = Literal["questions", "compute", "student", "unknown"]


class Bound(NamedTuple):
    """What a curve is bound by at its largest budget.

    Attributes:
        kind: questions (more of them still help), compute (longer training would help), student
            (neither does), or unknown (too few budgets to say).
        is_shown: whether the points show it; False where it is the likely reading of a curve that
            came to rest, without steps or losses to tell.
        sentence: the same in words with the figures, "" for questions and unknown.
    """

    kind: Kind
    is_shown: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain JSON data."""
        return dict(self._asdict())


def find_bound(points: Sequence[CurvePoint], items: Items, fitted: Fitted | None) -> Bound:
    """Judge what stops a curve.

    A curve has come to rest when, below 9 tenths of the teacher, its last step gained less than 3
    points, or twice the questions would by the fit (the upper ends of their intervals). Why, is
    told by evidence in this order: students of the largest budget that were trained longer; the
    loss on the students' own records; nothing else.

    Args:
        points: students of one capability, probes among them.
        items: the held-out items.
        fitted: the fit, or None.

    Returns:
        The wall, or that more questions still help.
    """
    trained = [p for p in points if p.n_questions > 0 and not p.is_probe]
    budgets = sorted({point.n_questions for point in trained})
    probes = [p for p in points if p.is_probe and budgets and p.n_questions == budgets[-1]]
    last = [p for p in trained if p.n_questions == budgets[-1]] if budgets else []
    if probes:
        told = _by_probe(last, probes, items)
        if told is not None:
            return told
    if len(budgets) < 3:
        return Bound("unknown", False, "")
    before = [p for p in trained if p.n_questions == budgets[-2]]
    gain, half = _gain(last, before, items)
    most = min(gain + half, _gain_of_twice(fitted))
    teacher = float(ClusterSums(items.teacher_correct[None], items).shares()[0])
    now, now_half = _gain(last, (), items)
    if most >= _FLAT_GAIN or now + now_half >= _NEAR_TEACHER * teacher:
        return Bound("questions", True, "")
    step = (
        f"From {budgets[-2]:,} to {budgets[-1]:,} questions the copy gained {100 * gain:.1f} "
        f"points, at {now / teacher:.0%} of the teacher; as many again would give at most "
        f"{100 * max(most, 0.0):.1f}."
    )
    if fitted is not None and fitted.is_untouched and _mean_loss(last) is None:
        # A skill of which nothing shows may never have been asked for.
        return Bound("unknown", False, "")
    return _by_loss(last, before, step)


def _by_probe(
    last: Sequence[CurvePoint], probes: Sequence[CurvePoint], items: Items
) -> Bound | None:
    """Compare students of the largest budget with some that were trained longer."""
    gain, half = _gain(probes, last, items)
    longer = _ratio([p.training.steps for p in probes], [p.training.steps for p in last])
    how = f"{longer:.2g} times the training" if longer else "longer training"
    told = f"At {last[0].n_questions:,} questions {how} gains {100 * gain:.1f} points"
    ends = f"[{100 * (gain - half):.1f}, {100 * (gain + half):.1f}]"
    if gain - half > 0 and gain >= _FLAT_GAIN:
        sentence = f"{told} {ends}: the copy is bound by compute, not by questions."
        return Bound("compute", True, sentence)
    return None


def _by_loss(last: Sequence[CurvePoint], before: Sequence[CurvePoint], step: str) -> Bound:
    """Tell a student that could not learn its record from one that did, and gained nothing."""
    now, then = _mean_loss(last), _mean_loss(before)
    if now is None or then is None:
        likely = (
            f"{step} More questions stopped helping far below the teacher: at this much training "
            "the copy is bound by compute (or by the student's size), not by questions."
        )
        return Bound("compute", False, likely)
    losses = f"its loss on its own record went from {then:.3f} to {now:.3f} nats a token"
    if now > _LEARNT and now > _THIRD * then:
        passes = _ratio([p.training.steps for p in last], [p.training.steps for p in before])
        same = "" if passes is None else f" on {passes:.2g} times the steps"
        same = " on as many steps" if passes and 0.95 < passes < 1.05 else same
        sentence = (
            f"{step} Meanwhile {losses}{same}: the same training is spread over more answers than "
            "it can hold. The copy is bound by compute, not by questions."
        )
        return Bound("compute", True, sentence)
    sentence = (
        f"{step} Yet {losses}: it learnt what it was given. Neither more questions of this kind "
        "nor longer training is what it lacks; its size or the kind of question is."
    )
    return Bound("student", True, sentence)


def _gain_of_twice(fitted: Fitted | None) -> float:
    """Most that twice the questions would gain by the fit (share), inf without a form."""
    if fitted is None or fitted.trial is None or not fitted.trial.held_out:
        return math.inf
    largest = fitted.resamples.budgets[-1]
    shares = fitted.shares_at(np.array([largest, 2 * largest]))
    return percentile_interval((shares[:, 1] - shares[:, 0])[1:]).high


def _gain(
    later: Sequence[CurvePoint], earlier: Sequence[CurvePoint], items: Items
) -> tuple[float, float]:
    """Mean share gained since some (or since none), and half of its 95 % interval.

    Items vary by cluster, students by seed.
    """
    models = np.stack([p.correct.astype(np.float64) for p in (*later, *earlier)])
    sums = ClusterSums(models, items)
    shares = sums.shares()
    split = len(later)
    lost = np.full(len(earlier), -1 / max(len(earlier), 1))
    weights = np.concatenate([np.full(split, 1 / split), lost])
    variance = sums.variance(weights)
    for part in (shares[:split], shares[split:]):
        if part.size > 1:
            variance += float(part.var(ddof=1)) / part.size
    return float(weights @ shares), _Z * float(np.sqrt(variance))


def _mean_loss(points: Sequence[CurvePoint]) -> float | None:
    losses = [p.training.train_loss for p in points if p.training.train_loss is not None]
    return float(np.mean(losses)) if len(losses) == len(points) else None


def _ratio(above: Sequence[int | None], below: Sequence[int | None]) -> float | None:
    known = [value for value in (*above, *below) if value]
    if len(known) < len(above) + len(below):
        return None
    return float(np.mean([v or 0 for v in above]) / np.mean([v or 0 for v in below]))
