"""What goes into a bundle, as a TOML file that a person writes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from stillwatch.errors import ConfigError
from stillwatch.trace.bundle.making import Contents
from stillwatch.trace.bundle.manifest import Case, Step


class _BundleFile(msgspec.Struct, forbid_unknown_fields=True):
    case: Case
    files: dict[str, str] = {}
    steps: list[Step] = []
    commitments: list[str] = []
    disclose: list[str] = []


def read_bundle_file(path: Path) -> Contents:
    """Read what goes into a bundle.

    Args:
        path: a TOML file with `[case]`, `[files]` (name in the bundle = file), `[[steps]]`,
            `commitments` (folders) and `disclose` (names); its paths are relative to it.

    Returns:
        For `make_bundle`.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, or names a file that is not there.
    """
    try:
        told = msgspec.convert(tomllib.loads(path.read_text("utf-8")), type=_BundleFile)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        message = f"{path}: {error}"
        hint = "it has [case], [files], [[steps]], commitments and disclose"
        raise ConfigError(message, hint=hint) from error
    files = {name: path.parent / source for name, source in told.files.items()}
    for name, source in files.items():
        if not source.is_file():
            message = f"{path}: files.{name} must be a file, got {told.files[name]!r}"
            raise ConfigError(message, hint="paths are relative to this file")
    folders = [path.parent / folder for folder in told.commitments]
    return Contents(told.case, files, told.steps, folders, told.disclose)
