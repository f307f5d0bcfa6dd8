"""Principals: who stands behind a group, openly or not."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from stillwatch.detect.confirmation.principals import Principals, Registry, parties_of
from stillwatch.detect.facts import facts_of
from stillwatch.detect.profiles.fold import fold
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch

N, GROUP = 400, 40


@dataclass
class Town:
    """Accounts with a table; whatever is not said is everybody's own."""

    org: dict[int, str] = field(default_factory=dict)
    table: dict[int, dict[str, str]] = field(default_factory=dict)
    network: dict[int, str] = field(default_factory=dict)

    def registry(self) -> Registry:
        """Fold the log, read the table."""
        rows = [
            Exchange(
                exchange_id=f"{i}-{j}",
                account=f"a{i:04}",
                started_at=float(j),
                org=self.org.get(i),
                network_hash=self.network.get(i, f"net{i}"),
            )
            for i in range(N)
            for j in range(2)
        ]
        profiles = fold([to_batch(rows)])
        facts = {
            f"a{i:04}": AccountRow(
                account=f"a{i:04}", **({"payment_hash": f"own{i}"} | self.table.get(i, {}))
            )
            for i in range(N)
        }
        return Registry(profiles, facts_of(profiles.accounts, AccountTable(facts)))

    def describe(self) -> Principals:
        """Describe the first accounts."""
        return self.registry().describe(np.arange(GROUP))


def test_strangers_share_nothing() -> None:
    """Accounts with all of their own are as many parties as accounts."""
    found = Town().describe()
    assert ("strangers", GROUP, GROUP) == (found.kind, found.n_declared, found.n_linked)
    assert () == found.links


@pytest.mark.parametrize("where", ["log", "table", "reseller"])
def test_declared_accounts_are_one_party(where: str) -> None:
    """One organisation in the log or the table, or one reseller, is one party."""
    group = range(GROUP)
    town = Town(org=dict.fromkeys(group, "lab")) if where == "log" else Town()
    if where != "log":
        name = "org" if where == "table" else "reseller_id"
        town.table = {i: {name: "lab"} for i in group}
    found = town.describe()
    assert ("one party", 1) == (found.kind, found.n_declared)


def test_one_payment_under_many_names_is_hidden_ownership() -> None:
    """Separate organisations that pay with few cards are linked, and the chance is small."""
    table = {i: {"org": f"org{i}", "payment_hash": f"card{i % 3}"} for i in range(GROUP)}
    found = Town(table=table).describe()
    assert ("hidden ownership", GROUP, 3) == (found.kind, found.n_declared, found.n_linked)
    assert 3 == len(found.links)
    assert all(link.owned and link.p_value < 1e-6 for link in found.links)
    assert "payment" in found.text


def test_declared_payment_hides_nothing() -> None:
    """One organisation that pays with one card for all its accounts is one party, openly."""
    table = {i: {"org": "lab", "payment_hash": "card"} for i in range(GROUP)}
    found = Town(table=table).describe()
    assert ("one party", ()) == (found.kind, found.links)


def test_a_common_value_links_nobody() -> None:
    """A mail provider, or a carrier's network, that half of the log uses says nothing."""
    table = {i: {"email_domain": f"mail{i % 2}.example"} for i in range(N)}
    network = {i: f"carrier{i % 4}" for i in range(N)}
    found = Town(table=table, network=network).describe()
    assert ("strangers", ()) == (found.kind, found.links)


def test_a_school_is_an_institution() -> None:
    """One rare mail domain over a whole group is an open, innocent bond."""
    table = {i: {"email_domain": "school" if i < GROUP else f"firm{i // 3}"} for i in range(N)}
    found = Town(table=table).describe()
    assert "one institution" == found.kind
    assert GROUP == found.n_declared


def test_an_account_of_two_organisations_joins_them_not() -> None:
    """Nothing is chained: the more frequent organisation counts."""
    rows = [
        Exchange(exchange_id=f"{account}{i}", account=account, started_at=0.0, org=org)
        for account, orgs in {"a": "xxy", "b": "xx", "c": "yy"}.items()
        for i, org in enumerate(orgs)
    ]
    parties = parties_of(fold([to_batch(rows)]))
    assert [2, 1, 2] == [parties.count(np.array(g)) for g in ([0, 1, 2], [0, 1], [0, 2])]


def test_random_groups_are_hardly_ever_linked() -> None:
    """Where families share cards, a random group is not said to hide an owner."""
    rng = np.random.default_rng(0)
    table = {i: {"payment_hash": f"card{rng.integers(0, 250)}"} for i in range(N)}
    registry = Town(table=table).registry()
    groups = [rng.permutation(N)[:GROUP] for _ in range(100)]
    linked = sum(bool(registry.describe(group).links) for group in groups)
    assert linked <= 2


def test_no_accounts() -> None:
    """An empty group has no party."""
    found = Town().registry().describe(np.zeros(0, dtype=np.int64))
    assert ("strangers", 0) == (found.kind, found.n_declared)
