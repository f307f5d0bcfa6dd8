"""A small world through every method and into tables."""

import numpy as np
import pytest

from yardstick.contest import describe, price_of, run_world, true_groups
from yardstick.observed import observe
from yardstick.ours import Named
from yardstick.plan import Cell, full_plan, quick_plan
from yardstick.score import HARVEST, HONEST, Group, Truth, World
from yardstick.table import write_tables

CELL = Cell("evasion", "S3", "E0", n_honest=100, n_campaign=20, finds_first=True)


def _truth(observed, names) -> Truth:
    member = np.array([name in names for name in observed.accounts.to_pylist()])
    asks = member[observed.account]
    return Truth(
        role=np.where(member, "campaign", "person").tolist(),
        group=np.where(member, "web", "").tolist(),
        campaign=np.where(member, 0, -1),
        kind=np.where(asks, HARVEST, HONEST),
        row_campaign=np.where(asks, 0, -1),
        live=observed.live,
        tokens=observed.output_tokens,
    )


@pytest.fixture(scope="module")
def world(log) -> World:
    """The small log with its truth."""
    live, history, table, names = log
    observed = observe(live, history, accounts=table)
    return World(live, history, table, None, observed, _truth(observed, names), {"network": 0.9})


@pytest.fixture(scope="module")
def facts(world):
    """What one run of all methods gives."""
    return run_world(world, CELL, seed=3)


def test_every_method_has_its_rows(facts) -> None:
    """Ours at two nominal rates, each baseline as published and at its best for each rate."""
    found = {(r["method"], r["choice"], r["level"]) for r in facts["rows"]}
    assert {("detect", "nominal", 0.01), ("detect", "nominal", 0.1)} <= found
    for method in ("GROUP BY network", "SynchroTrap-like", "co-trait network",
                   "MMD window, per account", "MMD window, told the groups"):  # fmt: skip
        assert {(method, "published", None), (method, "best", 0.01), (method, "best", 0.1)} <= found


def test_best_is_at_least_as_good(facts) -> None:
    """Allowed more false groups, the best threshold loses no recall."""
    best = {
        (r["method"], r["level"]): r["exchange_recall"]
        for r in facts["rows"]
        if r["choice"] == "best"
    }
    assert 1.0 == best["GROUP BY network", 0.01]
    assert all(best[m, 0.1] >= recall for (m, level), recall in best.items() if level == 0.01)


def test_named_groups_are_described(world) -> None:
    """Each named group tells its accounts' roles, its harvest and its reason."""
    web = np.flatnonzero(world.truth.campaign == 0)
    group = Group(np.append(web, 0), world.observed.rows_of(web)[:30], -0.001)
    (told,) = describe(Named([group], ["because"], [], 0.0), world.truth)
    assert {"campaign": 20, "person": 1} == told["roles"]
    assert (30, 30, 2) == (told["harvest"], told["exchanges"], told["groups"])
    assert (0.001, "because") == (told["p_value"], told["reason"])


def test_first_alarm_counts_harvest(facts) -> None:
    """The alarm comes at 50, 100, 200 or all 240 harvest exchanges."""
    assert facts["first"]["harvest"] in {50, 100, 200, 240}
    assert facts["first"]["harvest"] / 240 == facts["first"]["share"]


def test_alone_counts_accounts_once(facts) -> None:
    """Half of the honest accounts and all of the web are compared, and no level counts more."""
    honest, web = facts["alone"]["honest"], facts["alone"]["campaign"]
    assert 30 <= honest[0] <= 70
    assert 20 == web[0]
    assert honest[0] >= honest[3] >= honest[2] >= honest[1]


def test_price(world) -> None:
    """A web without cover pays for one exchange to harvest one."""
    assert {"exchanges": 1.0, "tokens": 1.0} == price_of(world)
    nothing = world.truth._replace(kind=np.full(len(world.truth.kind), HONEST))
    assert {} == price_of(world._replace(truth=nothing))


def test_true_groups(world) -> None:
    """The campaign is one group; persons come in groups of twenty."""
    groups = true_groups(world.observed, world.truth, np.random.default_rng(0))
    assert [20] * 6 == [len(g) for g in groups]
    assert (world.truth.campaign[groups[0]] == 0).all()


def test_tables(facts) -> None:
    """Every table has its head and its lines; a world without a campaign counts for false names."""
    honest = {**facts, "cell": CELL._replace(n_campaign=0)._asdict(), "p_values": [0.005, 0.5]}
    honest["curves"] = {
        method: {name: [] for name in found} for method, found in facts["curves"].items()
    }
    text = write_tables([facts, honest])
    assert "| GROUP BY network | 1% | 12 accounts |" in text
    for title in (
        "detect",
        "every method",
        "First alarm",
        "False names",
        "p-values of candidates",
        "single accounts",
        "Trivial",
    ):
        assert title in text
    assert "| 1% | 2 | 0.500 |" in text
    assert "| network | 0.90 (0.90) |" in text


def test_plans_hold_what_was_promised() -> None:
    """All evasion levels, all scenarios and worlds without a campaign are planned."""
    plan = full_plan()
    assert {"E0", "E1", "E2", "E3", "E4", "E5"} == {c.evasion for c in plan if c.part == "evasion"}
    assert {f"S{i}" for i in range(2, 10)} == {c.name for c in plan}
    assert any(not c.n_campaign for c in quick_plan())
