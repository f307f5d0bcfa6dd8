"""`stillwatch distill`: what a copy costs."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec


@click.group("distill")
def command() -> None:
    """Copy a teacher you may copy, and say what the copy costs."""


@command.command("curve")
@click.argument("points", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seed", default=0, show_default=True, help="Of the band's resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print the curves as JSON.")
def curve(*, points: Path, seed: int, as_json: bool) -> None:
    """Fit the copy curve of each capability in POINTS (JSON lines of scored students).

    \b
    stillwatch distill curve siege-out/points.jsonl
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    import numpy as np

    from stillwatch.distill.curve import fit_copy_curve
    from stillwatch.distill.points import read_points

    students, teacher = read_points(points)
    curves = [
        fit_copy_curve(
            [p for p in students if p.capability == name],
            teacher[name],
            rng=np.random.default_rng(seed),
        )
        for name in dict.fromkeys(p.capability for p in students)
    ]
    if as_json:
        rows = [fitted.as_dict() for fitted in curves]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)))
        return
    for fitted in curves:
        form = fitted.fitted.form if fitted.fitted is not None else None
        words = f"form {form}" if form else "no form fitted"
        click.echo(f"{fitted.capability}: teacher {fitted.teacher_share:.3f}, {words}")
        for point in fitted.points:
            share = float(point.correct.mean())
            click.echo(f"  {point.n_questions:>8,} questions, seed {point.seed}: {share:.3f}")
        for reach in fitted.reaches:
            click.echo(f"  {reach.of_teacher:.0%} of the teacher: {reach.sentence}")
        for note in fitted.notes:
            click.echo(f"  note: {note}")
