"""Hashes of what a stage depends on, so that it is done again when that changes and only then."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.questions.table import QuestionsTable
from stillwatch.distill.scores.scoring import HeldOutItems
from stillwatch.record.exchange import canonical_json


def question_settings(
    table: QuestionsTable, *, base: Path, seed: int, held_out: HeldOutItems | None
) -> str:
    """Hash what the questions of a run depend on.

    Args:
        table: the `[questions]` table.
        base: what its paths are relative to.
        seed: of the run.
        held_out: the score set, which is left out of the questions.

    Returns:
        SHA-256, 64 hex digits; of files their size and time of change stand for their bytes.
    """
    told = msgspec.to_builtins(table)
    scored = [] if held_out is None else [*held_out.inside, *held_out.outside]
    document = {
        "questions": told,
        "seed": seed,
        "held_out": [item.item_id for item in scored],
        "files": sorted(_stats(told, base)),
    }
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _stats(value: Any, base: Path) -> Iterator[str]:
    """Give size and time of every file that a table's texts name."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _stats(inner, base)
    elif isinstance(value, list):
        for inner in value:
            yield from _stats(inner, base)
    elif isinstance(value, str) and 0 < len(value) < 1024 and "\n" not in value:
        for path in _matching(value, base):
            stat = path.stat()
            yield f"{path}|{stat.st_size}|{stat.st_mtime_ns}"


def _matching(value: str, base: Path) -> list[Path]:
    try:
        path = base / value
        if path.is_file():
            return [path]
        if path.is_dir():
            return [inner for inner in path.rglob("*") if inner.is_file()]
        if any(mark in value for mark in "*?[") and not Path(value).is_absolute():
            return [inner for inner in base.glob(value) if inner.is_file()]
    except (OSError, ValueError, NotImplementedError):
        return []
    return []
