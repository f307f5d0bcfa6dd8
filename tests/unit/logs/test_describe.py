"""What a log holds, and what its gaps cost."""

import pytest

from stillwatch.logs import describe
from stillwatch.logs.describe import COSTS, FIELDS, Holdings
from stillwatch.logs.envelope import UNKNOWN_TIME
from stillwatch.record.exchange import ARROW_SCHEMA, Answer, Exchange, Message, to_batch


def _exchange(n: int, **more: object) -> Exchange:
    return Exchange(**{
        "exchange_id": f"x{n}",
        "account": f"u{n % 2}",
        "started_at": 100.0 + n,
        **more,
    })


def test_counts_over_batches() -> None:
    """Sums over batches are those of the whole log."""
    holdings = Holdings()
    holdings.add(to_batch([]))
    holdings.add(to_batch([_exchange(0, model="a", output_tokens=3), _exchange(1, status=429)]))
    holdings.add(
        to_batch([_exchange(2, model="a", status=0), _exchange(3, account="", streamed=True)])
    )
    found = holdings.describe()
    assert (4, 2, 100.0, 103.0) == (found.exchanges, found.accounts, found.first_at, found.last_at)
    assert (3, 2, 1) == (found.output_tokens, found.refused, found.streamed)
    assert {"a": 2, "": 2} == found.models
    assert 0.75 == found.fields["account"]


def test_shares_of_fields() -> None:
    """A field counts where it says something; turns count by their role."""
    holdings = Holdings()
    both = (Message("system", "s"), Message("user", "q"), Message("user", "again"))
    holdings.add(to_batch([
        _exchange(0, messages=both, answers=(Answer("a"),), parameters={"n": 1}, org="o"),
        _exchange(1, messages=(Message("user", ""),), org=""),
    ]))  # fmt: skip
    shares = holdings.describe().fields
    for name in ("question", "system", "answers", "parameters", "org"):
        assert 0.5 == shares[name], name
    assert 0.0 == shares["user_agent"]


def test_gaps_name_their_cost() -> None:
    """Each missing field that detection uses names what is lost; present ones name nothing."""
    holdings = Holdings()
    holdings.add(to_batch([_exchange(0, network_hash="n", user_agent="a")]))
    costs = holdings.describe().costs
    assert {"network_hash", "user_agent", "account"}.isdisjoint(costs)
    assert {"question", "system", "output_tokens"} <= set(costs)
    assert set(COSTS) <= set(FIELDS)
    assert set(FIELDS) <= {*ARROW_SCHEMA.names, "question", "system"}


def test_unknown_times_are_in_no_span() -> None:
    """Exchanges whose time nobody told are counted, and do not stretch the span to 1970."""
    untold = _exchange(0, started_at=UNKNOWN_TIME, tags={"time": "unknown"})
    holdings = Holdings()
    holdings.add(to_batch([untold]))
    only = holdings.describe()
    assert (1, 1, None, None) == (only.exchanges, only.untimed, only.first_at, only.last_at)
    holdings.add(to_batch([_exchange(1), untold, _exchange(5)]))
    found = holdings.describe()
    assert (4, 2, 101.0, 105.0) == (found.exchanges, found.untimed, found.first_at, found.last_at)


def test_empty_log() -> None:
    """An empty log has no span and no costs."""
    found = Holdings().describe()
    assert (0, None, None, {}) == (found.exchanges, found.first_at, found.last_at, found.costs)


def test_accounts_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts are counted once, however many batches they are spread over."""
    monkeypatch.setattr(describe, "_FRESH", 3)
    holdings = Holdings()
    for start in range(0, 60, 5):
        batch = [_exchange(n, account=f"u{n % 17}") for n in range(start, start + 5)]
        holdings.add(to_batch(batch))
    assert 17 == holdings.describe().accounts
    assert (17, 60) == (holdings.describe().accounts, holdings.describe().exchanges)
