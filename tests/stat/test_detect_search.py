"""Honest groups, found by the same search as webs, are not surprising oftener than they say."""

import numpy as np
import pytest
from detect_pools import home_made_pool
from detect_world import WorldShape, build_detect_world

from stillwatch.detect import DetectConfig, Profiles, find_campaigns, fold
from stillwatch.detect.confirmation.calibrate import Neighbourhoods, compare_block
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.asked import Asked
from stillwatch.record.exchange import to_batch

pytestmark = pytest.mark.slow
_LEVELS = (0.01, 0.05, 0.1)
_WORLDS = range(60, 65)


@pytest.fixture(scope="module")
def worlds() -> list[tuple[Profiles, Profiles]]:
    """Live log and reference of honest worlds: persons, a class, a company, a craze, no web."""
    made = []
    for seed in _WORLDS:
        rng = np.random.default_rng(seed)
        human = [home_made_pool(f"human-{i}", rng) for i in range(3)]
        harvest = [home_made_pool("harvest", rng)]
        world = build_detect_world(
            seed, human=human, harvest=harvest, shape=WorldShape(web_mode="none")
        )
        made.append((fold([to_batch(world.live)]), fold([to_batch(world.reference)])))
    return made


def _assert_conservative(p_values: np.ndarray, n_apart: float) -> None:
    """Check the share of low p-values, allowing for the draw of so many independent ones."""
    for level in _LEVELS:
        slack = 2.6 * np.sqrt(level * (1 - level) / n_apart)
        assert np.mean(p_values <= level) <= level + slack, level


def _neighbourhoods(profiles: Profiles) -> Neighbourhoods:
    return Neighbourhoods(Asked(profiles, parties_of(profiles)), profiles, DetectConfig())


@pytest.mark.parametrize("n_accounts", [12, 40])
def test_groups_of_every_size_hold_their_level(worlds, n_accounts: int) -> None:
    """Also groups that are hardly larger than the compared size, as young webs are."""
    p_values = []
    for seed, (_, profiles) in zip(_WORLDS, worlds, strict=True):
        half = np.random.default_rng(seed).random(profiles.n_accounts) < 0.5
        null = _neighbourhoods(profiles.select(half))
        drawn = _neighbourhoods(profiles.select(~half))
        for rows in drawn.groups(n_accounts)[::4]:
            tested = compare_block(drawn.asked, rows, honest=null, config=DetectConfig())
            if tested is not None:
                p_values.append(tested.p_value)
    assert len(p_values) > 100
    # Half a world of 330 accounts holds so many groups that share no account.
    _assert_conservative(np.array(p_values), len(worlds) * 165 / n_accounts)


def test_groups_that_the_search_proposes_are_not_surprising(worlds) -> None:
    """Of all groups that the whole search looks at in honest logs, few have a low p-value."""
    config = DetectConfig(min_accounts=8, min_exchanges=16)
    found = [find_campaigns(live, reference, config) for live, reference in worlds]
    p_values = np.array([one.p_value for each in found for one in each.candidates])
    assert len(p_values) > 100
    assert 3 < sum(one.ratio is not None for each in found for one in each.candidates)
    _assert_conservative(p_values, len(p_values))
    assert [] == [one for each in found for one in each.campaigns]
