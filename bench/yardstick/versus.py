"""`detect` beside the baselines: one matrix, one table a world, and the thresholds behind them."""

from __future__ import annotations

import numpy as np

from yardstick.curve import NOTHING, Choice, Point, choose, read_at
from yardstick.lines import Facts, markdown, mean_of, pick
from yardstick.plan import Cell

_LEVELS = (0.01, 0.1)
#: Method -> the choice at each level; None when no threshold meets it.
_Choices = dict[str, list[Choice | None]]


def compare(by_cell: dict[Cell, list[Facts]]) -> str:
    """Write the tables that set `detect` beside the baselines.

    Args:
        by_cell: kept lines by cell.

    Returns:
        Markdown.
    """
    cells = {cell: worlds for cell, worlds in by_cell.items() if worlds[0]["curves"]}
    if not cells:
        return ""
    choices = _choose_all([world for worlds in cells.values() for world in worlds])
    webs = {cell: worlds for cell, worlds in cells.items() if cell.n_campaign}
    made = [_matrix(cells, choices), _thresholds(choices)]
    for cell, worlds in webs.items():
        lines = [_line(worlds, method, choices) for method in ("detect", *choices)]
        made.append(markdown(f"{cell.label}: every method, {len(worlds)} worlds", _HEAD, lines))
    return "\n".join(made)


def _choose_all(worlds: list[Facts]) -> _Choices:
    has_harvest = [bool(world["cell"]["n_campaign"]) for world in worlds]
    methods = [m for m in worlds[0]["curves"] if all(m in w["curves"] for w in worlds)]
    return {
        method: [
            choose([_curves(world, method) for world in worlds], has_harvest, level)
            for level in _LEVELS
        ]
        for method in methods
    }


def _curves(world: Facts, method: str) -> dict[str, list[Point]]:
    return {name: [Point(*p) for p in points] for name, points in world["curves"][method].items()}


def _read(world: Facts, method: str, choice: Choice | None) -> Point:
    if choice is None:
        return NOTHING
    return read_at(_curves(world, method)[choice.setting], choice.cut)


def _matrix(cells: dict[Cell, list[Facts]], choices: _Choices) -> str:
    """Recall of harvest exchanges at 1 %, a column a world; honest worlds count as false names."""
    webs = {cell: worlds for cell, worlds in cells.items() if cell.n_campaign}
    ours = {cell: pick(worlds, ("detect", "nominal", 0.01)) for cell, worlds in cells.items()}
    named, false = (sum(r[n] for rows in ours.values() for r in rows) for n in ("named", "false"))
    means = [float(np.mean([r["exchange_recall"] for r in ours[cell]])) for cell in webs]
    lines = [["detect", f"{false / max(named, 1):.3f}", *(f"{mean:.2f}" for mean in means)]]
    for method, (choice, _) in choices.items():
        means = [
            float(np.mean([_read(world, method, choice).recall for world in worlds]))
            for worlds in webs.values()
        ]
        fdr = "-" if choice is None else f"{choice.fdr:.3f}"
        lines.append([method, fdr, *(f"{mean:.2f}" for mean in means)])
    title = (
        "Recall of harvest exchanges (detect at nominal 1 %; baselines at the one threshold for "
        "all worlds at which 1 % of their groups are false)"
    )
    return markdown(title, ["method", "false of all named", *(cell.label for cell in webs)], lines)


def _thresholds(choices: _Choices) -> str:
    lines = []
    for method, chosen in choices.items():
        for level, choice in zip(_LEVELS, chosen, strict=True):
            said = ["none meets it", "-", "-"]
            if choice is not None:
                said = [choice.setting, f"{choice.cut:.3g}", f"{choice.fdr:.3f}"]
            lines.append([method, f"{level:.0%}", *said])
    head = ["method", "FDR", "setting", "least score", "realised FDR"]
    return markdown("The thresholds that the truth of all worlds picks for baselines", head, lines)


_HEAD = [
    "method", "as it comes: named", "false", "exchanges", "FDR accounts",
    "one threshold, 1 %: exchanges", "FDR accounts", "one threshold, 10 %: exchanges",
    "FDR accounts", "best in each world, 1 %: exchanges", "FDR accounts",
]  # fmt: skip


def _line(worlds: list[Facts], method: str, choices: _Choices) -> list[str]:
    is_ours = method == "detect"
    plain = pick(worlds, (method, *(("nominal", 0.01) if is_ours else ("published", None))))
    line = [method, *(f"{np.mean([r[name] for r in plain]):.1f}" for name in ("named", "false"))]
    line += _pair(plain)
    for place, level in enumerate(_LEVELS):
        rows = pick(worlds, (method, "nominal", level))
        if not is_ours:
            points = [_read(world, method, choices[method][place]) for world in worlds]
            rows = [{"exchange_recall": p.recall, "account_fdr": p.account_fdr} for p in points]
        line += _pair(rows)
    return line + (["-", "-"] if is_ours else _pair(pick(worlds, (method, "best", 0.01))))


def _pair(rows: list[Facts]) -> list[str]:
    return [mean_of(rows, "exchange_recall", with_interval=True), mean_of(rows, "account_fdr")]
