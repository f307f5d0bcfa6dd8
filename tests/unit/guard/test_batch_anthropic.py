"""Anthropic's message batches through the gateway."""

import json
from collections.abc import AsyncIterator, Callable

import anthropic
import pytest
from tests.unit.guard.batch_vendor import Vendor, message_rows, serving, signed
from tests.unit.guard.conftest import SECRETS, Served, served
from tests.unit.guard.test_batch_openai import copies_of, rows_on_record
from tests.unit.guard.test_gateway import flag

from stillwatch.guard.batch.settings import BatchConfig
from stillwatch.guard.batch.sweep import sweep
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.wire.signature import verify_mark

Make = Callable[..., GuardConfig]


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A model server with batches."""
    async with serving(Vendor()) as vendor:
        yield vendor


def client_of(gateway: Served, key: str = "key-ann") -> anthropic.AsyncAnthropic:
    """The real client of an account."""
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0)


async def post(gateway: Served, body: bytes) -> tuple[int, dict]:
    """Make a batch with a body of one's own."""
    headers = {"x-api-key": "key-ann", "anthropic-version": "2023-06-01"}
    url = f"{gateway.url}/v1/messages/batches"
    async with gateway.client.post(url, data=body, headers=headers) as response:
        return response.status, json.loads(await response.read())


async def test_every_row_is_recorded_when_its_answer_is_given_out(
    make_config: Make, vendor: Vendor
) -> None:
    """The real client fetches results through the gateway; every row is on record then, once."""
    vendor.errors, vendor.without = frozenset({"row-1"}), frozenset({"row-2"})
    config = make_config(upstream=vendor.url)
    async with served(config) as gateway, client_of(gateway) as client:
        batch = await client.messages.batches.create(requests=message_rows(5))
        assert batch.results_url.startswith(f"{gateway.url}/v1/messages/batches/")
        assert [] == await rows_on_record(gateway)
        for _ in range(2):
            results = [one async for one in await client.messages.batches.results(batch.id)]
            assert ["row-4", "row-3", "row-2", "row-1", "row-0"] == [r.custom_id for r in results]
        found = await rows_on_record(gateway)
        await sweep(gateway.state)
        assert [] == copies_of(config)
        assert found == await rows_on_record(gateway)
    (made,) = vendor.asked("POST", "/batches")
    assert {"requests": message_rows(5)} == json.loads(made.body)
    assert [
        ("roman 0", "answer to roman 0", 200, None),
        ("roman 1", "", 400, "invalid_request_error"),
        ("roman 2", "", 0, "expired"),
        ("roman 3", "answer to roman 3", 200, None),
        ("roman 4", "answer to roman 4", 200, None),
    ] == [(one.question, one.answer, one.status, one.error) for one in found]
    assert {("ann", "anthropic.messages", "batch", batch.id)} == {
        (one.account, one.wire, one.tags["channel"], one.tags["batch"]) for one in found
    }


async def test_what_is_anothers_is_not_there(make_config: Make, vendor: Vendor) -> None:
    """Another account's batch cannot be seen, cancelled, fetched or listed."""
    async with (
        served(make_config(upstream=vendor.url)) as gateway,
        client_of(gateway) as ann,
        client_of(gateway, "key-bob") as bob,
    ):
        batch = await ann.messages.batches.create(requests=message_rows(2))
        for attempt in (
            bob.messages.batches.retrieve(batch.id),
            bob.messages.batches.cancel(batch.id),
            bob.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object),
            bob.get(f"/v1//messages//batches/{batch.id}/results", cast_to=object),
        ):
            with pytest.raises(anthropic.NotFoundError) as refused:
                await attempt
            assert "error" == refused.value.body["type"]
        assert [] == (await bob.messages.batches.list()).data
        assert [batch.id] == [one.id for one in (await ann.messages.batches.list()).data]
    assert [] == vendor.asked("GET", "/results")


async def test_the_wall_around_a_batch(make_config: Make, vendor: Vendor) -> None:
    """Tokens are taken for all rows at once; rows of a stripped model are rewritten, others not."""
    rules = (
        LadderRule("house-skills", (Rung("throttle", limit_per_day=24.0, burst=4.0),)),
        LadderRule("house-thinks", (Rung("strip"),)),
    )
    config = make_config(upstream=vendor.url, ladder=Ladder(rules, "enforce"))
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    async with served(config) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        with pytest.raises(anthropic.RateLimitError):
            await client.messages.batches.create(requests=message_rows(5))
        mixed = [*message_rows(4, **thinking), *message_rows(3, model="house-thinks", **thinking)]
        mixed = [{**row, "custom_id": f"m-{i}"} for i, row in enumerate(mixed)]
        batch = await client.messages.batches.create(requests=mixed)
        _ = [one async for one in await client.messages.batches.results(batch.id)]
        found = [one for one in await rows_on_record(gateway) if one.status == 200]
        with pytest.raises(anthropic.RateLimitError):
            await client.messages.batches.create(requests=message_rows(1))
    (made,) = vendor.asked("POST", "/batches")
    sent = json.loads(made.body)["requests"]
    assert mixed[:4] == sent[:4]
    assert [{**thinking["thinking"], "display": "omitted"}] * 3 == [
        row["params"]["thinking"] for row in sent[4:]
    ]
    assert 7 == len(found)


async def test_a_signed_order_goes_with_a_marked_batch(make_config: Make, vendor: Vendor) -> None:
    """The order is signed for the whole body, which is forwarded byte for byte."""
    body = json.dumps({"requests": message_rows(2, model="house-prose")}, indent=3).encode()
    async with served(make_config(upstream=vendor.url)) as gateway:
        flag(gateway.state)
        status, _ = await post(gateway, body)
    (made,) = vendor.asked("POST", "/batches")
    assert (200, body) == (status, made.body)
    order = verify_mark(SECRETS.mark_secret, signed(made), body, now=None)
    assert ("web-1", "mk-1") == order


async def test_a_body_that_cannot_be_read(make_config: Make, vendor: Vendor) -> None:
    """Rows that only another reader finds are refused to a campaign, and bounds hold."""
    config = make_config(upstream=vendor.url, batches=BatchConfig(file_bytes=2000))
    rows = message_rows(2)
    hidden = json.dumps({"requests": [*rows, {"custom_id": "x", "params": 3}]}).encode()
    async with served(config) as gateway:
        flag(gateway.state)
        assert 403 == (await post(gateway, hidden))[0]
        assert 403 == (await post(gateway, b"no JSON at all"))[0]
        assert 400 == (await post(gateway, b""))[0]
        escaped = json.dumps({"requests": rows}).replace("requests", "r\\u0065quests").encode()
        assert 429 == (await post(gateway, escaped))[0]
        assert 413 == (await post(gateway, hidden + b" " * 2000))[0]
        assert [] == copies_of(config)
    assert [] == vendor.got


async def test_a_disk_without_room_says_come_back(make_config: Make, vendor: Vendor) -> None:
    """Without room for the rows a batch is refused for now, and questions are served on."""
    config = make_config(upstream=vendor.url, batches=BatchConfig(disk_bytes=100))
    async with served(config) as gateway:
        status, told = await post(gateway, json.dumps({"requests": message_rows(5)}).encode())
    assert (503, "error") == (status, told["type"])
