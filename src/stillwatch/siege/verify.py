"""Recomputes a moat report from its run's files and says whether everything still holds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillwatch.detect import DetectConfig, detect, write_findings
from stillwatch.record.store import scan_store
from stillwatch.siege.folder import changed_files, read_json
from stillwatch.siege.moat import compute_moat
from stillwatch.siege.round import HISTORY

#: Another processor may sum in another order; a real change is larger.
_TOLERANCE = 1e-6


class Verified(NamedTuple):
    """One thing that was checked.

    Attributes:
        name: what.
        differences: one line each; empty when it holds.
    """

    name: str
    differences: list[str]


def verify_run(run: Path) -> list[Verified]:
    """Check a run's files, its campaigns and every number of its report.

    Students are not trained again: their answers are judged again.

    Args:
        run: the run's folder.

    Returns:
        What was checked, with its differences.

    Raises:
        InvalidInputError: the folder is not a run's, or a file cannot be read.
    """
    checks = [Verified("the files are as the run left them", changed_files(run))]
    for wall in ("off", "on"):
        name = f"wall {wall}: the campaigns are found again in the record"
        checks.append(Verified(name, _find_again(run, wall)))
    told = read_json(run / "moat.json")
    again = msgspec.json.decode(msgspec.json.encode(compute_moat(run)))
    name = f"{_count(told):,} numbers of the report are computed again"
    checks.append(Verified(name, list(_differences(told, again, ""))))
    return checks


def _find_again(run: Path, wall: str) -> list[str]:
    findings = detect(
        scan_store(run / wall / "store"),
        reference=scan_store(run / HISTORY),
        config=DetectConfig(),
    )
    with tempfile.TemporaryDirectory() as scratch:
        write_findings(findings, Path(scratch))
        again = read_json(Path(scratch) / "campaigns.json")
    told = read_json(run / wall / "findings" / "campaigns.json")
    return list(_differences(told, again, "campaigns.json"))


def _differences(told: Any, again: Any, where: str) -> Iterator[str]:
    if isinstance(told, dict) and isinstance(again, dict):
        for key in sorted(told.keys() | again.keys()):
            yield from _differences(told.get(key), again.get(key), f"{where}/{key}")
    elif isinstance(told, list) and isinstance(again, list) and len(told) == len(again):
        for place, (one, other) in enumerate(zip(told, again, strict=True)):
            yield from _differences(one, other, f"{where}/{place}")
    elif not _is_same(told, again):
        yield f"{where}: {_short(told)} in the report, {_short(again)} from the files"


def _is_same(told: Any, again: Any) -> bool:
    if isinstance(told, float) and isinstance(again, int | float):
        return math.isclose(told, again, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(told == again)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, list):
        return sum(map(_count, value))
    return isinstance(value, int | float) and not isinstance(value, bool)
