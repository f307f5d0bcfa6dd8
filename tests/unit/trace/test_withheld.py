"""The withheld split: drawn, committed, tested exactly, planned."""

from itertools import product

import msgspec
import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.canaries import withheld

KEY = b"a key of this split alone"


def ids(n):
    """Names of items."""
    return [f"i{k}" for k in range(n)]


def scored(split, effect, seed=0):
    """Scores of a suspect that likes what was served by `effect` standard deviations."""
    noise = np.random.default_rng(seed).normal(size=(len(split.item_ids), 2))
    z = np.array(split.served)
    if split.design == "split":
        return dict(zip(split.item_ids, (noise[:, 0] + effect * z).tolist(), strict=True))
    noise[:, 0] += effect * z
    noise[:, 1] += effect * ~z
    return {name: (a, b) for name, (a, b) in zip(split.item_ids, noise.tolist(), strict=True)}


def test_split_repeats_and_is_committed():
    """The same key and items give the same split; any other key, item or share another."""
    first = withheld.draw_split(ids(400), key=KEY)
    assert first == withheld.draw_split(ids(400), key=KEY)
    assert first == msgspec.json.decode(msgspec.json.encode(first), type=withheld.Split)
    others = [
        withheld.draw_split(ids(400), key=KEY + b"!"),
        withheld.draw_split(ids(401), key=KEY),
        withheld.draw_split(ids(400), key=KEY, share=0.4),
    ]
    assert 4 == len({one.commitment for one in (first, *others)})
    assert f"withheld:{first.commitment[:16]}" == first.randomisation


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_split_serves_the_share(share):
    """About the share of the items is served."""
    split = withheld.draw_split(ids(4000), key=KEY, share=share)
    assert abs(sum(split.served) - 4000 * share) < 4 * np.sqrt(4000 * share * (1 - share))


@pytest.mark.parametrize("design", ["split", "pair"])
def test_p_value_is_the_share_of_draws(design):
    """With few items p equals the share of all possible draws that score as high."""
    split = withheld.draw_split(ids(9), key=KEY, design=design)
    scores = scored(split, 1.0)
    found = withheld.prove_withheld(split, scores)
    statistics = [
        withheld.prove_withheld(msgspec.structs.replace(split, served=draw), scores).statistic
        for draw in product([False, True], repeat=9)
    ]
    as_high = np.mean(np.array(statistics) >= found.statistic - 1e-9)
    assert pytest.approx(as_high) == found.p_value


@pytest.mark.parametrize("design", ["split", "pair"])
def test_served_answers_are_found(design):
    """A suspect that knows the served answers is found, and the finding says by how much."""
    split = withheld.draw_split(ids(1500), key=KEY, design=design)
    found = withheld.prove_withheld(split, scored(split, 0.5))
    assert found.log10_p < -10
    assert found.e_log10 == pytest.approx(-found.log10_p - 2, abs=2)
    assert f"withheld-{design}" == found.test
    if design == "split":
        assert 0.4 < found.details["mean_served"] - found.details["mean_withheld"] < 0.6
    else:
        assert 0.4 < found.details["mean_served_minus_withheld"] < 0.6


def test_a_smaller_share_is_exact_too():
    """With a fifth served the same effect is found."""
    split = withheld.draw_split(ids(2000), key=KEY, share=0.2)
    assert withheld.prove_withheld(split, scored(split, 0.5)).log10_p < -8


def test_control_takes_the_difficulty_out():
    """Subtracting a model that never saw the texts makes a faint trace visible."""
    split = withheld.draw_split(ids(800), key=KEY)
    difficulty = dict(zip(ids(800), np.random.default_rng(5).normal(0, 8, 800), strict=True))
    scores = {name: value + difficulty[name] for name, value in scored(split, 0.6).items()}
    blurred = withheld.prove_withheld(split, scores)
    clear = withheld.prove_withheld(split, scores, control=difficulty)
    assert blurred.log10_p > -4
    assert clear.log10_p < -10
    assert clear.details["controlled"]


def test_one_wild_score_decides_nothing():
    """Ranks and cut differences keep one absurd likelihood from carrying the test."""
    for design in ("split", "pair"):
        split = withheld.draw_split(ids(300), key=KEY, design=design)
        scores = scored(split, 0.0)
        before = withheld.prove_withheld(split, scores).statistic
        wild = 1e9 if design == "split" else (1e9, 0.0)
        after = withheld.prove_withheld(split, scores | {"i3": wild}).statistic
        assert abs(after - before) < 0.5


def test_missing_scores_are_noted():
    """Items without a score are left out and counted."""
    split = withheld.draw_split(ids(50), key=KEY)
    scores = {name: value for name, value in scored(split, 0).items() if name != "i7"}
    found = withheld.prove_withheld(split, scores, plan=withheld.plan_withheld(0.5))
    assert 49 == found.n
    assert "1 of 50 items have no score" in found.notes
    assert "49 items scored, 583 planned: the power is below the plan's" in found.notes
    assert 583 == found.needed
    assert 1.0 == withheld.prove_withheld(split, {}).p_value


def test_plans_of_both_designs():
    """A pair needs a quarter of a split at the same effect in its own standard deviations."""
    split = withheld.plan_withheld(0.2)
    pair = withheld.plan_withheld(0.2, design="pair")
    assert (3643, 911) == (split.n, pair.n)


def test_withheld_refuses():
    """What is no split, no score and no plan is refused."""
    with pytest.raises(InvalidInputError, match="16 bytes"):
        withheld.draw_split(ids(2), key=b"short")
    with pytest.raises(InvalidInputError, match="all different"):
        withheld.draw_split(["a", "a"], key=KEY)
    with pytest.raises(InvalidInputError, match="share must be"):
        withheld.draw_split(ids(2), key=KEY, share=0.3, design="pair")
    with pytest.raises(InvalidInputError, match="one draw an item"):
        withheld.Split(("a",), (), 0.5, "split", "00")
    split = withheld.draw_split(ids(2), key=KEY)
    with pytest.raises(InvalidInputError, match=r"scores\['i0'\] must be a finite number"):
        withheld.prove_withheld(split, {"i0": float("nan")})
    pairs = withheld.draw_split(ids(2), key=KEY, design="pair")
    with pytest.raises(InvalidInputError, match="two finite numbers"):
        withheld.prove_withheld(pairs, {"i0": 1.0})
    with pytest.raises(InvalidInputError, match="effect must be"):
        withheld.plan_withheld(0.0)
    with pytest.raises(InvalidInputError, match="alpha must be"):
        withheld.plan_withheld(0.1, alpha=1.0)
