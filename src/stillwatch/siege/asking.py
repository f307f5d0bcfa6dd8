"""One planned question over one socket, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from stillwatch.errors import EnvironmentUnfitError, ModelError
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Message
from stillwatch.wire.chat import (
    ChunkAssembler,
    encode_request,
    parse_error_code,
    parse_response,
)

#: Below the five seconds after which servers commonly close idle connections: a question must not
#: run into a closing one.
_IDLE_S = 3.0
_CONNECT_TRIES = 4
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One question that an account will ask.

    Attributes:
        at: simulated time of asking (UTC epoch s).
        account: who asks; chooses the actor that hears of the reply; never sent.
        api_key: the key sent as bearer token.
        model: the model asked for.
        messages: the conversation sent, in order.
        parameters: sampling parameters by OpenAI names; `stream: True` asks for events.
        kind: the truth about the question (harvest, dilution, honest ...); never sent.
        item_key: key of the item asked about, or ""; never sent.
        user_agent: how the client software names itself.
        source_ip: the client's address, sent as `x-forwarded-for`.
        request_id: unique in a run, sent as `x-request-id`.
    """

    at: float
    account: str
    api_key: str
    model: str
    messages: tuple[Message, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    kind: str = "honest"
    item_key: str = ""
    user_agent: str = ""
    source_ip: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back for one planned question.

    Attributes:
        status: HTTP status, 0 when no reply came at all.
        reply: the model's reply; None unless the status is 200 and the body was whole.
        retry_after_s: seconds to wait as the endpoint said (429, 503), or None.
        may_retry: False when the endpoint said `x-should-retry: false`.
        error: the error code that the endpoint named, or a short name of a broken connection.
        seq: place in the run's order, from 0.
    """

    status: int
    reply: Reply | None = None
    retry_after_s: float | None = None
    may_retry: bool = True
    error: str | None = None
    seq: int = -1


class Asker:
    """Sends planned questions over kept-alive connections; an async context manager.

    Args:
        base_url: the endpoint, without `/v1`.
        window: connections kept (count).
    """

    def __init__(self, base_url: str, *, window: int) -> None:
        self.window = window
        self._base_url = base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.window, keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            # An account whose client names no software must not name ours.
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, planned: Planned, seq: int) -> Outcome:
        """Send one question and wait for the whole reply.

        Args:
            planned: the question.
            seq: its place in the run's order.

        Returns:
            What came back; a connection that broke on the way has status 0 and is not tried again,
            because the question may have been counted.

        Raises:
            EnvironmentUnfitError: nobody listens.
        """
        body = _body(planned)
        headers = _headers(planned, seq)
        for tried in range(1, _CONNECT_TRIES + 1):
            try:
                return await self._post(body, headers, seq=seq)
            except aiohttp.ClientConnectorError as error:
                if tried == _CONNECT_TRIES:
                    message = f"drive: nobody listens at {self._base_url}"
                    raise EnvironmentUnfitError(message) from error
                await asyncio.sleep(0.1 * 2**tried)
            except TimeoutError:
                return Outcome(0, error="timeout", seq=seq)
            except aiohttp.ClientError as error:
                return Outcome(0, error=type(error).__name__, seq=seq)
        raise AssertionError  # the last try returned or raised

    async def _post(self, body: bytes, headers: dict[str, str], *, seq: int) -> Outcome:
        assert self._session is not None  # entered
        url = f"{self._base_url}/v1/chat/completions"
        async with self._session.post(url, data=body, headers=headers) as response:
            if response.status != 200:
                return _refusal(response, await response.read(), seq)
            if response.content_type == "text/event-stream":
                assembler = ChunkAssembler()
                async for part in response.content.iter_any():
                    assembler.feed(part)
                if assembler.done and assembler.error_code is None:
                    return Outcome(200, assembler.reply(), seq=seq)
                return Outcome(200, error=assembler.error_code or "cut", seq=seq)
            try:
                return Outcome(200, parse_response(await response.read()), seq=seq)
            except ModelError:
                return Outcome(200, error="unreadable", seq=seq)


def _body(planned: Planned) -> bytes:
    parameters = dict(planned.parameters)
    is_streamed = parameters.pop("stream", False) is True
    question = Question(messages=planned.messages, model=planned.model, parameters=parameters)
    return encode_request(question, stream=is_streamed)


def _headers(planned: Planned, seq: int) -> dict[str, str]:
    headers = {
        "authorization": f"Bearer {planned.api_key}",
        "content-type": "application/json",
        "x-stillwatch-sim-time": repr(float(planned.at)),
        "x-stillwatch-sim-seq": str(seq),
        "user-agent": planned.user_agent,
        "x-forwarded-for": planned.source_ip,
        "x-request-id": planned.request_id,
    }
    return {name: value for name, value in headers.items() if value}


def _refusal(response: aiohttp.ClientResponse, body: bytes, seq: int) -> Outcome:
    return Outcome(
        response.status,
        retry_after_s=_retry_after_s(response.headers),
        may_retry=response.headers.get("x-should-retry", "").lower() != "false",
        error=parse_error_code(body),
        seq=seq,
    )


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    # The milliseconds first, as the common SDKs read them; a date is passed over.
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
    return None
