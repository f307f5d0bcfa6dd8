"""The copy curves of a run, as data and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatch.distill.asking.teacher import identify
from stillwatch.distill.curves.curve_set import CurveSet, fit_curves
from stillwatch.distill.curves.curve_table import CurveTable
from stillwatch.distill.curves.points import read_scored
from stillwatch.errors import InvalidInputError
from stillwatch.record.disk import replace_json
from stillwatch.report.curve_page import curve_page

if TYPE_CHECKING:
    from stillwatch.distill.run import Run


def draw_curves(run: Run, *, seed: int | None = None) -> CurveSet:
    """Fit the curves of a run and write `curve.json` and `curve.html`.

    Args:
        run: the run.
        seed: of the resamples; the run's own by default.

    Returns:
        The curves.

    Raises:
        InvalidInputError: nothing is scored yet.
    """
    if not run.folder.points.is_file():
        message = f"{run.folder.points}: no student is scored yet"
        raise InvalidInputError(message, hint="run `stillwatch distill score` first")
    used = run.settings.seed if seed is None else seed
    found = fit_curves(read_scored(run.folder.points), run.settings.curve, seed=used)
    replace_json(run.folder.curve_json, found.as_dict())
    meta = {
        "name": run.settings.name,
        "teacher": identify(run.settings.teacher).model,
        "student": run.settings.train.student.folder or "a small model from nothing",
        "basis": run.settings.permission.basis if run.settings.permission else "",
    }
    write_page(run.folder.curve_page, found, meta)
    return found


def curves_of_points(path: Path, *, seed: int) -> CurveSet:
    """Fit the curves of a file of scored students.

    Args:
        path: JSON lines, as `stillwatch distill score` and `siege` write them.
        seed: of the resamples.

    Returns:
        The curves.

    Raises:
        InvalidInputError: a line is not a scored student.
    """
    return fit_curves(read_scored(path), CurveTable(), seed=seed)


def write_page(path: Path, curves: CurveSet, meta: Mapping[str, str]) -> None:
    """Write the page of curves.

    Args:
        path: the HTML file.
        curves: what it shows.
        meta: what it is called: `name`, `teacher`, `student`, `basis`.
    """
    path.write_text(curve_page(curves.as_dict(), meta), "utf-8")
