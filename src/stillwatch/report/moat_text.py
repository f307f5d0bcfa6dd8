"""The moat report in a terminal: the same sentences and tables as the page."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from stillwatch.report.moat_rows import got_text, wall_rows
from stillwatch.report.moat_words import headline, summary_sentences
from stillwatch.report.numbers import MISSING
from stillwatch.report.table import figures_table

_TONES = {"good": "bold green", "bad": "bold red", "unknown": "dim", "plain": "bold"}


def moat_summary(report: Mapping[str, Any]) -> Group:
    """Sum the moat report up for a terminal.

    Args:
        report: the moat dictionary.

    Returns:
        The five answers, what happened with the wall off and on, and the targets.
    """
    parts: list[RenderableType] = [Text(headline(report), style="bold"), Text()]
    for finding in summary_sentences(report):
        parts.append(
            Text.assemble((f"{finding.question}  ", "dim"), (finding.figure, _TONES[finding.tone]))
        )
        parts.extend([Padding(Text(finding.sentence), (0, 0, 0, 2)), Text()])
    for heading, rows in groupby(wall_rows(report), key=lambda row: row.group):
        lines = [(row.label, row.off, row.on) for row in rows]
        parts.append(figures_table((heading, "wall off", "wall on"), lines))
    checks = [
        (c["name"], str(c.get("target", "")), got_text(c.get("got")), _fate(c.get("met")))
        for c in report.get("checks") or []
    ]
    if checks:
        parts.append(figures_table(("Target", "asked for", "got", ""), checks))
    return Group(*parts)


def _fate(met: bool | None) -> str:
    return MISSING if met is None else "reached" if met else "SHORT"
