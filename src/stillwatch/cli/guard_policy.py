"""`stillwatch guard policy`: test, diff, explain."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillwatch.cli.logs import read_options
from stillwatch.cli.printing import print_json

if TYPE_CHECKING:
    from stillwatch.guard.policy.compare import Difference
    from stillwatch.guard.policy.document import PolicyFile
    from stillwatch.guard.policy.engine import Ruling
    from stillwatch.guard.policy.facts import Asking
    from stillwatch.guard.wall.verdict import Board
    from stillwatch.logs.accounts import AccountRow
    from stillwatch.record.exchange import Exchange

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_SHOWN = 20


@click.group("policy")
def policy() -> None:
    """Test, compare and explain the rules of a policy file."""


def _tables(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where facts come from."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--hash-key", type=_FILE, help="File of the key that accounts are hashed by."),
        click.option("--verdicts", type=_FILE, help="The gateway's verdicts.sqlite."),
        click.option("--accounts", metavar="FILE", help="Table of accounts, as for the gateway."),
    ):
        function = option(function)
    return function


@policy.command("test")
@click.argument("files", nargs=-1, required=True, type=_FILE)
def test(*, files: tuple[Path, ...]) -> None:
    """Run every inline test of the policy FILES; exit code 1 when one fails, 2 when one is broken.

    Warns of rules that are due for review and of lists that are too old today.
    """
    from stillwatch.guard.policy.cases import run_cases
    from stillwatch.guard.policy.document import load_policy

    n_failed = 0
    for file in files:
        found = load_policy(file)
        results = run_cases(found)
        failed = [result for result in results if result.failure is not None]
        for result in failed:
            name = f"rule {result.rule}" if result.rule else "the whole"
            click.echo(f"{file}:{result.line}: {name}: {result.failure}", err=True)
        _warn(found, time.time())
        shadows = sum(rule.shadow for rule in found.rules)
        click.echo(
            f"{file}: {len(found.rules):,} rules ({shadows:,} in shadow), {len(results):,} tests, "
            f"{len(failed):,} failed, sha256 {found.sha256}"
        )
        n_failed += len(failed)
    sys.exit(1 if n_failed else 0)


@policy.command("diff")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option(
    "--log", "logs", multiple=True, required=True, metavar="LOGS",
    help="Exchanges: logs of any known format, stores, or a gateway's journal.",
)  # fmt: skip
@click.option("--format", "format_name", default="auto", help="The logs' format.")
@click.option("--as-if-live", is_flag=True, help="Treat shadow rules as if they were not.")
@_tables
def diff(
    *, old: Path, new: Path, logs: tuple[str, ...], format_name: str, as_if_live: bool, **how: Any
) -> None:
    """Say which accounts and exchanges of a log the policy NEW treats differently from OLD."""
    from stillwatch.guard.policy.compare import compare
    from stillwatch.guard.policy.document import load_policy

    difference = compare(
        load_policy(old),
        load_policy(new),
        _exchanges(logs, format_name, hash_key=how["hash_key"]),
        accounts=_accounts(how["accounts"], how["hash_key"]),
        board=_board(how["verdicts"]),
        as_if_live=as_if_live,
    )
    if how["as_json"]:
        plain = {
            account: {
                "exchanges": change.n_exchanges,
                "changes": [
                    {"old": c.old, "new": c.new, "exchanges": n} for c, n in change.changes.items()
                ],
                "exchange_ids": change.exchange_ids,
            }
            for account, change in difference.accounts.items()
        }
        print_json({"exchanges": difference.n_exchanges, "accounts": plain})
        return
    _print_difference(difference)


@policy.command("explain")
@click.argument("file", type=_FILE)
@click.argument("account")
@click.option("--model", default=None, help="The model asked for.")
@click.option("--asks", default="", help="Capabilities asked for, with commas between.")
@click.option("--address", default=None, help="The client's address.")
@click.option("--fact", "given", multiple=True, metavar="WORD=VALUE", help="A fact, set by hand.")
@click.option("--at", default=None, help="The moment, like 2026-11-01T12:00; now unless given.")
@_tables
def explain(*, file: Path, account: str, given: tuple[str, ...], **how: Any) -> None:
    """Say which rules of FILE fire for ACCOUNT, and why, question by question."""
    from stillwatch.guard.policy import explain as explaining
    from stillwatch.guard.policy.document import load_policy
    from stillwatch.guard.policy.engine import Engine
    from stillwatch.guard.policy.facts import FactSource
    from stillwatch.guard.policy.facts_file import parse_fact
    from stillwatch.guard.policy.vocabulary import PLACES

    found = load_policy(file)
    now = _moment(how["at"])
    source = FactSource(found, _accounts(how["accounts"], how["hash_key"]))
    facts = source.facts(_asking(account, _board(how["verdicts"]), now, **how), now, count=False)
    for name, value in map(parse_fact, given):
        facts[PLACES[name]] = value
    answered = explaining.explain(Engine(found), facts, now)
    ruling, would = answered.judged.ruling, answered.judged.would
    if how["as_json"]:
        print_json({
            "account": account,
            "action": ruling.action,
            "rule": ruling.rule_id,
            "would": would.action if would else None,
            "policy": found.sha256,
            "rules": [
                {"id": a.rule.id, "state": a.state, "questions": a.questions}
                for a in answered.rules
            ],
        })  # fmt: skip
        return
    click.echo(f"{account}: {_named(ruling)}")
    if would is not None:
        click.echo(f"without shadow: {_named(would)}")
    for answer in answered.rules:
        rule = answer.rule
        shadow = ", shadow" if rule.shadow else ""
        click.echo(f"\n{rule.id} ({rule.kind}, {rule.effect}{shadow}): {answer.state}")
        click.echo(f"  because: {rule.reason} ({rule.owner}, {file}:{rule.line})")
        for question in answer.questions:
            click.echo(f"  {question}")


def _asking(
    account: str, board: Board | None, now: float, *, model: str | None, asks: str,
    address: str | None, **_: Any,
) -> Asking:  # fmt: skip
    from stillwatch.guard.policy.facts import Asking

    verdict = board.verdict(account, now) if board is not None else None
    capabilities = frozenset(part for part in asks.split(",") if part)
    return Asking(account, None, model, capabilities, address, verdict)


def _named(ruling: Ruling) -> str:
    rule = f" by rule {ruling.rule.id}" if ruling.rule is not None else ""
    return f"{ruling.action}{rule}"


def _moment(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"--at: must be a moment like 2026-11-01T12:00, got {text!r}"
        raise click.BadParameter(message) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _warn(found: PolicyFile, now: float) -> None:
    for rule in found.rules:
        if now >= rule.review_by:
            click.echo(f"{found.path}:{rule.line}: rule {rule.id}: due for review", err=True)
        if now >= rule.until_at:
            click.echo(f"{found.path}:{rule.line}: rule {rule.id}: not in force any more", err=True)
    for source in found.sources:
        if now >= source.stale_at:
            click.echo(f"{source.path}: list {source.name} of {source.day} is too old", err=True)


def _accounts(path: str | None, hash_key: Path | None) -> Mapping[str, AccountRow]:
    from stillwatch.logs.accounts import load_accounts

    if path is None:
        return {}
    return load_accounts(path, read_options(bodies="drop", hash_key=hash_key)).rows


def _board(path: Path | None) -> Board | None:
    from stillwatch.guard.wall.verdict import VerdictTable

    if path is None:
        return None
    table = VerdictTable(path)
    try:
        return table.load()
    finally:
        table.close()


def _exchanges(
    names: tuple[str, ...], format_name: str, *, hash_key: Path | None
) -> Iterator[Exchange]:
    from stillwatch.logs.reading import Reading, ReadRequest
    from stillwatch.record.exchange import from_batch

    options = read_options(bodies="drop", hash_key=hash_key)
    request = ReadRequest(names=names, options=options, format=format_name, processes=1)
    for batch in Reading(request).batches():
        yield from from_batch(batch)


def _print_difference(difference: Difference) -> None:
    click.echo(
        f"{difference.n_changed:,} of {difference.n_exchanges:,} exchanges and "
        f"{len(difference.accounts):,} of {difference.n_accounts:,} accounts are treated "
        "differently"
    )
    ordered = sorted(difference.accounts.items(), key=lambda item: -item[1].n_changed)
    for account, change in ordered[:_SHOWN]:
        click.echo(f"\n{account}: {change.n_changed:,} of {change.n_exchanges:,} exchanges")
        for what, n in change.changes.most_common():
            click.echo(f"  {n:,}: {what.old} -> {what.new}")
    if len(ordered) > _SHOWN:
        click.echo(f"\nand {len(ordered) - _SHOWN:,} more accounts (--json lists all)")
