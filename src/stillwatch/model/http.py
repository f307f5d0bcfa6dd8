"""A model behind an OpenAI-compatible endpoint; the one place that translates HTTP failures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NamedTuple, NoReturn, Self
from urllib.parse import urlsplit

import aiohttp

from stillwatch.errors import (
    ModelAuthError,
    ModelError,
    ModelRateError,
    ModelTimeoutError,
    StillwatchError,
    reject,
)
from stillwatch.model.protocol import Question, Reply
from stillwatch.wire.chat import ChunkAssembler, encode_request, parse_error_code, parse_response


class ModelUnavailableError(ModelError):
    """The endpoint could not be reached, or failed on its side; another try may help."""

    retryable = True


class Timeouts(NamedTuple):
    """How long to wait, in seconds.

    Attributes:
        connect_s: for a connection.
        silence_s: between two pieces of an answer.
        total_s: for a whole answer.
    """

    connect_s: float = 5.0
    silence_s: float = 120.0
    total_s: float = 600.0


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
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            rule = "an http or https URL without a user name in it"
            reject("HttpModel", "endpoint", rule, got=f"{len(endpoint)} characters")
        if concurrency < 1:
            reject("HttpModel", "concurrency", "at least 1", got=concurrency)
        self._where = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._api_key = api_key
        self._model = model
        self._concurrency = concurrency
        self._timeouts = timeouts
        self._retries = retries
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """The model's name, or the endpoint's when the model was left to it."""
        return self._model or self._where

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
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _try(self, question: Question, *, stream: bool) -> Reply:
        if not question.model and self._model:
            question = Question(
                messages=question.messages, model=self._model, parameters=question.parameters
            )
        body = encode_request(question, stream=stream)
        try:
            async with self._open().post(f"{self._where}/chat/completions", data=body) as response:
                if response.status != 200:
                    self._fail(response.status, response.headers, await response.read())
                if response.content_type == "text/event-stream":
                    return await self._assemble(response)
                return parse_response(await response.read())
        except TimeoutError as error:
            message = f"{self._where}: no answer in time"
            raise ModelTimeoutError(message, hint="raise the timeouts, or ask for less") from error
        except aiohttp.ClientConnectorError as error:
            message = f"{self._where}: cannot connect: {error.os_error.strerror or 'no route'}"
            raise ModelUnavailableError(message, hint="is the server running there?") from error
        except (aiohttp.ClientError, OSError) as error:
            message = f"{self._where}: the connection broke ({type(error).__name__})"
            raise ModelUnavailableError(message) from error

    async def _assemble(self, response: aiohttp.ClientResponse) -> Reply:
        assembler = ChunkAssembler()
        async for piece in response.content.iter_any():
            assembler.feed(piece)
        reply = assembler.reply()
        if assembler.error_code is not None or not assembler.done:
            code = assembler.error_code or "cut"
            message = f"{self._where}: the stream ended before the answer did ({code})"
            raise ModelUnavailableError(message)
        return reply

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"content-type": "application/json"}
            if self._api_key:
                headers["authorization"] = f"Bearer {self._api_key}"
            waits = self._timeouts
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=self._concurrency),
                timeout=aiohttp.ClientTimeout(
                    total=waits.total_s, sock_connect=waits.connect_s, sock_read=waits.silence_s
                ),
            )
        return self._session

    def _fail(self, status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
        # The code only: an endpoint's message may quote the question or the key.
        message = f"{self._where}: status {status} ({parse_error_code(body)})"
        if status in {401, 403}:
            raise ModelAuthError(message, hint="check the API key and what it may do")
        if status == 429:
            raise ModelRateError(message, retry_after_s=retry_after_s(headers))
        if status in {408, 504}:
            raise ModelTimeoutError(message)
        if status >= 500:
            raise ModelUnavailableError(message)
        raise ModelError(message)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long an endpoint asks to wait.

    Args:
        headers: of the reply, looked up without regard to case.

    Returns:
        Seconds from `retry-after-ms`, else from `retry-after` (seconds or a date), never negative;
        None when neither says.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _first(errors: BaseExceptionGroup[StillwatchError]) -> StillwatchError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
