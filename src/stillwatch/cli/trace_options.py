"""What the sub-verbs of `trace` share: named files, keys, and where findings go."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
#: A file of outputs, a folder of `trace ask`, a journal or a store.
OUTPUTS = click.Path(path_type=Path, exists=True)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
NEW = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
SUSPECT = click.option("--suspect", default="suspect", help="The suspect's name in the plan.")
_LEAST = 16  # bytes: 128 bits cannot be searched


def finding_options(command: F) -> F:
    """Add the options of a command that makes findings.

    Args:
        command: takes `as_json` and `out`.

    Returns:
        The command with the options.
    """
    return click.option(
        "--out", type=NEW, help="Write the findings here, for `verdict` and `bundle`."
    )(JSON(command))


def named(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> list[Any]:
    """Read NAME=FILE options.

    Args:
        context: of click.
        parameter: the option.
        value: as given.

    Returns:
        Pairs of a name and a path, in order.

    Raises:
        BadParameter: one is not NAME=FILE, or there is no such file.
    """
    found = []
    for one in value:
        name, sign, path = one.partition("=")
        if not sign or not name or "/" in name:
            rule = f"must be NAME=FILE with no / in NAME, got {one!r}"
            raise click.BadParameter(rule, context, parameter)
        if not Path(path).exists():
            message = f"there is no {path}"
            raise click.BadParameter(message, context, parameter)
        found.append((name, Path(path)))
    return found


def roles(role: str, pairs: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Turn NAME=FILE pairs into the inputs of a step.

    Args:
        role: what they are to the step.
        pairs: names and files; a name may stand several times.

    Returns:
        `role/NAME/NUMBER` -> file.
    """
    return {f"{role}/{name}/{number}": path for number, (name, path) in enumerate(pairs)}


def read_key(variable: str, file: Path | None) -> bytes:
    """Read a secret key; it is never shown.

    Args:
        variable: the environment variable that holds it when there is no file.
        file: a file of hex digits that only its owner may read, or None.

    Returns:
        At least 16 bytes.

    Raises:
        ConfigError: there is none, it is too short, or others may read the file.
    """
    from stillwatch.errors import ConfigError

    where = f"environment: {variable}" if file is None else str(file)
    if file is not None:
        check_private(file)
    text = os.environ.get(variable, "") if file is None else file.read_text("ascii", "replace")
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) < _LEAST:
        message = f"{where} must be at least {2 * _LEAST} hex digits"
        hint = "openssl rand -hex 32 makes a key; the one that was used tests what it marked"
        raise ConfigError(message, hint=hint)
    return key


def check_private(file: Path) -> None:
    """Refuse a file of secrets that others may read.

    Args:
        file: holds a key.

    Raises:
        ConfigError: its permissions let a group or everybody at it.
    """
    from stillwatch.errors import ConfigError

    if file.stat().st_mode & 0o077:
        message = f"{file}: a file with a key must be its owner's alone"
        raise ConfigError(message, hint=f"chmod 600 {file}")


def write_private(path: Path, document: object) -> None:
    """Write a secret as JSON that only its owner may read; never over another one.

    Args:
        path: a new file.
        document: what msgspec encodes.

    Raises:
        ConfigError: the file stands already.
    """
    from stillwatch.errors import ConfigError
    from stillwatch.record.disk import replace_json

    if path.exists():
        message = f"{path}: stands already, and what was drawn must stay as it is"
        raise ConfigError(message, hint="name another file")
    replace_json(path, document, mode=0o600)


def decoded(path: Path, shape: Any) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        shape: what it must hold.

    Returns:
        The value.

    Raises:
        ConfigError: it holds something else.
    """
    import msgspec

    from stillwatch.errors import ConfigError

    try:
        return msgspec.json.decode(path.read_bytes(), type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path}: not what is expected there: {error}"
        raise ConfigError(message) from error
