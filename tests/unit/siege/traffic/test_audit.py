"""The audit: trivial fields, and whether people are themselves."""

import collections

import numpy as np
import pytest

from stillwatch.siege.traffic import Scenario, build_traffic
from stillwatch.siege.traffic.audit import EVEN_PACE, telling_fields, trivial_fields
from stillwatch.siege.traffic.homemade import home_made
from stillwatch.siege.world_audit import likeness

POOLS = home_made()


def fields(evasion: str, seeds: int = 2) -> dict[str, float]:
    """Average the fields over seeds."""
    small = {"n_honest": 120, "n_campaign": 30, "share": 0.2, "per_account": 12.0}
    worlds = [Scenario("S3", evasion=evasion, seed=seed, **small) for seed in range(seeds)]
    found = [trivial_fields(build_traffic(world, POOLS)) for world in worlds]
    return {name: float(np.nanmean([f[name] for f in found])) for name in found[0]}


@pytest.mark.parametrize("evasion", ["E1", "E3"])
def test_no_trivial_field_tells(evasion: str) -> None:
    """From E1 on nothing but what the level is about tells campaign accounts from others."""
    assert {} == telling_fields(fields(evasion), evasion)


def test_audit_sees_a_careless_campaign() -> None:
    """At E0 the audit finds the even pace and the shared payment marks."""
    found = fields("E0", seeds=1)
    telling = {name for name, auc in found.items() if not 0.2 <= auc <= 0.8}
    assert "accounts with the payment mark" in telling
    assert telling & set(EVEN_PACE)


def test_without_a_campaign_nothing_tells() -> None:
    """With no campaign every AUC is unknown, and none is called telling."""
    quiet = trivial_fields(build_traffic(Scenario("S8", n_honest=40, per_account=4.0), POOLS))
    assert all(np.isnan(auc) for auc in quiet.values())


def test_people_are_themselves_and_workers_are_not() -> None:
    """Questions of one person are alike; questions of one worker are any of the queue's."""
    traffic = build_traffic(
        Scenario("S3", evasion="E2", n_honest=80, n_campaign=25, share=0.4, per_account=10.0), POOLS
    )
    roles = dict(zip(traffic.truth.accounts, traffic.truth.roles, strict=True))
    own: dict[str, dict] = collections.defaultdict(lambda: collections.defaultdict(list))
    for batch in traffic.batches():
        turns = batch["messages"].to_pylist()
        for account, messages in zip(batch["account"].to_pylist(), turns, strict=True):
            own[roles[account]][account].append(messages[-1]["content"])
    rng = np.random.default_rng(0)
    assert likeness(own["person"], rng, most=5).icc > 0.12
    assert abs(likeness(own["campaign"], rng, most=5).icc) < 0.05
