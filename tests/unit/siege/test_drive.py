"""The driver keeps the calendar, the order and the barrier over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
from aiohttp import web

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, NotPermittedError
from stillwatch.model.protocol import Reply
from stillwatch.record.exchange import Answer, Message
from stillwatch.siege.drive import Actor, Outcome, Planned, Reconsidering, drive
from stillwatch.siege.server import listen
from stillwatch.wire.chat import ReplyHead, encode_error, encode_response, encode_stream

DAY, TICK = 86_400.0, 21_600.0
Answering = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def planned(number: int, at: float, /, **changes: object) -> Planned:
    """Write a question."""
    base = Planned(
        at=at,
        account="a",
        api_key="key-a",
        model="m",
        messages=(Message("user", f"question {number}"),),
        request_id=f"r{number:03d}",
    )
    return replace(base, **changes)


def reply_to(text: str) -> Reply:
    """Write the endpoint's answer to a question."""
    return Reply(
        answers=(Answer(text=text[::-1], finish_reason="stop"),),
        model_returned="m",
        input_tokens=3,
        output_tokens=2,
    )


async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
    """Answer with the question reversed, streamed when asked to."""
    asked = msgspec.json.decode(body)
    head, reply = ReplyHead("id", "m", 0), reply_to(asked["messages"][-1]["content"])
    if not asked.get("stream"):
        return web.Response(body=encode_response(head, reply), content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in encode_stream(head, reply, include_usage=True):
        await response.write(event)
    return response


class Endpoint:
    """A chat endpoint that remembers what it was asked, in the order of arrival."""

    def __init__(self, answering: Answering = answer) -> None:
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, object]] = []
        self.under_way = self.most_under_way = 0
        self.url = ""
        self._answering = answering

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(msgspec.json.decode(body))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answering(request, body)
        finally:
            self.under_way -= 1

    def sent(self, name: str) -> list[str]:
        """Return one header of every question."""
        return [headers.get(name, "") for headers in self.headers]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Endpoint"]:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app)
        await runner.setup()
        listener = listen("127.0.0.1", 0)
        await web.SockSite(runner, listener).start()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield self
        await runner.cleanup()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Return an endpoint that answers everything."""
    async with Endpoint().open() as opened:
        yield opened


class Notebook:
    """An actor that notes what it hears, and may ask again or reconsider."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Outcome]] = []
        self.again: dict[str, Planned] = {}
        self.instead: dict[str, Planned | None] = {}

    def on_reply(self, planned: Planned, outcome: Outcome) -> Planned | None:
        """Note, and ask what was prepared."""
        self.heard.append((planned.request_id, outcome))
        return self.again.pop(planned.request_id, None)

    def before_asking(self, planned: Planned) -> Planned | None:
        """Give what was prepared."""
        return self.instead.pop(planned.request_id, planned)

    @property
    def ids(self) -> list[str]:
        """What was heard of, in order."""
        return [request_id for request_id, _ in self.heard]


async def test_a_question_travels_whole(endpoint: Endpoint) -> None:
    """Key, client, address, id, simulated time and order go as headers; the truth stays here."""
    notebook = Notebook()
    asked = planned(
        1,
        5.25,
        parameters={"temperature": 0.5, "seed": 3},
        user_agent="curl/8",
        source_ip="192.0.2.7",
        kind="harvest",
        item_key="secret-item",
    )
    summary = await drive([asked], {"a": notebook}, base_url=endpoint.url)
    [headers], [body] = endpoint.headers, endpoint.bodies
    assert "Bearer key-a" == headers["authorization"]
    assert "curl/8" == headers["user-agent"]
    assert "192.0.2.7" == headers["x-forwarded-for"]
    assert "r001" == headers["x-request-id"]
    assert (5.25, 0) == (
        float(headers["x-stillwatch-sim-time"]),
        int(headers["x-stillwatch-sim-seq"]),
    )
    assert {
        "model": "m",
        "messages": [{"role": "user", "content": "question 1"}],
        "temperature": 0.5,
        "seed": 3,
    } == body
    assert "secret-item" not in f"{headers}{body}"
    assert "harvest" not in f"{headers}{body}"
    expected = Outcome(200, reply_to("question 1"), seq=0)
    assert [("r001", expected)] == notebook.heard
    assert {"harvest": {200: 1}} == summary.by_kind
    assert (3, 2) == (summary.input_tokens, summary.output_tokens)


async def test_no_software_named(endpoint: Endpoint) -> None:
    """An account without user agent sends none, not the driver's."""
    await drive([planned(1, 0.0)], {}, base_url=endpoint.url)
    assert [""] == endpoint.sent("user-agent")


async def test_a_stream_gives_the_same_reply(endpoint: Endpoint) -> None:
    """`stream: True` asks for events, and their reply equals the whole one."""
    notebook = Notebook()
    plan = [planned(1, 0.0), planned(1, 1.0, parameters={"stream": True})]
    await drive(plan, {"a": notebook}, base_url=endpoint.url)
    assert endpoint.bodies[1]["stream"] is True
    (_, whole), (_, streamed) = notebook.heard
    assert replace(whole, seq=1) == streamed


async def test_order_window_and_barrier() -> None:
    """Sequence follows the calendar without a gap, `window` bounds, and no tick overtakes."""

    async def unevenly(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(0.002 * (int(request.headers["x-request-id"][1:]) % 5))
        return await answer(request, body)

    ats = [((n * 37) % 100) * DAY / 100 for n in range(100)]
    notebook = Notebook()
    progress: list[int] = []

    def note(done: int, _: float) -> None:
        progress.append(done)

    plan = sorted((planned(n, at) for n, at in enumerate(ats)), key=lambda p: p.at)
    async with Endpoint(unevenly).open() as endpoint:
        summary = await drive(
            plan, {"a": notebook}, base_url=endpoint.url, window=5, on_progress=note
        )
    by_seq = sorted(
        zip(
            map(int, endpoint.sent("x-stillwatch-sim-seq")),
            endpoint.sent("x-request-id"),
            strict=True,
        )
    )
    assert [(n, p.request_id) for n, p in enumerate(plan)] == by_seq
    assert [p.request_id for p in plan] == notebook.ids
    assert list(range(100)) == [outcome.seq for _, outcome in notebook.heard]
    ticks = [float(at) // TICK for at in endpoint.sent("x-stillwatch-sim-time")]
    assert sorted(ticks) == ticks
    assert 5 == endpoint.most_under_way
    assert list(range(1, 101)) == progress
    assert (100, 4, 1) == (summary.asked, summary.ticks, summary.days)


async def test_order_within_a_tick_is_the_calendar_s(endpoint: Endpoint) -> None:
    """Equal times are ordered by request id, whatever order the plan has within a tick."""
    plan = [planned(3, 7.0), planned(1, 7.0), planned(2, 1.0)]
    await drive(plan, {}, base_url=endpoint.url, window=1)
    assert ["r002", "r001", "r003"] == endpoint.sent("x-request-id")


async def test_days_end_once_in_order(endpoint: Endpoint) -> None:
    """A day's end is awaited between its last reply and the next question, empty days too."""
    seen: list[object] = []

    class Noting(Notebook):
        def on_reply(self, planned: Planned, outcome: Outcome) -> Planned | None:
            seen.append(planned.request_id)
            return super().on_reply(planned, outcome)

    async def on_day_end(at: float) -> None:
        assert 0 == endpoint.under_way
        seen.append(at / DAY)

    plan = [planned(1, 0.5 * DAY), planned(2, 0.9 * DAY), planned(3, 3.1 * DAY)]
    summary = await drive(plan, {"a": Noting()}, base_url=endpoint.url, on_day_end=on_day_end)
    assert ["r001", "r002", 1.0, 2.0, 3.0, "r003", 4.0] == seen
    assert 4 == summary.days


async def test_follow_up_waits_for_the_next_tick(endpoint: Endpoint) -> None:
    """A follow-up is asked at its time, but never within the tick that caused it."""
    notebook = Notebook()
    notebook.again = {"r001": planned(8, 2.0), "r002": planned(9, 2.5 * TICK)}
    plan = [planned(1, 1.0), planned(2, 3.0), planned(3, 1.5 * TICK)]
    summary = await drive(plan, {"a": notebook}, base_url=endpoint.url)
    assert ["r001", "r002", "r008", "r003", "r009"] == notebook.ids
    assert TICK == float(endpoint.sent("x-stillwatch-sim-time")[2])
    assert (5, 2) == (summary.asked, summary.follow_ups)


async def test_reconsidered_questions(endpoint: Endpoint) -> None:
    """Before a tick an actor may drop, change or put off its questions; the others stay."""
    notebook = Notebook()
    assert isinstance(notebook, Actor)
    assert isinstance(notebook, Reconsidering)
    notebook.instead = {
        "r001": None,
        "r002": planned(7, 2.0, api_key="key-b"),
        "r003": planned(3, 1.2 * TICK),
    }
    plan = [planned(n, float(n)) for n in (1, 2, 3, 4)]
    summary = await drive(plan, {"a": notebook}, base_url=endpoint.url)
    assert ["r007", "r004", "r003"] == notebook.ids
    assert "Bearer key-b" == endpoint.sent("authorization")[0]
    assert (3, 1) == (summary.asked, summary.dropped)


async def test_the_plan_may_react(endpoint: Endpoint) -> None:
    """A plan that is a generator is read one tick ahead, so later ticks may depend on replies."""
    notebook = Notebook()

    def plan():
        yield planned(1, 0.0)
        yield planned(2, 1.0 * TICK)
        yield planned(3, 2.0 * TICK, item_key=str(len(notebook.heard)))
        yield planned(4, 3.0 * TICK, item_key=str(len(notebook.heard)))

    await drive(plan(), {"a": notebook}, base_url=endpoint.url)
    assert ["r001", "r002", "r003", "r004"] == notebook.ids


async def test_refusals_are_told_in_full() -> None:
    """Status, code, waiting time and whether another try may help reach the actor."""
    replies = [
        (429, {"retry-after-ms": "1500", "retry-after": "2"}, "throttled"),
        (403, {"x-should-retry": "false"}, "blocked"),
        (503, {"retry-after": "7"}, "busy"),
        (500, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "broken"),
    ]

    async def refuse(_: web.Request, body: bytes) -> web.Response:
        number = int(msgspec.json.decode(body)["messages"][0]["content"].split()[1])
        status, headers, code = replies[number]
        return web.Response(
            status=status, headers=headers, body=encode_error(status, "no", code=code)
        )

    notebook = Notebook()
    async with Endpoint(refuse).open() as endpoint:
        plan = [planned(n, float(n)) for n in range(4)]
        summary = await drive(plan, {"a": notebook}, base_url=endpoint.url)
    assert [
        Outcome(429, retry_after_s=1.5, error="throttled", seq=0),
        Outcome(403, may_retry=False, error="blocked", seq=1),
        Outcome(503, retry_after_s=7.0, error="busy", seq=2),
        Outcome(500, error="broken", seq=3),
    ] == [outcome for _, outcome in notebook.heard]
    assert {403: 1, 429: 1, 500: 1, 503: 1} == summary.by_status


async def test_broken_replies_have_no_reply() -> None:
    """A cut stream, an unreadable body and a dropped connection come back as such, once."""

    async def breaks(request: web.Request, body: bytes) -> web.StreamResponse:
        content = msgspec.json.decode(body)["messages"][0]["content"]
        if content == "question 0":
            return web.Response(body=b"<html>", content_type="text/html")
        if content == "question 1":
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
            return response
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    notebook = Notebook()
    async with Endpoint(breaks).open() as endpoint:
        plan = [planned(n, float(n)) for n in range(3)]
        await drive(plan, {"a": notebook}, base_url=endpoint.url, window=1)
        assert 3 == len(endpoint.bodies)
    assert [
        Outcome(200, error="unreadable", seq=0),
        Outcome(200, error="cut", seq=1),
        Outcome(0, error="ServerDisconnectedError", seq=2),
    ] == [outcome for _, outcome in notebook.heard]


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "http://example.org", "nonsense"])
async def test_other_machines_are_refused(url: str) -> None:
    """Nothing is ever sent to an address that is not this machine's own."""
    with pytest.raises(NotPermittedError, match="loopback"):
        await drive([planned(1, 0.0)], {}, base_url=url)


async def test_nobody_listens() -> None:
    """A port where nobody listens ends the drive with one clear error."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(EnvironmentUnfitError, match="nobody listens"):
        await drive([planned(1, 0.0)], {}, base_url=url)


async def test_bad_pace_and_order(endpoint: Endpoint) -> None:
    """A tick that does not divide the day, no window, and a plan that goes back are refused."""
    with pytest.raises(InvalidInputError, match="whole part of a day"):
        await drive([], {}, base_url=endpoint.url, tick_s=7_000.0)
    with pytest.raises(InvalidInputError, match="window"):
        await drive([], {}, base_url=endpoint.url, window=0)
    with pytest.raises(InvalidInputError, match="calendar order"):
        await drive([planned(1, DAY), planned(2, 0.0)], {}, base_url=endpoint.url)


async def test_nothing_to_do(endpoint: Endpoint) -> None:
    """An empty plan ends at once, without a day."""
    summary = await drive([], {}, base_url=endpoint.url)
    assert (0, {}, 0) == (summary.asked, summary.by_status, summary.days)


async def test_cancelling_stops_at_once() -> None:
    """A cancelled drive leaves no question under way."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request, body: bytes) -> web.Response:
        begun.set()
        await go.wait()
        return web.Response(body=body)

    async with Endpoint(hang).open() as endpoint:
        task = asyncio.create_task(
            drive([planned(n, 0.0) for n in range(9)], {}, base_url=endpoint.url, window=2)
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 2 >= len(endpoint.bodies)
        go.set()
