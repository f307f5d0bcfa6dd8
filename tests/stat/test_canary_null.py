"""Canaries: the p-value keeps its level whatever the suspect's habits, the power is as planned."""

import numpy as np
import pytest

from stillwatch.stats.intervals import wilson
from stillwatch.trace.canaries import proof
from stillwatch.trace.canaries.canary import Canary, draw_assignment, prior_shares

#: Suspects drawn for each check; three standard errors are allowed around a level.
WORLDS = 400
SIZES = [2] * 10 + [5] * 15 + [12] * 15
CANARIES = [
    Canary(f"c{i}", f"Question {i}?", tuple(f"name{i}x{j}" for j in range(m)))
    for i, m in enumerate(SIZES)
]


@pytest.fixture(scope="module")
def innocents():
    """Findings of suspects with strong habits, plain and weighted by references, each world."""
    rng = np.random.default_rng(11)
    habits = [rng.dirichlet(np.full(m, 0.3)) for m in SIZES]

    def answers():
        return {
            canary.canary_id: int(rng.choice(m, p=habit)) if rng.random() < 0.8 else None
            for canary, m, habit in zip(CANARIES, SIZES, habits, strict=True)
        }

    priors = prior_shares(CANARIES, [answers() for _ in range(15)])
    rows = []
    for _ in range(WORLDS):
        picks, assignment = answers(), draw_assignment(CANARIES, key=rng.bytes(32))
        plain = proof.prove_canaries(assignment, picks)
        weighted = proof.prove_canaries(assignment, picks, priors=priors)
        watched = proof.prove_canaries(assignment, picks, priors=priors, sequential=True)
        rows.append((plain.log10_p, watched.e_log10, weighted.log10_p, weighted.e_log10))
    return np.array(rows)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.10])
@pytest.mark.parametrize("column", [0, 2], ids=["plain", "weighted"])
def test_canary_p_keeps_its_level(innocents, column, level):
    """An innocent with habits is below a level as often as the level says, not more."""
    share = np.mean(innocents[:, column] <= np.log10(level))
    slack = 3 * np.sqrt(level * (1 - level) / WORLDS)
    assert share <= level + slack
    assert share >= level / 2 - slack


def test_watched_canaries_keep_their_level(innocents):
    """The largest evidence ever seen reaches 20 in at most one world of 20."""
    assert np.mean(innocents[:, 1] >= np.log10(20)) <= 0.05
    evidence = 10.0 ** innocents[:, 3]
    assert np.mean(evidence) <= 1 + 3 * np.std(evidence) / np.sqrt(WORLDS)


@pytest.mark.parametrize(
    ("m", "adoption", "alpha"),
    [
        (2, proof.Adoption(0.4), 1e-3),
        (10, proof.Adoption(0.3), 1e-6),
        (10, proof.Adoption(0.4, 0.08, 0.7), 1e-6),
    ],
    ids=["of 2", "of 10", "silent and unsure"],
)
def test_power_is_as_planned(m, adoption, alpha):
    """At the planned number the share of guilty suspects found holds the planned power."""
    plan = proof.plan_canaries(m=m, adoption=adoption, alpha=alpha)
    rng = np.random.default_rng(17)
    worlds = 120
    made = [Canary(f"c{i}", "?", tuple(f"n{i}x{j}" for j in range(m))) for i in range(plan.n)]
    found = 0
    for _ in range(worlds):
        assignment = draw_assignment(made, key=rng.bytes(32))
        learned = rng.choice(adoption.means())
        served = np.array(assignment.served)
        picks = np.where(rng.random(plan.n) < learned, served, rng.integers(0, m, plan.n))
        named = rng.random(plan.n) < adoption.named
        found += proof.prove_canaries(
            assignment,
            {
                c.canary_id: int(p) if n else None
                for c, p, n in zip(made, picks, named, strict=True)
            },
        ).log10_p <= np.log10(alpha)
    interval = wilson(int(found), worlds, 0.998)
    assert interval.low <= plan.power <= interval.high


def test_weights_from_references_raise_the_power():
    """With habits known, guilty suspects are proved further than without."""
    rng = np.random.default_rng(23)
    habits = [rng.dirichlet(np.full(m, 0.3)) for m in SIZES]
    habitual = [
        {
            c.canary_id: int(rng.choice(m, p=h))
            for c, m, h in zip(CANARIES, SIZES, habits, strict=True)
        }
        for _ in range(30)
    ]
    priors = prior_shares(CANARIES, habitual)
    gains = []
    for _ in range(60):
        assignment = draw_assignment(CANARIES, key=rng.bytes(32))
        picks = {
            c.canary_id: s if rng.random() < 0.3 else int(rng.choice(m, p=h))
            for c, s, m, h in zip(CANARIES, assignment.served, SIZES, habits, strict=True)
        }
        plain = proof.prove_canaries(assignment, picks)
        weighted = proof.prove_canaries(assignment, picks, priors=priors)
        gains.append(plain.log10_p - weighted.log10_p)
    assert np.median(gains) > 0.5


def test_the_right_campaign_is_named_among_fifty():
    """With a draw for each of 50 campaigns the one that fed the suspect is named, no other is."""
    rng = np.random.default_rng(29)
    made = [Canary(f"c{i}", "?", tuple(f"n{i}x{j}" for j in range(10))) for i in range(120)]
    webs = [draw_assignment(made, key=rng.bytes(32)) for _ in range(50)]
    for fed in (3, 41):
        picks = {
            c.canary_id: s if rng.random() < 0.3 else int(rng.integers(10))
            for c, s in zip(made, webs[fed].served, strict=True)
        }
        logs = np.array([proof.prove_canaries(web, picks).log10_p for web in webs]) + np.log10(50)
        assert [fed] == np.flatnonzero(logs <= -6).tolist()
        assert [fed] == np.flatnonzero(logs <= -2).tolist()


def test_redrawn_canaries_are_uniform():
    """Decoy draws under other keys give p-values at their level, for a guilty suspect too."""
    made = [Canary(f"c{i}", "?", tuple(f"n{i}x{j}" for j in range(7))) for i in range(60)]
    assignment = draw_assignment(made, key=b"a key of this assignment")
    picks = {c.canary_id: s for c, s in zip(made, assignment.served, strict=True)}
    logs = proof.redrawn_log10_p(assignment, picks, draws=1000, rng=np.random.default_rng(2))
    for level in (0.01, 0.05, 0.10):
        slack = 3 * np.sqrt(level * (1 - level) / 1000)
        assert level / 2.5 - slack <= np.mean(logs <= np.log10(level)) <= level + slack
    assert proof.prove_canaries(assignment, picks).log10_p < logs.min() - 20
