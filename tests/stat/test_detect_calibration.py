"""Calibration: on honest traffic the p-values of `detect` are p-values, or err towards silence."""

import numpy as np
import pytest
from detect_pools import home_made_pool
from detect_world import WorldShape, build_detect_world

from stillwatch.detect import DetectConfig, find_campaigns, fold
from stillwatch.detect.confirmation.calibrate import Neighbourhoods, compare_block, tail_p_value
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.asked import Asked
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.record.exchange import to_batch


def _neighbourhoods(profiles: Profiles, config: DetectConfig) -> Neighbourhoods:
    return Neighbourhoods(Asked(profiles, parties_of(profiles)), profiles, config)


def _honest(seed: int):
    rng = np.random.default_rng(seed)
    human = [home_made_pool(f"human-{i}", rng) for i in range(3)]
    harvest = [home_made_pool("harvest", rng)]
    shape = WorldShape(web_mode="none")
    return build_detect_world(seed, human=human, harvest=harvest, shape=shape)


@pytest.mark.slow
def test_honest_groups_are_not_surprising() -> None:
    """Groups of one half of the honest accounts get low p-values among the other half's rarely."""
    config, p_values = DetectConfig(), []
    for seed in range(6):
        profiles = fold([to_batch(_honest(seed).reference)])
        half = np.random.default_rng(seed).random(profiles.n_accounts) < 0.5
        null = _neighbourhoods(profiles.select(half), config)
        drawn = _neighbourhoods(profiles.select(~half), config)
        for rows in drawn.groups(20)[::4]:
            tested = compare_block(drawn.asked, rows, honest=null, config=config)
            if tested is not None:
                p_values.append(tested.p_value)
    assert len(p_values) > 100
    # About nine groups of a world share no account, so the bound allows for 54 draws, not all.
    for level in (0.01, 0.05, 0.1):
        slack = 2.6 * np.sqrt(level * (1 - level) / 54)
        assert np.mean(np.array(p_values) <= level) <= level + slack


@pytest.mark.slow
def test_no_honest_world_names_anybody() -> None:
    """Eight honest worlds with a class, a company, an agent, a craze: no campaign in any."""
    named = []
    for seed in range(20, 28):
        world = _honest(seed)
        reference = fold([to_batch(world.reference)])
        named += find_campaigns(fold([to_batch(world.live)]), reference).campaigns
    assert [] == named


def test_tail_p_values_hold_their_level() -> None:
    """On log-normal scores, lighter in the tail than assumed, p <= a at most a share a of times."""
    rng, hits, n = np.random.default_rng(5), {0.001: 0, 0.01: 0, 0.05: 0}, 4000
    for _ in range(n):
        scores = np.exp(rng.normal(2.5, 0.3, 121))
        p_value = tail_p_value(scores[0], np.sort(scores[1:]), 12.0)
        for level in hits:
            hits[level] += p_value <= level
    for level, count in hits.items():
        assert count / n <= level + 3 * np.sqrt(level * (1 - level) / n)
