"""What `stillwatch trace` prints: findings, and figures of plans, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from stillwatch.trace.audit import DecoyAudit
    from stillwatch.trace.finding import Finding


def print_json(document: object) -> None:
    """Print plain data as JSON.

    Args:
        document: anything that msgspec encodes.
    """
    click.echo(msgspec.json.format(msgspec.json.encode(document)))


def finding_lines(found: Finding) -> Iterator[str]:
    """Tell a finding.

    Args:
        found: of any test.

    Yields:
        Lines.
    """
    told = [f"{found.test}: statistic {found.statistic:,.4g} over {found.n:,}"]
    if found.log10_p is not None:
        told.append(f"log10 p = {found.log10_p:.2f}")
    if found.e_log10 is not None:
        told.append(f"log10 e = {found.e_log10:.2f}")
    if found.rank is not None:
        told.append(f"{found.rank[0]} of {found.rank[1]} references are at least as suspicious")
    yield ", ".join(told)
    if found.null:
        yield f"  null: {found.null}"
    if found.randomisation is not None:
        yield f"  our draw: {found.randomisation}"
    else:
        yield "  no draw of ours: a likeness, which proves nothing by itself"
    if found.needed is not None:
        yield f"  planned or needed: {found.needed:,}"
    for note in found.notes:
        yield f"  note: {note}"


def tell(findings: list[Finding], *, as_json: bool, out: Path | None) -> None:
    """Print findings, and write them where `verdict` and `bundle` read them.

    Args:
        findings: any number.
        as_json: print them as JSON.
        out: the file to write, or None.
    """
    write_findings(findings, out)
    if as_json:
        print_json(findings)
        return
    for found in findings:
        for line in finding_lines(found):
            click.echo(line)


def tell_audit(audit: DecoyAudit, *, out: Path | None) -> None:
    """Tell on the error stream what draws that nobody used came to, and write it for `verdict`.

    Args:
        audit: of one test.
        out: the file to write, or None.
    """
    from stillwatch.record.disk import replace_file

    click.echo(
        f"{audit.n:,} wrong draws: rank p {audit.rank_p:.2g}, worst log10 p "
        f"{audit.worst_log10_p:.2f}, {'as they should be' if audit.passed else 'TOO OFTEN SMALL'}",
        err=True,
    )
    if out is not None:
        replace_file(out, msgspec.json.format(msgspec.json.encode([audit])) + b"\n")


def write_findings(findings: list[Finding], out: Path | None) -> None:
    """Write findings where `verdict` and `bundle` read them.

    Args:
        findings: any number.
        out: the file, or None for none.
    """
    from stillwatch.record.disk import replace_file

    if out is not None:
        replace_file(out, msgspec.json.format(msgspec.json.encode(findings)) + b"\n")
