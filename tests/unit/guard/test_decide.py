"""Decisions, ladders and buckets: pure, and the same in observe mode but for the deed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.guard.wall.decide import ALLOWED, Decision, decide, decide_unread
from stillwatch.guard.wall.ladder import DAY_S, Ladder, LadderRule, Rung, TokenBuckets
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict

RULES = (
    LadderRule("house-skills", (Rung("throttle", limit_per_day=24), Rung("block", after_s=DAY_S))),
    LadderRule("house-prose", (Rung("watermark"),)),
    LadderRule("later-*", (Rung("block", after_s=10 * DAY_S),)),
)
WALL = Ladder(RULES, "enforce")
CAMPAIGN = CampaignVerdict("web-1", since=1000.0, renewed_at=1000.0, mark_key_id="k1")
BOARD = Board(
    3,
    {
        name: Verdict(name, CAMPAIGN, named_at=1000.0, expires_at=1000.0 + 7 * DAY_S)
        for name in ("a", "b")
    },
)


def _decided(
    account: str = "a",
    model: str = "house-skills",
    *,
    at: float = 1000.0,
    ladder: Ladder = WALL,
    buckets: TokenBuckets | None = None,
) -> Decision:
    return decide(account, model, at, board=BOARD, ladder=ladder, buckets=buckets or TokenBuckets())


def test_unknown_account() -> None:
    """An account without a verdict is allowed and costs nobody a token."""
    buckets = TokenBuckets()
    assert _decided("honest", buckets=buckets) == ALLOWED
    assert {} == buckets.levels()


def test_one_bucket_a_campaign() -> None:
    """Accounts of one campaign share its bucket: more accounts buy no more answers."""
    buckets = TokenBuckets()
    first, second = _decided("a", buckets=buckets), _decided("b", buckets=buckets)
    assert ("allow", "web-1") == (first.action, first.campaign_id)
    assert ("throttle", 3600.0) == (second.action, second.retry_after_s)


def test_wait_is_enough() -> None:
    """Whoever waits as long as told gets an answer."""
    buckets = TokenBuckets()
    _decided(buckets=buckets)
    wait_s = _decided(buckets=buckets, at=1500.0).retry_after_s or 0.0
    assert "throttle" == _decided(buckets=buckets, at=1500.0 + wait_s - 1).action
    assert "allow" == _decided(buckets=buckets, at=1500.0 + wait_s).action


def test_dwell() -> None:
    """Block comes when the campaign's first verdict is a day old, not before."""
    assert "allow" == _decided(at=1000.0 + DAY_S - 1).action
    assert "block" == _decided(at=1000.0 + DAY_S).action


def test_watermark() -> None:
    """A model that can mark is marked with the campaign's own key."""
    found = _decided(model="house-prose", at=5000.0)
    assert ("watermark", "k1") == (found.action, found.mark_key_id)


def test_expiry() -> None:
    """A verdict that was not renewed lapses."""
    assert ALLOWED == _decided(at=1000.0 + 7 * DAY_S)


@pytest.mark.parametrize("model", ["other", "later-1", ""])
def test_no_rung(model: str) -> None:
    """Without a rung that holds, a known campaign is only observed."""
    assert ("observe", None) == _decided(model=model)[0:6:5]


@given(
    model=st.sampled_from(["house-skills", "house-prose", "later-x", "other"]),
    times=st.lists(st.floats(1000.0, 1000.0 + 8 * DAY_S), min_size=1, max_size=30),
)
def test_observe_counts_what_enforce_does(model: str, times: list[float]) -> None:
    """In observe mode nothing is done, and what would have been done is the same, one by one."""
    watch = Ladder(RULES, "observe")
    one, other = TokenBuckets(), TokenBuckets()
    for at in sorted(times):
        real = _decided(model=model, at=at, buckets=one)
        seen = _decided(model=model, at=at, ladder=watch, buckets=other)
        deed = real.action if real.action in {"throttle", "watermark", "block"} else None
        assert deed == seen.would_have
        assert seen.action == ("allow" if real == ALLOWED else "observe")


@given(
    times=st.lists(st.floats(0.0, 5 * DAY_S), min_size=1, max_size=200),
    limit=st.floats(1.0, 500.0),
)
def test_bucket_bound(times: list[float], limit: float) -> None:
    """Over any span a campaign gets at most its burst and its rate times the span."""
    rung, buckets = Rung("throttle", limit_per_day=limit), TokenBuckets()
    granted = sum(buckets.take("web", at, rung=rung) == 0.0 for at in sorted(times))
    span = max(times) - min(times)
    assert granted <= rung.capacity + rung.rate_per_s * span + 1e-6


def test_unread_route() -> None:
    """A route that is not read refuses a campaign that is blocked somewhere, and no other."""
    young = decide_unread("a", 1000.0, board=BOARD, ladder=WALL)
    old = decide_unread("a", 1000.0 + DAY_S, board=BOARD, ladder=WALL)
    watched = decide_unread("a", 1000.0 + DAY_S, board=BOARD, ladder=Ladder(RULES, "observe"))
    assert ("observe", "block", "observe") == (young.action, old.action, watched.action)
    assert "block" == watched.would_have
    garbled = decide_unread("a", 1000.0, board=BOARD, ladder=WALL, is_chat=True)
    assert "block" == garbled.action
    assert ALLOWED == decide_unread("honest", 1000.0 + DAY_S, board=BOARD, ladder=WALL)


def test_invented_models_take_no_memory() -> None:
    """Model names that clients invent are not remembered without bound."""
    for n in range(3000):
        WALL.rung(f"invented-{n}", 0.0)
    assert len(WALL._known) <= 1024


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Rung("throttle"), "limit_per_day"),
        (lambda: Rung("kill"), "action"),  # type: ignore[arg-type]
        (lambda: Rung("block", after_s=-1), "after_s"),
        (lambda: Rung("throttle", limit_per_day=1, burst=0), "burst"),
        (lambda: LadderRule("*", (Rung("block", after_s=9), Rung("observe"))), "rungs"),
        (lambda: Ladder((), "off"), "mode"),  # type: ignore[arg-type]
    ],
)
def test_bad_ladders(make: object, word: str) -> None:
    """A ladder that makes no sense is refused with the field's name."""
    with pytest.raises(InvalidInputError, match=word):
        make()  # type: ignore[operator]
