"""Co-traits: groups by what accounts share besides wording."""

from functools import cache

import numpy as np
import pytest

from stillwatch.detect.discovery.communities import communities, surprise
from stillwatch.detect.discovery.cotraits import CoGroup, CotraitConfig, find_cogroups
from stillwatch.detect.discovery.peel import densest, graph_of
from stillwatch.detect.facts import Facts, facts_of
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.errors import InvalidInputError
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch

N, WEB, COMPANY = 900, 80, 25


@cache
def _town(seed: int, n_networks: int, n_cards: int) -> tuple[Profiles, Facts]:
    """Build honest accounts and a company behind one network, and a web on pools; 0 = no pool."""
    rng = np.random.default_rng(seed)
    rows, table = [], {}
    agents = rng.zipf(1.5, N) % 30
    parameters = rng.zipf(1.4, N) % 40
    # Three in ten sit behind one of 25 carriers, and a family in ten shares a card.
    homes = np.where(rng.random(N) < 0.3, N + rng.integers(0, 25, N), np.arange(N))
    cards = np.where(rng.random(N) < 0.1, rng.integers(0, N, N), np.arange(N))
    for i in range(N):
        name, web, company = f"a{i:04}", i < WEB, WEB <= i < WEB + COMPANY
        card = f"card{cards[i]}"
        if web and n_cards:
            card = f"pool{rng.integers(0, n_cards)}"
        table[name] = AccountRow(account=name, payment_hash="firm" if company else card)
        for j in range(3):
            network = f"net{homes[i] if rng.random() < 0.8 else N + rng.integers(0, 25)}"
            if web and n_networks:
                network = f"proxy{rng.integers(0, n_networks)}"
            exchange = Exchange(
                exchange_id=f"{name}{j}",
                account=name,
                started_at=float(j),
                network_hash="office" if company else network,
                user_agent=f"agent{agents[i]}",
                parameters={"max_tokens": int(parameters[i])},
            )
            rows.append(exchange)
    profiles = fold([to_batch(rows)])
    return profiles, facts_of(profiles.accounts, AccountTable(table))


def _best(groups: list[CoGroup], wanted: range) -> CoGroup:
    return max(groups, key=lambda g: len(set(g.accounts.tolist()) & set(wanted)))


@pytest.mark.parametrize(("n_networks", "n_cards"), [(6, 0), (15, 10), (40, 8)])
def test_a_web_on_shared_pools_is_one_group(n_networks: int, n_cards: int) -> None:
    """Accounts that draw networks and cards from pools come out together, without strangers."""
    profiles, facts = _town(1, n_networks, n_cards)
    found = _best(find_cogroups(profiles, facts), range(WEB)).accounts.tolist()
    inside = len(set(found) & set(range(WEB)))
    assert inside >= 0.85 * WEB
    assert inside >= 0.85 * len(found)


def test_a_company_is_a_group_of_its_own() -> None:
    """A company is found too, not fused with the web, and what it shares is named."""
    profiles, facts = _town(1, 15, 10)
    found = _best(find_cogroups(profiles, facts), range(WEB, WEB + COMPANY))
    assert list(range(WEB, WEB + COMPANY)) == found.accounts.tolist()
    assert {("payment", COMPANY, 0), ("network", COMPANY, 0)} <= {
        (trait.kind, trait.accounts, trait.elsewhere) for trait in found.shared
    }
    assert found.score > found.chance
    assert f"{COMPANY} accounts share one" in found.text


def test_without_a_table_networks_are_enough() -> None:
    """A log without an accounts table still shows groups that share networks."""
    profiles, _ = _town(1, 6, 0)
    found = _best(find_cogroups(profiles), range(WEB))
    assert len(set(found.accounts.tolist()) & set(range(WEB))) >= 0.85 * WEB


def test_strangers_make_few_groups() -> None:
    """Where nobody shares more than chance has it, hardly any group is found."""
    profiles, facts = _town(2, 0, 0)
    honest = np.arange(profiles.n_accounts) >= WEB + COMPANY
    groups = find_cogroups(profiles.select(honest), facts.select(honest))
    assert len(groups) <= 3


def test_a_popular_network_joins_nobody() -> None:
    """What a third of the log uses is no bond."""
    rows = [
        Exchange(exchange_id=str(i), account=f"a{i}", started_at=0.0, network_hash=f"n{i % 3}")
        for i in range(300)
    ]
    assert [] == find_cogroups(fold([to_batch(rows)]))


def test_one_card_is_enough() -> None:
    """A payment mark with a dozen accounts makes a candidate on its own."""
    rows = [Exchange(exchange_id=str(i), account=f"a{i:03}", started_at=0.0) for i in range(200)]
    profiles = fold([to_batch(rows)])
    table = {
        f"a{i:03}": AccountRow(account=f"a{i:03}", payment_hash="one" if i < 14 else f"c{i}")
        for i in range(200)
    }
    found = find_cogroups(profiles, facts_of(profiles.accounts, AccountTable(table)))
    assert [list(range(14))] == [group.accounts.tolist() for group in found]


def test_groups_repeat() -> None:
    """The same log gives the same groups, to the last digit."""
    profiles, facts = _town(1, 15, 10)
    first, again = (find_cogroups(profiles, facts) for _ in range(2))
    assert [g.accounts.tolist() for g in first] == [g.accounts.tolist() for g in again]
    assert [g.score for g in first] == [g.score for g in again]


def test_nothing_to_share() -> None:
    """An empty log, and accounts of which nothing is known, give no group."""
    assert [] == find_cogroups(fold([]))
    rows = [Exchange(exchange_id=str(i), account=str(i), started_at=0.0) for i in range(20)]
    assert [] == find_cogroups(fold([to_batch(rows)]))


@pytest.mark.parametrize("wrong", [{"min_accounts": 1}, {"widest_share": 0.0}])
def test_config_is_checked(wrong: dict[str, float]) -> None:
    """Values that make no sense are refused by name."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        CotraitConfig(**wrong)


def test_peeling_finds_a_planted_block() -> None:
    """Twenty nodes tied to four values all over stand out of a sparse graph."""
    rng = np.random.default_rng(0)
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, (500, 300), (900, 2))}
    pairs |= {(a, b) for a in range(20) for b in range(4)}
    left, right = (np.array(side) for side in zip(*sorted(pairs), strict=True))
    weights = np.full(len(left), 1000)
    graph = graph_of(left, right, weights, sizes=(500, 300), price=3)
    found = densest(graph, np.ones(800, dtype=bool), least=10)
    assert list(range(20)) == [n for n in found.nodes.tolist() if n < 500]
    assert 80 * 1000 / 32 == pytest.approx(found.density, rel=0.2)
    assert [] == densest(graph, np.zeros(800, dtype=bool), least=10).nodes.tolist()


def test_communities_part_where_little_holds() -> None:
    """Two blocks with one edge between them are two communities, each of positive surprise."""
    left = np.repeat(np.arange(20), 3)
    right = np.tile(np.arange(3), 20) + 3 * (left >= 10)
    left, right = np.append(left, 0), np.append(right, 5)
    graph = graph_of(left, right, np.full(61, 1000), sizes=(20, 6))
    label = communities(graph, np.ones(26, dtype=bool), price=200.0)
    assert 2 == label.max() + 1
    assert 1 == len(set(label[:10].tolist()))
    found = surprise(graph, label)
    assert [10, 10] == found.n_left.tolist()
    assert found.score.min() > 0
