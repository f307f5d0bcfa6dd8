"""Rows of the moat report's tables: the same numbers for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from stillwatch.report.numbers import MISSING, count, dig, dollars, p_text, percent, seconds

Report = Mapping[str, Any]
Writer = Callable[[float | None], str]


class Row(NamedTuple):
    """One line of a table that sets the wall off beside the wall on.

    Attributes:
        label: what is counted.
        off: its figure without the wall.
        on: its figure with the wall.
        group: heading under which it stands.
    """

    label: str
    off: str
    on: str
    group: str


# Path below a run, label, heading, writer.
_WALL: tuple[tuple[str, str, str, Writer], ...] = (
    ("campaign.share_kept", "Teacher's skill that the copy kept", "The campaign", percent),
    ("campaign.asked", "Requests sent", "The campaign", count),
    ("campaign.answered", "Answered", "The campaign", count),
    ("campaign.throttled", "Told to come back later (429)", "The campaign", count),
    ("campaign.refused", "Refused (403)", "The campaign", count),
    ("campaign.marked", "Answered with a mark", "The campaign", count),
    ("campaign.accounts_retired", "Accounts it gave up", "The campaign", count),
    ("detection.accounts_named", "Accounts accused", "Detection", count),
    ("detection.precision", "of these, rightly (precision)", "Detection", percent),
    ("detection.recall", "Campaign accounts found (recall)", "Detection", percent),
    ("detection.honest_accounts_named", "Honest accounts accused", "Detection", count),
    ("detection.honest_groups_named", "Honest groups accused", "Detection", count),
    ("honest.asked", "Requests sent", "Honest users", count),
    ("honest.answered", "Answered", "Honest users", count),
    ("honest.refused", "Refused", "Honest users", count),
    ("honest.throttled", "Delayed by a limit", "Honest users", count),
    ("honest.marked", "Answered with a mark", "Honest users", count),
    ("honest.accounts_touched", "Accounts touched in any way", "Honest users", count),
    ("honest.added_delay_s_p50", "Delay added, median", "Honest users", seconds),
    ("honest.added_delay_s_p99", "Delay added, 99th percentile", "Honest users", seconds),
)
_COST: tuple[tuple[str, str, Writer], ...] = (
    ("campaign.skill_answers", "Skill questions answered", count),
    ("campaign.prose_answers", "Prose questions answered", count),
    ("campaign.dilution_answers", "Ordinary-looking use, to hide in", count),
    ("campaign.input_tokens", "Input tokens", count),
    ("campaign.output_tokens", "Output tokens", count),
    ("campaign.usd", "Bill at the listed prices", dollars),
)


def wall_rows(report: Report) -> list[Row]:
    """List what happened without the wall and with it.

    Args:
        report: the moat dictionary.

    Returns:
        Rows that at least one run measured, heading by heading.
    """
    rows = [
        Row(label, *_pair(report, path, writer=writer), group)
        for path, label, group, writer in _WALL
    ]
    return [row for row in rows if {row.off, row.on} != {MISSING}]


def cost_rows(report: Report) -> list[Row]:
    """List what the campaign used up, and any further costs that the report brings.

    Args:
        report: the moat dictionary.

    Returns:
        Rows that at least one run measured.
    """
    rows = [Row(label, *_pair(report, path, writer=writer), "") for path, label, writer in _COST]
    for extra in dig(report, "cost.rows") or []:
        unit = f"\u00a0{extra['unit']}" if extra.get("unit") else ""
        off, on = (
            MISSING if extra.get(run) is None else f"{extra[run]:,.4g}{unit}"
            for run in ("off", "on")
        )
        rows.append(Row(extra["label"], off, on, ""))
    return [row for row in rows if {row.off, row.on} != {MISSING}]


def proof_rows(
    report: Report, suspects: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[str]]]:
    """List what the test found in each suspect's own text.

    Args:
        report: the moat dictionary.
        suspects: entries of its proof, one a column.

    Returns:
        Label and figures, one a suspect.
    """
    chance = percent(dig(report, "proof.mark.gamma"))
    writers: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("Texts that it wrote", lambda s: count(s.get("outputs"))),
        ("Pairs of tokens it repeats, each once", lambda s: count(s.get("windows"))),
        (f"On the list (by chance {chance})", lambda s: percent(s.get("green_rate"), 1)),
        ("p-value, exact", lambda s: p_text(s.get("p_value"), s.get("log10_p"))),
        ("p-value by rank among wrong keys", lambda s: p_text(s.get("decoy_rank_p"))),
        (
            "p-value over all keys held (Holm)",
            lambda s: p_text(s.get("holm_p_value"), s.get("holm_log10_p")),
        ),
        ("Campaign that its key names", lambda s: str(s.get("named_campaign") or "none")),
    )
    rows = [(label, [write(suspect) for suspect in suspects]) for label, write in writers]
    return [(label, figures) for label, figures in rows if set(figures) != {MISSING}]


def got_text(got: object) -> str:
    """Write what a target got, whichever kind of number it is.

    Args:
        got: a count, a share, a p-value, words, or None.

    Returns:
        The text.

    Example:
        >>> got_text(0.8765), got_text(12000), got_text(True), got_text(None)
        ('0.876', '12,000', 'yes', 'not measured')
    """
    if got is None:
        return MISSING
    if isinstance(got, bool):
        return "yes" if got else "no"
    if isinstance(got, float) and 0 < got < 1e-3:
        return p_text(got)
    if isinstance(got, float) and abs(got) < 100:
        return f"{got:.3g}"
    return count(got) if isinstance(got, int | float) else str(got)


def _pair(report: Report, path: str, *, writer: Writer) -> tuple[str, str]:
    return writer(dig(report, f"runs.off.{path}")), writer(dig(report, f"runs.on.{path}"))
