"""A model behind an OpenAI-compatible endpoint, asked through `stillwatch.model.client`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Self

from stillwatch.errors import ModelError, ModelRateError, StillwatchError, reject
from stillwatch.model.client import (
    EndpointClient,
    ModelUnavailableError,
    Timeouts,
    retry_after_s,
)
from stillwatch.model.protocol import Question, Reply
from stillwatch.wire.chat import encode_request

__all__ = ["HttpModel", "ModelUnavailableError", "Retries", "Timeouts", "retry_after_s"]


class Retries(NamedTuple):
    """How often to try again what may succeed later.

    Attributes:
        n_retries: further tries after the first (count).
        first_wait_s: wait before the first of them, doubled for each next, unless the endpoint
            says how long.
        longest_wait_s: the most that is ever waited; a longer wait that the endpoint asks for is
            raised instead.
    """

    n_retries: int = 2
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0


class HttpModel:
    """Asks an endpoint. Use it with `async with`, or call `aclose`.

    Args:
        endpoint: base URL, the part before `/chat/completions`, for example
            `http://127.0.0.1:8000/v1`.
        api_key: sent as bearer token; read it from the environment, never from a file of settings.
        model: the model to ask when a question names none.
        concurrency: questions under way at once (count).
        timeouts: how long to wait.
        retries: how often to try again.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_key: str | None = None,
        model: str = "",
        concurrency: int = 16,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - immutable
        retries: Retries = Retries(),  # noqa: B008 - immutable
    ) -> None:
        if concurrency < 1:
            reject("HttpModel", "concurrency", "at least 1", got=concurrency)
        self._client = EndpointClient(
            endpoint,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeouts=timeouts,
            connections=concurrency,
        )
        self._model = model
        self._concurrency = concurrency
        self._retries = retries

    @property
    def name(self) -> str:
        """The model's name, or the endpoint's when the model was left to it."""
        return self._model or self._client.where

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch, `concurrency` questions at a time.

        Args:
            questions: any number.

        Returns:
            One reply a question, in order.

        Raises:
            ModelError: a question failed for good; no further one is begun, those under way are
                cancelled.
        """
        replies: dict[int, Reply] = {}
        todo = iter(enumerate(questions))

        async def work() -> None:
            for n, question in todo:
                replies[n] = await self.ask(question)

        n_workers = min(self._concurrency, len(questions))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(n_workers):
                    group.create_task(work())
        except* StillwatchError as errors:
            raise _first(errors) from None
        return [replies[n] for n in range(len(questions))]

    async def ask(self, question: Question, *, stream: bool = False) -> Reply:
        """Answer one question, trying again what may succeed later.

        Args:
            question: what is asked.
            stream: have the answer sent in pieces, so that `silence_s` guards it; the reply is the
                same.

        Returns:
            The reply.

        Raises:
            ModelAuthError: the endpoint refused the key (401, 403).
            ModelRateError: too many questions (429), still so after the last try.
            ModelTimeoutError: no answer in time, still so after the last try.
            ModelError: any other failure.
        """
        wait_s, tries_left = self._retries.first_wait_s, self._retries.n_retries
        while True:
            try:
                return await self._try(question, stream=stream)
            except ModelError as error:
                told_s = error.retry_after_s if isinstance(error, ModelRateError) else None
                pause_s = wait_s if told_s is None else told_s
                too_long = pause_s > self._retries.longest_wait_s
                if not error.retryable or not tries_left or too_long:
                    raise
            await asyncio.sleep(pause_s)
            wait_s, tries_left = wait_s * 2, tries_left - 1

    async def aclose(self) -> None:
        """Close the connections. A second call does nothing."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _try(self, question: Question, *, stream: bool) -> Reply:
        if not question.model and self._model:
            question = Question(
                messages=question.messages, model=self._model, parameters=question.parameters
            )
        body = encode_request(question, stream=stream)
        outcome = await self._client.ask(body, stream=stream)
        if outcome.reply is None:
            raise outcome.error or ModelError(f"{self._client.where}: no answer")
        return outcome.reply


def _first(errors: BaseExceptionGroup[StillwatchError]) -> StillwatchError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
