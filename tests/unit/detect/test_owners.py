"""Hidden owners: found by what the log shows, confirmed by what only one holder has."""

import numpy as np
import pytest

from stillwatch.detect.facts import Facts, facts_of
from stillwatch.detect.fold import fold
from stillwatch.detect.owners import HiddenOwner, find_hidden_owners
from stillwatch.detect.principals import Registry
from stillwatch.detect.profile import Profiles
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch

N, GROUP = 500, 48


def _access_log(seed: int, *, cards: int | None, org: str | None = None) -> tuple[Profiles, Facts]:
    """Build a log without bodies: a group on few racks among people; None = own cards."""
    rng = np.random.default_rng(seed)
    rows, table = [], {}
    for i in range(N):
        name, grouped = f"a{i:03}", i < GROUP
        families = rng.random() < 0.1
        card = f"c{rng.integers(0, N) if families else N + i}"
        if grouped and cards is not None:
            card = f"pool{i % cards}"
        table[name] = AccountRow(
            account=name, org=org if grouped and org else f"org{i}", payment_hash=card
        )
        home = f"carrier{rng.integers(0, 30)}" if rng.random() < 0.3 else f"home{i}"
        for j in range(3):
            exchange = Exchange(
                exchange_id=f"{name}{j}",
                account=name,
                started_at=1.7e9 + j,
                org=table[name].org,
                network_hash=f"rack{(i + j) % 4}" if grouped else home,
            )
            rows.append(exchange)
    profiles = fold([to_batch(rows)])
    return profiles, facts_of(profiles.accounts, AccountTable(table))


def _find(profiles: Profiles, facts: Facts) -> list[HiddenOwner]:
    return find_hidden_owners(profiles, facts, Registry(profiles, facts))


def test_shared_cards_confirm_shared_racks() -> None:
    """In a log without bodies, a group on one rack that pays with few cards has one owner."""
    found = _find(*_access_log(1, cards=4))
    assert [list(range(GROUP))] == [one.accounts.tolist() for one in found]
    assert found[0].p_value < 1e-4
    assert "hidden ownership" == found[0].principals.kind
    assert all(trait.kind != "payment" for trait in found[0].group.shared)


@pytest.mark.parametrize("seed", range(5))
def test_a_shared_rack_is_no_owner(seed: int) -> None:
    """The same group with cards of their own are neighbours, not one owner."""
    assert [] == _find(*_access_log(seed, cards=None))


def test_a_declared_firm_hides_nothing() -> None:
    """One organisation on one rack with one card is not hidden."""
    assert [] == _find(*_access_log(1, cards=1, org="firm"))


def test_without_a_table_nothing_is_confirmed() -> None:
    """Networks alone find candidates, and no owner is said to stand behind them."""
    profiles, _ = _access_log(1, cards=4)
    nothing = facts_of(profiles.accounts, None)
    assert [] == _find(profiles, nothing)
