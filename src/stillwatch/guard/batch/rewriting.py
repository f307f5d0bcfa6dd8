"""Writes an input anew with its rows stripped; all else stays byte for byte."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from stillwatch.guard.batch.copying import Breath, let_go, mapped, private
from stillwatch.guard.batch.elements import elements
from stillwatch.guard.batch.rows import Vendor, read_row, row_facts, with_body
from stillwatch.guard.wall.strip import stripped


def rewritten(source: Path, target: Path, *, vendor: Vendor, models: frozenset[str]) -> bool:
    """Write an input with the rows of some models stripped; blocks.

    Args:
        source: the copy of the input.
        target: where to.
        vendor: whose rows.
        models: whose rows are stripped.

    Returns:
        Whether anything was there to strip; if not, there is no target.
    """
    breath = Breath()
    is_changed = False
    with mapped(source) as body, private(target) as out:
        done = passed = 0
        for place, length in _spans(body, vendor):
            row = body[place : place + length]
            new = _stripped_row(row, vendor, models)
            breath.take()
            passed = let_go(body, passed, place)
            if new is row:
                continue
            is_changed = True
            out.write(memoryview(body)[done:place])
            out.write(new)
            done = place + length
        if is_changed:
            out.write(memoryview(body)[done:])
    if not is_changed:
        target.unlink()
    return is_changed


def _stripped_row(line: bytes, vendor: Vendor, models: frozenset[str]) -> bytes:
    row = read_row(vendor, line)
    facts = row_facts(row) if row is not None else None
    if row is None or row.wire is None or facts is None or facts.model not in models:
        return line
    body = stripped(row.wire.name, row.body)
    return line if body is row.body else with_body(vendor, line, body)


def _spans(body: mmap.mmap, vendor: Vendor) -> Iterator[tuple[int, int]]:
    if vendor == "anthropic":
        yield from elements(body, "requests")
        return
    place, size = 0, len(body)
    while place < size:
        end = body.find(b"\n", place)
        end = end if end >= 0 else size
        if end > place:
            yield place, end - place
        place = end + 1
