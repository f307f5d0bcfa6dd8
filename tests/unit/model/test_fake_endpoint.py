"""The fake endpoint: what real clients get from it, how it misbehaves, and what it counts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import anthropic
import openai
import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, ModelError
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint, count_tokens, question_key
from stillwatch.model.http import HttpModel, Retries
from stillwatch.record.exchange import Message
from stillwatch.wire.question import Question, Reply

USER = [{"role": "user", "content": "1+1?"}]


@contextlib.contextmanager
def _openai_client(endpoint: FakeEndpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=endpoint.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@contextlib.contextmanager
def _anthropic_client(endpoint: FakeEndpoint) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=endpoint.url, api_key="sk-test", max_retries=0) as client:
        yield client


def _post(endpoint: FakeEndpoint, *, question: str = "1+1?", path: str = "/chat/completions"):
    body = {"model": "m", "max_tokens": 9999, "messages": [{"role": "user", "content": question}]}
    connection = http.client.HTTPConnection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
    try:
        connection.request("POST", f"/v1{path}", body=json.dumps(body))
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def test_chat_answers_the_openai_client() -> None:
    """The openai client reads an answer, its counts and its fingerprint."""
    with FakeEndpoint(FakeConfig(answers={"1+1?": "It is two."})) as endpoint:
        with _openai_client(endpoint) as client:
            told = client.chat.completions.create(model="m", messages=USER)
        assert "It is two." == told.choices[0].message.content
        assert ("stop", "m", "fp_fake") == (
            told.choices[0].finish_reason, told.model, told.system_fingerprint
        )  # fmt: skip
        assert (1, 3) == (told.usage.prompt_tokens, told.usage.completion_tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_answer_the_openai_client(stream: bool) -> None:
    """The openai client reads a response, whole and streamed."""
    config = FakeConfig(answers={"1+1?": "It is two."}, reasoning_share=1.0)
    with FakeEndpoint(config) as endpoint, _openai_client(endpoint) as client:
        if stream:
            with client.responses.stream(model="m", input="1+1?") as events:
                told = events.get_final_response()
        else:
            told = client.responses.create(model="m", input="1+1?", instructions="Be brief.")
        assert ("completed", "It is two.") == (told.status, told.output_text)


@pytest.mark.parametrize("stream", [False, True])
def test_messages_answer_the_anthropic_client(stream: bool) -> None:
    """The anthropic client reads a message, whole and streamed."""
    asked = {"model": "m", "max_tokens": 9, "messages": USER, "system": "Be brief."}
    config = FakeConfig(answers={"1+1?": "It is two."})
    with FakeEndpoint(config) as endpoint, _anthropic_client(endpoint) as client:
        if stream:
            with client.messages.stream(**asked) as events:
                told = events.get_final_message()
        else:
            told = client.messages.create(**asked)
        assert "It is two." == told.content[0].text
        assert ("end_turn", 4, 3) == (
            told.stop_reason, told.usage.input_tokens, told.usage.output_tokens
        )  # fmt: skip


def test_chat_streams_in_pieces() -> None:
    """A streamed chat answer comes in several pieces that join to the whole, with its counts."""
    with FakeEndpoint(FakeConfig(answer_bytes=300)) as endpoint, _openai_client(endpoint) as client:
        options = {"include_usage": True}
        stream = client.chat.completions.create(
            model="m", messages=USER, stream=True, stream_options=options
        )
        chunks = list(stream)
        pieces = [c.choices[0].delta.content for c in chunks if c.choices]
        text = "".join(filter(None, pieces))
        assert 300 == len(text)
        assert len([p for p in pieces if p]) > 3
        assert count_tokens(text) == chunks[-1].usage.completion_tokens
        assert 1 == endpoint.counts().n_streamed


def test_logprobs_leave_a_tail() -> None:
    """Log-probabilities come when asked for, and do not add up to one."""
    with FakeEndpoint() as endpoint, _openai_client(endpoint) as client:
        told = client.chat.completions.create(
            model="m", messages=USER, logprobs=True, top_logprobs=3
        )
        tokens = told.choices[0].logprobs.content
        assert told.choices[0].message.content == "".join(t.token for t in tokens)
        shares = [2.718281828**t.logprob for t in tokens[0].top_logprobs]
        assert pytest.approx([0.5, 0.25, 0.125], abs=1e-4) == shares


def test_an_answer_names_its_conversation() -> None:
    """Another system prompt gives another answer, whatever wire and client brought it."""
    with FakeEndpoint() as endpoint, _openai_client(endpoint) as client:
        turns = [{"role": "developer", "content": "Be brief."}, *USER]
        told = client.chat.completions.create(model="m", messages=turns)
        other = client.responses.create(
            model="x", instructions="Be brief.", input=[{"role": "user", "content": "1+1?"}]
        )
        plain = client.chat.completions.create(model="m", messages=USER)
        key = question_key([("system", "Be brief."), ("user", "1+1?")])
        assert [key, key] == [told.choices[0].message.content.split()[0], other.output_text.strip()]
        assert question_key([("user", "1+1?")]) == plain.choices[0].message.content.strip()
        assert {key: 2, plain.choices[0].message.content.strip(): 1} == endpoint.counts(
            with_keys=True
        ).asked


def test_a_handler_answers() -> None:
    """A function may answer instead, and its failure becomes a 500."""

    def answer(question: Question) -> str | Reply | ModelError:
        text = question.messages[-1].content
        return ModelError("no") if text == "fail" else text.upper()

    with FakeEndpoint(handler=answer) as endpoint:
        status, _, body = _post(endpoint, question="hello")
        assert (200, "HELLO") == (status, json.loads(body)["choices"][0]["message"]["content"])
        assert 500 == _post(endpoint, question="fail")[0]


def test_our_client_asks_it() -> None:
    """HttpModel gets the answers of a batch in their order."""

    async def ask(base_url: str) -> list[str]:
        async with HttpModel(base_url, model="m") as model:
            questions = [Question(messages=(Message("user", f"q{n}"),)) for n in range(40)]
            return [reply.answers[0].text for reply in await model.answer(questions)]

    with FakeEndpoint() as endpoint:
        found = asyncio.run(ask(endpoint.base_url))
    assert [question_key([("user", f"q{n}")]) + " " for n in range(40)] == found


def test_the_bucket_says_how_long_to_wait() -> None:
    """Beyond its rate it gives 429 with the header chosen, and counts what it let through."""
    for kind, name in (("seconds", "retry-after"), ("ms", "retry-after-ms")):
        config = FakeConfig(rate_per_s=0.5, burst=2, retry_after=kind)
        with FakeEndpoint(config) as endpoint:
            replies = [_post(endpoint, question=str(n)) for n in range(4)]
            counts = endpoint.counts()
        assert [200, 200, 429, 429] == [status for status, _, _ in replies]
        assert {200: 2, 429: 2} == counts.statuses
        assert (2, {"limited_rate": 2}) == (counts.n_billed, counts.faults)
        waited = float(replies[-1][1][name]) / (1000 if kind == "ms" else 1)
        assert 1.0 <= waited <= 2.0
        assert "0" == replies[-1][1]["x-ratelimit-remaining-requests"]
        assert "rate_limit_exceeded" == json.loads(replies[-1][2])["error"]["code"]


def test_too_many_at_once_are_refused() -> None:
    """Questions beyond the most at once get 429."""

    async def ask(base_url: str) -> int:
        retries = Retries(n_retries=0)
        async with HttpModel(base_url, model="m", concurrency=8, retries=retries) as model:
            asked = (model.ask(Question(messages=(Message("user", str(n)),))) for n in range(8))
            done = await asyncio.gather(*asked, return_exceptions=True)
        return sum(isinstance(one, Reply) for one in done)

    with FakeEndpoint(FakeConfig(most_at_once=3, delay_s=0.1)) as endpoint:
        assert 3 == asyncio.run(ask(endpoint.base_url))
        assert 5 == endpoint.counts().faults["limited_at_once"]


def test_faults_come_at_their_shares_and_repeat() -> None:
    """Faults of the line come at about their shares, and the same ones from the same seed."""
    config = FakeConfig(error_share=0.2, malformed_share=0.2, wrong_type_share=0.2, seed=3)
    seen = []
    for _ in range(2):
        with FakeEndpoint(config) as endpoint:
            for n in range(60):
                _post(endpoint, question=str(n))
            seen.append(endpoint.counts().faults)
    assert seen[0] == seen[1]
    assert {"error", "malformed", "wrong_type"} == set(seen[0])
    assert all(4 <= count <= 22 for count in seen[0].values())


def test_faults_are_drawn_anew_for_each_attempt() -> None:
    """A question that failed may succeed at its next attempt."""
    with FakeEndpoint(FakeConfig(error_share=0.5)) as endpoint:
        assert {200, 500} == {_post(endpoint)[0] for _ in range(20)}


@pytest.mark.parametrize("name", ["cut", "dropped"])
def test_connections_break(name: str) -> None:
    """A cut answer breaks off inside its body; a dropped one never begins."""
    with FakeEndpoint(FakeConfig(**{f"{name}_share": 1.0}, answer_bytes=400)) as endpoint:
        expected = http.client.IncompleteRead if name == "cut" else http.client.RemoteDisconnected
        with pytest.raises(expected):
            _post(endpoint)
        counts = endpoint.counts()
        assert (1 if name == "cut" else 0, 0) == (counts.n_billed, counts.n_delivered)
        assert 0 == endpoint.counts().statuses.get(500, 0)


def test_bad_bodies_are_told_from_good_status() -> None:
    """Malformed bodies and pages of HTML come with status 200."""
    with FakeEndpoint(FakeConfig(malformed_share=1.0)) as endpoint:
        status, _, body = _post(endpoint)
        assert 200 == status
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        endpoint.configure(FakeConfig(wrong_type_share=1.0))
        status, headers, _ = _post(endpoint)
        assert (200, "text/html") == (status, headers["content-type"])


def test_a_stall_waits() -> None:
    """A stalled answer comes after its wait, and the client that went is still billed."""
    with FakeEndpoint(FakeConfig(stalled_share=1.0, stall_s=0.2)) as endpoint:
        url = f"{endpoint.base_url}/chat/completions"
        body = json.dumps({"messages": USER}).encode()
        with pytest.raises((TimeoutError, urllib.error.URLError)):
            urllib.request.urlopen(url, body, timeout=0.05)  # noqa: S310 - loopback
        deadline = time.monotonic() + 10
        while not endpoint.counts().n_billed and time.monotonic() < deadline:
            time.sleep(0.05)
        counts = endpoint.counts()
        assert (1, 0) == (counts.n_billed, counts.n_delivered)


@pytest.mark.parametrize(
    ("path", "reasons"),
    [("/chat/completions", {"stop", "length"}), ("/messages", {"end_turn", "max_tokens"})],
)
def test_truncation_stays_with_its_question(path: str, reasons: set[str]) -> None:
    """A question whose answer is cut for length is cut at every attempt."""
    with FakeEndpoint(FakeConfig(truncated_share=0.5, answer_bytes=200)) as endpoint:

        def reason(question: str) -> str:
            told = json.loads(_post(endpoint, question=question, path=path)[2])
            return (
                told["stop_reason"]
                if "stop_reason" in told
                else told["choices"][0]["finish_reason"]
            )

        first, second = ([reason(str(n)) for n in range(12)] for _ in range(2))
        assert first == second
        assert reasons == set(first)


def test_max_tokens_is_obeyed() -> None:
    """An answer longer than max_tokens is cut there and says so."""
    with (
        FakeEndpoint(FakeConfig(answer_bytes=1000)) as endpoint,
        _openai_client(endpoint) as client,
    ):
        told = client.chat.completions.create(model="m", messages=USER, max_tokens=7)
        assert ("length", 7) == (told.choices[0].finish_reason, told.usage.completion_tokens)


@pytest.mark.parametrize("refusal", ["words", "field", "filter"])
def test_refusals_come_in_each_wire_s_shape(refusal: str) -> None:
    """A refusal is words, or the wire's own sign of one."""
    with FakeEndpoint(FakeConfig(refused_share=1.0, refusal=refusal)) as endpoint:
        with _openai_client(endpoint) as client, _anthropic_client(endpoint) as other:
            choice = client.chat.completions.create(model="m", messages=USER).choices[0]
            message = other.messages.create(model="m", max_tokens=99, messages=USER)
        chat = bool(choice.message.content), bool(choice.message.refusal), choice.finish_reason
        expected = {
            "words": ((True, False, "stop"), "end_turn"),
            "field": ((False, True, "stop"), "refusal"),
            "filter": ((False, False, "content_filter"), "refusal"),
        }
        assert expected[refusal] == (chat, message.stop_reason)


def test_a_key_is_asked_for() -> None:
    """Without the right key every wire gets its own 401."""
    with FakeEndpoint(FakeConfig(api_key="right")) as endpoint:
        with _openai_client(endpoint) as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="m", messages=USER)
        with _anthropic_client(endpoint) as client, pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model="m", max_tokens=9, messages=USER)
        assert 0 == endpoint.counts().n_requests


def test_what_is_no_question_is_refused() -> None:
    """Bodies that hold no conversation get 400, and a Messages body must say max_tokens."""
    with FakeEndpoint() as endpoint:
        for path, body in (
            ("chat/completions", b"{"),
            ("chat/completions", b"[]"),
            ("chat/completions", b'{"messages": []}'),
            ("chat/completions", b'{"messages": 3}'),
            ("chat/completions", b'{"messages": ["hello"]}'),
            ("messages", b'{"messages": [{"role": "user", "content": "x"}]}'),
        ):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"{endpoint.base_url}/{path}", body)  # noqa: S310 - loopback
        assert {400: 6} == endpoint.counts().statuses


def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Pipelined questions are answered one after the other, though the first one waits."""
    with FakeEndpoint(FakeConfig(delay_s=0.02)) as endpoint:
        connection = http.client.HTTPConnection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
        connection.connect()
        body = json.dumps({"messages": USER}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        connection.sock.sendall((head + body) * 3)
        found = b""
        while found.count(b"HTTP/1.1 200") < 3 or not found.endswith(b"}"):
            found += connection.sock.recv(65536)
        connection.close()
        assert [1, 1] == [found.count(b"chatcmpl-00000001"), found.count(b"chatcmpl-00000003")]
        assert found.index(b"chatcmpl-00000001") < found.index(b"chatcmpl-00000003")


def test_a_process_of_its_own_serves_and_ends() -> None:
    """An endpoint in a process answers, changes its ways, and is gone after its block."""
    with FakeEndpoint(FakeConfig(), process=True) as endpoint:
        assert 200 == _post(endpoint)[0]
        endpoint.configure(FakeConfig(error_share=1.0))
        assert 500 == _post(endpoint)[0]
        endpoint.reset()
        assert 0 == endpoint.counts().n_requests
    with pytest.raises(ConnectionRefusedError):
        _post(endpoint)


def test_a_taken_port_is_told() -> None:
    """A port that is taken is an error with a hint, in a thread and in a process."""
    with FakeEndpoint() as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        with pytest.raises(EnvironmentUnfitError, match="taken"):
            FakeEndpoint(port=port).start()


@pytest.mark.parametrize(
    "wrong",
    [{"error_share": 1.5}, {"delay_s": -1.0}, {"error_share": 0.6, "cut_share": 0.6}],
)
def test_configurations_are_checked(wrong: dict[str, float]) -> None:
    """Shares outside 0..1, or more than all together, are refused."""
    with pytest.raises(InvalidInputError, match="FakeConfig"):
        FakeConfig(**wrong)


def test_openai_batches_serve_the_openai_client() -> None:
    """The openai client uploads a file, submits it, and finds its answers and its errors."""
    config = FakeConfig(batch_s=0.0, batch_errored_share=0.3, answers={"1+1?": "2"})
    with FakeEndpoint(config) as endpoint, _openai_client(endpoint) as client:
        rows = [
            {
                "custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [{"role": "user", "content": f"q{n}"}]},
            }
            for n in range(20)
        ]  # fmt: skip
        content = "\n".join(map(json.dumps, rows)).encode()
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
            metadata={"tag": "x"},
        )  # fmt: skip
        batch = client.batches.retrieve(batch.id)
        assert ("completed", 20, {"tag": "x"}) == (
            batch.status, batch.request_counts.total, batch.metadata
        )  # fmt: skip
        good = client.files.content(batch.output_file_id).text.splitlines()
        bad = client.files.content(batch.error_file_id).text.splitlines()
        assert {f"r{n}" for n in range(20)} == {json.loads(r)["custom_id"] for r in good + bad}
        assert 0 < len(bad) < 20
        assert [batch.id] == [one.id for one in client.batches.list(limit=5)]
        assert len(good) == endpoint.counts().n_batch_rows


def test_message_batches_serve_the_anthropic_client() -> None:
    """The anthropic client submits a batch, lists it, and reads its results."""
    with (
        FakeEndpoint(FakeConfig(batch_s=0.0, batch_expired_share=0.3)) as endpoint,
        _anthropic_client(endpoint) as client,
    ):
        batch = client.messages.batches.create(
            requests=[
                {
                    "custom_id": f"r{n}",
                    "params": {
                        "model": "m", "max_tokens": 50,
                        "messages": [{"role": "user", "content": f"q{n}"}],
                    },
                }
                for n in range(20)
            ]
        )  # fmt: skip
        batch = client.messages.batches.retrieve(batch.id)
        results = list(client.messages.batches.results(batch.id))
        assert "ended" == batch.processing_status
        assert {f"r{n}" for n in range(20)} == {result.custom_id for result in results}
        assert {"succeeded", "expired"} == {result.result.type for result in results}
        assert [batch.id] == [one.id for one in client.messages.batches.list(limit=5)]
        texts = [r.result.message.content[0].text for r in results if r.result.type == "succeeded"]
        assert len(texts) == batch.request_counts.succeeded


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"custom_id": "same"}, "duplicate_custom_id"),
        ({"url": "/v1/responses"}, "mismatched_endpoint"),
        ({"method": "GET"}, "invalid_request"),
    ],
)
def test_batches_that_break_a_rule_fail(change: dict[str, str], code: str) -> None:
    """A batch against the vendor's rules fails with a code, and none of its rows is billed."""
    with FakeEndpoint() as endpoint, _openai_client(endpoint) as client:
        url = "/v1/chat/completions"
        rows = [
            {"custom_id": str(n), "method": "POST", "url": url, "body": {"messages": USER}} | change
            for n in range(2)
        ]
        content = "\n".join(map(json.dumps, rows)).encode()
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint=url, completion_window="24h"
        )  # fmt: skip
        found = client.batches.retrieve(batch.id)
        assert ("failed", code) == (found.status, found.errors.data[0].code)
        assert 0 == endpoint.counts().n_billed


@pytest.mark.parametrize("custom_id", ["no spaces", "x" * 65, ""])
def test_message_batches_that_break_a_rule_are_refused(custom_id: str) -> None:
    """An id against the vendor's rules is refused with 400."""
    with FakeEndpoint() as endpoint, _anthropic_client(endpoint) as client:
        params = {"model": "m", "max_tokens": 5, "messages": USER}
        with pytest.raises(anthropic.BadRequestError, match="400"):
            client.messages.batches.create(requests=[{"custom_id": custom_id, "params": params}])
        assert 0 == endpoint.counts().n_batches
