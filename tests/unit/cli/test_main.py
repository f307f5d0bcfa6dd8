"""The command line: one sentence an error, the right exit code, a light start."""

import errno
import subprocess
import sys
from unittest.mock import patch

import click
import pytest

from stillwatch.cli import main as cli
from stillwatch.errors import BudgetReachedError, InvalidInputError, NotPermittedError


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stillwatch.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_every_verb() -> None:
    """The overview names each verb with what it is for."""
    shown = _run("--help").stdout
    for name, (_, line) in cli.VERBS.items():
        assert name in shown
        assert line in shown


def test_unknown_verb() -> None:
    """An unknown verb is the user's to fix."""
    done = _run("destil")
    assert 2 == done.returncode
    assert "destil" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """Each shell gets a completion script."""
    done = _run("completion", shell)
    assert 0 == done.returncode
    assert "_STILLWATCH_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InvalidInputError("a: b must be c, got 1", hint="do d"), 2, "a: b must be c, got 1"),
        (BudgetReachedError("spent"), 3, "spent"),
        (NotPermittedError("no block"), 4, "no block"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "no permission for: /x"),
        (RuntimeError("bug"), 1, "an error that should not happen (RuntimeError): bug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every error is one sentence and an exit code, and no traceback unless asked for."""

    def fail(*_: object, **__: object) -> None:
        raise error

    with patch.object(click.Group, "main", fail):
        with pytest.raises(SystemExit) as left:
            cli.main([])
        assert code == left.value.code
        shown = capsys.readouterr().err
        assert words in shown
        assert "Traceback" not in shown
        if isinstance(error, Exception):
            with pytest.raises(SystemExit):
                cli.main(["--debug"])
            assert "Traceback" in capsys.readouterr().err
