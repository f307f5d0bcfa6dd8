"""`stillwatch detect`: find the webs of accounts in exchange logs."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec


@click.command("detect")
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--reference",
    "references",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Honest traffic to calibrate on; without it the bulk of the logs stands in.",
)
@click.option(
    "--fdr", default=0.01, show_default=True, help="Share of named webs that may be wrong."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the campaigns as JSON.")
def command(
    *, logs: tuple[Path, ...], references: tuple[Path, ...], fdr: float, out: Path, as_json: bool
) -> None:
    """Find the webs of accounts that work one queue in LOGS.

    LOGS are stores, gateway journals, or .jsonl files of exchanges. Writes OUT/campaigns.json (with
    the evidence) and OUT/accounts.csv.

    \b
    stillwatch detect siege-out/off/store --reference siege-out/history --out found
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.detect import DetectConfig, detect, write_findings
    from stillwatch.logs.own import scan_logs

    findings = detect(
        scan_logs(logs),
        reference=scan_logs(references) if references else None,
        config=DetectConfig(fdr=fdr),
    )
    campaigns_path, accounts_path = write_findings(findings, out)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings.campaigns)))
        return
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
            f"no campaign at a false discovery rate of {fdr:g}; {len(findings.candidates)} groups "
            f"were looked at, calibrated on {findings.n_anchors} honest accounts"
        )
    click.echo(f"\n{campaigns_path}\n{accounts_path}")
