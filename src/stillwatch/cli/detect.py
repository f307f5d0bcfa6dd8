"""`stillwatch detect`: find the webs of accounts in exchange logs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatch.cli.printing import print_json

if TYPE_CHECKING:
    from stillwatch.detect.evidence.explain import Explanation
    from stillwatch.detect.findings import Findings
    from stillwatch.detect.run import DetectRequest, Ran
    from stillwatch.logs.unit import Fault

#: Lines of an explanation that are shown of each kind.
_SHOWN = 8
_WIDE = 220


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of detection."""
    for option in reversed((*_input_options(), *_search_options())):
        function = option(function)
    return function


def _input_options() -> tuple[Callable[..., Any], ...]:
    return (
        click.argument("logs", nargs=-1),
        click.option(
            "--reference", "references", multiple=True, metavar="LOGS",
            help="Honest traffic to calibrate on; without it the bulk of the logs stands in.",
        ),
        click.option(
            "--accounts", metavar="FILE",
            help="Table of accounts (payment marks, sign-up networks): CSV, JSON lines, Parquet.",
        ),
        click.option(
            "--format", "format_name", default="auto", show_default=True, metavar="NAME",
            help="The logs' format; `logs formats` lists them.",
        ),
    )  # fmt: skip


def _search_options() -> tuple[Callable[..., Any], ...]:
    return (
        click.option(
            "--fdr", default=0.01, show_default=True, help="Share of named webs that may be wrong."
        ),
        click.option(
            "--min-accounts", default=12, show_default=True, metavar="N",
            help="Independent parties that a web has at least.",
        ),
        click.option(
            "--engine", type=click.Choice(["local", "spark"]), default="local", show_default=True,
            help="Where logs are folded.",
        ),
        click.option(
            "--processes", type=click.IntRange(min=1), default=2, show_default=True, metavar="N",
            help="Processes that fold Parquet.",
        ),
        click.option(
            "--profiles", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
            help="Profiles of earlier logs, kept there: LOGS are added to them.",
        ),
        click.option(
            "--embedder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
            help="Local sentence-transformers model for features of questions (extra: train).",
        ),
        click.option(
            "--price", "prices", multiple=True, metavar="MODEL=IN/OUT",
            help="US dollars for a million input and output tokens; MODEL may hold *.",
        ),
        click.option(
            "--explain", "account", metavar="ACCOUNT",
            help="Say why one account is named, or is not.",
        ),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False)),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    )  # fmt: skip


@click.command("detect")
@_options
def command(*, account: str | None, out: Path | None, as_json: bool, **how: Any) -> None:
    """Find the webs of accounts that work one queue in LOGS.

    LOGS are logs of any known format: files (plain, gzip or zstd), folders, patterns, stores,
    journals, or - for standard input. Writes OUT/report.html, OUT/campaigns.json (with the
    evidence), OUT/accounts.csv and OUT/exchanges.parquet. What cannot be read is counted and said.

    \b
    stillwatch detect siege-out/off/store --reference siege-out/history --out found
    stillwatch detect today.jsonl.zst --profiles kept --reference vetted --out found
    stillwatch detect store --reference vetted --explain acct_1f2a
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.detect.run import run_detect

    if out is None and account is None:
        message = "name a folder for the findings (--out DIR), or an account (--explain ACCOUNT)"
        raise click.UsageError(message)
    request = _request(**how)
    ran = run_detect(request, out=out, on_fault=_tell)
    if ran.unread:
        click.echo(f"{ran.unread:,} records could not be read and are left out", err=True)
    paths = _write(ran, out) if out is not None else ()
    if account is not None:
        _explain(ran, request, account, as_json=as_json)
        return
    if as_json:
        print_json(ran.findings.campaigns)
        return
    _print(ran)
    click.echo("\n" + "\n".join(str(path) for path in paths))


def _request(
    *, format_name: str, min_accounts: int, prices: tuple[str, ...], fdr: float, **how: Any
) -> DetectRequest:
    from stillwatch.cli.logs import read_options
    from stillwatch.detect import DetectConfig
    from stillwatch.detect.evidence.worth import parse_price
    from stillwatch.detect.run import DetectRequest

    return DetectRequest(
        # One key for all logs: a network that is hashed twice must stay one network.
        options=read_options(),
        format=format_name,
        config=DetectConfig(fdr=fdr, min_accounts=min_accounts),
        prices=tuple(parse_price(text) for text in prices),
        **how,
    )


def _write(ran: Ran, out: Path) -> tuple[Path, ...]:
    from stillwatch import __version__
    from stillwatch.detect import write_findings
    from stillwatch.detect.findings import write_text
    from stillwatch.detect.run import report_of
    from stillwatch.report.detect_page import render_detect

    command_line = shlex.join(["stillwatch", *sys.argv[1:]])
    page = render_detect(report_of(ran, command=command_line, version=__version__))
    written = write_findings(ran.findings, out)
    return (write_text(out / "report.html", page), *written)


def _print(ran: Ran) -> None:
    from stillwatch.detect.evidence.limits import without_questions

    findings = ran.findings
    click.echo(f"{findings.n_exchanges:,} exchanges of {findings.n_accounts:,} accounts")
    for campaign in findings.campaigns:
        click.echo(
            f"\n{campaign.campaign_id}: {len(campaign.accounts):,} accounts, "
            f"{campaign.exchanges:,} exchanges, {campaign.output_tokens:,} output tokens, "
            f"p = {campaign.p_value:.2g}"
        )
        for evidence in campaign.evidence:
            click.echo(f"  {evidence.kind}: {evidence.text}")
    if findings.reference_webs:
        n_webs = len(findings.reference_webs)
        n_accounts = sum(len(web.accounts) for web in findings.reference_webs)
        click.echo(
            f"\nthe reference is not all honest: {n_webs} campaign{'' if n_webs == 1 else 's'} of "
            f"{n_accounts:,} accounts left it (reference_webs in campaigns.json)"
        )
    if findings.lone:
        names = ", ".join(lone.account for lone in findings.lone[:3])
        click.echo(f"\n{len(findings.lone):,} accounts unlike the reference: {names} ...")
    told = without_questions(findings, ran.profiles, has_accounts=ran.table is not None)
    if not findings.campaigns and told is None:
        looked = len(findings.candidates)
        click.echo(
            f"no campaign at a false discovery rate of {findings.fdr:g}; "
            f"{looked} group{' was' if looked == 1 else 's were'} looked at, calibrated on "
            f"{findings.n_anchors} honest accounts"
        )
    _print_owners(findings)
    if told is not None:
        _print_losses(ran, told)


def _print_owners(findings: Findings) -> None:
    if findings.owners:
        click.echo("\nnames that share one owner (evidence about accounts, not about harvesting)")
    for owner in findings.owners or ():
        click.echo(f"  {owner.owner_id}: p = {owner.p_value:.2g}; {owner.text}")


def _print_losses(ran: Ran, told: dict[str, str]) -> None:
    """Say what a log without questions costs, and what was tested all the same."""
    from stillwatch.detect.evidence.limits import missing_fields

    missing = ", ".join(gap["field"] for gap in missing_fields(ran.profiles))
    click.echo("\nno campaign can be named: the log has no questions")
    click.echo(f"  lost: {told['lost']}\n  still tested: {told['tested']}")
    click.echo(f"  not in this log: {missing}")


def _explain(ran: Ran, request: DetectRequest, account: str, *, as_json: bool) -> None:
    from stillwatch.detect.evidence.explain import Case
    from stillwatch.detect.facts import facts_of
    from stillwatch.detect.members.reread import quote_again

    case = Case(
        ran.profiles,
        ran.findings,
        reference=ran.reference,
        facts=facts_of(ran.profiles.accounts, ran.table),
        config=request.config,
    )
    told = quote_again(case.explain(account), ran.read)
    if as_json:
        print_json(told)
        return
    _print_standing(told)
    _print_surroundings(told)


def _print_standing(told: Explanation) -> None:
    standing = {
        "named": f"named in {told.campaign_id}",
        "suspected": "in a group that was looked at, not named",
        "nothing": "in no group",
    }[told.standing]
    standing += f", one of the names behind {told.owner_id}" if told.owner_id else ""
    click.echo(f"{told.account}: {standing}, score {told.score:.2f}")
    for reason in told.reasons:
        click.echo(f"  {reason}")
    click.echo(
        f"\n{told.exchanges:,} exchanges ({told.kept:,} kept), {told.output_tokens:,} output "
        f"tokens, {told.refused:,} refused; {_day(told.first_seen)} to {_day(told.last_seen)}"
    )


def _print_surroundings(told: Explanation) -> None:
    if told.habits:
        click.echo("\nrare wording it uses")
    for habit in told.habits[:_SHOWN]:
        group = f", group {habit.group}" if habit.group else ""
        click.echo(
            f"  {habit.exchanges:,} exchanges; {habit.others:,} other accounts, "
            f"{habit.reference:,} in the reference{group}"
        )
        for quote in habit.quotes[:3]:
            system = f"{_marked(quote.system, quote.system_marks)} | " if quote.system else ""
            click.echo(f"    {quote.account}: {system}{_marked(quote.text, quote.marks)}")
    if told.traits:
        click.echo("\nwhat else it has")
    for trait in told.traits[:_SHOWN]:
        members = f" ({trait.campaign:,} of its campaign)" if trait.campaign else ""
        click.echo(
            f"  {trait.kind} in {trait.share:.0%} of its exchanges: {trait.others:,} other "
            f"accounts{members}, {trait.reference:,} in the reference"
        )
    if told.neighbours:
        click.echo("\nnearest by rare wording")
    for near in told.neighbours[:_SHOWN]:
        named = f", {near.campaign_id}" if near.campaign_id else ""
        click.echo(f"  {near.account}: {near.share:.0%} of it{named}")


def _marked(text: str, marks: tuple[tuple[int, int], ...]) -> str:
    """Put brackets around what is shared; one line."""
    for start, end in reversed(marks):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    line = " ".join(text.split())
    return line if len(line) <= _WIDE else f"{line[: _WIDE - 1]}…"


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def _tell(fault: Fault) -> None:
    click.echo(f"{fault.file}:{fault.line}: {fault.reason}", err=True)
