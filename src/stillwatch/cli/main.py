"""The command line's entry: one group, verbs loaded when they are called."""

from __future__ import annotations

import errno
import sys
import traceback
from importlib import import_module

import click

from stillwatch import __version__
from stillwatch.errors import StillwatchError

#: verb -> (module, one line for the overview); the modules import their libraries when called.
VERBS: dict[str, tuple[str, str]] = {
    "siege": ("stillwatch.cli.siege", "The contest on loopback; ends in the moat report."),
    "distill": ("stillwatch.cli.distill", "What a copy costs: the copy curve."),
    "detect": ("stillwatch.cli.detect", "Find the webs of accounts in exchange logs."),
    "logs": ("stillwatch.cli.logs", "Read logs of any common format; forget what must go."),
    "guard": ("stillwatch.cli.guard", "The gateway in front of a model."),
    "trace": ("stillwatch.cli.trace", "Test whether a model was trained on your answers."),
    "completion": ("stillwatch.cli.completion", "Print the shell's completion script."),
}
#: The exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130


class Verbs(click.Group):
    """A group that knows its verbs by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order of the overview."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and take its command."""
        if cmd_name not in VERBS:
            return None
        command = import_module(VERBS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stillwatch")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def stillwatch(ctx: click.Context, debug: bool) -> None:
    """Watch for stills, and be one: what a model's copy costs, who copies it, and the proof."""
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Args:
        arguments: the words after the program's name; None takes them from the process.

    Raises:
        SystemExit: always; 0 done, 1 failure, 2 the user must fix something, 3 budget reached,
            4 permission missing, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    # --debug helps wherever it stands.
    words = [word for word in words if word != "--debug"]
    try:
        code = stillwatch.main(words, prog_name="stillwatch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except Exception as error:
        code = _explain(error, debug=debug)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, StillwatchError):
        click.echo(f"stillwatch: {error}", err=True)
        if error.hint is not None:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _FIXABLE:
        where = f" {error.filename}" if error.filename else ""
        click.echo(f"stillwatch: {_FIXABLE[error.errno]}:{where} ({error.strerror})", err=True)
        return 2
    name = type(error).__name__
    click.echo(f"stillwatch: an error that should not happen ({name}): {error}", err=True)
    if not debug:
        click.echo("hint: run it again with --debug and report what it prints", err=True)
    return 1


_FIXABLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is reached",
    errno.EACCES: "no permission for",
    errno.EPERM: "no permission for",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "this is not a folder",
    errno.EISDIR: "this is a folder",
    errno.EADDRINUSE: "the port is busy",
}

if __name__ == "__main__":
    main()
