"""What `stillwatch distill` prints: plain lines from plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillwatch.distill.asking.ask import AskProgress, AskSummary
    from stillwatch.distill.curves.curve import CopyCurve
    from stillwatch.distill.curves.curve_set import CurveSet
    from stillwatch.distill.filtering.filters import FilterCounts
    from stillwatch.distill.money.budget import Spend
    from stillwatch.distill.money.plan import Range
    from stillwatch.distill.run import Run
    from stillwatch.distill.scores.score_report import ScoreReport
    from stillwatch.distill.stages.run_questions import RunPlan
    from stillwatch.distill.stages.run_training import StudentRecord


def plan_lines(found: RunPlan, run: Run) -> Iterator[str]:
    """Tell a plan.

    Args:
        found: the plan.
        run: whose it is.

    Yields:
        Lines.
    """
    plan, counts = found.plan, found.counts
    yield f"{counts.items:,} questions of {counts.questions:,} read; {found.n_known:,} answered"
    left_out = {
        "equal": counts.duplicates,
        "nearly equal": counts.near_duplicates,
        "in the score set": sum(counts.contaminated.values()),
        "bad rows": counts.bad_rows,
    }
    told = ", ".join(f"{n:,} {name}" for name, n in left_out.items() if n)
    if told:
        yield f"  left out: {told}"
    for name, n in plan.by_capability.items():
        yield f"  {name}: {n:,}"
    yield f"to ask: {plan.questions:,}"
    yield f"  input tokens   {_span(plan.input_tokens)}"
    yield f"  output tokens  {_span(plan.output_tokens)}"
    yield f"  dollars        {_span(plan.usd, money=True) if plan.usd else 'no price is known'}"
    if plan.usd_batch:
        yield f"  by batch       {_span(plan.usd_batch, money=True)}"
    if plan.affordable is not None and plan.binding:
        worst, likely = plan.affordable
        yield f"the budget ends at about {likely:,} questions ({worst:,} at worst): {plan.binding}"
    if found.n_held_out:
        yield f"and {found.n_held_out:,} held-out questions, asked once, for the score"
    for note in plan.notes:
        yield f"note: {note}"
    if found.permission_problem:
        yield f"not permitted yet: {found.permission_problem}"
        yield found.permission_hint
    for hint in found.hints:
        yield f"note: {hint}"
    yield f"the run's folder is {run.folder.path}"


def ask_note(now: AskProgress) -> str:
    """Tell in a few words how asking goes.

    Args:
        now: where it stands.

    Returns:
        One short line.
    """
    parts = [f"{now.rate_per_s:,.0f}/s", f"{now.in_flight} in flight", _money(now.spend)]
    if now.seconds_left is not None:
        parts.append(f"{now.seconds_left:,.0f} s left")
    if now.held_s:
        parts.append(f"resting {now.held_s:,.0f} s")
    return ", ".join(part for part in parts if part)


def ask_lines(summary: AskSummary) -> Iterator[str]:
    """Tell what asking came to.

    Args:
        summary: of it.

    Yields:
        Lines.
    """
    yield (
        f"asked {summary.n_answered:,} ({summary.n_known:,} were answered before), "
        f"{summary.n_sent:,} requests, {_money(summary.spend) or 'no price is known'}"
    )
    for outcome, n in summary.outcomes.items():
        if outcome != "answered" and n:
            yield f"  {outcome}: {n:,}"
    for code, n in summary.failures.items():
        yield f"  failed attempts, {code}: {n:,}"
    if summary.n_given_up:
        yield f"  without an answer: {summary.n_given_up:,}; call it again to ask them again"
    if summary.stopped != "done":
        yield f"ended early ({summary.stopped}): {summary.problem}".rstrip(": ")
        if summary.hint:
            yield f"hint: {summary.hint}"


def filter_lines(counts: FilterCounts) -> Iterator[str]:
    """Tell which answers were kept.

    Args:
        counts: of the filter.

    Yields:
        Lines.
    """
    yield f"kept {counts.n_kept:,} of {counts.n_answered:,} answers"
    for reason, n in counts.dropped.items():
        if n:
            yield f"  {reason.replace('_', ' ')}: {n:,}"


def student_line(record: StudentRecord) -> str:
    """Tell that a student is trained.

    Args:
        record: of it.

    Returns:
        One line.
    """
    return (
        f"student of {record.n_questions:,} questions, seed {record.seed}: {record.steps:,} steps, "
        f"loss {record.train_loss:.3f}, {record.cpu_s:.0f} s of processor time"
    )


def score_lines(report: ScoreReport) -> Iterator[str]:
    """Tell the scores.

    Args:
        report: of them.

    Yields:
        Lines.
    """
    for part in report.parts:
        yield f"{part.name}: {len(part.item_ids):,} items"
        for comparison in part.comparisons:
            for name, figures in comparison.models.items():
                share = figures.share
                line = (
                    f"  {comparison.capability:<16} {name:<20} "
                    f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
                )
                gap = figures.gap_closed
                if gap is not None:
                    line += f"  gap closed {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]"
                yield line
    for name, found in report.tells.items():
        yield f"  told from the teacher by wording, {name}: AUC {found.value:.3f}"
    for note in report.notes():
        yield f"note: {note}"


def curve_lines(found: CurveSet) -> Iterator[str]:
    """Tell the copy curves.

    Args:
        found: the curves.

    Yields:
        Lines.
    """
    for curve in found.curves:
        yield from _curve(curve)
    if found.macro is not None:
        yield from _curve(found.macro)
    for curve in found.outside:
        yield from _curve(curve, suffix=", outside of what was asked")
    for lead in found.leads:
        yield f"treadmill, {lead.per_day:,g} {lead.table.unit.replace('_', ' ')} a day:"
        yield from (f"  {line}" for line in lead.sentences)


def _curve(curve: CopyCurve, suffix: str = "") -> Iterator[str]:
    form = curve.fitted.form if curve.fitted is not None else None
    words = f"form {form}" if form else "no form fitted"
    yield f"{curve.capability}{suffix}: teacher {curve.teacher_share:.3f}, {words}"
    for point in curve.points:
        share = float(point.correct.mean())
        yield f"  {point.n_questions:>8,} questions, seed {point.seed}: {share:.3f}"
    for reach in curve.reaches:
        yield f"  {reach.of_teacher:.0%} of the teacher: {reach.sentence}"
    for note in curve.notes:
        yield f"  note: {note}"


def _span(span: Range, *, money: bool = False) -> str:
    def told(value: float | None) -> str:
        if value is None:
            return "no bound"
        return f"${float(value):,.2f}" if money else f"{value:,.0f}"

    return f"about {told(span.likely)} ({told(span.low)} to {told(span.high)})"


def _money(spend: Spend) -> str:
    tokens = f"{spend.tokens:,} tokens"
    return tokens if spend.usd is None else f"{tokens}, ${spend.usd:,.4f}"
