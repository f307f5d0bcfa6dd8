"""`stillwatch guard`: the gateway in front of a model."""

from __future__ import annotations

from pathlib import Path

import click

from stillwatch.cli.guard_policy import policy


@click.group("guard")
def command() -> None:
    """Record what goes to your model, see campaigns live, and act."""


command.add_command(policy)


@command.command("serve")
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def serve(*, config: Path) -> None:
    """Serve the gateway that CONFIG (a TOML file) describes, until told to end.

    Secrets come from the environment: STILLWATCH_HASH_KEY and the others of docs/guard.md. Without
    a ladder in the file nothing is done to anybody: campaigns are observed.
    """
    from stillwatch.guard.config import Secrets, load_config
    from stillwatch.guard.gateway import run_gateway

    loaded = load_config(config, secrets=Secrets.from_env())

    def on_ready(port: int) -> None:
        click.echo(f"serving on http://{loaded.host}:{port}, mode {loaded.ladder.mode}", err=True)

    run_gateway(loaded, on_ready)


@command.command("verify-log")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def verify_log(*, file: Path) -> None:
    """Walk the hash chain of the audit log FILE; a changed line is named, with exit code 1."""
    from stillwatch.guard.audit import verify_audit

    summary = verify_audit(file)
    click.echo(f"the chain holds: {summary[0]:,} lines, newest hash {summary[1]}")
