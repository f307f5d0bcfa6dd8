"""OpenAI's files and batches through the gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from tests.unit.guard.batch_vendor import Vendor, chat_rows, form_of, serving, signed
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, Served, served
from tests.unit.guard.test_gateway import flag

from stillwatch.guard.batch.settings import BatchConfig
from stillwatch.guard.batch.sweep import sweep
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.recording.audit import read_audit
from stillwatch.guard.routes.owners import Owner
from stillwatch.guard.wall.challenge import ChallengeConfig
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.exchange import Exchange
from stillwatch.wire.signature import verify_mark

Make = Callable[..., GuardConfig]


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A model server with batches."""
    async with serving(Vendor()) as vendor:
        yield vendor


def client_of(gateway: Served, key: str = "key-ann") -> openai.AsyncOpenAI:
    """The real client of an account."""
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


async def make_batch(client: openai.AsyncOpenAI, rows: bytes) -> openai.types.Batch:
    """Upload rows and make a batch of them."""
    file = await client.files.create(file=("rows.jsonl", rows), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def copies_of(config: GuardConfig) -> list[Path]:
    """The files in which inputs are kept."""
    return list((config.state / "batches").glob("*"))


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    while not holds():  # noqa: ASYNC110 - a folder has no event to wait for
        await asyncio.sleep(0.01)


async def rows_on_record(gateway: Served) -> list[Exchange]:
    """The exchanges of batches on record, by question."""
    found = [one for one in await gateway.record() if one.tags.get("channel") == "batch"]
    return sorted(found, key=lambda one: one.question)


async def test_every_row_is_recorded_when_its_answer_is_given_out(
    make_config: Make, vendor: Vendor
) -> None:
    """Nothing is on record before the download; then every row is, with its own answer."""
    rows = chat_rows(20)
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, rows)
        assert [] == await rows_on_record(gateway)
        content = await client.files.content(batch.output_file_id)
        assert vendor.files[batch.output_file_id] == content.content
        found = await rows_on_record(gateway)
        again = await client.files.content(batch.output_file_id)
        assert content.content == again.content
        assert found == await rows_on_record(gateway)
    assert rows == vendor.files[batch.input_file_id]
    assert sorted((f"roman {i}", f"answer to roman {i}") for i in range(20)) == [
        (one.question, one.answer) for one in found
    ]
    assert {("ann", "house-skills", "org-a", "openai.chat", "guard", 200, batch.id)} == {
        (e.account, e.model, e.org, e.wire, e.origin, e.status, e.tags["batch"]) for e in found
    }


async def test_a_row_is_recorded_once_however_it_is_fetched(
    make_config: Make, vendor: Vendor
) -> None:
    """Ranges that cut rows, in any order, twice and overlapping, give each row once."""
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(12))
        content = vendor.files[batch.output_file_id]
        path = f"{gateway.url}/v1/files/{batch.output_file_id}/content"
        starts = list(range(0, len(content), 333))
        got = {}
        for start in [*starts[1::2], *starts[::2], *starts[:5]]:
            headers = {"authorization": "Bearer key-ann", "range": f"bytes={start}-{start + 349}"}
            async with gateway.client.get(path, headers=headers) as response:
                assert 206 == response.status
                got[start] = await response.read()
        found = await rows_on_record(gateway)
        headers["range"] = "bytes=0-9,20-29"
        async with gateway.client.get(path, headers=headers) as response:
            assert (200, content) == (response.status, await response.read())
        assert found == await rows_on_record(gateway)
    assert content == b"".join(got[start][:333] for start in starts)
    assert sorted(f"roman {i}" for i in range(12)) == [one.question for one in found]


async def test_the_last_byte_waits_for_the_record(make_config: Make, vendor: Vendor) -> None:
    """A client that leaves with the last byte of its results takes no row off the record."""
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(2000))
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        path = f"/v1/files/{batch.output_file_id}/content"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: g\r\nx-api-key: key-ann\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(vendor.files[batch.output_file_id]))
        writer.transport.abort()
        found = await rows_on_record(gateway)
    assert 2000 == len(found)


async def test_two_downloads_at_once_record_a_row_once(make_config: Make, vendor: Vendor) -> None:
    """Whoever fetches the same results at the same time gives each row out once on record."""
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(40))
        await asyncio.gather(*(client.files.content(batch.output_file_id) for _ in range(4)))
        found = await rows_on_record(gateway)
    assert (40, 40) == (len(found), len({one.exchange_id for one in found}))


async def test_a_download_that_broke_off_counts_what_it_gave(
    make_config: Make, vendor: Vendor
) -> None:
    """The whole rows of a broken download are on record, and the cut one once it is resumed."""
    vendor.paused_after = 1000
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(6))
        content = vendor.files[batch.output_file_id]
        with pytest.raises(openai.APIConnectionError):
            await client.files.content(batch.output_file_id)
        assert content[:1000].count(b"\n") == len(await rows_on_record(gateway))
        vendor.paused_after = None
        await client.files.content(batch.output_file_id, extra_headers={"range": "bytes=1000-"})
        found = await rows_on_record(gateway)
    assert sorted(f"roman {i}" for i in range(6)) == [one.question for one in found]


async def test_what_is_anothers_is_not_there(make_config: Make, vendor: Vendor) -> None:
    """Files and batches of another account cannot be seen, used, listed, cancelled or deleted."""
    async with (
        served(make_config(upstream=vendor.url)) as gateway,
        client_of(gateway) as ann,
        client_of(gateway, "key-bob") as bob,
    ):
        batch = await make_batch(ann, chat_rows(2))
        file, output = batch.input_file_id, batch.output_file_id
        for attempt in (
            bob.files.retrieve(file),
            bob.files.content(file),
            bob.files.content(output),
            bob.files.delete(output),
            bob.batches.retrieve(batch.id),
            bob.batches.cancel(batch.id),
            bob.batches.create(
                input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        assert ([], []) == ((await bob.files.list()).data, (await bob.batches.list()).data)
        assert {file, output} == {one.id for one in (await ann.files.list()).data}
        assert [batch.id] == [one.id for one in (await ann.batches.list()).data]
        assert [] == await rows_on_record(gateway)
    assert {file, output} == set(vendor.files)


async def test_a_batch_takes_its_tokens_all_or_none(make_config: Make, vendor: Vendor) -> None:
    """A throttled campaign's batch takes a token a row; one that is too large takes none."""
    rungs = (Rung("throttle", limit_per_day=24.0, burst=8.0),)
    wall = Ladder((LadderRule("*", rungs),), "enforce")
    config = make_config(upstream=vendor.url, ladder=wall)
    async with served(config) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        await make_batch(client, chat_rows(5))
        with pytest.raises(openai.RateLimitError) as refused:
            await make_batch(client, chat_rows(4))
        assert 0 < int(refused.value.response.headers["retry-after"]) <= 3600
        with pytest.raises(openai.RateLimitError) as never:
            await make_batch(client, chat_rows(9))
        lines = never.value.response.headers
        assert ("false", None) == (lines["x-should-retry"], lines.get("retry-after"))
        await make_batch(client, chat_rows(3))
        refusals = await rows_on_record(gateway)
        assert [("throttle", 429, "4"), ("throttle", 429, "9")] == sorted(
            (one.action, one.status, one.tags["rows"]) for one in refusals
        )
        events = [e.detail for e in read_audit(config.audit_path) if e.kind == "batch"]
    assert [("allow", 5), ("throttle", 4), ("throttle", 9), ("allow", 3)] == [
        (detail["action"], detail["rows"]) for detail in events
    ]
    assert 2 == len(vendor.asked("POST", "/batches"))


async def test_observing_says_what_it_would_have_done(make_config: Make, vendor: Vendor) -> None:
    """In observe mode the batch passes, and its rows carry what enforce mode had done."""
    wall = Ladder((LadderRule("*", (Rung("throttle", limit_per_day=24.0),)),))
    config = make_config(upstream=vendor.url, ladder=wall)
    async with served(config) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        batch = await make_batch(client, chat_rows(3))
        await client.files.content(batch.output_file_id)
        found = await rows_on_record(gateway)
    assert [("observe", "throttle", "web-1")] * 3 == [
        (one.action, one.tags["would_have"], one.campaign_id) for one in found
    ]


@pytest.mark.parametrize(
    ("action", "code"), [("block", "access_denied"), ("challenge", "verification_required")]
)
async def test_refused_to_ask_and_to_fetch(
    make_config: Make, vendor: Vendor, action: str, code: str
) -> None:
    """A blocked or challenged campaign makes no batch, and gets no results of an older one."""
    wall = Ladder((LadderRule("*", (Rung(action),)),), "enforce")
    challenge = ChallengeConfig("https://verify.example.org/?question={request_id}")
    secrets = replace(SECRETS, challenge_secret=b"c" * 32)
    config = make_config(upstream=vendor.url, ladder=wall, challenge=challenge, secrets=secrets)
    async with served(config) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(2))
        flag(gateway.state)
        for attempt in (
            make_batch(client, chat_rows(2)),
            client.files.content(batch.output_file_id),
            client.batches.create(
                input_file_id=batch.input_file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            ),
        ):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await attempt
            assert code == refused.value.code
        assert "completed" == (await client.batches.retrieve(batch.id)).status
    assert [] == vendor.asked("GET", "/content")


async def test_rows_are_stripped_and_the_client_is_not_told(
    make_config: Make, vendor: Vendor
) -> None:
    """The model server gets rows without n and logprobs; the client sees its own file only."""
    wall = Ladder((LadderRule("house-*", (Rung("strip"),)),), "enforce")
    config = make_config(upstream=vendor.url, ladder=wall)
    async with served(config) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        batch = await make_batch(client, chat_rows(3, n=4, logprobs=True, seed=7))
        file = batch.input_file_id
        sent = json.loads(vendor.asked("POST", "/batches")[0].body)
        shown = await client.batches.retrieve(batch.id)
        listed = (await client.files.list()).data
        await client.files.content(batch.output_file_id)
        found = await rows_on_record(gateway)
        await client.files.delete(file)
    rows = [json.loads(line) for line in chat_rows(3, n=4, logprobs=True, seed=7).splitlines()]
    for row in rows:
        del row["body"]["n"], row["body"]["logprobs"]
    assert file != sent["input_file_id"]
    assert (file, {file, batch.output_file_id}) == (shown.input_file_id, {f.id for f in listed})
    assert [("strip", 4, True)] * 3 == [
        (one.action, one.parameters["n"], one.parameters["logprobs"]) for one in found
    ]
    uploads = [
        form_of(one.headers["Content-Type"], one.body)[0] for one in vendor.asked("POST", "/files")
    ]
    assert rows == [json.loads(line) for line in uploads[1].splitlines()]
    assert {batch.output_file_id} == set(vendor.files)


async def test_a_signed_order_goes_with_a_marked_batch(make_config: Make, vendor: Vendor) -> None:
    """The order to mark is signed for the batch's own body, and the rows carry the mark's key."""
    vendor.is_marking = True
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        batch = await make_batch(client, chat_rows(2, model="house-prose"))
        content = await client.files.content(batch.output_file_id)
        found = await rows_on_record(gateway)
    (made,) = vendor.asked("POST", "/batches")
    order = verify_mark(SECRETS.mark_secret, signed(made), made.body, now=None)
    assert ("web-1", "mk-1") == order
    assert [("watermark", "mk-1")] * 2 == [(one.action, one.mark_key_id) for one in found]
    assert not [name for name in content.response.headers if name.startswith("x-stillwatch")]


async def test_rows_that_failed_and_rows_without_a_word(make_config: Make, vendor: Vendor) -> None:
    """A failed row is recorded with its error, a row of no result as asked once all is fetched."""
    vendor.errors, vendor.without = frozenset({"row-1"}), frozenset({"row-2"})
    vendor.status = "expired"
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        batch = await make_batch(client, chat_rows(4))
        await client.files.content(batch.output_file_id)
        assert 0 == await sweep(gateway.state)
        await client.files.content(batch.error_file_id)
        assert 1 == await sweep(gateway.state)
        assert 0 == await sweep(gateway.state)
        found = await rows_on_record(gateway)
    assert [(200, None), (0, "batch_expired"), (0, "batch_expired"), (200, None)] == [
        (one.status, one.error) for one in found
    ]


async def test_what_is_never_fetched_is_recorded_as_asked(
    make_config: Make, vendor: Vendor
) -> None:
    """Rows that nobody fetches are recorded without answers at their end, and survive a restart."""
    kept = make_config(upstream=vendor.url)
    gone = make_config(upstream=vendor.url, batches=BatchConfig(keep_s=1e-9))
    async with served(kept) as gateway, client_of(gateway) as client:
        await make_batch(client, chat_rows(3))
        assert 0 == await sweep(gateway.state)
        copies = copies_of(kept)
        assert [0o600] == [copy.stat().st_mode & 0o777 for copy in copies]
    async with served(gone) as gateway:
        assert 3 == await sweep(gateway.state)
        found = await rows_on_record(gateway)
        assert 0 == await sweep(gateway.state)
    assert [] == copies_of(kept)
    assert [("roman 0", (), 0, "not_given_out")] == [
        (one.question, one.answers, one.status, one.error) for one in found[:1]
    ]


async def test_an_input_that_did_not_pass_by_is_fetched(make_config: Make, vendor: Vendor) -> None:
    """A file that came to the model server in another way is read there before it is decided on."""
    wall = Ladder((LadderRule("*", (Rung("throttle", limit_per_day=24.0, burst=3.0),)),), "enforce")
    config = make_config(upstream=vendor.url, ladder=wall)
    vendor.keep(chat_rows(3), "batch")
    vendor.keep(chat_rows(4), "batch")
    create = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with served(config) as gateway, client_of(gateway) as client:
        flag(gateway.state)
        with pytest.raises(openai.RateLimitError):
            await client.batches.create(input_file_id="file-000002", **create)
        batch = await client.batches.create(input_file_id="file-000001", **create)
        await client.files.content(batch.output_file_id)
        found = await rows_on_record(gateway)
        assert ["", "roman 0", "roman 1", "roman 2"] == [one.question for one in found]
        with pytest.raises(openai.PermissionDeniedError):
            await client.batches.create(input_file_id="../batches", **create)


async def test_rows_that_cannot_be_read(make_config: Make, vendor: Vendor) -> None:
    """A campaign's batch with a row that is no JSON is refused; anybody else's passes as sent."""
    rows = chat_rows(2) + b'{"custom_id": "odd", "body": {NaN\n'
    async with (
        served(make_config(upstream=vendor.url)) as gateway,
        client_of(gateway) as ann,
        client_of(gateway, "key-bob") as bob,
    ):
        flag(gateway.state)
        with pytest.raises(openai.PermissionDeniedError):
            await make_batch(ann, rows)
        file = await bob.files.create(file=("rows.jsonl", rows), purpose="batch")
        number = await gateway.state.batches.run(gateway.state.batches.copies.of_file, file.id)
        assert (3, 1, {"house-skills": 2}) == (
            number.tally.n_rows, number.tally.n_unread, number.tally.models
        )  # fmt: skip
    assert [rows, rows] == [vendor.files[f"file-00000{n}"] for n in (1, 2)]


async def test_a_broken_upload_breaks_there_too(
    make_config: Make, upstream: ScriptedUpstream
) -> None:
    """When the client leaves within an upload the model server sees it break, and no copy stays."""
    config = make_config()
    async with served(config) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = (
            "POST /v1/files HTTP/1.1\r\nhost: g\r\nauthorization: Bearer key-ann\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9000000\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="file"; filename="r"\r\n\r\n'
        )
        writer.write(head.encode() + chat_rows(9000)[:1_500_000])
        await writer.drain()
        await until(lambda: copies_of(config))
        writer.transport.abort()
        await asyncio.wait_for(upstream.left.wait(), 1.0)
        await until(lambda: not copies_of(config))
        assert [] == upstream.seen
        status, _, _ = await gateway.ask()
        assert 200 == status


async def test_a_row_cannot_go_on_in_anothers_conversation(
    make_config: Make, vendor: Vendor
) -> None:
    """A row that builds on another account's stored answer gets the whole batch a 404."""
    body = {"model": "m", "input": "go on", "previous_response_id": "resp_bob"}
    row = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": body}
    async with served(make_config(upstream=vendor.url)) as gateway, client_of(gateway) as client:
        gateway.state.owners.note("resp_bob", Owner("bob", None, "resp_bob"))
        file = await client.files.create(
            file=("r.jsonl", json.dumps(row).encode()), purpose="batch"
        )
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(
                input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
            )
    assert [] == vendor.asked("POST", "/batches")


async def test_a_rule_of_the_policy_refuses_batches(
    make_config: Make, vendor: Vendor, tmp_path: Path
) -> None:
    """A rule on the capability `batch` and a model refuses the batch, and the record names it."""
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rules]]\nid = "no-batches"\nkind = "service"\nowner = "o@example.org"\nreason = "r"\n'
        'action = "block"\nshadow = false\nfrom = 2026-01-01\nreview_by = 2099-01-01\n'
        'when = { asks = { any = ["batch"] }, model = "house-skills" }\n'
        '[[rules.tests]]\nfacts = { asks = ["batch"], model = "house-skills" }\nfires = true\n'
        '[[rules.tests]]\nfacts = { asks = ["stream"], model = "house-skills" }\nfires = false\n'
    )
    config = make_config(upstream=vendor.url, policy=policy)
    async with served(config) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await make_batch(client, chat_rows(2))
        await make_batch(client, chat_rows(2, model="free"))
        (refused,) = await rows_on_record(gateway)
    assert ("block", "no-batches") == (refused.action, refused.tags["rule"])


async def test_files_for_other_ends_and_uploads_in_parts(make_config: Make, vendor: Vendor) -> None:
    """Other files pass without a copy; a file that was put together of parts has its owner."""
    config = make_config(upstream=vendor.url)
    async with (
        served(config) as gateway,
        client_of(gateway) as ann,
        client_of(gateway, "key-bob") as bob,
    ):
        await ann.files.create(file=("a.txt", b"words" * 300_000), purpose="user_data")
        assert [] == copies_of(config)
        await ann.uploads.complete("upload_1", part_ids=["part_1"])
        vendor.files["file-parts"] = chat_rows(1)
        with pytest.raises(openai.NotFoundError):
            await bob.files.content("file-parts")
        with pytest.raises(openai.NotFoundError):
            await bob.uploads.cancel("upload_1")
        assert chat_rows(1) == (await ann.files.content("file-parts")).content
        assert [] == await rows_on_record(gateway)
