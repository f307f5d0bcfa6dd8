"""All copy curves of a run: each capability, their mean, what lies outside, and the treadmill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillwatch.distill.curves.curve import CopyCurve, CurvePoint, fit_items, pool_capabilities
from stillwatch.distill.curves.curve_draws import Items
from stillwatch.distill.curves.curve_table import CurveTable
from stillwatch.distill.curves.points import ScoredStudents
from stillwatch.distill.curves.treadmill import Lead, lead_of

#: Name of the curve over the mean of all capabilities.
MACRO = "mean of capabilities"


@dataclass(frozen=True)
class CurveSet:
    """The curves of one run.

    Attributes:
        table: the settings that they were fitted by.
        seed: of the resamples.
        curves: one for each capability.
        macro: the mean over capabilities, each counting the same; None with only one of them, or
            with no student that was scored on all.
        outside: curves over items out of distribution, by capability.
        leads: the treadmill, for the macro curve or the only one; empty when none was asked for.
    """

    table: CurveTable
    seed: int
    curves: tuple[CopyCurve, ...]
    macro: CopyCurve | None
    outside: tuple[CopyCurve, ...]
    leads: tuple[Lead, ...]

    @property
    def main(self) -> CopyCurve:
        """The curve that stands for the run: the macro curve, or the only one."""
        return self.macro or (self.curves or self.outside)[0]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain JSON data: what `curve.json` holds."""
        return {
            "seed": self.seed,
            "draws": self.table.draws,
            "shares": list(self.table.shares),
            "macro": None if self.macro is None else self.macro.as_dict(),
            "curves": [curve.as_dict() for curve in self.curves],
            "outside": [curve.as_dict() for curve in self.outside],
            "treadmill": [lead.as_dict() for lead in self.leads],
        }


def fit_curves(scored: ScoredStudents, table: CurveTable, *, seed: int = 0) -> CurveSet:
    """Fit every curve of a run.

    Args:
        scored: students and teachers, as `points.read_scored` reads them.
        table: the settings.
        seed: of the resamples.

    Returns:
        The curves.

    Raises:
        InvalidInputError: a capability has no student.
    """
    inside: list[CopyCurve] = []
    outside: list[CopyCurve] = []
    for number, (held_out, points) in enumerate(zip(scored.held_out, scored.students, strict=True)):
        items = Items.of(held_out.teacher_correct, clusters=held_out.clusters)
        curve = _fit(points, items, table, seed=(seed, number))
        (outside if held_out.out_of_distribution else inside).append(curve)
    macro = _macro(scored, table, seed=seed)
    made = CurveSet(table, seed, tuple(inside), macro, tuple(outside), ())
    if table.treadmill is None:
        return made
    leads = tuple(
        lead_of(made.main, table.treadmill, per_day=per_day, shares=table.shares)
        for per_day in table.treadmill.per_day
    )
    return CurveSet(table, seed, made.curves, macro, made.outside, leads)


def _macro(scored: ScoredStudents, table: CurveTable, *, seed: int) -> CopyCurve | None:
    """Fit the mean over capabilities, item by item, so that students stay paired."""
    parts = [
        (held_out, points)
        for held_out, points in zip(scored.held_out, scored.students, strict=True)
        if not held_out.out_of_distribution
    ]
    if len(parts) < 2:
        return None
    teachers = {held_out.capability: held_out.teacher_correct for held_out, _ in parts}
    pooled, teacher = pool_capabilities((p for _, own in parts for p in own), teachers, MACRO)
    if not pooled:
        return None
    sizes = [held_out.teacher_correct.size for held_out, _ in parts]
    items = Items.of(
        teacher,
        clusters=np.concatenate([held_out.clusters for held_out, _ in parts]),
        strata=np.repeat(np.arange(len(parts)), sizes),
    )
    # What was spent is told for the whole record, but how much of it was one skill's is not.
    whole = [p._replace(spent=p.spent._replace(n_own=None)) for p in pooled]
    return _fit(whole, items, table, seed=(seed, len(scored.held_out)))


def _fit(
    points: Sequence[CurvePoint], items: Items, table: CurveTable, *, seed: tuple[int, int]
) -> CopyCurve:
    rng = np.random.default_rng(seed)
    return fit_items(points, items, rng=rng, draws=table.draws, shares=table.shares)
