"""The ladder's rungs together, orders of people before it, and how a campaign stands."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.guard.config import Secrets, load_config
from stillwatch.guard.wall.decide import Decision, decide, decide_unread
from stillwatch.guard.wall.ladder import (
    DAY_S,
    Hysteresis,
    Ladder,
    LadderRule,
    Rung,
    RungAction,
    TokenBuckets,
)
from stillwatch.guard.wall.orders import Clearance, Order, OrderKind
from stillwatch.guard.wall.standing import standing
from stillwatch.guard.wall.verdict import Board, CampaignVerdict, Verdict, VerdictTable

T0 = 1000.0
WHOLE = Ladder(
    (
        LadderRule(
            "m",
            (
                Rung("observe"),
                Rung("log_full", after_s=1 * DAY_S),
                Rung("strip", after_s=2 * DAY_S),
                Rung("throttle", after_s=3 * DAY_S, limit_per_day=24),
                Rung("challenge", after_s=4 * DAY_S),
                Rung("watermark", after_s=5 * DAY_S),
                Rung("canary", after_s=6 * DAY_S),
                Rung("block", after_s=7 * DAY_S),
            ),
        ),
    ),
    "enforce",
)
CAMPAIGN = CampaignVerdict("web-1", since=T0, renewed_at=T0, mark_key_id="k1", summary="why")
BOARD = Board(
    1, {a: Verdict(a, CAMPAIGN, named_at=T0, expires_at=T0 + 30 * DAY_S) for a in ("a", "b")}
)


def _ordered(*orders: Order) -> Board:
    return replace(BOARD, orders={"web-1": orders})


def _decided(day: float, *, board: Board = BOARD, ladder: Ladder = WHOLE) -> Decision:
    return decide("a", "m", T0 + day * DAY_S, board=board, ladder=ladder, buckets=TokenBuckets())


@pytest.mark.parametrize(
    ("day", "action", "effects"),
    [
        (0, "observe", set()),
        (1, "log_full", {"log_full"}),
        (2, "strip", {"log_full", "strip"}),
        (3, "strip", {"log_full", "strip"}),
        (4, "challenge", {"log_full"}),
        (5, "watermark", {"log_full", "strip", "watermark"}),
        (6, "canary", {"log_full", "strip", "watermark", "canary"}),
        (7, "block", {"log_full"}),
    ],
)
def test_rung_by_rung(day: float, action: str, effects: set[str]) -> None:
    """Each rung holds from its day; what was quiet goes on, a refusal keeps the logging only."""
    found = _decided(day)
    assert (action, effects, "web-1") == (found.action, found.effects, found.campaign_id)
    assert (action in {"challenge", "block"}) == found.is_refusal


def test_throttled_and_stripped() -> None:
    """Within its limit a throttled campaign is stripped on; over it, it is refused."""
    buckets = TokenBuckets()
    at = T0 + 3 * DAY_S
    first, second = (
        decide("a", "m", at, board=BOARD, ladder=WHOLE, buckets=buckets) for _ in range(2)
    )
    assert ("strip", "campaign within its limit") == (first.action, first.reason)
    assert first.took is not None
    assert ("throttle", None) == (second.action, second.took)


def test_observe_ends_what_came_before() -> None:
    """A later observe rung lifts what the rungs before it did."""
    wall = Ladder((LadderRule("m", (Rung("strip"), Rung("observe", after_s=9.0))),), "enforce")
    assert ["strip", "observe"] == [_decided(d, ladder=wall).action for d in (0, 1)]


def test_without_keys() -> None:
    """Without mark secrets a campaign is neither marked nor given canaries; the rest is done."""
    campaign = replace(CAMPAIGN, mark_key_id=None)
    board = Board(1, {"a": Verdict("a", campaign, T0, T0 + 30 * DAY_S)})
    found = _decided(6, board=board)
    assert ("strip", {"log_full", "strip"}) == (found.action, found.effects)
    assert "campaign has no mark key" == found.reason


def test_approval() -> None:
    """A rung that needs approval leaves the one below in place until an admin approves it."""
    rungs = (Rung("strip"), Rung("challenge", after_s=9.0, needs_approval=True))
    wall = Ladder(
        (
            LadderRule(
                "m",
                (*rungs, Rung("block", after_s=2 * DAY_S)),
            ),
        ),
        "enforce",
    )
    approved = _ordered(Order("web-1", "approve", "challenge", until=T0 + 1.5 * DAY_S))
    other = _ordered(Order("web-1", "approve", "block"))
    assert ["strip", "challenge", "strip"] == [
        _decided(day, board=board, ladder=wall).action
        for day, board in ((1, BOARD), (1, approved), (1, other))
    ]
    # The approval has ended by then; the last rung needs none.
    assert ["strip", "block"] == [
        _decided(day, board=approved, ladder=wall).action for day in (1.6, 2)
    ]
    found = standing(BOARD, wall, campaign_id="web-1", model="m", now=T0 + DAY_S)
    assert found is not None
    assert ("strip", "challenge", "block", T0 + 2 * DAY_S) == (
        found.action, found.waits_for_approval, found.next_action, found.next_at
    )  # fmt: skip


def test_lift() -> None:
    """A lifted campaign is let alone on every route until the time, and then climbs on."""
    board = _ordered(Order("web-1", "lift", until=T0 + 8 * DAY_S, by="eve", why="appeal"))
    assert ["observe", "block"] == [_decided(day, board=board).action for day in (7.5, 8)]
    assert "observe" == _unread(7.5, board).action
    found = standing(board, WHOLE, campaign_id="web-1", model="m", now=T0 + 7.5 * DAY_S)
    assert found is not None
    assert ("observe", "lift by eve: appeal", T0 + 8 * DAY_S) == (
        found.action, found.reason, found.expires_at
    )  # fmt: skip


def _unread(day: float, board: Board, *, is_chat: bool = False) -> Decision:
    return decide_unread("a", T0 + day * DAY_S, board=board, ladder=WHOLE, is_chat=is_chat)


@pytest.mark.parametrize(
    ("action", "done", "unread"),
    [("block", "block", "block"), ("challenge", "challenge", "challenge"),
     ("strip", "strip", "observe"), ("observe", "observe", "observe"),
     ("watermark", "watermark", "observe")],
)  # fmt: skip
def test_pin(action: RungAction, done: str, unread: str) -> None:
    """A pinned campaign is held at that rung, whatever its age, until the time."""
    board = _ordered(Order("web-1", "pin", action, until=T0 + 9 * DAY_S))
    assert [done, done, "block"] == [_decided(d, board=board).action for d in (0, 7.5, 9)]
    assert unread == _unread(0, board).action


def test_pin_to_a_throttle() -> None:
    """A pin to throttle takes the ladder's figure, or one of its own."""
    for limit, wait_s in ((None, 3600.0), (4.0, 21_600.0)):
        board = _ordered(Order("web-1", "pin", "throttle", limit_per_day=limit))
        buckets = TokenBuckets()
        for _ in range(2):
            found = decide("a", "m", T0, board=board, ladder=WHOLE, buckets=buckets)
        assert ("throttle", wait_s) == (found.action, found.retry_after_s)


def test_pinned_where_the_ladder_has_no_rung() -> None:
    """A pin holds on models that no rule names, and under an empty ladder."""
    board = _ordered(Order("web-1", "pin", "block"))
    empty = Ladder((), "enforce")
    assert "block" == _decided(0, board=board, ladder=empty).action
    assert "observe" == _decided(0, ladder=empty).action
    throttled = _ordered(Order("web-1", "pin", "throttle"))
    assert _decided(0, board=throttled, ladder=empty).took == Rung("throttle", limit_per_day=1.0)


def test_verified() -> None:
    """Who is verified is not challenged, throttled or stripped; marked and blocked they are."""
    board = replace(BOARD, clearances={"a": Clearance("a", until=T0 + 20 * DAY_S)})
    found = [_decided(day, board=board).action for day in (2, 3, 4, 5, 7)]
    assert ["log_full", "log_full", "log_full", "watermark", "block"] == found
    at = T0 + 4 * DAY_S
    other = decide("b", "m", at, board=board, ladder=WHOLE, buckets=TokenBuckets())
    assert "challenge" == other.action
    assert ["observe", "block"] == [_unread(d, board).action for d in (4, 7)]
    assert "challenge" == _unread(4, BOARD).action
    assert "block" == _unread(4, board, is_chat=True).action


@given(
    day=st.floats(0, 9),
    kind=st.sampled_from(["lift", "pin", "approve"]),
    action=st.sampled_from(["strip", "throttle", "challenge", "block", "canary"]),
)
def test_observe_mode_does_nothing(day: float, kind: OrderKind, action: str) -> None:
    """Whatever is ordered: in observe mode all is forwarded as it came, and what enforce had done
    is what is noted.
    """  # noqa: D205 - one promise
    order = Order("web-1", kind, "" if kind == "lift" else action)
    real = _decided(day, board=_ordered(order))
    seen = _decided(day, board=_ordered(order), ladder=replace(WHOLE, mode="observe"))
    assert ("observe", frozenset(), None) == (seen.action, seen.effects, seen.mark_key_id)
    assert seen.would_have == (None if real.action in {"allow", "observe"} else real.action)


def test_what_stands_is_what_is_done() -> None:
    """The page's word on a campaign is the decision's, hour by hour."""
    pinned = _ordered(Order("web-1", "pin", "strip", until=T0 + 2.2 * DAY_S))
    for board in (BOARD, pinned):
        for hour in range(0, 9 * 24, 5):
            now = T0 + hour * 3600.0
            found = standing(board, WHOLE, campaign_id="web-1", model="m", now=now)
            done = _decided(hour / 24, board=board)
            assert found is not None
            expected = "strip" if found.action == "throttle" else found.action
            assert expected == done.action
    assert None is standing(BOARD, WHOLE, campaign_id="web-2", model="m", now=T0)


def test_many_tokens_at_once() -> None:
    """A batch takes all its tokens or none, and one that can never fit is told so."""
    rung, buckets = Rung("throttle", limit_per_day=240, burst=10), TokenBuckets()
    assert 0.0 == buckets.take("web", 0.0, rung=rung, amount=6)
    assert 720.0 == round(buckets.take("web", 0.0, rung=rung, amount=6))
    assert 0.0 == buckets.take("web", 0.0, rung=rung, amount=4)
    assert float("inf") == buckets.take("web", 0.0, rung=rung, amount=11)
    buckets.lower("web", 5.0, 3600.0 * 4)
    assert {"web": 0.0} == buckets.levels()


def test_orders_on_disk(tmp_path: Path) -> None:
    """Orders come back as given; a pin replaces a pin, approvals stand beside each other."""
    table = VerdictTable(tmp_path / "v.sqlite")
    pin = Order("web-1", "pin", "throttle", 9.0, at=1.0, by="eve", why="slow", limit_per_day=3.0)
    generation = table.generation()
    for order in (
        Order("web-1", "pin", "block"), pin, Order("web-1", "approve", "block"),
        Order("web-1", "approve", "challenge"), Order("web-2", "lift"),
    ):  # fmt: skip
        assert generation < table.order(order)
        generation = table.generation()
    board = table.load()
    assert {"web-1", "web-2"} == board.orders.keys()
    assert [("approve", "block"), ("approve", "challenge"), ("pin", "throttle")] == [
        (order.kind, order.action) for order in board.orders["web-1"]
    ]
    assert pin == board.orders["web-1"][-1]
    table.withdraw("web-1", "approve", "block")
    assert ["challenge", "throttle"] == [o.action for o in table.load().orders["web-1"]]
    table.withdraw("web-1", "approve")
    table.withdraw("web-1", "pin")
    assert {"web-2"} == table.load().orders.keys()
    table.close()


def test_clearances_on_disk(tmp_path: Path) -> None:
    """A clearance comes back, is patched into a snapshot alike, and can be taken back."""
    table = VerdictTable(tmp_path / "v.sqlite")
    before = table.load()
    one = Clearance("a", until=9.0, at=1.0, by="token", nonce="n")
    patched = before.with_clearance(one, generation=table.verify(one))
    assert table.load() == patched
    assert None is before.with_clearance(one, generation=5)
    assert [True, False, False] == [
        table.load().is_verified(name, at) for name, at in (("a", 8.0), ("a", 9.0), ("b", 8.0))
    ]
    table.verify(Clearance("b", until=20.0, at=10.0))
    assert ["b"] == list(table.load().clearances)
    table.unverify("b")
    assert {} == dict(table.load().clearances)
    assert [True, False] == [table.use_nonce("n", until=50.0, now=1.0) for _ in range(2)]
    assert table.use_nonce("n", until=90.0, now=60.0)
    table.close()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Order("w", "pin"), "action"),
        (lambda: Order("w", "lift", "block"), "action"),
        (lambda: Order("w", "hug"), "kind"),  # type: ignore[arg-type]
        (lambda: Order("w", "pin", "throttle", limit_per_day=0.0), "limit_per_day"),
    ],
)
def test_bad_orders(make: object, word: str) -> None:
    """An order that makes no sense is refused with the field's name."""
    with pytest.raises(InvalidInputError, match=word):
        make()  # type: ignore[operator]


def test_from_the_file(tmp_path: Path) -> None:
    """Every rung, its approval, the hysteresis and the challenge stand in the gateway's file."""
    path = tmp_path / "guard.toml"
    text = """
upstream = "http://127.0.0.1:8000"
state = "state"
[[ladder.rules]]
model = "*"
rungs = [
  { action = "log_full" },
  { action = "strip", after_s = 60 },
  { action = "throttle", after_s = 120, limit_per_day = 60, burst = 5 },
  { action = "challenge", after_s = 180 },
  { action = "canary", after_s = 240 },
  { action = "block", after_s = 300, needs_approval = true },
]
[hysteresis]
found = 2
of = 3
missed = 6
[challenge]
url = "https://verify.example.org/{request_id}"
clearance_s = 600
"""
    path.write_text(text)
    secrets = Secrets(hash_key=b"h" * 32)
    config = load_config(path, secrets=secrets)
    (rule,) = config.ladder.rules
    assert ["log_full", "strip", "throttle", "challenge", "canary", "block"] == [
        rung.action for rung in rule.rungs
    ]
    assert [False] * 5 + [True] == [rung.needs_approval for rung in rule.rungs]
    assert (Hysteresis(2, 3, 6), 600) == (config.hysteresis, config.challenge.clearance_s)
    path.write_text(text.replace("missed", "mist"))
    with pytest.raises(ConfigError, match="unknown key 'mist'; known are found, missed, of"):
        load_config(path, secrets=secrets)
    path.write_text(text.replace("url =", "#"))
    with pytest.raises(ConfigError, match=r"challenge\.url"):
        load_config(path, secrets=secrets)


def test_clock_set_back() -> None:
    """A clock that was ahead for a moment neither dries a bucket out nor sets a campaign free."""
    rung, buckets = Rung("throttle", limit_per_day=24), TokenBuckets()
    year = 365 * DAY_S
    assert [0.0, 0.0] == [buckets.take("web", at, rung=rung) for at in (T0, T0 + year)]
    wait_s = buckets.take("web", T0 + 10.0, rung=rung)
    assert 0.0 < wait_s <= 3600.0
    assert 0.0 == buckets.take("web", T0 + 10.0 + wait_s, rung=rung)
    assert "block" == _decided(-1, ladder=_BLOCKING).action
    assert "block" == decide_unread("a", T0 - DAY_S, board=BOARD, ladder=_BLOCKING).action


_BLOCKING = Ladder((LadderRule("*", (Rung("block"),)),), "enforce")
