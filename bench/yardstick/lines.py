"""Lines of tables: picked rows, means with intervals, Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

from yardstick.score import bootstrap_mean

Facts = dict[str, Any]


def pick(worlds: list[Facts], wanted: tuple[str, str, float | None]) -> list[Facts]:
    """Pick the rows of one method and choice.

    Args:
        worlds: kept lines.
        wanted: method, choice, level.

    Returns:
        One row a world that has it.
    """
    return [
        row
        for world in worlds
        for row in world["rows"]
        if (row["method"], row["choice"], row["level"]) == wanted
    ]


def mean_of(rows: list[Facts], field: str, *, with_interval: bool = False) -> str:
    """Write the mean of a figure.

    Args:
        rows: of one method.
        field: of a row.
        with_interval: add the bootstrap's.

    Returns:
        Text; "-" when no row has the figure.
    """
    values = np.array([np.nan if r[field] is None else r[field] for r in rows], dtype=float)
    mean, low, high = bootstrap_mean(values, rng=np.random.default_rng(0))
    if np.isnan(mean):
        return "-"
    return f"{mean:.3f} ({low:.2f}-{high:.2f})" if with_interval else f"{mean:.3f}"


def markdown(title: str, head: list[str], lines: list[list[str]]) -> str:
    """Write a table.

    Args:
        title: above it.
        head: names of the columns.
        lines: cells.

    Returns:
        Markdown; "" without lines.
    """
    if not lines:
        return ""
    rows = [head, ["---"] * len(head), *lines]
    return f"## {title}\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
