"""A model behind HTTP: answers in order, failures translated once, tried again where it helps."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from stillwatch.errors import (
    InvalidInputError,
    ModelAuthError,
    ModelError,
    ModelRateError,
    ModelTimeoutError,
)
from stillwatch.model.http import (
    HttpModel,
    ModelUnavailableError,
    Retries,
    Timeouts,
    retry_after_s,
)
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.record.exchange import Answer, Message
from stillwatch.wire import chat

HEAD = chat.ReplyHead("r", "m-1", 0)
AT_ONCE = Retries(n_retries=2, first_wait_s=0.0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _question(text: str, **parameters: Any) -> Question:
    return Question(messages=(Message(role="user", content=text),), parameters=parameters)


def _reply(text: str) -> Reply:
    return Reply(
        answers=(Answer(text=text, finish_reason="stop"),),
        model_returned="m-1",
        input_tokens=1,
        output_tokens=2,
    )


async def _echo(request: web.Request) -> web.Response:
    question = chat.parse_request(await request.read())
    body = chat.encode_response(HEAD, _reply(question.messages[-1].content))
    return web.Response(body=body, content_type="application/json")


@asynccontextmanager
async def _asking(handler: Handler, **options: Any):
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("/v1"))
        async with HttpModel(url, **{"retries": AT_ONCE, **options}) as model:
            yield model


def _failing(*statuses: int, headers: dict[str, str] | None = None) -> tuple[Handler, list[int]]:
    """Answer with these statuses, then well; the list grows with each request."""
    asked: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(len(asked))
        if len(asked) > len(statuses):
            return await _echo(request)
        status = statuses[len(asked) - 1]
        body = chat.encode_error(status, "about: my secret question", code="some_code")
        return web.Response(status=status, body=body, headers=headers)

    return handler, asked


async def test_order_and_concurrency() -> None:
    """Replies come in the order of the questions, with no more under way at once than allowed."""
    under_way, most = 0, 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return await _echo(request)

    async with _asking(handler, concurrency=4) as model:
        assert isinstance(model, Model)
        replies = await model.answer([_question(str(n)) for n in range(30)])
        assert [_reply(str(n)) for n in range(30)] == replies
        assert [] == await model.answer([])
    assert 4 == most


async def test_what_is_sent() -> None:
    """The key travels as bearer token, and the model's name where the question has none."""
    seen: list[tuple[str | None, str, Any]] = []

    async def handler(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        seen.append((request.headers.get("authorization"), body["model"], body.get("seed")))
        return await _echo(request)

    named = Question(messages=_question("a").messages, model="own")
    async with _asking(handler, api_key="sk-1", model="house", concurrency=1) as model:
        await model.answer([_question("a", seed=7), named])
        assert "house" == model.name
    assert [("Bearer sk-1", "house", 7), ("Bearer sk-1", "own", None)] == seen


async def test_streamed() -> None:
    """A streamed answer is the same reply."""

    async def handler(request: web.Request) -> web.StreamResponse:
        asked = chat.parse_chat_request(await request.read())
        assert (True, True) == asked[1:]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in chat.encode_stream(HEAD, _reply("hey"), include_usage=True):
            await response.write(event)
        return response

    async with _asking(handler) as model:
        assert _reply("hey") == await model.ask(_question("a"), stream=True)


@pytest.mark.parametrize("end", [b"", b'data: {"error":{"code":"overloaded"}}\n\n' + chat.DONE])
async def test_cut_stream(end: bytes) -> None:
    """A stream that ends early, or with an error, is no answer; it is asked again."""
    n_asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal n_asked
        n_asked += 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat.encode_chunk(HEAD, {"content": "he"}) + end)
        return response

    async with _asking(handler) as model:
        with pytest.raises(ModelUnavailableError, match="the stream ended before the answer did"):
            await model.ask(_question("a"), stream=True)
    assert 3 == n_asked


@pytest.mark.parametrize(
    ("status", "kind", "n_asked"),
    [
        (400, ModelError, 1),
        (401, ModelAuthError, 1),
        (403, ModelAuthError, 1),
        (404, ModelError, 1),
        (408, ModelTimeoutError, 3),
        (429, ModelRateError, 3),
        (500, ModelUnavailableError, 3),
        (504, ModelTimeoutError, 3),
        (529, ModelUnavailableError, 3),
    ],
)
async def test_failures(status: int, kind: type[ModelError], n_asked: int) -> None:
    """Each status has its error, named by the wire's code, never by its text or the key."""
    handler, asked = _failing(status, status, status)
    async with _asking(handler, api_key="sk-secret") as model:
        with pytest.raises(kind, match=rf"status {status} \(some_code\)") as caught:
            await model.ask(_question("a"))
    assert kind is type(caught.value)
    assert n_asked == len(asked)
    assert "secret" not in str(caught.value)


async def test_second_try() -> None:
    """What fails once and then works is answered."""
    handler, asked = _failing(503, 429, headers={"retry-after-ms": "1"})
    async with _asking(handler) as model:
        assert [_reply("a")] == await model.answer([_question("a")])
    assert 3 == len(asked)


async def test_long_wait_is_not_waited() -> None:
    """When the endpoint asks for a longer wait than allowed, the caller is told at once."""
    handler, asked = _failing(429, headers={"retry-after": "3600"})
    async with _asking(handler) as model:
        with pytest.raises(ModelRateError) as caught:
            await model.ask(_question("a"))
    assert (3600.0, 1) == (caught.value.retry_after_s, len(asked))


async def test_batch_stops_at_a_failure() -> None:
    """A question that fails for good ends the batch with its own error; no new one is begun."""
    handler, asked = _failing(*[401] * 50)
    async with _asking(handler, concurrency=2) as model:
        with pytest.raises(ModelAuthError):
            await model.answer([_question(str(n)) for n in range(50)])
    assert 2 >= len(asked)


async def test_not_a_reply() -> None:
    """A page with status 200 that is no reply is a failure of the model."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>")

    async with _asking(handler) as model:
        with pytest.raises(ModelError, match="body must be JSON with choices"):
            await model.ask(_question("a"))


async def test_silence() -> None:
    """An endpoint that stays silent is a timeout."""

    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    waits = Timeouts(silence_s=0.05)
    async with _asking(handler, timeouts=waits, retries=Retries(n_retries=0)) as model:
        with pytest.raises(ModelTimeoutError, match="no answer in time"):
            await model.ask(_question("a"))


async def test_nobody_there() -> None:
    """A closed port is said as such, with what to check."""
    async with HttpModel(f"http://127.0.0.1:{unused_port()}/v1", retries=AT_ONCE) as model:
        with pytest.raises(ModelUnavailableError, match="cannot connect") as caught:
            await model.ask(_question("a"))
    assert "is the server running there?" == caught.value.hint


async def test_broken_connection() -> None:
    """A connection that breaks before the answer is tried again, then said."""

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with _asking(handler) as model:
        with pytest.raises(ModelUnavailableError, match="the connection broke"):
            await model.ask(_question("a"))


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:80", "ftp://x/v1", "http://u:pw@x/v1"])
def test_bad_endpoint(endpoint: str) -> None:
    """An endpoint that is no plain URL is refused, without showing what may be a password."""
    with pytest.raises(InvalidInputError, match="endpoint must be an http or https URL"):
        HttpModel(endpoint)


def test_bad_concurrency() -> None:
    """At least one question at a time."""
    with pytest.raises(InvalidInputError, match="concurrency must be at least 1, got 0"):
        HttpModel("http://127.0.0.1/v1", concurrency=0)


def test_name_without_model() -> None:
    """Without a model's name the endpoint stands for it."""
    assert "http://127.0.0.1:8000/v1" == HttpModel("http://127.0.0.1:8000/v1/").name


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Milliseconds go before seconds, dates are understood, nonsense is nothing."""
    assert expected == retry_after_s(headers)


def test_retry_after_a_date() -> None:
    """A date ahead is a wait from now."""
    wait_s = retry_after_s({"retry-after": formatdate(4e9, usegmt=True)})
    assert wait_s is not None
    assert wait_s > 1e6
