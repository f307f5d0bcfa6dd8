"""`stillwatch detect`: find the webs of accounts in exchange logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from stillwatch.detect.findings import Findings
    from stillwatch.logs.unit import Fault


@click.command("detect")
@click.argument("logs", nargs=-1, required=True)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="LOGS",
    help="Honest traffic to calibrate on; without it the bulk of the logs stands in.",
)
@click.option(
    "--format",
    "format_name",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="The logs' format; `logs formats` lists them.",
)
@click.option(
    "--fdr", default=0.01, show_default=True, help="Share of named webs that may be wrong."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the campaigns as JSON.")
def command(
    *,
    logs: tuple[str, ...],
    references: tuple[str, ...],
    format_name: str,
    fdr: float,
    out: Path,
    as_json: bool,
) -> None:
    """Find the webs of accounts that work one queue in LOGS.

    LOGS are logs of any known format: files (plain, gzip or zstd), folders, patterns, stores,
    journals, or - for standard input. Writes OUT/campaigns.json (with the evidence) and
    OUT/accounts.csv. What cannot be read is counted and said.

    \b
    stillwatch detect siege-out/off/store --reference siege-out/history --out found
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.cli.logs import read_options
    from stillwatch.detect import DetectConfig, detect, write_findings
    from stillwatch.logs.reading import Reading, ReadRequest

    # One key for both: a network that is hashed twice must stay one network.
    options = read_options()
    reading, reference = (
        Reading(ReadRequest(names, options, format=format_name), on_fault=_tell)
        for names in (logs, references)
    )
    findings = detect(
        reading.batches(),
        reference=reference.batches() if references else None,
        config=DetectConfig(fdr=fdr),
    )
    unread = reading.counts.quarantined + reference.counts.quarantined
    if unread:
        click.echo(f"{unread:,} records could not be read and are left out", err=True)
    campaigns_path, accounts_path = write_findings(findings, out)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings.campaigns)))
        return
    _print(findings)
    click.echo(f"\n{campaigns_path}\n{accounts_path}")


def _print(findings: Findings) -> None:
    click.echo(f"{findings.n_exchanges:,} exchanges of {findings.n_accounts:,} accounts")
    for campaign in findings.campaigns:
        click.echo(
            f"\n{campaign.campaign_id}: {len(campaign.accounts):,} accounts, "
            f"{campaign.exchanges:,} exchanges, {campaign.output_tokens:,} output tokens, "
            f"p = {campaign.p_value:.2g}"
        )
        for evidence in campaign.evidence:
            click.echo(f"  {evidence.kind}: {evidence.text}")
    if not findings.campaigns:
        click.echo(
            f"no campaign at a false discovery rate of {findings.fdr:g}; "
            f"{len(findings.candidates)} groups were looked at, calibrated on "
            f"{findings.n_anchors} honest accounts"
        )


def _tell(fault: Fault) -> None:
    click.echo(f"{fault.file}:{fault.line}: {fault.reason}", err=True)
