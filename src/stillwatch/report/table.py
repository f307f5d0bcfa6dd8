"""Tables for a terminal: quiet, aligned, and readable when colour is off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table


def figures_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None
) -> Table:
    """Lay figures out: the first column names them, the others align at their right end.

    Args:
        columns: headings, one a column.
        rows: cells as plain text, as many as columns; markup in them is not interpreted.
        title: words above the table, or None.

    Returns:
        A table for `rich.console.Console.print`.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(columns):
        table.add_column(heading, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return table
