"""Challenge: refused with an address, cleared by a token that works once, for one account."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.guard.conftest import SECRETS, ScriptedUpstream, Served, served
from tests.unit.guard.test_gateway import flag

from stillwatch.errors import ConfigError, InvalidInputError, NotPermittedError
from stillwatch.guard.config import GuardConfig, Secrets
from stillwatch.guard.recording.audit import read_audit
from stillwatch.guard.wall.challenge import ChallengeConfig, issue_token, read_token
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung

Make = Callable[..., GuardConfig]
SECRET = b"c" * 32
RUNGS = (Rung("challenge"), Rung("block", after_s=DAY_S))
WALL = Ladder((LadderRule("house-*", RUNGS),), "enforce")
PAGE = ChallengeConfig("https://verify.example.org/?question={request_id}", clearance_s=3600.0)
HEADER = "x-stillwatch-verified"


@pytest.fixture
def challenging(make_config: Make) -> GuardConfig:
    """A wall whose first rung is the challenge."""
    secrets = replace(SECRETS, challenge_secret=SECRET)
    return make_config(ladder=WALL, challenge=PAGE, secrets=secrets)


def _token(gateway: Served, account: str = "ann", *, ttl_s: float = 60.0, at: float = 0.0) -> str:
    return issue_token(SECRET, account, now=gateway.state.clock.now() + at, ttl_s=ttl_s)


def _counted(gateway: Served, result: str) -> float:
    return gateway.state.metrics.value("challenge_tokens", result=result)


async def test_refused_with_an_address(
    challenging: GuardConfig, upstream: ScriptedUpstream
) -> None:
    """A challenged question is refused for good, with the page that knows it by its id."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        status, lines, body = await gateway.ask()
        error = json.loads(body)["error"]
        assert (403, "false", "verification_required") == (
            status, lines["x-should-retry"], error["code"]
        )  # fmt: skip
        (exchange,) = await gateway.record()
        url = f"https://verify.example.org/?question={exchange.exchange_id}"
        assert error["message"].endswith(f"Verify it at {url}")
        assert ("challenge", "web-1") == (exchange.action, exchange.campaign_id)
        headers = {"x-api-key": "key-ann"}
        async with gateway.client.post(gateway.url + "/v1/files", headers=headers) as side_door:
            assert 403 == side_door.status
    assert [] == upstream.seen


async def test_cleared_by_a_token(challenging: GuardConfig, upstream: ScriptedUpstream) -> None:
    """A token clears its account for later questions too; the campaign is watched and climbs on."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        flag(gateway.state, "bob")
        token = _token(gateway)
        assert [200, 200] == [
            (await gateway.ask(**more))[0]
            for more in ({HEADER: token}, {})  # type: ignore[arg-type]
        ]
        assert 403 == (await gateway.ask(key="key-bob"))[0]
        record = await gateway.record()
        assert ["observe", "observe", "challenge"] == [e.action for e in record]
        assert {"web-1"} == {e.campaign_id for e in record}
        flag(gateway.state, age_s=2 * DAY_S)
        gateway.state.table.leave("web-1")
        flag(gateway.state, age_s=2 * DAY_S)
        assert (403, b"access_denied") == (
            (found := await gateway.ask())[0], b"access_denied" * (b"access_denied" in found[2])
        )  # fmt: skip
        assert None is upstream.seen[0].header(HEADER)
    (event,) = [e for e in read_audit(challenging.audit_path) if e.kind == "verified"]
    assert ("ann", "token") == (event.detail["account"], event.detail["by"])


async def test_all_cleared(challenging: GuardConfig) -> None:
    """When every account of a campaign has cleared, the audit log says so, once."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        flag(gateway.state, "bob")
        for account in ("ann", "bob"):
            await gateway.ask(key=f"key-{account}", **{HEADER: _token(gateway, account)})
        assert (2, 2) == gateway.state.board.n_verified("web-1", gateway.state.clock.now())
    events = [e for e in read_audit(challenging.audit_path) if e.kind == "all-verified"]
    assert [{"campaign_id": "web-1", "n_accounts": 2}] == [event.detail for event in events]


async def test_a_token_works_once(challenging: GuardConfig) -> None:
    """Sent again while it holds a token does no harm; taken back or ended, it opens nothing."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        token = _token(gateway)
        statuses = [(await gateway.ask(**{HEADER: token}))[0] for _ in range(3)]
        assert ([200, 200, 200], 1.0, 0.0) == (
            statuses, _counted(gateway, "accepted"), _counted(gateway, "replayed")
        )  # fmt: skip
        await gateway.state.change(lambda table: table.unverify("ann"))
        assert 403 == (await gateway.ask(**{HEADER: token}))[0]
        assert 1 == _counted(gateway, "replayed")
        assert 200 == (await gateway.ask(**{HEADER: _token(gateway)}))[0]
    async with served(challenging) as again:
        # The clearance and the used numbers outlive the process.
        assert 200 == (await again.ask())[0]
        await again.state.change(lambda table: table.unverify("ann"))
        assert 403 == (await again.ask(**{HEADER: token}))[0]
        assert 1 == _counted(again, "replayed")


async def test_at_once(challenging: GuardConfig) -> None:
    """A client that sends its first token with many questions at once gets them all answered."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        token = _token(gateway)
        found = await asyncio.gather(*(gateway.ask(**{HEADER: token}) for _ in range(8)))
        assert {200} == {status for status, _, _ in found}
        assert (1, 0) == (_counted(gateway, "accepted"), _counted(gateway, "replayed"))


async def test_tokens_that_open_nothing(challenging: GuardConfig) -> None:
    """Forged, foreign, expired and malformed tokens are refused and counted."""
    async with served(challenging) as gateway:
        flag(gateway.state)
        good = _token(gateway)
        bad = {
            "forged": good[:-1] + ("0" if good[-1] != "0" else "1"),
            "foreign": _token(gateway, "bob"),
            "expired": _token(gateway, at=-120.0),
            "malformed": "v1." + "a" * 3000 + ".b",
        }
        for result, token in bad.items():
            assert 403 == (await gateway.ask(**{HEADER: token}))[0], result
            assert 1 == _counted(gateway, result), result
        assert 200 == (await gateway.ask(**{HEADER: good}))[0]


async def test_a_clearance_ends(challenging: GuardConfig) -> None:
    """After its time an account is challenged again."""
    short = replace(challenging, challenge=replace(PAGE, clearance_s=1e-6))
    async with served(short) as gateway:
        flag(gateway.state)
        await gateway.ask(**{HEADER: _token(gateway)})
        assert 1 == _counted(gateway, "accepted")
        assert 403 == (await gateway.ask())[0]


async def test_without_a_secret(make_config: Make) -> None:
    """A gateway without the secret takes no token, and counts none."""
    async with served(make_config(ladder=WALL, challenge=PAGE)) as gateway:
        flag(gateway.state)
        assert 403 == (await gateway.ask(**{HEADER: _token(gateway)}))[0]
        assert 0 == _counted(gateway, "accepted")


def test_tokens() -> None:
    """What is written is read; another secret's is refused; a number is never drawn twice."""
    text = issue_token(SECRET, "ann", now=10.0, ttl_s=5.0)
    token = read_token(SECRET, text)
    assert ("ann", 15.0) == (token.account, token.expires_at)
    assert token.nonce != read_token(SECRET, issue_token(SECRET, "ann", now=10.0)).nonce
    with pytest.raises(NotPermittedError, match="the signature does not fit"):
        read_token(b"d" * 32, text)
    with pytest.raises(InvalidInputError, match="ttl_s"):
        issue_token(SECRET, "ann", now=10.0, ttl_s=0.0)


def test_a_challenge_needs_a_page(make_config: Make) -> None:
    """A ladder that challenges without saying where to is refused, and so is a strange address."""
    with pytest.raises(InvalidInputError, match=r"challenge\.url"):
        make_config(ladder=WALL)
    with pytest.raises(InvalidInputError, match="url"):
        ChallengeConfig("verify.example.org")
    with pytest.raises(InvalidInputError, match="STILLWATCH_CHALLENGE_SECRET"):
        Secrets(hash_key=b"h" * 32, challenge_secret=b"short")
    environ = {"STILLWATCH_HASH_KEY": "00" * 32, "STILLWATCH_CHALLENGE_SECRET": "c" * 16}
    assert b"c" * 16 == Secrets.from_env(environ).challenge_secret
    with pytest.raises(ConfigError):
        Secrets.from_env({})
