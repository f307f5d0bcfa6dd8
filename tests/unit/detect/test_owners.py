"""Hidden owners: found by what the log shows, confirmed by what only one holder has."""

import numpy as np
import pytest

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.owners import (
    HiddenOwner,
    Tie,
    _trimmed,
    find_hidden_owners,
    list_owners,
)
from stillwatch.detect.confirmation.principals import Registry, parties_of
from stillwatch.detect.discovery.cotraits import CoGroup
from stillwatch.detect.facts import Facts, facts_of
from stillwatch.detect.findings import Findings, owner_of
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch

N, GROUP = 500, 48


def _access_log(
    seed: int, *, cards: int | None, org: str | None = None, payers: int = GROUP
) -> tuple[Profiles, Facts]:
    """Build a log without bodies: a group on few racks among people; None = own cards."""
    rng = np.random.default_rng(seed)
    rows, table = [], {}
    for i in range(N):
        name, grouped = f"a{i:03}", i < GROUP
        families = rng.random() < 0.1
        card = f"c{rng.integers(0, N) if families else N + i}"
        if i < payers and cards is not None:
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
    assert (GROUP, 1, GROUP) == (found[0].n_names, found[0].n_holders, len(found[0].backed))
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


def _nothing(profiles: Profiles) -> Findings:
    return Findings(
        campaigns=(), accounts=(), candidates=(), fdr=0.01, n_accounts=profiles.n_accounts,
        n_exchanges=profiles.n_exchanges, n_anchors=0, reference="the log itself",
    )  # fmt: skip


def test_the_few_who_share_a_card_do_not_stand_for_their_rack() -> None:
    """Where a third of a rack pays with one card, those who do are named and the others are not."""
    found = _find(*_access_log(2, cards=1, payers=GROUP // 3))
    assert [list(range(GROUP // 3))] == [one.accounts.tolist() for one in found]


def test_a_firm_beside_them_is_left_out() -> None:
    """Of a group that discovery lumped together, those tied to no shared card are left out."""
    profiles, facts = _access_log(1, cards=4)
    web, firm = np.arange(20), np.arange(100, 118)
    group = CoGroup(np.concatenate([web, firm]), 1.0, 0.0, ())
    ties = [
        Tie("payment", 1, web[:9], 9, 0, 1e-9),
        Tie("payment", 2, web[9:18], 9, 0, 1e-9),
        Tie("network", 3, web, 20, 0, 1e-9),
        Tie("e-mail domain", 4, firm, 18, 0, 1e-9),
    ]
    kept = _trimmed(group, ties, parties_of(profiles, facts))
    assert web.tolist() == kept.accounts.tolist()
    assert (20, 1, 18) == (kept.n_names, kept.n_holders, len(kept.backed))
    assert [1, 2, 3] == [tie.value for tie in kept.ties]


def test_what_is_written_down_agrees() -> None:
    """The owner in the findings counts what was found, and keeps its id from run to run."""
    profiles, facts = _access_log(1, cards=4)
    nothing = _nothing(profiles)
    owners = list_owners(profiles, facts, nothing, config=DetectConfig())
    assert owners is not None
    (owner,) = owners
    assert tuple(f"a{i:03}" for i in range(GROUP)) == owner.accounts
    assert 3 * GROUP == owner.exchanges
    assert ["payment mark"] * 4 == [m.kind for m in owner.marks if m.has_one_holder]
    assert "network" in owner.found_by
    assert "payment mark" not in owner.found_by
    assert "4 payment marks" in owner.text
    # Another hash of the same cards, as another run's key gives.
    again = facts._replace(payment=np.where(facts.payment != 0, facts.payment ^ np.uint64(9), 0))
    assert [owner.owner_id] == [
        one.owner_id for one in list_owners(profiles, again, nothing, config=DetectConfig()) or ()
    ]


def test_a_table_without_marks_is_no_clean_bill() -> None:
    """Where no payment or sign-up is known, owners are not looked for, which is not 'none'."""
    profiles, _ = _access_log(1, cards=4)
    nothing = _nothing(profiles)
    silent = facts_of(profiles.accounts, None)
    assert list_owners(profiles, silent, nothing, config=DetectConfig()) is None
    honest, theirs = _access_log(1, cards=None)
    assert () == list_owners(honest, theirs, _nothing(honest), config=DetectConfig())
    assert owner_of(nothing, "a000") is None
