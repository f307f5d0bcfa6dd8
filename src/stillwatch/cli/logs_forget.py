"""`stillwatch logs forget`, `retain` and `rotate-key`: accounts, what is old, and keys go."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
import msgspec

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_557_600.0}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdwy])")


def _age(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read a span of time such as 12h, 90d or 2y as seconds."""
    if value is None:
        return None
    match = _AGE.fullmatch(value.strip())
    if match is None:
        message = f"must be a number and one of s, m, h, d, w, y, got {value!r}"
        raise click.BadParameter(message)
    return float(match[1]) * _UNITS[match[2]]


_STORE = click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="Store to take from."
)
_JOURNAL = click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    help="Journal to take from; its gateway may be running.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Count only; change nothing.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")


@click.command("forget")
@click.argument("accounts", metavar="ACCOUNT...", nargs=-1, required=True)
@_STORE
@_JOURNAL
@_DRY_RUN
@_JSON
def forget(
    *,
    accounts: tuple[str, ...],
    store: Path | None,
    journal: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Erase every exchange of each ACCOUNT from store and journal.

    This cannot be undone. Block the accounts first: what they ask meanwhile may stay.

    \b
    stillwatch logs forget acct-17 --store record/store --journal record/journal
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.record.forget import forget_accounts

    found = forget_accounts(accounts, store=store, journal=journal, dry_run=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(found._asdict()))
        return
    verb = "would be erased" if dry_run else "erased"
    if journal is not None:
        click.echo(f"{found.n_journal:,} exchanges {verb} from {journal}")
    if store is not None:
        click.echo(f"{found.n_store:,} exchanges {verb} from {store}")
    _tell_unread(found.n_unread, journal)


@click.command("retain")
@_STORE
@_JOURNAL
@click.option(
    "--bodies", callback=_age, metavar="AGE", help="Age at which texts go, such as 7d; else never."
)
@click.option(
    "--events",
    callback=_age,
    metavar="AGE",
    help="Age at which exchanges go, such as 90d; else never.",
)
@_DRY_RUN
@_JSON
def retain(
    *,
    store: Path | None,
    journal: Path | None,
    bodies: float | None,
    events: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Keep texts and exchanges no longer than told; for a daily job.

    A journal is brought into the store first. This cannot be undone.

    \b
    stillwatch logs retain --store record/store --journal record/journal --bodies 7d --events 90d
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.record.forget import Retention, apply_retention

    if bodies is None and events is None:
        message = "name at least one of --bodies and --events"
        raise click.UsageError(message)
    found = apply_retention(
        Retention(bodies_s=bodies, events_s=events),
        now=time.time(),
        store=store,
        journal=journal,
        dry_run=dry_run,
    )
    if as_json:
        click.echo(msgspec.json.encode(found._asdict()))
        return
    verb = "would go" if dry_run else "went"
    if journal is not None:
        click.echo(f"{found.n_journal:,} exchanges {verb} from {journal}")
    if store is not None:
        click.echo(f"{found.n_store:,} exchanges and {found.n_bodies:,} texts {verb} from {store}")
    _tell_unread(found.n_unread, journal)


@click.command("rotate-key")
@click.argument("key_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Earlier keys to keep, to recognise their hashes; 0 makes these anonymous for good.",
)
def rotate_key(*, key_file: Path, keep: int) -> None:
    """Put a new hash key in front of those of KEY_FILE, or make the file.

    Hashes made under the new key do not equal older ones: rotate between detection windows.

    \b
    stillwatch logs rotate-key hash.key
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.record.privacy import rotate_key_file

    n_keys = rotate_key_file(key_file, keep=keep)
    click.echo(f"{key_file}: a new key, and {n_keys - 1:,} to recognise older hashes")


def _tell_unread(n_unread: int, journal: Path | None) -> None:
    if n_unread:
        click.echo(f"{n_unread:,} damaged lines of {journal} could not be read and stay", err=True)
