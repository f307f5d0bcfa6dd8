"""`stillwatch completion`: the script that teaches a shell the verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script of SHELL; source it from the shell's start-up file.

    \b
    bash   eval "$(stillwatch completion bash)"
    zsh    eval "$(stillwatch completion zsh)"
    fish   stillwatch completion fish | source
    """  # noqa: D301 - click's own mark for lines that must not be wrapped
    from stillwatch.cli.main import stillwatch

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(stillwatch, {}, "stillwatch", "_STILLWATCH_COMPLETE").source())
