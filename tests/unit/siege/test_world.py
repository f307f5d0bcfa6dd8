"""The world: repeatable, of the promised size, truthful apart, and fair."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege.settings import DAY_S, FIRST_DAY
from stillwatch.siege.world import World, WorldConfig, as_exchange, build_world
from stillwatch.siege.world_audit import likeness, telling_fields, trivial_fields

HASHER = KeyedHash(b"k" * 32)
BASE_URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def world() -> World:
    """The default world of seed 0."""
    return build_world(WorldConfig())


@pytest.fixture(scope="module")
def live(world: World) -> list[Exchange]:
    """What a gateway without a wall would have recorded."""
    return _record(world)


def _record(world: World) -> list[Exchange]:
    org_of = {account.account: account.org for account in world.accounts}
    plan = [*world.honest_plan(), *world.campaign.plan(BASE_URL)]
    return [as_exchange(planned, org_of[planned.account], HASHER) for planned in plan]


def test_repeats_from_the_seed() -> None:
    """Two worlds of one seed are equal; another seed gives another world."""
    first, again = (build_world(WorldConfig.quick(3)) for _ in range(2))
    assert first.accounts == again.accounts
    assert first.honest_plan() == again.honest_plan()
    assert first.campaign.plan(BASE_URL) == again.campaign.plan(BASE_URL)
    assert list(first.history(HASHER)) == list(again.history(HASHER))
    assert first.accounts != build_world(WorldConfig.quick(4)).accounts


def test_sizes(world: World, live: list[Exchange]) -> None:
    """The default world has about 13,000 live exchanges of 300 honest and 150 other accounts."""
    truth = world.truth()
    kinds = Counter(truth.requests[x.exchange_id] for x in live)
    accounts = {x.account for x in live}
    assert 4_400 == kinds["harvest"]
    assert 0.22 < kinds["dilution"] / (kinds["dilution"] + kinds["harvest"]) < 0.28
    assert 12_500 < len(live) < 13_500
    assert 270 < len(accounts - truth.campaign_accounts) < 330
    assert 140 < len(accounts & truth.campaign_accounts) <= 150


def test_calendar(world: World) -> None:
    """Plans are in order and inside the days; the campaign begins on its day, the past is past."""
    honest = [p.at for p in world.honest_plan()]
    campaign = [p.at for p in world.campaign.plan(BASE_URL)]
    past = [x.started_at for x in world.history(HASHER)]
    for times in (honest, campaign, past):
        assert sorted(times) == times
    assert FIRST_DAY - 14 * DAY_S <= past[0] < past[-1] < FIRST_DAY
    assert FIRST_DAY <= honest[0] < honest[-1] < FIRST_DAY + 14 * DAY_S
    assert FIRST_DAY + 2 * DAY_S <= campaign[0] < campaign[-1] < FIRST_DAY + 14 * DAY_S


def test_ids_are_unique(world: World) -> None:
    """No account, key or request id comes twice, over past, present and campaign."""
    requests = [x.exchange_id for x in world.history(HASHER)]
    requests += [p.request_id for p in world.honest_plan()]
    requests += [p.request_id for p in world.campaign.plan(BASE_URL)]
    assert len(requests) == len(set(requests))
    assert len(world.accounts) == len({a.account for a in world.accounts})
    assert len(world.accounts) == len({a.api_key for a in world.accounts})


def test_truth_stays_apart(world: World, live: list[Exchange]) -> None:
    """Nothing recorded names a role or a kind, and the past holds no campaign account."""
    truth = world.truth()
    past = list(world.history(HASHER))
    assert not truth.campaign_accounts & {x.account for x in past}
    assert {"honest"} == {truth.requests[x.exchange_id] for x in past}
    assert all(not x.tags and not x.answers for x in [*past, *live])


def test_everything_repeats_when_asked(world: World) -> None:
    """Exact questions are asked greedily and every prose question carries its own seed."""
    seeds = []
    for planned in [*world.honest_plan(), *world.campaign.plan(BASE_URL)]:
        if planned.model == "house-skills":
            assert 0 == planned.parameters["temperature"]
        else:
            seeds.append((planned.request_id, planned.parameters["seed"]))
            assert 16 <= planned.parameters["max_tokens"] <= 48
    assert len(seeds) > 2_000


@pytest.mark.parametrize("seed", [0, 11, 12])
@pytest.mark.parametrize("quick", [False, True])
def test_no_trivial_field_tells(seed: int, quick: bool) -> None:
    """No simple per-account figure separates campaign from honest accounts (AUC in 0.2..0.8)."""
    world = build_world(WorldConfig.quick(seed) if quick else WorldConfig(seed=seed))
    known = {x.account for x in world.history(HASHER)}
    fields = trivial_fields(_record(world), world.truth().campaign_accounts, known=known)
    assert {} == telling_fields(fields)
    assert len(fields) > 80


def test_people_are_themselves(world: World, live: list[Exchange]) -> None:
    """Persons are as alike as real users (F about 2.7), the queue's accounts exchangeable."""
    truth = world.truth()
    persons: dict[str, list[str]] = defaultdict(list)
    queue: dict[str, list[str]] = defaultdict(list)
    for exchange in live:
        if truth.accounts[exchange.account] == "person":
            persons[exchange.account].append(exchange.question)
        elif truth.requests[exchange.exchange_id] == "harvest":
            queue[exchange.account].append(exchange.question)
    rng = np.random.default_rng(0)
    own = likeness(persons, rng, most=5)
    assert 2.2 < own.f_ratio < 3.3
    assert 0.22 < own.icc < 0.34
    assert 0.9 < own.shuffled_f < 1.1
    assert 0.9 < likeness(queue, rng, most=5).f_ratio < 1.3


def test_honest_groups_are_alike(world: World, live: list[Exchange]) -> None:
    """Every kind of honest look-alike is there: one system prompt, sheet, list or address."""
    roles = world.truth().accounts
    of: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in live:
        of[roles[exchange.account]].append(exchange)
    assert 1 == len({x.network_hash for x in of["company"]})
    assert 1 == len({x.org for x in of["company"]})
    assert 1 == len({x.system for x in of["company"]})
    assert 2 == len({x.system for x in of["agent"]})
    assert 40 == len({x.question for x in of["harness"]})
    pupils = Counter(x.question for x in of["class"])
    assert pupils.most_common(1)[0][1] > 5
    assert sum("librarian on Mars" in x.question for x in of["viral"]) > 50
    assert len({x.question for x in of["labeller"]}) == len(of["labeller"])


def test_refuses_sizes_that_make_no_world() -> None:
    """Days of world and campaign must agree, and seeds count from 0."""
    with pytest.raises(InvalidInputError, match="days"):
        WorldConfig(days=3)
    with pytest.raises(InvalidInputError, match="seed"):
        WorldConfig(seed=-1)
