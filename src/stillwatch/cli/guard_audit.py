"""`stillwatch guard verify-log` and `replay`: what was done, and whether it follows."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillwatch.cli.guard_setup import FILE
from stillwatch.cli.logs import read_options
from stillwatch.cli.printing import print_json

if TYPE_CHECKING:
    from stillwatch.guard.recording.replay import Replayed
    from stillwatch.logs.accounts import AccountRow


@click.command("verify-log")
@click.argument("file", type=FILE)
@click.option(
    "--expect", "anchors", multiple=True, metavar="HASH",
    help="A newest hash that was noted elsewhere; it must still be in the chain.",
)  # fmt: skip
def verify_log(*, file: Path, anchors: tuple[str, ...]) -> None:
    """Walk the hash chain of the audit log FILE; a changed line is named, with exit code 1."""
    from stillwatch.guard.recording.audit import verify_audit

    summary = verify_audit(file, expect=anchors)
    noted = f", {len(anchors):,} noted hashes found" if anchors else ""
    click.echo(f"the chain holds: {summary[0]:,} lines{noted}, newest hash {summary[1]}")


@click.command("replay")
@click.argument("state", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--accounts", "tables", multiple=True, type=FILE,
    help="An accounts table that the policy asked; found by its hash.",
)  # fmt: skip
@click.option("--hash-key", type=FILE, help="File of the key that accounts are hashed by.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def replay(*, state: Path, tables: tuple[Path, ...], hash_key: Path | None, as_json: bool) -> None:
    """Take every decision on record in STATE again; exit code 1 when one comes out differently.

    STATE is a gateway's state folder. Its audit log is walked first.
    """
    from stillwatch.guard.recording.audit import verify_audit
    from stillwatch.guard.recording.replay import replay as replay_all

    verify_audit(state / "audit.jsonl")
    found = replay_all(state, accounts=_accounts(tables, hash_key))
    if as_json:
        first = found.first
        print_json({
            "same": found.n_same,
            "different": found.n_different,
            "apart": dict(found.apart),
            "first": None if first is None else first._asdict() | {
                "recorded": first.recorded._asdict(), "replayed": first.replayed._asdict()
            },
        })  # fmt: skip
    else:
        _tell(found)
    sys.exit(1 if found.n_different else 0)


def _tell(found: Replayed) -> None:
    total = found.n_same + found.n_different + sum(found.apart.values())
    noun = "decision" if total == 1 else "decisions"
    click.echo(f"{total:,} {noun}: {found.n_same:,} as recorded, {found.n_different:,} not")
    for reason, n in found.apart.most_common():
        click.echo(f"  {n:,} cannot be taken again: {reason}")
    first = found.first
    if first is not None:
        click.echo(f"the first that differs: {first.exchange_id} of {first.account}")
        for name, said in (("recorded", first.recorded), ("replayed", first.replayed)):
            words = ", ".join(f"{k} {v}" for k, v in said._asdict().items() if v is not None)
            click.echo(f"  {name}: {words}")


def _accounts(
    tables: tuple[Path, ...], hash_key: Path | None
) -> dict[str, Mapping[str, AccountRow]]:
    if not tables:
        return {}
    from stillwatch.logs.accounts import load_accounts

    options = read_options(bodies="drop", hash_key=hash_key)
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): load_accounts(str(path), options).rows
        for path in tables
    }
