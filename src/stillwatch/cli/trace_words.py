"""What `stillwatch trace` prints: findings, and figures of plans, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillwatch.cli.printing import print_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from stillwatch.trace.verdicts.finding import Finding


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
    write_json(findings, out)
    if as_json:
        print_json(findings)
        return
    for found in findings:
        for line in finding_lines(found):
            click.echo(line)


def tell_audit(
    found: Finding, decoy_log10_p: npt.ArrayLike, *, suspect: str, out: Path | None
) -> None:
    """Tell on the error stream what draws that nobody used came to, and write it for `verdict`.

    Args:
        found: the test with the real draw.
        decoy_log10_p: the same test with the others.
        suspect: whose answers.
        out: the file to write, or None.
    """
    from stillwatch.trace.verdicts.audit import audit_decoys

    audit = audit_decoys(found, decoy_log10_p, suspect=suspect)
    click.echo(
        f"{audit.n:,} wrong draws: rank p {audit.rank_p:.2g}, worst log10 p "
        f"{audit.worst_log10_p:.2f}, {'as they should be' if audit.passed else 'TOO OFTEN SMALL'}",
        err=True,
    )
    write_json([audit], out)


def write_json(document: object, out: Path | None) -> None:
    """Write what `verdict` and `bundle` read.

    Args:
        document: anything that msgspec encodes.
        out: the file, or None for none.
    """
    from stillwatch.record.disk import replace_json

    if out is not None:
        replace_json(out, document)
