"""The audit: it would notice a world that gives its campaign away."""

import numpy as np
import pytest

from stillwatch.record.exchange import Exchange, Message
from stillwatch.siege.world_audit import auc, likeness, telling_fields, trivial_fields


def _exchanges(account: str, **fields: object) -> list[Exchange]:
    rng = np.random.default_rng(int(account[1:]))
    return [
        Exchange(
            exchange_id=f"{account}-{i}",
            account=account,
            started_at=float(rng.uniform(0, 1e6)),
            messages=(Message("user", "word " * int(rng.integers(1, 30))),),
            **fields,  # type: ignore[arg-type]
        )
        for i in range(5)
    ]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("no system prompt", {"messages": (Message("system", "S"), Message("user", "word"))}),
        ("max_tokens set", {"parameters": {"max_tokens": 9}}),
        ("streamed", {"streamed": True}),
        ("no organisation", {"org": "one"}),
        ("output tokens", {"output_tokens": 900}),
    ],
)
def test_a_giveaway_is_found(field: str, fields: dict[str, object]) -> None:
    """A field that only the campaign sets is named."""
    honest = [x for n in range(40) for x in _exchanges(f"h{n}")]
    guilty = [f"g{n}" for n in range(100, 120)]
    campaign = []
    for account in guilty:
        kept = {k: v for k, v in fields.items() if k != "messages"}
        for exchange in _exchanges(account, **kept):
            values = {name: getattr(exchange, name) for name in Exchange.__struct_fields__}
            campaign.append(Exchange(**(values | fields)))
    assert field in telling_fields(trivial_fields([*honest, *campaign], guilty))


def test_the_middle_of_the_road_is_found() -> None:
    """A campaign without extremes shows in the spread although no mean differs."""
    exchanges, guilty = [], []
    for n in range(90):
        share = n % 2 if n < 60 else 0.5
        for i, exchange in enumerate(_exchanges(f"a{n}")):
            streamed = i < 5 * share
            values = {name: getattr(exchange, name) for name in Exchange.__struct_fields__}
            exchanges.append(Exchange(**(values | {"streamed": streamed})))
        if n >= 60:
            guilty.append(f"a{n}")
    found = trivial_fields(exchanges, guilty)
    assert 0.4 < found["streamed"] < 0.6
    assert found["streamed, spread"] < 0.1


def test_auc_counts_ties_half() -> None:
    """Equal values tell nothing; an empty side gives NaN."""
    assert 0.5 == auc([1.0, 1.0], [1.0])
    assert 1.0 == auc([2.0], [1.0, 0.0])
    assert np.isnan(auc([], [1.0]))


def test_likeness_of_strangers_and_twins() -> None:
    """Shuffled words give F about 1; accounts with words of their own give far more."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(400)])
    same = {f"a{n}": [" ".join(rng.choice(words, 12)) for _ in range(6)] for n in range(30)}
    own = {
        f"a{n}": [" ".join(rng.choice(words[n * 12 : n * 12 + 12], 12)) for _ in range(6)]
        for n in range(30)
    }
    assert 0.9 < likeness(same, rng).f_ratio < 1.1
    assert likeness(own, rng).f_ratio > 3.0
    assert 0.9 < likeness(own, rng).shuffled_f < 1.1


def test_likeness_needs_two_accounts() -> None:
    """Too little to compare gives NaN, and repeats do not count."""
    rng = np.random.default_rng(0)
    assert np.isnan(likeness({"a": ["x", "y", "z"]}, rng).f_ratio)
    assert np.isnan(likeness({"a": ["x"] * 9, "b": ["y", "z", "q"]}, rng).f_ratio)
