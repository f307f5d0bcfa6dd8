"""What a check says of an answer, and the protocol that every check has.

A check is called with the truth, the answer's text and the item that was asked. It says correct,
wrong, or that it cannot tell: an answer without a number is wrong, a truth that is no number makes
the check blind. Nothing that is unknown ever counts as wrong or as right here; who counts decides.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from stillwatch.distill.items import Item
from stillwatch.errors import ConfigError, reject


class Judgement(NamedTuple):
    """What a check says of one answer.

    Attributes:
        correct: True, False, or None when the check cannot tell.
        reason: why, in a few words; for the reader of a report, never compared by code.
    """

    correct: bool | None
    reason: str


class Row(NamedTuple):
    """One answer to be judged.

    Attributes:
        truth: the right answer, or None where none is known.
        answer: the answer's text.
        item: what was asked.
    """

    truth: str | None
    answer: str
    item: Item


NO_TRUTH = Judgement(None, "no truth is known")


@runtime_checkable
class Check(Protocol):
    """Compares answers with the truth."""

    @property
    def kind(self) -> str:
        """The name that `check_of` knows it by."""
        ...

    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer, here and now.

        Args:
            truth: the right answer, or None.
            answer: the answer's text.
            item: what was asked.

        Returns:
            The judgement.
        """
        ...

    async def judge(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer without holding up the event loop.

        Args:
            truth: the right answer, or None.
            answer: the answer's text.
            item: what was asked.

        Returns:
            The judgement.
        """
        ...

    async def judge_many(self, rows: Sequence[Row]) -> list[Judgement]:
        """Judge many answers, as many at once as is good for the check.

        Args:
            rows: any number.

        Returns:
            One judgement a row, in order.
        """
        ...


class PureCheck(abc.ABC):
    """A check that only computes: the three ways to call it are one.

    Subclasses define `kind` and `__call__`.
    """

    kind = ""

    @abc.abstractmethod
    def __call__(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: the right answer, or None.
            answer: the answer's text.
            item: what was asked.

        Returns:
            The judgement.
        """

    async def judge(self, truth: str | None, answer: str, item: Item) -> Judgement:
        """Judge one answer.

        Args:
            truth: the right answer, or None.
            answer: the answer's text.
            item: what was asked.

        Returns:
            The judgement.
        """
        return self(truth, answer, item)

    async def judge_many(self, rows: Sequence[Row]) -> list[Judgement]:
        """Judge many answers; other tasks get their turn in between.

        Args:
            rows: any number.

        Returns:
            One judgement a row, in order.
        """
        judgements = []
        for n, row in enumerate(rows):
            if n % 64 == 63:
                await asyncio.sleep(0)
            judgements.append(self(*row))
        return judgements


S = TypeVar("S", bound=msgspec.Struct)


def read_options(kind: str, options: Mapping[str, Any] | None, into: type[S]) -> S:
    """Read a check's options.

    Args:
        kind: the check, for the message.
        options: as the run's file gives them, or None for the defaults.
        into: the struct that knows them.

    Returns:
        The options.

    Raises:
        ConfigError: an unknown option, or a value of another type.
    """
    try:
        return msgspec.convert(dict(options or {}), into)
    except msgspec.ValidationError as error:
        known = ", ".join(into.__struct_fields__) or "none"
        message = f"check {kind}: {error}"
        raise ConfigError(message, hint=f"options of this check: {known}") from error


def run_here(check: Check, row: Row) -> Judgement:
    """Run a check that must wait for others from code that is not async.

    Args:
        check: any check.
        row: what to judge.

    Returns:
        The judgement.

    Raises:
        InvalidInputError: an event loop is running already; `await check.judge(...)` there.
    """
    if _is_inside_a_loop():
        reject(
            f"check {check.kind}",
            "the caller",
            "outside an event loop",
            got="inside one",
            hint="use `await check.judge(truth, answer, item)`",
        )
    return asyncio.run(check.judge(*row))


def _is_inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
