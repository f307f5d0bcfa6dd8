"""`stillwatch logs spend`: rows of a live LiteLLM spend log into a store."""

from __future__ import annotations

import os
from pathlib import Path

import click

#: The connection string stands in the environment: it may hold a password.
DSN_VARIABLE = "STILLWATCH_SPEND_DSN"


@click.command("spend")
@click.argument("store", type=click.Path(path_type=Path, file_okay=False))
@click.option("--schema", default="public", show_default=True, help="Schema of the table.")
@click.option(
    "--settle",
    default=7200.0,
    show_default=True,
    metavar="SECONDS",
    help="Rows younger than this wait for the next call.",
)
@click.option(
    "--hash-key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of the key for keys and addresses, made if absent.",
)
def spend(*, store: Path, schema: str, settle: float, hash_key: Path) -> None:
    """Add what came to a LiteLLM spend log in PostgreSQL since the last call to STORE.

    The connection string comes from the environment variable STILLWATCH_SPEND_DSN. Killed anywhere
    and called again, it leaves every row in the store once.

    \b
    STILLWATCH_SPEND_DSN=postgresql:///litellm stillwatch logs spend store --hash-key hash.key
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.errors import ConfigError
    from stillwatch.logs.postgres import SpendLogs
    from stillwatch.logs.reader import ReadOptions
    from stillwatch.logs.spend_update import update_from_spend_logs
    from stillwatch.record.privacy import KeyedHash

    dsn = os.environ.get(DSN_VARIABLE)
    if not dsn:
        message = f"environment: {DSN_VARIABLE} must be set"
        raise ConfigError(message, hint="a libpq connection string or URL")
    done = update_from_spend_logs(
        SpendLogs(dsn, schema=schema, settle_s=settle),
        store,
        options=ReadOptions(KeyedHash.from_file(hash_key, create=True)),
        on_fault=lambda fault: click.echo(f"row {fault.line}: {fault.reason}", err=True),
    )
    click.echo(f"{store}: {done.n_exchanges:,} exchanges added")
