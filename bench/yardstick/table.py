"""From kept lines to tables: means over worlds with bootstrap intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from stillwatch.stats.intervals import wilson
from yardstick.alone import NOMINAL
from yardstick.lines import Facts, markdown, mean_of, pick
from yardstick.plan import Cell
from yardstick.versus import compare

_SHARES = (
    ("accounts", "account_recall"), ("exchanges", "exchange_recall"), ("tokens", "token_recall"),
    ("purity", "purity"), ("completeness", "completeness"), ("FDR campaigns", "campaign_fdr"),
    ("FDR accounts", "account_fdr"), ("FDR exchanges", "exchange_fdr"),
)  # fmt: skip


def write_tables(worlds: Sequence[Facts]) -> str:
    """Write all tables.

    Args:
        worlds: kept lines, of any number of cells and seeds.

    Returns:
        Markdown.
    """
    by_cell = group_by_cell(worlds)
    made = (
        _recall(by_cell), compare(by_cell), _first(by_cell), _false(by_cell),
        _p_values(worlds), _alone(worlds), _trivial(by_cell),
    )  # fmt: skip
    return "\n".join(table for table in made if table)


def group_by_cell(worlds: Iterable[Facts]) -> dict[Cell, list[Facts]]:
    """Put worlds of one kind together.

    Args:
        worlds: kept lines.

    Returns:
        Lines by cell, in the order seen.
    """
    grouped: dict[Cell, list[Facts]] = defaultdict(list)
    for facts in worlds:
        grouped[Cell(**facts["cell"])].append(facts)
    return dict(grouped)


def _recall(by_cell: dict[Cell, list[Facts]]) -> str:
    head = ["world", "worlds", "FDR", *(name for name, _ in _SHARES), "named", "false", "price"]
    lines = []
    for cell, worlds in by_cell.items():
        if not cell.n_campaign:
            continue
        for level in (0.01, 0.1):
            rows = pick(worlds, ("detect", "nominal", level))
            shares = [mean_of(rows, field, with_interval=True) for _, field in _SHARES]
            counts = [str(sum(r[name] for r in rows)) for name in ("named", "false")]
            price = np.mean([world["price"]["exchanges"] for world in worlds])
            line = [cell.label, str(len(worlds)), f"{level:.0%}", *shares, *counts, f"{price:.2f}"]
            lines.append(line)
    return markdown("detect (price: exchanges paid for each one harvested)", head, lines)


def _first(by_cell: dict[Cell, list[Facts]]) -> str:
    head = ["world", "named in", "harvest exchanges before", "share of the harvest", "days"]
    lines = []
    for cell, worlds in by_cell.items():
        alarms = [w["first"] for w in worlds if w["first"]]
        if alarms:
            seen = [a for a in alarms if a["seen"]]
            names = ("harvest", "share", "days") if seen else ()
            middle = [f"{np.median([a[name] for a in seen]):.3g}" for name in names]
            lines.append([cell.label, f"{len(seen)} of {len(alarms)}", *(middle or ["-"] * 3)])
    return markdown("First alarm (looks whenever the harvest has doubled; medians)", head, lines)


def _false(by_cell: dict[Cell, list[Facts]]) -> str:
    head = [
        "world",
        "FDR",
        "worlds",
        "with a false name",
        "95 %",
        "false a day",
        "false groups by main role",
    ]
    lines = []
    for cell, worlds in by_cell.items():
        for level in (0.01, 0.1):
            rows = pick(worlds, ("detect", "nominal", level))
            bad = sum(r["false"] > 0 for r in rows)
            bounds = wilson(bad, len(rows))
            a_day = sum(r["false"] for r in rows) / max(sum(w["days"] for w in worlds), 1.0)
            roles = sum((Counter(r["false_roles"]) for r in rows), Counter[str]())
            said = ", ".join(f"{n} {role}" for role, n in roles.most_common()) or "none"
            lines.append([cell.label, f"{level:.0%}", str(len(rows)), str(bad),
                          f"{bounds.low:.2f}-{bounds.high:.2f}", f"{a_day:.3f}", said])  # fmt: skip
    return markdown("False names", head, lines)


def _p_values(worlds: Sequence[Facts]) -> str:
    honest = [p for w in worlds if not w["cell"]["n_campaign"] for p in w["p_values"]]
    lines = []
    for level in (0.01, 0.05, 0.1):
        low = sum(p <= level for p in honest)
        bounds = wilson(low, len(honest)) if honest else (0.0, 1.0)
        share = f"{low / len(honest):.3f}" if honest else "-"
        lines.append([f"{level:.0%}", str(len(honest)), share, f"{bounds[0]:.3f}-{bounds[1]:.3f}"])
    head = ["nominal", "honest candidates tested", "rejected", "95 %"]
    return markdown("p-values of candidates in worlds without a campaign", head, lines)


def _alone(worlds: Sequence[Facts]) -> str:
    head = ["nominal", "honest accounts", "rejected", "95 %", "campaign accounts", "rejected"]
    counted = [w["alone"] for w in worlds if w["alone"]]
    sums: dict[str, list[int]] = {
        who: [sum(column) for column in zip(*(c[who] for c in counted), strict=True)]
        for who in ("honest", "campaign")
        if counted
    }
    lines = []
    for place, level in enumerate(NOMINAL, start=1) if counted else ():
        line = [f"{level:.0%}"]
        for who, total in sums.items():
            bounds = wilson(total[place], total[0])
            share = f"{total[place] / max(total[0], 1):.3f}"
            line += [str(total[0]), share]
            line += [f"{bounds.low:.3f}-{bounds.high:.3f}"] * (who == "honest")
        lines.append(line)
    return markdown("p-values of single accounts, against other honest accounts", head, lines)


def _trivial(by_cell: dict[Cell, list[Facts]]) -> str:
    evasions: dict[str, list[Facts]] = defaultdict(list)
    for cell, worlds in by_cell.items():
        if cell.n_campaign:
            evasions[cell.evasion] += worlds
    fields = sorted({name for worlds in evasions.values() for w in worlds for name in w["trivial"]})
    lines = []
    for field in fields:
        found = [[w["trivial"].get(field) for w in ws] for _, ws in sorted(evasions.items())]
        lines.append([field, *(_auc(values) for values in found)])
    return markdown(
        "Trivial fields: AUC in the telling direction, mean (greatest)",
        ["field", *sorted(evasions)],
        lines,
    )


def _auc(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.2f} ({max(known):.2f})" if known else "-"
