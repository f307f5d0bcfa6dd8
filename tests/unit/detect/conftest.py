"""One small world for all tests of `detect`: built once, from a home-made grammar."""

import numpy as np
import pytest
from detect_pools import home_made_pool
from detect_world import DetectWorld, WorldShape, build_detect_world

from stillwatch.detect import Findings, Profiles, find_campaigns, fold
from stillwatch.record.exchange import to_batch


def build(seed: int, **shape: object) -> DetectWorld:
    """Build a world of home-made text."""
    rng = np.random.default_rng(seed)
    human = [home_made_pool(f"human-{i}", rng) for i in range(2)]
    harvest = [home_made_pool("harvest", rng)]
    return build_detect_world(seed, human=human, harvest=harvest, shape=WorldShape(**shape))


@pytest.fixture(scope="session")
def world() -> DetectWorld:
    """A web of 100 accounts among 330 honest ones."""
    return build(1)


@pytest.fixture(scope="session")
def quiet_world() -> DetectWorld:
    """Honest accounts and honest groups only."""
    return build(1, web_mode="none")


@pytest.fixture(scope="session")
def simple_world() -> DetectWorld:
    """A web among persons, a class and a craze."""
    return build(2, template_users=0, agent_users=0)


@pytest.fixture(scope="session")
def folded(world: DetectWorld) -> tuple[Profiles, Profiles]:
    """Profiles of the live log and of the reference."""
    return fold([to_batch(world.live)]), fold([to_batch(world.reference)])


@pytest.fixture(scope="session")
def found(folded: tuple[Profiles, Profiles]) -> Findings:
    """What is found in the small world: searched once for all tests."""
    return find_campaigns(*folded)
