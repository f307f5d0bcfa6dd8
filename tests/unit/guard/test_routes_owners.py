"""Stored answers and conversations belong to whom they were given."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Message
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, Served, served
from tests.unit.guard.wire_server import WireServer

from stillwatch.errors import InvalidInputError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.keys import Issued, Principal, write_key_table
from stillwatch.guard.routes.owners import (
    SOUND,
    Owner,
    OwnerTable,
    ResponsesConfig,
    Standing,
    standing_of,
)
from stillwatch.guard.routes.stored import IdWatch
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.record.privacy import KeyedHash

Make = Callable[..., GuardConfig]
ANN = Owner("ann", "org-a", "resp_0")


async def _call(
    gateway: Served, method: str, path: str, *, key: str = "key-ann", **body: object
) -> tuple[int, bytes]:
    async with gateway.client.request(
        method,
        gateway.url + path,
        data=json.dumps(body) if body else None,
        headers={"x-api-key": key},
    ) as response:
        return response.status, await response.read()


async def _begin(gateway: Served, **more: object) -> str:
    status, body = await _call(gateway, "POST", "/v1/responses", model="m", input="q", **more)
    assert 200 == status
    return str(json.loads(body)["id"]) if not more.get("stream") else "resp_1"


@pytest.mark.parametrize("streamed", [False, True])
async def test_follow_up(make_config: Make, upstream: ScriptedUpstream, streamed: bool) -> None:
    """An answer is built on by its asker only; another's try is refused, recorded and counted."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        stored = await _begin(gateway, stream=streamed)
        follow = {"model": "m", "input": "and then?", "previous_response_id": stored}
        status, body = await _call(gateway, "POST", "/v1/responses", key="key-bob", **follow)
        assert (404, "previous_response_not_found") == (status, json.loads(body)["error"]["code"])
        assert b"ann" not in body
        assert 200 == (await _call(gateway, "POST", "/v1/responses", **follow))[0]
        first, foreign, own = await gateway.record()
        assert 1 == gateway.state.metrics.value("stored_refused", fault="foreign")
    assert ("block", 404, "bob", "and then?", {"stored": "foreign", "stored_owner": "ann"}) == (
        foreign.action, foreign.status, foreign.account, foreign.question, foreign.tags
    )  # fmt: skip
    assert (stored, stored) == (first.session, own.session)
    assert 2 == len(upstream.seen)


@pytest.mark.parametrize(
    ("method", "tail"),
    [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"), ("GET", "/odd")],
)
async def test_routes_of_an_answer(
    make_config: Make, upstream: ScriptedUpstream, method: str, tail: str
) -> None:
    """Every route under an answer's id is its owner's."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        stored = await _begin(gateway)
        for spelling in ("/v1/responses/", "/v1//responses/", "/Responses/"):
            path = f"{spelling}{stored}{tail}"
            assert 404 == (await _call(gateway, method, path, key="key-bob"))[0]
            assert 200 == (await _call(gateway, method, path))[0]
        refused = [x for x in await gateway.record() if x.account == "bob"]
    assert [("block", 404, "ann")] * 3 == [
        (x.action, x.status, x.tags["stored_owner"]) for x in refused
    ]
    assert 4 == len(upstream.seen)


@pytest.mark.parametrize("streamed", [False, True])
async def test_items_and_verbs(
    make_config: Make, upstream: ScriptedUpstream, streamed: bool
) -> None:
    """Items of another's answer cannot be referred to, nor its tokens counted."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        stored = await _begin(gateway, stream=streamed)
        item = {"type": "item_reference", "id": f"msg_{stored}"}
        asks = [
            ("/v1/responses", {"model": "m", "input": [item]}),
            ("/v1/responses", {"model": "m", "input": [{"id": item["id"]}]}),
            ("/v1/responses/input_tokens", {"previous_response_id": stored}),
        ]
        for path, body in asks:
            assert 404 == (await _call(gateway, "POST", path, key="key-bob", **body))[0]
            assert 200 == (await _call(gateway, "POST", path, **body))[0]


async def test_conversations(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A conversation is its maker's, and the session of what is said in it."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        assert 200 == (await _call(gateway, "POST", "/v1/conversations", metadata={}))[0]
        ask = {"model": "m", "input": "q", "conversation": "conv_1"}
        assert 404 == (await _call(gateway, "POST", "/v1/responses", key="key-bob", **ask))[0]
        items = "/v1/conversations/conv_1/items"
        assert 404 == (await _call(gateway, "GET", items, key="key-bob"))[0]
        assert 200 == (await _call(gateway, "GET", items))[0]
        assert 200 == (await _call(gateway, "POST", "/v1/responses", **ask))[0]
        *_, own = await gateway.record()
    assert ("ann", "conv_1") == (own.account, own.session)


@pytest.mark.parametrize("streamed", [False, True])
async def test_stored_chat(make_config: Make, upstream: ScriptedUpstream, streamed: bool) -> None:
    """A chat answer that was asked to be stored is its asker's; others are not stored."""
    upstream.script = WireServer()
    asked = {"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": streamed}
    async with served(make_config()) as gateway:
        await _call(gateway, "POST", "/v1/chat/completions", **asked, store=True)
        await _call(gateway, "POST", "/v1/chat/completions", **asked)
        path = "/v1/chat/completions/chatcmpl-"
        statuses = [(await _call(gateway, "GET", f"{path}{n}", key="key-bob"))[0] for n in (1, 2)]
    assert [404, 200] == statuses


async def test_unknown(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An id that nobody is known to own is passed, or refused where that was asked for."""
    upstream.script = WireServer()
    ask = {"model": "m", "input": "q", "previous_response_id": "resp_old"}
    async with served(make_config()) as gateway:
        assert 200 == (await _call(gateway, "POST", "/v1/responses", **ask))[0]
        assert 200 == (await _call(gateway, "GET", "/v1/chat/completions"))[0]
        (passed,) = await gateway.record()
    strict = make_config(responses=ResponsesConfig(unknown="refuse"))
    async with served(strict) as gateway:
        assert 404 == (await _call(gateway, "POST", "/v1/responses", **ask))[0]
        assert 1 == gateway.state.metrics.value("stored_refused", fault="unknown")
        assert 404 == (await _call(gateway, "GET", "/v1/chat/completions"))[0]
    assert "resp_old" == passed.session


async def test_restart(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Ownership outlives the gateway."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        stored = await _begin(gateway)
    async with served(make_config()) as gateway:
        assert 404 == (await _call(gateway, "GET", f"/v1/responses/{stored}", key="key-bob"))[0]
        assert 200 == (await _call(gateway, "GET", f"/v1/responses/{stored}"))[0]


async def test_shared_within_an_organisation(
    make_config: Make, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """With the scope `org`, and only then, accounts of one organisation share their answers."""
    upstream.script = WireServer()
    config = make_config(responses=ResponsesConfig(scope="org"))
    issued = [
        Issued("ann", "key-ann", "org-a"), Issued("cat", "key-cat", "org-a"),
        Issued("bob", "key-bob"),
    ]  # fmt: skip
    assert config.keys is not None
    write_key_table(config.keys, issued, KeyedHash(SECRETS.hash_key))
    async with served(config) as gateway:
        path = f"/v1/responses/{await _begin(gateway)}"
        statuses = [(await _call(gateway, "GET", path, key=f"key-{n}"))[0] for n in ("cat", "bob")]
    assert [200, 404] == statuses


async def test_nothing_can_be_claimed(make_config: Make, upstream: ScriptedUpstream) -> None:
    """Ids in what a client writes, echoed by the model server, make nobody an owner."""
    upstream.script = WireServer()
    async with served(make_config()) as gateway:
        ask = {"model": "m", "input": "q", "metadata": {"id": "resp_9"}, "safety": "resp_8"}
        await _call(gateway, "POST", "/v1/responses", **ask, previous_response_id="resp_7")
        found = [await gateway.state.owners.find(f"resp_{n}") for n in (7, 8, 9)]
        assert [None] * 3 == found


async def test_table(tmp_path: Path) -> None:
    """The first owner stays, long ids are nobody's, and what was written is read again."""
    path = tmp_path / "owners.sqlite"
    table = OwnerTable(path, ResponsesConfig(), metrics=Metrics())
    table.note("resp_1", ANN)
    table.note("resp_1", ANN._replace(account="bob"))
    table.note("x" * 513, ANN)
    table.note("", ANN)
    assert [ANN, None, None] == [await table.find(n) for n in ("resp_1", "x" * 513, "resp_2")]
    await table.close()
    again = OwnerTable(path, ResponsesConfig(), metrics=Metrics())
    assert ANN == await again.find("resp_1")
    assert b"resp_1" not in path.read_bytes()
    await again.close()


async def test_table_is_bounded(tmp_path: Path) -> None:
    """The oldest rows go first, and an id is forgotten after its time."""
    now = 1e9
    config = ResponsesConfig(keep=3, keep_days=2)
    path = tmp_path / "owners.sqlite"
    for n in range(5):
        at = now + n
        table = OwnerTable(path, config, metrics=Metrics(), clock=lambda at=at: at)
        table.note(f"resp_{n}", ANN)
        await table.close()
    with sqlite3.connect(path) as db:
        assert 3 == db.execute("SELECT count(*) FROM owners").fetchone()[0]
    db.close()
    for days, found in ((1, ANN), (3, None)):
        later = OwnerTable(path, config, metrics=Metrics(), clock=lambda d=days: now + d * 86_400)
        assert found == await later.find("resp_4")
        await later.close()


async def test_table_that_fails(tmp_path: Path) -> None:
    """A file that is no table is counted, and costs memory of ids only, not service."""
    path = tmp_path / "owners.sqlite"
    path.write_bytes(b"no database" * 1000)
    metrics = Metrics()
    table = OwnerTable(path, ResponsesConfig(), metrics=metrics)
    table.note("resp_1", ANN)
    assert [ANN, None] == [await table.find("resp_1"), await table.find("resp_2")]
    await table.close()
    assert 2 == metrics.value("owner_failures")


async def test_standing(tmp_path: Path) -> None:
    """One foreign id among one's own is enough; more ids than can be looked up are refused."""
    table = OwnerTable(tmp_path / "owners.sqlite", ResponsesConfig(), metrics=Metrics())
    table.note("resp_1", ANN)
    table.note("resp_2", Owner("bob", None, "resp_2"))

    async def standing(*ids: str, account: str = "ann") -> Standing:
        principal = Principal(account, "k", None)
        return await standing_of(principal, ids, owners=table, config=ResponsesConfig())

    assert Standing("resp_0") == await standing("resp_1", "resp_9")
    assert Standing(fault="foreign", owner="bob") == await standing("resp_1", "resp_2")
    assert SOUND == await standing()
    assert "many" == (await standing(*(f"x{n}" for n in range(300)))).fault
    await table.close()


@pytest.mark.parametrize(
    "values", [{"unknown": "maybe"}, {"scope": "all"}, {"keep": 0}, {"keep_days": 0.0}]
)
def test_config(values: dict[str, object]) -> None:
    """Values that mean nothing are refused by name."""
    with pytest.raises(InvalidInputError, match=next(iter(values))):
        ResponsesConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 5, 4096])
async def test_ids_on_their_way(step: int) -> None:
    """Ids are noted before their bytes pass, however an answer is split, and only the answer's."""
    body = json.dumps({"metadata": {"id": "no"}, "id": "yes", "output": [{"id": "item"}]}).encode()
    order: list[str] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            order.append("end")

    watch = IdWatch(send, order.append, keep_bytes=1000)
    await watch({"type": "http.response.start", "status": 200, "headers": []})
    for place in range(0, len(body), step):
        await watch({
            "type": "http.response.body", "body": body[place : place + step], "more_body": True
        })  # fmt: skip
    await watch({"type": "http.response.body", "body": b"", "more_body": False})
    assert ["yes", "item", "end"] == order


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, [], b'{"id": "x"}'),
        (200, [(b"content-encoding", b"br")], b'{"id": "x"}'),
        (200, [], b'{"id": 7}'),
        (200, [], b'{"id": "x", "pad": "' + b"p" * 200 + b'"}'),
        (200, [], b"no json"),
    ],
)
async def test_answers_without_an_id(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """What is no answer, cannot be read or is too long passes and teaches nothing."""
    noted: list[str] = []
    passed: list[Message] = []

    async def send(message: Message) -> None:
        passed.append(message)

    watch = IdWatch(send, noted.append, keep_bytes=100)
    await watch({"type": "http.response.start", "status": status, "headers": headers})
    await watch({"type": "http.response.body", "body": body, "more_body": False})
    assert ([], 2) == (noted, len(passed))
