"""`stillwatch guard`: the gateway in front of a model."""

from __future__ import annotations

from pathlib import Path

import click

from stillwatch.cli.guard_audit import replay, verify_log
from stillwatch.cli.guard_policy import policy
from stillwatch.cli.guard_setup import FILE, check, init, load, secrets_option


@click.group("guard")
def command() -> None:
    """Record what goes to your model, see campaigns live, and act."""


@command.command("serve")
@click.argument("config", type=FILE)
@secrets_option
def serve(*, config: Path, secrets: Path | None) -> None:
    """Serve the gateway that CONFIG (a TOML file) describes, until told to end.

    Secrets come from the environment or a file: STILLWATCH_HASH_KEY and the others of
    docs/guard.md. Without a ladder in the file nothing is done to anybody: campaigns are observed.
    SIGHUP reads configuration, keys and policy again.
    """
    from stillwatch.guard.gateway import run_gateway

    loaded = load(config, secrets)

    def on_ready(port: int) -> None:
        click.echo(f"serving on http://{loaded.host}:{port}, mode {loaded.ladder.mode}", err=True)

    run_gateway(loaded, on_ready, reread=lambda: load(config, secrets))


for verb in (init, check, policy, verify_log, replay):
    command.add_command(verb)
