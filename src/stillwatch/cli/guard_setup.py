"""`stillwatch guard init` and `check`: before the gateway serves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stillwatch.guard.config import GuardConfig

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def secrets_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add the option that names a file of secrets.

    Args:
        function: a command.

    Returns:
        The command with the option.
    """
    return click.option(
        "--secrets",
        type=FILE,
        help="File of NAME=VALUE lines, mode 600; the environment wins.",
    )(function)


def load(config: Path, secrets: Path | None) -> GuardConfig:
    """Read a configuration with its secrets.

    Args:
        config: the TOML file.
        secrets: a file of secrets, or None for the environment alone.

    Returns:
        The configuration.
    """
    from stillwatch.guard.config import Secrets, load_config
    from stillwatch.guard.setup.first_run import read_secrets

    known = read_secrets(secrets) if secrets is not None else os.environ
    return load_config(config, secrets=Secrets.from_env(known))


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--upstream", required=True, help="Base URL of your model server, without /v1.")
@click.option(
    "--account", "accounts", multiple=True, metavar="NAME",
    help="An account that gets a key of the gateway's own; may be given several times.",
)  # fmt: skip
def init(*, folder: Path, upstream: str, accounts: tuple[str, ...]) -> None:
    """Write the files of a first run into FOLDER: a gateway that only observes, and its secrets.

    Without --account the clients' own keys go on to the model server, and each is an account.
    """
    from stillwatch.guard.setup.first_run import write_first_run

    written = write_first_run(folder, upstream=upstream, accounts=accounts)
    click.echo(f"configuration {written.config}")
    click.echo(f"secrets {written.secrets}, readable by you alone")
    if written.handed_out is not None:
        click.echo(f"keys {written.handed_out}: hand them out, then delete the file")
    click.echo(f"next: stillwatch guard check {written.config} --secrets {written.secrets}")


@click.command("check")
@click.argument("config", type=FILE)
@secrets_option
def check(*, config: Path, secrets: Path | None) -> None:
    """Look at all that the gateway of CONFIG needs; exit code 1 when something is missing."""
    from stillwatch.guard.setup.checking import check as check_all

    loaded = load(config, secrets)
    click.echo(f"ok       configuration: mode {loaded.ladder.mode}")
    is_well = True
    for found in check_all(loaded):
        word = {True: "ok", None: "warning", False: "FAILED"}[found.is_well]
        click.echo(f"{word:8} {found.what}: {found.found}")
        is_well = is_well and found.is_well is not False
    sys.exit(0 if is_well else 1)
