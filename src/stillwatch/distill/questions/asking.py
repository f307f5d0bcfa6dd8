"""Putting questions to a model while questions are being made: paid from the run's ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from stillwatch.distill.money.budget import Ledger, Reservation
from stillwatch.distill.money.token_bounds import messages_bound
from stillwatch.errors import StillwatchError
from stillwatch.model.protocol import Model, Question, Reply

T = TypeVar("T")
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


async def ask_together(
    model: Model, questions: Sequence[Question], ledger: Ledger | None
) -> list[Reply]:
    """Ask a batch, or none of it when the budget does not hold its worst case.

    Args:
        model: answers.
        questions: the batch.
        ledger: pays, or None.

    Returns:
        One reply a question, in order.

    Raises:
        BudgetReachedError: the batch does not fit.
        StillwatchError: the model failed; what was held is freed.
    """
    held: list[Reservation] = []
    try:
        if ledger is not None:
            for question in questions:
                bound = messages_bound(question.messages)
                held.append(ledger.reserve(bound, _most_output(question.parameters)))
        replies = await model.answer(questions)
    except BaseException:
        for reservation in held:
            assert ledger is not None, "only a ledger reserves"
            ledger.release(reservation)
        raise
    for reservation, reply in zip(held, replies, strict=bool(held)):
        assert ledger is not None, "only a ledger reserves"
        ledger.settle(reservation, reply.input_tokens, reply.output_tokens)
    return replies


def run_now(begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, also from within a running loop, in a thread of its own then.

    Args:
        begin: makes the coroutine.

    Returns:
        Its result.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(begin())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(begin())).result()


def needs_model(model: Model | None, *, name: str, hint: str) -> Model:
    """Insist on a model.

    Args:
        model: what was given.
        name: the key that wants it.
        hint: what to do without one.

    Returns:
        The model.

    Raises:
        StillwatchError: there is none.
    """
    if model is None:
        message = f"[questions]: {name} needs a model that answers, and none was given"
        raise StillwatchError(message, hint=hint)
    return model


def with_seed(parameters: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Tell equal requests apart by their seed; a model behind a record needs it.

    Args:
        parameters: by the wire's names.
        step: added to the seed that they hold, or to 0.

    Returns:
        The parameters with the new seed.
    """
    first = parameters.get("seed")
    return {**parameters, "seed": (first if isinstance(first, int) else 0) + step}


def _most_output(parameters: Mapping[str, Any]) -> int | None:
    return next((parameters[n] for n in _LIMITS if isinstance(parameters.get(n), int)), None)
