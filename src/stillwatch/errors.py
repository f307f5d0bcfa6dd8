"""The error tree: what went wrong, where, the rule, the value, and what to do.

StillwatchError                     exit 1, a failure
+-- InvalidInputError (ValueError)  exit 2, an argument or a datum breaks a rule
|   `-- ConfigError                 exit 2, a configuration file breaks a rule
+-- MissingExtraError               exit 2, an optional part is not installed
+-- EnvironmentUnfitError           exit 2, a busy port, a full disk, a folder without permission
+-- RecordError                     exit 1, the record cannot be read or written
+-- ModelError                      exit 1, a model did not answer
|   +-- ModelAuthError              exit 2, the endpoint refused the key
|   +-- ModelRateError              retryable
|   `-- ModelTimeoutError           retryable
+-- BudgetReachedError              exit 3
`-- NotPermittedError               exit 4, no permission block, or a target that is not loopback
"""

from __future__ import annotations

from types import TracebackType
from typing import ClassVar, NoReturn


class StillwatchError(Exception):
    """A failure that a user should read as one sentence.

    Args:
        message: what went wrong and where, one sentence; never a key, an address or a message body.
        hint: what to do about it, or None.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")


class InvalidInputError(StillwatchError, ValueError):
    """An argument or a datum breaks a rule; the user must change it."""

    exit_code = 2


class ConfigError(InvalidInputError):
    """A configuration file breaks a rule; the message names file, key and allowed values."""


class MissingExtraError(StillwatchError):
    """An optional part of the package is needed and not installed."""

    exit_code = 2


class EnvironmentUnfitError(StillwatchError):
    """The machine refuses: a port is busy, a disk is full, a folder cannot be written."""

    exit_code = 2


class RecordError(StillwatchError):
    """The record cannot be read or written as asked."""


class ModelError(StillwatchError):
    """A model did not answer as asked."""


class ModelAuthError(ModelError):
    """The endpoint refused the key; another try cannot help."""

    exit_code = 2


class ModelRateError(ModelError):
    """The endpoint asks for a slower pace.

    Args:
        message: as for every error.
        retry_after_s: seconds to wait as the endpoint said, or None.
        hint: as for every error.
    """

    retryable = True

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ModelTimeoutError(ModelError):
    """The endpoint did not answer in time."""

    retryable = True


class BudgetReachedError(StillwatchError):
    """A budget of questions, tokens or dollars is spent; what was bought is kept."""

    exit_code = 3


class NotPermittedError(StillwatchError):
    """No permission block for this teacher, or a target that must be loopback and is not."""

    exit_code = 4


def reject(where: str, name: str, rule: str, *, got: object, hint: str | None = None) -> NoReturn:
    """Raise the house's one sentence about a value that breaks a rule.

    Args:
        where: the file, function or option that holds the value.
        name: the field as the user wrote it.
        rule: what it must be, to follow "must be".
        got: the value; callers pass a length or a hash instead of secrets and bodies.
        hint: what to do.

    Raises:
        InvalidInputError: always.

    Example:
        >>> reject("stats.wilson", "total", "at least 1", got=0)
        Traceback (most recent call last):
        ...
        stillwatch.errors.InvalidInputError: stats.wilson: total must be at least 1, got 0
    """
    raise InvalidInputError(f"{where}: {name} must be {rule}, got {got!r}", hint=hint)  # noqa: EM102


class extra:  # noqa: N801 - reads as a statement: `with extra("train"): import torch`
    """Translate a failed import of an optional package into the command that installs it.

    Args:
        name: the extra as pip knows it, for example `train`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, ImportError):
            message = f"this needs the extra '{self.name}': {error.name or 'a package'} is missing"
            raise MissingExtraError(
                message, hint=f"pip install 'stillwatch[{self.name}]'"
            ) from error
