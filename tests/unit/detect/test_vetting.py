"""A reference that holds a web is used without it; an honest one is used as it is."""

import msgspec
import numpy as np
import pytest
from detect_pools import home_made_pool
from detect_world import WorldShape, build_detect_world

from stillwatch.detect import DetectConfig, Profiles, fold, search, vet
from stillwatch.record.exchange import to_batch

DAY_S = 86_400.0
#: A bulk of this size carries no p-value of one in a hundred.
CONFIG = DetectConfig(fdr=0.05)


@pytest.fixture(scope="module")
def tainted() -> tuple[Profiles, Profiles, frozenset[str]]:
    """A log, a reference in which the same web had begun, and the web."""
    rng = np.random.default_rng(1)
    human = [home_made_pool(f"human-{i}", rng) for i in range(8)]
    harvest = [home_made_pool("harvest", rng)]
    shape = WorldShape(
        persons=400, template_users=0, agent_users=0, company=0, labeller=0, viral=0, class_size=0
    )
    world = build_detect_world(1, human=human, harvest=harvest, shape=shape)
    begun = [x for x in world.live if x.exchange_id in world.harvest_ids][::2]
    earlier = [
        msgspec.structs.replace(
            x, exchange_id=f"{x.exchange_id}-before", started_at=x.started_at - 8 * DAY_S
        )
        for x in begun
    ]
    live, reference = fold([to_batch(world.live)]), fold([to_batch(world.reference + earlier)])
    return live, reference, world.web


def test_a_web_leaves_the_reference(tainted) -> None:
    """Its accounts are named and left out, everybody else stays, and it is told."""
    _, reference, web = tainted
    vetted = vet(reference, CONFIG)
    assert 1 == len(vetted.webs)
    left = set(vetted.webs[0].accounts)
    assert len(left & web) >= 0.9 * len(left)
    assert set(reference.accounts.to_pylist()) - left == set(vetted.profiles.accounts.to_pylist())
    assert vetted.webs[0].p_value <= CONFIG.fdr


def test_the_web_is_found_beside_a_vetted_reference(tainted) -> None:
    """What hid behind its own past is named once the past is out of the way."""
    live, reference, web = tainted
    findings = search(live, vet(reference, CONFIG), CONFIG)
    named = {account for campaign in findings.campaigns for account in campaign.accounts}
    assert len(named & web) >= 0.9 * len(web)
    assert 1 == len(findings.reference_webs)


def test_an_honest_reference_is_used_as_it_is(folded) -> None:
    """Where nothing is named nobody leaves, and the profiles are the very same."""
    _, reference = folded
    assert vet(reference).profiles is reference
    assert () == vet(reference).webs
