"""The house model server over real sockets, with a small random model."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
import uvicorn

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Message
from stillwatch.siege.processes import ProcessGroup
from stillwatch.siege.server import (
    MARKED_HEADER,
    MarkConfig,
    ServerConfig,
    build_app,
    listen,
    make_server,
    run_model_server,
)
from stillwatch.trace.watermark import TokenSequence, campaign_mark, score_windows
from stillwatch.wire.chat import ChunkAssembler, encode_request, parse_response
from stillwatch.wire.signature import MARK_HEADER, sign_mark

SECRET, MASTER = b"s" * 16, b"m" * 32


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LocalModel:
    """Return the loaded model, to compare with what the server answers."""
    return LocalModel.load(tiny_folder, name="tiny")


@contextlib.asynccontextmanager
async def serving(model: LocalModel, **config: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve a model on a free port of this machine, and offer a client."""
    settings = ServerConfig(models={"tiny": Path()}, **config)
    listener = listen("127.0.0.1", 0)
    server = make_server(build_app({"tiny": model}, settings))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession(url) as session:
        yield session
    server.should_exit = True
    await task


@pytest.fixture
async def client(model: LocalModel) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a client of a server that can mark."""
    marks = MarkConfig(SECRET, MASTER, delta=8.0)
    async with serving(model, marks=marks) as session:
        yield session


def body(text: str = "14 July 1789", /, **parameters: Any) -> bytes:
    """Write a question."""
    question = Question(
        messages=(Message("system", "Be brief."), Message("user", text)),
        model="tiny",
        parameters=parameters,
    )
    return encode_request(question)


async def ask(client: aiohttp.ClientSession, data: bytes, **headers: str) -> tuple[int, Any]:
    """Send a body; returns the status and the decoded reply."""
    async with client.post("/v1/chat/completions", data=data, headers=headers) as response:
        assert "application/json" == response.content_type
        return response.status, msgspec.json.decode(await response.read())


async def test_answers_as_the_model_does(client: aiohttp.ClientSession, model: LocalModel) -> None:
    """A reply holds the model's own answer in the wire's shape, with its tokens counted."""
    status, reply = await ask(client, body(max_tokens=9))
    row = GenerationRow(prompt_ids=model.encode_question("14 July 1789"), max_new_tokens=9)
    expected = model.generate([row])[0]
    assert 200 == status
    assert "chat.completion" == reply["object"]
    assert "tiny" == reply["model"]
    [choice] = reply["choices"]
    assert {"role": "assistant", "content": expected.text} == choice["message"]
    assert expected.finish_reason == choice["finish_reason"]
    n_input = 2 + (1 + len("Be brief.")) + (1 + len("14 July 1789"))
    n_output = len(expected.token_ids)
    assert (n_input, n_output) == (
        reply["usage"]["prompt_tokens"],
        reply["usage"]["completion_tokens"],
    )


async def test_stream_holds_the_same(client: aiohttp.ClientSession) -> None:
    """The events of a stream add up to the whole reply, in more than one piece."""
    data = body("hello there you", max_tokens=40, temperature=2.0, seed=3)
    status, reply = await ask(client, data)
    assert 200 == status
    asked = msgspec.json.decode(data)
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    assembler = ChunkAssembler()
    async with client.post("/v1/chat/completions", json=asked) as response:
        assert "text/event-stream" == response.content_type
        async for part in response.content.iter_any():
            assembler.feed(part)
    assert assembler.done
    assert assembler.n_chunks > 3
    assert parse_response(msgspec.json.encode(reply)) == assembler.reply()


async def test_the_openai_client_reads_it(client: aiohttp.ClientSession) -> None:
    """OpenAI's own client understands whole and streamed answers, log-probabilities and errors."""
    url = str(client._base_url).rstrip("/") + "/v1"
    messages: Any = [{"role": "user", "content": "14 July 1789"}]
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as official:
        create = official.chat.completions.create
        whole = await create(
            model="tiny", messages=messages, n=2, logprobs=True, top_logprobs=1, seed=1
        )
        stream = await create(model="tiny", messages=messages, seed=1, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert [model.id async for model in official.models.list()] == ["tiny"]
        with pytest.raises(openai.BadRequestError) as caught:
            await create(model="tiny", messages=messages, temperature=9)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert text == "".join(token.token for token in tokens)
    assert 2 * len(tokens) == whole.usage.completion_tokens
    assert ("temperature", "invalid_value") == (caught.value.param, caught.value.code)


async def test_seed_repeats_and_choices_differ(client: aiohttp.ClientSession) -> None:
    """Equal seeds give equal answers, the n choices of one question differ, and 1 comes first."""
    data = body(temperature=1.5, n=3, seed=-7)
    _, first = await ask(client, data)
    _, again = await ask(client, data)
    _, single = await ask(client, body(temperature=1.5, seed=-7))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert texts == [choice["message"]["content"] for choice in again["choices"]]
    assert 3 == len(set(texts))
    assert [0, 1, 2] == [choice["index"] for choice in first["choices"]]
    assert texts[0] == single["choices"][0]["message"]["content"]


async def test_no_seed_draws_anew(client: aiohttp.ClientSession) -> None:
    """Without a seed two equal questions get different answers."""
    _, one = await ask(client, body(temperature=2.0))
    _, two = await ask(client, body(temperature=2.0))
    assert one["choices"] != two["choices"]


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(client: aiohttp.ClientSession, *, stream: bool) -> None:
    """Each token comes with its log-probability and as many likely ones as were asked for."""
    asked = msgspec.json.decode(body(logprobs=True, top_logprobs=2, max_tokens=5))
    assembler = ChunkAssembler()
    async with client.post("/v1/chat/completions", json=asked | {"stream": stream}) as response:
        raw = await response.read()
    assembler.feed(raw)
    [answer] = assembler.reply().answers if stream else parse_response(raw).answers
    content = msgspec.json.decode(answer.extra)["logprobs"]["content"]
    assert answer.text == "".join(token["token"] for token in content)
    assert {2} == {len(token["top_logprobs"]) for token in content}
    for token in content:  # greedy: the chosen one is the likeliest
        assert token["top_logprobs"][0]["token"] == token["token"]
        assert token["top_logprobs"][0]["logprob"] >= token["top_logprobs"][1]["logprob"]
        assert list(token["token"].encode()) == token["bytes"]


async def test_stop_text_cuts(client: aiohttp.ClientSession) -> None:
    """An answer ends before the first stop text, and only what came until then is counted."""
    _, whole = await ask(client, body(temperature=2.0, seed=1, max_tokens=30))
    text = whole["choices"][0]["message"]["content"]
    at = text.find(text[-1])
    _, cut = await ask(
        client, body(temperature=2.0, seed=1, max_tokens=30, stop=["\u00a7", text[-1]])
    )
    assert text[:at] == cut["choices"][0]["message"]["content"]
    assert "stop" == cut["choices"][0]["finish_reason"]
    assert at + 1 == cut["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": "gpt-x"}, "model", "model_not_found"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"seed": 1.5}, "seed", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": ["a", 2]}, "stop", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "x" * 96}]},
            "messages",
            "context_length_exceeded",
        ),
    ],
)
async def test_a_bad_field_is_named(
    client: aiohttp.ClientSession, change: dict[str, Any], param: str, code: str
) -> None:
    """A question that breaks a rule gets 400 or 404 with the field and a code, in wire shape."""
    status, reply = await ask(client, msgspec.json.encode(msgspec.json.decode(body()) | change))
    assert (404 if code == "model_not_found" else 400) == status
    assert {"message", "type", "param", "code"} == set(reply["error"])
    assert (param, code) == (reply["error"]["param"], reply["error"]["code"])
    assert param in reply["error"]["message"]


async def test_what_is_no_question(client: aiohttp.ClientSession) -> None:
    """Bad JSON, unknown routes and wrong methods get errors in the wire's shape too."""
    status, reply = await ask(client, b"{nonsense")
    assert (400, "invalid_json") == (status, reply["error"]["code"])
    for method, path, expected in (
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/v1/embeddings", 404),
        ("GET", "/v1/models/gpt-x", 404),
    ):
        async with client.request(method, path) as response:
            assert expected == response.status
            assert "error" in msgspec.json.decode(await response.read())


async def test_unknown_fields_are_passed_over(client: aiohttp.ClientSession) -> None:
    """What the house models do not know does not stop an answer."""
    status, _ = await ask(client, body(user="u1", reasoning_effort="low", metadata={"a": "b"}))
    assert 200 == status


async def test_models_and_health(client: aiohttp.ClientSession) -> None:
    """The models are listed by name, and health tells how full the batches were."""
    await asyncio.gather(*[ask(client, body()) for _ in range(10)])
    async with client.get("/v1/models") as response:
        listed = msgspec.json.decode(await response.read())
    assert ["tiny"] == [card["id"] for card in listed["data"]]
    async with client.get("/v1/models/tiny") as response:
        assert listed["data"][0] == msgspec.json.decode(await response.read())
    async with client.get("/healthz") as response:
        health = msgspec.json.decode(await response.read())
    assert "ok" == health["status"]
    assert 10 == health["models"]["tiny"]["rows"]
    assert health["models"]["tiny"]["batches"] < 10


async def test_a_signed_order_marks_the_answer(
    client: aiohttp.ClientSession, model: LocalModel
) -> None:
    """With the gateway's order the answer carries the campaign's mark, and says which key."""
    mark = campaign_mark(MASTER, "c-1")
    sequences = []
    for seed in range(8):
        data = body(temperature=1.0, max_tokens=60, seed=seed)
        order = sign_mark(
            SECRET, campaign_id="c-1", mark_key_id=mark.key_id, body=data, issued_at=time.time()
        )
        async with client.post(
            "/v1/chat/completions", data=data, headers={MARK_HEADER: order}
        ) as response:
            assert mark.key_id == response.headers[MARKED_HEADER]
            [answer] = parse_response(await response.read()).answers
        prompt_ids = model.encode_question("14 July 1789")
        token_ids = [*prompt_ids, *model.token_ids(answer.text)]
        sequences.append(TokenSequence(token_ids, len(prompt_ids)))
    marked = score_windows(sequences, mark, vocab_size=model.vocab_size)
    other = score_windows(sequences, campaign_mark(MASTER, "c-2"), vocab_size=model.vocab_size)
    assert marked.p_value().p_value < 1e-6
    assert other.p_value().p_value > 1e-3


@pytest.mark.parametrize(
    ("secret", "key_id", "issued_at"),
    [
        (b"x" * 16, campaign_mark(MASTER, "c-1").key_id, None),
        (SECRET, "0" * 16, None),
        (SECRET, campaign_mark(MASTER, "c-1").key_id, 0.0),
    ],
    ids=["wrong secret", "wrong key", "too old"],
)
async def test_a_bad_order_is_refused(
    client: aiohttp.ClientSession, secret: bytes, key_id: str, issued_at: float | None
) -> None:
    """An order that does not verify gets 403 and no answer: an unmarked one would be lost."""
    data = body()
    order = sign_mark(
        secret,
        campaign_id="c-1",
        mark_key_id=key_id,
        body=data,
        issued_at=time.time() if issued_at is None else issued_at,
    )
    status, reply = await ask(client, data, **{MARK_HEADER: order})
    assert (403, "mark_refused") == (status, reply["error"]["code"])


async def test_any_age_in_a_simulation(model: LocalModel) -> None:
    """With `max_age_s` None the calendar of the order does not matter."""
    marks = MarkConfig(SECRET, MASTER, max_age_s=None)
    data, key_id = body(), campaign_mark(MASTER, "c").key_id
    order = sign_mark(SECRET, campaign_id="c", mark_key_id=key_id, body=data, issued_at=5.0)
    async with serving(model, marks=marks) as client:
        status, _ = await ask(client, data, **{MARK_HEADER: order})
    assert 200 == status


async def test_key_size_and_marks_are_checked(model: LocalModel) -> None:
    """A wrong bearer token, a huge body and an order without secrets are refused."""
    async with serving(model, api_key="k1", max_body_bytes=300) as client:
        status, reply = await ask(client, body(), authorization="Bearer k2")
        assert (401, "invalid_api_key") == (status, reply["error"]["code"])
        status, reply = await ask(client, body("x" * 400), authorization="Bearer k1")
        assert (413, "body_too_long") == (status, reply["error"]["code"])
        headers = {"authorization": "Bearer k1", MARK_HEADER: "v1.x.y"}
        status, reply = await ask(client, body(), **headers)
        assert (403, "mark_refused") == (status, reply["error"]["code"])
        status, _ = await ask(client, body(), authorization="Bearer k1")
        assert 200 == status


async def test_a_gone_client_frees_the_queue(model: LocalModel) -> None:
    """A question whose client hangs up before its batch begins is never computed."""
    async with serving(model, window_s=0.5) as client:
        leaving = asyncio.create_task(ask(client, body("one")))
        staying = asyncio.create_task(ask(client, body("two")))
        await asyncio.sleep(0.1)
        leaving.cancel()
        status, _ = await staying
        assert 200 == status
        async with client.get("/healthz") as response:
            health = msgspec.json.decode(await response.read())
        assert 1 == health["models"]["tiny"]["rows"]


def test_serves_in_a_process_of_its_own(tiny_folder: Path) -> None:
    """The process entry loads, tells its port, answers, and a busy port is one clear error."""
    with ProcessGroup() as group:
        port = group.start("server", run_model_server, ServerConfig(models={"tiny": tiny_folder}))

        async def once() -> int:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                return (await ask(client, body()))[0]

        assert 200 == asyncio.run(once())
        busy = ServerConfig(models={"tiny": tiny_folder}, port=port)
        with pytest.raises(EnvironmentUnfitError, match=f"cannot listen on 127.0.0.1:{port}"):
            group.start("other", run_model_server, busy)
        with pytest.raises(RecordError, match="is not a model folder"):
            group.start("third", run_model_server, ServerConfig(models={"x": tiny_folder / "none"}))


def test_config_is_checked() -> None:
    """A server without models, or with an impossible port, is refused."""
    with pytest.raises(InvalidInputError, match="at least one folder"):
        ServerConfig(models={})
    with pytest.raises(InvalidInputError, match="0 to 65535"):
        ServerConfig(models={"a": Path()}, port=70_000)


def test_marks_from_environment() -> None:
    """Both secrets come from the gateway's variables, and neither shows in a representation."""
    environ = {"STILLWATCH_MARK_SECRET": "a" * 16, "STILLWATCH_MARK_MASTER_KEY": "b" * 16}
    marks = MarkConfig.from_env(environ)
    assert MarkConfig(b"a" * 16, b"b" * 16) == marks
    assert "aaa" not in repr(marks)
    assert None is MarkConfig.from_env({"STILLWATCH_MARK_SECRET": "a" * 16})


def test_settings_are_the_house_s(model: LocalModel) -> None:
    """Idle connections outlive any client's patience, and nothing is logged per question."""
    server = make_server(build_app({"tiny": model}, ServerConfig(models={"tiny": Path()})))
    assert isinstance(server, uvicorn.Server)
    assert server.config.timeout_keep_alive >= 60
    assert not server.config.access_log
