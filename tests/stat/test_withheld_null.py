"""The withheld split: level, evidence and power against simulated suspects."""

import numpy as np
import pytest

from stillwatch.stats.intervals import wilson
from stillwatch.trace.canaries import withheld

WORLDS = 400


def names(n):
    """Names of items."""
    return [f"i{k}" for k in range(n)]


@pytest.mark.parametrize(("design", "share"), [("split", 0.5), ("split", 0.15), ("pair", 0.5)])
def test_withheld_p_keeps_its_level(design, share):
    """Skewed, heavy-tailed, clustered likelihoods change nothing: p is uniform over our draw."""
    rng = np.random.default_rng(31)
    n = 60
    sources = rng.normal(0, 3, 12)[rng.integers(0, 12, n)]
    scores = sources + rng.standard_t(2, n) ** 3
    other = sources + rng.standard_t(2, n) ** 3
    values = zip(scores, other, strict=True) if design == "pair" else scores
    given = dict(zip(names(n), values, strict=True))
    findings = [
        withheld.prove_withheld(
            withheld.draw_split(names(n), key=rng.bytes(32), share=share, design=design), given
        )
        for _ in range(WORLDS)
    ]
    logs = np.array([one.log10_p for one in findings])
    for level in (0.01, 0.05, 0.10):
        slack = 3 * np.sqrt(level * (1 - level) / WORLDS)
        assert pytest.approx(level, abs=slack) == np.mean(logs <= np.log10(level))
    evidence = 10.0 ** np.array([one.e_log10 for one in findings])
    assert np.mean(evidence) <= 1 + 3 * np.std(evidence) / np.sqrt(WORLDS)
    assert np.mean(evidence >= 20) <= 0.05


@pytest.mark.parametrize("design", ["split", "pair"])
def test_withheld_power_is_as_planned(design):
    """At the planned number of items the share found holds the planned power."""
    plan = withheld.plan_withheld(0.5, alpha=1e-3, design=design)
    rng = np.random.default_rng(37)
    worlds = 120
    found = 0
    for _ in range(worlds):
        split = withheld.draw_split(names(plan.n), key=rng.bytes(32), design=design)
        noise, z = rng.normal(size=plan.n), np.array(split.served)
        if design == "split":
            given = dict(zip(names(plan.n), noise + 0.5 * z, strict=True))
        else:
            gain = (noise + 0.5) * np.where(z, 1, -1)
            given = {name: (x, 0.0) for name, x in zip(names(plan.n), gain, strict=True)}
        found += withheld.prove_withheld(split, given).log10_p <= -3
    # Ranks and cut differences cost a few per cent of the power that the plan's normal law has.
    interval = wilson(int(found), worlds, 0.998)
    assert interval.low - 0.03 <= plan.power <= interval.high + 0.03


def test_redrawn_splits_are_uniform():
    """Decoy splits under other keys give uniform p-values on the scores of a guilty suspect."""
    split = withheld.draw_split(names(200), key=b"a key of this split alone")
    scores = dict(zip(names(200), np.array(split.served) * 2.0 + np.arange(200) / 200, strict=True))
    logs = withheld.redrawn_log10_p(split, scores, draws=1000, rng=np.random.default_rng(3))
    for level in (0.01, 0.05, 0.10):
        slack = 3 * np.sqrt(level * (1 - level) / 1000)
        assert pytest.approx(level, abs=slack) == np.mean(logs <= np.log10(level))
    assert withheld.prove_withheld(split, scores).log10_p < -30
