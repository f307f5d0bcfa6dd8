"""The ledger as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_TESTS = (
    "closed-1000/all",
    "closed-1000/repeated",
    "closed-2000/weighted",
    "asked-again/repeated",
    "asked-again/weighted",
    "asked-longer/weighted",
    "both/weighted",
    "open/weighted",
    "served/closed",
    "served/open",
)
_WEIGHTED = ("closed-2000", "asked-again", "asked-longer", "both", "open")
#: Keys whose tests an innocent suspect must pass: log10 of p at most this is a false accusation.
_PROVED, _STRONG = -10.0, -3.0


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """Write the tables.

    Args:
        rows: of the ledger.

    Returns:
        Text: by group, each test's log10 p (median, weakest, how many beyond 1e-3 and 1e-10).
    """
    if not rows:
        return "the ledger is empty"
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['kind']} {row['share']:.0%}", []).append(row)
    lines = ["students        test                    n   median  weakest  1e-3 1e-10"]
    for group in sorted(groups):
        for test in _TESTS:
            found = np.array([_log10_p(row, test) for row in groups[group] if test in row])
            if not found.size:
                continue
            lines.append(
                f"{group:15} {test:22} {len(found):2} {np.median(found):8.2f} {found.max():8.2f} "
                f"{np.sum(found <= _STRONG):5} {np.sum(found <= _PROVED):5}"
            )
        strongest = min(_log10_p(r, t) for r in groups[group] for t in _TESTS if t in r)
        lines.append(f"{group:15} strongest {strongest:.2f}")
    return "\n".join([*lines, *_wrong_keys(rows), *_names(groups)])


def _log10_p(row: dict[str, Any], test: str) -> float:
    """Read a p-value; an e-value counts as 1 / e."""
    value = float(row[test])
    return min(-value, 0.0) if test.startswith("served/") else value


def _wrong_keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for name in _WEIGHTED:
        wrong = np.array([p for row in rows for p in row.get(f"{name}/wrong-keys", ())])
        if not wrong.size:
            continue
        shares = ", ".join(
            f"{np.mean(wrong <= np.log10(a)):.4f} at {a:g}" for a in (0.1, 0.05, 0.01)
        )
        worst = min(row.get(f"{name}/wrong-holm", 0.0) for row in rows)
        lines.append(
            f"wrong keys, {name}: {len(wrong):,}; below level {shares}; worst {wrong.min():.2f}, "
            f"worst after Holm {worst:.2f}"
        )
    return lines


def _names(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    for group, rows in sorted(groups.items()):
        parts = []
        for name in _WEIGHTED:
            first = sum(row.get(f"{name}/weighted-first", False) for row in rows)
            named = sum(
                row.get(f"{name}/weighted-first", False) and row[f"{name}/weighted-holm"] <= -6
                for row in rows
            )
            parts.append(f"{name} first {first}, named at 1e-6 {named}")
        lines.append(f"of 50 campaigns, {group} ({len(rows)}): " + "; ".join(parts))
    return lines
