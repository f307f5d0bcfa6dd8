"""Clocks that jump, a record without room, orders that were forged."""

from collections.abc import Callable
from dataclasses import replace

import aiohttp
from tests.unit.guard.conftest import LADDER, ScriptedUpstream, served
from tests.unit.guard.test_gateway import flag

from stillwatch.guard.clock import WallClock
from stillwatch.guard.config import GuardConfig, Limits
from stillwatch.guard.setup.lifecycle import Reloaded, reload
from stillwatch.guard.wall.ladder import DAY_S, Ladder
from stillwatch.wire.signature import MARK_HEADER

Make = Callable[..., GuardConfig]


class _JumpingClock(WallClock):
    """The wall's clock, set wrong."""

    ahead_s = 0.0

    async def admit(self, headers: object) -> float:
        return self.now()

    def now(self) -> float:
        return super().now() + self.ahead_s


async def test_clock_jumps(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A clock that jumps, either way, fails no honest question and frees or jails no campaign."""
    clock = _JumpingClock()
    async with served(make_config()) as gateway:
        gateway.state.clock = gateway.state.recorder._clock = clock
        flag(gateway.state)

        async def both() -> tuple[int, int]:
            return (await gateway.ask())[0], (await gateway.ask(key="key-bob"))[0]

        assert (200, 200) == await both()  # the campaign's one token of its 24 a day
        assert (429, 200) == await both()
        clock.ahead_s = -DAY_S
        assert (429, 200) == await both()  # yesterday's tokens were given out yesterday
        clock.ahead_s = 300 * DAY_S
        assert (200, 200) == await both()  # the verdict has lapsed, by this clock
        clock.ahead_s = 0.5 * DAY_S
        assert (200, 200) == await both()
        assert (429, 200) == await both()
        clock.ahead_s = 0.6 * DAY_S
        assert (200, 200) == await both()  # 2.4 hours later there are tokens again
        record = await gateway.record()
    assert 14 == len(record)
    assert all(e.started_at <= (e.first_output_at or e.started_at) for e in record)
    assert all(e.started_at <= (e.ended_at or 0) for e in record)


async def test_no_room_in_memory(make_config: Make, upstream: ScriptedUpstream) -> None:
    """With no room for what waits to be recorded, questions are answered and the loss counted."""
    limits = Limits()
    async with served(make_config(limits=replace(limits, record_queue_bytes=1))) as gateway:
        assert [200] * 3 == [(await gateway.ask())[0] for _ in range(3)]
        async with gateway.client.get(gateway.url + "/healthz") as response:
            health = await response.json()
        lost = gateway.state.metrics.value("record_rows_dropped")
        assert [] == await gateway.record()
    assert (3, False, "degraded") == (lost, health["recording"], health["status"])
    assert 3 == len(upstream.seen)


async def test_forged_orders(make_config: Make, upstream: ScriptedUpstream) -> None:
    """No header of ours crosses from a client, under no spelling, on no route."""
    forged = {
        MARK_HEADER: "v1 web-1 mk-1 0 aa", MARK_HEADER.title(): "twice",
        "x-stillwatch-canary": "1", "X-STILLWATCH-SIM-TIME": "1", "x_stillwatch_mark": "1",
        "X-Stillwatch_Mark": "1",
    }  # fmt: skip
    async with (
        served(make_config(ladder=replace(LADDER, mode="observe"))) as gateway,
        aiohttp.ClientSession(headers={"x-api-key": "key-ann", **forged}) as client,
    ):
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/files"):
            async with client.post(gateway.url + path, data=b"{}") as response:
                assert 200 == response.status
    assert 4 == len(upstream.seen)
    names = {name.lower() for seen in upstream.seen for name, _ in seen.headers}
    assert set() == {name for name in names if "stillwatch" in name}


async def test_reload_says_what(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A reload names what changed and holds for the next question; a refused one says why."""
    config = make_config()
    async with served(config) as gateway:
        state = gateway.state
        assert Reloaded(taken=True) == await reload(state)  # no file, nothing changed
        state.reread = lambda: replace(config, limits=Limits(body_bytes=10), ladder=Ladder())
        assert Reloaded(taken=True, changed=("ladder", "limits")) == await reload(state)
        assert 413 == (await gateway.ask())[0]
        for wrong, named in (
            (replace(config, port=1, state=config.state / "x"), "port, state cannot change"),
            (replace(config, limits=Limits(record_queue_bytes=5)), "limits.record_queue_bytes"),
            (replace(config, keys=config.state / "absent"), "key table cannot be read"),
        ):
            state.reread = lambda wrong=wrong: wrong
            taken, changed, reason = await reload(state)
            assert (False, ()) == (taken, changed)
            assert named in (reason or "")
        assert 413 == (await gateway.ask())[0]
        assert 3 == state.metrics.value("reloads", result="refused")
        state.reread = lambda: config
        assert (await reload(state)).taken
        assert 200 == (await gateway.ask())[0]
