"""Inside a real LiteLLM proxy: what the wall decides, what comes through, what is recorded."""

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.foreign.conftest import HASH_KEY, Proxy

from stillwatch.guard.wall.challenge import issue_token
from stillwatch.guard.wall.verdict import CampaignVerdict, Verdict, VerdictTable
from stillwatch.record.exchange import Exchange
from stillwatch.record.journal import read_journal
from stillwatch.record.privacy import KeyedHash


def flag(state: Path, account: str) -> None:
    """Write a verdict and wait until it is acted on."""
    now = time.time()
    campaign = CampaignVerdict(f"web-{account}", since=now, renewed_at=now, mark_key_id=None)
    table = VerdictTable(state / "verdicts.sqlite")
    table.write([Verdict(account, campaign, now, now + 3600.0)])
    table.close()
    time.sleep(0.3)


def recorded(state: Path, account: str, *, count: int = 1) -> list[Exchange]:
    """Wait for exchanges of an account."""
    found: list[Exchange] = []
    for _ in range(100):
        found = [e for _, e in read_journal(state / "journal") if e.account == account]
        if len(found) >= count:
            break
        time.sleep(0.05)
    return sorted(found, key=lambda exchange: exchange.started_at)


WIRES = [
    ("chat/completions", {"model": "open", "messages": [{"role": "user", "content": "roman 14"}]}),
    ("responses", {"model": "open", "input": "roman 14"}),
    ("messages", {"model": "claude", "max_tokens": 9,
                  "messages": [{"role": "user", "content": "roman 14"}]}),
]  # fmt: skip
NAMES = {"chat/completions": "openai.chat", "responses": "openai.responses",
         "messages": "anthropic.messages"}  # fmt: skip


@pytest.mark.parametrize(("route", "body"), WIRES, ids=lambda v: v if isinstance(v, str) else "")
def test_recorded(proxy: Proxy, route: str, body: dict[str, Any]) -> None:
    """A call on any wire becomes an exchange with its question, answer, counts and client."""
    account = f"rec-{NAMES[route]}"
    who = {"metadata": {"user_id": account}} if route == "messages" else {"user": account}
    status, _, _ = proxy.ask(route, body | who, **{"user-agent": "sdk/1"})
    (exchange,) = recorded(proxy.inside, account)
    assert (200, NAMES[route], "roman 14", "XIV", 9, 3, "sdk/1", False) == (
        status, exchange.wire, exchange.question, exchange.answer, exchange.input_tokens,
        exchange.output_tokens, exchange.user_agent, exchange.streamed,
    )  # fmt: skip
    assert KeyedHash(HASH_KEY).address("127.0.0.1") == exchange.ip_hash
    assert exchange.key_hash


@pytest.mark.parametrize("route", ["chat/completions", "messages"])
def test_streamed(proxy: Proxy, route: str) -> None:
    """A stream reaches the client in pieces and the record whole."""
    account = f"stream-{NAMES[route]}"
    who = {"metadata": {"user_id": account}} if route == "messages" else {"user": account}
    status, lines, body = proxy.ask(route, dict(WIRES)[route] | who | {"stream": True})
    assert (200, True) == (status, lines["content-type"].startswith("text/event-stream"))
    assert body.count(b"data:") >= 3
    (exchange,) = recorded(proxy.inside, account)
    assert ("XIV", True, NAMES[route]) == (exchange.answer, exchange.streamed, exchange.wire)


@pytest.mark.parametrize("route", ["chat/completions", "responses", "messages"])
def test_throttled(proxy: Proxy, route: str) -> None:
    """A campaign over its limit gets 429 and the time to come again, on every route."""
    account = f"slow-{NAMES[route]}"
    flag(proxy.inside, account)
    who = {"metadata": {"user_id": account}} if route == "messages" else {"user": account}
    body = dict(WIRES)[route] | {"model": "slow"} | who
    statuses = [proxy.ask(route, body)[0] for _ in range(2)]
    status, lines, told = proxy.ask(route, body)
    assert ([200, 429], 429) == (statuses, status)
    assert 3_500_000 < int(lines["retry-after-ms"]) <= 3_600_000
    assert 3_500 < int(lines["retry-after"]) <= 3_600
    error = json.loads(told)["error"]
    assert ("rate_limit_error", "rate_limit_exceeded") == (
        error["type"], error["provider_specific_fields"]["code"]
    )  # fmt: skip
    found = recorded(proxy.inside, account, count=3)
    assert ["allow", "throttle", "throttle"] == [exchange.action for exchange in found]


@pytest.mark.parametrize("route", ["chat/completions", "messages"])
def test_blocked(proxy: Proxy, route: str) -> None:
    """A blocked campaign gets 403, final, on questions and on everything else."""
    account = f"shut-{NAMES[route]}"
    flag(proxy.inside, account)
    before = len(proxy.model.seen)
    who = {"metadata": {"user_id": account}} if route == "messages" else {"user": account}
    status, lines, told = proxy.ask(route, dict(WIRES)[route] | who)
    assert (403, "false") == (status, lines["x-should-retry"])
    assert "permission_error" == json.loads(told)["error"]["type"]
    assert b"web-" not in told
    status, _, _ = proxy.ask("embeddings", {"model": "open", "input": "a", "user": account})
    assert 403 == status
    assert before == len(proxy.model.seen)
    (exchange,) = recorded(proxy.inside, account)
    assert ("block", 403, "roman 14") == (exchange.action, exchange.status, exchange.question)


def test_challenged(proxy: Proxy) -> None:
    """A challenged account gets the address of the page, and passes once with a signed token."""
    flag(proxy.inside, "asked")
    body = {"model": "asked", "messages": [{"role": "user", "content": "hi"}], "user": "asked"}
    status, lines, told = proxy.ask("chat/completions", body)
    error = json.loads(told)["error"]
    assert (403, "false") == (status, lines["x-should-retry"])
    assert "https://verify.example/" in error["message"]
    assert "verification_required" == error["provider_specific_fields"]["code"]
    token = issue_token(b"c" * 32, "asked", now=time.time())
    foreign = issue_token(b"c" * 32, "another", now=time.time())
    header = "x-stillwatch-verified"
    assert 403 == proxy.ask("chat/completions", body, **{header: foreign})[0]
    assert 200 == proxy.ask("chat/completions", body, **{header: token})[0]
    assert 200 == proxy.ask("chat/completions", body)[0]


def test_stripped(proxy: Proxy) -> None:
    """A stripped question reaches the model without what is worth more to a copier."""
    flag(proxy.inside, "bare")
    more = {"n": 3, "logprobs": True, "top_logprobs": 5, "temperature": 0.5}
    assert 200 == proxy.chat("strip me", "bare", model="bare", **more)[0]
    seen = proxy.model.seen[-1]
    assert {"n", "logprobs", "top_logprobs"}.isdisjoint(seen)
    assert 0.5 == seen["temperature"]
    (exchange,) = recorded(proxy.inside, "bare")
    assert "strip" == exchange.action


def test_failed(proxy: Proxy) -> None:
    """What the model server refused is recorded with its status."""
    assert 400 == proxy.chat("fail", "unlucky")[0]
    (exchange,) = recorded(proxy.inside, "unlucky")
    assert (400, "BadRequestError", ()) == (exchange.status, exchange.error, exchange.answers)


def test_callback(proxy: Proxy) -> None:
    """As a plain callback, without any guardrail, the wall decides and records the same."""
    assert 200 == proxy.chat("roman 14", "called", guardrail="none")[0]
    assert 200 == proxy.chat("roman 15", "called", guardrail="none", stream=True)[0]
    flag(proxy.callback, "called")
    assert 403 == proxy.chat("roman 16", "called", guardrail="none")[0]
    found = recorded(proxy.callback, "called", count=3)
    assert [("roman 14", "XIV"), ("roman 15", "XIV"), ("roman 16", "")] == [
        (exchange.question, exchange.answer) for exchange in found
    ]
    assert ["allow", "allow", "block"] == [exchange.action for exchange in found]
    assert [] == recorded(proxy.inside, "called", count=0)


def test_client_gone(proxy: Proxy) -> None:
    """A stream that its client leaves is recorded with what was given out."""
    messages = [{"role": "user", "content": "slowly"}]
    body = {"model": "open", "messages": messages, "user": "left", "stream": True}
    request = proxy.request("chat/completions", body)
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.readline().startswith(b"data:")
    (exchange,) = recorded(proxy.inside, "left")
    assert (200, "client_gone", True) == (exchange.status, exchange.error, exchange.streamed)
    given = exchange.answer or ""
    assert ("XIV " * 40).startswith(given)
    assert 0 < len(given) < 160


def test_admin_beside(proxy: Proxy) -> None:
    """The wall's own health, metrics and learner are served beside LiteLLM."""
    base = f"http://127.0.0.1:{proxy.admin_port}"
    assert 200 == proxy.chat("roman 14", "learned")[0]
    recorded(proxy.inside, "learned")
    request = urllib.request.Request(
        f"{base}/stillwatch/admin/learn", b"{}", {"authorization": "Bearer admin-token"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.loads(reply.read())["n_folded"] >= 1
    with urllib.request.urlopen(f"{base}/healthz", timeout=5) as reply:
        told = json.loads(reply.read())
    assert ("ok", "alive", "enforce") == (told["status"], told["learner"], told["mode"])


def _learners(log: Path) -> list[int]:
    """Process ids of the proxy's children that learn."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                folder, line = (entry / "cwd").readlink(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            is_learner = b"spawn_main" in line or b"learner" in line
            if folder == log.parent and is_learner:
                found.append(int(entry.name))
    return found


def test_dead_learner(proxy: Proxy) -> None:
    """A killed learner stops nobody: calls pass, known verdicts hold, the record says unscored."""
    flag(proxy.inside, "known")
    killed = _learners(proxy.log)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)  # the link looks four times a second
    assert 200 == proxy.chat("roman 14", "unscored")[0]
    assert 403 == proxy.chat("roman 14", "known", model="shut")[0]
    (exchange,) = recorded(proxy.inside, "unscored")
    assert "learner dead" == exchange.tags["unscored"]


def test_endpoint(proxy: Proxy) -> None:
    """The generic guardrail records question and answer, and refuses with what LiteLLM allows."""
    assert 200 == proxy.chat("roman 14", "beside", guardrail="beside")[0]
    assert 200 == proxy.chat("roman 15", "beside", guardrail="beside", stream=True)[0]
    whole, streamed = recorded(proxy.beside, "beside", count=2)
    assert ("roman 14", "XIV") == (whole.question, whole.answer)
    assert ("roman 15", "XIV") == (streamed.question, streamed.answer)
    flag(proxy.beside, "beside")
    status, lines, told = proxy.chat("roman 16", "beside", guardrail="beside", model="slow")
    assert 200 == status
    status, lines, told = proxy.chat("roman 16", "beside", guardrail="beside", model="slow")
    # LiteLLM makes every refusal of a guardrail endpoint a 400 without our header lines.
    assert (400, None) == (status, lines.get("retry-after"))
    assert "Try again in 3600 s." in json.loads(told)["error"]["message"]
    status, _, _ = proxy.chat("roman 17", "beside", guardrail="beside", model="shut")
    assert 400 == status
    actions = [exchange.action for exchange in recorded(proxy.beside, "beside", count=5)]
    assert ["allow", "allow", "allow", "throttle", "block"] == actions


def test_unreachable_endpoint(proxy: Proxy) -> None:
    """Without the gateway LiteLLM serves or refuses as `unreachable_fallback` says."""
    assert 200 == proxy.chat("roman 14", "open", guardrail="fail-open")[0]
    assert 500 == proxy.chat("roman 14", "shut", guardrail="fail-closed")[0]
